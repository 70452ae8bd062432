"""The audit trail as a chain of events: pure functions, and its export, which anybody can check without a database.

The digest of an event is SHA-256 over its fields, each with its length before it, so that no two events have the same
bytes. The digest of the event before it is one of the fields. What that proves, and what not: docs/decisions/0013.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime
from pathlib import Path

import msgspec

from delineate.errors import DelineateError, InputError
from delineate.files import atomic_path
from delineate.review.records import Event
from delineate.review.store.schema import time_text

GENESIS = "0" * 64
_DOMAIN = b"delineate audit trail 1"
_FIELDS = ("number", "made", "person", "action", "case", "facts", "previous", "digest")


def canonical(value: object) -> str:
    """JSON with sorted keys and no blanks: one text for one value. Raises `ValueError` for NaN and infinity."""
    return json.dumps(value, sort_keys=True, ensure_ascii=False, separators=(",", ":"), allow_nan=False)


def content_digest(values: Mapping[str, object]) -> str:
    """SHA-256 of values by name: what an event keeps of a row, so that a change of the row shows."""
    return hashlib.sha256(canonical(values).encode()).hexdigest()


def link_digest(event: Event) -> str:
    """SHA-256 over all fields of an event but its own digest."""
    hashed = hashlib.sha256(_DOMAIN)
    texts = (str(event.number), time_text(event.made), event.person, event.action, event.case, event.facts)
    for text in (*texts, event.previous):
        data = text.encode()
        hashed.update(len(data).to_bytes(8, "big"))
        hashed.update(data)
    return hashed.hexdigest()


def linked(previous: Event | None, made: datetime, person: str, action: str, *, case: str, facts: str) -> Event:
    """The event that comes after `previous`; the first one after None."""
    number, before = (1, GENESIS) if previous is None else (previous.number + 1, previous.digest)
    event = Event(number, made, person, action, case, facts, before, "")
    return Event(number, made, person, action, case, facts, before, link_digest(event))


def broken_links(events: Iterable[Event]) -> Iterator[str]:
    """What is wrong with a trail from its first event on, a sentence each; nothing for a whole one, or an empty one."""
    number, digest = 0, GENESIS
    for event in events:
        if event.number != number + 1:
            yield f"Events {number + 1} to {event.number - 1} are missing from the audit trail."
        elif event.previous != digest:
            yield f"Event {event.number} does not follow from the event before it."
        if link_digest(event) != event.digest:
            yield f"Event {event.number} was changed: it is not what its digest says."
        number, digest = event.number, event.digest


def write_export(path: Path, events: Iterable[Event]) -> int:
    """Write a trail as JSON lines, with a last line that names its end; the number of events.

    Raises `ResourceError` if the file cannot be written.
    """
    count, end = 0, GENESIS
    with atomic_path(path) as temporary, temporary.open("w", encoding="utf-8", newline="\n") as stream:
        for event in events:
            stream.write(canonical(_as_values(event)) + "\n")
            count, end = event.number, event.digest
        stream.write(_end_line(count, end))
    return count


def _as_values(event: Event) -> dict[str, object]:
    values: dict[str, object] = {name: getattr(event, name) for name in _FIELDS}
    return {**values, "made": time_text(event.made)}


def _end_line(count: int, digest: str) -> str:
    return canonical({"end": {"number": count, "digest": digest}}) + "\n"


def verify_export(path: Path) -> tuple[str, ...]:
    """What is wrong with an exported trail, in sentences; none if every byte is as it was written.

    Raises `InputError` for a file that cannot be read.
    """
    try:
        lines = path.read_bytes().split(b"\n")
    except OSError as error:
        raise InputError("the exported trail cannot be read", path=path, got=error.strerror) from error
    problems: list[str] = []
    events = []
    for number, line in enumerate(lines[:-2], 1):
        try:
            events.append(_read_line(line))
        except (ValueError, RecursionError, DelineateError) as error:
            problems.append(f"Line {number} is not as it was written: {error}.")
    problems += broken_links(events)
    last = (events[-1].number, events[-1].digest) if events else (0, GENESIS)
    if lines[-1] != b"" or len(lines) < 2 or lines[-2] != _end_line(*last).rstrip("\n").encode():
        problems.append("The trail does not end as it was written: its last line is missing or names another end.")
    return tuple(problems)


def _read_line(line: bytes) -> Event:
    event = msgspec.convert(json.loads(line.decode()), Event)
    # A byte that JSON does not care about is a changed byte, too.
    if canonical(_as_values(event)).encode() != line:
        raise ValueError("other bytes than its values have")
    return event
