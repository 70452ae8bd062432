"""Reading ahead and writing behind: what may overlap, the order of results, failures, stopping."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence

import pytest

from delineate.errors import InputError
from delineate.workflow.pipeline import Outcome, Stages, run_pipeline


class Log:
    """Stages that take a moment and write down what runs beside what."""

    def __init__(self, *, bad: Sequence[tuple[str, int]] = ()) -> None:
        self.events: list[tuple[str, int]] = []
        self.beside: dict[tuple[str, int], set[tuple[str, int]]] = {}
        self._now: set[tuple[str, int]] = set()
        self._lock, self._bad = threading.Lock(), bad

    def stages(self) -> Stages[int, int, int, int]:
        read, run, write = (self._stage(name) for name in ("read", "run", "write"))
        return Stages(lambda item: read(item, item), lambda item, value, following: run(item, value), write)

    def _stage(self, name: str) -> Callable[[int, int], int]:
        def stage(item: int, value: int) -> int:
            me = (name, item)
            with self._lock:
                self.events.append(me)
                self._now.add(me)
                for one in self._now:
                    self.beside.setdefault(one, set()).update(self._now - {one})
            time.sleep(0.03)
            with self._lock:
                self._now.remove(me)
            if me in self._bad:
                raise InputError(f"{name} failed", case=str(item))
            return value * 2

        return stage


def run(log: Log, count: int, *, alone: Sequence[int] = (), stop_after: int | None = None) -> list[Outcome[int, int]]:
    def stopping() -> bool:
        return stop_after is not None and ("run", stop_after) in log.events

    return list(run_pipeline(range(count), log.stages(), alone=lambda item: item in alone, stopping=stopping))


def test_the_next_is_read_and_the_last_written_while_one_runs() -> None:
    log = Log()
    outcomes = run(log, 4)
    assert [(outcome.item, outcome.kept) for outcome in outcomes] == [(0, 0), (1, 8), (2, 16), (3, 24)]
    assert {("read", 2), ("write", 0)} <= log.beside["run", 1]


def test_no_more_than_one_is_ahead_and_one_behind() -> None:
    log = Log()
    run(log, 6)
    for (stage, item), others in log.beside.items():
        assert stage != "run" or {other for _, other in others} <= {item - 1, item + 1}


def test_the_next_is_not_read_where_there_is_no_room_beside() -> None:
    log, given = Log(), []
    stages = log.stages()

    def run_given(item: int, value: int, following: int | None) -> int:
        given.append(following)
        return stages.run(item, value, following)

    watched = Stages(stages.read, run_given, stages.write)
    list(run_pipeline(range(4), watched, alone=bool, beside=lambda *of: False, stopping=lambda: False))
    assert given == [None] * 4
    assert ("run", 0) not in log.beside.get(("read", 1), set())


def test_results_keep_their_order_whatever_fails() -> None:
    log = Log(bad=[("read", 1), ("run", 2), ("write", 4)])
    outcomes = run(log, 6)
    assert [outcome.item for outcome in outcomes] == list(range(6))
    failed = {outcome.item: str(outcome.error) for outcome in outcomes if outcome.error}
    assert failed == {1: "read failed (case 1)", 2: "run failed (case 2)", 4: "write failed (case 4)"}


def test_beside_an_item_that_is_alone_there_is_nothing() -> None:
    log = Log()
    run(log, 5, alone=[2])
    assert all(other == 2 for stage in ("read", "run", "write") for _, other in log.beside.get((stage, 2), set()))
    assert log.events.index(("write", 1)) < log.events.index(("read", 2))
    assert log.events.index(("write", 2)) < log.events.index(("read", 3))


def test_what_runs_when_it_stops_is_written_and_no_more() -> None:
    log = Log()
    outcomes = run(log, 6, stop_after=2)
    assert [outcome.item for outcome in outcomes] == [0, 1, 2]
    assert ("run", 3) not in log.events


def test_a_mistake_in_the_program_ends_everything() -> None:
    stages: Stages[int, int, int, int] = Stages(
        lambda item: item, lambda item, value, following: 1 // item, lambda item, made: 0
    )
    with pytest.raises(ZeroDivisionError, match="by zero"):
        list(run_pipeline([0, 1], stages, alone=lambda item: False, stopping=lambda: False))


def test_nothing_to_do_is_done() -> None:
    assert run(Log(), 0) == []
