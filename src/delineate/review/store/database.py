"""A database and its transactions: every change comes with its event, or does not come at all."""

from __future__ import annotations

import os
import sqlite3
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Engine, create_engine, event, make_url, select
from sqlalchemy.exc import ArgumentError, DBAPIError, OperationalError
from sqlalchemy.orm import Session as Work

from delineate.errors import InputError, ResourceError
from delineate.review.records import Event, Person
from delineate.review.store.schema import EventRow, HeadRow, time_of, time_text
from delineate.review.store.trail import canonical, linked
from delineate.review.store.witness import Witness

_BUSY_SECONDS = 30


@dataclass(slots=True)
class Writing:
    """A transaction that changes something. `now`: the one time of all that it writes."""

    work: Work
    now: datetime
    head: HeadRow
    last: Event | None = None

    def note(self, person: Person | str, action: str, case: str, facts: Mapping[str, object]) -> Event:
        """Append an event to the audit trail; it is there if and only if all else of the transaction is."""
        name = person if isinstance(person, str) else person.name
        before = Event(self.head.number, self.now, "", "", "", "", "", self.head.digest)
        new = linked(before, self.now, name, action, case=case, facts=canonical(facts))
        self.work.add(event_row(new))
        self.head.number, self.head.digest = new.number, new.digest
        self.last = new
        return new


class Database:
    """An engine with tables that are up to date. `witness`: where the end of the audit trail is kept as well."""

    def __init__(self, engine: Engine, witness: Witness | None) -> None:
        # All that one answer is made of is of one moment; SQLite does it by itself.
        self._engine = engine.execution_options(**_one_moment(engine))
        self._writing_engine = engine.execution_options(write=True)
        self._witness = witness
        # Writers of SQLite look again and again whether it is their turn, up to a tenth of a second apart: threads of
        # one process need not. PostgreSQL has a queue.
        self._turn = threading.Lock() if engine.dialect.name == "sqlite" else nullcontext()

    @contextmanager
    def reading(self) -> Iterator[Work]:
        """A transaction that sees one moment of the database and changes nothing."""
        with explained_errors(), Work(self._engine) as work:
            yield work

    @contextmanager
    def writing(self) -> Iterator[Writing]:
        """A transaction that appends to the audit trail: one at a time, in all processes.

        Raises `ResourceError` if the database cannot be reached or written, or is busy for too long.
        """
        with explained_errors(), self._turn:
            with Work(self._writing_engine, expire_on_commit=False) as work, work.begin():
                # Before any other row, so that two writers cannot wait for each other.
                head = work.scalars(select(HeadRow).where(HeadRow.id == 1).with_for_update()).one()
                writing = Writing(work, datetime.now(UTC), head)
                yield writing
            if writing.last is not None and self._witness is not None:
                self._witness.write(writing.last.number, writing.last.digest)

    @contextmanager
    def touching(self) -> Iterator[Writing]:
        """A transaction for what is no part of the audit trail, such as who is there at the moment."""
        with (
            explained_errors(),
            self._turn,
            Work(self._writing_engine, expire_on_commit=False) as work,
            work.begin(),
        ):
            yield Writing(work, datetime.now(UTC), HeadRow(id=0, number=0, digest=""))

    def close(self) -> None:
        """Close all connections."""
        self._engine.dispose()


def _one_moment(engine: Engine) -> dict[str, str]:
    return {"isolation_level": "REPEATABLE READ"} if engine.dialect.name == "postgresql" else {}


def event_row(new: Event) -> EventRow:
    return EventRow(
        number=new.number,
        made=time_text(new.made),
        person=new.person,
        action=new.action,
        case=new.case,
        facts=new.facts,
        previous=new.previous,
        digest=new.digest,
    )


def event_of(row: EventRow) -> Event:
    """The event of a row. Raises `DamagedStore` if its time is none."""
    return Event(row.number, time_of(row.made), row.person, row.action, row.case, row.facts, row.previous, row.digest)


def make_engine(url: str) -> Engine:
    """An engine for `sqlite:///PATH` or `postgresql+psycopg://...`, set so that what is acknowledged is on the disk.

    Raises `InputError` for a URL of another kind, `ResourceError` if PostgreSQL's driver is not installed.
    """
    try:
        parsed = make_url(url)
        kind = parsed.get_backend_name()
    except ArgumentError as error:
        raise InputError("not the URL of a database", expected=_URLS) from error
    if kind not in ("sqlite", "postgresql"):
        raise InputError("not a database that review can use", expected=_URLS, got=kind)
    if kind == "sqlite":
        return _sqlite(url, parsed.database)
    try:
        if parsed.drivername == "postgresql":
            parsed = parsed.set(drivername="postgresql+psycopg")
        return create_engine(parsed, pool_size=10, max_overflow=30, pool_pre_ping=True)
    except ImportError as error:
        remedy = "Install it: pip install 'delineate[postgresql]'."
        raise ResourceError("PostgreSQL's driver is not installed", remedy=remedy) from error


_URLS = "sqlite:///PATH or postgresql+psycopg://USER:PASSWORD@HOST/NAME"


def _sqlite(url: str, database: str | None) -> Engine:
    if not database or database == ":memory:":
        raise InputError("review needs a database that stays", expected="sqlite:///PATH", got=url)
    try:
        Path(database).parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        # The files beside it get its permissions. It holds patients' names and hashes of passwords.
        os.close(os.open(database, os.O_RDONLY | os.O_CREAT, 0o600))
    except OSError as error:
        raise ResourceError("no database can be made here", path=database, got=error.strerror) from error
    engine = create_engine(url, pool_size=10, max_overflow=30, connect_args={"timeout": _BUSY_SECONDS})
    event.listen(engine, "connect", _set_up_sqlite)
    event.listen(engine, "begin", _begin_sqlite)
    return engine


def _set_up_sqlite(connection: sqlite3.Connection, _record: Any) -> None:
    # Python's module begins transactions by its own rules; `_begin_sqlite` does it here.
    connection.isolation_level = None
    connection.execute(f"PRAGMA busy_timeout = {_BUSY_SECONDS * 1000}")
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = FULL")
    connection.execute("PRAGMA foreign_keys = ON")


def _begin_sqlite(connection: Connection) -> None:
    # A reader that becomes a writer is refused at once where another one writes; a writer from the start waits.
    write = connection.get_execution_options().get("write", False)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if write else "BEGIN")


@contextmanager
def explained_errors() -> Iterator[None]:
    """What a database could not do, as a `ResourceError`."""
    try:
        yield
    except OperationalError as error:
        reason = str(error.orig).strip().splitlines()[0] if str(error.orig).strip() else "no reason given"
        remedy = "Check that it runs, that its disk has room, and that this user may write to it."
        raise ResourceError("the database cannot be used", got=reason, remedy=remedy) from error
    except DBAPIError as error:
        if isinstance(error.orig, sqlite3.DatabaseError) and "not a database" in str(error.orig):
            raise ResourceError("the file is no database", got=str(error.orig)) from error
        raise
