"""What is known of a run beside its tensors: its length, its learning rate, its history. Plain data."""

from __future__ import annotations

import math
from collections.abc import Sequence

import msgspec

from delineate.errors import TrainingError
from delineate.planning import TrainingPlan

_NEARLY_OVER = 1 - 1e-6  # of a phase: what is left of it has to end somewhere


class Phase(msgspec.Struct, frozen=True, kw_only=True):
    """Learning rate from step `first` to `last`: up from `start` to `peak`, then down to zero at `last`.

    Where the end was moved on the way, last at step `moved` when `share` of the phase was over, the rest of it is
    spread evenly over the steps from there to `last`: the rate changes its slope, and never jumps.
    """

    first: int
    last: int
    start: float
    peak: float
    moved: int | None = None
    share: float = 0.0

    def progress(self, step: int) -> float:
        """The share of the phase that is over before a step, 0 to 1."""
        if self.moved is None:
            return min(1.0, (step - self.first) / max(1, self.last - self.first))
        return min(1.0, self.share + (1 - self.share) * (step - self.moved) / max(1, self.last - self.moved))

    def step_at(self, share: float) -> int:
        """The step before which a share of the phase is over."""
        if self.moved is None:
            return self.first + round(share * (self.last - self.first))
        return self.moved + round((share - self.share) / (1 - self.share) * (self.last - self.moved))

    def is_due(self, step: int, times: int) -> bool:
        """Whether one of `times` evenly spread moments lies between the step before and `step` steps taken."""
        if self.moved is None:  # in whole numbers, so that no moment is lost to rounding
            done, length = step - self.first, max(1, self.last - self.first)
            return done * times // length > (done - 1) * times // length
        return int(self.progress(step) * times) > int(self.progress(step - 1) * times)


class HistoryRow(msgspec.Struct, frozen=True, kw_only=True):
    """One line of the learning curve. `validation_dice`: one value a structure, None where nothing was validated."""

    step: int
    epoch: float
    seconds: float
    loss: float | None
    learning_rate: float
    validation_dice: tuple[float | None, ...] | None = None


class Incident(msgspec.Struct, frozen=True, kw_only=True):
    """What went wrong in a run that could go on: `what`, at which step (from 0), with which cases.

    `loss`: None also where it was not finite. `back_to`: the step whose weights the run went on with.
    """

    step: int
    what: str
    cases: tuple[str, ...] = ()
    loss: float | None = None
    learning_rate: float | None = None
    back_to: int | None = None


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
    released: int | None = None  # the step from which weights that were frozen learn
    refined: int | None = None  # the step from which patches are as fine as the plan says

    incidents: tuple[Incident, ...] = ()
    rate_factor: float = 1.0  # of the plan's learning rate, since incidents

    @property
    def last_step(self) -> int:
        return self.phases[-1].last


def learning_rate(phases: Sequence[Phase], step: int, plan: TrainingPlan) -> float:
    """The rate at a step (from 0): linear warm-up, then cosine or polynomial (power 0.9) decay to zero."""
    phase = next((p for p in phases if step < p.last), phases[-1])
    if phase.moved is None:
        length: float = max(1, phase.last - phase.first)
        warmup: float = max(1, round(plan.warmup_fraction * length))
        done: float = step - phase.first
    else:
        # As long as the whole phase would be at the pace of its rest.
        length = max(1, phase.last - phase.moved) / (1 - phase.share)
        warmup = max(1.0, plan.warmup_fraction * length)
        done = phase.share * length + step - phase.moved
    if done < warmup:
        return phase.start + (phase.peak - phase.start) * min(done + 1, warmup) / warmup
    share = min(1.0, (done - warmup) / max(1, length - warmup))
    return phase.peak * (0.5 * (1 + math.cos(math.pi * share)) if plan.decay == "cosine" else (1 - share) ** 0.9)


def refit(facts: Facts, last: int) -> Facts:
    """The run with its present phase ending at step `last` instead, which is at least one step ahead."""
    *before, phase = facts.phases
    last = max(last, facts.step + 1)
    if facts.step <= phase.first:
        moved = msgspec.structs.replace(phase, last=last, moved=None, share=0.0)
    else:
        share = min(phase.progress(facts.step), _NEARLY_OVER)
        moved = msgspec.structs.replace(phase, last=last, moved=facts.step, share=share)
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


def mean_dice(dice: Sequence[float | None] | None) -> float | None:
    """Mean over the structures that were there; None if none was."""
    known = [value for value in dice or () if value is not None]
    return sum(known) / len(known) if known else None
