"""Where the time of a run goes: a stopwatch that is pressed whenever something is over."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from types import MappingProxyType

import msgspec
import torch
from torch import nn

WAITING = "waiting for data"
MOVING = "to the device"
FORWARD = "forward"
LOSS = "loss"
BACKWARD = "backward"
OPTIMISER = "clipping and optimiser"
AVERAGE = "average of weights"
KEEPING = "keeping a good state"
FIRST = "first batch"
BESIDE = "else between steps"
STEP_PARTS = (WAITING, MOVING, FORWARD, LOSS, BACKWARD, OPTIMISER, AVERAGE, KEEPING)
"""The parts of a step, in their order; what else was timed lies beside the steps."""


class Profile(msgspec.Struct, frozen=True, kw_only=True):
    """Where the time of `steps` steps went, in seconds by what it was spent on. An `exact` one waited for the GPU."""

    steps: int
    seconds: dict[str, float]
    exact: bool = True

    @property
    def step_seconds(self) -> float:
        """Of all steps together."""
        return sum(self.seconds.get(part, 0.0) for part in STEP_PARTS)

    @property
    def waiting_share(self) -> float:
        """The share of the steps' time in which the network waited for data, 0 to 1; 0 without a step."""
        return self.seconds.get(WAITING, 0.0) / self.step_seconds if self.step_seconds else 0.0


@dataclass(slots=True)
class Laps:
    """Seconds by what they were spent on; together all the time since the start.

    `exact`: a GPU is waited for at every press, and the network's forward pass is told from the loss; that is for
    profiles, because waiting costs a GPU some of its speed.
    """

    exact: bool = False
    clock: Callable[[], float] = time.perf_counter
    _seconds: dict[str, float] = field(default_factory=dict)
    _since: float | None = None

    def start(self) -> None:
        """Forget what passed since the last press."""
        self._since = self.clock()

    def press(self, what: str) -> None:
        """What has passed since the last press was `what`."""
        if self.exact and torch.cuda.is_available():
            torch.cuda.synchronize()
        now = self.clock()
        self._seconds[what] = self._seconds.get(what, 0.0) + now - (now if self._since is None else self._since)
        self._since = now

    @property
    def seconds(self) -> MappingProxyType[str, float]:
        """A view of the seconds so far."""
        return MappingProxyType(self._seconds)

    @contextmanager
    def timing(self, network: nn.Module) -> Iterator[None]:
        """Tell a network's forward passes from what is done before and after them, if it is to be `exact`."""
        if not self.exact:
            yield
            return
        hooks = (
            network.register_forward_pre_hook(lambda *_: self.press(LOSS)),
            network.register_forward_hook(lambda *_: self.press(FORWARD)),
        )
        try:
            yield
        finally:
            for hook in hooks:
                hook.remove()
