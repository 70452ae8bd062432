"""Rows of cases as values, and values as rows."""

from __future__ import annotations

from pathlib import Path

import msgspec
from sqlalchemy import Select, select
from sqlalchemy.orm import Session as Work

from delineate.errors import InputError
from delineate.review.records import NewCase, NotAllowed, Person, ReviewCase, Role, State, Structure
from delineate.review.store.database import Writing
from delineate.review.store.schema import CaseRow, StructureRow, column_values
from delineate.review.store.texts import checked_number, checked_text, search_words
from delineate.review.store.trail import canonical, content_digest

_KEY_LENGTH = 200
_TEXTS = ("collection", "pseudonym", "patient_name", "digest", "model", "model_digest", "date", "site", "scanner")
_CONTENT = (
    *("key", "collection", "pseudonym", "patient_name", "scan", "segmentation", "digest", "overlaps", "reference"),
    *("model", "model_digest", "date", "site", "scanner", "warnings", "priority", "priority_reasons"),
)
_STRUCTURE = ("value", "name", "red", "green", "blue", "volume_ml", "agreement")
_STANDING = ("state", "revision", "reader", "second_reader", "decided")


def case_row(new: NewCase) -> CaseRow:
    """A row without id for a new case. Raises `InputError` for texts that no database holds."""
    words, name_words = words_of(new.key, new.pseudonym, new.patient_name)
    checked_text(new.key, "a case's key", longest=_KEY_LENGTH, empty=False)
    for name in _TEXTS:
        checked_text(getattr(new, name), f"a case's {name.replace('_', ' ')}", longest=1000)
    return CaseRow(
        **{name: getattr(new, name) for name in _TEXTS},
        key=new.key,
        scan=str(new.scan),
        segmentation=str(new.segmentation),
        overlaps=new.overlaps,
        reference=None if new.reference is None else str(new.reference),
        warnings=canonical([checked_text(text, "a warning") for text in new.warnings]),
        priority=float(new.priority),
        priority_reasons=canonical([checked_text(text, "a reason") for text in new.priority_reasons]),
        words=words,
        name_words=name_words,
        state=State.UNREVIEWED.value,
        revision=0,
        seconds=0.0,
    )


def words_of(key: str, pseudonym: str, patient_name: str) -> tuple[str, str]:
    """What a case is found by: of all who may see it, and of those only who see patients' names."""
    return search_words(key, pseudonym), search_words(patient_name)


def structure_rows(case_id: int, structures: tuple[Structure, ...]) -> list[StructureRow]:
    return [
        StructureRow(
            case_id=case_id,
            value=checked_number(s.value, "a structure's value"),
            name=checked_text(s.name, "a structure's name", longest=500),
            red=s.colour[0],
            green=s.colour[1],
            blue=s.colour[2],
            volume_ml=float(s.volume_ml),
            agreement=None if s.agreement is None else float(s.agreement),
        )
        for s in structures
    ]


def case_content(row: CaseRow, structures: list[StructureRow]) -> str:
    """The digest of what was taken into the worklist, as the audit trail holds it."""
    parts = [column_values(s, *_STRUCTURE) for s in sorted(structures, key=lambda s: s.value)]
    return content_digest({**column_values(row, *_CONTENT), "structures": parts})


def standing(row: CaseRow) -> dict[str, object]:
    """Where a case stands, as the audit trail holds it with each event that moves it."""
    return column_values(row, *_STANDING)


def note(writing: Writing, person: Person | str, action: str, row: CaseRow, **facts: object) -> None:
    """Append an event about a case, with where it stands now."""
    writing.note(person, action, row.key, {**facts, "standing": standing(row)})


def as_case(row: CaseRow, structures: list[StructureRow]) -> ReviewCase:
    new = NewCase(
        key=row.key,
        collection=row.collection,
        pseudonym=row.pseudonym,
        scan=Path(row.scan),
        segmentation=Path(row.segmentation),
        digest=row.digest,
        structures=tuple(_structure(s) for s in structures),
        overlaps=row.overlaps,
        patient_name=row.patient_name,
        reference=None if row.reference is None else Path(row.reference),
        model=row.model,
        model_digest=row.model_digest,
        date=row.date,
        site=row.site,
        scanner=row.scanner,
        warnings=msgspec.json.decode(row.warnings, type=tuple[str, ...]),
        priority=row.priority,
        priority_reasons=msgspec.json.decode(row.priority_reasons, type=tuple[str, ...]),
    )
    where = State(row.state), row.revision, row.reader, row.second_reader, row.seconds, row.decided
    return ReviewCase(row.id, new, *where)


def _structure(row: StructureRow) -> Structure:
    return Structure(row.value, row.name, (row.red, row.green, row.blue), row.volume_ml, row.agreement)


def cases_of(work: Work, rows: list[CaseRow]) -> tuple[ReviewCase, ...]:
    """Cases with their structures, which are read for many at once."""
    of: dict[int, list[StructureRow]] = {row.id: [] for row in rows}
    ids = list(of)
    for start in range(0, len(ids), 1000):
        wanted = select(StructureRow).where(StructureRow.case_id.in_(ids[start : start + 1000]))
        for structure in work.scalars(wanted.order_by(StructureRow.case_id, StructureRow.value)):
            of[structure.case_id].append(structure)
    return tuple(as_case(row, of[row.id]) for row in rows)


def row_of(work: Work, case_id: int) -> CaseRow:
    """The row of a case. Raises `InputError` if there is none."""
    row = work.get(CaseRow, checked_number(case_id, "a case's number"))
    if row is None:
        raise InputError("no such case", got=case_id)
    return row


def sees(person: Person, collection: str) -> bool:
    """Whether a person may see the cases of a collection."""
    everything = person.role is Role.ADMIN or person.collections is None
    return person.active and (everything or collection in (person.collections or ()))


def check_sees(person: Person, row: CaseRow) -> None:
    """Raises `NotAllowed` if the person may not see the case."""
    if not sees(person, row.collection):
        raise NotAllowed("this user may not see the case", case=row.key)


def only_seen(query: Select[CaseRow], person: Person) -> Select[CaseRow]:
    """The same query for what a person may see."""
    if not person.active:
        return query.where(CaseRow.id < 0)
    if person.role is Role.ADMIN or person.collections is None:
        return query
    return query.where(CaseRow.collection.in_(person.collections))
