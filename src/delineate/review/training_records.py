"""DATASET/reviews/CASE.json: which review a training case's labels came from, and who signed it."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from pathlib import Path

import msgspec

from delineate.files import write_text
from delineate.review.records import Decision, ReviewCase

RECORD_VERSION = 1

_FOLDER = "reviews"


class Signature(msgspec.Struct, frozen=True, kw_only=True):
    person: str
    signature: str
    made: datetime
    second: bool


class SignedLabels(msgspec.Struct, frozen=True, kw_only=True):
    """What was signed. `seen`: SHA-256 of the scan and labels at `revision`; `label_sha256`: of the file in labelsTr.

    `structures`: those that hold; `left_out`: the dataset's that were rejected, or that nobody drew.
    """

    revision: int
    seen: str
    signatures: list[Signature]
    structures: list[str]
    left_out: list[str]
    label_sha256: str


class TrainingRecord(msgspec.Struct, frozen=True, kw_only=True):
    """Where a training case came from. `review`: its key there; `patient`: as the dataset calls them; `added`:
    whether its scan came with it, or the case was there without labels; `earlier`: what stood in the dataset before,
    oldest first."""

    version: int = RECORD_VERSION
    case: str
    review: str
    patient: str
    model: str
    model_digest: str
    added: bool
    now: SignedLabels
    earlier: list[SignedLabels] = []


def read_training_record(folder: Path, case_id: str) -> TrainingRecord | None:
    """What is recorded of a case of the dataset in `folder`; None if nothing readable is."""
    try:
        record = msgspec.json.decode(_path(folder, case_id).read_bytes(), type=TrainingRecord)
    except (OSError, msgspec.DecodeError):
        return None
    return record if record.version == RECORD_VERSION else None


def write_training_record(folder: Path, record: TrainingRecord) -> None:
    """Write it, last of all: it says that the case is complete."""
    text = msgspec.json.format(msgspec.json.encode(record), indent=1).decode()
    write_text(_path(folder, record.case), f"{text}\n")


def is_same_review(record: TrainingRecord, case: ReviewCase, signed: SignedLabels) -> bool:
    """Whether the dataset has just these labels of this review already, signed by the same people."""
    now = record.now
    same = (now.seen, now.structures, now.left_out, now.signatures)
    return record.review == case.new.key and same == (
        signed.seen,
        signed.structures,
        signed.left_out,
        signed.signatures,
    )


def signatures_of(decisions: Sequence[Decision]) -> list[Signature]:
    return [
        Signature(person=one.person, signature=one.signature, made=one.made, second=one.second) for one in decisions
    ]


def _path(folder: Path, case_id: str) -> Path:
    return folder / _FOLDER / f"{case_id}.json"
