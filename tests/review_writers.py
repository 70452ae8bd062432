"""Processes that write into a store of review, for tests to kill and to set against each other."""

from __future__ import annotations

import random
import time
from contextlib import suppress
from multiprocessing.connection import Connection
from pathlib import Path

from delineate.review.records import Person, StaleRevision
from delineate.review.store import open_store


def content(revision: int) -> bytes:
    return random.Random(revision).randbytes(1200)


def hammer(url: str, witness: Path, case_id: int, person: Person, told: Connection) -> None:
    """Add edits for ever; each revision is told once it is acknowledged."""
    store = open_store(url, witness=witness)
    revision = store.revision(case_id)
    while True:
        edit = store.add_edit(
            case_id,
            person,
            base_revision=revision,
            layer=0,
            tool="brush",
            parameters="{}",
            packed=content(revision + 1),
        )
        revision = edit.revision
        told.send_bytes(revision.to_bytes(8, "little"))


def race(url: str, case_id: int, person: Person, told: Connection) -> None:
    """Write one edit of each of 20 revisions, as fast as another process does; tells which were the first."""
    store = open_store(url)
    wins = []
    told.send("ready")
    told.recv()
    for base in range(20):
        with suppress(StaleRevision):
            store.add_edit(
                case_id, person, base_revision=base, layer=0, tool="brush", parameters="{}", packed=person.name.encode()
            )
            wins.append(base)
        while store.revision(case_id) <= base:
            time.sleep(0.001)
    told.send(wins)
    store.close()
