"""Work in a process of its own, so that what kills it (no memory, a fault in a decoder) leaves somebody to say so.

The process is a new one (it inherits no threads or locks), tells its supervisor how it is getting on, and never
outlives it.
"""

from __future__ import annotations

import ctypes
import multiprocessing
import os
import signal
import sys
import threading
import traceback
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait

from delineate.errors import DelineateError

Tell = Callable[[object], None]
"""Sends what can be pickled to the supervisor."""

Work = Callable[[Tell, threading.Event], object]
"""What runs there: a function that can be pickled. The event is set when it should stop where nothing is lost."""

_LISTEN_SECONDS = 0.2
_PATIENCE_SECONDS = 5.0
_STOP = "stop"
_PR_SET_PDEATHSIG = 1


@dataclass(frozen=True, slots=True)
class Death:
    """A process that ended without a word. `exit_code`: negative for the number of the signal that ended it."""

    exit_code: int

    @property
    def cause(self) -> str:
        """In words for people, to follow the name of what died."""
        if self.exit_code >= 0:
            return f"ended with exit code {self.exit_code}"
        number = -self.exit_code
        name = signal.Signals(number).name if number in set(signal.Signals) else f"signal {number}"
        if name == "SIGKILL":
            return "was killed, most likely for lack of memory"
        if name in ("SIGSEGV", "SIGBUS", "SIGILL", "SIGFPE", "SIGABRT"):
            return f"crashed ({name}), most likely in a library that met damaged data"
        return f"was ended ({name})"


def run_apart(work: Work, *, hear: Tell, stopping: Callable[[], bool]) -> object:
    """Run `work` in a process of its own: what it returned, or its `Death`. `hear` gets what it tells, in this thread.

    When `stopping` says so, the work is asked to stop, once. Raises what the work raised; whatever ends the waiting,
    the process ends as well.
    """
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=_serve, args=(work, theirs, os.getpid()))
    process.start()
    theirs.close()
    try:
        done = _listen(ours, hear=hear, stopping=stopping)
        return Death(_exit_code(process)) if done is None else done.result
    finally:
        ours.close()
        process.join(_PATIENCE_SECONDS)
        if process.is_alive():
            process.kill()
            process.join()


@dataclass(frozen=True, slots=True)
class _Told:
    what: object


@dataclass(frozen=True, slots=True)
class _Done:
    result: object


@dataclass(frozen=True, slots=True)
class _Raised:
    error: BaseException


def _listen(connection: Connection, *, hear: Tell, stopping: Callable[[], bool]) -> _Done | None:
    """None if the other side fell silent."""
    asked = False
    while True:
        if stopping() and not asked:
            asked = True
            with suppress(OSError):  # if it is gone, what it said before is still to be heard
                connection.send(_STOP)
        if not wait([connection], _LISTEN_SECONDS):
            continue
        try:
            message = connection.recv()
        except (EOFError, ConnectionError):
            return None
        if isinstance(message, _Raised):
            raise message.error
        if isinstance(message, _Done):
            return message
        assert isinstance(message, _Told)
        hear(message.what)


def _exit_code(process: multiprocessing.process.BaseProcess) -> int:
    process.join()
    return process.exitcode or 0


def _serve(work: Work, connection: Connection, supervisor: int) -> None:
    """The other process. What it returns and raises must be something that can be pickled."""
    die_with(supervisor)
    # Keys reach every process of the terminal; here only the supervisor's word counts.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    stop, lock = threading.Event(), threading.Lock()
    threading.Thread(target=_obey, args=(connection, stop), daemon=True).start()

    def send(message: object) -> None:
        with lock:
            connection.send(message)

    try:
        outcome: object = _Done(work(lambda what: send(_Told(what)), stop))
    except DelineateError as error:
        outcome = _Raised(error)
    except Exception as error:
        error.add_note("".join(traceback.format_exception(error)))
        outcome = _Raised(error)
    send(outcome)


def _obey(connection: Connection, stop: threading.Event) -> None:
    try:
        while connection.recv() == _STOP:
            stop.set()
    except (EOFError, OSError):
        os._exit(1)  # the supervisor is gone, and whoever waits for the result with it


def die_with(supervisor: int) -> None:
    """Where the system can do it, a supervisor that is killed takes this process along at once."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != supervisor:
            os._exit(1)
