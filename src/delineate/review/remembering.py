"""Answers that take long, kept for a little while: the longer they took, the longer."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

from delineate.review.records import Person, Role

Answer = TypeVar("Answer")

_TIMES = 10.0
_LONGEST_SECONDS = 60.0


class Remembered(Generic[Answer]):
    """Answers by key. Each is given again for ten times as long as it took to make, a minute at most, so that asking
    never takes more than a tenth of a processor. One is made at a time; who asks for it meanwhile waits for it."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._kept: dict[Hashable, tuple[float, Answer]] = {}

    def get(
        self, key: Hashable, make: Callable[[], Answer], *, whole: Callable[[Answer], bool] = lambda answer: True
    ) -> Answer:
        """The answer to `key`, made if there is none, or it is too old. One that is not `whole` is not kept.

        Raises what `make` raises.
        """
        with self._lock:
            began = self._clock()
            self._kept = {one: kept for one, kept in self._kept.items() if kept[0] > began}
            if key not in self._kept:
                answer = make()
                ended = self._clock()
                if not whole(answer):
                    return answer
                self._kept[key] = ended + min(_TIMES * (ended - began), _LONGEST_SECONDS), answer
                return answer
            return self._kept[key][1]


def scope_of(person: Person | None) -> Hashable:
    """The same for people who may see the same cases; None for all cases."""
    if person is None or person.role is Role.ADMIN or person.collections is None:
        return None
    return frozenset(person.collections)
