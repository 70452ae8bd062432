"""Twenty reviewers at once: what each kind of request takes, whether any fails, and whether all that was said to be
stored is."""

from __future__ import annotations

import random
import sys
import threading
import time
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
from review_store import make_cases

from delineate.review.keeping import Sources, add_found, open_review
from delineate.review.places import places_in
from delineate.review.records import Role
from reviewing.cases import SHAPE, make_small_cases
from reviewing.serving import server

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "tests"))
from review_clients import Reader, losses

READERS = 20
SHARED = 4  # readers who have a case together with another
PASSWORD = "only for this benchmark"
STROKES = 25
SLAB = 32  # slices: about 4 MB, as the page asks for them


@dataclass(frozen=True)
class Outcome:
    """`rows`: kind of request, how many, median, 95 %, 99 % and longest in ms. `wrong`: sentences."""

    rows: tuple[tuple[str, ...], ...]
    statuses: tuple[tuple[int, int], ...]
    strokes: int
    stale: int
    decisions: int
    peak_bytes: int
    verify_seconds: float
    wrong: tuple[str, ...]


def measure_readers(folder: Path, database: str | None, *, seconds: float, cases: int) -> Outcome:
    """Let them work for so many seconds, in a worklist of so many cases. The folder must be new or empty."""
    names = make_small_cases(folder, READERS - SHARED // 2)
    readers = _readers(folder, database, names, others=cases - len(names))
    problems: list[str] = []
    with server(folder, database=database) as there:
        until = time.monotonic() + seconds
        threads = [
            threading.Thread(target=_work, args=(reader, there.base, until, n, problems))
            for n, reader in enumerate(readers)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        peak = there.peak_bytes()
    store = open_review(places_in(folder / "results"), database)
    began = time.perf_counter()
    chain = store.verify()
    verify_seconds = time.perf_counter() - began
    wrong = (*problems, *losses(store, readers), *chain)
    store.close()
    return Outcome(
        rows=_rows(readers),
        statuses=_statuses(readers),
        strokes=sum(len(reader.acknowledged) for reader in readers),
        stale=sum(reader.stale for reader in readers),
        decisions=sum(len(reader.decided) for reader in readers),
        peak_bytes=peak,
        verify_seconds=verify_seconds,
        wrong=wrong,
    )


def _readers(folder: Path, database: str | None, names: Sequence[str], *, others: int) -> list[Reader]:
    store = open_review(places_in(folder / "results"), database)
    add_found(store, Sources(None, folder / "scans", folder / "results"))
    store.add_cases(make_cases(others))
    people = [store.add_person(f"r{n}", f"Reader {n}", Role.REVIEWER, PASSWORD) for n in range(READERS)]
    sessions = [store.begin_session(person, seconds=36000) for person in people]
    store.close()
    own = READERS - SHARED
    places = [(names[n], (0, SHAPE[2])) for n in range(own)]
    middle = SHAPE[2] // 2
    places += [(names[own + n // 2], ((0, middle), (middle, SHAPE[2]))[n % 2]) for n in range(SHARED)]
    return [
        Reader(key, session, slices, seed=n, signature=person.full_name, password=PASSWORD)
        for n, ((key, slices), session, person) in enumerate(zip(places, sessions, people, strict=True))
    ]


def _work(reader: Reader, address: str, until: float, number: int, problems: list[str]) -> None:
    chance = random.Random(number)
    is_alone = number < READERS - SHARED
    reader.visit(address)
    try:
        time.sleep(chance.uniform(0, 3))  # they do not all come in one moment
        while time.monotonic() < until:
            _open(reader)
            for n in range(STROKES):
                if time.monotonic() > until:
                    break
                if chance.random() < 0.1:
                    reader.undo()
                else:
                    reader.stroke()
                if n % 12 == 0:
                    reader.ask("POST", "/presence", {"seconds": 10})
                time.sleep(chance.uniform(0.2, 1.2))
            if is_alone:
                reader.decide()
    except Exception as error:  # what fails in a thread is seen by nobody else
        problems.append(f"{reader.key}: {error!r}")
    finally:
        reader.close()


def _open(reader: Reader) -> None:
    reader.look("/api/cases", order="-priority", limit=50)
    if reader.labels.size == 0:
        reader.open()
    reader.ask("GET", "/findings")
    for start, stop in pairwise((*range(0, SHAPE[2], SLAB), SHAPE[2])):
        reader.ask("GET", "/image", params={"from": start, "to": stop})
        reader.ask("GET", "/labels", params={"from": start, "to": stop})


def _rows(readers: Sequence[Reader]) -> tuple[tuple[str, ...], ...]:
    kinds: dict[str, list[float]] = defaultdict(list)
    for reader in readers:
        for wait in reader.waits:
            kinds[wait.what].append(wait.seconds * 1000)
    return tuple(
        (what, str(len(times)), *(f"{np.percentile(times, share):.0f}" for share in (50, 95, 99, 100)))
        for what, times in sorted(kinds.items())
    )


def _statuses(readers: Sequence[Reader]) -> tuple[tuple[int, int], ...]:
    found: dict[int, int] = defaultdict(int)
    for reader in readers:
        for wait in reader.waits:
            found[wait.status] += 1
    return tuple(sorted(found.items()))
