"""Distances between the surfaces of two masks, weighted by area; exact, in float64.

Surfels lie on the corners between voxels. The squared distance to one surface is known within each plane
of the box, and the surfels of the other then look through the planes: the third axis of the distance
transform is spared for all positions but theirs.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from delineate.geometry import FloatArray, TripleMM
from delineate.metrics.surfels import surfel_areas_mm2

WITHIN = 1 + 1e-6
"""A distance this much above a tolerance is within it. Files hold spacings in 32 bits: 0.8 mm is read as 0.80000001 mm,
and one voxel off would not be within 0.8 mm; of 0.7 mm, read as 0.69999999 mm, it would."""


@dataclass(frozen=True, slots=True)
class Distances:
    """From every surfel of one surface to the nearest of another: (N,) `mm`, ascending, and `area_mm2` of each."""

    mm: FloatArray
    area_mm2: FloatArray

    @property
    def total_mm2(self) -> float:
        return float(self.area_mm2.sum())

    @property
    def mean_mm(self) -> float:
        """The mean over the area."""
        return float((self.mm * self.area_mm2).sum() / self.area_mm2.sum())

    def percentile_mm(self, percent: float) -> float:
        """The smallest distance that at least `percent` of the area does not exceed."""
        share = np.cumsum(self.area_mm2) / self.area_mm2.sum()
        index = int(np.searchsorted(share, percent / 100))
        return float(self.mm[min(index, len(self.mm) - 1)])

    def area_within(self, tolerance_mm: float) -> float:
        """The area in mm² whose distance is at most `tolerance_mm`, up to the rounding of spacings."""
        return float(self.area_mm2[: np.searchsorted(self.mm, tolerance_mm * WITHIN, side="right")].sum())


@dataclass(frozen=True, slots=True)
class _Surface:
    codes: npt.NDArray[np.uint8]
    points: npt.NDArray[np.int32]


def surface_distances(
    reference: npt.NDArray[np.bool_], prediction: npt.NDArray[np.bool_], spacing_mm: TripleMM
) -> tuple[Distances, Distances]:
    """Distances from the reference's surface to the prediction's, and back.

    `reference`, `prediction`: (I, J, K) masks of one shape, neither empty; beyond the array is outside.
    """
    first, second = _surface(reference), _surface(prediction)
    return _distances(first, second, spacing_mm), _distances(second, first, spacing_mm)


def _surface(mask: npt.NDArray[np.bool_]) -> _Surface:
    from delineate.metrics.kernels import collect_surfels, encode_surface

    inside = np.pad(mask, 1).view(np.uint8)
    codes = np.empty([n + 1 for n in mask.shape], dtype=np.uint8)
    points = np.empty((encode_surface(inside, codes), 3), dtype=np.int32)
    collect_surfels(codes, points)
    return _Surface(codes, points)


def _distances(start: _Surface, target: _Surface, spacing_mm: TripleMM) -> Distances:
    mm = nearest_mm(start.points, target.codes, spacing_mm)
    area_mm2 = surfel_areas_mm2(spacing_mm)[start.codes[tuple(start.points.T)]]
    order = np.lexsort((area_mm2, mm))
    return Distances(mm[order], area_mm2[order])


def nearest_mm(points: npt.NDArray[np.integer], targets: npt.NDArray[np.uint8], spacing_mm: TripleMM) -> FloatArray:
    """(N,) distances of (N, 3) positions to the nearest that is not 0 in `targets` (I, J, K); infinite for none."""
    from delineate.metrics.kernels import measure_planes, measure_points

    squares_mm2 = np.empty(targets.shape)
    measure_planes(targets, np.array(spacing_mm), squares_mm2)
    mm = np.empty(len(points))
    measure_points(np.ascontiguousarray(points, dtype=np.int32), squares_mm2, spacing_mm[0], mm)
    return mm
