"""One trial of a tuning: its plan, its runs on folds, and what stays of it."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from delineate.dataset import Dataset
from delineate.errors import PlanError, TrainingError
from delineate.files import remove
from delineate.model import MODEL_FILE, WEIGHTS_FILE
from delineate.planning import Plan
from delineate.planning.spaces import Candidate, candidate, default_values
from delineate.planning.tunables import Values
from delineate.settings import Settings
from delineate.workflow.preparing import use_threads
from delineate.workflow.progress import Watch
from delineate.workflow.training import Course, divide, train
from delineate.workflow.tuning_cases import prepare_by_window
from delineate.workflow.tuning_folder import TuningFolder
from delineate.workflow.tuning_study import DEFAULT, Book, Held, Told, TrialRecord
from delineate.workspace import RunFolder

Ending = Literal["finished", "stopped", "lost"]
"""Of a trial here: told to the journal; asked to stop, to be gone on with; or taken over by another process."""


@dataclass(frozen=True, slots=True)
class Workplace:
    """What a process needs to carry out trials."""

    book: Book
    dataset: Dataset
    settings: Settings
    watch: Watch

    @property
    def folder(self) -> TuningFolder:
        return self.book.folder

    def candidate(self, slot: int, values: Values) -> Candidate:
        """The plan of a slot: the default as it is, or with a trial's values. Raises `PlanError` if they make none."""
        plan, search = self.book.plan, self.book.search
        if slot == DEFAULT:
            return Candidate(plan, default_values(plan, search.space))
        return candidate(plan, values, memory_bytes=search.memory_bytes)


@dataclass(frozen=True, slots=True)
class _Outcome:
    """Of a run on one fold: its best Dice, None if the run did not come to its end; why not."""

    dice: float | None
    ending: Literal["", "pruned", "stopped", "lost"] = ""


def run_trial(held: Held, at: Workplace) -> Ending:
    """Carry out a trial, or go on with it, and tell the journal how it ended.

    What cannot be trained (an impossible plan, a loss that is not finite) is told as rejected, with the reason. Other
    errors are raised, because they would meet every trial.
    """
    chosen = None
    try:
        chosen = at.candidate(held.slot, held.values)
        outcomes = _run_folds(held, chosen.plan, at)
    except (PlanError, TrainingError) as error:
        values, notes = (held.values, ()) if chosen is None else (chosen.values, chosen.notes)
        _tell(held, at, Told(values=dict(values), notes=(*notes, str(error)), rejected=True), None)
        return "finished"
    ending = outcomes[-1].ending
    if ending in ("stopped", "lost"):
        return ending
    told = Told(values=dict(chosen.values), notes=chosen.notes, seconds=_seconds(held.slot, at))
    _tell(held, at, told, None if ending else _mean(outcomes))
    return "finished"


def _run_folds(held: Held, plan: Plan, at: Workplace) -> list[_Outcome]:
    """Of each fold that was trained on, in their order; those after one that did not come to its end are left out."""
    outcomes: list[_Outcome] = []
    for fold in at.book.search.fold:
        outcomes.append(_run_fold(held, plan, at, fold=fold, before=outcomes))
        if outcomes[-1].ending:
            break
    return outcomes


def _run_fold(held: Held, plan: Plan, at: Workplace, *, fold: int, before: Sequence[_Outcome]) -> _Outcome:
    search, model = at.book.search, at.folder.model(held.slot, at.book.search, fold)
    facts = RunFolder(model).facts() if RunFolder(model).exists else None
    if facts is not None and facts.step >= facts.last_step:
        return _Outcome(facts.best_dice)  # to train on would extend it
    validated = 0 if facts is None else sum(row.validation_dice is not None for row in facts.history)
    earlier = plan.training.validations * len(before)
    why: list[Literal["pruned", "lost"]] = []

    def goes_on(step: int, dice: float) -> bool:
        nonlocal validated
        validated += 1
        if held.claim.is_lost:
            why.append("lost")
        elif not held.goes_on(earlier + validated, _mean([*before, _Outcome(dice)])):
            why.append("pruned")
        return not why

    def watch(stage: str, done: float, total: float, note: str) -> None:
        at.watch(stage, done, total, f"trial {held.slot}" + (f", {note}" if note else ""))

    trained = train(
        at.dataset,
        model,
        budget=search.budget,
        division=search.division(fold),
        settings=own_cases(plan, fold, at.folder.cache(held.slot), at),
        plan=plan,
        course=Course(goes_on=goes_on),
        watch=watch,
    )
    if trained is not None:
        return _Outcome(trained.provenance.validation_dice)
    return _Outcome(None, why[-1] if why else "stopped")


def _mean(outcomes: Sequence[_Outcome]) -> float:
    """Runs that found nothing, or never validated, count as 0."""
    return sum(outcome.dice or 0.0 for outcome in outcomes) / len(outcomes)


def own_cases(plan: Plan, fold: int, cache: Path, at: Workplace) -> Settings:
    """The settings to train a plan with. Cases that no other plan prepares alike are put into a cache of its own."""
    if plan.normalisation == at.book.plan.normalisation:
        return at.settings
    use_threads(at.settings)
    own = replace(at.settings, cache=cache)
    split = divide(at.dataset, at.book.search.division(fold))
    cases = [at.dataset.case(case) for case in (*split.training, *split.validation)]
    prepare_by_window(cases, at.dataset.labels, plan, shared=at.settings, own=own, watch=at.watch)
    return own


def _tell(held: Held, at: Workplace, told: Told, dice: float | None) -> None:
    at.book.tell(held, told, dice=dice)
    shutil.rmtree(at.folder.cache(held.slot), ignore_errors=True)


def _seconds(slot: int, at: Workplace) -> float:
    folders = [RunFolder(at.folder.model(slot, at.book.search, fold)) for fold in at.book.search.fold]
    known = [folder.facts() for folder in folders if folder.exists]
    return sum(facts.seconds for facts in known if facts is not None)


def discard_weights(records: Sequence[TrialRecord], at: Workplace) -> None:
    """Delete the weights of all finished trials but the best one's. Curves, plans and splits stay."""
    best = best_of(records)
    for record in records:
        if record.is_finished and (best is None or record.slot != best.slot):
            for fold in at.book.search.fold:
                discard_model(at.folder.model(record.slot, at.book.search, fold))


def discard_model(model: Path) -> None:
    """Delete a run's weights and its checkpoint; its curves, plan and split stay."""
    for path in (model / WEIGHTS_FILE, model / MODEL_FILE, RunFolder(model).folder / "state.safetensors"):
        remove(path)


def best_of(records: Sequence[TrialRecord]) -> TrialRecord | None:
    """The complete trial with the highest Dice, of equals the first; None if none is complete."""
    complete = [record for record in records if record.state == "complete"]
    return max(complete, key=lambda record: (record.dice, -record.slot), default=None)
