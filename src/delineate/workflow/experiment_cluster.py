"""The runs of an experiment on a cluster: each is "go on with this run in the shared folder", wherever that is done."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from delineate.dataset import Dataset
from delineate.executors.cluster import Cluster, run_on_cluster
from delineate.settings import Settings
from delineate.workflow.claims import claimed
from delineate.workflow.experiment_folder import ExperimentFolder, Setup
from delineate.workflow.experiment_runs import PREDICTING, RunWork, is_finished
from delineate.workflow.preparing import use_threads
from delineate.workflow.progress import StopRequest, Watch, nobody, stop_on_signals
from delineate.workflow.training_run import Budget

_WAIT_SECONDS = 1.0


@dataclass(frozen=True, slots=True)
class _Piece:
    """One run, in a process somewhere."""

    dataset: Dataset
    folder: ExperimentFolder
    setup: Setup
    settings: Settings
    which: tuple[str, int]
    budget: Budget

    def __call__(self) -> bool:
        """Whether the run came to its end here, or elsewhere."""
        name, fold = self.which
        run = self.folder.run(name, fold)
        with stop_on_signals() as stop:
            use_threads(self.settings)
            while not stop.asked:
                # One that seemed dead may still be at it: two must not train one run.
                with claimed(self.folder.path / "claims" / name / str(fold)) as claim:
                    if claim is not None:
                        if is_finished(run, self.budget):
                            return True
                        work = RunWork(self.dataset, self.folder, self.setup, self.settings, nobody)
                        return work.do(name, fold, budget=self.budget, share=False)
                time.sleep(_WAIT_SECONDS)
        return False


def train_on_cluster(
    dataset: Dataset,
    folder: ExperimentFolder,
    setup: Setup,
    *,
    runs: Sequence[tuple[str, int]],
    budget: Budget,
    settings: Settings,
    cluster: Cluster,
    watch: Watch,
    stop: StopRequest,
) -> bool:
    """Train those of some runs that are left, as many at once as the cluster has room for; whether all are done.

    Of minutes each run gets an even part, as if they were trained one after the other.
    Raises what `run_on_cluster` and training raise.
    """
    place = ExperimentFolder(folder.path.absolute())
    there = replace(settings, cache=settings.cache.absolute(), device="cuda" if cluster.gpus else settings.device)
    left = [which for which in runs if not is_finished(place.run(*which), budget)]
    minutes = budget.minutes
    own = budget if minutes is None else Budget(minutes=(1 - PREDICTING) * minutes / len(setup.runs))
    pieces = {_name(which): _Piece(everywhere(dataset), place, setup, there, which, own) for which in left}

    def look(done: int) -> None:
        watch("Runs", len(runs) - len(left) + done, len(runs), "on the cluster")
        for which in left:
            facts = place.run(*which).facts()
            if facts is not None and facts.step < facts.last_step:
                watch(_name(which), facts.step, facts.last_step, f"{facts.seconds / 60:.1f} minutes")

    if not pieces:
        return True
    found: Mapping[str, object] = run_on_cluster(cluster, pieces, watch=look, stopping=lambda: stop.asked)
    return len(found) == len(pieces) and all(found.values())


def _name(which: tuple[str, int]) -> str:
    return f"{which[0]}, fold {which[1] + 1}"


def everywhere(dataset: Dataset) -> Dataset:
    """The same dataset with paths that mean the same in every process."""
    cases = tuple(
        replace(
            case,
            images=tuple(path.absolute() for path in case.images),
            reference=None if case.reference is None else case.reference.absolute(),
            others=tuple(path.absolute() for path in case.others),
        )
        for case in dataset.cases
    )
    return replace(dataset, cases=cases)
