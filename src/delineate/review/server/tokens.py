"""What lets somebody in without a password, once, and what slows down those who guess, and only them."""

from __future__ import annotations

import hashlib
import hmac
import ipaddress
import secrets
import threading
import time
from collections import deque
from collections.abc import Callable
from pathlib import Path

from delineate.files import write_once


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


class KnownBrowsers:
    """Browsers in which somebody signed in before: who guesses from elsewhere can lock a name, but not for those.

    A mark is a cookie that tells nothing and lets nobody in by itself. `secret`: 32 bytes of this review.
    """

    def __init__(self, secret: bytes) -> None:
        self._secret = secret

    def mark(self, name: str) -> str:
        """A new mark for a browser in which `name` has signed in."""
        nonce = secrets.token_urlsafe(12)
        return f"{nonce}.{self._seal(nonce, name)}"

    def knows(self, mark: str, name: str) -> bool:
        """Whether a browser's mark is one that this name got."""
        nonce, _, seal = mark.partition(".")
        return hmac.compare_digest(seal.encode(errors="replace"), self._seal(nonce, name).encode())

    def _seal(self, nonce: str, name: str) -> str:
        said = f"{nonce}.{name}".encode(errors="replace")
        return hmac.new(self._secret, said, hashlib.sha256).hexdigest()


def kept_secret(path: Path) -> bytes:
    """The 32 secret bytes in a file that only its owner can read; made where there is none.

    Raises `ResourceError` if it cannot be written.
    """
    write_once(path, secrets.token_bytes(32), mode=0o600)
    return path.read_bytes()


def neighbourhood(address: str) -> str:
    """What attempts from an address are counted under: one visitor of IPv6 has a whole network of 64 bits."""
    try:
        there = ipaddress.ip_address(address)
    except ValueError:
        return address
    if there.version == 4:
        return address
    return str(ipaddress.ip_network((there.packed[:8] + bytes(8), 64)))


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
