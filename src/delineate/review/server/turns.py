"""Who works on what: one at a time on a case, a few at a time on the machine, and nobody waits without end."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

from delineate.review.server.problems import Busy


class Turns:
    """Turns at heavy work. `at_once`: how many cases are worked on at one time; `seconds`: how long one waits."""

    def __init__(self, *, at_once: int, seconds: float) -> None:
        self._places = threading.BoundedSemaphore(at_once)
        self._seconds = seconds
        self._cases: dict[int, tuple[threading.Lock, int]] = {}
        self._lock = threading.Lock()

    @contextmanager
    def of(self, case: int) -> Iterator[None]:
        """A turn at a case. Raises `Busy` if none comes within the seconds that one waits."""
        until = time.monotonic() + self._seconds
        mine = self._join(case)
        try:
            _take(mine, until)
            try:
                _take(self._places, until)
                try:
                    yield
                finally:
                    self._places.release()
            finally:
                mine.release()
        finally:
            self._leave(case)

    def _join(self, case: int) -> threading.Lock:
        with self._lock:
            lock, users = self._cases.get(case, (threading.Lock(), 0))
            self._cases[case] = (lock, users + 1)
            return lock

    def _leave(self, case: int) -> None:
        with self._lock:
            lock, users = self._cases.pop(case)
            if users > 1:
                self._cases[case] = (lock, users - 1)


def _take(lock: threading.Lock | threading.BoundedSemaphore, until: float) -> None:
    if not lock.acquire(timeout=max(until - time.monotonic(), 0.001)):
        raise Busy("the server has too much to do just now", remedy="Try again in a moment")
