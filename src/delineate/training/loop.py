"""One training loop that a person can read. It yields after each step; its caller validates, saves and stops it."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import closing

import numpy as np
import torch
from torch import Tensor, nn

from delineate.planning import Plan, coarse_start
from delineate.sampling import Batch, TrainingCase, iterate_batches, steps_per_epoch
from delineate.training.facts import Facts, HistoryRow, learning_rate, mean_dice
from delineate.training.freezing import set_rates
from delineate.training.guarding import Guard, all_finite
from delineate.training.laps import AVERAGE, BACKWARD, BESIDE, FIRST, KEEPING, LOSS, MOVING, OPTIMISER, WAITING
from delineate.training.objectives import Objective, supervised
from delineate.training.state import TrainingState, start
from delineate.training.together import sum_gradients


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

    A step whose loss or gradients are not finite is not taken: see `state.refusals`, and `Guard` for what follows.
    Where the run has a group, each process calls this at the same time, and has its share of every batch.
    Raises `TrainingError` for a case that cannot be sampled, or if that happens again and again; `LostProcess` if
    another process of the group is gone.
    """
    if state.facts.step >= state.facts.last_step:
        return
    scaler = torch.amp.GradScaler(
        device.split(":")[0],
        init_scale=state.facts.loss_scale,
        enabled=plan.training.precision == "float16" and device != "cpu",
    )
    guard, laps = Guard(state, late=_skips_by_itself(state.optimiser)), state.laps
    laps.start()
    with laps.timing(state.network):
        for batch, present in _batches(state, cases, plan, workers):
            guard.before_step()
            laps.press(KEEPING)
            state.network.train()
            set_rates(state.network, state.optimiser, state.facts, plan.training)
            for group in state.optimiser.param_groups:
                group["lr"] *= state.facts.rate_factor
            moved = batch.to(device)
            laps.press(MOVING)
            loss, finite = _take_step(state, moved, present, scaler, objective)
            if guard.accepts(batch, loss, finite, _rate(state, plan)):
                _update_average(state, plan.training.ema_decay)
                state.recent_losses.append(loss)
            state.facts.step += 1
            ended = state.facts.step >= state.facts.last_step
            if ended:
                guard.read_all()
            if scaler.is_enabled():
                state.facts.loss_scale = scaler.get_scale()
            laps.press(AVERAGE)
            yield state
            laps.press(BESIDE)
            if state.facts.step >= state.facts.last_step:
                return


def _batches(
    state: TrainingState, cases: Sequence[TrainingCase], plan: Plan, workers: int
) -> Iterator[tuple[Batch, Plan]]:
    """The batches from the present step on, and the plan that each is made by: see `plan_at`."""
    while True:
        present = plan_at(plan, state.facts)
        made = iterate_batches(cases, present, state.facts.step, workers=workers, group=state.group)
        with closing(made):
            waiting = FIRST  # nothing could be made ahead of it
            for batch in made:
                state.laps.press(waiting)
                waiting = WAITING
                yield batch, present
                if present is not plan and plan_at(plan, state.facts) is plan:
                    break


def plan_at(plan: Plan, facts: Facts) -> Plan:
    """The plan by which the batch of the step to come is made: at first its coarse start's, if it has one.

    When patches become fine is noted in `facts`: in a run of given minutes the number of steps changes later.
    """
    if facts.refined is None and facts.phases[0].progress(facts.step) >= plan.training.coarse_share:
        facts.refined = facts.step
    return plan_before(plan, facts, facts.step)


def plan_before(plan: Plan, facts: Facts, step: int) -> Plan:
    """The plan by which the batch of a step (from 0) was made."""
    return plan if facts.refined is not None and step >= facts.refined else coarse_start(plan) or plan


def _rate(state: TrainingState, plan: Plan) -> float:
    return learning_rate(state.facts.phases, state.facts.step, plan.training) * state.facts.rate_factor


def _skips_by_itself(optimiser: torch.optim.Optimizer) -> bool:
    """Whether the optimiser leaves out a step on the device's own word, so that the host need not wait for it."""
    on_gpu = all(p.is_cuda for group in optimiser.param_groups for p in group["params"])
    return on_gpu and bool(getattr(optimiser, "_step_supports_amp_scaling", False))


def _take_step(
    state: TrainingState, batch: Batch, plan: Plan, scaler: torch.amp.GradScaler, objective: Objective
) -> tuple[Tensor, Tensor]:
    """The loss, and whether it and the gradients are finite; if not, no weight has changed."""
    laps, optimiser = state.laps, state.optimiser
    optimiser.zero_grad(set_to_none=True)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(_chance(plan, batch))
        loss = objective(state.network, batch, plan)
    laps.press(LOSS)
    torch.autograd.backward(scaler.scale(loss))
    sum_gradients(state.network, state.group)
    laps.press(BACKWARD)
    scaler.unscale_(optimiser)
    norm = nn.utils.clip_grad_norm_(state.network.parameters(), plan.training.gradient_clip)
    if scaler.is_enabled():
        # Gradients too large for float16 are the scaler's business, which lowers its scale; a loss is not scaled.
        finite = all_finite(loss)
        scaler.step(optimiser)
        scaler.update()
    else:
        finite = all_finite(loss, norm)
        step_if(optimiser, finite)
    laps.press(OPTIMISER)
    return loss.detach(), finite


def _chance(plan: Plan, batch: Batch) -> int:
    """What a step's dropout is drawn from: the seed, the step and the process alone, so that a run can be resumed."""
    words = (plan.training.seed, batch.step, batch.group.rank)
    return int(np.random.SeedSequence(words).generate_state(1, np.uint64)[0])


def step_if(optimiser: torch.optim.Optimizer, finite: Tensor) -> None:
    """A step of the optimiser if `finite` says so, which is not waited for if the optimiser can ask by itself."""
    if not _skips_by_itself(optimiser):
        if bool(finite):
            optimiser.step()
        return
    optimiser.grad_scale = None  # type: ignore[attr-defined]
    optimiser.found_inf = (~finite).float()  # type: ignore[attr-defined]
    try:
        optimiser.step()
    finally:
        del optimiser.grad_scale, optimiser.found_inf  # type: ignore[attr-defined]


def _update_average(state: TrainingState, decay: float) -> None:
    current = state.network.state_dict()
    # Early on the average follows closely, or it would remember the random start.
    decay = min(decay, (1 + state.facts.step) / (10 + state.facts.step))
    floats = [name for name, tensor in state.average.items() if tensor.is_floating_point()]
    torch._foreach_lerp_([state.average[n] for n in floats], [current[n] for n in floats], 1 - decay)
    for name in state.average.keys() - set(floats):
        state.average[name].copy_(current[name])


def take_recent_loss(state: TrainingState) -> float | None:
    """The mean loss since the last call, of the steps that counted; None if there was none."""
    if not state.recent_losses:
        return None
    losses = torch.stack(state.recent_losses)
    state.recent_losses.clear()
    counted = losses[losses.isfinite()]
    return float(counted.mean()) if counted.numel() else None


def record(
    state: TrainingState, plan: Plan, case_count: int, dice: tuple[float | None, ...] | None = None
) -> HistoryRow:
    """Add a line to the history, and note the best validated step."""
    facts = state.facts
    row = HistoryRow(
        step=facts.step,
        epoch=epochs(facts, plan, case_count),
        seconds=facts.seconds,
        loss=take_recent_loss(state),
        learning_rate=learning_rate(facts.phases, facts.step - 1, plan.training) * facts.rate_factor,
        validation_dice=dice,
    )
    facts.history = (*facts.history, row)
    mean = mean_dice(dice)
    if mean is not None and (facts.best_dice is None or mean >= facts.best_dice):
        facts.best_dice, facts.best_step = mean, facts.step
    return row


def epochs(facts: Facts, plan: Plan, case_count: int) -> float:
    """How often as many patches were drawn from each case as make an epoch."""
    coarse_steps = facts.step if facts.refined is None else facts.refined
    at_first = coarse_steps / steps_per_epoch(case_count, coarse_start(plan) or plan)
    return at_first + (facts.step - coarse_steps) / steps_per_epoch(case_count, plan)


def time_step(plan: Plan, batches: Sequence[Batch], *, device: str = "cpu") -> float:
    """Seconds of one training step on this machine: the median of real steps of a network made for it."""
    state = start(plan, device=device)
    scaler = torch.amp.GradScaler(device.split(":")[0], enabled=False)
    seconds = []
    for batch in batches:
        began = time.perf_counter()
        _take_step(state, batch.to(device), plan, scaler, supervised)[0].item()
        seconds.append(time.perf_counter() - began)
    return sorted(seconds[1:] or seconds)[len(seconds[1:]) // 2]
