"""`delineate train`: from a dataset to a model folder; stopped at any moment, resumed, extended."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

import numpy as np

from delineate import training
from delineate.dataset import Dataset, Split, check_split, digest, hold_out_last, k_folds, train_on_all
from delineate.errors import DatasetError, InputError, TrainingError
from delineate.files import write_bytes
from delineate.model import Model, Provenance, load_model, save_model, versions
from delineate.networks.memory import keep_freed_memory
from delineate.planning import Plan, PlanOptions, training_bytes
from delineate.preprocessing import IGNORE, PreparedCase
from delineate.reports.charts.learning import learning_curves, learning_curves_figure
from delineate.sampling import TrainingCase, index_case, make_batch, steps_per_epoch
from delineate.settings import Settings
from delineate.training import Objective, TrainingState, supervised
from delineate.workflow.preparing import plan_dataset, prepare_cases, use_threads
from delineate.workflow.progress import StopRequest, Watch, nobody, stop_on_signals
from delineate.workflow.run_records import environment, populations
from delineate.workspace import RunFolder

RECORDS = 200  # rows of history in a run
_TIMING = (16, 0.1, 0.3, 0.6)  # when a run of given minutes is timed: after 16 steps, then at these shares
_UNTIMED_STEPS = 1000  # a first guess, long enough to come to the first timing
_VALIDATION_SHARE = 0.1  # of the time given, at most


@dataclass(frozen=True, slots=True)
class Budget:
    """How long to train: exactly one, or none for the plan's own steps."""

    steps: int | None = None
    epochs: int | None = None
    minutes: float | None = None

    def __post_init__(self) -> None:
        given = [value for value in (self.steps, self.epochs, self.minutes) if value is not None]
        if len(given) > 1 or any(value <= 0 for value in given):
            raise InputError("say how long to train once", expected="one positive of --steps, --epochs, --minutes")


@dataclass(frozen=True, slots=True)
class Division:
    """Who is trained on: fold `fold` of `folds` validates (None trains on all), or the last `hold_out` cases do.

    `test`: so many last cases are set aside first, and seen by nobody. `given`: a split made elsewhere, instead.
    """

    folds: int = 5
    fold: int | None = 0
    hold_out: int | None = None
    test: int = 0
    given: Split | None = None


def _nothing(state: TrainingState) -> None:
    """The fresh weights as they are."""


def _always(step: int, dice: float) -> bool:
    return True


@dataclass(frozen=True, slots=True)
class Course:
    """What a caller decides of a run.

    `objective`: what is minimised. `begin`: called once, with a fresh run before its first step (to put other weights
    into it). `goes_on`: asked after each validation, with the step and the mean Dice; if not, the run is saved and
    ends there.
    """

    objective: Objective = supervised
    begin: Callable[[TrainingState], None] = _nothing
    goes_on: Callable[[int, float], bool] = _always


@dataclass(frozen=True, slots=True)
class Run:
    """What stays the same during a run."""

    dataset: Dataset
    folder: RunFolder
    plan: Plan
    split: Split
    training: Sequence[TrainingCase]
    validation: Sequence[PreparedCase]
    settings: Settings
    course: Course


def divide(dataset: Dataset, division: Division, *, seed: int = 0) -> Split:
    """The split of a dataset. Raises `DatasetError` if there are too few patients for it."""
    known = digest(dataset)
    if division.given is not None:
        check_split(division.given, dataset)
        return replace(division.given, dataset_digest=known)
    held_out: tuple[str, ...] = ()
    if division.test:
        outer = hold_out_last(dataset, division.test, dataset_digest=known)
        held_out = outer.validation
        dataset = replace(dataset, cases=tuple(case for case in dataset.cases if case.id not in held_out))
    if division.hold_out is not None:
        split = hold_out_last(dataset, division.hold_out, dataset_digest=known)
    elif division.fold is None:
        split = train_on_all(dataset, dataset_digest=known)
    else:
        folds = k_folds(dataset, division.folds, seed=seed, dataset_digest=known)
        if not 0 <= division.fold < len(folds):
            raise DatasetError("no such fold", expected=f"0 to {len(folds) - 1}", got=division.fold)
        split = folds[division.fold]
    if not held_out:
        return split
    return replace(split, held_out=held_out, how=f"{len(held_out)} last cases set aside; of the others: {split.how}")


def train(
    dataset: Dataset,
    folder: Path,
    *,
    budget: Budget,
    division: Division,
    settings: Settings,
    plan: Plan | PlanOptions | None = None,
    course: Course = Course(),
    watch: Watch = nobody,
) -> Model | None:
    """Train, or go on with the run that `folder` holds. None if it was stopped before its end.

    A run in progress keeps its plan and split. A finished one is extended if `budget` asks for more.
    """
    began = time.monotonic()
    use_threads(settings)
    keep_freed_memory()
    if isinstance(plan, Plan) and not RunFolder(folder).exists:  # before it is the run's, for good
        _check_course(plan, course, fresh=True)
    run = replace(_open_run(dataset, RunFolder(folder), division, settings, plan, watch), course=course)
    state = run.folder.load_state(run.plan, device=settings.device)
    fresh = state is None
    _check_course(run.plan, course, fresh=fresh)
    if state is None:
        state = training.start(run.plan, device=settings.device)
        course.begin(state)
    _add_time(state, "planning and preparing", time.monotonic() - began)
    began -= state.facts.seconds
    _apply_budget(state, run, budget, fresh=fresh)
    with stop_on_signals() as stop:
        _loop(run, state, began, stop, watch)
    run.folder.save_state(state)
    _write_curves(run, state)
    if state.facts.step < state.facts.last_step:
        return None
    return _best_model(run, state)


def _open_run(
    dataset: Dataset,
    folder: RunFolder,
    division: Division,
    settings: Settings,
    plan: Plan | PlanOptions | None,
    watch: Watch,
) -> Run:
    if folder.exists:
        plan, split = folder.plan(), folder.split()
        check_split(split, dataset)
        if digest(dataset) != split.dataset_digest:
            raise DatasetError(
                "the dataset has changed since this run began",
                expected=split.dataset_digest[:12],
                got=digest(dataset)[:12],
                path=folder.folder,
                remedy="Train into a new folder.",
            )
    else:
        split = divide(dataset, division)
        if not isinstance(plan, Plan):
            # What is planned from must not know the cases that are scored.
            seen = replace(dataset, cases=tuple(c for c in dataset.cases if c.id not in split.held_out))
            plan = plan_dataset(seen, settings, plan, watch=watch)
        folder.start(plan, split)
        patch = " x ".join(str(n) for n in plan.patch_size)
        memory_gb = training_bytes(plan) / 1e9
        watch("Planning", 1, 1, f"patch {patch}, batch {plan.training.batch_size}, about {memory_gb:.1f} GB a step")
    chosen = [dataset.case(case_id) for case_id in (*split.training, *split.validation)]
    prepared = prepare_cases(chosen, dataset.labels, plan, settings, watch=watch)
    count = len(split.training)
    indexed = [_indexed(case, plan) for case in prepared[:count]]
    return Run(dataset, folder, plan, split, indexed, prepared[count:], settings, Course())


def _check_course(plan: Plan, course: Course, *, fresh: bool) -> None:
    """Raises `TrainingError` if the plan asks for another way to learn, or to begin, than the caller has."""
    if course.objective is supervised and (plan.pretraining or plan.training.distillation):
        command = "delineate distil" if plan.training.distillation else "delineate pretrain"
        raise TrainingError("the plan is of another kind of run", remedy=f"Go on with `{command}`.")
    if fresh and course.begin is _nothing and plan.training.transfer is not None:
        raise TrainingError(
            "the plan begins with the weights of another model",
            expected=f"the model {plan.training.transfer.source[:12]}",
            remedy="Give it (--from MODEL), or take training.transfer out of the plan.",
        )


def _indexed(case: PreparedCase, plan: Plan) -> TrainingCase:
    if case.target is None:  # nothing is known of any voxel
        case = replace(case, target=np.broadcast_to(np.uint8(IGNORE), case.image.shape[1:]))
    return index_case(case, seed=plan.training.seed, padding=plan.tiling.padding)


def _apply_budget(state: TrainingState, run: Run, budget: Budget, *, fresh: bool) -> None:
    facts = state.facts
    steps = budget.steps
    if budget.epochs is not None:
        steps = budget.epochs * steps_per_epoch(len(run.training), run.plan)
    finished = not fresh and facts.step >= facts.last_step
    if budget.minutes is not None and (fresh or finished):
        guess = facts.step + max(run.plan.training.steps, _UNTIMED_STEPS)
        state.facts = training.extend(facts, guess, run.plan.training) if finished else training.refit(facts, guess)
        state.facts.deadline_seconds = (facts.seconds if finished else 0.0) + 60 * budget.minutes
    elif steps is not None and steps != facts.last_step:
        if finished:
            state.facts = training.extend(facts, steps, run.plan.training)
        else:
            state.facts = training.refit(facts, steps)
        state.facts.deadline_seconds = None


def _loop(run: Run, state: TrainingState, began: float, stop: StopRequest, watch: Watch) -> None:
    """Train, and between steps keep the time, record, validate, save."""
    saved = time.monotonic()
    started_step, started = state.facts.step, time.monotonic()
    validating = 0.0
    note, given_up = "", False
    board = _Board(run.folder.folder / "tensorboard", state.facts.step, run.plan.labels)
    steps = training.train(
        state,
        run.training,
        run.plan,
        objective=run.course.objective,
        device=run.settings.device,
        workers=_workers(run.settings),
    )
    for _ in steps:
        facts = state.facts
        facts.seconds = time.monotonic() - began
        first, last = facts.phases[-1].first, facts.last_step
        if facts.deadline_seconds is not None and _timing_due(facts.step - first, last - first):
            step_seconds = (time.monotonic() - started - validating) / (facts.step - started_step)
            _fit_to_time(state, run, step_seconds)
            facts, last = state.facts, state.facts.last_step
        ended = facts.step >= last
        validated = bool(run.validation) and (ended or _due(facts.step - first, last - first, _validations(state, run)))
        if validated:
            before = time.monotonic()
            dice = training.validate(state, run.validation, run.plan, device=run.settings.device)
            facts.validation_seconds = time.monotonic() - before
            validating += facts.validation_seconds
            facts.seconds = time.monotonic() - began
            _add_time(state, "validation", facts.validation_seconds)
            note = _record(run, state, board, dice)
            given_up = not run.course.goes_on(facts.step, training.mean_dice(dice) or 0.0)
        elif ended or _due(facts.step - first, last - first, RECORDS):
            note = _record(run, state, board, None)
        watch("Training", facts.step, last, note)
        if validated or ended or stop.asked or time.monotonic() - saved > run.settings.save_seconds:
            run.folder.save_state(state)
            saved = time.monotonic()
        if stop.asked or given_up:
            break
    board.close()


def _add_time(state: TrainingState, stage: str, seconds: float) -> None:
    spent = state.facts.stage_seconds
    state.facts.stage_seconds = spent | {stage: spent.get(stage, 0.0) + seconds}


def _due(done: int, length: int, times: int) -> bool:
    """Whether one of `times` evenly spread moments lies between the last step and this one."""
    return done * times // length > (done - 1) * times // length


def _timing_due(done: int, length: int) -> bool:
    return done == _TIMING[0] or (done > _TIMING[0] and any(done == round(share * length) for share in _TIMING[1:]))


def _validations(state: TrainingState, run: Run) -> int:
    """As many as the plan says; fewer where they would take too much of the time given."""
    facts = state.facts
    if facts.deadline_seconds is None or facts.validation_seconds == 0:
        return run.plan.training.validations
    affordable = int(_VALIDATION_SHARE * facts.deadline_seconds / facts.validation_seconds)
    return max(1, min(run.plan.training.validations, affordable))


def _fit_to_time(state: TrainingState, run: Run, step_seconds: float) -> None:
    """Turn the time that is left into steps, so that the learning rate reaches zero when it is over."""
    facts = state.facts
    assert facts.deadline_seconds is not None
    share_done = (facts.step - facts.phases[-1].first) / max(1, facts.last_step - facts.phases[-1].first)
    left = (facts.deadline_seconds - facts.seconds) * 0.985 - 2.0
    left -= facts.validation_seconds * _validations(state, run) * (1 - share_done)
    state.facts = training.refit(facts, facts.step + int(left / step_seconds))


def _record(run: Run, state: TrainingState, board: _Board, dice: tuple[float | None, ...] | None) -> str:
    row = training.record(state, run.plan, len(run.training), dice)
    board.add(row)
    run.folder.write_history(state.facts, run.plan.labels)
    if dice is not None:
        _write_curves(run, state)
        if state.facts.best_step == state.facts.step:
            save_model(run.folder.model, _model(run, state))
    loss = "" if row.loss is None else f"loss {row.loss:.3f}"
    best = state.facts.best_dice
    return loss if best is None else f"{loss}, best Dice {best:.3f}"


def _best_model(run: Run, state: TrainingState) -> Model:
    """Save the last weights where nothing was validated; give back what the folder holds."""
    if state.facts.best_step is None:
        save_model(run.folder.model, _model(run, state))
    return load_model(run.folder.model)


def _model(run: Run, state: TrainingState) -> Model:
    own, torch_version = versions()
    provenance = Provenance(
        dataset=run.dataset.name,
        dataset_digest=run.split.dataset_digest,
        training_cases=run.split.training,
        validation_cases=run.split.validation,
        held_out_cases=run.split.held_out,
        step=state.facts.step,
        seconds=round(state.facts.seconds, 1),
        validation_dice=state.facts.best_dice,
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        delineate=own,
        torch=torch_version,
        populations=populations(run.dataset, run.split),
        environment=environment(run.settings),
    )
    weights = {name: tensor.detach().cpu().clone() for name, tensor in state.average.items()}
    return Model(weights, run.plan, run.dataset.labels, provenance)


def _write_curves(run: Run, state: TrainingState) -> None:
    facts = state.facts
    curves = learning_curves(facts.history, run.plan.labels, best_step=facts.best_step)
    if facts.history:
        write_bytes(run.folder.folder / "curves.png", learning_curves_figure(curves, title=run.dataset.name))


def _workers(settings: Settings) -> int:
    return 1 if settings.threads <= 4 else min(8, settings.threads // 2)


def time_step(dataset: Dataset, plan: Plan, settings: Settings) -> float:
    """Seconds of one real training step of a plan on this machine, measured on its first case."""
    use_threads(settings)
    labelled = next((case for case in dataset.cases if case.reference is not None), None)
    if labelled is None:
        raise DatasetError("no case with a reference to time a step on")
    prepared = prepare_cases([labelled], dataset.labels, plan, settings)
    cases = [_indexed(prepared[0], plan)]
    return training.time_step(plan, [make_batch(cases, plan, step) for step in range(4)], device=settings.device)


class _Board:
    """TensorBoard's file of a run; opened when the first row is written, because the import takes seconds."""

    def __init__(self, folder: Path, step: int, labels: Sequence[str]) -> None:
        self._folder, self._step, self._labels = folder, step, labels
        self._writer: object | None = None

    def add(self, row: training.HistoryRow) -> None:
        from torch.utils.tensorboard import SummaryWriter

        if self._writer is None:
            self._writer = SummaryWriter(str(self._folder), purge_step=self._step + 1)
        writer = self._writer
        assert isinstance(writer, SummaryWriter)
        values = {"loss": row.loss, "learning_rate": row.learning_rate}
        dice = zip(self._labels, row.validation_dice or (), strict=False)
        values |= {f"validation_dice/{name}": value for name, value in dice}
        for name, value in values.items():
            if value is not None:
                writer.add_scalar(name, value, row.step)

    def close(self) -> None:
        if self._writer is not None:
            self._writer.close()  # type: ignore[attr-defined]
