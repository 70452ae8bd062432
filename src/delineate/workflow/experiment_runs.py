"""The training runs of an experiment: which are left, how long each may take, and the model that each ends with."""

from __future__ import annotations

from dataclasses import dataclass, replace

import msgspec

from delineate.dataset import Dataset, Split
from delineate.errors import ModelError
from delineate.model import Model, load_model
from delineate.planning.configurations import LOW
from delineate.sampling import steps_per_epoch
from delineate.settings import Settings
from delineate.training import Facts, mean_dice
from delineate.workflow.energy import metered
from delineate.workflow.experiment_folder import ExperimentFolder, Setup
from delineate.workflow.ledger import FIRST_PART, Entry, add
from delineate.workflow.progress import Watch
from delineate.workflow.run_records import environment
from delineate.workflow.training import Division, train
from delineate.workflow.training_run import Budget, Course
from delineate.workspace import RunFolder

PREDICTING = 0.1  # of the time, kept for out-of-fold results while nothing is known of how long they take
LEAST = 0.25  # of an even share of the time, which every run gets whatever the others took


def fold_split(setup: Setup, fold: int) -> Split:
    """Trained on all folds but one, which validates."""
    inside = frozenset(setup.folds[fold])
    training = tuple(case for case in setup.cases if case not in inside)
    how = f"fold {fold + 1} of {len(setup.folds)}; {setup.how}"
    return Split(training, setup.folds[fold], setup.dataset_digest, how, setup.test)


def is_finished(run: RunFolder, budget: Budget) -> bool:
    """Whether a run has come to its end, and to what is asked for now. A longer one extends it; minutes do not."""
    facts = run.facts()
    if facts is None or facts.step < facts.last_step:
        return False
    wanted = budget.steps or 0
    if budget.epochs is not None:
        wanted = budget.epochs * steps_per_epoch(len(run.split().training), run.plan())
    return facts.step >= wanted


@dataclass(frozen=True, slots=True, eq=False)
class RunWork:
    """How the runs of an experiment are trained."""

    dataset: Dataset
    folder: ExperimentFolder
    setup: Setup
    settings: Settings
    watch: Watch

    def do(self, name: str, fold: int, *, budget: Budget, share: bool = True) -> bool:
        """Train one run to its end, or go on with it; whether it is there. Writes it down in the ledger.

        `share`: whether minutes are those of the whole experiment, of which the run gets its part.
        """
        folder, run = self.folder, self.folder.run(name, fold)
        if share and budget.minutes is not None:
            budget = Budget(minutes=minutes_for(folder, self.setup, budget.minutes))
        started, plan = run.facts(), folder.plan(name)
        before = {case: folder.stage(LOW, case) for case in self.setup.cases} if plan.previous else {}
        with metered(self.settings.device) as energy:
            model = train(
                self.dataset,
                run.model,
                budget=budget,
                division=Division(given=fold_split(self.setup, fold)),
                settings=self.settings,
                plan=plan,
                course=Course(before=before),
                watch=self.watch,
            )
        after = run.facts()
        if after is not None:
            seconds = after.seconds - (0.0 if started is None else started.seconds)
            key = FIRST_PART if started is None else ""
            part = Entry(what="part", name=name, fold=fold, key=key, seconds=round(seconds, 1), joules=energy.joules)
            add(folder.path, msgspec.structs.replace(part, steps=after.step, machine=machine_words(self.settings)))
        return model is not None


def machine_words(settings: Settings) -> str:
    """Device and processor, in a few words."""
    known = environment(settings)
    return f"{known['device']}; {known['processor']}"


def minutes_for(folder: ExperimentFolder, setup: Setup, minutes: float) -> float:
    """Of the minutes for everything, those of the next run: an even part of what the others have left."""
    total = 60 * minutes
    facts = {which: folder.run(*which).facts() for which in setup.runs}
    left = [which for which, known in facts.items() if known is None or known.step < known.last_step]
    training = sum(known.seconds for known in facts.values() if known is not None)
    seconds = (total - setup.planning_seconds - training - _predicting(folder, setup, total)) / max(1, len(left))
    return max(seconds, LEAST * total / len(setup.runs)) / 60


def _predicting(folder: ExperimentFolder, setup: Setup, total: float) -> float:
    """Seconds that all out-of-fold results take: as those that are there did, on average."""
    records = [record for case in setup.cases if (record := folder.record(case)) is not None]
    if not records:
        return PREDICTING * total
    return len(setup.cases) * sum(record.total_seconds for record in records) / len(records)


def fold_model(run: RunFolder) -> Model:
    """The model of a finished run, with the weights of its last step: none is chosen on the cases that it is scored on.

    Raises `ModelError` if the run's checkpoint is gone.
    """
    model, plan = load_model(run.model), run.plan()
    state = run.load_state(plan, device="cpu")
    if state is None:
        raise ModelError(
            "a finished run has lost its checkpoint", path=run.folder, remedy="Remove its folder to train it again."
        )
    facts: Facts = state.facts
    provenance = msgspec.structs.replace(
        model.provenance,
        step=facts.step,
        seconds=round(facts.seconds, 1),
        validation_dice=mean_dice(facts.history[-1].validation_dice) if facts.history else None,
    )
    weights = {name: tensor.detach().clone() for name, tensor in state.average.items()}
    return replace(model, weights=weights, plan=plan, provenance=provenance)
