"""Readers' agreement as JSON and as a table, for other programs."""

from __future__ import annotations

import math
from collections.abc import Sequence

from delineate.evaluation.cases import or_null
from delineate.evaluation.intervals import CONFIDENCE, FEW_PATIENTS
from delineate.evaluation.observers import SYMMETRIC, CaseAgreement, Comparison, Place

DEFINITIONS = {
    "against": {
        "readers": "each of the other readers, and then the mean",
        "majority": "what more than half of the other readers drew; half is no majority",
        "staple": "STAPLE of the other readers (Warfield, Zou, Wells 2004), where it is 0.5 or more, within 5 mm of "
        "what any of them drew",
    },
    "readers": "mean over cases of the readers' means",
    "reader_means": "each reader against the others, over the cases that this reader read",
    "model": "the model against the same others, with the same weights",
    "difference": "model minus readers",
    "interval": "of the difference: percentile bootstrap, drawing patients with all their cases",
    "percentile": "of how many readers, in per cent, the model is at least as good; ties count half",
    "within_readers": "whether the model's mean is at least as good as the mean of the worst reader",
    "counted": "where one has a structure and the other has not, a figure counts as its worst: 0, or the diagonal of "
    "the case's scan in mm; where neither has it, as perfect; cases in which nobody has it are left out",
    "confidence": CONFIDENCE,
    "few_patients": f"fewer than {FEW_PATIENTS} patients: read an interval with care",
}


def places_json(places: Sequence[Place]) -> dict[str, object]:
    """structure -> what it is compared with -> figure -> the numbers of a `Place`; NaN is null."""
    tree: dict[str, dict[str, dict[str, object]]] = {}
    for place in places:
        tree.setdefault(place.structure, {}).setdefault(place.against.value, {})[place.metric.name] = _place(place)
    return dict(tree)


def agreement_rows(cases: Sequence[CaseAgreement]) -> list[list[str]]:
    """A header, and a row for each case, comparison and structure, as measured; NaN is an empty field."""
    fields = (*(metric.name for metric in SYMMETRIC), "reference_ml", "prediction_ml")
    names = ("others_ml" if f == "reference_ml" else "who_ml" if f == "prediction_ml" else f for f in fields)
    rows = [["case", "patient", "structure", "who", "against", "others", "status", *names, "diagonal_mm"]]
    for case in cases:
        for comparison in case.comparisons:
            rows += _rows(case, comparison, fields)
    return rows


def _rows(case: CaseAgreement, comparison: Comparison, fields: Sequence[str]) -> list[list[str]]:
    others, diagonal = " ".join(comparison.others), f"{comparison.scores.diagonal_mm:.6g}"
    about = [comparison.who, comparison.against.value, others]
    rows = []
    for name, scores in comparison.scores.scores.items():
        values = [float(getattr(scores, field)) for field in fields]
        numbers = ["" if math.isnan(value) else f"{value:.6g}" for value in values]
        rows.append([case.case_id, case.patient_id, name, *about, scores.status.value, *numbers, diagonal])
    return rows


def _place(place: Place) -> dict[str, object]:
    return {
        "cases": place.cases,
        "patients": place.patients,
        "few_patients": place.patients < FEW_PATIENTS,
        "readers": or_null(place.readers),
        "reader_means": {reader: or_null(mean) for reader, mean in place.reader_means.items()},
        "model": or_null(place.model),
        "difference": or_null(place.difference),
        "interval": [or_null(limit) for limit in place.interval],
        "percentile": or_null(place.percentile),
        "within_readers": place.within_readers,
    }
