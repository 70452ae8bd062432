"""Work in another process: what it says, how it ends, and that it ends."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import threading
import time
from functools import partial
from pathlib import Path

import psutil
import pytest

from delineate.errors import UnreadableImage
from delineate.executors.supervised import Death, Tell, run_apart


def never() -> bool:
    return False


def count(tell: Tell, stop: threading.Event, *, until: int) -> str:
    for number in range(until):
        tell(number)
    return f"process {os.getpid()}"


def test_what_work_says_is_heard_in_order_and_its_result_comes_back() -> None:
    heard: list[object] = []
    result = run_apart(partial(count, until=5), hear=heard.append, stopping=never)
    assert heard == [0, 1, 2, 3, 4]
    assert result not in (f"process {os.getpid()}", None)


def fail(tell: Tell, stop: threading.Event, *, error: Exception) -> None:
    raise error


def test_errors_come_back_as_they_are() -> None:
    with pytest.raises(UnreadableImage, match=r"broken \(case c7, a.nii\)"):
        run_apart(partial(fail, error=UnreadableImage("broken", path="a.nii", case="c7")), hear=print, stopping=never)
    with pytest.raises(ZeroDivisionError) as caught:
        run_apart(partial(fail, error=ZeroDivisionError("by zero")), hear=print, stopping=never)
    assert "in fail" in caught.value.__notes__[0]


def end(tell: Tell, stop: threading.Event, *, by: int) -> None:
    tell("last words")
    os.kill(os.getpid(), by)
    time.sleep(30)


@pytest.mark.parametrize(
    ("number", "cause"),
    [(signal.SIGKILL, "killed, most likely for lack of memory"), (signal.SIGSEGV, r"crashed \(SIGSEGV\)")],
)
def test_a_death_is_told_apart_by_its_signal(number: int, cause: str) -> None:
    heard: list[object] = []
    outcome = run_apart(partial(end, by=number), hear=heard.append, stopping=never)
    assert heard == ["last words"]
    assert outcome == Death(-number)
    assert re.search(cause, Death(-number).cause)


def wait_for_stop(tell: Tell, stop: threading.Event) -> str:
    tell("started")
    return "stopped" if stop.wait(30) else "left alone"


def test_work_stops_when_it_is_asked_to() -> None:
    heard: list[object] = []
    assert run_apart(wait_for_stop, hear=heard.append, stopping=lambda: bool(heard)) == "stopped"


def say_who(tell: Tell, stop: threading.Event) -> None:
    sys.stdout.write(f"{os.getpid()}\n")
    sys.stdout.flush()
    time.sleep(60)


def test_work_ends_with_its_supervisor() -> None:
    code = "import test_executors as t; from delineate.executors.supervised import run_apart as run; "
    code += "run(t.say_who, hear=print, stopping=t.never)"
    where = Path(__file__).parent
    with subprocess.Popen([sys.executable, "-c", code], stdout=-1, text=True, cwd=where) as supervisor:
        assert supervisor.stdout is not None
        worker = psutil.Process(int(supervisor.stdout.readline()))
        supervisor.kill()
    assert not psutil.wait_procs([worker], timeout=10)[1]
