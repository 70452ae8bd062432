"""What an experiment is: who is set aside, who validates when, and which configurations are trained."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path

import msgspec

from delineate.dataset import Dataset, digest, hold_out_last, k_folds
from delineate.errors import DatasetError, InputError, PlanError
from delineate.fingerprint import Fingerprint
from delineate.planning import Plan, PlanOptions, make_configurations, plan_from_json
from delineate.settings import Settings
from delineate.workflow.experiment_folder import ExperimentFolder, Setup
from delineate.workflow.experiment_runs import PREDICTING
from delineate.workflow.preparing import measure
from delineate.workflow.progress import Watch, nobody
from delineate.workflow.speed import machine_of
from delineate.workflow.training_run import Budget


@dataclass(frozen=True, slots=True)
class ExperimentOptions:
    """`budget`: steps or epochs of each run, or minutes of the whole experiment. `folds` of cases, by patient, after
    the last `test` cases were set aside. `configurations`: names of those to train, all that are worth it if there are
    none; `plans`: plan files instead, named by their stems. `planning`: what plans are made with. `ensembles`: whether
    every two configurations averaged are candidates, too. `tolerance_mm`: of the surface Dice."""

    budget: Budget
    folds: int = 5
    test: int = 0
    configurations: tuple[str, ...] = ()
    plans: tuple[Path, ...] = ()
    planning: PlanOptions = field(default_factory=PlanOptions)
    ensembles: bool = True
    tolerance_mm: float = 2.0


def begin(
    dataset: Dataset, folder: ExperimentFolder, options: ExperimentOptions, settings: Settings, watch: Watch = nobody
) -> tuple[Setup, tuple[str, ...]]:
    """What an experiment is: as it was begun, or planned and written down now; and remarks, in sentences.

    Raises what `experiment` says of datasets, options and configurations.
    """
    known, standing = digest(dataset), folder.setup()
    if standing is not None:
        _check_same(standing, known, options, folder.path)
        return standing, ()
    began = time.monotonic()
    test: tuple[str, ...] = ()
    if options.test:
        test = hold_out_last(dataset, options.test, dataset_digest=known).validation
    seen = replace(dataset, cases=tuple(case for case in dataset.cases if case.id not in test))
    folds = k_folds(seen, options.folds, seed=0, dataset_digest=known)
    # What is planned from must not know the cases that are set aside.
    plans, remarks = _plans(seen, options, settings, watch)
    aside = f"{len(test)} last cases set aside before everything; of the others: " if test else ""
    setup = Setup(
        dataset=dataset.name,
        dataset_digest=known,
        test=test,
        test_asked=options.test,
        folds=tuple(fold.validation for fold in folds),
        configurations=tuple(plans),
        ensembles=options.ensembles,
        tolerance_mm=options.tolerance_mm,
        how=f"{aside}{options.folds} folds, divided by patient, seed 0",
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        planning_seconds=round(time.monotonic() - began, 1),
    )
    folder.begin(setup, plans)
    return setup, remarks


def _check_same(setup: Setup, known: str, options: ExperimentOptions, path: Path) -> None:
    if setup.dataset_digest != known:
        raise DatasetError(
            "the dataset has changed since this experiment began",
            expected=setup.dataset_digest[:12],
            got=known[:12],
            path=path,
            remedy="Begin in a new folder.",
        )
    asked = options.configurations or tuple(plan.stem for plan in options.plans) or setup.configurations
    facts = {
        "folds": (len(setup.folds), options.folds),
        "cases set aside": (setup.test_asked, options.test),
        "configurations": (sorted(setup.configurations), sorted(asked)),
        "ensembles": (setup.ensembles, options.ensembles),
        "tolerance in mm": (setup.tolerance_mm, options.tolerance_mm),
    }
    for what, (begun, wanted) in facts.items():
        if begun != wanted:
            raise InputError(
                f"the experiment was begun with other {what}",
                expected=begun,
                got=wanted,
                path=path,
                remedy="Give the same options to go on, or another folder to begin anew.",
            )


def _plans(
    dataset: Dataset, options: ExperimentOptions, settings: Settings, watch: Watch
) -> tuple[dict[str, Plan], tuple[str, ...]]:
    if options.plans:
        return _given_plans(dataset, options.plans), ()
    fingerprint = measure(dataset, settings, watch=watch)
    made = _configurations(fingerprint, options, settings)
    unknown = [name for name in options.configurations if name not in made]
    if unknown:
        raise PlanError("configurations that are not planned here", expected=f"among {list(made)}", got=unknown)
    wanted = {name: plan for name, plan in made.items() if name in (options.configurations or made)}
    cascades = [name for name, plan in wanted.items() if plan.previous]
    if cascades and options.configurations:
        raise PlanError(
            "a cascade's second stage is not trained by an experiment", got=cascades, remedy="Leave it out."
        )
    remarks = (f"{', '.join(cascades)} would need masks of the stage before, and was left out.",) if cascades else ()
    return {name: plan for name, plan in wanted.items() if name not in cascades}, remarks


def _configurations(fingerprint: Fingerprint, options: ExperimentOptions, settings: Settings) -> Mapping[str, Plan]:
    """Planned for the time that each run will have; how many runs there are is known when all are planned once."""
    wishes, minutes = options.planning, options.budget.minutes
    if "2d" in options.configurations:
        wishes = msgspec.structs.replace(wishes, dimensions=2)
    if minutes is None or wishes.minutes is not None:
        return make_configurations(fingerprint, machine_of(settings, wishes), wishes)
    training = (1 - PREDICTING) * minutes / options.folds
    wishes = msgspec.structs.replace(wishes, minutes=training)
    machine = machine_of(settings, wishes)
    first = make_configurations(fingerprint, machine, wishes)
    trained = [name for name, plan in first.items() if name in (options.configurations or first) and not plan.previous]
    wishes = msgspec.structs.replace(wishes, minutes=training / max(1, len(trained)))
    return make_configurations(fingerprint, machine, wishes)


def _given_plans(dataset: Dataset, files: Sequence[Path]) -> dict[str, Plan]:
    plans = {file.stem: plan_from_json(file.read_bytes()) for file in files}
    if len(plans) < len(files):
        raise InputError("two plans of one name", got=", ".join(map(str, files)), remedy="Rename one of the files.")
    for name, plan in plans.items():
        if "+" in name or plan.previous:
            why = "a cascade's second stage" if plan.previous else "a + in its name"
            raise PlanError(
                f"the plan {name} cannot be part of an experiment", got=why, remedy="Leave it out, or rename it."
            )
        if set(plan.labels) != set(dataset.labels.names):
            raise PlanError(
                f"the plan {name} has other structures than the dataset",
                expected=list(dataset.labels.names),
                got=list(plan.labels),
            )
    return plans
