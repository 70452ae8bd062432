"""`delineate train`: from a dataset to a model folder; stopped at any moment, resumed, extended."""

from __future__ import annotations

import time
from contextlib import nullcontext
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from delineate import training
from delineate.dataset import (
    Dataset,
    Split,
    check_split,
    digest,
    hold_out_last,
    k_folds,
    train_on_all,
)
from delineate.errors import DatasetError, TrainingError
from delineate.groups import Group
from delineate.model import Model
from delineate.networks.memory import keep_freed_memory
from delineate.planning import Plan, PlanOptions, for_minutes, training_bytes
from delineate.preprocessing import IGNORE, PreparedCase, blank_values
from delineate.sampling import TrainingCase, index_case, make_batch
from delineate.settings import Settings
from delineate.training import Profile, TrainingState, supervised
from delineate.training.together import check_shares, of_one, share_batch
from delineate.workflow.company import BY_ITSELF, Company
from delineate.workflow.preparing import plan_dataset, prepare_cases, use_threads
from delineate.workflow.progress import Watch, nobody, stop_on_signals
from delineate.workflow.training_checks import check_references, note_changes, take_stamps
from delineate.workflow.training_loop import take_steps
from delineate.workflow.training_memory import check_memory
from delineate.workflow.training_records import Records
from delineate.workflow.training_run import PLAIN, Budget, Course, Run, keep_weights
from delineate.workflow.training_time import add_time, apply_budget, say_what_is_left
from delineate.workspace import RunFolder

__all__ = ["Budget", "Course", "Division", "Run", "divide", "time_step", "train"]


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
        if len({case.patient_id for case in dataset.cases}) == 1:
            raise DatasetError(
                "a single patient cannot be divided into training and validation",
                got=f"{len(dataset.cases)} cases",
                remedy="Train without validation (--fold all), or add patients.",
            )
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
    course: Course = PLAIN,
    watch: Watch = nobody,
    profile: bool = False,
    together: Company = BY_ITSELF,
) -> Model | None:
    """Train, or go on with the run that `folder` holds. None if it was stopped before its end.

    A run in progress keeps its plan and split. A finished one is extended if `budget` asks for more. `together`: the
    processes that train with this one, and call this at the same time; the one that leads plans, decides and writes.
    Raises `ResourceError` if another run goes on in `folder`.
    """
    began = time.monotonic()
    use_threads(settings)
    keep_freed_memory()
    watch = watch if together.leads else nobody
    if isinstance(plan, Plan) and not RunFolder(folder).exists and together.leads:  # before it is the run's, for good
        _check_course(plan, course, fresh=True)
    plan = for_minutes(plan, budget.minutes)
    run = _open_run(dataset, RunFolder(folder), division, settings, plan, course, watch, together)
    stamps = take_stamps(dataset, run.split.dataset_digest)
    if course.objective is supervised:
        check_references(run, watch)
    with run.folder.taken() if together.leads else nullcontext():
        own = _open_state(run, budget, began) if together.leads else None
        state = training.match(own, run.plan, together.group, device=settings.device)
        began -= state.facts.seconds
        say_what_is_left(state, watch)
        records = Records(run, state, watch)
        state.laps.exact, first = profile, state.facts.step
        with stop_on_signals() as stop:
            take_steps(run, state, records, began, stop=stop, watch=watch)
        if together.leads:
            note_changes(dataset, stamps, state, watch)
        if profile:
            made = Profile(steps=state.facts.step - first, seconds=dict(state.laps.seconds))
            records.attempt("profile.json", lambda: run.folder.save_profile(made))
        return records.close()


def _open_state(run: Run, budget: Budget, began: float) -> TrainingState:
    """The run as it was saved, or begun now."""
    if not run.folder.exists:  # only now: a refused dataset may be mended and given again
        run.folder.start(run.plan, run.split)
    state = run.folder.load_state(run.plan, device=run.settings.device)
    fresh = state is None
    _check_course(run.plan, run.course, fresh=fresh)
    if state is None:
        state = training.start(run.plan, device=run.settings.device)
        run.course.begin(state)
    add_time(state, "planning and preparing", time.monotonic() - began)
    apply_budget(state, run, budget, fresh=fresh)
    return state


def _open_run(
    dataset: Dataset,
    folder: RunFolder,
    division: Division,
    settings: Settings,
    plan: Plan | PlanOptions | None,
    course: Course,
    watch: Watch,
    together: Company,
) -> Run:
    made, split = together.settled(
        "plan", lambda: _settle(dataset, folder, division, settings, plan, watch, together.group)
    )
    check_shares(made, together.group)
    chosen = [dataset.case(case_id) for case_id in (*split.training, *split.validation)]
    first = together.group.share(len(chosen)).start  # each begins elsewhere, and finds what the others have prepared
    turned = prepare_cases(
        [*chosen[first:], *chosen[:first]], dataset.labels, made, settings, before=course.before, watch=watch
    )
    prepared = [*turned[len(chosen) - first :], *turned[: len(chosen) - first]]
    count = len(split.training)
    ready = [indexed(case, made) for case in prepared[:count]]
    return Run(dataset, folder, made, split, ready, prepared[count:], settings, course)


def _settle(
    dataset: Dataset,
    folder: RunFolder,
    division: Division,
    settings: Settings,
    plan: Plan | PlanOptions | None,
    watch: Watch,
    group: Group,
) -> tuple[Plan, Split]:
    """The plan and the split of a run, as they were or as they are made now."""
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
        if isinstance(plan, Plan):
            check_shares(plan, group)
            check_memory(plan, settings, group)
        split = divide(dataset, division)
        if not isinstance(plan, Plan):
            # What is planned from must not know the cases that are scored.
            seen = replace(dataset, cases=tuple(c for c in dataset.cases if c.id not in split.held_out))
            plan = share_batch(plan_dataset(seen, settings, plan, watch=watch), group)
        patch = " x ".join(str(n) for n in plan.patch_size)
        memory_gb = training_bytes(of_one(plan, group)) / 1e9
        batch = f"batch {plan.training.batch_size}" + (f" in {group.size} processes" if group.size > 1 else "")
        watch("Planning", 1, 1, f"patch {patch}, {batch}, about {memory_gb:.1f} GB a step")
    return plan, split


def _check_course(plan: Plan, course: Course, *, fresh: bool) -> None:
    """Raises `TrainingError` if the plan asks for another way to learn, or to begin, than the caller has."""
    if course.objective is supervised and (plan.pretraining or plan.prompting or plan.training.distillation):
        command = "delineate distil" if plan.training.distillation else "delineate pretrain"
        command = "delineate train --promptable" if plan.prompting else command
        raise TrainingError("the plan is of another kind of run", remedy=f"Go on with `{command}`.")
    if fresh and course.begin is keep_weights and plan.training.transfer is not None:
        raise TrainingError(
            "the plan begins with the weights of another model",
            expected=f"the model {plan.training.transfer.source[:12]}",
            remedy="Give it (--from MODEL), or take training.transfer out of the plan.",
        )


def indexed(case: PreparedCase, plan: Plan) -> TrainingCase:
    """A case to draw patches from; nothing is known of any voxel of one without a reference."""
    if case.target is None:
        case = replace(case, target=np.broadcast_to(np.uint8(IGNORE), case.image.shape[1:]))
    return index_case(
        case,
        seed=plan.training.seed,
        padding=plan.tiling.padding,
        blank=blank_values(plan),
        masks=len(plan.previous),
    )


def time_step(dataset: Dataset, plan: Plan, settings: Settings) -> float:
    """Seconds of one real training step of a plan on this machine, measured on its first case."""
    use_threads(settings)
    labelled = next((case for case in dataset.cases if case.reference is not None), None)
    if labelled is None:
        raise DatasetError("no case with a reference to time a step on")
    prepared = prepare_cases([labelled], dataset.labels, plan, settings)
    cases = [indexed(prepared[0], plan)]
    return training.time_step(plan, [make_batch(cases, plan, step) for step in range(4)], device=settings.device)
