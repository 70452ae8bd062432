"""`delineate experiment`: from a dataset to one model, by cross-validation of every configuration worth training.

What is done is read from the folder, and not done again: the same command goes on wherever it was stopped.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from delineate.dataset import Dataset, unite_labels
from delineate.errors import ModelError
from delineate.evaluation.selecting import Candidate
from delineate.executors.cluster import Cluster
from delineate.files import exclusive, sweep
from delineate.model import MODEL_FILE, Model, load_model
from delineate.planning import Plan
from delineate.planning.configurations import LOW
from delineate.reports.experiment_pages import CandidateLine
from delineate.settings import Settings
from delineate.workflow.experiment_choosing import Conclusion, conclude, pack, work_of
from delineate.workflow.experiment_cluster import train_on_cluster
from delineate.workflow.experiment_folder import ExperimentFolder, Setup
from delineate.workflow.experiment_planning import ExperimentOptions, begin
from delineate.workflow.experiment_predicting import CaseWork, candidates_for, is_done, open_fold
from delineate.workflow.experiment_reports import candidate_lines, write_reports, write_run_entry
from delineate.workflow.experiment_runs import RunWork, fold_model, is_finished
from delineate.workflow.experiment_stages import StageWork, model_of_fold, second_stages
from delineate.workflow.joining import write_joined
from delineate.workflow.preparing import use_threads
from delineate.workflow.progress import StopRequest, Watch, nobody, stop_on_signals

__all__ = ["ExperimentOptions", "ExperimentResult", "experiment"]


@dataclass(frozen=True, slots=True)
class ExperimentResult:
    """What an experiment came to, and where its model and its page are."""

    setup: Setup
    conclusion: Conclusion
    model: Path
    page: Path

    @property
    def lines(self) -> tuple[CandidateLine, ...]:
        """What tables say of each candidate."""
        return candidate_lines(self.conclusion)


def experiment(
    dataset: Dataset,
    folder: Path,
    *,
    options: ExperimentOptions,
    settings: Settings,
    cluster: Cluster | None = None,
    watch: Watch = nobody,
) -> ExperimentResult | None:
    """Train, predict, choose, pack; or go on with what `folder` holds. None if it was stopped before its end.

    `cluster`: where runs are trained, many at once; the rest is done here.

    The last weights of each run count, whatever was validated on the way. Raises `DatasetError` for too few patients
    or a dataset that has changed, `InputError` for options other than those the experiment was begun with, `PlanError`
    for configurations that are not there, `ResourceError` if another process is at it, and what training raises.
    """
    use_threads(settings)
    dataset = unite_labels(dataset, options.planning.regions)
    place = ExperimentFolder(folder)
    with exclusive(folder), stop_on_signals() as stop:
        for part in place.parts():
            sweep(part)
        setup = begin(dataset, place, options, settings, watch)
        work = _Work(dataset, place, setup, options, settings, watch, stop)
        conclusion = work.run() if cluster is None or work.train_on(cluster) else None
    return None if conclusion is None else ExperimentResult(setup, conclusion, place.model, place.page)


@dataclass(slots=True)
class _Work:
    """An experiment on its way."""

    dataset: Dataset
    folder: ExperimentFolder
    setup: Setup
    options: ExperimentOptions
    settings: Settings
    watch: Watch
    stop: StopRequest

    def run(self) -> Conclusion | None:
        """Fold by fold: train every configuration, then segment the fold's cases with all of them."""
        plans = self._plans()
        candidates = candidates_for(plans, work_of(plans), ensembles=self.setup.ensembles)
        if second_stages(plans) and not self._stage_before():
            return None
        for fold in range(len(self.setup.folds)):
            if not (self._train(fold) and self._predict(fold, candidates)):
                return None
        records = [self.folder.record(case) for case in self.setup.cases]
        self.watch("Choosing", 0, 1, "")
        conclusion = conclude(self.setup, candidates, [record for record in records if record is not None])
        model = self._pack(conclusion)
        write_reports(self.folder, self.setup, conclusion, model, self.settings)
        self.watch("Choosing", 1, 1, conclusion.choice.chosen)
        return conclusion

    def train_on(self, cluster: Cluster) -> bool:
        """Whether every run is at its end, trained on a cluster."""
        if second_stages(self._plans()):
            first = [which for which in self.setup.runs if which[0] == LOW]
            if not (self._on_cluster(cluster, first) and self._stage_before()):
                return False
        return self._on_cluster(cluster, self.setup.runs)

    def _on_cluster(self, cluster: Cluster, runs: Sequence[tuple[str, int]]) -> bool:
        return train_on_cluster(
            self.dataset,
            self.folder,
            self.setup,
            runs=runs,
            budget=self.options.budget,
            settings=self.settings,
            cluster=cluster,
            watch=self.watch,
            stop=self.stop,
        )

    def _plans(self) -> dict[str, Plan]:
        return {name: self.folder.plan(name) for name in self.setup.configurations}

    def _stage_before(self) -> bool:
        """Whether cascades have what they begin with: the first stage's masks of all cases, out of fold."""
        work, count = StageWork(self.dataset, self.folder, self.settings), len(self.setup.cases)
        done = 0
        for fold, cases in enumerate(self.setup.folds):
            if not self._train(fold, only=LOW):
                return False
            model = model_of_fold(self.folder, LOW, fold)
            left = work.left(self.setup, fold, model)
            opened = open_fold({LOW: model}, self.settings) if left else None
            for n, case in enumerate(left, start=done + len(cases) - len(left)):
                self.watch("Stage before", n, count, case)
                assert opened is not None
                work.do(case, opened)
                if self.stop.asked:
                    return False
            done += len(cases)
            self.watch("Stage before", done, count, f"fold {fold + 1}")
        return True

    def _train(self, fold: int, *, only: str = "") -> bool:
        """Whether every run of a fold is at its end; `only`: those of one configuration."""
        runs, budget = self.setup.runs, self.options.budget
        work = RunWork(self.dataset, self.folder, self.setup, self.settings, self.watch)
        for n, (name, of_fold) in enumerate(runs):
            if of_fold != fold or only not in ("", name) or is_finished(self.folder.run(name, fold), budget):
                continue
            self.watch("Runs", n, len(runs), f"{name}, fold {fold + 1} of {len(self.setup.folds)}")
            if not work.do(name, fold, budget=budget) or self.stop.asked:
                return False
        if not only:
            ended = (fold + 1) * len(self.setup.configurations)
            self.watch("Runs", ended, len(runs), f"fold {fold + 1} of {len(self.setup.folds)} is trained")
        return True

    def _predict(self, fold: int, candidates: Sequence[Candidate]) -> bool:
        """Whether every case of a fold was segmented and scored by every candidate."""
        models = {name: model_of_fold(self.folder, name, fold) for name in self.setup.configurations}
        digests = {name: model.digest for name, model in models.items()}
        cases = self.setup.folds[fold]
        left = [case for case in cases if not is_done(self.folder, case, digests, candidates)]
        if left:
            opened = open_fold(models, self.settings)
            work = CaseWork(self.dataset, self.folder, candidates, self.setup.tolerance_mm, self.settings)
            for n, case in enumerate(left, start=len(cases) - len(left)):
                self.watch("Out of fold", n, len(cases), case)
                work.do(case, opened)
                if self.stop.asked:
                    return False
            self.watch("Out of fold", len(cases), len(cases), f"fold {fold + 1}")
        for name, model in models.items():
            write_run_entry(self.folder, (name, fold), model, self.setup, self.settings)
        return True

    def _pack(self, conclusion: Conclusion) -> Model:
        """The chosen model; written unless it is there."""
        plans, folds = self._plans(), range(len(self.setup.folds))
        needed = dict.fromkeys(conclusion.chosen.candidate.members)
        if any(plans[name].previous for name in needed):
            needed[LOW] = None
        models = {name: [fold_model(self.folder.run(name, fold)) for fold in folds] for name in needed}
        model = pack(conclusion, models, self.dataset, self.setup)
        if not _is_there(self.folder.model, model):
            write_joined(self.folder.model, model)
        return model


def _is_there(folder: Path, model: Model) -> bool:
    if not (folder / MODEL_FILE).is_file():
        return False
    try:
        there = load_model(folder)
    except ModelError:  # damaged: it is made again
        return False
    same = (there.digest, there.postprocessing) == (model.digest, model.postprocessing)
    return same and there.provenance.validation_dice == model.provenance.validation_dice
