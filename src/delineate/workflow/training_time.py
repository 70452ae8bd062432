"""The time of a run: how many steps it takes, where it was given minutes, and what else the minutes are spent on."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field

from delineate import training
from delineate.inference.windows import layout
from delineate.sampling import steps_per_epoch
from delineate.training import TrainingState
from delineate.training.pace import Pace, fitting_steps
from delineate.workflow.progress import Watch
from delineate.workflow.training_run import Budget, Run

_UNTIMED_STEPS = 10_000  # a first guess of a run of minutes: so long that the rate hardly rises before the first fit
_FIRST_FITS = (2, 4, 8, 16)  # steps after which a process fits steps to the time, whatever they took
_OFTEN = 0.02  # of the time given: how often steps are fitted to it; towards its end more often:
_OF_REST = 0.125  # of the time left
_PACE_SPAN = 0.01  # of the time given: the steps that the pace is taken from
_VALIDATION_SHARE = 0.1  # of the time given, at most
_MUCH = 0.4  # of the time given: people should know that it went before the first step
_STEPS_A_PASS = 1 / 3  # of a training step: about what the network takes on the same patches without learning
_CLOSING_SECONDS = 2.0  # to save and draw at the end, before it was ever timed; never more than this share:
_CLOSING_SHARE = 0.05


def apply_budget(state: TrainingState, run: Run, budget: Budget, *, fresh: bool) -> None:
    """Give a run its length. A finished one is extended; one in progress keeps its own minutes."""
    facts, plan = state.facts, run.plan.training
    steps = budget.steps
    if budget.epochs is not None:
        steps = budget.epochs * steps_per_epoch(len(run.training), run.plan)
    finished = not fresh and facts.step >= facts.last_step
    if budget.minutes is not None and (fresh or finished):
        guess = facts.step + max(plan.steps, _UNTIMED_STEPS)
        state.facts = training.extend(facts, guess, plan) if finished else training.refit(facts, guess)
        state.facts.deadline_seconds = (facts.seconds if finished else 0.0) + 60 * budget.minutes
    elif steps is not None and steps != facts.last_step:
        state.facts = training.extend(facts, steps, plan) if finished else training.refit(facts, steps)
        state.facts.deadline_seconds = None


def say_what_is_left(state: TrainingState, watch: Watch) -> None:
    """Say so where a run of given minutes has spent much of them before its first step."""
    facts = state.facts
    spent, given = facts.seconds + sum(facts.stage_seconds.values()), facts.deadline_seconds
    if given is not None and facts.step == 0 and spent > _MUCH * given:
        minutes = f"{spent / 60:.1f} of {given / 60:.1f} minutes"
        watch("Time", 1, 1, f"planning and preparing took {minutes}; a new run of the same scans finds them prepared")


def add_time(state: TrainingState, stage: str, seconds: float) -> None:
    """Note what a run spent beside its steps."""
    spent = state.facts.stage_seconds
    state.facts.stage_seconds = spent | {stage: spent.get(stage, 0.0) + seconds}


def validation_steps(run: Run) -> float:
    """What one validation takes, in training steps: a guess from the windows, for before it was ever timed."""
    windows = sum(layout(case.image.shape[1:], run.plan).count for case in run.validation)
    mirrored = 2 ** len(run.plan.tiling.mirror_axes)
    return float(_STEPS_A_PASS * windows * mirrored / run.plan.training.batch_size)


@dataclass(slots=True)
class Timekeeper:
    """Counts a run's seconds, and moves its end so that the learning rate reaches zero when the given time is over.

    `began`: the clock when the run would have begun, had it never been stopped. `validations`: as many as the plan
    says, each as long as `validation_steps` before the first was timed. All that must outlive a stopped process is in
    the run's facts: how far the learning rate has come. The pace is measured anew.
    """

    state: TrainingState
    began: float
    validations: int = 0
    validation_steps: float = 0.0
    clock: Callable[[], float] = time.monotonic
    closing_seconds: float | None = None
    _pace: Pace = field(default_factory=lambda: Pace(0.0))
    _span: float = 0.0
    _counted: int = 0
    _since: float = 0.0
    _next_fit: float = 0.0
    _in_steps: float = 0.0
    _beside: float = 0.0

    def __post_init__(self) -> None:
        self._since = self.clock()
        self._count_seconds()
        facts = self.state.facts
        self._span = max(0.0, (facts.deadline_seconds or 0.0) - facts.seconds)
        self._pace = Pace(_PACE_SPAN * self._span)

    def step_taken(self) -> None:
        """To be called when a step is over."""
        now = self.clock()
        if self._counted:  # the first one waits for batches, and for memory
            self._pace.add(now - self._since)
            self._in_steps += now - self._since
        self._counted += 1
        self._since = now
        self._count_seconds()

    def validated(self, seconds: float) -> None:
        """To be called when a validation is over, which is not counted to what lies beside the steps."""
        self.state.facts.validation_seconds = seconds
        add_time(self.state, "validation", seconds)
        self._since += seconds
        self._count_seconds()

    def next_step(self) -> None:
        """To be called before the next step: fits the steps to the time left, if it is due."""
        now = self.clock()
        self._beside += max(0.0, now - self._since)
        self._since = now
        due = self._counted in _FIRST_FITS or now >= self._next_fit
        if self.state.facts.deadline_seconds is not None and due and self.state.group.leads:
            self._count_seconds()
            self._fit(now)

    @property
    def times(self) -> int:
        """How often the run is validated: less often than planned where that would take too much of its time."""
        facts, seconds = self.state.facts, self._validation_seconds
        if facts.deadline_seconds is None or seconds == 0:
            return self.validations
        return max(1, min(self.validations, int(_VALIDATION_SHARE * facts.deadline_seconds / seconds)))

    @property
    def _validation_seconds(self) -> float:
        return self.state.facts.validation_seconds or self.validation_steps * (self._pace.step_seconds or 0.0)

    def _count_seconds(self) -> None:
        self.state.facts.seconds = self.clock() - self.began

    def _fit(self, now: float) -> None:
        """Turn the time that is left into steps."""
        facts, step_seconds = self.state.facts, self._pace.step_seconds
        if step_seconds is None or facts.deadline_seconds is None or facts.step >= facts.last_step:
            return
        phase = facts.phases[-1]
        share = phase.progress(facts.step)
        left = facts.deadline_seconds - facts.seconds - self._closing()
        if self.validation_steps:
            left -= self._validation_seconds * max(1, self.times - int(share * self.times))
        left *= 1 - self._beside / max(1e-9, self._beside + self._in_steps)
        steps = fitting_steps(left, step_seconds, taken=facts.step - phase.first, share=share)
        self.state.facts = training.refit(facts, facts.step + steps)
        self._next_fit = now + min(_OFTEN * self._span, _OF_REST * max(0.0, left))

    def _closing(self) -> float:
        return min(_CLOSING_SHARE * self._span, self.closing_seconds or _CLOSING_SECONDS)
