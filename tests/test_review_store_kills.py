"""What was acknowledged stays, whoever is killed, and of two writers one wins; in SQLite and in PostgreSQL."""

import multiprocessing
import os
import random
import signal
import time
from contextlib import suppress
from multiprocessing.context import ForkServerContext
from pathlib import Path

import review_writers
from review_people import team_at

from delineate.review.store import open_store


def forking() -> ForkServerContext:
    """Makes processes by forking one that has imported already what takes long."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["pytest", "delineate.review.store"])
    return context


def test_fifty_kills_lose_nothing_that_was_acknowledged(url: str, tmp_path: Path) -> None:
    witness = tmp_path / "trail.end"
    store = open_store(url, witness=witness)
    team = team_at(store)
    context = forking()
    chance, acknowledged = random.Random(7), 0
    for _ in range(50 if url.startswith("sqlite") else 15):
        told, telling = context.Pipe(duplex=False)
        life = context.Process(target=review_writers.hammer, args=(url, witness, team.case.id, team.eva, telling))
        life.start()
        telling.close()
        assert told.poll(30)
        time.sleep(chance.uniform(0, 0.05))
        assert life.pid is not None
        os.kill(life.pid, signal.SIGKILL)
        with suppress(EOFError, OSError):
            while True:
                acknowledged = int.from_bytes(told.recv_bytes(), "little")
        told.close()
        life.join()
        life.close()
    kept = store.edits(team.case.id)
    assert acknowledged > 50 or not url.startswith("sqlite")
    assert len(kept) >= acknowledged >= 15
    assert [edit.packed for edit in kept] == [review_writers.content(edit.revision) for edit in kept]
    assert store.verify() == ()
    assert store.count_events() == 5 + len(kept)
    store.close()


def test_of_two_processes_that_edit_one_revision_exactly_one_wins(url: str) -> None:
    store = open_store(url)
    team = team_at(store)
    context = forking()
    pipes, lives = [], []
    for person in (team.eva, team.max):
        here, there = context.Pipe()
        lives.append(context.Process(target=review_writers.race, args=(url, team.case.id, person, there)))
        lives[-1].start()
        there.close()
        pipes.append(here)
    assert [pipe.recv() for pipe in pipes] == ["ready", "ready"]
    for pipe in pipes:
        pipe.send("go")
    first, second = (pipe.recv() for pipe in pipes)
    for pipe, life in zip(pipes, lives, strict=True):
        pipe.close()
        life.join()
        life.close()
    assert sorted(first + second) == list(range(20))
    edits = store.edits(team.case.id)
    assert [edit.person for edit in edits] == ["eva" if base in first else "max" for base in range(20)]
    assert all(edit.packed == edit.person.encode() for edit in edits)
    assert store.verify() == ()
    store.close()
