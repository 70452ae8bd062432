"""Scores of one case by all candidates of an experiment, as they lie on disk."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import fields

import msgspec

from delineate.evaluation import CaseScores
from delineate.evaluation.rule_finding import Parts
from delineate.evaluation.selecting import Candidate, OutOfFold
from delineate.metrics import Status, StructureScores

_FIGURES = tuple(field.name for field in fields(StructureScores) if field.name != "status")


class StructureRecord(msgspec.Struct, frozen=True, kw_only=True):
    """One structure of one result: figures (null where there is none), and what rules would change.

    `parts`: None where the reference does not say whether the structure is there.
    """

    status: str
    figures: dict[str, float | None]
    parts: Parts | None


class CaseRecord(msgspec.Struct, frozen=True, kw_only=True):
    """One case. `models`: digest of the network of each configuration that made the results; `seconds`: that each took
    for the scan; `total_seconds`: with reading, writing and scoring; `candidates`: structures by name, by candidate."""

    case: str
    patient: str
    diagonal_mm: float
    tolerance_mm: dict[str, float]
    models: dict[str, str]
    seconds: dict[str, float]
    total_seconds: float = 0.0
    candidates: dict[str, dict[str, StructureRecord]]


def structure_record(scores: StructureScores, parts: Parts | None) -> StructureRecord:
    """Scores as they are written down."""
    figures = {name: float(getattr(scores, name)) for name in _FIGURES}
    return StructureRecord(
        status=scores.status.value,
        figures={name: value if math.isfinite(value) else None for name, value in figures.items()},
        parts=parts,
    )


def case_scores(record: CaseRecord, candidate: str) -> CaseScores:
    """The scores of one candidate, as `evaluation` takes them."""
    return CaseScores(
        record.case,
        record.patient,
        {name: _scores(one) for name, one in record.candidates[candidate].items()},
        record.tolerance_mm,
        record.diagonal_mm,
    )


def _scores(record: StructureRecord) -> StructureScores:
    figures = {name: record.figures.get(name) for name in _FIGURES}
    known = {name: math.nan if value is None else value for name, value in figures.items()}
    return StructureScores(**known, status=Status(record.status))


def out_of_fold(records: Sequence[CaseRecord], candidate: Candidate) -> OutOfFold:
    """What a candidate did in all cases, in their order."""
    names = tuple(records[0].candidates[candidate.name])
    parts: Mapping[str, tuple[Parts | None, ...]] = {
        name: tuple(record.candidates[candidate.name][name].parts for record in records) for name in names
    }
    return OutOfFold(candidate, tuple(case_scores(record, candidate.name) for record in records), parts)
