"""Optuna's part of a tuning: it draws values, keeps the journal, and says which trials to give up.

Trials are queued: slot 0 holds the plan as it is, and the trial of a slot draws values that depend on the search's
seed, the slot, and the trials that had finished before. Which process a trial runs in makes no difference.
"""

from __future__ import annotations

import math
import os
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import msgspec
import numpy as np

from delineate.errors import ResourceError
from delineate.planning import Plan
from delineate.planning.spaces import default_values, grid
from delineate.planning.tunables import Choices, Dimension, Value, Values
from delineate.workflow.claims import Claim, claimed, is_claimed
from delineate.workflow.tuning_folder import Search, TuningFolder

if TYPE_CHECKING:
    from optuna import Study
    from optuna.distributions import BaseDistribution
    from optuna.pruners import BasePruner
    from optuna.samplers import BaseSampler
    from optuna.trial import FrozenTrial, Trial

DEFAULT = 0
"""The slot of the plan as it is."""

State = Literal["complete", "pruned", "rejected", "unfinished", "waiting"]

_STARTUP = 8  # trials before values are drawn otherwise than at random
_JUDGED = 4  # complete trials before another one is given up
_UNJUDGED = 2  # validations of a trial before it is given up
_GRACE_SECONDS = 15  # after which a lock on the journal is of somebody who was killed
_SLOT, _TOLD, _FINISHED = "slot", "told", ("complete", "pruned", "rejected")


class Told(msgspec.Struct, frozen=True, kw_only=True):
    """What a trial leaves in the journal beside its score. `values`: what its plan had in the end."""

    values: dict[str, Value] = {}
    notes: tuple[str, ...] = ()
    seconds: float = 0.0
    rejected: bool = False


@dataclass(frozen=True, slots=True)
class TrialRecord:
    """A trial as the journal has it. `dice`: NaN unless complete; `curve`: Dice by the number of the validation."""

    slot: int
    state: State
    dice: float
    curve: Mapping[int, float]
    told: Told

    @property
    def is_finished(self) -> bool:
        return self.state in _FINISHED


@dataclass(frozen=True, slots=True)
class Held:
    """A trial that is this process's: to begin with, or to go on with where another was killed.

    `noted`: the validations that are in the journal already.
    """

    slot: int
    values: Values
    claim: Claim
    trial: Trial
    noted: frozenset[int]

    def goes_on(self, number: int, dice: float) -> bool:
        """Note the Dice of a validation, from 1; whether the trial is worth to be gone on with."""
        if number not in self.noted:  # by the process that was killed
            self.trial.report(dice, number)
        return not self.trial.should_prune()


@dataclass(frozen=True, slots=True)
class Book:
    """The journal of a search, open."""

    study: Study
    search: Search
    plan: Plan
    folder: TuningFolder

    def records(self) -> tuple[TrialRecord, ...]:
        """All trials, in the order of their slots."""
        return tuple(_record(slot, frozen) for slot, frozen in sorted(self._slots().items()))

    def queue(self, trials: int | None) -> None:
        """Have slots up to so many; without a number one more than there are, if none waits. A grid ends by itself."""
        rows, found = _rows(self.search, self.plan), set(self._slots())
        if trials is None:
            trials = len(found) + (not any(record.state == "waiting" for record in self.records()))
        most = len(rows) if self.search.sampler == "grid" else trials
        for slot in range(min(trials, most)):
            if slot not in found:
                fixed = dict(rows[slot]) if slot < len(rows) else {}
                self.study.enqueue_trial(fixed, user_attrs={_SLOT: slot})

    @contextmanager
    def take(self) -> Iterator[Held | None]:
        """A trial for this process while the context lasts: one that a killed or stopped process left, else the next.

        None if there is none to be taken now; one that another process has may still be left.
        """
        for record in self.records():
            if record.state != "unfinished":
                continue
            with claimed(self.folder.trial(record.slot)) as claim:
                held = None if claim is None else self._held(record.slot, claim)
                if held is not None:
                    yield held
                    return
        while any(record.state == "waiting" for record in self.records()):
            trial = self.study.ask()
            slot = trial.user_attrs.get(_SLOT)
            if slot is None or self._slots()[slot].number != trial.number:
                self._drop(trial)  # two processes queued or asked at once
                continue
            with claimed(self.folder.trial(slot)) as claim:
                held = None if claim is None else self._held(slot, claim)
                if held is not None:
                    yield held
                    return
        yield None

    def tell(self, held: Held, told: Told, *, dice: float | None) -> None:
        """Finish a trial, with its Dice, or None if it was given up or could not be trained."""
        from optuna.trial import TrialState

        held.trial.set_user_attr(_TOLD, msgspec.to_builtins(told))
        state = TrialState.PRUNED if dice is None else TrialState.COMPLETE
        self.study.tell(held.trial, dice, state=state, skip_if_finished=True)

    @property
    def is_busy(self) -> bool:
        """Whether any process is at a trial."""
        unfinished = (record.slot for record in self.records() if record.state == "unfinished")
        return any(is_claimed(self.folder.trial(slot)) for slot in unfinished)

    def _held(self, slot: int, claim: Claim) -> Held | None:
        """The trial of a slot with its values; None if it was finished in between."""
        from optuna.trial import Trial, TrialState

        frozen = self._slots()[slot]
        if frozen.state is not TrialState.RUNNING:
            return None
        self.study.sampler = _sampler(self.search, slot)
        trial = Trial(self.study, frozen._trial_id)
        values = {d.name: _suggest(trial, d) for d in self.search.space}
        return Held(slot, values, claim, trial, frozenset(frozen.intermediate_values))

    def _slots(self) -> dict[int, FrozenTrial]:
        """The trial of each slot: of two with one slot, the first counts."""
        found: dict[int, FrozenTrial] = {}
        for frozen in self.study.get_trials(deepcopy=False):
            slot = frozen.user_attrs.get(_SLOT)
            if slot is not None:
                found.setdefault(slot, frozen)
        return found

    def _drop(self, trial: Trial) -> None:
        from optuna.trial import TrialState

        self.study.tell(trial, state=TrialState.FAIL)


def open_book(search: Search, plan: Plan, folder: TuningFolder) -> Book:
    """Open the journal of a folder, or begin it. Raises `ResourceError` if Optuna is not installed."""
    try:
        import optuna
        from optuna.storages.journal import JournalFileBackend, JournalFileOpenLock
    except ImportError as error:
        raise ResourceError(
            "tuning needs Optuna, which is not installed", remedy='pip install "delineate[tune]"'
        ) from error
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    lock = JournalFileOpenLock(str(folder.journal), grace_period=_GRACE_SECONDS)
    backend = JournalFileBackend(str(folder.journal), lock_obj=lock)
    lock.acquire()
    try:
        _mend(folder.journal)
    finally:
        lock.release()
    study = optuna.create_study(
        storage=optuna.storages.JournalStorage(backend),
        study_name="tune",
        direction="maximize",
        load_if_exists=True,
        sampler=_sampler(search, DEFAULT),
        pruner=_pruner(search, plan),
    )
    return Book(study, search, plan, folder)


def importances(search: Search, records: Sequence[TrialRecord]) -> dict[str, float]:
    """What it depends on whether a trial is among the best quarter: shares of 1, the largest first (PED-ANOVA, Watanabe
    et al. 2023). {} for one dimension or fewer than 12 trials with a score."""
    scored = [record for record in records if record.curve and record.told.values]
    if len(scored) < 12 or len(search.space) < 2:
        return {}
    import optuna
    from optuna.importance import PedAnovaImportanceEvaluator, get_param_importances

    study = optuna.create_study(direction="maximize")
    distributions = {d.name: _distribution(d) for d in search.space}
    for record in scored:
        dice = record.dice if record.state == "complete" else max(record.curve.values())
        values = {d.name: d.nearest(record.told.values[d.name]) for d in search.space}
        study.add_trial(optuna.trial.create_trial(params=values, distributions=distributions, value=dice))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # experimental in older versions
        found = get_param_importances(study, evaluator=PedAnovaImportanceEvaluator(target_quantile=0.25))
    return {name: share for name, share in found.items() if math.isfinite(share)}


def _record(slot: int, frozen: FrozenTrial) -> TrialRecord:
    from optuna.trial import TrialState

    told = msgspec.convert(frozen.user_attrs.get(_TOLD, {}), Told)
    states: dict[TrialState, State] = {
        TrialState.COMPLETE: "complete",
        TrialState.PRUNED: "rejected" if told.rejected else "pruned",
        TrialState.RUNNING: "unfinished",
        TrialState.WAITING: "waiting",
    }
    state = states.get(frozen.state, "rejected")
    dice = float(frozen.value) if state == "complete" and frozen.value is not None else math.nan
    return TrialRecord(slot, state, dice, dict(sorted(frozen.intermediate_values.items())), told)


def _rows(search: Search, plan: Plan) -> list[dict[str, Value]]:
    """What is fixed of the first slots: the plan's own values, then a grid's, in an order of the seed's."""
    own = {d.name: d.nearest(value) for d, value in _paired(search, plan)}
    if search.sampler != "grid":
        return [own]
    others = [row for row in grid(search.space, search.points) if row != own]
    np.random.default_rng(search.seed).shuffle(others)
    return [own, *others]


def _paired(search: Search, plan: Plan) -> Iterator[tuple[Dimension, Value]]:
    values = default_values(plan, search.space)
    return ((dimension, values[dimension.name]) for dimension in search.space)


def grid_size(search: Search, plan: Plan) -> int | None:
    """How many trials a grid has, the plan as it is included; None for other searches."""
    return len(_rows(search, plan)) if search.sampler == "grid" else None


def _suggest(trial: Trial, dimension: Dimension) -> Value:
    name = dimension.name
    if isinstance(dimension, Choices):
        chosen = trial.suggest_categorical(name, dimension.values)
        assert chosen is not None
        return chosen
    if dimension.whole:
        return trial.suggest_int(name, round(dimension.low), round(dimension.high), log=dimension.log)
    return trial.suggest_float(name, dimension.low, dimension.high, log=dimension.log)


def _distribution(dimension: Dimension) -> BaseDistribution:
    from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

    if isinstance(dimension, Choices):
        return CategoricalDistribution(dimension.values)
    if dimension.whole:
        return IntDistribution(round(dimension.low), round(dimension.high), log=dimension.log)
    return FloatDistribution(dimension.low, dimension.high, log=dimension.log)


def _sampler(search: Search, slot: int) -> BaseSampler:
    from optuna.samplers import RandomSampler, TPESampler

    seed = int(np.random.SeedSequence((search.seed, slot)).generate_state(1)[0])
    if search.sampler != "tpe":
        return RandomSampler(seed=seed)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # experimental in older versions
        return TPESampler(seed=seed, n_startup_trials=_STARTUP, multivariate=True, constant_liar=True)


def _pruner(search: Search, plan: Plan) -> BasePruner:
    from optuna.pruners import HyperbandPruner, MedianPruner, NopPruner

    if search.pruner == "none":
        return NopPruner()
    if search.pruner == "median":
        return MedianPruner(n_startup_trials=_JUDGED, n_warmup_steps=_UNJUDGED)
    most = plan.training.validations * len(search.fold)
    return HyperbandPruner(min_resource=min(_UNJUDGED, most), max_resource=most)


def _mend(path: Path) -> None:
    """Cut off the line that a process was writing when the machine stopped: nobody could read on behind it."""
    with path.open("r+b") as journal:
        journal.seek(0, os.SEEK_END)
        end = journal.tell()
        while end:
            journal.seek(end - 1)
            if journal.read(1) == b"\n":
                break
            end -= 1
        journal.truncate(end)
