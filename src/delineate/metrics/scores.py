"""What is said of a predicted mask: the numbers, and which of the two masks has voxels."""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import Enum

from delineate.metrics.surfaces import Distances

NAN = math.nan


class Status(Enum):
    """Which of the two masks has voxels."""

    SCORED = "scored"  # both
    MISSED = "missed"  # only the reference
    SPURIOUS = "spurious"  # only the prediction: a false positive
    ABSENT = "absent"  # neither


@dataclass(frozen=True, slots=True)
class StructureScores:
    """Agreement of one predicted mask with its reference; `definitions.METRICS` says what each figure is.

    | figure                                                             | scored  | missed  | spurious | absent |
    |--------------------------------------------------------------------|---------|---------|----------|--------|
    | `dice`, `iou`, `volume_similarity`, `surface_dice`, `boundary_iou` | 0 to 1  | 0       | 0        | NaN    |
    | `precision`                                                        | 0 to 1  | NaN     | 0        | NaN    |
    | `recall`                                                           | 0 to 1  | 0       | NaN      | NaN    |
    | `hd95_mm`, `hd_mm`, `mean_surface_distance_mm`, `masd_mm`,         | 0 and   | NaN     | NaN      | NaN    |
    | `centroid_distance_mm`                                             | more    |         |          |        |
    | `volume_error_ml`                                                  | defined | below 0 | above 0  | 0      |
    | `volume_error_percent`                                             | defined | -100    | NaN      | NaN    |

    NaN is a figure without a value. What it counts as in a mean is for `delineate.evaluation` to say: it must
    not be left out, or a miss would improve the mean.

    Surfaces are those of DeepMind's surface-distance: marching cubes through voxel edges, with distances
    between the corners of voxels. What lies beyond the array is outside.
    """

    dice: float
    iou: float
    precision: float
    recall: float
    volume_similarity: float
    surface_dice: float
    boundary_iou: float
    hd95_mm: float
    hd_mm: float
    mean_surface_distance_mm: float
    masd_mm: float
    centroid_distance_mm: float
    volume_error_ml: float
    volume_error_percent: float
    reference_ml: float
    prediction_ml: float
    status: Status


@dataclass(frozen=True, slots=True)
class Overlap:
    """Voxels of a structure in the reference, in the prediction, and in both at once."""

    reference: int
    prediction: int
    both: int

    @property
    def status(self) -> Status:
        if self.reference and self.prediction:
            return Status.SCORED
        if self.reference:
            return Status.MISSED
        return Status.SPURIOUS if self.prediction else Status.ABSENT


@dataclass(frozen=True, slots=True)
class Comparison:
    """What is measured of two masks that both have voxels.

    `there`, `back`: surface distances from the reference's surface and from the prediction's. `boundary`:
    voxels of the two masks' boundary layers.
    """

    there: Distances
    back: Distances
    boundary: Overlap
    centroid_distance_mm: float


def compose_scores(
    overlap: Overlap, comparison: Comparison | None, *, voxel_ml: float, tolerance_mm: float
) -> StructureScores:
    """The scores of one structure; `comparison` is None unless both masks have voxels."""
    total = overlap.reference + overlap.prediction
    error = overlap.prediction - overlap.reference
    there_and_back = (comparison.there, comparison.back) if comparison else None
    return StructureScores(
        dice=_ratio(2 * overlap.both, total),
        iou=_iou(overlap),
        precision=_ratio(overlap.both, overlap.prediction),
        recall=_ratio(overlap.both, overlap.reference),
        volume_similarity=_ratio(total - abs(error), total),
        surface_dice=_surface_dice(there_and_back, tolerance_mm) if there_and_back else _ratio(0, total),
        boundary_iou=_iou(comparison.boundary) if comparison else _ratio(0, total),
        hd95_mm=max(d.percentile_mm(95) for d in there_and_back) if there_and_back else NAN,
        hd_mm=max(float(d.mm[-1]) for d in there_and_back) if there_and_back else NAN,
        mean_surface_distance_mm=_mean_distance_mm(there_and_back) if there_and_back else NAN,
        masd_mm=sum(d.mean_mm for d in there_and_back) / 2 if there_and_back else NAN,
        centroid_distance_mm=comparison.centroid_distance_mm if comparison else NAN,
        volume_error_ml=error * voxel_ml,
        volume_error_percent=_ratio(100 * error, overlap.reference),
        reference_ml=overlap.reference * voxel_ml,
        prediction_ml=overlap.prediction * voxel_ml,
        status=overlap.status,
    )


def _ratio(part: float, whole: float) -> float:
    return part / whole if whole else NAN


def _iou(overlap: Overlap) -> float:
    return _ratio(overlap.both, overlap.reference + overlap.prediction - overlap.both)


def _surface_dice(distances: tuple[Distances, Distances], tolerance_mm: float) -> float:
    return sum(d.area_within(tolerance_mm) for d in distances) / sum(d.total_mm2 for d in distances)


def _mean_distance_mm(distances: tuple[Distances, Distances]) -> float:
    return sum(d.mean_mm * d.total_mm2 for d in distances) / sum(d.total_mm2 for d in distances)
