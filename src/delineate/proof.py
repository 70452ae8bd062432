"""Whether two segmentations say the same of the world: volume, centroid and overlap of each structure.

Made for exports that are read back: the two may lie on other grids, with other array axes or fewer slices. Voxels are
matched by where their centres lie in the patient, by nothing else, so that a flip, a shift or a swapped axis shows.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from delineate.geometry import FloatArray, Grid, foreground_box, index_to_world, world_to_index
from delineate.volume import Segmentation

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
    """One proof for each structure of `expected`; one that `found` does not name counts as empty there."""
    return tuple(
        compare_masks(
            name,
            (expected.mask(name), expected.grid),
            (
                found.mask(name) if name in found.labels.names else np.zeros(found.grid.shape, dtype=np.bool_),
                found.grid,
            ),
        )
        for name in expected.labels.names
    )


def compare_masks(name: str, expected: tuple[Mask, Grid], found: tuple[Mask, Grid]) -> StructureProof:
    """The proof of one structure given as two (I, J, K) masks and their grids."""
    (mask, grid), (found_mask, found_grid) = expected, found
    indices, found_indices = _indices(mask), _indices(found_mask)
    centroid, found_centroid = _centroid_mm(indices, grid), _centroid_mm(found_indices, found_grid)
    voxels = len(indices) + len(found_indices)
    hits = _hits(indices, grid, found) + _hits(found_indices, found_grid, expected)
    if centroid is None or found_centroid is None:
        shift = float("inf") if voxels else 0.0
    else:
        shift = float(np.linalg.norm(centroid - found_centroid))
    return StructureProof(
        name=name,
        volume_ml=len(indices) * grid.voxel_volume_ml,
        found_ml=len(found_indices) * found_grid.voxel_volume_ml,
        centroid_mm=None if centroid is None else (float(centroid[0]), float(centroid[1]), float(centroid[2])),
        centroid_shift_mm=shift,
        dice=hits / voxels if voxels else 1.0,
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
