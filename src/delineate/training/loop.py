"""One training loop that a person can read. It yields after each step; its caller validates, saves and stops it."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor, nn

from delineate.errors import TrainingError
from delineate.planning import Plan
from delineate.sampling import Batch, TrainingCase, iterate_batches, steps_per_epoch
from delineate.training.facts import HistoryRow, learning_rate, mean_dice
from delineate.training.freezing import set_rates
from delineate.training.objectives import Objective, supervised
from delineate.training.state import TrainingState, start


def train(
    state: TrainingState,
    cases: Sequence[TrainingCase],
    plan: Plan,
    *,
    objective: Objective = supervised,
    device: str = "cpu",
    workers: int = 1,
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
        set_rates(state.network, state.optimiser, state.facts, plan.training)
        loss = _take_step(state, batch.to(device), plan, scaler, objective)
        _update_average(state, plan.training.ema_decay)
        state.recent_losses.append(loss)
        state.facts.step += 1
        if scaler.is_enabled():
            state.facts.loss_scale = scaler.get_scale()
        yield state
        if state.facts.step >= state.facts.last_step:
            return


def _take_step(
    state: TrainingState, batch: Batch, plan: Plan, scaler: torch.amp.GradScaler, objective: Objective
) -> Tensor:
    state.optimiser.zero_grad(set_to_none=True)
    loss = objective(state.network, batch, plan)
    torch.autograd.backward(scaler.scale(loss))
    scaler.unscale_(state.optimiser)
    nn.utils.clip_grad_norm_(state.network.parameters(), plan.training.gradient_clip)
    scaler.step(state.optimiser)
    scaler.update()
    return loss.detach()


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


def time_step(plan: Plan, batches: Sequence[Batch], *, device: str = "cpu") -> float:
    """Seconds of one training step on this machine: the median of real steps of a network made for it."""
    state = start(plan, device=device)
    scaler = torch.amp.GradScaler(device.split(":")[0], enabled=False)
    seconds = []
    for batch in batches:
        began = time.perf_counter()
        _take_step(state, batch.to(device), plan, scaler, supervised).item()
        seconds.append(time.perf_counter() - began)
    return sorted(seconds[1:] or seconds)[len(seconds[1:]) // 2]
