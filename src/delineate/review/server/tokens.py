"""What lets somebody in without a password, once, and what slows down those who guess."""

from __future__ import annotations

import hmac
import secrets
import threading
import time
from collections import deque
from collections.abc import Callable


class OneTimeToken:
    """A secret that is good for one visit: the address that is printed when a server starts on loopback."""

    def __init__(self) -> None:
        self.text = secrets.token_urlsafe(32)
        self._unused = True
        self._lock = threading.Lock()

    def redeem(self, text: str) -> bool:
        """Whether this is the token, for the first time; it is none from then on."""
        with self._lock:
            fits = self._unused and hmac.compare_digest(text.encode(), self.text.encode())
            self._unused = self._unused and not fits
            return fits


class Attempts:
    """How often each visitor tried something within the last minute; at most `limit` times are let through.

    `clock`: seconds that only go forward.
    """

    def __init__(self, limit: int, *, clock: Callable[[], float] = time.monotonic, seconds: float = 60.0) -> None:
        self._limit, self._clock, self._seconds = limit, clock, seconds
        self._times: dict[str, deque[float]] = {}
        self._lock = threading.Lock()

    def allow(self, who: str) -> bool:
        """Counts an attempt, and says whether it may be made."""
        now = self._clock()
        with self._lock:
            self._forget(now)
            times = self._times.setdefault(who, deque())
            if len(times) >= self._limit:
                return False
            times.append(now)
            return True

    def forgive(self, who: str) -> None:
        """Takes back what `allow` counted last: the attempt was right."""
        with self._lock:
            times = self._times.get(who)
            if times:
                times.pop()

    def _forget(self, now: float) -> None:
        for who in list(self._times):
            times = self._times[who]
            while times and now - times[0] >= self._seconds:
                times.popleft()
            if not times:
                del self._times[who]
