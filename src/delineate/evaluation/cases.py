"""Scores of one case by the names of its structures, and what each figure counts as."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace

import numpy as np

from delineate.errors import LabelError
from delineate.evaluation.confusions import Counts, check_comparable, confusion, with_values_of
from delineate.metrics import Status, StructureScores, score_label_maps, score_masks
from delineate.metrics.definitions import METRICS, Metric, Miss
from delineate.metrics.lesions import LESION_METRICS, LesionScores
from delineate.metrics.shapes import StructureShape
from delineate.metrics.tubes import TUBE_METRICS, TubeScores
from delineate.volume import Segmentation, leave_out

LESION_FIGURES = tuple(replace(metric, name=f"lesion_{metric.name}") for metric in LESION_METRICS)
"""`LESION_METRICS` under names that no other figure has: lesion_f1, lesion_sensitivity, ..."""


@dataclass(frozen=True, slots=True)
class CaseScores:
    """Scores of one case by the structures' names; `tolerance_mm` of each name's surface Dice.

    `diagonal_mm`: the largest distance within the scan, which a distance counts as where there is nothing to measure
    it to. `groups`: what the case belongs to, e.g. {"site": "A"}. `failed`: why there is no usable prediction; the case
    is then scored as one in which nothing was found. `confusion`: voxels of each pair of structures, as `confusion`
    gives them; None where structures overlap. `lesions`, `tubes`: of the structures for which they were asked;
    `shapes`: of the reference's structures (see `with_details`).
    """

    case_id: str
    patient_id: str
    scores: Mapping[str, StructureScores]
    tolerance_mm: Mapping[str, float]
    diagonal_mm: float
    groups: Mapping[str, str] = field(default_factory=dict)
    failed: str = ""
    confusion: Counts | None = field(default=None, compare=False)
    lesions: Mapping[str, LesionScores] = field(default_factory=dict)
    tubes: Mapping[str, TubeScores] = field(default_factory=dict)
    shapes: Mapping[str, StructureShape] = field(default_factory=dict, compare=False)


def score_case(
    case_id: str,
    reference: Segmentation,
    prediction: Segmentation,
    *,
    tolerance_mm: float | Mapping[str, float] = 2.0,
    patient_id: str | None = None,
    threads: int = 1,
) -> CaseScores:
    """Scores of every structure of one case; structures are matched by name, their values may differ.

    `tolerance_mm`: of the surface Dice, one for all or one for each name. `patient_id`: the case's id if not
    given. Voxels that the reference ignores are background in both. Raises `GeometryMismatch` unless both lie in one
    place, within a tenth of the smallest voxel edge; `LabelError` unless both have the same names, or if a name has no
    tolerance.
    """
    check_comparable(case_id, reference, prediction)
    prediction = leave_out(prediction, reference.ignored)
    tolerances = _tolerances(tolerance_mm, reference.labels.names)
    overlapping = reference.labels.overlaps or prediction.labels.overlaps
    score = _score_overlapping if overlapping else _score_apart
    return CaseScores(
        case_id,
        patient_id or case_id,
        score(reference, prediction, tolerances, threads=threads),
        tolerances,
        diagonal_mm=math.hypot(*reference.grid.extent_mm),
        confusion=None if overlapping else confusion(reference, prediction),
    )


def score_failure(
    case_id: str,
    reference: Segmentation,
    why: str,
    *,
    tolerance_mm: float | Mapping[str, float] = 2.0,
    patient_id: str | None = None,
) -> CaseScores:
    """A case without usable prediction, scored as one in which nothing was found. Raises as `score_case`."""
    nothing = replace(reference, array=np.zeros_like(reference.array))
    case = score_case(case_id, reference, nothing, tolerance_mm=tolerance_mm, patient_id=patient_id)
    return replace(case, failed=why)


def figures_of(cases: Sequence[CaseScores]) -> tuple[Metric, ...]:
    """The figures that some of the cases have: `METRICS`, and those of tubes and lesions where they were asked for."""
    tubes = TUBE_METRICS if any(case.tubes for case in cases) else ()
    lesions = LESION_FIGURES if any(case.lesions for case in cases) else ()
    return (*METRICS, *tubes, *lesions)


def measured(case: CaseScores, structure: str, metric: Metric) -> float:
    """A figure as it was measured; NaN where it has no value, or was not asked for."""
    if metric in LESION_FIGURES:
        lesions = case.lesions.get(structure)
        return math.nan if lesions is None else float(getattr(lesions, metric.name.removeprefix("lesion_")))
    scores = case.tubes.get(structure) if metric in TUBE_METRICS else case.scores[structure]
    return math.nan if scores is None else float(getattr(scores, metric.name))


def counted(case: CaseScores, structure: str, metric: Metric) -> float:
    """A figure as it enters means, intervals and tests.

    The figure itself where reference and prediction have the structure; its worst value (`metric.miss`: 0, or the
    scan's diagonal) where only one of them has. NaN where neither has, where it was not asked for, and where a figure
    that only describes has no value. Figures of lesions are as measured: each lesion that was missed is in them.
    """
    status, value = case.scores[structure].status, measured(case, structure, metric)
    if status is Status.ABSENT or (metric in TUBE_METRICS and structure not in case.tubes):
        return math.nan
    if status is Status.SCORED or metric.miss is Miss.LEFT_OUT or metric in LESION_FIGURES:
        return value
    return 0.0 if metric.miss is Miss.ZERO else case.diagonal_mm


def mean_of_case(case: CaseScores, metric: Metric) -> float:
    """The mean of what counts over the structures that the case has; NaN if it has none."""
    return nanmean([counted(case, name, metric) for name in case.scores])


def nanmean(values: Sequence[float]) -> float:
    """The mean of those that are not NaN; NaN if there are none."""
    defined = [value for value in values if not math.isnan(value)]
    return math.fsum(defined) / len(defined) if defined else math.nan


def or_null(value: float) -> float | None:
    """None for NaN, which JSON has not."""
    return None if math.isnan(value) else float(value)


def _tolerances(tolerance_mm: float | Mapping[str, float], names: Sequence[str]) -> dict[str, float]:
    if not isinstance(tolerance_mm, Mapping):
        return dict.fromkeys(names, float(tolerance_mm))
    missing = [name for name in names if name not in tolerance_mm]
    if missing:
        raise LabelError("structures without a tolerance for the surface Dice", got=missing)
    return {name: float(tolerance_mm[name]) for name in names}


def _score_apart(
    reference: Segmentation, prediction: Segmentation, tolerances: Mapping[str, float], *, threads: int
) -> dict[str, StructureScores]:
    scores = score_label_maps(
        reference.array,
        with_values_of(reference, prediction),
        reference.grid.spacing_mm,
        reference.labels.values,
        tolerance_mm={label.value: tolerances[label.name] for label in reference.labels},
        threads=threads,
    )
    return {label.name: scores[label.value] for label in reference.labels}


def _score_overlapping(
    reference: Segmentation, prediction: Segmentation, tolerances: Mapping[str, float], *, threads: int
) -> dict[str, StructureScores]:
    def score(name: str) -> StructureScores:
        masks = reference.mask(name), prediction.mask(name)
        return score_masks(*masks, reference.grid.spacing_mm, tolerance_mm=tolerances[name])

    with ThreadPoolExecutor(threads) as pool:
        return dict(zip(tolerances, pool.map(score, tolerances), strict=True))
