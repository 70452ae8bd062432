"""One training loop that a person can read. It yields after each step; its caller validates, saves and stops it."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import msgspec
import numpy as np
import torch
from torch import Tensor, nn

from delineate.engines.torch_engine import DTYPES
from delineate.errors import ModelError, TrainingError
from delineate.inference import dice_per_label, place, predict_logits, run_network
from delineate.losses import LOSSES, deep_supervision_loss
from delineate.networks import build_network
from delineate.planning import Plan, TrainingPlan
from delineate.preprocessing import PreparedCase
from delineate.sampling import Batch, TrainingCase, iterate_batches, steps_per_epoch


class Phase(msgspec.Struct, frozen=True, kw_only=True):
    """Learning rate from step `first` to `last`: up from `start` to `peak`, then down to zero at `last`."""

    first: int
    last: int
    start: float
    peak: float


class HistoryRow(msgspec.Struct, frozen=True, kw_only=True):
    """One line of the learning curve. `validation_dice`: one value a structure, None where nothing was validated."""

    step: int
    epoch: float
    seconds: float
    loss: float | None
    learning_rate: float
    validation_dice: tuple[float | None, ...] | None = None


class Facts(msgspec.Struct, kw_only=True):
    """All of a run's state that is not a tensor. `seconds` counts the time of stopped and resumed parts together.

    `stage_seconds`: what of it was spent on something else than steps, by what it was.
    """

    step: int = 0
    seconds: float = 0.0
    phases: tuple[Phase, ...]
    history: tuple[HistoryRow, ...] = ()
    best_dice: float | None = None
    best_step: int | None = None
    deadline_seconds: float | None = None  # of a run of given minutes
    validation_seconds: float = 0.0  # the last one's
    stage_seconds: dict[str, float] = {}
    loss_scale: float = 2.0**16  # of float16 on a GPU

    @property
    def last_step(self) -> int:
        return self.phases[-1].last


@dataclass(slots=True)
class TrainingState:
    """A run in progress: the only object of the house that changes while it is used.

    `average`: exponential moving average of the weights, the ones that are validated and kept.
    """

    network: nn.Module
    optimiser: torch.optim.Optimizer
    average: dict[str, Tensor]
    facts: Facts
    recent_losses: list[Tensor] = field(default_factory=list)


def start(plan: Plan, *, device: str = "cpu") -> TrainingState:
    """A run at step 0, with weights drawn from the plan's seed."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(plan.training.seed)
        network = build_network(plan.network, in_channels=plan.inputs, out_channels=plan.classes)
    network = place(network, device)
    phase = Phase(first=0, last=plan.training.steps, start=0.0, peak=plan.training.learning_rate)
    average = {name: tensor.detach().clone() for name, tensor in network.state_dict().items()}
    return TrainingState(network, make_optimiser(network, plan.training), average, Facts(phases=(phase,)))


def train(
    state: TrainingState, cases: Sequence[TrainingCase], plan: Plan, *, device: str = "cpu", workers: int = 1
) -> Iterator[TrainingState]:
    """Take the steps that are left, yielding the state after each. Nothing depends on when it was stopped before.

    Raises `TrainingError` for a case that cannot be sampled.
    """
    if state.facts.step >= state.facts.last_step:
        return
    scaler = torch.amp.GradScaler(
        device.split(":")[0],
        init_scale=state.facts.loss_scale,
        enabled=plan.training.precision == "float16" and device != "cpu",
    )
    for batch in iterate_batches(cases, plan, state.facts.step, workers=workers):
        state.network.train()
        for group in state.optimiser.param_groups:
            group["lr"] = learning_rate(state.facts.phases, state.facts.step, plan.training)
        loss = _take_step(state, batch, plan, scaler, device)
        _update_average(state, plan.training.ema_decay)
        state.recent_losses.append(loss)
        state.facts.step += 1
        if scaler.is_enabled():
            state.facts.loss_scale = scaler.get_scale()
        yield state
        if state.facts.step >= state.facts.last_step:
            return


def _take_step(state: TrainingState, batch: Batch, plan: Plan, scaler: torch.amp.GradScaler, device: str) -> Tensor:
    images = batch.images.to(device, non_blocking=True)
    targets = batch.targets.to(device, non_blocking=True)
    state.optimiser.zero_grad(set_to_none=True)
    annotated = None if batch.annotated is None else batch.annotated.to(device)
    loss = compute_loss(state.network, images, targets, plan, annotated=annotated)
    torch.autograd.backward(scaler.scale(loss))
    scaler.unscale_(state.optimiser)
    nn.utils.clip_grad_norm_(state.network.parameters(), plan.training.gradient_clip)
    scaler.step(state.optimiser)
    scaler.update()
    return loss.detach()


def compute_loss(
    network: nn.Module, images: Tensor, targets: Tensor, plan: Plan, *, annotated: Tensor | None = None
) -> Tensor:
    """The plan's loss of a batch, in the plan's precision. `annotated` as in `Batch`."""
    dtype = DTYPES[plan.training.precision]
    with torch.autocast(images.device.type, dtype, enabled=dtype is not torch.float32):
        outputs = run_network(network, images, plan)
    loss = LOSSES[plan.training.loss]
    if isinstance(outputs, tuple):
        return deep_supervision_loss(loss, outputs, targets, annotated=annotated)
    return loss(outputs, targets, annotated=annotated)


def make_optimiser(network: nn.Module, plan: TrainingPlan) -> torch.optim.Optimizer:
    """The plan's optimiser; biases and norms, vectors all, are not decayed."""
    matrices = [p for p in network.parameters() if p.ndim > 1]
    vectors = [p for p in network.parameters() if p.ndim <= 1]
    groups = [{"params": matrices, "weight_decay": plan.weight_decay}, {"params": vectors, "weight_decay": 0.0}]
    if plan.optimiser == "sgd":
        return torch.optim.SGD(groups, lr=plan.learning_rate, momentum=plan.momentum, nesterov=True)
    kind = torch.optim.AdamW if plan.optimiser == "adamw" else torch.optim.Adam
    return kind(groups, lr=plan.learning_rate, fused=True)


def learning_rate(phases: Sequence[Phase], step: int, plan: TrainingPlan) -> float:
    """The rate at a step (from 0): linear warm-up, then cosine or polynomial (power 0.9) decay to zero."""
    phase = next((p for p in phases if step < p.last), phases[-1])
    length = max(1, phase.last - phase.first)
    warmup = max(1, round(plan.warmup_fraction * length))
    done = step - phase.first
    if done < warmup:
        return phase.start + (phase.peak - phase.start) * (done + 1) / warmup
    share = min(1.0, (done - warmup) / max(1, length - warmup))
    return phase.peak * (0.5 * (1 + math.cos(math.pi * share)) if plan.decay == "cosine" else (1 - share) ** 0.9)


def refit(facts: Facts, last: int) -> Facts:
    """The run with its present phase ending at step `last` instead, which is at least one step ahead."""
    *before, phase = facts.phases
    moved = msgspec.structs.replace(phase, last=max(last, facts.step + 1))
    return msgspec.structs.replace(facts, phases=(*before, moved))


def extend(facts: Facts, last: int, plan: TrainingPlan) -> Facts:
    """A finished run with a further phase up to step `last`; the rate starts where it stood, so nothing jumps.

    Raises `TrainingError` if the run has already gone as far.
    """
    if last <= facts.last_step:
        raise TrainingError(
            "the run cannot be extended",
            expected=f"more than {facts.last_step} steps",
            got=last,
            remedy="Ask for more.",
        )
    ended = learning_rate(facts.phases, facts.last_step, plan)
    phase = Phase(first=facts.last_step, last=last, start=ended, peak=plan.learning_rate / 2)
    return msgspec.structs.replace(facts, phases=(*facts.phases, phase))


def _update_average(state: TrainingState, decay: float) -> None:
    current = state.network.state_dict()
    # Early on the average follows closely, or it would remember the random start.
    decay = min(decay, (1 + state.facts.step) / (10 + state.facts.step))
    floats = [name for name, tensor in state.average.items() if tensor.is_floating_point()]
    torch._foreach_lerp_([state.average[n] for n in floats], [current[n] for n in floats], 1 - decay)
    for name in state.average.keys() - set(floats):
        state.average[name].copy_(current[name])


def take_recent_loss(state: TrainingState) -> float | None:
    """The mean loss since the last call; None if no step was taken. Raises `TrainingError` if it is not finite."""
    if not state.recent_losses:
        return None
    loss = float(torch.stack(state.recent_losses).mean())
    state.recent_losses.clear()
    if not math.isfinite(loss):
        raise TrainingError(
            "the loss is no longer finite",
            got=f"{loss} by step {state.facts.step}",
            remedy="Lower the learning rate, or train in float32 (--precision float32).",
        )
    return loss


def validate(
    state: TrainingState, cases: Sequence[PreparedCase], plan: Plan, *, device: str = "cpu"
) -> tuple[float | None, ...]:
    """Mean Dice of each structure over cases, with the averaged weights and full sliding windows.

    A structure missed altogether counts as 0; one absent from reference and prediction is left out, as is one that
    the reference lacks if the plan says that this means unknown; None if no case has it.
    """
    network = averaged_network(state, plan, device=device)
    rows = []
    for case in cases:
        if case.target is None:
            raise TrainingError("a validation case has no reference", case=case.id)
        labels = predict_logits(network, case.image, plan, device=device).argmax(0).astype("uint8")
        dice = dice_per_label(labels, case.target, plan.classes)
        if plan.training.missing_labels == "unknown":
            dice[~np.isin(np.arange(1, plan.classes), case.target)] = np.nan
        rows.append(torch.from_numpy(dice))
    means = torch.stack(rows).nanmean(0).tolist()
    return tuple(None if math.isnan(mean) else mean for mean in means)


def averaged_network(state: TrainingState, plan: Plan, *, device: str = "cpu") -> nn.Module:
    """A second network with the averaged weights, for inference."""
    with torch.random.fork_rng(devices=[]):
        network = build_network(plan.network, in_channels=plan.inputs, out_channels=plan.classes)
    network.load_state_dict(state.average)
    return place(network, device).eval()


def record(
    state: TrainingState, plan: Plan, case_count: int, dice: tuple[float | None, ...] | None = None
) -> HistoryRow:
    """Add a line to the history, and note the best validated step."""
    facts = state.facts
    row = HistoryRow(
        step=facts.step,
        epoch=facts.step / steps_per_epoch(case_count, plan),
        seconds=facts.seconds,
        loss=take_recent_loss(state),
        learning_rate=learning_rate(facts.phases, facts.step - 1, plan.training),
        validation_dice=dice,
    )
    facts.history = (*facts.history, row)
    mean = mean_dice(dice)
    if mean is not None and (facts.best_dice is None or mean >= facts.best_dice):
        facts.best_dice, facts.best_step = mean, facts.step
    return row


def mean_dice(dice: Sequence[float | None] | None) -> float | None:
    """Mean over the structures that were there; None if none was."""
    known = [value for value in dice or () if value is not None]
    return sum(known) / len(known) if known else None


def time_step(plan: Plan, batches: Sequence[Batch], *, device: str = "cpu") -> float:
    """Seconds of one training step on this machine: the median of real steps of a network made for it."""
    state = start(plan, device=device)
    scaler = torch.amp.GradScaler(device.split(":")[0], enabled=False)
    seconds = []
    for batch in batches:
        began = time.perf_counter()
        _take_step(state, batch, plan, scaler, device).item()
        seconds.append(time.perf_counter() - began)
    return sorted(seconds[1:] or seconds)[len(seconds[1:]) // 2]


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
