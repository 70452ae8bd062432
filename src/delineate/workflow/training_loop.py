"""The steps of a run, and between them: keep the time, record, validate, save."""

from __future__ import annotations

import time

from delineate import training
from delineate.settings import Settings
from delineate.training import TrainingState
from delineate.workflow.progress import StopRequest, Watch
from delineate.workflow.training_records import Records
from delineate.workflow.training_run import Run
from delineate.workflow.training_time import Timekeeper, validation_steps

RECORDS = 200  # rows of history in a run


def take_steps(
    run: Run, state: TrainingState, records: Records, *, began: float, stop: StopRequest, watch: Watch
) -> None:
    """Train until the run's end, or until somebody stops it."""
    keeper = Timekeeper(state, began, run.plan.training.validations, validation_steps(run))
    steps = training.train(
        state,
        run.training,
        run.plan,
        objective=run.course.objective,
        device=run.settings.device,
        workers=_workers(run.settings),
    )
    note = ""
    for _ in steps:
        keeper.step_taken()
        facts = state.facts
        phase, ended, goes_on = facts.phases[-1], facts.step >= facts.last_step, True
        validated = bool(run.validation) and (ended or phase.is_due(facts.step, keeper.times))
        if validated:
            before = time.monotonic()
            dice = training.validate(state, run.validation, run.plan, device=run.settings.device)
            keeper.validated(time.monotonic() - before)
            note = records.add(dice)
            goes_on = run.course.goes_on(facts.step, training.mean_dice(dice) or 0.0)
        elif ended or phase.is_due(facts.step, RECORDS):
            note = records.add(None)
        watch("Training", facts.step, facts.last_step, note)
        leaves = stop.asked or not goes_on
        if not ended and not leaves and (validated or time.monotonic() - records.saved > run.settings.save_seconds):
            records.save()
        if leaves:
            break
        keeper.closing_seconds = records.closing_seconds
        keeper.next_step()


def _workers(settings: Settings) -> int:
    return 1 if settings.threads <= 4 else min(8, settings.threads // 2)
