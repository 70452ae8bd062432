"""Twenty reviewers at once on a review's server: how long they wait, whether anything fails, and in how much memory.

    python benchmarks/review_load.py FOLDER [--database URL] [--readers 20] [--cases 10000] [--seconds 60]

Each opens cases of the worklist, loads slices, draws, undoes, and says that they are there; every tenth stroke meets
somebody else's (409) and is sent again. The server is a process of its own, as `delineate review` runs it.
"""

from __future__ import annotations

import argparse
import base64
import random
import re
import statistics
import subprocess
import sys
import threading
import time
from collections import defaultdict
from dataclasses import replace
from pathlib import Path

import httpx
import numpy as np
import psutil

from delineate import formats
from delineate.editing.runs import pack, part_difference
from delineate.geometry import Grid
from delineate.labels import label_set
from delineate.review.keeping import Sources, add_found, open_review
from delineate.review.places import places_in
from delineate.review.records import Role
from delineate.volume import Segmentation, Volume

SHAPE = (160, 160, 96)
PASSWORD = "only for this benchmark"


def make_results(folder: Path, count: int) -> None:
    """Scans and segmentations of balls in noise."""
    grid, rng = Grid(SHAPE, np.diag([1.5, 1.5, 2.5, 1.0])), np.random.default_rng(0)
    i, j, k = np.ogrid[: SHAPE[0], : SHAPE[1], : SHAPE[2]]
    for number in range(count):
        labels = ((i - 80) ** 2 + (j - 80) ** 2 + (2 * (k - 48)) ** 2 < (40 + number) ** 2).astype(np.uint8)
        scan = (labels * 60 + rng.normal(0, 15, SHAPE)).astype(np.int16)
        formats.write_volume(folder / "scans" / f"p{number:02}.nii.gz", Volume(scan[None], grid))
        made = Segmentation(labels, grid, label_set({1: "organ"}))
        formats.write_segmentation(folder / "results" / f"p{number:02}.nii.gz", made)


def prepare(folder: Path, database: str | None, readers: int, cases: int) -> None:
    """A worklist of so many cases, of which twenty have scans, and the accounts."""
    if not (folder / "results").is_dir():
        make_results(folder, 20)
    store = open_review(places_in(folder / "results"), database)
    add_found(store, Sources(None, folder / "scans", folder / "results"))
    first = store.cases()[0].new
    more = [replace(first, key=f"more{number:05}", priority=-1.0) for number in range(cases - store.count_cases())]
    store.add_cases(more, by="benchmark")
    for number in range(readers):
        if store.person(f"reader{number}") is None:
            store.add_person(f"reader{number}", f"Reader {number}", Role.REVIEWER, PASSWORD)
    store.close()


class Reader:
    """Somebody who works, and what they waited for."""

    def __init__(self, base: str, number: int, waits: dict[str, list[float]], failures: list[str]) -> None:
        self._client = httpx.Client(base_url=base, timeout=120)
        self._rng = random.Random(number)
        self._waits, self._failures = waits, failures
        said = self._ask("sign in", "POST", "/api/session", json={"name": f"reader{number}", "password": PASSWORD})
        self._client.headers["X-CSRF-Token"] = said.json()["csrf"]

    def _ask(self, what: str, method: str, path: str, **more: object) -> httpx.Response:
        began = time.perf_counter()
        answer = self._client.request(method, path, **more)  # type: ignore[arg-type]
        self._waits[what].append(time.perf_counter() - began)
        if answer.status_code >= 400 and answer.status_code != 409:
            self._failures.append(f"{what}: {answer.status_code} {answer.text[:200]}")
        return answer

    def work(self, until: float) -> None:
        """Go from case to case."""
        while time.monotonic() < until:
            offset = self._rng.randrange(0, 9000)
            self._ask("worklist", "GET", f"/api/cases?offset={offset}&limit=50")
            self._case(f"/api/cases/p{self._rng.randrange(20):02}", until)
        self._client.close()

    def _case(self, case: str, until: float) -> None:
        revision = int(self._ask("case", "GET", case).json()["revision"])
        for start in range(0, SHAPE[2], 32):
            self._ask("slices", "GET", f"{case}/image?from={start}&to={start + 32}")
        self._ask("labels", "GET", f"{case}/labels?from=0&to={SHAPE[2]}&layer=0")
        for _ in range(10):
            if time.monotonic() > until:
                return
            revision = self._stroke(case, revision)
            time.sleep(self._rng.uniform(0.2, 0.8))
        self._ask("presence", "POST", f"{case}/presence", json={"seconds": 5})

    def _stroke(self, case: str, revision: int) -> int:
        for _ in range(20):
            k = self._rng.randrange(SHAPE[2])
            slab = self._ask("labels of a slice", "GET", f"{case}/labels?from={k}&to={k + 1}&revision={revision}")
            plane = np.frombuffer(slab.content, np.uint8).reshape(1, SHAPE[1], SHAPE[0]).transpose(2, 1, 0)
            drawn = plane.copy()
            drawn[40:60, self._rng.randrange(150)] ^= 1
            runs = base64.b64encode(pack(part_difference(plane, drawn, start=(0, 0, k), shape=SHAPE))).decode()
            body = {"baseRevision": revision, "layer": 0, "tool": "brush", "parameters": {}, "runs": runs}
            answer = self._ask("stroke", "POST", f"{case}/edits", json=body)
            revision = int(answer.json().get("revision", revision))
            if answer.status_code != 409:
                return revision
        return revision


def run(folder: Path, database: str | None, readers: int, seconds: float) -> None:
    """Start a server, let everybody work, and say what they waited for."""
    command = [sys.executable, "-m", "delineate", "review", str(folder / "scans"), str(folder / "results")]
    command += ["--no-browser", "--port", "0", "--memory-gb", "1", *(["--database", database] if database else [])]
    waits: dict[str, list[float]] = defaultdict(list)
    failures: list[str] = []
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        found = next(match for match in (re.search(r"(http\S+)/\?token", line) for line in server.stdout) if match)
        people = [Reader(found[1], number, waits, failures) for number in range(readers)]
        until = time.monotonic() + seconds
        threads = [threading.Thread(target=one.work, args=(until,)) for one in people]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        memory = psutil.Process(server.pid).memory_info().rss
        server.terminate()
    for what, times in waits.items():
        middle, most = statistics.median(times), sorted(times)[int(0.95 * (len(times) - 1))]
        print(f"{what:18} {len(times):6} times, median {middle * 1000:6.0f} ms, 95 % within {most * 1000:6.0f} ms")
    print(f"server: {memory / 1e6:.0f} MB; load {psutil.getloadavg()[0]:.1f} on {psutil.cpu_count()} cores")
    print(f"failures: {len(failures)}", *failures[:5], sep="\n  ")
    store = open_review(places_in(folder / "results"), database)
    print(f"audit trail: {store.count_events()} events, {len(store.verify())} problems")
    store.close()


def main() -> None:
    """Read the options and run."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("folder", type=Path)
    options.add_argument("--database")
    options.add_argument("--readers", type=int, default=20)
    options.add_argument("--cases", type=int, default=10_000)
    options.add_argument("--seconds", type=float, default=60.0)
    chosen = options.parse_args()
    prepare(chosen.folder, chosen.database, chosen.readers, chosen.cases)
    run(chosen.folder, chosen.database, chosen.readers, chosen.seconds)


if __name__ == "__main__":
    main()
