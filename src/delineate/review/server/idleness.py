"""Sessions end when nobody is at the machine: who walks away must not leave patients' data to who comes next."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from fastapi import Request

HEADER = "x-idle-seconds"
_MOST_DIGITS = 9


class Idleness:
    """When somebody last touched the machine in each session.

    `seconds`: after which a session has ended, None for never. `kept_seconds`: that a session lasts at most, however
    busy; nothing is known of older ones. `clock`: seconds that only go forward.
    """

    def __init__(
        self, seconds: float | None, *, kept_seconds: float, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._seconds, self._kept_seconds, self._clock = seconds, kept_seconds, clock
        self._touched: dict[str, float] = {}
        self._lock = threading.Lock()

    def goes_on(self, token: str, *, idle: float) -> bool:
        """Whether a session still holds, of which a window says that nobody touched it for `idle` seconds.

        Pages ask by themselves all the time, and several windows share a session: what counts is the last touch that
        any of them told of.
        """
        if self._seconds is None:
            return True
        now = self._clock()
        with self._lock:
            before = self._touched.get(token)
            if before is None:
                self._forget(now)
                before = now
            if now - before >= self._seconds:
                del self._touched[token]
                return False
            self._touched[token] = max(before, now - idle)
            return True

    def _forget(self, now: float) -> None:
        for token in [token for token, when in self._touched.items() if now - when >= self._kept_seconds]:
            del self._touched[token]


def idle_seconds(request: Request) -> float:
    """For how long nobody touched the window that a request comes from; 0 for programs, which do not tell."""
    told = request.headers.get(HEADER, "")
    return float(told) if told.isdecimal() and len(told) <= _MOST_DIGITS else 0.0
