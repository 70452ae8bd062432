"""What a review keeps, opened: its store, its cases, and the account of who runs it. Needs no web server."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import psutil

from delineate.errors import DelineateError, InputError
from delineate.review.places import Places
from delineate.review.records import NewCase, Person, PersonChange, Role
from delineate.review.store import Store, open_store
from delineate.workflow.progress import Watch, nobody


@dataclass(frozen=True, slots=True)
class Sources:
    """What is to be reviewed: a `workspace`, or `scans` and their `segmentations`. `collection`: what they are called
    together, which accounts can be limited to."""

    workspace: Path | None = None
    scans: Path | None = None
    segmentations: Path | None = None
    references: Path | None = None
    collection: str = ""


def open_review(places: Places, database: str | None = None) -> Store:
    """The store of a review. Raises what `open_store` raises."""
    places.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    return open_store(database or places.database_url, witness=places.witness if database else None)


def add_found(store: Store, sources: Sources, *, watch: Watch = nobody) -> list[str]:
    """Take into the worklist what the folders hold; sentences about what could not be taken.

    Raises `InputError` if there is nothing at all to review.
    """
    from delineate.review.finding_cases import find_cases, gather  # who manages accounts need not wait for it

    remarks: list[str] = []
    found: tuple[NewCase, ...] = ()
    try:
        found, left_out = gather(
            find_cases(
                sources.workspace,
                sources.scans,
                sources.segmentations,
                references=sources.references,
                collection=sources.collection,
                watch=watch,
            )
        )
        remarks.extend(left_out)
    except DelineateError as error:
        if not store.count_cases():
            raise
        remarks.append(f"nothing new was found: {error}")
    try:
        store.add_cases(found, by="delineate review")
    except InputError:
        remarks += _add_one_by_one(store, found)
    if not store.count_cases():
        raise InputError("there is nothing to review", remedy="Give a folder with results of `delineate predict`")
    return remarks


def _add_one_by_one(store: Store, found: tuple[NewCase, ...]) -> Iterator[str]:
    for new in found:
        try:
            store.add_cases([new], by="delineate review")
        except InputError as error:
            yield str(error)


def local_person(store: Store, full_name: str = "") -> Person:
    """The account of this machine's user, who may do everything: they could change every file behind it anyway.

    It is made where there is none, and has no password.
    """
    name = psutil.Process().username().rpartition("\\")[2]
    known = store.person(name)
    wanted = full_name or (known.full_name if known else _full_name(name))
    if known is None:
        return store.add_person(name, wanted, Role.ADMIN, None, sees_names=True, by="delineate review")
    change = PersonChange(
        full_name=wanted if wanted != known.full_name else None,
        role=Role.ADMIN if known.role is not Role.ADMIN else None,
        sees_names=True if not known.sees_names else None,
        active=True if not known.active else None,
    )
    return store.change_person(name, change, by="delineate review")


def _full_name(name: str) -> str:
    with suppress(ImportError, KeyError):
        import pwd

        said = pwd.getpwnam(name).pw_gecos.split(",")[0].strip()
        return said or name
    return name
