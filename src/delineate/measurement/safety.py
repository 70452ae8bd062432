"""Safety margins: all of an organ that is within some millimetres of lesions."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from delineate.geometry import FloatArray, Grid, Triple, box_of, index_to_world
from delineate.measurement.components import joined, joined_box
from delineate.measurement.contacts import placed
from delineate.measurement.cropping import Cropped
from delineate.measurement.distances import surface_of

Indices = npt.NDArray[np.int64]
Fractions = npt.NDArray[np.float32]


def taken_by_margin(
    mask: npt.NDArray[np.bool_], organ: Cropped, lesions: Sequence[Cropped], margin_mm: float, *, shape: Triple
) -> tuple[Indices, Fractions]:
    """Voxels (N, 3) of a mask in an organ's box that are near lesions, and the part (N,) of each within the margin.

    `shape`: of the whole scan.

    Distances are those to the lesions' surface, as in `distances`; a voxel that the margin's end cuts counts in part.
    """
    surfaces = [surface_of(lesion, shape) for lesion in lesions]
    inside, doubtful = _near(mask, organ, lesions, margin_mm)
    points_mm = index_to_world(organ.grid, doubtful)
    distances, nearest = np.full(len(doubtful), np.inf), points_mm.copy()
    for surface in surfaces:
        found, which = surface.tree.query(points_mm, distance_upper_bound=margin_mm + _longest_mm(organ.grid))
        better = found < distances
        distances[better], nearest[better] = found[better], surface.points_mm[which[better]]
    widths_mm = _widths_mm(points_mm - nearest, organ.grid)
    taken = np.clip(0.5 + (margin_mm - distances) / widths_mm, 0.0, 1.0)
    index = np.concatenate([inside, doubtful])
    return index, np.concatenate([np.ones(len(inside)), taken]).astype(np.float32)


def _near(
    mask: npt.NDArray[np.bool_], organ: Cropped, lesions: Sequence[Cropped], margin_mm: float
) -> tuple[Indices, Indices]:
    """Voxels of the mask that are within the margin for certain, and those that have to be looked at."""
    import edt

    reach = [int(np.ceil((margin_mm + 2 * _longest_mm(organ.grid)) / s)) for s in organ.grid.spacing_mm]
    around = joined_box([lesion.box for lesion in lesions])
    box = box_of((a - n, b + n) for a, b, n in zip(around.start, around.stop, reach, strict=True))
    near = placed(Cropped(organ.label, mask, organ.grid, organ.box), box)
    moved = np.subtract(box.start, organ.box.start)
    if not _is_right_angled(organ.grid):
        return np.zeros((0, 3), dtype=np.int64), np.argwhere(near) + moved
    sick = joined(lesions, box).mask
    # To the nearest centre of a lesion's voxel: no surface is farther, nor nearer by more than a voxel is long.
    centres_mm = edt.edt(np.ascontiguousarray(~sick).view(np.uint8), anisotropy=organ.grid.spacing_mm)
    longest_mm = _longest_mm(organ.grid)
    certain = near & (centres_mm <= margin_mm - longest_mm)
    doubtful = near & ~certain & (centres_mm <= margin_mm + 2 * longest_mm)
    return np.argwhere(certain) + moved, np.argwhere(doubtful) + moved


def _longest_mm(grid: Grid) -> float:
    """No line through a voxel is longer."""
    return float(sum(grid.spacing_mm))


def _is_right_angled(grid: Grid) -> bool:
    return bool(np.abs(grid.direction.T @ grid.direction - np.eye(3)).max() < 1e-3)


def _widths_mm(towards: FloatArray, grid: Grid) -> FloatArray:
    """How wide a voxel is in each direction (N, 3)."""
    lengths = np.linalg.norm(towards, axis=1, keepdims=True)
    unit = np.divide(towards, lengths, out=np.full_like(towards, 3**-0.5), where=lengths > 0)
    return np.asarray(np.abs(unit @ grid.affine[:3, :3]).sum(axis=1))
