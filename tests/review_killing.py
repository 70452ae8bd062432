"""A review server that is killed again and again while several people draw; shared with benchmarks/review.py."""

from __future__ import annotations

import multiprocessing
import os
import random
import signal
import threading
import time
from dataclasses import dataclass
from multiprocessing.connection import Connection
from multiprocessing.context import ForkServerContext
from pathlib import Path

import httpx
import numpy as np
from review_clients import Reader, losses

from delineate import formats
from delineate.geometry import Grid
from delineate.labels import label_set
from delineate.review.keeping import Sources, local_person, open_review
from delineate.review.places import places_in
from delineate.review.records import Role
from delineate.review.serving import Address, ReviewRequest, serve
from delineate.volume import Segmentation, Volume

SHAPE = (23, 17, 12)
GRID = Grid(SHAPE, np.array([[-0.7, 0.1, 0.4, 3], [0.05, 0.9, 1.0, -4], [0.1, -0.2, 4.0, 5], [0, 0, 0, 1]]))
# The first signs as this machine's user; the last two share a case, each in slices of their own.
PLACES = (("p0", (0, 12)), ("p1", (0, 12)), ("p2", (0, 6)), ("p2", (6, 12)))
IDLE_SECONDS = 0.02


@dataclass(frozen=True)
class Outcome:
    """Of all lives of a server. `acknowledged`: edits; `cut_off`: requests that had no answer; `kept`: edits that are
    stored; `starts`: seconds until the server listened; `wrong`: sentences about what was lost."""

    acknowledged: int
    decided: int
    cut_off: int
    kept: int
    starts: tuple[float, ...]
    wrong: tuple[str, ...]


def make_folders(folder: Path) -> tuple[Path, Path]:
    """Scans and segmentations of three cases."""
    rng = np.random.default_rng(11)
    for name in ("scans", "results"):
        (folder / name).mkdir()
    for key in sorted({key for key, _ in PLACES}):
        scan = rng.integers(-900, 900, SHAPE).astype(np.int16)
        labels = rng.choice(np.array([0, 0, 1, 2], np.uint8), SHAPE)
        formats.write_volume(folder / "scans" / f"{key}.nii.gz", Volume(scan[None], GRID))
        segmentation = Segmentation(labels, GRID, label_set({1: "liver", 2: "spleen"}))
        formats.write_segmentation(folder / "results" / f"{key}.nii.gz", segmentation)
    return folder / "scans", folder / "results"


def live(folder: Path, told: Connection) -> None:
    """Serve the review of a folder, as the command does, until somebody ends this process; tells the address."""

    def say(line: str) -> None:
        if line.startswith("Listening on "):
            told.send(line.removeprefix("Listening on ").partition("/?")[0])

    serve(
        ReviewRequest(
            sources=Sources(None, folder / "scans", folder / "results"),
            places=places_in(folder / "results"),
            address=Address(port=0),
            memory_bytes=1 << 28,
        ),
        say=say,
        warn=lambda line: None,
    )


def forking() -> ForkServerContext:
    """Makes processes by forking one that has imported already what takes long."""
    context = multiprocessing.get_context("forkserver")
    # Only what is installed: the process that is forked does not know this folder.
    others = ("pytest", "httpx", "scipy.ndimage", "anyio._backends._asyncio", "uvicorn.protocols.http.auto")
    served = ("serving", "finding_cases", "display_scans", "exports")
    context.set_forkserver_preload([*others, *(f"delineate.review.{name}" for name in served)])
    return context


def kill_again_and_again(folder: Path, *, kills: int, edits: int = 30, seed: int = 3) -> Outcome:
    """Kill the server of a review at random moments, after up to so many `edits` in each of its lives."""
    make_folders(folder)
    readers, chance, context = readers_of(folder), random.Random(seed), forking()
    people = [_Working(reader, seed=n, signs=n == 0) for n, reader in enumerate(readers)]
    starts = []
    for _ in range(kills):
        told, telling = context.Pipe(duplex=False)
        process = context.Process(target=live, args=(folder, telling))
        began = time.perf_counter()
        process.start()
        telling.close()
        if not told.poll(60):
            raise AssertionError("the server did not start")
        address = told.recv()
        starts.append(time.perf_counter() - began)
        threads = [threading.Thread(target=person.work, args=(address,)) for person in people]
        for thread in threads:
            thread.start()
        _wait(readers, edits=chance.randrange(edits))
        time.sleep(chance.uniform(0, 0.05))
        assert process.pid is not None
        os.kill(process.pid, signal.SIGKILL)
        process.join()
        process.close()
        told.close()
        for thread in threads:
            thread.join()
    store = open_review(places_in(folder / "results"))
    wrong = (*losses(store, readers), *store.verify(), *(problem for person in people for problem in person.problems))
    outcome = Outcome(
        acknowledged=_count(readers),
        decided=sum(len(reader.decided) for reader in readers),
        cut_off=sum(person.cut_off for person in people),
        kept=sum(case.revision for case in store.cases()),
        starts=tuple(starts),
        wrong=wrong,
    )
    store.close()
    return outcome


def _wait(readers: list[Reader], *, edits: int) -> None:
    before, until = _count(readers), time.monotonic() + 10
    while _count(readers) - before < edits and time.monotonic() < until:
        time.sleep(0.002)


def _count(readers: list[Reader]) -> int:
    return sum(len(reader.acknowledged) for reader in readers)


def readers_of(folder: Path) -> list[Reader]:
    """Who draws, each with a session; the first is this machine's user."""
    store = open_review(places_in(folder / "results"))
    signer = local_person(store, "Dr. Eva Muster")
    others = [store.add_person(f"r{n}", f"Reader {n}", Role.REVIEWER, None) for n in range(1, len(PLACES))]
    sessions = [store.begin_session(person, seconds=36000) for person in (signer, *others)]
    store.close()
    return [
        Reader(key, session, slices, seed=n, signature=signer.full_name)
        for n, ((key, slices), session) in enumerate(zip(PLACES, sessions, strict=True))
    ]


class _Working:
    """Somebody who draws until the server is gone. `cut_off`: how often a request had no answer."""

    def __init__(self, reader: Reader, *, seed: int, signs: bool) -> None:
        self._reader, self._signs, self._chance = reader, signs, random.Random(seed)
        self.cut_off = 0
        self.problems: list[str] = []

    def work(self, address: str) -> None:
        self._reader.visit(address)
        try:
            if self._reader.labels.size:
                self._reader.resume()
            else:
                self._reader.open()
            while True:
                self._step(self._chance.random())
                time.sleep(IDLE_SECONDS)
        except httpx.TransportError:
            self.cut_off += 1
        except Exception as error:  # a thread's own errors are seen by nobody else
            self.problems.append(f"{self._reader.key}: {error!r}")
        finally:
            self._reader.close()

    def _step(self, which: float) -> None:
        if which < 0.1:
            self._reader.undo()
        elif which < 0.35 and self._signs:
            self._reader.decide()
        else:
            self._reader.stroke()
