"""The logits of a whole prepared scan, without ever being there as a whole: they come slab by slab along one axis."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from queue import Empty, Queue
from threading import Event, Thread

import torch
from torch import Tensor

from delineate.engines import Runner
from delineate.geometry import Triple
from delineate.inference.air import Air
from delineate.inference.blending import Blend, NnunetBlend
from delineate.inference.windows import Layout, cut_window, layout, mirrors, padding_values, window_weight
from delineate.planning import Plan
from delineate.preprocessing import FloatImage

CLASSES_AT_ONCE = 16
MOST_SLICES = 16
SLICE_VOXELS = 2**20


@dataclass(frozen=True, slots=True)
class Streaming:
    """How logits are streamed.

    `axis`: along which. `batch`: windows in one call of the network. `half`: sums in float16. `planes`: how many are
    handed on at a time. `shared`: how many planes each slab has in common with the one before. `windows`: which; None
    for all that the plan lays over the image.
    """

    axis: int = 0
    batch: int = 1
    half: bool = False
    planes: int = 16
    shared: int = 0
    windows: Layout | None = None

    def extent(self, patch: Triple) -> int:
        """The planes that are summed at a time: a window's, or a batch's where windows are one plane thick."""
        return self.batch if patch[self.axis] == 1 else patch[self.axis]


def batch_size(plan: Plan) -> int:
    """Windows in one call of the network: the plan's, and in 2D as many slices as make up about a window in 3D."""
    if plan.dimensions == 3:
        return plan.tiling.batch_size
    return max(plan.tiling.batch_size, min(MOST_SLICES, SLICE_VOXELS // math.prod(plan.patch_size)))


@dataclass(frozen=True, slots=True)
class WindowCount:
    """Windows that were run, that were left out because they hold nothing but air, and that there are."""

    run: int
    skipped: int
    total: int

    @property
    def share(self) -> float:
        """Of the windows done, 0..1."""
        return (self.run + self.skipped) / self.total


Watch = Callable[[WindowCount], None]
"""Told after every batch how far it is."""

Slab = tuple[slice, FloatImage]
Starts = list[Triple]


def stream_logits(
    image: FloatImage,
    plan: Plan,
    runners: Sequence[Runner],
    *,
    how: Streaming,
    air: Air | None = None,
    watch: Watch | None = None,
) -> Iterator[Slab]:
    """Logits (classes, I, J, K), float32, of a prepared image (C, I, J, K): the mean over folds, mirrors and windows.

    Yields (range of planes along `how.axis`, the logits of these planes) in order; together they cover the image, and
    neighbours have `how.shared` planes in common. Windows that are `air` are not run. On a GPU the sums live there, and
    the next windows are run while the slab is used.
    """
    slabs = _slabs(image, plan, runners, how, air, watch)
    return slabs if runners[0].choice.device == "cpu" else _ahead(slabs)


def _slabs(
    image: FloatImage, plan: Plan, runners: Sequence[Runner], how: Streaming, air: Air | None, watch: Watch | None
) -> Iterator[Slab]:
    shape = (image.shape[1], image.shape[2], image.shape[3])
    windows, device = how.windows or layout(shape, plan), runners[0].choice.device
    as_nnunet = plan.tiling.sums == "nnunet"
    air = None if as_nnunet else air
    make: Callable[..., Blend] = partial(NnunetBlend, folds=len(runners)) if as_nnunet else Blend
    blend = make(
        windows,
        window_weight(plan),
        (0.0,) * plan.classes if air is None else air.logits,
        axis=how.axis,
        extent=how.extent(plan.patch_size),
        dtype=torch.float16 if how.half else torch.float32,
        device=device,
        shared=how.shared,
    )
    combinations = list(mirrors(plan.tiling))
    together = [[runner] for runner in runners] if as_nnunet else [runners]
    before, finished = windows.padding[how.axis][0], 0
    for starts, batch in _batches(image, windows, plan, how=how, air=air, device=device, watch=watch):
        for planes in _pieces(finished, min(shape[how.axis], starts[0][how.axis] - before), how.planes):
            yield blend.take(planes)
            finished = planes.stop
        _add(blend, starts, _side_by_side([mean_logits(some, batch, combinations) for some in together]))
    for planes in _pieces(finished, shape[how.axis], how.planes):
        yield blend.take(planes)


def _side_by_side(logits: Sequence[Tensor]) -> Tensor:
    return logits[0] if len(logits) == 1 else torch.cat(list(logits), dim=1)


def _add(blend: Blend, starts: Starts, logits: Tensor) -> None:
    # On its own, so that nothing refers to these logits while the network makes the next.
    for start, window in zip(starts, logits, strict=True):
        blend.add(window, start)


def _batches(
    image: FloatImage, windows: Layout, plan: Plan, *, how: Streaming, air: Air | None, device: str, watch: Watch | None
) -> Iterator[tuple[Starts, Tensor]]:
    """Windows (B, C, *patch) on the device and where they start; without those that are air."""
    values = padding_values(image, windows, plan.tiling)
    count = WindowCount(0, 0, windows.count)
    group: Starts = []
    held = _empty_windows(how.batch, image.shape[0], plan.patch_size, device)
    for start in windows.along(how.axis, last_fastest=plan.tiling.sums != "nnunet"):
        if group and (len(group) == how.batch or _too_far(group[0], start, how, plan.patch_size)):
            yield group, _on_device(held[: len(group)], device)
            count = replace(count, run=count.run + len(group))
            if watch is not None:
                watch(count)
            group = []
            held = _empty_windows(how.batch, image.shape[0], plan.patch_size, device)
        window = held[len(group)].numpy()
        cut_window(image, windows, start, values, window)
        if air is not None and air.fills(window):
            count = replace(count, skipped=count.skipped + 1)
        else:
            group.append(start)
    if group:
        yield group, _on_device(held[: len(group)], device)
    if watch is not None:
        watch(replace(count, run=count.run + len(group)))


def _too_far(first: Triple, start: Triple, how: Streaming, patch: Triple) -> bool:
    """Whether a window reaches beyond the planes that are summed together with the batch's first window."""
    return start[how.axis] + patch[how.axis] - first[how.axis] > how.extent(patch)


def _empty_windows(batch: int, channels: int, patch: Triple, device: str) -> Tensor:
    # Only pinned memory is copied to a GPU while it computes.
    return torch.empty((batch, channels, *patch), pin_memory=device.startswith("cuda"))


def _on_device(windows: Tensor, device: str) -> Tensor:
    return windows if device == "cpu" else windows.to(device, non_blocking=windows.is_pinned())


@torch.inference_mode()
def mean_logits(runners: Sequence[Runner], windows: Tensor, combinations: Sequence[tuple[int, ...]]) -> Tensor:
    """Logits (B, classes, *patch) of windows (B, C, *patch), the mean over folds and combinations of mirrored axes."""
    passes = [(runner, axes) for runner in runners for axes in combinations]
    total: Tensor | None = None
    for runner, axes in passes:
        logits = runner(windows.flip(axes) if axes else windows)
        if len(passes) == 1:
            return logits.float()
        if total is None:
            # A runner may write its next result over this one.
            total = torch.empty_like(logits, dtype=torch.float32)
            _each(total, logits, axes, Tensor.copy_)
        else:
            _each(total, logits, axes, Tensor.add_)
    assert total is not None
    return total.div_(len(passes))


def _each(total: Tensor, logits: Tensor, axes: tuple[int, ...], change: Callable[[Tensor, Tensor], Tensor]) -> None:
    """Change the total by logits that are mirrored back, of a few classes at a time: mirroring makes a copy."""
    for first in range(0, total.shape[1], CLASSES_AT_ONCE):
        values = logits[:, first : first + CLASSES_AT_ONCE]
        change(total[:, first : first + CLASSES_AT_ONCE], values.flip(axes) if axes else values)


def _pieces(start: int, stop: int, size: int) -> Iterator[slice]:
    for first in range(start, stop, size):
        yield slice(first, min(first + size, stop))


def _ahead(slabs: Iterator[Slab]) -> Iterator[Slab]:
    """The same slabs, the next of which is made in a thread while the last is used."""
    made: Queue[Slab | BaseException | None] = Queue(maxsize=1)
    stopped = Event()

    def work() -> None:
        try:
            for slab in slabs:
                made.put(slab)
                if stopped.is_set():
                    return
            made.put(None)
        except BaseException as error:
            made.put(error)

    thread = Thread(target=work, name="windows", daemon=True)
    thread.start()
    try:
        while (item := made.get()) is not None:
            if isinstance(item, BaseException):
                raise item
            yield item
    finally:
        stopped.set()
        while thread.is_alive():
            _discard(made)
            thread.join(0.05)


def _discard(made: Queue[Slab | BaseException | None]) -> None:
    with suppress(Empty):
        made.get_nowait()
