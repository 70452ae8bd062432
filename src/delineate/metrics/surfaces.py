"""Distances between the surfaces of two masks, weighted by area.

Surfels lie on the corners between voxels. Nearly all surfels of a usable prediction have one of the
other surface within a few voxels, so each looks there first, along offsets sorted by their length; only
if some find none is the whole box measured. Both ways are exact, in float64.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt

from delineate.geometry import FloatArray, TripleMM
from delineate.metrics.surfels import surfel_areas_mm2

Array = npt.NDArray[Any]

OFFSETS_TRIED = 3000


@dataclass(frozen=True, slots=True)
class Distances:
    """From every surfel of one surface to the nearest of another: (N,) `mm`, ascending, and `area_mm2` of each."""

    mm: FloatArray
    area_mm2: FloatArray

    @property
    def total_mm2(self) -> float:
        return float(self.area_mm2.sum())

    def percentile_mm(self, percent: float) -> float:
        """The smallest distance that at least `percent` of the area does not exceed."""
        share = np.cumsum(self.area_mm2) / self.area_mm2.sum()
        index = int(np.searchsorted(share, percent / 100))
        return float(self.mm[min(index, len(self.mm) - 1)])

    def area_within(self, tolerance_mm: float) -> float:
        """The area in mm² whose distance is at most `tolerance_mm`."""
        return float(self.area_mm2[: np.searchsorted(self.mm, tolerance_mm, side="right")].sum())


@dataclass(frozen=True, slots=True)
class _Surface:
    codes: npt.NDArray[np.uint8]
    points: npt.NDArray[np.int32]

    @property
    def codes_of_points(self) -> npt.NDArray[np.uint8]:
        codes: npt.NDArray[np.uint8] = self.codes[tuple(self.points.T)]
        return codes


@dataclass(frozen=True, slots=True)
class _Offsets:
    """Steps on the lattice (M, 3) by their lengths (M,), the (D,) distinct lengths, and which one each step has."""

    steps: npt.NDArray[np.int32]
    mm: FloatArray
    distinct_mm: FloatArray
    rank: npt.NDArray[np.intp]


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
    from delineate.metrics.kernels import find_nearest

    offsets = _offsets(spacing_mm)
    nearest = np.empty(len(start.points), dtype=np.int32)
    find_nearest(start.points, target.codes, offsets.steps, offsets.mm, np.array(spacing_mm), nearest)
    codes = start.codes_of_points
    near = nearest >= 0
    mm, area_mm2 = _sorted_near(offsets.rank[nearest[near]], codes[near], spacing_mm)
    if near.all():
        return Distances(mm, area_mm2)
    far_mm = _far_distances(start.points[~near], target.codes, spacing_mm)
    far_mm2 = surfel_areas_mm2(spacing_mm)[codes[~near]]
    order = np.lexsort((far_mm2, far_mm))
    return Distances(np.append(mm, far_mm[order]), np.append(area_mm2, far_mm2[order]))


def _sorted_near(
    rank: npt.NDArray[np.intp], codes: npt.NDArray[np.uint8], spacing_mm: TripleMM
) -> tuple[FloatArray, FloatArray]:
    # There are few lengths and few areas: counting each pair sorts faster than comparing.
    areas, area_of_code = np.unique(surfel_areas_mm2(spacing_mm), return_inverse=True)
    lengths = _offsets(spacing_mm).distinct_mm
    counts = np.bincount(rank * len(areas) + area_of_code[codes], minlength=len(lengths) * len(areas))
    counts = counts.reshape(len(lengths), len(areas))
    return np.repeat(lengths, counts.sum(axis=1)), np.repeat(np.tile(areas, len(lengths)), counts.ravel())


def _far_distances(points: npt.NDArray[np.int32], codes: npt.NDArray[np.uint8], spacing_mm: TripleMM) -> FloatArray:
    from delineate.metrics.kernels import measure_planes, measure_points

    squares_mm2 = np.empty(codes.shape)
    measure_planes(codes, np.array(spacing_mm), squares_mm2)
    distances_mm = np.empty(len(points))
    measure_points(points, squares_mm2, spacing_mm[0], distances_mm)
    return distances_mm


def _lengths_mm(steps: Array, spacing_mm: TripleMM) -> FloatArray:
    i, j, k = (steps * np.array(spacing_mm)).T ** 2
    lengths: FloatArray = np.sqrt(i + j + k)
    return lengths


@lru_cache(maxsize=16)
def _offsets(spacing_mm: TripleMM) -> _Offsets:
    """All steps within the radius of a ball that holds about `OFFSETS_TRIED` of them."""
    radius_mm = (OFFSETS_TRIED * math.prod(spacing_mm) * 3 / (4 * math.pi)) ** (1 / 3)
    reach = np.array([int(radius_mm / s) for s in spacing_mm])
    steps = np.indices((2 * reach + 1).tolist()).reshape(3, -1).T - reach
    mm = _lengths_mm(steps, spacing_mm)
    order = np.argsort(mm, kind="stable")[: np.count_nonzero(mm <= radius_mm)]
    distinct_mm, rank = np.unique(mm[order], return_inverse=True)
    return _Offsets(steps[order].astype(np.int32), mm[order], distinct_mm, rank)
