"""Answers that cost something to make and are asked for again, bounded in bytes."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable


class Kept:
    """The answers that were used last, of `limit_bytes` in all. Keys must say all that an answer depends on."""

    def __init__(self, limit_bytes: int) -> None:
        self._limit = limit_bytes
        self._answers: OrderedDict[Hashable, bytes] = OrderedDict()
        self._making: dict[Hashable, threading.Lock] = {}
        self._size = 0
        self._lock = threading.Lock()

    def get(self, key: Hashable, make: Callable[[], bytes]) -> bytes:
        """The answer to `key`, made where it is not kept; of several who ask for it at once, by one of them."""
        with self._lock:
            if key in self._answers:
                self._answers.move_to_end(key)
                return self._answers[key]
            making = self._making.setdefault(key, threading.Lock())
        with making:
            with self._lock:
                if key in self._answers:
                    return self._answers[key]
            try:
                made = make()
                self._keep(key, made)
            finally:
                with self._lock:
                    self._making.pop(key, None)
        return made

    def _keep(self, key: Hashable, made: bytes) -> None:
        with self._lock:
            if key not in self._answers and len(made) <= self._limit // 4:
                self._answers[key] = made
                self._size += len(made)
            while self._size > self._limit:
                self._size -= len(self._answers.popitem(last=False)[1])
