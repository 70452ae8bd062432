"""A network that is told what to segment: points, scribbles and boxes become channels of its input.

After the image's channels come four more: Gaussians about positive points, about negative ones, the box, and the mask
that there is already. A scribble is many points. So a mistake that is pointed at can be mended (Sofiiuk et al. 2021,
Isensee et al. 2025).
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass, field, replace

import cc3d
import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from delineate.engines.torch_engine import DTYPES
from delineate.errors import InputError, ModelError
from delineate.geometry import (
    Box,
    FloatArray,
    Grid,
    Triple,
    TripleMM,
    box_of,
    crop_grid,
    index_to_world,
    reshape_grid,
    world_to_index,
)
from delineate.inference.running import run_network
from delineate.planning import Plan
from delineate.preprocessing import PreparedCase, Trace
from delineate.resampling import resample
from delineate.volume import Array, change_array_axes, cut

Mask = npt.NDArray[np.bool_]

_REACH = 3.0  # standard deviations of a point that are drawn
_FILLED = 0.6  # of the window's edge, at most, by what was pointed at: what is meant may reach beyond it
_WIDER = 1.5
_MOST_LOOKS = 4


def _no_points() -> FloatArray:
    return np.empty((0, 3))


@dataclass(frozen=True, slots=True, eq=False)
class Prompts:
    """What was pointed at, in continuous indices of one grid.

    `positive`, `negative`: (n, 3) points in what is meant and beside it, those of scribbles too. `box`: (2, 3), the
    lowest and the highest index of what is meant, both included, or None.
    """

    positive: FloatArray = field(default_factory=_no_points)
    negative: FloatArray = field(default_factory=_no_points)
    box: FloatArray | None = None

    def __bool__(self) -> bool:
        """Whether they say where something is."""
        return bool(len(self.positive)) or self.box is not None

    @property
    def wanted(self) -> FloatArray:
        """(n, 3): points whose surroundings are meant."""
        return self.positive if self.box is None else np.concatenate((self.positive, self.box))


@dataclass(frozen=True, slots=True, eq=False)
class Proposal:
    """A mask (I, J, K) in a box of the scan's own grid; outside of the box nothing is proposed."""

    box: Box
    mask: Mask


def encode(prompts: Prompts, current: Mask | None, shape: Triple, plan: Plan) -> npt.NDArray[np.float32]:
    """The channels (4, I, J, K) of prompts in a patch, in its indices; `current`: the mask there is, or None.

    What was pointed at beyond the patch reaches into it, but is not drawn outside.
    """
    assert plan.prompting is not None
    maps = np.zeros((4, *shape), dtype=np.float32)
    for points, out in ((prompts.positive, maps[0]), (prompts.negative, maps[1])):
        for point in points:
            _draw_point(point, out, plan.spacing_mm, plan.prompting.sigma_mm)
    if prompts.box is not None:
        start, stop = np.round(prompts.box[0]).astype(int), np.round(prompts.box[1]).astype(int) + 1
        ends = zip(start, stop, shape, strict=True)
        maps[2][tuple(slice(max(0, a), min(n, max(0, b))) for a, b, n in ends)] = 1
    if current is not None:
        maps[3] = current
    return maps


def _draw_point(point: FloatArray, out: npt.NDArray[np.float32], spacing_mm: TripleMM, sigma_mm: float) -> None:
    axes, slices = [], []
    for at, size, mm in zip(point, out.shape, spacing_mm, strict=True):
        reach = _REACH * sigma_mm / mm
        first, last = max(0, int(np.ceil(at - reach))), min(size - 1, int(np.floor(at + reach)))
        if first > last:
            first = last = int(np.clip(round(at), 0, size - 1))  # a slice thicker than the reach has its point, too
            if abs(at - first) > 1:
                return
        slices.append(slice(first, last + 1))
        axes.append(np.exp(-0.5 * ((np.arange(first, last + 1) - at) * mm / sigma_mm) ** 2).astype(np.float32))
    drawn = axes[0][:, None, None] * axes[1][:, None] * axes[2]
    place = out[tuple(slices)]
    np.maximum(place, drawn, out=place)


def propose(
    network: nn.Module,
    case: PreparedCase,
    plan: Plan,
    prompts: Prompts,
    *,
    current: Mask | None = None,
    device: str = "cpu",
) -> Proposal:
    """What a network thinks is meant; parts that nothing points at are left out.

    `prompts` and `current` (I, J, K), what is drawn already, are on the scan's own grid; `case` is the scan as
    `prepare` gives it. The network sees one patch about the prompts, and looks again from farther away if what it finds
    reaches the patch's border. Raises `InputError` if no prompt says where, `ModelError` for a network without prompts.
    """
    if plan.prompting is None:
        raise ModelError("the model takes no prompts", remedy="Train one that does: delineate train --promptable.")
    if not prompts:
        raise InputError("nothing says where to segment", expected="a positive point, a scribble or a box")
    trace = case.trace
    inner = _on_grid(prompts, trace.original, trace.prepared)
    for window in _windows(inner, case, plan):
        there = None if current is None else _seen(current, trace, window)
        local = _on_grid(prompts, trace.original, window)
        found = look(network, _image_in(case, window, plan), local, there, plan, device=device)
        found[~_pointed_at(found > 0.5, local)] = 0
        if not _is_cut(found, window, trace.prepared):
            break
    return _restored(found, window, trace)


def look(
    network: nn.Module,
    image: npt.NDArray[np.float32],
    prompts: Prompts,
    current: Mask | None,
    plan: Plan,
    *,
    device: str = "cpu",
) -> npt.NDArray[np.float32]:
    """The probability (I, J, K) of what is meant in one patch (C, I, J, K), which the prompts are in indices of."""
    maps = encode(prompts, current, image.shape[1:], plan)
    given = torch.from_numpy(np.concatenate((image, maps)))[None].to(device)
    dtype = DTYPES[plan.training.precision]
    network.eval()
    with torch.no_grad(), torch.autocast(given.device.type, dtype, enabled=dtype is not torch.float32):
        logits = run_network(network, given, plan)
    assert isinstance(logits, torch.Tensor)
    probability: npt.NDArray[np.float32] = logits[0].float().softmax(0)[1].cpu().numpy()
    return probability


def _on_grid(prompts: Prompts, source: Grid, target: Grid) -> Prompts:
    def moved(points: FloatArray) -> FloatArray:
        return world_to_index(target, index_to_world(source, points)) if len(points) else points

    box = None
    if prompts.box is not None:
        low, high = prompts.box
        corners = moved(np.array(list(itertools.product(*zip(low, high, strict=True)))))
        box = np.array([corners.min(axis=0), corners.max(axis=0)])
    return Prompts(moved(prompts.positive), moved(prompts.negative), box)


def _windows(prompts: Prompts, case: PreparedCase, plan: Plan) -> Iterator[Grid]:
    """Grids of the patch's shape about the prompts, in the prepared image's space, each farther away than the last."""
    grid, patch = case.trace.prepared, np.asarray(plan.patch_size)
    low, high = prompts.wanted.min(axis=0), prompts.wanted.max(axis=0)
    deep = patch > 1
    zoom = max(1.0, float(((high - low + 1) / (_FILLED * patch))[deep].max()))
    for _ in range(_MOST_LOOKS):
        size = np.where(deep, np.round(patch * zoom), 1).astype(int)
        free = np.asarray(grid.shape) - size
        start = np.round((low + high - size + 1) / 2).astype(int)
        start = np.where(free >= 0, np.clip(start, 0, np.maximum(free, 0)), free // 2)
        box = box_of((int(a), int(a + n)) for a, n in zip(start, size, strict=True))
        window = crop_grid(grid, box)
        yield window if zoom == 1 else reshape_grid(window, plan.patch_size)
        if bool((free <= 0)[deep].all()):
            return
        zoom *= _WIDER


def _image_in(case: PreparedCase, window: Grid, plan: Plan) -> npt.NDArray[np.float32]:
    """The prepared image on a window of it; beyond, each channel's lowest value, or 0, as the plan pads."""
    lowest = case.image.reshape(len(case.image), -1).min(axis=1) if plan.tiling.padding == "lowest" else None
    fills = np.zeros(len(case.image), np.float32) if lowest is None else lowest
    return np.stack(
        [_onto(c, case.trace.prepared, window, fill=float(f)) for c, f in zip(case.image, fills, strict=True)]
    )


def _onto(array: Array, grid: Grid, window: Grid, *, fill: float) -> npt.NDArray[np.float32]:
    """An array (I, J, K) on a window whose axes are parallel; only what it needs is touched."""
    box = _covering(window, grid)
    part = cut(array, box, fill=fill)
    here = crop_grid(grid, box)
    if here == window:
        return np.ascontiguousarray(part, dtype=np.float32)
    return resample(part.astype(np.float32), here, window)


def _covering(window: Grid, grid: Grid) -> Box:
    """The voxels of `grid` that a window with parallel axes covers."""
    ends = np.array([(0, 0, 0), np.asarray(window.shape) - 1]) + np.array([[-0.5], [0.5]])
    found = np.sort(world_to_index(grid, index_to_world(window, ends)), axis=0)
    first, last = np.round(found[0] + 0.5 - 1e-6).astype(int), np.round(found[1] - 0.5 + 1e-6).astype(int)
    return box_of((int(a), int(max(a, b)) + 1) for a, b in zip(first, last, strict=True))


def _seen(current: Mask, trace: Trace, window: Grid) -> Mask:
    turned = change_array_axes(current, trace.change)
    return np.asarray(_onto(turned, trace.turned, window, fill=0) >= 0.5)


def _is_cut(found: npt.NDArray[np.float32], window: Grid, prepared: Grid) -> bool:
    """Whether a part of the mask ends only because the window does."""
    corners = world_to_index(prepared, index_to_world(window, np.array([(0, 0, 0), np.asarray(window.shape) - 1])))
    for axis, size in enumerate(found.shape):
        if size == 1:
            continue
        for end, limit in ((0, corners[0][axis] > 0.5), (size - 1, corners[1][axis] < prepared.shape[axis] - 1.5)):
            if limit and (found.take(end, axis) > 0.5).any():
                return True
    return False


def _pointed_at(mask: Mask, prompts: Prompts) -> Mask:
    """The components that a positive point lies in, or beside, or that the box meets; all if there is none of them."""
    components = cc3d.connected_components(np.ascontiguousarray(mask), connectivity=26)
    last = np.asarray(mask.shape) - 1
    wanted: set[int] = set()
    for point in prompts.positive:
        around = np.clip(np.round(point).astype(int), 0, last)
        wanted |= set(np.unique(components[tuple(slice(max(0, n - 1), n + 2) for n in around)]).tolist())
    if prompts.box is not None:
        low, high = np.clip(np.round(prompts.box).astype(int), 0, last)
        inside = components[tuple(slice(a, b + 1) for a, b in zip(low, high, strict=True))]
        wanted |= set(np.unique(inside).tolist())
    wanted.discard(0)
    return np.isin(components, list(wanted)) if wanted else mask


def _restored(found: npt.NDArray[np.float32], window: Grid, trace: Trace) -> Proposal:
    turned = trace.turned
    wide = _covering(window, turned)
    box = box_of((max(0, a), min(n, b)) for a, b, n in zip(wide.start, wide.stop, turned.shape, strict=True))
    mask = resample(found, window, crop_grid(turned, box), fill=0) > 0.5
    ranges = [(0, 0)] * 3
    for n, (axis, flip) in enumerate(zip(trace.change.order, trace.change.flips, strict=True)):
        size = trace.original.shape[axis]
        ranges[axis] = (size - box.stop[n], size - box.start[n]) if flip else (box.start[n], box.stop[n])
    return Proposal(box_of(ranges), np.ascontiguousarray(change_array_axes(mask, trace.change.inverse)))


def joined(first: Prompts, more: Prompts) -> Prompts:
    """Both; the box of the later, if it has one."""
    return replace(
        first,
        positive=np.concatenate((first.positive, more.positive)),
        negative=np.concatenate((first.negative, more.negative)),
        box=first.box if more.box is None else more.box,
    )
