"""A run in progress: made, taken apart for the disk, put together again."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from delineate.errors import ModelError
from delineate.groups import ALONE, Group
from delineate.inference import place
from delineate.networks import build_network
from delineate.planning import Plan
from delineate.sampling import Batch
from delineate.training.facts import Facts, Incident, Phase
from delineate.training.laps import Laps
from delineate.training.optimisers import make_optimiser


@dataclass(frozen=True, slots=True, eq=False)
class Refusal:
    """A batch whose step was not taken, and its loss, which may be NaN."""

    incident: Incident
    batch: Batch
    loss: float


@dataclass(slots=True)
class TrainingState:
    """A run in progress: the only object of the house that changes while it is used.

    `average`: exponential moving average of the weights, the ones that are validated and kept. `refusals`: for the
    caller to take and clear. `laps`: where the time goes. `group`: the processes that take the steps together, each of
    which has the same run.
    """

    network: nn.Module
    optimiser: torch.optim.Optimizer
    average: dict[str, Tensor]
    facts: Facts
    recent_losses: list[Tensor] = field(default_factory=list)
    refusals: list[Refusal] = field(default_factory=list)
    laps: Laps = field(default_factory=Laps)
    group: Group = ALONE


def start(plan: Plan, *, device: str = "cpu") -> TrainingState:
    """A run at step 0, with weights drawn from the plan's seed."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(plan.training.seed)
        network = build_network(plan.network, in_channels=plan.inputs, out_channels=plan.classes)
    network = place(network, device)
    phase = Phase(first=0, last=plan.training.steps, start=0.0, peak=plan.training.learning_rate)
    average = {name: tensor.detach().clone() for name, tensor in network.state_dict().items()}
    return TrainingState(network, make_optimiser(network, plan.training), average, Facts(phases=(phase,)))


def averaged_network(state: TrainingState, plan: Plan, *, device: str = "cpu") -> nn.Module:
    """A second network with the averaged weights, for inference."""
    with torch.random.fork_rng(devices=[]):
        network = build_network(plan.network, in_channels=plan.inputs, out_channels=plan.classes)
    network.load_state_dict(state.average)
    return place(network, device).eval()


def pack(state: TrainingState) -> dict[str, Tensor]:
    """Every tensor of a run by name: weights, their average, the optimiser's memory."""
    tensors = {f"network.{name}": tensor for name, tensor in state.network.state_dict().items()}
    tensors |= {f"average.{name}": tensor for name, tensor in state.average.items()}
    for index, memory in state.optimiser.state_dict()["state"].items():
        tensors |= {f"optimiser.{index}.{name}": value for name, value in memory.items()}
    return {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}


def unpack(tensors: Mapping[str, Tensor], facts: Facts, plan: Plan, *, device: str = "cpu") -> TrainingState:
    """The run that `pack` took apart. Raises `ModelError` if the tensors do not fit the plan."""
    state = start(plan, device=device)
    parts: dict[str, dict[str, Tensor]] = {"network": {}, "average": {}, "optimiser": {}}
    for name, tensor in tensors.items():
        part, _, rest = name.partition(".")
        parts[part][rest] = tensor
    memory: dict[int, dict[str, Tensor]] = {}
    for name, tensor in parts["optimiser"].items():
        index, _, rest = name.partition(".")
        memory.setdefault(int(index), {})[rest] = tensor
    parameters = [parameter for group in state.optimiser.param_groups for parameter in group["params"]]
    try:
        for number, values in memory.items():
            # The fused optimisers walk through raw memory: it must lie as the weights lie (channels last).
            memory[number] = {
                name: torch.empty_like(parameters[number]).copy_(value) if value.ndim else value
                for name, value in values.items()
            }
        state.network.load_state_dict(parts["network"])
        state.optimiser.load_state_dict(state.optimiser.state_dict() | {"state": memory})
        for name, tensor in state.average.items():
            tensor.copy_(parts["average"][name])
    except (RuntimeError, ValueError, KeyError, IndexError) as error:
        raise ModelError("the checkpoint does not fit the plan", got=str(error), remedy="Start a new run.") from error
    state.facts = facts
    return state
