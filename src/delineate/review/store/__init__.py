"""The store of review: people, cases, edits, decisions, and the audit trail, in SQLite or PostgreSQL."""

from __future__ import annotations

from pathlib import Path

from delineate.files import check_writable
from delineate.review.store.audit import AuditStore
from delineate.review.store.cases import CaseStore
from delineate.review.store.database import explained_errors, make_engine
from delineate.review.store.decisions import DecisionStore
from delineate.review.store.edits import EditStore
from delineate.review.store.facts import FactStore
from delineate.review.store.migrating import migrate
from delineate.review.store.people import PeopleStore
from delineate.review.store.trail import verify_export
from delineate.review.store.witness import Witness

__all__ = ["Store", "open_store", "verify_export"]


class Store(PeopleStore, CaseStore, EditStore, DecisionStore, AuditStore, FactStore):
    """All that people do in review. Every change is one transaction with its event in the audit trail.

    Safe to use from several threads and processes.
    """


def open_store(url: str, *, witness: Path | None = None) -> Store:
    """The store at `sqlite:///PATH` or `postgresql+psycopg://...`; tables are made, or brought up to date.

    `witness`: a file that keeps the end of the audit trail as well; beside an SQLite database by itself, "PATH.end".
    Raises `InputError` for another URL and a database of a newer version, `ResourceError` for one that cannot be used.
    """
    engine = make_engine(url)
    if witness is None and engine.dialect.name == "sqlite":
        witness = Path(f"{engine.url.database}.end")
    if witness is not None:
        check_writable(witness.parent)
    try:
        with explained_errors():
            migrate(engine)
    except BaseException:
        engine.dispose()
        raise
    kept = None if witness is None else Witness(witness)
    if kept is not None:
        kept.compact()
    return Store(engine, kept)
