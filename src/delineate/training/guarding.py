"""Steps whose loss or gradients are not finite: refused, and the run goes back to weights that were good."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import msgspec
import torch
from torch import Tensor

from delineate.errors import TrainingError
from delineate.sampling import Batch
from delineate.training.facts import Incident
from delineate.training.state import Refusal, TrainingState

KEEP_EVERY = 100  # steps
LATE = 8  # steps that a GPU is ahead of what is known of their losses
_GIVE_UP = 4  # incidents
_WITHIN = 200  # steps
_MOST = 12  # incidents of one process: the rate is then 1/4096
_SMALLER = 0.5


@dataclass(frozen=True, slots=True, eq=False)
class Snapshot:
    """A run's tensors after `step` steps, in the host's memory."""

    step: int
    network: Mapping[str, Tensor]
    average: Mapping[str, Tensor]
    memory: Mapping[Tensor, Mapping[str, Tensor]]


def take_snapshot(state: TrainingState) -> Snapshot:
    """Copies of all that steps change."""
    memory = {
        parameter: {name: _copy(value) for name, value in values.items() if isinstance(value, Tensor)}
        for parameter, values in state.optimiser.state.items()
    }
    network = {name: _copy(tensor) for name, tensor in state.network.state_dict().items()}
    return Snapshot(state.facts.step, network, {n: _copy(tensor) for n, tensor in state.average.items()}, memory)


def _copy(tensor: Tensor) -> Tensor:
    return tensor.detach().to("cpu", copy=True)


def go_back(state: TrainingState, good: Snapshot) -> None:
    """Give a run the tensors of a snapshot; its steps, and so its learning rate and its batches, go on."""
    state.network.load_state_dict(good.network)
    for name, tensor in state.average.items():
        tensor.copy_(good.average[name])
    for parameter in [p for p in state.optimiser.state if p not in good.memory]:
        del state.optimiser.state[parameter]
    for parameter, values in good.memory.items():
        for name, value in values.items():
            state.optimiser.state[parameter][name].copy_(value)


@dataclass(frozen=True, slots=True, eq=False)
class _Unread:
    """A step whose outcome is still being computed."""

    step: int
    learning_rate: float
    batch: Batch
    loss: Tensor
    finite: Tensor


class Guard:
    """Watches over a run's steps.

    A step that is not finite changes no weight. Then the run goes on from the older of two states that are kept in
    memory every `KEEP_EVERY` steps, because a loss often grows for a while before it overflows, and with half the
    learning rate. `late`: outcomes are read `LATE` steps later, so that a GPU need not be waited for.
    """

    def __init__(self, state: TrainingState, *, late: bool) -> None:
        self._state, self._late = state, late
        self._kept: deque[Snapshot] = deque(maxlen=2)
        self._unread: deque[_Unread] = deque()
        self._incidents: list[Incident] = []

    def before_step(self) -> None:
        """Keep a good state now and then. Raises `TrainingError` if one incident follows the other."""
        _check(self._incidents)
        if not self._kept or self._state.facts.step % KEEP_EVERY == 0:
            self.read_all()
            self._kept.append(take_snapshot(self._state))

    def accepts(self, batch: Batch, loss: Tensor, finite: Tensor, learning_rate: float) -> bool:
        """Whether the step just taken counts; if it is to be known later, it does for now."""
        self._unread.append(_Unread(self._state.facts.step, learning_rate, batch, loss, finite))
        if self._late:
            while len(self._unread) > LATE:
                self._read()
            return True
        return self._read()

    def read_all(self) -> None:
        """Read every outcome that is still being computed."""
        while self._unread:
            self._read()

    def _read(self) -> bool:
        outcome = self._unread.popleft()
        if bool(outcome.finite):
            return True
        state, good, loss = self._state, self._kept[0], float(outcome.loss)
        what = "gradients not finite" if math.isfinite(loss) else "loss not finite"
        incident = Incident(
            step=outcome.step,
            what=what,
            cases=outcome.batch.all_cases,
            loss=loss if math.isfinite(loss) else None,
            learning_rate=outcome.learning_rate,
            back_to=good.step,
        )
        go_back(state, good)
        self._kept = deque([good], maxlen=2)
        self._unread.clear()  # steps that were taken from the weights left behind
        self._incidents.append(incident)
        smaller = state.facts.rate_factor * _SMALLER
        incidents = (*state.facts.incidents, incident)
        state.facts = msgspec.structs.replace(state.facts, incidents=incidents, rate_factor=smaller)
        state.refusals.append(Refusal(incident, outcome.batch, loss))
        return False


def _check(incidents: Sequence[Incident]) -> None:
    recent = incidents[-_GIVE_UP:]
    close = len(recent) == _GIVE_UP and recent[-1].step - recent[0].step <= _WITHIN
    if not close and len(incidents) < _MOST:
        return
    shared = sorted(set.intersection(*(set(incident.cases) for incident in incidents)))
    look = f" Case {', '.join(shared)} was in every one of these batches." if shared else ""
    raise TrainingError(
        "loss or gradients are not finite again and again, also at smaller learning rates",
        got=f"{len(incidents)} times, lastly at steps {', '.join(str(incident.step) for incident in recent)}",
        remedy=f"The batches are in training/incidents.{look} Lower the learning rate (--learning-rate), or train in "
        "float32 (--precision float32), in a new folder.",
    )


def all_finite(*values: Tensor) -> Tensor:
    """Whether all of some scalars are finite, as a tensor on their device, which is not waited for."""
    return torch.stack([value.detach().float().reshape(()) for value in values]).isfinite().all()
