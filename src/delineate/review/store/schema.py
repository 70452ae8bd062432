"""The tables of the store, the same in SQLite and in PostgreSQL.

What migrations make must be what stands here; a test compares them. Times are text: ISO 8601 in UTC to the
microsecond, which sorts, reads and hashes the same in every database.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from sqlalchemy import BigInteger, Dialect, ForeignKey, Index, LargeBinary, MetaData, String, Text
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column
from sqlalchemy.types import TypeDecorator

from delineate.review.records import DamagedStore

_NAMES = {
    "ix": "ix_%(table_name)s_%(column_0_N_name)s",
    "uq": "uq_%(table_name)s_%(column_0_N_name)s",
    "fk": "fk_%(table_name)s_%(column_0_N_name)s",
    "pk": "pk_%(table_name)s",
}


class Time(TypeDecorator[datetime]):
    """A time with its zone, as text in UTC."""

    impl = String(32)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> str | None:
        return None if value is None else time_text(value)

    def process_result_value(self, value: str | None, dialect: Dialect) -> datetime | None:
        return None if value is None else time_of(value)


def time_of(text: str) -> datetime:
    """The time that `time_text` wrote. Raises `DamagedStore` for any other text, also one of the same time."""
    try:
        time = datetime.fromisoformat(text)
        if time_text(time) == text:
            return time
    except (TypeError, ValueError):
        pass
    raise DamagedStore("a time is not as it was stored", got=repr(text)[:60])


def time_text(time: datetime) -> str:
    """ISO 8601 in UTC, always with microseconds. Raises `ValueError` for a time without zone."""
    if time.tzinfo is None:
        raise ValueError("a time without its zone")
    return time.astimezone(UTC).isoformat(timespec="microseconds")


class Base(DeclarativeBase):
    metadata = MetaData(naming_convention=_NAMES)
    type_annotation_map = {datetime: Time(), str: Text(), bytes: LargeBinary()}  # noqa: RUF012


class PersonRow(Base):
    """`collections`: a JSON list, NULL for all. `failures`, `locked_until`: of passwords that were tried."""

    __tablename__ = "people"

    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(unique=True)
    full_name: Mapped[str]
    role: Mapped[str] = mapped_column(String(16))
    sees_names: Mapped[bool]
    collections: Mapped[str | None]
    active: Mapped[bool]
    password: Mapped[str | None]
    failures: Mapped[int]
    locked_until: Mapped[datetime | None]


class SessionRow(Base):
    """`token`: SHA-256 of the token, so that who reads the database cannot use it."""

    __tablename__ = "sessions"

    token: Mapped[str] = mapped_column(String(64), primary_key=True)
    person_id: Mapped[int] = mapped_column(ForeignKey("people.id"), index=True)
    csrf: Mapped[str] = mapped_column(String(64))
    expires: Mapped[datetime]


class CaseRow(Base):
    """`words`: what is searched, case-folded, of what everybody sees; `name_words`: of the patient's name."""

    __tablename__ = "cases"
    __table_args__ = (Index("ix_cases_priority_key", "priority", "key"),)

    id: Mapped[int] = mapped_column(primary_key=True)
    key: Mapped[str] = mapped_column(unique=True)
    collection: Mapped[str] = mapped_column(index=True)
    pseudonym: Mapped[str]
    patient_name: Mapped[str]
    scan: Mapped[str]
    segmentation: Mapped[str]
    digest: Mapped[str] = mapped_column(String(64))
    overlaps: Mapped[bool]
    reference: Mapped[str | None]
    model: Mapped[str] = mapped_column(index=True)
    model_digest: Mapped[str]
    date: Mapped[str]
    site: Mapped[str] = mapped_column(index=True)
    scanner: Mapped[str]
    warnings: Mapped[str]
    priority: Mapped[float]
    priority_reasons: Mapped[str]
    words: Mapped[str]
    name_words: Mapped[str]
    state: Mapped[str] = mapped_column(String(32), index=True)
    revision: Mapped[int]
    reader: Mapped[str | None]
    second_reader: Mapped[str | None]
    seconds: Mapped[float]
    decided: Mapped[datetime | None]


class StructureRow(Base):
    __tablename__ = "structures"

    case_id: Mapped[int] = mapped_column(ForeignKey("cases.id"), primary_key=True)
    value: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    name: Mapped[str] = mapped_column(index=True)
    red: Mapped[int]
    green: Mapped[int]
    blue: Mapped[int]
    volume_ml: Mapped[float]
    agreement: Mapped[float | None]


class PresenceRow(Base):
    __tablename__ = "presence"

    case_id: Mapped[int] = mapped_column(ForeignKey("cases.id"), primary_key=True)
    person: Mapped[str] = mapped_column(primary_key=True)
    last_seen: Mapped[datetime]


class EditRow(Base):
    __tablename__ = "edits"

    case_id: Mapped[int] = mapped_column(ForeignKey("cases.id"), primary_key=True)
    revision: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    person: Mapped[str]
    tool: Mapped[str]
    parameters: Mapped[str]
    layer: Mapped[int]
    undoes: Mapped[int | None]
    made: Mapped[datetime]
    digest: Mapped[str] = mapped_column(String(64))
    packed: Mapped[bytes]


class SnapshotRow(Base):
    __tablename__ = "snapshots"

    case_id: Mapped[int] = mapped_column(ForeignKey("cases.id"), primary_key=True)
    revision: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    digest: Mapped[str] = mapped_column(String(64))
    packed: Mapped[bytes]


class DecisionRow(Base):
    __tablename__ = "decisions"

    id: Mapped[int] = mapped_column(primary_key=True)
    case_id: Mapped[int] = mapped_column(ForeignKey("cases.id"), index=True)
    person: Mapped[str]
    signature: Mapped[str]
    verdict: Mapped[str] = mapped_column(String(16))
    revision: Mapped[int]
    seen: Mapped[str] = mapped_column(String(64))
    structure: Mapped[int | None]
    reason: Mapped[str]
    second: Mapped[bool]
    made: Mapped[datetime]


class EventRow(Base):
    """`made` is text here: it is part of what the digest is over."""

    __tablename__ = "events"

    number: Mapped[int] = mapped_column(BigInteger, primary_key=True, autoincrement=False)
    made: Mapped[str] = mapped_column(String(32))
    person: Mapped[str]
    action: Mapped[str] = mapped_column(index=True)
    case: Mapped[str] = mapped_column(index=True)
    facts: Mapped[str]
    previous: Mapped[str] = mapped_column(String(64))
    digest: Mapped[str] = mapped_column(String(64))


class HeadRow(Base):
    """The last link of the chain, in one row: who appends has locked it."""

    __tablename__ = "chain_head"

    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    number: Mapped[int] = mapped_column(BigInteger)
    digest: Mapped[str] = mapped_column(String(64))


TABLES: MetaData = Base.metadata


def column_values(row: Base, *names: str) -> dict[str, Any]:
    """Values of a row by name, times as text."""
    values = {name: getattr(row, name) for name in names}
    return {name: time_text(value) if isinstance(value, datetime) else value for name, value in values.items()}
