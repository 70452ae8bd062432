"""Was the winner lucky? It and the default are trained again, with other seeds, and scored on cases that chose nothing.

The best of many trials owes a part of its score to chance (the winner's curse). So the figure that counts is that of a
run that was not chosen: on a fold that no trial validated on where there is one, by the last weights.
"""

from __future__ import annotations

import csv
import math
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import msgspec
import numpy as np
import numpy.typing as npt

from delineate import training
from delineate.dataset import Dataset
from delineate.evaluation.intervals import Interval, bootstrap_means
from delineate.files import write_csv
from delineate.inference import place
from delineate.model import Model, load_model
from delineate.planning import Plan
from delineate.settings import Settings
from delineate.workflow.claims import claimed, is_claimed
from delineate.workflow.preparing import prepare_cases, use_threads
from delineate.workflow.training import train
from delineate.workflow.tuning_folder import Search
from delineate.workflow.tuning_study import DEFAULT, TrialRecord
from delineate.workflow.tuning_trials import Ending, Workplace, discard_model, own_cases
from delineate.workspace import RunFolder

_CASES = "cases.csv"
_SEED_STEP = 1000  # between the plan's seed and that of its first repeat

Table = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Confirmation:
    """Winner and default, trained again: mean Dice over cases and structures, their difference with its 95 % interval
    from drawing patients.

    `fresh`: whether the folds were ones that no trial validated on. `repeats`: runs of each.
    """

    winner: float
    default: float
    difference: float
    interval: Interval
    cases: int
    patients: int
    repeats: int
    folds: tuple[int, ...]
    fresh: bool


def confirm_one(best: TrialRecord, repeats: int, at: Workplace) -> Ending | None:
    """Carry out one run that nobody has done or is at; None if there is none."""
    for slot, repeat in _tasks(best, repeats):
        folder = at.folder.confirmation(slot, repeat)
        if (folder / _CASES).exists():
            continue
        with claimed(folder) as claim:
            if claim is not None and not (folder / _CASES).exists():
                values = best.told.values if slot == best.slot else {}
                return _run(slot, repeat, at.candidate(slot, values).plan, at)
    return None


def is_confirming(best: TrialRecord, repeats: int, at: Workplace) -> bool:
    """Whether any process is at such a run."""
    folders = (at.folder.confirmation(slot, repeat) for slot, repeat in _tasks(best, repeats))
    return any(folder.is_dir() and is_claimed(folder) for folder in folders)


def confirmation(best: TrialRecord, repeats: int, at: Workplace) -> Confirmation | None:
    """What the runs show; None while one is missing, or if the default itself is the best."""
    tasks = list(_tasks(best, repeats))
    tables = {task: _read(at.folder.confirmation(*task)) for task in tasks}
    if not tasks or not all(tables.values()):
        return None
    scored = [(repeat, case) for repeat in range(repeats) for case in tables[DEFAULT, repeat]]
    pairs = [[tables[slot, repeat][case] for slot in (best.slot, DEFAULT)] for repeat, case in scored]
    patients = [at.dataset.case(case).patient_id for _, case in scored]
    table = _agreed(np.array(pairs))
    gaps = table[:, 0] - table[:, 1]
    limits = bootstrap_means(gaps[:, :, None], patients, np.random.default_rng(at.book.search.seed)).of_means[0]
    folds = tuple(dict.fromkeys(_fold(at.book.search, repeat) for repeat in range(repeats)))
    return Confirmation(
        winner=_mean(table[:, 0]),
        default=_mean(table[:, 1]),
        difference=_mean(gaps),
        interval=(float(limits[0]), float(limits[1])),
        cases=len({case for _, case in scored}),
        patients=len(set(patients)),
        repeats=repeats,
        folds=folds,
        fresh=not set(folds) & set(at.book.search.fold),
    )


def _tasks(best: TrialRecord, repeats: int) -> Iterator[tuple[int, int]]:
    if best.slot != DEFAULT:
        yield from ((slot, repeat) for repeat in range(repeats) for slot in (DEFAULT, best.slot))


def _fold(search: Search, repeat: int) -> int:
    """The fold that a repeat is scored on: those that no trial validated on, in turn, if there are any."""
    unseen = [fold for fold in range(search.folds) if fold not in search.fold]
    folds = unseen or list(search.fold)
    return folds[repeat % len(folds)]


def _run(slot: int, repeat: int, plan: Plan, at: Workplace) -> Ending:
    search, folder = at.book.search, at.folder.confirmation(slot, repeat)
    # With one validation, at the end, no weights are chosen on the cases that are scored.
    schedule = msgspec.structs.replace(plan.training, seed=plan.training.seed + _SEED_STEP + repeat, validations=1)
    plan = msgspec.structs.replace(plan, training=schedule)
    name = "default" if slot == DEFAULT else "winner"
    settings = own_cases(plan, _fold(search, repeat), folder / "cache", at)
    trained = _finished(folder) or train(
        at.dataset,
        folder,
        budget=search.budget,
        division=search.division(_fold(search, repeat)),
        settings=settings,
        plan=plan,
        watch=lambda stage, done, total, note: at.watch(stage, done, total, f"{name} again, {note}"),
    )
    if trained is None:
        return "stopped"
    _score(trained, folder, at.dataset, settings)
    shutil.rmtree(folder / "cache", ignore_errors=True)
    discard_model(folder)
    return "finished"


def _finished(folder: Path) -> Model | None:
    """A run that was killed between its end and its scores: to train on would extend it."""
    facts = RunFolder(folder).facts() if RunFolder(folder).exists else None
    return load_model(folder) if facts is not None and facts.step >= facts.last_step else None


def _score(model: Model, folder: Path, dataset: Dataset, settings: Settings) -> None:
    use_threads(settings)
    chosen = [dataset.case(case) for case in model.provenance.validation_cases]
    prepared = prepare_cases(chosen, dataset.labels, model.plan, settings)
    network = place(model.network(), settings.device)
    dice = training.case_dice(network, prepared, model.plan, device=settings.device)
    rows = (
        (case.id, *("" if math.isnan(v) else f"{v:.6f}" for v in row)) for case, row in zip(chosen, dice, strict=True)
    )
    write_csv(folder / _CASES, [("case", *model.plan.labels), *rows])


def _read(folder: Path) -> dict[str, list[float]]:
    """Dice of each structure by case; {} while the run is not scored."""
    if not (folder / _CASES).exists():
        return {}
    with (folder / _CASES).open(encoding="utf-8", newline="") as stream:
        _, *rows = csv.reader(stream)
    return {case: [float(value) if value else math.nan for value in dice] for case, *dice in rows}


def _agreed(table: Table) -> Table:
    """Of (cases, 2, labels): where only one model found what is not there, the other was right."""
    missing = np.isnan(table)
    return np.where(missing & ~missing.all(axis=1, keepdims=True), 1.0, table)


def _mean(table: Table) -> float:
    """Over the cases of each structure, then over structures; those that no case has are left out."""
    known = table[:, ~np.isnan(table).all(axis=0)]
    return float(np.nanmean(known, axis=0).mean()) if known.size else math.nan
