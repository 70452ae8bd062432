"""The store of review with 10,000 cases: pages of the worklist, strokes, twenty reviewers at once, the audit trail.

    python benchmarks/review_store.py                                      SQLite, and PostgreSQL if it is installed
    python benchmarks/review_store.py --cases 1000 --edits 200             a few seconds

Every stroke is on the disk when it counts (SQLite: WAL, synchronous FULL). PostgreSQL runs as the tests run it, without
waiting for the disk.
"""

from __future__ import annotations

import argparse
import random
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from timing import median_seconds

from delineate.review.records import NewCase, Person, Role, StaleRevision, State, Structure, WorklistQuery
from delineate.review.store import Store, open_store

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))
import postgresql

READERS = 20
PAGES = {
    "first page": WorklistQuery(),
    "page 150": WorklistQuery(offset=7450),
    "one structure": WorklistQuery(structure="spleen"),
    "one state, by site": WorklistQuery(states=(State.UNREVIEWED,), order="site"),
    "search": WorklistQuery(search="p-0123"),
}


def make_cases(count: int) -> list[NewCase]:
    chance = random.Random(0)
    names = ("liver", "spleen", "left_kidney", "right_kidney", "pancreas", "aorta")
    return [
        NewCase(
            key=f"case-{n:05}",
            collection=f"hospital-{n % 5}",
            pseudonym=f"P-{n:05}",
            scan=Path(f"/scans/{n}"),
            segmentation=Path(f"/results/{n}.nii.gz"),
            digest=f"{n:064x}",
            structures=tuple(
                Structure(value, name, (200, 30, value), chance.uniform(10, 1500), chance.uniform(0.5, 1))
                for value, name in enumerate(names, 1)
                if chance.random() < 0.8
            ),
            model="organs",
            site=f"site {n % 7}",
            priority=chance.uniform(0, 10),
            warnings=("The liver touches the border of the image.",) * (n % 3),
        )
        for n in range(count)
    ]


def measure(name: str, url: str, arguments: argparse.Namespace) -> list[list[str]]:
    store = open_store(url)
    people = [store.add_person(f"r{n}", f"Reader {n}", Role.REVIEWER, None) for n in range(READERS)]
    rows = [[name, f"add {arguments.cases} cases", seconds_of(lambda: store.add_cases(make_cases(arguments.cases)))]]
    for what, query in PAGES.items():
        pages = partial(store.worklist, query, people[0])
        rows.append([name, f"worklist: {what}", in_ms(median_seconds(pages, repeats=9))])
    rows.append([name, "filters", in_ms(median_seconds(lambda: store.filters(people[0]), repeats=5))])
    rows.append([name, "one stroke (1200 bytes), median", strokes(store, people[0], arguments.edits)])
    rows.append([name, f"{READERS} people, a stroke and a page each in turn", together(store, people, arguments.edits)])
    rows.append([name, f"verify {store.count_events()} events", seconds_of(lambda: check(store))])
    store.close()
    return rows


def strokes(store: Store, person: Person, count: int) -> str:
    case = store.case("case-00000")
    assert case is not None

    def one() -> None:
        head = store.revision(case.id)
        content = random.Random(head).randbytes(1200)
        store.add_edit(case.id, person, base_revision=head, layer=0, tool="brush", parameters="{}", packed=content)

    return in_ms(median_seconds(one, repeats=count))


def together(store: Store, people: list[Person], count: int) -> str:
    """Each on a case of their own, two on the last; pages between."""
    stale: list[int] = []
    longest: list[float] = []

    def work(number: int) -> None:
        case = store.case(f"case-{min(number, READERS - 2) + 1:05}")
        assert case is not None
        for _ in range(max(count // READERS, 2)):
            began = time.perf_counter()
            head = store.revision(case.id)
            try:
                store.add_edit(
                    case.id,
                    people[number],
                    base_revision=head,
                    layer=0,
                    tool="brush",
                    parameters="{}",
                    packed=bytes(1200),
                )
            except StaleRevision:
                stale.append(number)
            store.worklist(WorklistQuery(), people[number])
            longest.append(time.perf_counter() - began)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(READERS)]
    began = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    seconds = time.perf_counter() - began
    longest.sort()
    told = f"{len(longest) / seconds:.0f} a second; 95 % within {longest[int(len(longest) * 0.95)] * 1000:.0f} ms"
    return f"{told}; {len(stale)} told of another's stroke"


def check(store: Store) -> None:
    problems = store.verify()
    if problems:
        raise SystemExit("\n".join(problems))


def seconds_of(work: Callable[[], object]) -> str:
    began = time.perf_counter()
    work()
    return f"{time.perf_counter() - began:.1f} s"


def in_ms(seconds: float) -> str:
    return f"{seconds * 1000:.1f} ms"


@contextmanager
def postgresql_url() -> Iterator[str | None]:
    folder = postgresql.programs()
    if folder is None:
        yield None
        return
    with postgresql.server(folder) as port, postgresql.database(port) as url:
        yield url


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", type=int, default=10_000)
    parser.add_argument("--edits", type=int, default=400)
    arguments = parser.parse_args()
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        rows += measure("SQLite", f"sqlite:///{folder}/review.sqlite", arguments)
    with postgresql_url() as url:
        rows += [] if url is None else measure("PostgreSQL", url, arguments)
    for name, what, time_taken in rows:
        print(f"{name:<11} {what:<48} {time_taken}")


if __name__ == "__main__":
    main()
