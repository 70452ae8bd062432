"""What an experiment is: who is set aside, who validates when, and which configurations are trained."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path

import msgspec

from delineate.dataset import Dataset, Split, digest, hold_out_last, k_folds
from delineate.errors import DatasetError, InputError, PlanError
from delineate.fingerprint import Fingerprint
from delineate.labels import Region
from delineate.planning import Plan, PlanOptions, make_configurations, plan_from_json
from delineate.planning.configurations import LOW
from delineate.settings import Settings
from delineate.workflow.experiment_folder import ExperimentFolder, Setup, plan_digest
from delineate.workflow.experiment_runs import PREDICTING
from delineate.workflow.preparing import measure
from delineate.workflow.progress import Watch, nobody
from delineate.workflow.speed import machine_of
from delineate.workflow.training_memory import check_memory
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
) -> Setup:
    """What an experiment is: as it was begun, or planned and written down now.

    Raises what `experiment` says of datasets, options and configurations.
    """
    _check_options(options)
    known, standing = digest(dataset), folder.setup()
    given = {file.stem: plan_from_json(file.read_bytes()) for file in options.plans}
    if standing is not None:
        _check_same(standing, known, options, folder.path)
        _check_same_plans(given, folder)
        return standing
    began = time.monotonic()
    test: tuple[str, ...] = ()
    if options.test:
        test = hold_out_last(dataset, options.test, dataset_digest=known).validation
    seen = replace(dataset, cases=tuple(case for case in dataset.cases if case.id not in test))
    folds = k_folds(seen, options.folds, seed=0, dataset_digest=known)
    # What is planned from must not know the cases that are set aside.
    fingerprint = measure(seen, settings, watch=watch)
    _check_structures(fingerprint, folds)
    plans = given or _made_plans(fingerprint, options, settings)
    check_plans(plans, dataset)
    for plan in plans.values():
        check_memory(plan, settings)
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
        planning=options.planning,
    )
    folder.begin(setup, plans)
    return setup


def _check_options(options: ExperimentOptions) -> None:
    """Raises `InputError` for options that nobody would look at."""
    if not options.plans:
        return
    ignored = _unlike(options.planning, PlanOptions(regions=options.planning.regions))
    if options.configurations or ignored:
        raise InputError(
            "plan files say themselves how to plan",
            got=", ".join(["--plans", *(["--configurations"] if options.configurations else []), *ignored]),
            remedy="Leave out either the plan files or the other options.",
        )
    if len({file.stem for file in options.plans}) < len(options.plans):
        raise InputError(
            "two plans of one name", got=", ".join(map(str, options.plans)), remedy="Rename one of the files."
        )


def _unlike(options: PlanOptions, others: PlanOptions) -> list[str]:
    """Options and values that are others."""
    names = [name for name in PlanOptions.__struct_fields__ if getattr(options, name) != getattr(others, name)]
    return [f"{name} {getattr(options, name)}" for name in names]


def _check_same(setup: Setup, known: str, options: ExperimentOptions, path: Path) -> None:
    if setup.dataset_digest != known:
        raise DatasetError(
            "the dataset has changed since this experiment began",
            expected=setup.dataset_digest[:12],
            got=known[:12],
            path=path,
            remedy="Begin in a new folder.",
        )
    begun = setup.planning or options.planning
    asked = options.configurations or tuple(plan.stem for plan in options.plans) or setup.configurations
    facts = {
        "folds": (len(setup.folds), options.folds),
        "cases set aside": (setup.test_asked, options.test),
        "configurations": (sorted(setup.configurations), sorted(asked)),
        "ensembles": (setup.ensembles, options.ensembles),
        "tolerance in mm": (setup.tolerance_mm, options.tolerance_mm),
        "options of the plan": (_unlike(begun, options.planning), _unlike(options.planning, begun)),
    }
    for what, (before, wanted) in facts.items():
        if before != wanted:
            raise InputError(
                f"the experiment was begun with other {what}",
                expected=before,
                got=wanted,
                path=path,
                remedy="Give the same options to go on, or another folder to begin anew.",
            )


def _check_same_plans(given: Mapping[str, Plan], folder: ExperimentFolder) -> None:
    for name, plan in given.items():
        if plan != folder.plan(name):
            raise InputError(
                f"the plan {name} is another than the experiment was begun with",
                expected=plan_digest(folder.plan(name)),
                got=plan_digest(plan),
                path=folder.path,
                remedy="Give the plan in plans/ to go on, or another folder to begin anew.",
            )


def _check_structures(fingerprint: Fingerprint, folds: Sequence[Split]) -> None:
    """Raises `DatasetError` if a fold's training cases lack a structure: hours later its run would be refused."""
    voxels = {case.id: case.label_voxels for case in fingerprint.cases}
    for n, fold in enumerate(folds, start=1):
        found = [any(several) for several in zip(*(voxels[case] for case in fold.training), strict=True)]
        missing = [name for name, is_there in zip(fingerprint.labels, found, strict=True) if not is_there]
        if missing:
            raise DatasetError(
                f"no training case of fold {n} has these structures",
                got=", ".join(missing),
                remedy="Add cases that have them, take them out of dataset.json, or ask for other --folds.",
            )


def _made_plans(fingerprint: Fingerprint, options: ExperimentOptions, settings: Settings) -> dict[str, Plan]:
    made = _configurations(fingerprint, options, settings)
    unknown = [name for name in options.configurations if name not in made]
    if unknown:
        raise PlanError("configurations that are not planned here", expected=f"among {list(made)}", got=unknown)
    return {name: plan for name, plan in made.items() if name in (options.configurations or made)}


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
    trained = [name for name in first if name in (options.configurations or first)]
    wishes = msgspec.structs.replace(wishes, minutes=training / max(1, len(trained)))
    return make_configurations(fingerprint, machine, wishes)


def check_plans(plans: Mapping[str, Plan], dataset: Dataset) -> None:
    """Raises `PlanError` for plans that cannot be trained here, or not be averaged and compared with each other."""
    for name, plan in plans.items():
        why = _hindrance(name, plan)
        if why:
            raise PlanError(
                f"the plan {name} cannot be part of an experiment", got=why, remedy="Leave it out, or change it."
            )
        _check_found(f"the plan {name}", plan, dataset)
        if plan.previous and (LOW not in plans or plans[LOW].previous or set(plan.previous) - set(plans[LOW].labels)):
            raise PlanError(
                f"the plan {name} is a cascade's second stage, and nothing comes before it",
                expected=f"a plan {LOW} that finds {', '.join(plan.previous)}",
                got=", ".join(plans),
                remedy=f"Train {LOW}, too.",
            )
    first, *others = plans.items()
    for name, plan in others:
        if (plan.labels, plan.regions) != (first[1].labels, first[1].regions):
            raise PlanError(
                f"the plans {first[0]} and {name} order their structures in two ways",
                expected=list(first[1].labels),
                got=list(plan.labels),
                remedy="Give both one order of labels and regions.",
            )


def _check_found(name: str, plan: Plan, dataset: Dataset) -> None:
    labels = dataset.labels
    for what, expected, got in (
        ("channels", list(dataset.channels), list(plan.channels)),
        ("structures", sorted(labels.names), sorted(plan.labels)),
        ("regions", _regions(labels.regions), _regions(plan.regions)),
    ):
        if expected != got:
            raise PlanError(f"{name} has other {what} than the dataset", expected=expected, got=got)


def _regions(regions: Sequence[Region]) -> list[str]:
    return sorted(f"{region.name}={','.join(map(str, region.values))}" for region in regions)


def _hindrance(name: str, plan: Plan) -> str:
    """Why a plan cannot be trained fold by fold from nothing; "" if it can."""
    hindrances = {
        "a + in its name": "+" in name,
        "it pretrains": plan.pretraining is not None,
        "it waits to be pointed at": plan.prompting is not None,
        "it learns from another model": plan.training.distillation is not None,
        "it begins with the weights of another model": plan.training.transfer is not None,
    }
    return next((why for why, is_so in hindrances.items() if is_so), "")
