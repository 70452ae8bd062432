"""Who works on what: a few at a time on the machine, one at a time on a case's files, and nobody waits without end.

Labels need no turns: `LiveLabels` lets one at a time work on a case, and never changes what it has handed out.
"""

from __future__ import annotations

import threading
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager

import anyio

from delineate.review.server.problems import Busy


class Turns:
    """Turns at work that takes long. `at_once`: how many have one at a time; `seconds`: how long one waits for it."""

    def __init__(self, *, at_once: int, seconds: float) -> None:
        self._places = threading.BoundedSemaphore(at_once)
        self._seconds = seconds
        self._cases: dict[int, tuple[threading.Lock, int]] = {}
        self._lock = threading.Lock()

    @contextmanager
    def one(self) -> Iterator[None]:
        """A turn. Raises `Busy` if none comes within the seconds that one waits."""
        with _taken(self._places, time.monotonic() + self._seconds):
            yield

    @contextmanager
    def of(self, case: int) -> Iterator[None]:
        """A turn that nobody else has for the same case; raises the same."""
        until = time.monotonic() + self._seconds
        mine = self._join(case)
        try:
            with _taken(mine, until), _taken(self._places, until):
                yield
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


class AccountTurns:
    """Turns at being answered, some for each account: the server's threads are for all, and nobody gets them all.

    Who waits holds no thread. Of one event loop only.
    """

    def __init__(self, *, at_once: int, waiting: int) -> None:
        self._at_once, self._most = at_once, at_once + waiting
        self._accounts: dict[str, tuple[anyio.Semaphore, int]] = {}

    @asynccontextmanager
    async def of(self, account: str) -> AsyncIterator[None]:
        """A turn that `at_once` others of the account have at most; raises `Busy` where too many of it wait already."""
        semaphore, users = self._accounts.get(account) or (anyio.Semaphore(self._at_once), 0)
        if users >= self._most:
            raise Busy("too many requests of this account are under way", remedy="Try again in a moment")
        self._accounts[account] = (semaphore, users + 1)
        try:
            async with semaphore:
                yield
        finally:
            users = self._accounts[account][1] - 1
            if users:
                self._accounts[account] = (semaphore, users)
            else:
                del self._accounts[account]


@contextmanager
def _taken(lock: threading.Lock | threading.BoundedSemaphore, until: float) -> Iterator[None]:
    if not lock.acquire(timeout=max(until - time.monotonic(), 0.001)):
        raise Busy("the server has too much to do just now", remedy="Try again in a moment")
    try:
        yield
    finally:
        lock.release()
