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
    """Agreement of one predicted mask with its reference.

    | status   | dice, iou, surface_dice | distances in mm | volume_error_ml | volume_error_percent |
    |----------|-------------------------|-----------------|-----------------|----------------------|
    | scored   | 0 to 1                  | 0 and more      | defined         | defined              |
    | missed   | 0                       | NaN             | defined         | -100                 |
    | spurious | 0                       | NaN             | defined         | NaN                  |
    | absent   | NaN                     | NaN             | 0               | NaN                  |

    - `dice`: 2 |R ∩ P| / (|R| + |P|); `iou`: |R ∩ P| / |R ∪ P|.
    - `hd_mm`, `hd95_mm`: the larger of the two directions' largest distances, or of their 95th
      percentiles by area.
    - `surface_dice`: the share of both surfaces' area that lies within the tolerance of the other
      surface (Nikolov et al., "Clinically Applicable Segmentation of Head and Neck Anatomy for
      Radiotherapy", J Med Internet Res 2021).
    - `mean_surface_distance_mm`: the average over the area of both surfaces together (symmetric).
    - `volume_error_ml`: prediction minus reference; `volume_error_percent`: of the reference.

    Surfaces are those of DeepMind's surface-distance: marching cubes through voxel edges, with distances
    between the corners of voxels. What lies beyond the array is outside.
    """

    dice: float
    iou: float
    hd95_mm: float
    hd_mm: float
    surface_dice: float
    mean_surface_distance_mm: float
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


def compose_scores(
    overlap: Overlap, distances: tuple[Distances, Distances] | None, *, voxel_ml: float, tolerance_mm: float
) -> StructureScores:
    """The scores of one structure; `distances` there and back, None unless both masks have voxels."""
    total = overlap.reference + overlap.prediction
    error = overlap.prediction - overlap.reference
    return StructureScores(
        dice=_ratio(2 * overlap.both, total),
        iou=_ratio(overlap.both, total - overlap.both),
        hd95_mm=max(d.percentile_mm(95) for d in distances) if distances else NAN,
        hd_mm=max(float(d.mm[-1]) for d in distances) if distances else NAN,
        surface_dice=_surface_dice(distances, tolerance_mm) if distances else _ratio(0, total),
        mean_surface_distance_mm=_mean_distance_mm(distances) if distances else NAN,
        volume_error_ml=error * voxel_ml,
        volume_error_percent=_ratio(100 * error, overlap.reference),
        reference_ml=overlap.reference * voxel_ml,
        prediction_ml=overlap.prediction * voxel_ml,
        status=overlap.status,
    )


def _ratio(part: float, whole: float) -> float:
    return part / whole if whole else NAN


def _surface_dice(distances: tuple[Distances, Distances], tolerance_mm: float) -> float:
    return sum(d.area_within(tolerance_mm) for d in distances) / sum(d.total_mm2 for d in distances)


def _mean_distance_mm(distances: tuple[Distances, Distances]) -> float:
    return sum(float((d.mm * d.area_mm2).sum()) for d in distances) / sum(d.total_mm2 for d in distances)
