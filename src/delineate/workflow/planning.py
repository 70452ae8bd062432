"""`delineate plan`: the plan that `delineate train` would make by itself, to look at and to edit before."""

from __future__ import annotations

from dataclasses import replace

import msgspec

from delineate.dataset import Dataset, hold_out_last, k_folds
from delineate.planning import Plan, PlanOptions
from delineate.sampling import steps_per_epoch
from delineate.settings import Settings
from delineate.workflow.preparing import plan_dataset
from delineate.workflow.progress import Watch, nobody
from delineate.workflow.training import Division

_UNREAD = "not read"  # the files, to tell one dataset from another: nothing is kept of a split here


def plan_training(
    dataset: Dataset,
    settings: Settings,
    options: PlanOptions | None = None,
    *,
    test: int = 0,
    epochs: int | None = None,
    watch: Watch = nobody,
) -> Plan:
    """Plan from the cases that `train` plans from: not from the last `test` ones, which it sets aside.

    `epochs`: the steps are so many epochs of the cases that `train` learns from, if nothing else is asked of it.
    Raises `DatasetError` if no case is left, and what `plan_dataset` raises.
    """
    if test:
        known = hold_out_last(dataset, test, dataset_digest=_UNREAD).training
        dataset = replace(dataset, cases=tuple(case for case in dataset.cases if case.id in known))
    plan = plan_dataset(dataset, settings, options, watch=watch)
    return plan if epochs is None else _with_epochs(plan, epochs, _learnt_from(dataset))


def _learnt_from(dataset: Dataset) -> int:
    """How many cases are learnt from while the first fold validates."""
    cases = [case for case in dataset.cases if case.reference is not None]
    folds = min(Division().folds, len({case.patient_id for case in cases}))
    return len(cases) if folds < 2 else len(k_folds(dataset, folds, seed=0, dataset_digest=_UNREAD)[0].training)


def _with_epochs(plan: Plan, epochs: int, cases: int) -> Plan:
    each = steps_per_epoch(cases, plan)
    reason = f"time: {epochs} epochs of {each:,} steps, in which each of {cases} cases gives as many patches"
    return msgspec.structs.replace(
        plan,
        training=msgspec.structs.replace(plan.training, steps=epochs * each),
        reasons=(*(one for one in plan.reasons if not one.startswith("time:")), reason),
    )
