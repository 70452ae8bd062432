"""CASE.review.json: who decided what about the files beside it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Container, Mapping, Sequence
from datetime import datetime
from importlib.metadata import version
from pathlib import Path

import msgspec

from delineate.dataset import fingerprint_file
from delineate.files import write_text
from delineate.formats.dicom_results.approval import Approval
from delineate.review.records import Decision, EditRecord, ReviewCase

SCHEMA_VERSION = 1


class DecisionRecord(msgspec.Struct, frozen=True, kw_only=True):
    """A decision as it was signed. `structure`: its name, "" for the whole."""

    person: str
    signature: str
    verdict: str
    structure: str
    reason: str
    revision: int
    seen: str
    made: datetime
    second: bool


class EditCount(msgspec.Struct, frozen=True, kw_only=True):
    """How often a person used a tool; undone edits and the undoing itself count as well."""

    person: str
    tool: str
    count: int


class FileRecord(msgspec.Struct, frozen=True, kw_only=True):
    name: str
    sha256: str


class ReviewRecord(msgspec.Struct, frozen=True, kw_only=True):
    """What stands in CASE.review.json. `approved`: whether the files hold what the signers saw; `seen`: SHA-256 of it.

    `structures`: by name, how each was made, in DICOM's words: AUTOMATIC, SEMIAUTOMATIC or MANUAL; `values`: by name,
    what stands for it in label maps, which may have no place for names.
    """

    case: str
    pseudonym: str
    model: str
    model_digest: str
    approved: bool
    state: str
    decision: str
    signers: list[str]
    revision: int
    seen: str
    structures: dict[str, str]
    values: dict[str, int] = {}
    decisions: list[DecisionRecord]
    edits: list[EditCount]
    files: list[FileRecord]
    made_with: str
    schema_version: int = SCHEMA_VERSION


def write_review(
    stem: Path,
    case: ReviewCase,
    approval: Approval,
    *,
    decisions: Sequence[Decision],
    edits: Sequence[EditRecord],
    files: Mapping[str, Path],
) -> Path:
    """Write STEM.review.json, atomically; its path. `files`: those that were just written, by name.

    It speaks of them, and of those that were exported before of the same that was seen, where they are as they were.
    """
    target = stem.with_name(f"{stem.name}.review.json")
    names = {structure.value: structure.name for structure in case.new.structures}
    counts = Counter((edit.person, edit.tool) for edit in edits)
    record = ReviewRecord(
        case=case.new.key,
        pseudonym=case.new.pseudonym,
        model=case.new.model,
        model_digest=case.new.model_digest,
        approved=bool(approval.signers),
        state=case.state.value,
        decision=approval.decision,
        signers=[signer.name for signer in approval.signers],
        revision=case.revision,
        seen=approval.seen,
        structures={name: kind.value for name, kind in approval.kinds.items()},
        values={name: value for value, name in names.items()},
        decisions=[_record(decision, names) for decision in decisions],
        edits=[EditCount(person=who, tool=tool, count=count) for (who, tool), count in sorted(counts.items())],
        files=[
            *_standing(target, case.revision, approval, but=files),
            *(FileRecord(name=name, sha256=fingerprint_file(path)) for name, path in files.items()),
        ],
        made_with=f"delineate {version('delineate')}",
    )
    write_text(target, msgspec.json.format(msgspec.json.encode(record), indent=2).decode() + "\n")
    return target


def _standing(target: Path, revision: int, approval: Approval, *, but: Container[str]) -> list[FileRecord]:
    """Files of the record at `target` that still are what it says, if it is about the same."""
    try:
        older = msgspec.json.decode(target.read_bytes(), type=ReviewRecord)
    except (OSError, msgspec.DecodeError):
        return []
    signers = [signer.name for signer in approval.signers]
    if (older.revision, older.seen, older.signers) != (revision, approval.seen, signers):
        return []
    paths = {file: target.with_name(Path(file.name).name) for file in older.files if file.name not in but}
    return [file for file, path in paths.items() if path.is_file() and fingerprint_file(path) == file.sha256]


def _record(decision: Decision, names: Mapping[int, str]) -> DecisionRecord:
    return DecisionRecord(
        person=decision.person,
        signature=decision.signature,
        verdict=decision.verdict.value,
        structure="" if decision.structure is None else names.get(decision.structure, f"value {decision.structure}"),
        reason=decision.reason,
        revision=decision.revision,
        seen=decision.seen,
        made=decision.made,
        second=decision.second,
    )
