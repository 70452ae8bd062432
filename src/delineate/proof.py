"""Whether two segmentations say the same of the world: volume, centroid and overlap of each structure.

Made for exports that are read back: the two may lie on other grids, with other array axes or fewer slices. Voxels are
matched by where their centres lie in the patient, by nothing else, so that a flip, a shift or a swapped axis shows.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from delineate.geometry import (
    Box,
    FloatArray,
    Grid,
    Triple,
    aligned,
    crop_grid,
    foreground_box,
    index_to_world,
    world_to_index,
)
from delineate.labels import label_set
from delineate.metrics.counting import in_memory_order, tally
from delineate.metrics.scores import Overlap
from delineate.volume import Array, Segmentation, crop, reorient

Mask = npt.NDArray[np.bool_]
IntArray = npt.NDArray[np.int32]

_CHUNK = 2**20  # voxels whose places are computed at a time


@dataclass(frozen=True, slots=True)
class StructureProof:
    """What was to be written of one structure and what is there. Centroids are None for empty masks.

    `dice`: the share of both masks' voxels that the other has at the same place; 1 where both are empty.
    `volume_error`: relative to the expected volume; 0 where both are empty, infinite where only the found is not.
    """

    name: str
    volume_ml: float
    found_ml: float
    centroid_mm: tuple[float, float, float] | None
    centroid_shift_mm: float
    dice: float

    @property
    def volume_error(self) -> float:
        if self.volume_ml == 0.0:
            return 0.0 if self.found_ml == 0.0 else float("inf")
        return abs(self.found_ml - self.volume_ml) / self.volume_ml


def compare(expected: Segmentation, found: Segmentation) -> tuple[StructureProof, ...]:
    """One proof for each structure of `expected`, and for each with voxels that only `found` has.

    A structure that one of them does not name counts as empty there. Where both have their voxels at the same places,
    whatever the order of their axes, voxels are matched by index, else one by one by their positions in the world.
    """
    return (*_compared(expected, found), *_unexpected(expected, found))


def compare_each(expected: Segmentation, found: Iterable[tuple[str, Mask]], grid: Grid) -> tuple[StructureProof, ...]:
    """As `compare`, of (I, J, K) masks on `grid` by name, which come one by one where all would not fit into memory."""
    proofs: dict[str, StructureProof] = {}
    for name, mask in found:
        only = label_set({1: name})
        one = Segmentation(_mask(expected, name).astype(np.uint8), expected.grid, only)
        (proofs[name],) = _compared(one, Segmentation(mask.astype(np.uint8), grid, only))
    nothing = np.zeros(grid.shape, dtype=np.bool_)
    missing = (
        compare_masks(name, (expected.mask(name), expected.grid), (nothing, grid))
        for name in expected.labels.names
        if name not in proofs
    )
    proofs |= {proof.name: proof for proof in missing}
    unexpected = (name for name in proofs if name not in expected.labels.names and proofs[name].found_ml)
    return tuple(proofs[name] for name in (*expected.labels.names, *unexpected))


def _compared(expected: Segmentation, found: Segmentation) -> tuple[StructureProof, ...]:
    placed = _placed(found, expected.grid)
    if placed is None:
        return tuple(
            compare_masks(name, (expected.mask(name), expected.grid), (_mask(found, name), found.grid))
            for name in expected.labels.names
        )
    grids = (expected.grid, placed.grid)
    if expected.labels.overlaps or placed.labels.overlaps:
        return tuple(
            _in_boxes((name,), expected.mask(name), _mask(placed, name), grids=grids)[0]
            for name in expected.labels.names
        )
    array = _renumbered(placed, expected)
    return _in_boxes(expected.labels.names, expected.array, array, grids=grids, values=expected.labels.values)


def _unexpected(expected: Segmentation, found: Segmentation) -> Iterator[StructureProof]:
    for name in found.labels.names:
        voxels = 0 if name in expected.labels.names else int(np.count_nonzero(found.mask(name)))
        if voxels:
            yield _proof(name, Overlap(0, voxels, 0), (expected.grid, found.grid), (None, None))


def _mask(segmentation: Segmentation, name: str) -> Mask:
    if name in segmentation.labels.names:
        return segmentation.mask(name)
    return np.zeros(segmentation.grid.shape, dtype=np.bool_)


def _placed(found: Segmentation, grid: Grid) -> Segmentation | None:
    """`found` with the voxels of `grid`, in its own place in the world; None if that would move or lose voxels."""
    turned = reorient(found, grid.orientation)
    start = np.rint(world_to_index(turned.grid, grid.origin_mm)).astype(int)
    box = Box(tuple(start.tolist()), tuple((start + grid.shape).tolist()))
    covers = all(a <= 0 and b >= n for a, b, n in zip(box.start, box.stop, turned.grid.shape, strict=True))
    if not covers or not aligned(grid, crop_grid(turned.grid, box)):
        return None
    return crop(turned, box)


def _renumbered(found: Segmentation, expected: Segmentation) -> Array:
    """A label map with the values that `expected` gives to the names; 0 for names it does not have."""
    if found.labels.names == expected.labels.names and found.labels.values == expected.labels.values:
        return found.array
    values = np.zeros(int(found.array.max(initial=0)) + 1, dtype=expected.array.dtype)
    for label in found.labels:
        if label.name in expected.labels.names and label.value < len(values):
            values[label.value] = expected.labels.named(label.name).value
    return values[found.array]


def _in_boxes(
    names: Sequence[str], first: Array, second: Array, *, grids: tuple[Grid, Grid], values: Sequence[int] = (1,)
) -> tuple[StructureProof, ...]:
    """Two label maps (I, J, K) of one shape, each on its own grid, structure by structure, within its own box."""
    one, other, order = in_memory_order(first, second)
    counted = tally(one, other, values)
    proofs = []
    for n, (name, value) in enumerate(zip(names, values, strict=True), start=1):
        overlap = counted.overlap(n)
        centroids: list[FloatArray | None] = [None, None]
        if overlap.reference or overlap.prediction:
            at = counted.slices(n)
            centroids = [
                _mean_place(m[at] == value, at, order, grid) for m, grid in zip((one, other), grids, strict=True)
            ]
        proofs.append(_proof(name, overlap, grids, (centroids[0], centroids[1])))
    return tuple(proofs)


def _mean_place(mask: Mask, at: tuple[slice, ...], order: Triple, grid: Grid) -> FloatArray | None:
    """The centroid in mm of a part of a label map whose axes are in another order."""
    count = np.count_nonzero(mask)
    if not count:
        return None
    index = np.empty(3)
    for axis, (place, part) in enumerate(zip(order, at, strict=True)):
        profile = mask.sum(axis=tuple(other for other in range(3) if other != axis))
        index[place] = part.start + profile @ np.arange(mask.shape[axis]) / count
    return index_to_world(grid, index)


def compare_masks(name: str, expected: tuple[Mask, Grid], found: tuple[Mask, Grid]) -> StructureProof:
    """The proof of one structure given as two (I, J, K) masks on grids that may share no voxels."""
    (mask, grid), (found_mask, found_grid) = expected, found
    indices, found_indices = _indices(mask), _indices(found_mask)
    # From both sides, as a voxel of the coarser grid holds many centres of the finer one.
    hits = _hits(indices, grid, found) + _hits(found_indices, found_grid, expected)
    overlap = Overlap(len(indices), len(found_indices), hits // 2)
    centroids = _centroid_mm(indices, grid), _centroid_mm(found_indices, found_grid)
    return _proof(name, overlap, (grid, found_grid), centroids)


def _proof(
    name: str, overlap: Overlap, grids: tuple[Grid, Grid], centroids: tuple[FloatArray | None, FloatArray | None]
) -> StructureProof:
    centroid, found = centroids
    voxels = overlap.reference + overlap.prediction
    if centroid is None or found is None:
        shift = float("inf") if voxels else 0.0
    else:
        shift = float(np.linalg.norm(centroid - found))
    return StructureProof(
        name=name,
        volume_ml=overlap.reference * grids[0].voxel_volume_ml,
        found_ml=overlap.prediction * grids[1].voxel_volume_ml,
        centroid_mm=None if centroid is None else (float(centroid[0]), float(centroid[1]), float(centroid[2])),
        centroid_shift_mm=shift,
        dice=2 * overlap.both / voxels if voxels else 1.0,
    )


def _indices(mask: Mask) -> IntArray:
    """(voxels, 3): the indices of the voxels of a mask."""
    box = foreground_box(mask)
    if box is None:
        return np.empty((0, 3), dtype=np.int32)
    return np.argwhere(mask[box.slices]).astype(np.int32) + np.asarray(box.start, dtype=np.int32)


def _centroid_mm(indices: IntArray, grid: Grid) -> FloatArray | None:
    return index_to_world(grid, indices.mean(axis=0)) if len(indices) else None


def _hits(indices: IntArray, grid: Grid, other: tuple[Mask, Grid]) -> int:
    """How many voxels have their centre in a voxel of the other mask."""
    mask, other_grid = other
    hits = 0
    for start in range(0, len(indices), _CHUNK):
        world = index_to_world(grid, indices[start : start + _CHUNK])
        index = np.floor(world_to_index(other_grid, world) + 0.5).astype(np.int64)
        i, j, k = index[((index >= 0) & (index < other_grid.shape)).all(axis=1)].T
        hits += int(np.count_nonzero(mask[i, j, k]))
    return hits
