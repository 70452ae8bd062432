"""A ledger of runs: what was done, when, by which plan, how well, in how many seconds. Lines are only ever added."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

import msgspec

from delineate.errors import InputError
from delineate.files import check_writable

NAME = "ledger.jsonl"
FIRST_PART = "first"
"""The key of a part that a run begins with."""

What = Literal["part", "run", "candidate", "choice"]


class Entry(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One line.

    `what`: "part" of a run, from its start or a resumption to a stop; a "run" that reached its end; a "candidate" with
    its scores on cases it was not trained on; the "choice" among candidates. `key`: what makes it another one than an
    entry of the same name: digests of models; of the part that a run begins with, "first". `seconds`: of all parts
    together, of a part for a part alone; `joules`: of the whole machine meanwhile, None where it does not tell. `dice`,
    `interval`: mean over structures of the means over cases, 95 % by patient; `nsd`: the same of surface Dice.
    """

    what: What
    name: str
    key: str
    when: str = ""
    fold: int | None = None
    plan: str = ""
    steps: int | None = None
    seconds: float | None = None
    joules: float | None = None
    dice: float | None = None
    interval: tuple[float, float] | None = None
    nsd: float | None = None
    cases: int | None = None
    patients: int | None = None
    machine: str = ""
    words: str = ""


def add(folder: Path, entry: Entry) -> bool:
    """Add a line, unless the very thing is written down (its name, fold, key and what it is); a part always is new.

    A line that a crash cut off stays, and is ended. Raises `ResourceError` if the disk does not take it.
    """
    path = folder / NAME
    if entry.what != "part" and any(_same(entry, one) for one in read(folder)):
        return False
    check_writable(folder)
    dated = msgspec.structs.replace(entry, when=entry.when or datetime.now(UTC).isoformat(timespec="seconds"))
    line = msgspec.json.encode(dated) + b"\n"
    with path.open("ab") as stream:
        stream.write(line if _is_ended(path) else b"\n" + line)
        stream.flush()
        os.fsync(stream.fileno())
    return True


def read(folder: Path) -> tuple[Entry, ...]:
    """All entries, the oldest first; none where there is no ledger. Lines that a crash cut off are left out."""
    try:
        lines = (folder / NAME).read_bytes().splitlines()
    except (FileNotFoundError, NotADirectoryError):
        return ()
    entries = []
    for line in lines:
        with suppress(msgspec.DecodeError, UnicodeDecodeError):
            entries.append(msgspec.json.decode(line, type=Entry))
    return tuple(entries)


def _same(entry: Entry, other: Entry) -> bool:
    return (entry.what, entry.name, entry.fold, entry.key) == (other.what, other.name, other.fold, other.key)


def _is_ended(path: Path) -> bool:
    with path.open("rb") as stream:
        if not stream.seek(0, os.SEEK_END):
            return True
        stream.seek(-1, os.SEEK_END)
        return stream.read(1) == b"\n"


@dataclass(frozen=True, slots=True)
class LedgerRow:
    """One candidate, or one run of a fold, in a table. `joules`: measured, of `measured_seconds` of its seconds."""

    experiment: str
    name: str
    entry: Entry
    joules: float | None
    measured_seconds: float


def rows_of(folder: Path) -> tuple[LedgerRow, ...]:
    """The last entry of each candidate and run of a folder, with the energy of its parts.

    Raises `InputError` if the folder holds no ledger.
    """
    entries = read(folder)
    if not entries:
        raise InputError(
            "the folder holds no ledger", expected=NAME, path=folder, remedy="Name folders of `delineate experiment`."
        )
    parts: dict[tuple[str, int | None], list[Entry]] = {}
    last: dict[tuple[What, str, int | None], Entry] = {}
    for entry in entries:
        which = entry.name, entry.fold
        if entry.what == "part":
            before = [] if entry.key == FIRST_PART else parts.get(which, [])  # a run that was removed is no part of it
            parts[which] = [*before, entry]
        else:
            last[entry.what, entry.name, entry.fold] = entry
    return tuple(
        _row(folder.resolve().name, entry, parts)
        for _, entry in sorted(last.items(), key=lambda item: (item[0][0] != "choice", item[0][0] == "run"))
    )


def _row(experiment: str, entry: Entry, parts: dict[tuple[str, int | None], list[Entry]]) -> LedgerRow:
    """Of a candidate, the parts of all folds of all its members."""
    members = [entry.name] if entry.what == "run" else entry.name.split("+")
    own = [
        one
        for (name, fold), several in parts.items()
        for one in several
        if name in members and (entry.what != "run" or fold == entry.fold)
    ]
    known = [one for one in own if one.joules is not None]
    joules = sum(one.joules or 0.0 for one in known) if known else None
    return LedgerRow(experiment, entry.name, entry, joules, sum(one.seconds or 0.0 for one in known))


def all_rows(folders: Sequence[Path]) -> tuple[LedgerRow, ...]:
    """The rows of several folders, in their order; of folders with one name, with their paths as names.

    Raises `InputError` as `rows_of`.
    """
    names = Counter(folder.resolve().name for folder in folders)
    return tuple(
        row if names[row.experiment] == 1 else replace(row, experiment=str(folder))
        for folder in folders
        for row in rows_of(folder)
    )
