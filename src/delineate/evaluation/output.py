"""An evaluation as JSON and as a table, for other programs."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict

from delineate.evaluation.cases import CaseScores, counted, figures_of, mean_of_case, measured, or_null
from delineate.evaluation.intervals import CONFIDENCE, FEW_PATIENTS
from delineate.evaluation.summaries import PERCENTILES, Evaluation, LesionCounts, StructureSummary, Summary
from delineate.evaluation.worst import WorstCase
from delineate.metrics.choosing import Advice
from delineate.metrics.definitions import METRICS, Metric
from delineate.metrics.lesions import LesionScores

SCHEMA_VERSION = 2

_ALWAYS = frozenset(metric.name for metric in METRICS)

DEFINITIONS = {
    "confidence": CONFIDENCE,
    "mean": "mean over structures of each structure's mean over its cases",
    "interval": "percentile bootstrap of the mean, drawing patients with all their cases",
    "few_patients": f"fewer than {FEW_PATIENTS} patients: read an interval with care",
    "counted": "missed and spurious structures count as a metric's `miss`: 0, or the diagonal of the case's scan in mm"
    "; structures that neither reference nor prediction has are left out",
    "failed": "a case without usable prediction is scored as one in which nothing was found",
    "volumes": "volume errors describe; no score is made of them, because errors of opposite signs cancel",
}


def to_json(evaluation: Evaluation) -> dict[str, object]:
    """The evaluation as plain JSON values; NaN is null. See `Evaluation` for what the numbers mean."""
    metrics = figures_of(evaluation.cases)
    return {
        "schema_version": SCHEMA_VERSION,
        "patients": evaluation.patients,
        "mean": {metric: or_null(value) for metric, value in evaluation.mean.items()},
        "mean_interval": {metric: _limits(pair) for metric, pair in evaluation.intervals.items()},
        "structures": {
            name: _structure_json(summary, evaluation.cases[0].tolerance_mm[name])
            for name, summary in evaluation.structures.items()
        },
        "cases": {case.case_id: case_json(case, metrics) for case in evaluation.cases},
        "failures": {case.case_id: case.failed for case in evaluation.failures},
        "confusion": _confusion_json(evaluation),
        "definitions": {**DEFINITIONS, "metrics": {metric.name: _metric_json(asdict(metric)) for metric in metrics}},
    }


def case_json(case: CaseScores, metrics: Sequence[Metric]) -> dict[str, object]:
    """One case: means of what counts over its structures, and each structure's figures, as measured and as counted."""
    return {
        "patient": case.patient_id,
        "groups": dict(case.groups),
        "failed": case.failed or None,
        "diagonal_mm": case.diagonal_mm,
        "mean": {metric.name: or_null(mean_of_case(case, metric)) for metric in metrics},
        "structures": {name: _structure_of_case(case, name, metrics) for name in case.scores},
    }


def worst_json(worst: WorstCase) -> dict[str, object]:
    """One of the worst cases: its reasons, and where its errors lie."""
    return {
        "case": worst.case.case_id,
        "mean_dice": or_null(worst.mean_dice),
        "reasons": [
            {
                "structure": reason.structure or None,
                "cause": reason.cause.value,
                "words": reason.words,
                "value": or_null(reason.value),
                "unit": reason.unit,
            }
            for reason in worst.reasons
        ],
        "errors": {
            name: {key: or_null(value) for key, value in asdict(errors).items()}
            for name, errors in worst.errors.items()
        },
    }


def csv_rows(evaluation: Evaluation) -> list[list[str]]:
    """A header, and a row for each case and structure, as measured; NaN is an empty field."""
    metrics = figures_of(evaluation.cases)
    groups = sorted({group for case in evaluation.cases for group in case.groups})
    fields = [*(metric.name for metric in metrics), "reference_ml", "prediction_ml", "diagonal_mm"]
    rows = [["case", "patient", "structure", "status", *fields, "failed", *groups]]
    for case in evaluation.cases:
        about = [case.failed, *(case.groups.get(group, "") for group in groups)]
        for name, scores in case.scores.items():
            values = [measured(case, name, metric) for metric in metrics]
            values += [scores.reference_ml, scores.prediction_ml, case.diagonal_mm]
            numbers = ["" if math.isnan(value) else f"{value:.6g}" for value in values]
            rows.append([case.case_id, case.patient_id, name, scores.status.value, *numbers, *about])
    return rows


def _structure_json(summary: StructureSummary, tolerance_mm: float) -> dict[str, object]:
    return {
        "cases": summary.cases,
        "patients": summary.patients,
        "few_patients": summary.patients < FEW_PATIENTS,
        "scored": summary.scored,
        "missed": summary.missed,
        "spurious": summary.spurious,
        "absent": summary.absent,
        "failed": summary.failed,
        "tolerance_mm": tolerance_mm,
        # Of lesions and tubes only where they were asked for.
        "metrics": {
            name: _summary_json(numbers)
            for name, numbers in summary.metrics.items()
            if numbers.count or name in _ALWAYS
        },
        "lesions": None if summary.lesions is None else _counts_json(summary.lesions),
        "advice": None if summary.advice is None else _advice_json(summary.advice),
    }


def _counts_json(counts: LesionCounts) -> dict[str, object]:
    return {
        "cases": counts.cases,
        "lesions": counts.lesions,
        "found": counts.found,
        "missed": counts.missed,
        "false_positives": counts.false_positives,
        "false_positives_a_case": or_null(counts.false_positives_a_case),
    }


def _advice_json(advice: Advice) -> dict[str, object]:
    return {
        "trusted": list(advice.trusted),
        "distrusted": list(advice.distrusted),
        "reasons": [{"doubt": r.doubt.value, "words": r.words, "about": list(r.metrics)} for r in advice.reasons],
    }


def _summary_json(summary: Summary) -> dict[str, object]:
    return {
        "mean": or_null(summary.mean),
        "interval": None if summary.interval is None else _limits(summary.interval),
        "median": or_null(summary.median),
        "std": or_null(summary.std),
        "min": or_null(summary.minimum),
        "max": or_null(summary.maximum),
        **{f"p{p:02}": or_null(value) for p, value in zip(PERCENTILES, summary.percentiles, strict=True)},
        "count": summary.count,
    }


def _structure_of_case(case: CaseScores, name: str, metrics: Sequence[Metric]) -> dict[str, object]:
    """Figures as measured, and in `counted` those that count as something else: of missed and spurious structures."""
    scores, lesions = case.scores[name], case.lesions.get(name)
    values = {metric.name: measured(case, name, metric) for metric in metrics}
    enter = {metric.name: counted(case, name, metric) for metric in metrics}
    return {
        "status": scores.status.value,
        **{key: or_null(value) for key, value in values.items()},
        "reference_ml": scores.reference_ml,
        "prediction_ml": scores.prediction_ml,
        "counted": {key: v for key, v in enter.items() if not math.isnan(v) and v != values[key]},
        **({} if lesions is None else {"lesions": _lesions_json(lesions)}),
    }


def _lesions_json(scores: LesionScores) -> dict[str, object]:
    return {
        "lesions": [
            {"number": one.number, "volume_ml": one.volume_ml, "dice": one.dice, "found": one.found}
            for one in scores.lesions
        ],
        "false_positives_ml": [one.volume_ml for one in scores.wrong],
        "fragments": scores.fragments,
        "ignored": {"references": scores.ignored_references, "predictions": scores.ignored_predictions},
    }


def _confusion_json(evaluation: Evaluation) -> dict[str, object] | None:
    if evaluation.confusion is None:
        return None
    return {"structures": ["background", *evaluation.structures], "voxels": evaluation.confusion.tolist()}


def _metric_json(metric: Mapping[str, object]) -> dict[str, object]:
    return {key: getattr(value, "value", value) for key, value in metric.items() if key != "name"}


def _limits(pair: tuple[float, float]) -> list[float | None]:
    return [or_null(value) for value in pair]
