"""scores.json read back, and on which side of a model's split its cases lie: that decides what its scores are worth."""

from __future__ import annotations

import math
from collections.abc import Collection
from dataclasses import dataclass
from enum import Enum
from pathlib import Path

import msgspec

from delineate.errors import InputError
from delineate.reports.score_parts import (
    AdviceRecord,
    CalibrationRecord,
    ConfusionRecord,
    DefinitionsRecord,
    ErrorsRecord,
    GroupsRecord,
    LabelsRecord,
    LesionsRecord,
    ProvenanceRecord,
    SideRecord,
    Values,
)

_VERSIONS = (2,)
_MOST_REASONS = 4


class MetricRecord(msgspec.Struct, frozen=True):
    """One figure summed up over cases; None where there is no value."""

    mean: float | None = None
    interval: tuple[float | None, float | None] | None = None
    median: float | None = None
    count: int = 0


class StructureRecord(msgspec.Struct, frozen=True):
    """One structure summed up over cases."""

    cases: int = 0
    patients: int = 0
    scored: int = 0
    missed: int = 0
    spurious: int = 0
    absent: int = 0
    failed: int = 0
    few_patients: bool = False
    tolerance_mm: float | None = None
    metrics: dict[str, MetricRecord] = {}
    lesions: LesionsRecord | None = None
    advice: AdviceRecord | None = None


class CaseRecord(msgspec.Struct, frozen=True):
    """One case: means over its structures, and what was measured of each structure."""

    patient: str = ""
    groups: dict[str, str] = {}
    failed: str | None = None
    diagonal_mm: float | None = None
    mean: dict[str, float | None] = {}
    structures: dict[str, Values] = {}

    @property
    def missed(self) -> tuple[str, ...]:
        return self._with("missed")

    @property
    def spurious(self) -> tuple[str, ...]:
        return self._with("spurious")

    def _with(self, status: str) -> tuple[str, ...]:
        return tuple(name for name, scores in self.structures.items() if scores.get("status") == status)


class ReasonRecord(msgspec.Struct, frozen=True):
    """Why a case is bad, guessed from what was measured."""

    words: str = ""
    structure: str | None = None
    cause: str = ""
    value: float | None = None
    unit: str = ""


class WorstRecord(msgspec.Struct, frozen=True):
    """One of the worst cases with its reasons, and where its errors lie, by structure."""

    case: str
    reasons: tuple[ReasonRecord, ...] = ()
    errors: dict[str, ErrorsRecord] = {}


class FilesRecord(msgspec.Struct, frozen=True):
    """Where a case's files lay when it was scored; None if there was none."""

    prediction: str | None = None
    reference: str | None = None
    image: str | None = None


class ScoresRecord(msgspec.Struct, frozen=True):
    """What `delineate evaluate` wrote down. Parts that older files lack are empty."""

    schema_version: int
    structures: dict[str, StructureRecord]
    cases: dict[str, CaseRecord]
    mean: dict[str, float | None] = {}
    mean_interval: dict[str, tuple[float | None, float | None]] = {}
    patients: int = 0
    worst: tuple[WorstRecord, ...] = ()
    files: dict[str, FilesRecord] = {}
    confusion: ConfusionRecord | None = None
    sides: tuple[SideRecord, ...] = ()
    labels: LabelsRecord | None = None
    calibration: dict[str, CalibrationRecord] = {}
    subgroups: GroupsRecord = GroupsRecord()
    definitions: DefinitionsRecord = DefinitionsRecord()
    provenance: ProvenanceRecord = ProvenanceRecord()
    problems: tuple[str, ...] = ()
    remarks: tuple[str, ...] = ()

    @property
    def lowest(self) -> list[tuple[str, CaseRecord]]:
        """Cases that have a Dice, the lowest first."""
        scored = [(case_id, case) for case_id, case in self.cases.items() if case.mean.get("dice") is not None]
        return sorted(scored, key=lambda item: (item[1].mean["dice"], item[0]))

    def reasons(self, case_id: str) -> str:
        """Why a case is bad, in words; "" if nobody looked."""
        found = [reason for worst in self.worst if worst.case == case_id for reason in worst.reasons]
        shown = [
            f"{(r.structure or '').replace('_', ' ')}: {r.words}".removeprefix(": ") for r in found[:_MOST_REASONS]
        ]
        return "; ".join(shown) + (f"; and {len(found) - _MOST_REASONS} more" if len(found) > _MOST_REASONS else "")


def parse_scores(text: str | bytes, path: Path | None = None) -> ScoresRecord:
    """Raises `InputError` for what `delineate evaluate` has not written, or wrote in an older form."""
    remedy = "Score the predictions again with `delineate evaluate`, and give its scores.json."
    try:
        version = msgspec.json.decode(text, type=dict[str, msgspec.Raw]).get("schema_version")
        number = None if version is None else msgspec.json.decode(version, type=int)
        if number not in _VERSIONS:
            got = "none" if number is None else number
            raise InputError(
                "scores of another version",
                expected=f"schema_version {_VERSIONS[-1]}",
                got=got,
                path=path,
                remedy=remedy,
            )
        scores = msgspec.json.decode(text, type=ScoresRecord)
    except msgspec.DecodeError as error:
        raise InputError("scores that cannot be read", got=str(error), path=path, remedy=remedy) from error
    if not scores.cases:
        raise InputError("scores of no case", path=path, remedy=remedy)
    return scores


def number(value: float | None) -> float:
    """NaN for None, which stands for it in JSON."""
    return math.nan if value is None else value


class Standing(Enum):
    """What scores are, by the cases that they were measured on."""

    TRAINING = "Scores on cases that trained the model"
    VALIDATION = "Validation scores"
    TEST = "Test scores"
    UNKNOWN = "Scores on cases of unknown standing"
    FOREIGN = "Scores of another model"


@dataclass(frozen=True, slots=True)
class Standings:
    """The standing of a set of scores, and in words why."""

    standing: Standing
    words: str

    @property
    def is_no_test(self) -> bool:
        return self.standing is not Standing.TEST


def standing_of(
    cases: Collection[str],
    *,
    training: Collection[str],
    validation: Collection[str],
    held_out: Collection[str],
    shared_patients: Collection[str] = (),
) -> Standings:
    """What scores of some cases are worth, given the ids of those that trained a model, chose its weights, or did
    neither. `shared_patients`: patients of these cases who have other cases among those trained on."""
    n = len(cases)
    trained, chose, aside = (len(set(cases) & set(side)) for side in (training, validation, held_out))
    if trained:
        return Standings(
            Standing.TRAINING,
            f"Not a test score: {trained} of {n} cases trained this model. It says how well the cases are remembered, "
            "and nothing about new patients.",
        )
    if shared_patients:
        return Standings(
            Standing.TRAINING,
            f"Not a test score: {len(shared_patients)} patients of these {n} cases have other scans among those that "
            "trained this model.",
        )
    if chose:
        return Standings(
            Standing.VALIDATION,
            f"Not a test score: {chose} of {n} cases chose which weights were kept. It is likely to be too good.",
        )
    if not training:
        return Standings(
            Standing.UNKNOWN,
            "Not shown to be a test score: which cases trained this model was not recorded.",
        )
    if aside == n:
        words = f"All cases ({n}) were set aside, by patient, before planning and training: an internal test."
    else:
        words = (
            f"By their ids, none of these {n} cases trained the model or chose its weights"
            f"{f'; {aside} of them were set aside before training' if aside else ''}. `delineate leakage` compares the "
            "images themselves. Whether they come from other institutions must be stated (external_data)."
        )
    return Standings(Standing.TEST, words)
