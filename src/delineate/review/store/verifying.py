"""Holds every row of the store against the audit trail."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import Select, String, select, type_coerce
from sqlalchemy.orm import Session as Work

from delineate.review.records import DamagedStore, Event
from delineate.review.store.database import event_of
from delineate.review.store.decisions import decision_content
from delineate.review.store.edits import edit_content
from delineate.review.store.people import person_content
from delineate.review.store.rows import case_content, standing, words_of
from delineate.review.store.schema import (
    Base,
    CaseRow,
    DecisionRow,
    EditRow,
    EventRow,
    HeadRow,
    PersonRow,
    SnapshotRow,
    StructureRow,
    Time,
)
from delineate.review.store.trail import GENESIS, broken_links

_AT_ONCE = 200
_NO_TIME = datetime.min.replace(tzinfo=UTC)


@dataclass(slots=True)
class _Told:
    """What the trail tells: digests of rows by what names them, and where each case stands."""

    people: dict[str, str] = field(default_factory=dict)
    cases: dict[str, str] = field(default_factory=dict)
    standings: dict[str, Any] = field(default_factory=dict)
    edits: dict[tuple[str, int], str] = field(default_factory=dict)
    decisions: dict[tuple[str, int], str] = field(default_factory=dict)
    snapshots: dict[tuple[str, int], str] = field(default_factory=dict)
    digests: dict[int, str] = field(default_factory=dict)
    last: tuple[int, str] = (0, GENESIS)


def problems_of(work: Work, witness: tuple[int, str] | None) -> Iterator[str]:
    """Sentences about what is not as the trail tells. `witness`: a number and digest that the trail once ended with."""
    told = _Told()
    try:
        yield from _all_problems(work, told, witness)
    except (TypeError, ValueError, AttributeError, LookupError) as error:
        yield f"The database holds what was never stored, and cannot be read to the end: {error!r:.200}."


def _all_problems(work: Work, told: _Told, witness: tuple[int, str] | None) -> Iterator[str]:
    yield from broken_links(_listening(work, told, witness))
    yield from _end_problems(work, told, witness)
    keys = {row.id: row.key for row in work.execute(select(CaseRow.id, CaseRow.key))}
    yield from _people_problems(work, told)
    yield from _case_problems(work, told)
    yield from _edit_problems(work, told, keys)
    yield from _decision_problems(work, told, keys)
    yield from _snapshot_problems(work, told, keys)


def _listening(work: Work, told: _Told, witness: tuple[int, str] | None) -> Iterator[Event]:
    for row in work.scalars(_streamed(select(EventRow).order_by(EventRow.number))):
        event = _event(row)
        _listen(told, event)
        told.last = event.number, event.digest
        if witness is not None and witness[0] == event.number:
            told.digests[event.number] = event.digest
        yield event


def _event(row: EventRow) -> Event:
    try:
        return event_of(row)
    except DamagedStore:
        return Event(row.number, _NO_TIME, row.person, row.action, row.case, row.facts, row.previous, row.digest)


def _streamed(query: Select[Any]) -> Select[Any]:
    return query.execution_options(yield_per=_AT_ONCE)


def _raw(work: Work, table: type[Base]) -> Iterator[Any]:
    """All rows, times as the text that is stored: what was changed may be none."""
    columns = (type_coerce(c, String).label(c.name) if isinstance(c.type, Time) else c for c in table.__table__.c)
    yield from work.execute(_streamed(select(*columns)))


def _content(of: Callable[..., str], *rows: Any) -> str:
    try:
        return of(*rows)
    except (TypeError, ValueError):
        return "what no row ever was"


def _blob_digest(packed: object) -> str:
    return hashlib.sha256(packed).hexdigest() if isinstance(packed, bytes) else "no bytes"


def _listen(told: _Told, event: Event) -> None:
    try:
        facts = json.loads(event.facts)
        content = facts.get("content", "")
        if "standing" in facts:
            told.standings[event.case] = facts["standing"]
        match event.action:
            case "person_added" | "person_changed":
                told.people[facts["name"]] = content
            case "case_added" | "case_replaced":
                told.cases[event.case] = content
            case "edited":
                told.edits[event.case, facts["revision"]] = content
            case "decided":
                told.decisions[event.case, facts["decision"]] = content
            case "snapshot":
                told.snapshots[event.case, facts["revision"]] = facts["digest"]
            case _:
                pass
    except (ValueError, TypeError, KeyError, AttributeError):
        return  # a changed event: the chain says so


def _end_problems(work: Work, told: _Told, witness: tuple[int, str] | None) -> Iterator[str]:
    head = work.get(HeadRow, 1)
    if head is None:
        yield "The record of the audit trail's end is missing from the database."
    elif head.number > told.last[0]:
        yield f"The end of the audit trail is missing: events {told.last[0] + 1} to {head.number}."
    elif (head.number, head.digest) != told.last:
        yield f"The audit trail ends with event {told.last[0]}, the database's record of its end says otherwise."
    if witness is None:
        return
    number, digest = witness
    if number > told.last[0]:
        yield f"The end of the audit trail is missing: it reached event {number}, and ends with {told.last[0]}."
    elif told.digests.get(number) != digest:
        yield f"Event {number} is not the one that was noted beside the database."


def _people_problems(work: Work, told: _Told) -> Iterator[str]:
    found = {row.name: _content(person_content, row) for row in _raw(work, PersonRow)}
    yield from _compared(found, told.people, lambda name: f"The account of {name!r}")


def _case_problems(work: Work, told: _Told) -> Iterator[str]:
    parts: dict[int, list[Any]] = {}
    for part in _raw(work, StructureRow):
        parts.setdefault(part.case_id, []).append(part)
    found = {}
    for row in _raw(work, CaseRow):
        found[row.key] = _content(case_content, row, parts.get(row.id, []))
        if row.key in told.standings and told.standings[row.key] != standing(row):
            yield f"Where case {row.key!r} stands was changed: the audit trail tells of {told.standings[row.key]}."
        if (row.words, row.name_words) != words_of(row.key, row.pseudonym, row.patient_name):
            yield f"What a search finds case {row.key!r} by was changed."
    yield from _compared(found, told.cases, lambda key: f"Case {key!r}")


def _edit_problems(work: Work, told: _Told, keys: dict[int, str]) -> Iterator[str]:
    found = {}
    for row in _raw(work, EditRow):
        where = keys.get(row.case_id, "?"), row.revision
        found[where] = _content(edit_content, row)
        if _blob_digest(row.packed) != row.digest:
            yield f"Edit {row.revision} of case {where[0]!r} was changed: its voxels are not those that were stored."
    yield from _compared(found, told.edits, lambda where: f"Edit {where[1]} of case {where[0]!r}")


def _decision_problems(work: Work, told: _Told, keys: dict[int, str]) -> Iterator[str]:
    rows = _raw(work, DecisionRow)
    found = {(keys.get(row.case_id, "?"), row.id): _content(decision_content, row) for row in rows}
    yield from _compared(found, told.decisions, lambda where: f"Decision {where[1]} about case {where[0]!r}")


def _snapshot_problems(work: Work, told: _Told, keys: dict[int, str]) -> Iterator[str]:
    found = {}
    for row in _raw(work, SnapshotRow):
        found[keys.get(row.case_id, "?"), row.revision] = _blob_digest(row.packed)
        if _blob_digest(row.packed) != row.digest:
            yield f"The snapshot of case {keys.get(row.case_id, '?')!r} at {row.revision} is not what its digest says."
    yield from _compared(found, told.snapshots, lambda where: f"The snapshot of case {where[0]!r} at {where[1]}")


def _compared(found: dict[Any, str], told: dict[Any, str], named: Any) -> Iterator[str]:
    for name in found.keys() - told.keys():
        yield f"{named(name)} is not in the audit trail."
    for name in told.keys() - found.keys():
        yield f"{named(name)} is missing, though the audit trail tells of it."
    for name in found.keys() & told.keys():
        if found[name] != told[name]:
            yield f"{named(name)} was changed: it is not what the audit trail tells."
