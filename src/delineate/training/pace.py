"""How fast steps go at present, and how many of them the time that is left has room for."""

from __future__ import annotations

import statistics
from collections import deque
from dataclasses import dataclass, field

_FEWEST = 8  # recent steps that the pace is taken from
_MOST = 512
_SLOW = 3.0  # times the median: what a single step counts for at most
_LANDING = 0.03  # of the steps taken so far: how many are still taken when the time is suddenly over


@dataclass(slots=True)
class Pace:
    """The recent steps' seconds: as many steps as took `span_seconds` together, and at least a few."""

    span_seconds: float
    _recent: deque[float] = field(default_factory=deque)
    _total: float = 0.0

    def add(self, seconds: float) -> None:
        """One more step."""
        self._recent.append(seconds)
        self._total += seconds
        while len(self._recent) > _MOST or (
            len(self._recent) > _FEWEST and self._total - self._recent[0] > self.span_seconds
        ):
            self._total -= self._recent.popleft()

    @property
    def step_seconds(self) -> float | None:
        """The mean of the recent steps, of which a single one that hung counts little; None before the first."""
        if not self._recent:
            return None
        most = _SLOW * statistics.median(self._recent)
        return sum(min(seconds, most) for seconds in self._recent) / len(self._recent)


def fitting_steps(left_seconds: float, step_seconds: float, *, taken: int, share: float) -> int:
    """How many steps fit into the time that is left, at least 1.

    Where the time is over at once, because the machine hung, say, some of the `taken` steps are added, the fewer the
    more `share` of the schedule (0 to 1) is over, so that the learning rate still comes down in steps.
    """
    landing = round(_LANDING * (1 - share) * taken)
    return max(1, landing, int(left_seconds / step_seconds))
