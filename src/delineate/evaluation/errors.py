"""Where the wrong voxels of a prediction lie."""

from __future__ import annotations

import math
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from delineate.evaluation.boxes import common_boxes
from delineate.evaluation.confusions import check_comparable
from delineate.geometry import Box, Triple, TripleMM
from delineate.volume import Segmentation

Mask = npt.NDArray[np.bool_]

BORDER_VOXELS = 2
"""So many voxels at the scan's border count as beside it."""


@dataclass(frozen=True, slots=True)
class ErrorVolumes:
    """The wrong voxels of one structure in one case, in ml.

    `false_positive_ml`, `false_negative_ml`: predicted and not in the reference, and the other way round.
    `boundary_ml`: of both, what lies within `near_mm` of the reference's surface. `stray_ml`, `stray_pieces`: predicted
    pieces (26-connected) that share no voxel with the reference; `lost_ml`, `lost_pieces`: pieces of the reference of
    which nothing was predicted. `cut_ml`: errors beside those faces of the scan that the reference touches.
    `moved_dice`: the Dice if the prediction's centre of mass were moved onto the reference's, NaN unless both have
    voxels.
    """

    false_positive_ml: float
    false_negative_ml: float
    boundary_ml: float
    near_mm: float
    stray_ml: float
    stray_pieces: int
    lost_ml: float
    lost_pieces: int
    cut_ml: float
    moved_dice: float

    @property
    def total_ml(self) -> float:
        return self.false_positive_ml + self.false_negative_ml


def locate_errors(
    reference: Segmentation, prediction: Segmentation, tolerance_mm: Mapping[str, float], *, threads: int = 1
) -> dict[str, ErrorVolumes]:
    """Where the errors of each structure lie, by name; a structure that is nowhere has none.

    What is near the surface: within the tolerance, two of the smallest voxel edges, or one of the largest, whichever is
    most, so that one slice off is near. Distances are between voxels' centres. Raises as `score_case`.
    """
    check_comparable(None, reference, prediction)
    boxes = common_boxes([reference, prediction])
    spacing_mm, ml = reference.grid.spacing_mm, reference.grid.voxel_volume_ml

    def locate(name: str) -> ErrorVolumes:
        near_mm = max(tolerance_mm[name], 2 * min(spacing_mm), max(spacing_mm))
        box = boxes.get(name)
        if box is None:
            return ErrorVolumes(0, 0, 0, near_mm, 0, 0, 0, 0, 0, math.nan)
        first, second = reference.mask(name, box), prediction.mask(name, box)
        cut_off = _beside_faces(first, box, reference.grid.shape)
        return _volumes(first, second, spacing_mm, near_mm=near_mm, voxel_ml=ml, cut_off=cut_off)

    with ThreadPoolExecutor(threads) as pool:
        names = reference.labels.names
        return dict(zip(names, pool.map(locate, names), strict=True))


def _volumes(
    reference: Mask, prediction: Mask, spacing_mm: TripleMM, *, near_mm: float, voxel_ml: float, cut_off: Mask
) -> ErrorVolumes:
    wrong = reference ^ prediction
    stray, lost = _untouched(prediction, reference), _untouched(reference, prediction)
    return ErrorVolumes(
        false_positive_ml=int(np.count_nonzero(prediction & ~reference)) * voxel_ml,
        false_negative_ml=int(np.count_nonzero(reference & ~prediction)) * voxel_ml,
        boundary_ml=int(np.count_nonzero(wrong & _near_surface(reference, spacing_mm, near_mm))) * voxel_ml,
        near_mm=near_mm,
        stray_ml=stray[0] * voxel_ml,
        stray_pieces=stray[1],
        lost_ml=lost[0] * voxel_ml,
        lost_pieces=lost[1],
        cut_ml=int(np.count_nonzero(wrong & cut_off)) * voxel_ml,
        moved_dice=_moved_dice(reference, prediction),
    )


def _near_surface(mask: Mask, spacing_mm: TripleMM, near_mm: float) -> Mask:
    """Voxels whose centre is within so many mm of one on the other side of the mask's surface."""
    import edt

    if not mask.any():
        return np.zeros_like(mask)
    # A border of voxels outside, because what lies beyond the box is outside. Both ways at once, by two values.
    sides = np.pad(mask, 1).view(np.uint8) + np.uint8(1)
    near: Mask = edt.edt(sides, anisotropy=spacing_mm)[1:-1, 1:-1, 1:-1] <= near_mm * (1 + 1e-6)
    return near


def _untouched(mask: Mask, other: Mask) -> tuple[int, int]:
    """Voxels and number of a mask's pieces that share none with another mask; none where either is empty."""
    import cc3d

    if not mask.any() or not other.any():
        return 0, 0
    pieces = cc3d.connected_components(mask.astype(np.uint8), connectivity=26)
    sizes = cc3d.statistics(pieces, no_slice_conversion=True)["voxel_counts"]
    # Of the voxels that both have alone, because bincount widens its input to 64 bits.
    alone = np.bincount(pieces[mask & other], minlength=len(sizes)) == 0
    alone[0] = False
    return int(sizes[alone].sum()), int(alone.sum())


def _moved_dice(reference: Mask, prediction: Mask) -> float:
    if not reference.any() or not prediction.any():
        return math.nan
    steps = [round(there - here) for here, there in zip(_centre(reference), _centre(prediction), strict=True)]
    here = tuple(slice(max(0, -n), size - max(0, n)) for n, size in zip(steps, reference.shape, strict=True))
    there = tuple(slice(max(0, n), size + min(0, n)) for n, size in zip(steps, reference.shape, strict=True))
    both = np.count_nonzero(reference[here] & prediction[there])
    return float(2 * both / (np.count_nonzero(reference) + np.count_nonzero(prediction)))


def _centre(mask: Mask) -> list[float]:
    counts = [np.count_nonzero(mask, axis=tuple(a for a in range(3) if a != axis)) for axis in range(3)]
    return [float(np.average(np.arange(len(along)), weights=along)) for along in counts]


def _beside_faces(reference: Mask, box: Box, shape: Triple) -> Mask:
    """Voxels of `box`, (I, J, K), beside those faces of the scan that the reference in it touches."""
    beside = np.zeros(box.shape, dtype=bool)
    for axis in range(3):
        index = np.arange(box.start[axis], box.stop[axis])
        low = box.start[axis] == 0 and bool(reference.take(0, axis).any())
        high = box.stop[axis] == shape[axis] and bool(reference.take(-1, axis).any())
        marked = (low & (index < BORDER_VOXELS)) | (high & (index >= shape[axis] - BORDER_VOXELS))
        beside |= marked.reshape([-1 if other == axis else 1 for other in range(3)])
    return beside
