"""What a tuning keeps in its folder, and what all of its processes must agree on.

FOLDER/    plan.json       the plan that is tuned: trial 0
           tuning.json     what is searched, and how
           journal.log     Optuna's journal: values and scores of every trial
           trials/0000/    a model folder each; those that lost keep their curves, and no weights
           confirm/        the winner and the default, trained again
           best_plan.json, trials.csv, tune.html
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, get_args

import msgspec

from delineate.dataset import Dataset, digest
from delineate.errors import InputError
from delineate.files import check_writable, write_once
from delineate.planning import Plan, PlanOptions, plan_from_json, plan_to_json
from delineate.planning.spaces import parse_space, space_from_json, usual_space
from delineate.planning.tunables import Space
from delineate.settings import Settings
from delineate.workflow.preparing import plan_dataset
from delineate.workflow.progress import Watch
from delineate.workflow.training import Budget, Division, divide

Sampler = Literal["tpe", "random", "grid"]
Pruner = Literal["median", "hyperband", "none"]

THE_PLANS_OWN = Budget()


@dataclass(frozen=True, slots=True)
class SearchOptions:
    """What is searched, and how.

    `space`: see `parse_space`, or its JSON; None is `usual_space`. `points`: values a range has in a grid. `trial`: the
    length of one trial. `fold`: the folds, of `folds`, that trials validate on; their mean counts. `test`: so many last
    cases are set aside before anything, and seen by nobody.
    """

    space: str | None = None
    sampler: Sampler = "tpe"
    pruner: Pruner = "median"
    points: int = 3
    trial: Budget = THE_PLANS_OWN
    folds: int = 5
    fold: tuple[int, ...] = (0,)
    test: int = 0
    seed: int = 0

    def __post_init__(self) -> None:
        if not self.fold or len(set(self.fold)) < len(self.fold) or not all(0 <= n < self.folds for n in self.fold):
            raise InputError("no such folds", expected=f"some of 0 to {self.folds - 1}, each once", got=self.fold)
        for name, known in (("sampler", get_args(Sampler)), ("pruner", get_args(Pruner))):
            if getattr(self, name) not in known:
                raise InputError(f"unknown {name}", expected=", ".join(known), got=getattr(self, name))


class Search(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`SearchOptions` as they were at the first call, for a dataset and a plan; tuning.json.

    `options`: the wishes that the plan was made for, None if it was given. `memory_bytes`: what a step may take, by the
    first process; others keep to it, so that a trial's plan does not depend on who runs it.
    """

    schema_version: int = 1
    dataset_digest: str
    space: Space
    sampler: Sampler
    pruner: Pruner
    points: int
    steps: int | None
    epochs: int | None
    minutes: float | None
    folds: int
    fold: tuple[int, ...]
    test: int
    seed: int
    options: PlanOptions | None
    memory_bytes: int

    @property
    def budget(self) -> Budget:
        """Of one trial."""
        return Budget(self.steps, self.epochs, self.minutes)

    def division(self, fold: int) -> Division:
        """Who a run on a fold sees."""
        return Division(folds=self.folds, fold=fold, test=self.test)


@dataclass(frozen=True, slots=True)
class TuningFolder:
    """Where things lie."""

    path: Path

    @property
    def journal(self) -> Path:
        return self.path / "journal.log"

    @property
    def plan_file(self) -> Path:
        return self.path / "plan.json"

    @property
    def best_plan(self) -> Path:
        return self.path / "best_plan.json"

    @property
    def table(self) -> Path:
        return self.path / "trials.csv"

    @property
    def page(self) -> Path:
        return self.path / "tune.html"

    def trial(self, slot: int) -> Path:
        """The folder of a trial; its model, if trials validate on one fold."""
        return self.path / "trials" / f"{slot:04}"

    def model(self, slot: int, search: Search, fold: int) -> Path:
        """The model folder of a trial on a fold."""
        return self.trial(slot) if len(search.fold) == 1 else self.trial(slot) / f"fold_{fold}"

    def confirmation(self, slot: int, repeat: int) -> Path:
        """The model folder of a trial's plan when it is trained again."""
        return self.path / "confirm" / f"{slot:04}_{repeat}"

    def cache(self, slot: int) -> Path:
        """Where cases lie that are prepared for one trial alone."""
        return self.trial(slot) / "cache"

    def plan(self) -> Plan:
        """The plan that is tuned."""
        return plan_from_json(self.plan_file.read_bytes())


def agree(
    dataset: Dataset,
    folder: TuningFolder,
    *,
    options: SearchOptions,
    settings: Settings,
    plan: Plan | PlanOptions | None,
    watch: Watch,
) -> tuple[Search, Plan]:
    """The search and the plan that is tuned: those of the folder, made by the first process that came.

    Raises `InputError` where this call asks for another search than the folder's, and `PlanError` for a space that
    makes no sense.
    """
    check_writable(folder.path)
    if not folder.plan_file.exists():
        made = plan if isinstance(plan, Plan) else _planned(dataset, options, settings, plan, watch)
        write_once(folder.plan_file, plan_to_json(made).encode())
    base = folder.plan()
    if isinstance(plan, Plan) and plan != base:
        raise _different("--plan", folder, expected="the plan it began with", got="another one")
    wishes = None if isinstance(plan, Plan) else plan or PlanOptions()
    wanted = _search(dataset, options, base, wishes, memory_bytes=settings.memory_bytes)
    path = folder.path / "tuning.json"
    if not path.exists():
        write_once(path, msgspec.json.format(msgspec.json.encode(wanted), indent=1))
    try:
        found = msgspec.json.decode(path.read_bytes(), type=Search)
    except msgspec.DecodeError as error:
        raise InputError("the search cannot be read", got=str(error), path=path) from error
    for name in found.__struct_fields__:
        if name != "memory_bytes" and getattr(found, name) != getattr(wanted, name):
            raise _different(name, folder, expected=getattr(found, name), got=getattr(wanted, name))
    return found, base


def _planned(
    dataset: Dataset, options: SearchOptions, settings: Settings, plan: PlanOptions | None, watch: Watch
) -> Plan:
    held_out = divide(dataset, Division(folds=options.folds, fold=options.fold[0], test=options.test)).held_out
    # What is planned from must not know the cases that are scored.
    seen = replace(dataset, cases=tuple(case for case in dataset.cases if case.id not in held_out))
    return plan_dataset(seen, settings, plan, watch=watch)


def _search(
    dataset: Dataset, options: SearchOptions, plan: Plan, wishes: PlanOptions | None, *, memory_bytes: int
) -> Search:
    text = options.space
    if text is None:
        space = usual_space(plan)
    else:
        space = (space_from_json if text.lstrip().startswith("{") else parse_space)(text, plan)
    return Search(
        dataset_digest=digest(dataset),
        space=space,
        sampler=options.sampler,
        pruner=options.pruner,
        points=options.points,
        steps=options.trial.steps,
        epochs=options.trial.epochs,
        minutes=options.trial.minutes,
        folds=options.folds,
        fold=options.fold,
        test=options.test,
        seed=options.seed,
        options=wishes,
        memory_bytes=memory_bytes,
    )


def _different(what: str, folder: TuningFolder, *, expected: object, got: object) -> InputError:
    return InputError(
        f"this folder holds another search: {what} differs",
        expected=_shown(expected),
        got=_shown(got),
        path=folder.path,
        remedy="Give the options it began with, or another folder.",
    )


def _shown(value: object) -> object:
    if isinstance(value, tuple) and value and isinstance(value[0], msgspec.Struct):
        return ", ".join(_parts(value))
    return value


def _parts(space: tuple[object, ...]) -> Iterator[str]:
    for dimension in space:
        values = msgspec.to_builtins(dimension)
        limits = values["values"] if "values" in values else f"{values['low']:g}..{values['high']:g}"
        yield f"{values['name']}={limits}"
