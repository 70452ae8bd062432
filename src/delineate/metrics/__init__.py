"""How well a prediction agrees with a reference: masks or label maps and a spacing in, numbers out."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import numpy.typing as npt

from delineate.geometry import TripleMM
from delineate.metrics.boundaries import boundary_overlap, centroid_distance_mm
from delineate.metrics.counting import Counts, checked_spacing, in_memory_order, tally
from delineate.metrics.scores import Comparison, Status, StructureScores, compose_scores
from delineate.metrics.surfaces import surface_distances

__all__ = ["Status", "StructureScores", "confusion_counts", "score_label_maps", "score_masks"]

Array = npt.NDArray[Any]
Mask = npt.NDArray[np.bool_]


def score_masks(
    reference: Mask, prediction: Mask, spacing_mm: Sequence[float], *, tolerance_mm: float
) -> StructureScores:
    """Scores of one (I, J, K) mask; see `StructureScores` for what an empty mask gives.

    Raises as `score_label_maps`; `TypeError` for arrays that are not bool.
    """
    if reference.dtype != bool or prediction.dtype != bool:
        raise TypeError(f"masks are bool arrays: got {reference.dtype} and {prediction.dtype}")
    return score_label_maps(reference, prediction, spacing_mm, (1,), tolerance_mm=tolerance_mm)[1]


def score_label_maps(
    reference: Array,
    prediction: Array,
    spacing_mm: Sequence[float],
    values: Sequence[int],
    *,
    tolerance_mm: float | Mapping[int, float],
    threads: int = 1,
) -> dict[int, StructureScores]:
    """Scores of each of `values` in two (I, J, K) label maps; other values are background.

    `spacing_mm`: between voxels along I, J, K; the axes are taken to be perpendicular. `tolerance_mm`: of
    the surface Dice, and the width of the boundary IoU's layer; one for all or one for each value. See
    `StructureScores` for what a structure without voxels gives. No values give no scores.

    Raises `ValueError` for maps of different shapes or with negative values, a spacing that is not three
    positive numbers, values below 1 or given twice, or a negative tolerance; `TypeError` for maps that are
    not of integers; `KeyError` for a value without tolerance.
    """
    spacing = checked_spacing(spacing_mm)
    tolerances = _tolerances(tolerance_mm, values)
    first, second, (i, j, k) = in_memory_order(reference, prediction)
    turned = (spacing[i], spacing[j], spacing[k])
    counted = tally(first, second, values, threads=threads)

    def score(index: int) -> StructureScores:
        value, overlap = values[index - 1], counted.overlap(index)
        tolerance = tolerances[index - 1]
        comparison = None
        if overlap.status is Status.SCORED:
            box = counted.slices(index)
            comparison = _compare(first[box] == value, second[box] == value, turned, tolerance_mm=tolerance)
        return compose_scores(overlap, comparison, voxel_ml=math.prod(spacing) / 1000, tolerance_mm=tolerance)

    with ThreadPoolExecutor(threads) as pool:
        return dict(zip(values, pool.map(score, range(1, len(values) + 1)), strict=True))


def _compare(reference: Mask, prediction: Mask, spacing_mm: TripleMM, *, tolerance_mm: float) -> Comparison:
    there, back = surface_distances(reference, prediction, spacing_mm)
    boundary = boundary_overlap(reference, prediction, spacing_mm, width_mm=tolerance_mm)
    return Comparison(there, back, boundary, centroid_distance_mm(reference, prediction, spacing_mm))


def confusion_counts(reference: Array, prediction: Array, values: Sequence[int], *, threads: int = 1) -> Counts:
    """Voxels of each pair of values, (len(values) + 1, len(values) + 1), reference by prediction.

    Index 0 is the background, which is every value not in `values`; index n is `values[n - 1]`. Raises
    `ValueError` and `TypeError` as `score_label_maps`.
    """
    first, second, _ = in_memory_order(reference, prediction)
    return tally(first, second, values, threads=threads).counts


def _tolerances(tolerance_mm: float | Mapping[int, float], values: Sequence[int]) -> list[float]:
    tolerances = [tolerance_mm[value] if isinstance(tolerance_mm, Mapping) else tolerance_mm for value in values]
    if not all(0 <= tolerance < math.inf for tolerance in tolerances):
        raise ValueError(f"a tolerance is 0 mm or more: got {tolerances}")
    return tolerances
