"""Cascades in an experiment: the first stage's masks of every case, by the network that was not trained on it."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, replace

from delineate.dataset import Dataset
from delineate.errors import DelineateError
from delineate.inference import InferenceOptions, segment
from delineate.model import Model
from delineate.planning import Plan
from delineate.planning.configurations import LOW
from delineate.settings import Settings
from delineate.workflow.clock import Clock
from delineate.workflow.experiment_folder import ExperimentFolder, Setup
from delineate.workflow.experiment_predicting import OpenFold, result_record
from delineate.workflow.experiment_runs import fold_model
from delineate.workflow.results import read_record
from delineate.workflow.structures import read_case
from delineate.workflow.writing import write_map


def second_stages(plans: Mapping[str, Plan]) -> tuple[str, ...]:
    """The configurations that go on with what `LOW` found."""
    return tuple(name for name, plan in plans.items() if plan.previous)


def model_of_fold(folder: ExperimentFolder, name: str, fold: int) -> Model:
    """A configuration's model of one fold; a cascade's with the first stage of the same fold before it."""
    model = fold_model(folder.run(name, fold))
    return replace(model, previous=fold_model(folder.run(LOW, fold))) if model.plan.previous else model


@dataclass(frozen=True, slots=True, eq=False)
class StageWork:
    """How the first stage's masks are made, and where they are."""

    dataset: Dataset
    folder: ExperimentFolder
    settings: Settings

    def left(self, setup: Setup, fold: int, model: Model) -> tuple[str, ...]:
        """The cases of a fold that lack a mask by this very network."""
        records = {case: read_record(self.folder.stage(LOW, case)) for case in setup.folds[fold]}
        return tuple(case for case, record in records.items() if record is None or record.model != model.digest)

    def do(self, case_id: str, opened: OpenFold) -> None:
        """Segment a case that the network was not trained on. Raises what reading and segmenting raise, naming it."""
        model, began = opened.models[LOW], time.monotonic()
        try:
            volume, _ = read_case(self.dataset.case(case_id), self.dataset.labels, self.dataset.kinds)
            options = InferenceOptions(memory_bytes=self.settings.memory_bytes)
            result = segment(model, volume, device=self.settings.device, runners=opened.runners[LOW], options=options)
        except DelineateError as error:
            raise error.in_case(case_id) from error
        seconds = time.monotonic() - began
        record = result_record(case_id, result.segmentation, model.plan, model=model.digest, seconds=seconds)
        write_map(self.folder.stage(LOW, case_id), result, Clock(), record)
