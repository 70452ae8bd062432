"""Scores of a dataset: cases scored by the names of their structures, then summed up with intervals."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from delineate.errors import GeometryMismatch, LabelError
from delineate.geometry import aligned, largest_distance_mm
from delineate.metrics import Status, StructureScores, confusion_counts, score_label_maps, score_masks
from delineate.volume import Segmentation

METRICS = (
    "dice",
    "iou",
    "surface_dice",
    "hd95_mm",
    "hd_mm",
    "mean_surface_distance_mm",
    "volume_error_ml",
    "volume_error_percent",
)
"""The fields of `StructureScores` that are summed up."""

PERCENTILES = (5, 25, 75, 95)
CONFIDENCE = 0.95
RESAMPLES = 2000

Matrix = npt.NDArray[np.float64]
Counts = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class CaseScores:
    """Scores of one case by the structures' names; `tolerance_mm` of each name's surface Dice."""

    case_id: str
    patient_id: str
    scores: Mapping[str, StructureScores]
    tolerance_mm: Mapping[str, float]


@dataclass(frozen=True, slots=True)
class Summary:
    """One metric over the `count` cases in which it is defined; NaN where there are none.

    `std`: of the population. `percentiles`: values of `PERCENTILES`.
    """

    mean: float
    median: float
    std: float
    minimum: float
    maximum: float
    percentiles: tuple[float, ...]
    count: int


@dataclass(frozen=True, slots=True)
class StructureSummary:
    """One structure over all cases: how many have each status, and a summary of each of `METRICS`.

    Missed and spurious cases count as 0 in Dice, IoU and surface Dice; distances are not defined for them,
    so read a mean distance together with `missed` and `spurious`. Absent cases are left out.
    """

    cases: int
    scored: int
    missed: int
    spurious: int
    absent: int
    metrics: Mapping[str, Summary]


@dataclass(frozen=True, slots=True)
class Evaluation:
    """Scores of a dataset.

    `mean`: of each metric, the mean over the structures of each structure's mean over its cases, so that a
    rare structure weighs as much as a common one. `intervals`: 95 % bootstrap intervals of `mean`, where
    patients are drawn with all their cases; empty if no generator was given.
    """

    mean: Mapping[str, float]
    intervals: Mapping[str, tuple[float, float]]
    structures: Mapping[str, StructureSummary]
    cases: tuple[CaseScores, ...]


@dataclass(frozen=True, slots=True)
class SideConfusion:
    """Voxels of one left/right pair that got the other side's label."""

    left: str
    right: str
    left_as_right: int
    right_as_left: int


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
    given. Raises `GeometryMismatch` unless both lie in one place, within a tenth of the smallest voxel edge;
    `LabelError` unless both have the same names, or if a name has no tolerance.
    """
    _check_same_space(case_id, reference, prediction)
    _check_same_names(case_id, reference, prediction)
    names = reference.labels.names
    tolerances = _tolerances(tolerance_mm, names)
    overlapping = reference.labels.overlaps or prediction.labels.overlaps
    score = _score_overlapping if overlapping else _score_apart
    scores = score(reference, prediction, tolerances, threads=threads)
    return CaseScores(case_id, patient_id or case_id, scores, tolerances)


def summarise(
    cases: Sequence[CaseScores], *, generator: np.random.Generator | None = None, resamples: int = RESAMPLES
) -> Evaluation:
    """Sum up cases by structure, with bootstrap intervals of the overall means if a generator is given.

    Raises `ValueError` for no cases or a case id given twice; `LabelError` if the cases' structures differ.
    """
    _check_cases(cases)
    names = tuple(cases[0].scores)
    structures = {name: _summarise_structure([case.scores[name] for case in cases]) for name in names}
    mean = {metric: _nanmean([structures[name].metrics[metric].mean for name in names]) for metric in METRICS}
    intervals = {} if generator is None else _intervals(cases, generator, resamples=resamples)
    return Evaluation(mean, intervals, structures, tuple(cases))


def confusion(reference: Segmentation, prediction: Segmentation) -> Counts:
    """Voxels of each pair of structures, (L + 1, L + 1), reference by prediction; 0 is background.

    Index n is the reference's n-th label. Raises as `score_case`, and `LabelError` where structures overlap,
    because a voxel then has no single label.
    """
    _check_same_space(None, reference, prediction)
    _check_same_names(None, reference, prediction)
    if reference.labels.overlaps or prediction.labels.overlaps:
        raise LabelError("a confusion matrix needs label maps", got="structures that may overlap")
    return confusion_counts(reference.array, _with_values_of(reference, prediction), reference.labels.values)


def left_right_confusion(reference: Segmentation, prediction: Segmentation) -> tuple[SideConfusion, ...]:
    """For each left/right pair of labels, the voxels that got the other side's. Raises as `confusion`."""
    counts = confusion(reference, prediction)
    index = {name: n for n, name in enumerate(reference.labels.names, start=1)}
    return tuple(
        SideConfusion(left, right, int(counts[index[left], index[right]]), int(counts[index[right], index[left]]))
        for left, right in reference.labels.pairs
    )


def to_json(evaluation: Evaluation) -> dict[str, object]:
    """The evaluation as plain JSON values; NaN is null. See `Evaluation` for what the numbers mean."""
    tolerance_mm = dict(evaluation.cases[0].tolerance_mm)
    return {
        "mean": {metric: _or_null(value) for metric, value in evaluation.mean.items()},
        "mean_interval": {metric: [_or_null(v) for v in pair] for metric, pair in evaluation.intervals.items()},
        "structures": {name: _structure_json(summary) for name, summary in evaluation.structures.items()},
        "cases": {
            case.case_id: {name: _scores_json(scores) for name, scores in case.scores.items()}
            for case in evaluation.cases
        },
        "definitions": {"tolerance_mm": tolerance_mm, **DEFINITIONS},
    }


DEFINITIONS = {
    "confidence": CONFIDENCE,
    "mean": "mean over structures of each structure's mean over its cases",
    "mean_interval": "percentile bootstrap, drawing patients",
    "overlap": "missed and spurious structures count as 0; absent ones are left out",
    "distances": "over the cases in which both reference and prediction have the structure (count)",
    "hd95_mm": "larger of the two directions' 95th percentiles by surface area",
    "surface_dice": "share of both surfaces' area within tolerance_mm of the other surface",
    "mean_surface_distance_mm": "average over the area of both surfaces together",
    "volume_error_ml": "prediction minus reference",
    "volume_error_percent": "of the reference's volume",
}


def csv_rows(evaluation: Evaluation) -> list[list[str]]:
    """A header, and a row for each case and structure; NaN is an empty field."""
    fields = (*METRICS, "reference_ml", "prediction_ml")
    rows = [["case", "patient", "structure", "status", *fields]]
    for case in evaluation.cases:
        for name, scores in case.scores.items():
            values = [float(getattr(scores, field)) for field in fields]
            numbers = ["" if math.isnan(value) else f"{value:.6g}" for value in values]
            rows.append([case.case_id, case.patient_id, name, scores.status.value, *numbers])
    return rows


def _check_same_space(case_id: str | None, reference: Segmentation, prediction: Segmentation) -> None:
    if aligned(reference.grid, prediction.grid):
        return
    distance_mm = largest_distance_mm(reference.grid, prediction.grid)
    shapes = reference.grid.shape, prediction.grid.shape
    raise GeometryMismatch(
        "reference and prediction do not lie in the same place",
        expected=f"shape {shapes[0]}, voxels within a tenth of a voxel",
        got=f"shape {shapes[1]}" if shapes[0] != shapes[1] else f"voxels up to {distance_mm:.3g} mm apart",
        case=case_id,
        remedy="Bring the prediction back to the scan's own grid before it is scored.",
    )


def _check_same_names(case_id: str | None, reference: Segmentation, prediction: Segmentation) -> None:
    if set(reference.labels.names) != set(prediction.labels.names):
        raise LabelError(
            "reference and prediction have different structures",
            expected=sorted(reference.labels.names),
            got=sorted(prediction.labels.names),
            case=case_id,
            remedy="Give both the same names.",
        )


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
        _with_values_of(reference, prediction),
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


def _with_values_of(reference: Segmentation, prediction: Segmentation) -> npt.NDArray[np.unsignedinteger]:
    """The prediction's label map with the reference's value for each name."""
    named = {label.name: label.value for label in reference.labels}
    new_values = {label.value: named[label.name] for label in prediction.labels}
    if all(old == new for old, new in new_values.items()):
        return prediction.array
    table = np.zeros(int(max(prediction.array.max(), *new_values)) + 1, dtype=np.uint32)
    table[list(new_values)] = list(new_values.values())
    renamed: npt.NDArray[np.unsignedinteger] = table[prediction.array]
    return renamed


def _check_cases(cases: Sequence[CaseScores]) -> None:
    if not cases:
        raise ValueError("no cases to sum up")
    twice = [case_id for case_id, n in Counter(case.case_id for case in cases).items() if n > 1]
    if twice:
        raise ValueError(f"cases given twice: {twice}")
    first = cases[0]
    for case in cases:
        if set(case.scores) != set(first.scores) or case.tolerance_mm != first.tolerance_mm:
            raise LabelError(
                "cases differ in their structures or tolerances",
                expected=dict(first.tolerance_mm),
                got=dict(case.tolerance_mm),
                case=case.case_id,
                remedy="Score all cases with the same labels and tolerances.",
            )


def _summarise_structure(scores: Sequence[StructureScores]) -> StructureSummary:
    statuses = Counter(score.status for score in scores)
    table = np.array([_metric_row(score) for score in scores])
    return StructureSummary(
        cases=len(scores),
        scored=statuses[Status.SCORED],
        missed=statuses[Status.MISSED],
        spurious=statuses[Status.SPURIOUS],
        absent=statuses[Status.ABSENT],
        metrics={metric: _summarise_metric(table[:, n]) for n, metric in enumerate(METRICS)},
    )


def _metric_row(scores: StructureScores) -> list[float]:
    if scores.status is Status.ABSENT:
        return [math.nan] * len(METRICS)
    return [float(getattr(scores, metric)) for metric in METRICS]


def _summarise_metric(values: Matrix) -> Summary:
    defined = values[~np.isnan(values)]
    if not defined.size:
        nan = math.nan
        return Summary(nan, nan, nan, nan, nan, percentiles=(nan,) * len(PERCENTILES), count=0)
    return Summary(
        mean=float(defined.mean()),
        median=float(np.median(defined)),
        std=float(defined.std()),
        minimum=float(defined.min()),
        maximum=float(defined.max()),
        percentiles=tuple(np.percentile(defined, PERCENTILES).tolist()),
        count=int(defined.size),
    )


def _intervals(
    cases: Sequence[CaseScores], generator: np.random.Generator, *, resamples: int
) -> dict[str, tuple[float, float]]:
    patients = sorted({case.patient_id for case in cases})
    names = tuple(cases[0].scores)
    shape = (len(patients), len(names), len(METRICS))
    sums, counts = np.zeros(shape), np.zeros(shape)
    for case in cases:
        rows = np.array([_metric_row(case.scores[name]) for name in names])
        sums[patients.index(case.patient_id)] += np.nan_to_num(rows)
        counts[patients.index(case.patient_id)] += ~np.isnan(rows)
    # How often each patient is drawn says all that a resample is.
    draws = generator.multinomial(len(patients), np.full(len(patients), 1 / len(patients)), size=resamples)
    structure_means = _divide(np.tensordot(draws, sums, axes=1), np.tensordot(draws, counts, axes=1))
    defined = ~np.isnan(structure_means)
    means = _divide(np.nan_to_num(structure_means).sum(axis=1), defined.sum(axis=1))
    return {metric: _interval(means[:, n]) for n, metric in enumerate(METRICS)}


def _divide(sums: Matrix, counts: npt.NDArray[np.number]) -> Matrix:
    ratio: Matrix = np.divide(sums, counts, out=np.full(sums.shape, np.nan), where=counts > 0)
    return ratio


def _interval(means: Matrix) -> tuple[float, float]:
    defined = means[~np.isnan(means)]
    if not defined.size:
        return math.nan, math.nan
    low, high = np.quantile(defined, ((1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2))
    return float(low), float(high)


def _nanmean(values: Sequence[float]) -> float:
    defined = [value for value in values if not math.isnan(value)]
    return math.fsum(defined) / len(defined) if defined else math.nan


def _structure_json(summary: StructureSummary) -> dict[str, object]:
    statuses = {
        "cases": summary.cases,
        "scored": summary.scored,
        "missed": summary.missed,
        "spurious": summary.spurious,
        "absent": summary.absent,
    }
    return {metric: {**_summary_json(numbers), **statuses} for metric, numbers in summary.metrics.items()}


def _summary_json(summary: Summary) -> dict[str, object]:
    return {
        "mean": _or_null(summary.mean),
        "median": _or_null(summary.median),
        "std": _or_null(summary.std),
        "min": _or_null(summary.minimum),
        "max": _or_null(summary.maximum),
        **{f"p{p:02}": _or_null(value) for p, value in zip(PERCENTILES, summary.percentiles, strict=True)},
        "count": summary.count,
    }


def _scores_json(scores: StructureScores) -> dict[str, object]:
    numbers = {field: _or_null(getattr(scores, field)) for field in (*METRICS, "reference_ml", "prediction_ml")}
    return {**numbers, "status": scores.status.value}


def _or_null(value: float) -> float | None:
    return None if math.isnan(value) else float(value)
