"""The steps of a run, and between them: keep the time, record, validate, save."""

from __future__ import annotations

import time
from dataclasses import dataclass

from delineate import training
from delineate.errors import ResourceError, TrainingError
from delineate.settings import Settings
from delineate.training import TrainingState
from delineate.workflow.progress import StopRequest, Watch
from delineate.workflow.training_memory import halve_batch, is_out_of_memory
from delineate.workflow.training_records import Records
from delineate.workflow.training_run import Run
from delineate.workflow.training_time import Timekeeper, validation_steps

RECORDS = 200  # rows of history in a run


def take_steps(
    run: Run, state: TrainingState, records: Records, began: float, *, stop: StopRequest, watch: Watch
) -> None:
    """Train until the run's end, or until somebody stops it.

    Raises `ResourceError` if memory runs out with a batch of 1, or in validation.
    """
    keeper = Timekeeper(state, began, run.plan.training.validations, validation_steps(run))
    while True:
        try:
            return _take_steps(records.run, state, records, keeper, stop=stop, watch=watch)
        except (RuntimeError, MemoryError, TrainingError) as error:
            if not is_out_of_memory(error):
                raise
        # Outside of the handler: the error holds on to all that lay in memory.
        records.run = halve_batch(records.run, state, watch)


def _take_steps(
    run: Run, state: TrainingState, records: Records, keeper: Timekeeper, *, stop: StopRequest, watch: Watch
) -> None:
    steps = training.train(
        state,
        run.training,
        run.plan,
        objective=run.course.objective,
        device=run.settings.device,
        workers=_workers(run.settings),
    )
    note = ""
    laps, accord = state.laps, _Accord(state, keeper, stop)
    accord.before_step()
    for _ in steps:
        keeper.step_taken()
        facts, saves = state.facts, bool(state.refusals)
        records.refused()
        phase, ended, goes_on = facts.phases[-1], facts.step >= facts.last_step, True
        validated = bool(run.validation) and (ended or phase.is_due(facts.step, accord.validations))
        if validated:
            dice = _validate(run, state, keeper)
            laps.press("validation")
            note = records.add(dice)
            asked = not state.group.leads or run.course.goes_on(facts.step, training.mean_dice(dice) or 0.0)
            goes_on = training.leaders_answer(asked, state.group)
        elif ended or phase.is_due(facts.step, RECORDS):
            note = records.add(None)
        laps.press("recording and drawing")
        watch("Training", facts.step, facts.last_step, note)
        leaves = ended or accord.stopped or not goes_on
        saves = saves or validated or time.monotonic() - records.saved > run.settings.save_seconds
        if saves and not leaves:
            records.save()
            laps.press("saving")
        if leaves:
            return
        keeper.closing_seconds = records.closing_seconds
        keeper.next_step()
        accord.before_step()


@dataclass(slots=True)
class _Accord:
    """What all processes of a run know alike at a step: how often to validate, and whether one was asked to stop."""

    state: TrainingState
    keeper: Timekeeper
    stop: StopRequest
    _stopped: bool = False
    _validations: int = 0

    def before_step(self) -> None:
        """To be called by all processes at the same time."""
        self._stopped, self._validations = training.agree(
            self.state, stopped=self.stop.asked, validations=self.keeper.times
        )

    @property
    def stopped(self) -> bool:
        return self.stop.asked if self.state.group.size == 1 else self._stopped

    @property
    def validations(self) -> int:
        return self.keeper.times if self.state.group.size == 1 else self._validations


def _validate(run: Run, state: TrainingState, keeper: Timekeeper) -> tuple[float | None, ...]:
    began = time.monotonic()
    try:
        dice = training.validate(state, run.validation, run.plan, device=run.settings.device)
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        raise ResourceError(
            "memory ran out in validation",
            got=f"step {state.facts.step}",
            remedy="Stop what else takes memory and run the same command again, or train on all cases (--fold all), "
            "which validates nothing.",
        ) from None
    keeper.validated(time.monotonic() - began)
    return dice


def _workers(settings: Settings) -> int:
    return 1 if settings.threads <= 4 else min(8, settings.threads // 2)
