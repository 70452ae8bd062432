"""An evaluation as JSON and as a table, for other programs."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict

from delineate.evaluation.cases import CaseScores, counted, mean_of_case
from delineate.evaluation.intervals import CONFIDENCE, FEW_PATIENTS
from delineate.evaluation.summaries import PERCENTILES, Evaluation, StructureSummary, Summary
from delineate.metrics import Status, StructureScores
from delineate.metrics.definitions import METRICS

SCHEMA_VERSION = 2

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
    return {
        "schema_version": SCHEMA_VERSION,
        "patients": evaluation.patients,
        "mean": {metric: _or_null(value) for metric, value in evaluation.mean.items()},
        "mean_interval": {metric: _limits(pair) for metric, pair in evaluation.intervals.items()},
        "structures": {
            name: _structure_json(summary, evaluation.cases[0].tolerance_mm[name])
            for name, summary in evaluation.structures.items()
        },
        "cases": {case.case_id: case_json(case) for case in evaluation.cases},
        "failures": {case.case_id: case.failed for case in evaluation.failures},
        "confusion": _confusion_json(evaluation),
        "definitions": {**DEFINITIONS, "metrics": {metric.name: _metric_json(asdict(metric)) for metric in METRICS}},
    }


def case_json(case: CaseScores) -> dict[str, object]:
    """One case: means of what counts over its structures, and each structure's figures, as measured and as counted."""
    return {
        "patient": case.patient_id,
        "groups": dict(case.groups),
        "failed": case.failed or None,
        "diagonal_mm": case.diagonal_mm,
        "mean": {metric.name: _or_null(mean_of_case(case, metric)) for metric in METRICS},
        "structures": {
            name: {**_scores_json(case.scores[name]), "counted": _counted(case, name)} for name in case.scores
        },
    }


def csv_rows(evaluation: Evaluation) -> list[list[str]]:
    """A header, and a row for each case and structure, as measured; NaN is an empty field."""
    fields = (*(metric.name for metric in METRICS), "reference_ml", "prediction_ml")
    groups = sorted({group for case in evaluation.cases for group in case.groups})
    rows = [["case", "patient", "structure", "status", *fields, "diagonal_mm", "failed", *groups]]
    for case in evaluation.cases:
        about = [f"{case.diagonal_mm:.6g}", case.failed, *(case.groups.get(group, "") for group in groups)]
        for name, scores in case.scores.items():
            values = [float(getattr(scores, field)) for field in fields]
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
        "metrics": {metric: _summary_json(numbers) for metric, numbers in summary.metrics.items()},
    }


def _summary_json(summary: Summary) -> dict[str, object]:
    return {
        "mean": _or_null(summary.mean),
        "interval": None if summary.interval is None else _limits(summary.interval),
        "median": _or_null(summary.median),
        "std": _or_null(summary.std),
        "min": _or_null(summary.minimum),
        "max": _or_null(summary.maximum),
        **{f"p{p:02}": _or_null(value) for p, value in zip(PERCENTILES, summary.percentiles, strict=True)},
        "count": summary.count,
    }


def _scores_json(scores: StructureScores) -> dict[str, object]:
    fields = (*(metric.name for metric in METRICS), "reference_ml", "prediction_ml")
    return {"status": scores.status.value, **{field: _or_null(getattr(scores, field)) for field in fields}}


def _counted(case: CaseScores, name: str) -> dict[str, float]:
    """The figures that count as something else than was measured: of missed and spurious structures."""
    if case.scores[name].status in (Status.SCORED, Status.ABSENT):
        return {}
    values = {metric.name: counted(case, name, metric) for metric in METRICS}
    return {name: value for name, value in values.items() if not math.isnan(value)}


def _confusion_json(evaluation: Evaluation) -> dict[str, object] | None:
    if evaluation.confusion is None:
        return None
    return {"structures": ["background", *evaluation.structures], "voxels": evaluation.confusion.tolist()}


def _metric_json(metric: Mapping[str, object]) -> dict[str, object]:
    return {key: getattr(value, "value", value) for key, value in metric.items() if key != "name"}


def _limits(pair: tuple[float, float]) -> list[float | None]:
    return [_or_null(value) for value in pair]


def _or_null(value: float) -> float | None:
    return None if math.isnan(value) else float(value)
