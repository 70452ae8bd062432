"""How long work tells what it is doing, without knowing who looks."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType

Watch = Callable[[str, float, float, str], None]
"""Told (stage, done, total, note); a stage is over when done reaches total."""


def nobody(stage: str, done: float, total: float, note: str) -> None:
    """A watch that looks away."""


@dataclass(slots=True)
class StopRequest:
    """Whether somebody asked for the work to stop at the next point where nothing is lost."""

    asked: bool = False


_OPEN: list[StopRequest] = []  # of the main thread, the outermost first


@contextmanager
def stop_on_signals() -> Iterator[StopRequest]:
    """Ctrl-C and SIGTERM set the request; a second Ctrl-C stops at once. Only the main thread can listen.

    Within another one both are set: who was asked to stop does not begin something else, and a part that begins after
    the whole was asked ends as soon as it can.
    """
    if threading.current_thread() is not threading.main_thread():
        yield StopRequest()
        return
    request = StopRequest(asked=any(outer.asked for outer in _OPEN))

    def ask(number: int, frame: FrameType | None) -> None:
        if request.asked:
            raise KeyboardInterrupt
        for one in _OPEN:
            one.asked = True

    _OPEN.append(request)
    before = {number: signal.signal(number, ask) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield request
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        _OPEN.pop()
