"""A first look finds where structures are, so that the full resolution is run only there.

The look sees the whole scan, coarsened to about the voxels its network wants. What it finds gives one box; the box
grows by a margin, because the look's borders are rough and because windows need to see what lies around a structure.
The look decides nothing but where to run: if it leaves any doubt, the whole scan is run (`find`, `cut_off`).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import cc3d
import numpy as np
import numpy.typing as npt

from delineate.errors import LabelError, PlanError
from delineate.geometry import Box, Grid, Triple, box_of, compose_affine, index_to_world
from delineate.inference.stages import Runners
from delineate.model import Model
from delineate.preprocessing import FloatImage
from delineate.volume import Array, Segmentation, Volume

MARGIN_MM = 15.0
NOISE_SHARE = 0.01
NOISE_ML = 3.0


@dataclass(frozen=True, slots=True, eq=False)
class Locate:
    """Run the full resolution only where a first look finds the structures.

    `model`: what looks; None is the model's own first stage (its locator, or its cascade's stage before).
    `structures`: what is wanted of the segmenting model, and all that the result will hold; () is everything.
    `around`: the look's structures in or at which they lie; () means that the look knows the wanted ones by name.
    `runners`: of `model`, where they are open already.
    """

    model: Model | None = None
    structures: tuple[str, ...] = ()
    around: tuple[str, ...] = ()
    margin_mm: float = MARGIN_MM
    runners: Runners | None = None


def look_model(model: Model, locate: Locate) -> Model | None:
    """What looks: the model that was named, else the model's own locator, else its cascade's stage before."""
    if locate.model is not None:
        return locate.model
    return model.previous if model.locator is None else model.locator.model


def looks_for(model: Model, locate: Locate) -> tuple[str, ...]:
    """The structures that the look has to find."""
    if locate.around:
        return locate.around
    if locate.model is None and model.locator is not None:
        return model.locator.structures
    return locate.structures or model.labels.names


def check_locate(model: Model, locate: Locate) -> None:
    """Raises `PlanError` if there is nothing to look with, or if a part of a scan is not what a plan is for;
    `LabelError` for structures that the model, or the look, does not know.
    """
    look = look_model(model, locate)
    if look is None:
        raise PlanError(
            "the model has no first stage to look with",
            remedy="Name a model that looks, e.g. one trained by `delineate train DATASET locator --spacing 6,6,6`.",
        )
    if any(part.plan.resize_to is not None for part in (model, *model.partners, *model.overlays)):
        raise PlanError("a model that resizes every scan to one shape cannot be run on a part of it")
    if len(look.plan.channels) != len(model.plan.channels):
        raise PlanError(
            "the model that looks wants other channels",
            expected=list(model.plan.channels),
            got=list(look.plan.channels),
        )
    for name in locate.structures:
        model.labels.named(name)
    unknown = [name for name in looks_for(model, locate) if name not in look.labels.names]
    if unknown:
        raise LabelError(
            f"the model that looks does not know {', '.join(unknown)}",
            expected=f"some of {list(look.labels.names)}",
            remedy="Choose the structures that are wanted, or say around which of the look's they lie.",
        )


@dataclass(frozen=True, slots=True)
class Sight:
    """What a look found. `box`: where, in the scan's own indices, without a margin; None if nothing was found.

    `missing`: the structures that it did not find.
    """

    box: Box | None
    missing: tuple[str, ...]


def coarse(volume: Volume, spacing_mm: Sequence[float]) -> tuple[Volume, Triple]:
    """The means of whole blocks of voxels, as large as possible within `spacing_mm` (of the array's axes).

    Also gives the block's shape: voxel n of the coarse volume holds voxels n * block up to (n + 1) * block. The last
    block of an axis may hold fewer. A look needs no more, and whatever comes after is as small as the look.
    """
    grid = volume.grid
    block = _block(grid, spacing_mm)
    i, j, k = (-(-n // b) for n, b in zip(grid.shape, block, strict=True))
    if max(block) == 1:
        return volume, block
    array = np.empty((volume.channels, i, j, k), np.float32)
    for channel, means in zip(volume.array, array, strict=True):
        _block_means(channel, means, block)
    origin = index_to_world(grid, (np.asarray(block) - 1) / 2)
    blocks = replace(grid, shape=(i, j, k), affine=compose_affine(grid.affine[:3, :3] * block, origin))
    return replace(volume, array=array, grid=blocks), block


def thinned(segmentation: Segmentation, spacing_mm: Sequence[float]) -> tuple[Segmentation, Triple]:
    """One voxel of each whole block as in `coarse`, the one in its middle; and the block's shape."""
    grid = segmentation.grid
    block = _block(grid, spacing_mm)
    first = [min(b // 2, n - 1) for b, n in zip(block, grid.shape, strict=True)]
    along_i, along_j, along_k = (slice(a, None, b) for a, b in zip(first, block, strict=True))
    array = segmentation.array[..., along_i, along_j, along_k]
    i, j, k = array.shape[-3:]
    affine = compose_affine(grid.affine[:3, :3] * block, index_to_world(grid, first))
    return replace(segmentation, array=array, grid=replace(grid, shape=(i, j, k), affine=affine)), block


def find(seen: Segmentation, structures: Sequence[str], block: Triple, shape: Triple) -> Sight:
    """Where `structures` are, in a scan of `shape` of whose blocks `seen` is a map.

    Components that are small, both in themselves and beside the structure's largest, are taken for noise; a structure
    that consists of nothing else is found all the same. Raises `LabelError` for a structure that `seen` does not know.
    """
    boxes = {name: _component_box(seen.mask(name), seen.grid.voxel_volume_ml) for name in structures}
    found = [box for box in boxes.values() if box is not None]
    missing = tuple(name for name, box in boxes.items() if box is None)
    if not found:
        return Sight(None, missing)
    start = np.min([box.start for box in found], axis=0) * block
    stop = np.minimum(np.max([box.stop for box in found], axis=0) * block, shape)
    return Sight(Box(tuple(start), tuple(stop)), missing)


def region_around(box: Box, grid: Grid, margin_mm: float) -> Box:
    """A box grown by a margin on all sides, within the scan."""
    margins = [margin_mm / s for s in grid.spacing_mm]
    return box_of(
        (max(0, math.floor(a - margin)), min(n, math.ceil(b + margin)))
        for a, b, n, margin in zip(box.start, box.stop, grid.shape, margins, strict=True)
    )


def cut_off(label_map: Array, region: Box) -> frozenset[int]:
    """The values of an (I, J, K) label map that reach a face of the region which is no face of the scan.

    What touches it may go on behind it, unseen.
    """
    inside = label_map[region.slices]
    values: set[int] = set()
    for axis, n in enumerate(label_map.shape):
        for here, edge, at in ((region.start[axis], 0, 0), (region.stop[axis], n, -1)):
            if here != edge:
                values.update(int(value) for value in np.unique(np.take(inside, at, axis=axis)))
    return frozenset(values - {0})


def _block(grid: Grid, spacing_mm: Sequence[float]) -> Triple:
    i, j, k = (max(1, int(new / old + 1e-6)) for old, new in zip(grid.spacing_mm, spacing_mm, strict=True))
    return i, j, k


def _component_box(mask: npt.NDArray[np.bool_], voxel_ml: float) -> Box | None:
    components, count = cc3d.connected_components(mask.astype(np.uint8), connectivity=26, return_N=True)
    if count == 0:
        return None
    statistics = cc3d.statistics(components)
    sizes = statistics["voxel_counts"][1:] * voxel_ml
    keep = sizes >= min(NOISE_ML, NOISE_SHARE * sizes.max())
    kept = [bounds for bounds, stays in zip(statistics["bounding_boxes"][1:], keep, strict=True) if stays]
    return Box(
        tuple(min(bounds[axis].start for bounds in kept) for axis in range(3)),
        tuple(max(bounds[axis].stop for bounds in kept) for axis in range(3)),
    )


def _block_means(channel: Array, means: FloatImage, block: Sequence[int]) -> None:
    # Along the axis that is slowest in memory, so that it is gone through once.
    order = sorted(range(3), key=lambda axis: -abs(channel.strides[axis]))
    source, target = channel.transpose(order), means.transpose(order)
    depth, *widths = (block[axis] for axis in order)
    for n, plane in enumerate(target):
        sums = source[n * depth : (n + 1) * depth].mean(axis=0, dtype=np.float32)
        for axis, width in enumerate(widths):
            starts = np.arange(0, sums.shape[axis], width)
            counts = np.diff(starts, append=sums.shape[axis]).astype(np.float32)
            sums = np.add.reduceat(sums, starts, axis=axis) / (counts[:, None] if axis == 0 else counts)
        plane[:] = sums
