"""Out-of-fold results: every case segmented by the networks that were not trained on it, alone and averaged; scored.

All candidates of a case are made at once, so that no probabilities need to be kept.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from delineate.dataset import Case, Dataset
from delineate.engines import EngineChoice
from delineate.engines.torch_engine import torch_precisions
from delineate.errors import DelineateError
from delineate.evaluation import CaseScores, score_case
from delineate.evaluation.rule_finding import Parts, take_apart
from delineate.evaluation.selecting import Candidate
from delineate.findings import volumes_ml
from delineate.inference import InferenceOptions, Prediction, Runners, open_stage_runners, segment
from delineate.inference.ensembles import Mean, most_probable
from delineate.inference.regions import region_masks
from delineate.model import Model
from delineate.planning import Plan
from delineate.settings import Settings
from delineate.volume import Segmentation
from delineate.workflow.clock import Clock
from delineate.workflow.experiment_folder import ExperimentFolder
from delineate.workflow.experiment_records import CaseRecord, StructureRecord, structure_record
from delineate.workflow.results import ResultRecord
from delineate.workflow.structures import read_case
from delineate.workflow.writing import write_map


def candidates_for(plans: Mapping[str, Plan], work: Mapping[str, float], *, ensembles: bool) -> tuple[Candidate, ...]:
    """Every configuration alone, then every two of them averaged. `work`: of each configuration."""
    single = [Candidate(name, (name,), work[name]) for name in plans]
    pairs = itertools.combinations(plans, 2) if ensembles else ()
    return (*single, *(Candidate("+".join(pair), pair, sum(work[name] for name in pair)) for pair in pairs))


@dataclass(frozen=True, slots=True, eq=False)
class OpenFold:
    """The networks of one fold, opened once. `models`: by configuration."""

    models: Mapping[str, Model]
    runners: Mapping[str, Runners]

    @property
    def digests(self) -> dict[str, str]:
        return {name: model.digest for name, model in self.models.items()}


def open_fold(models: Mapping[str, Model], settings: Settings) -> OpenFold:
    """PyTorch on the settings' device, in the precision that the plans were trained in, where the device has it."""
    return OpenFold(models, {name: open_stage_runners(one, _choice(one, settings)) for name, one in models.items()})


def _choice(model: Model, settings: Settings) -> EngineChoice:
    wanted = model.plan.training.precision
    precision = wanted if wanted in torch_precisions(settings.device) else "float32"
    return EngineChoice(precision=precision, device=settings.device)


def is_done(
    folder: ExperimentFolder, case_id: str, digests: Mapping[str, str], candidates: Sequence[Candidate]
) -> bool:
    """Whether a case was segmented and scored by all candidates, with these very networks."""
    record = folder.record(case_id)
    return (
        record is not None
        and record.models == digests
        and set(record.candidates) == {one.name for one in candidates}
        and all(folder.prediction(one.name, case_id).is_file() for one in candidates)
    )


@dataclass(frozen=True, slots=True, eq=False)
class CaseWork:
    """How the cases of a fold are segmented and scored."""

    dataset: Dataset
    folder: ExperimentFolder
    candidates: Sequence[Candidate]
    tolerance_mm: float
    settings: Settings

    def do(self, case_id: str, fold: OpenFold) -> None:
        """Write a case's results, then its scores. Raises what reading and segmenting raise, naming the case."""
        case = self.dataset.case(case_id)
        try:
            self._do(case, fold)
        except DelineateError as error:
            raise error.in_case(case_id) from error

    def _do(self, case: Case, fold: OpenFold) -> None:
        plans, started = [model.plan for model in fold.models.values()], time.monotonic()
        volume, reference = read_case(case, self.dataset.labels, self.dataset.kinds)
        assert reference is not None  # of cases without, none is in a fold
        averaged = any(len(candidate.members) > 1 for candidate in self.candidates)
        options = InferenceOptions(memory_bytes=self.settings.memory_bytes, with_probabilities=averaged)
        found: dict[str, Prediction] = {}
        seconds = {}
        for name, model in fold.models.items():
            began = time.monotonic()
            found[name] = segment(
                model, volume, device=self.settings.device, runners=fold.runners[name], options=options
            )
            seconds[name] = round(time.monotonic() - began, 3)
        records, scores = {}, None
        for candidate in self.candidates:
            members = [found[name] for name in candidate.members]
            result = members[0] if len(members) == 1 else averaged_prediction(members, plans[0])
            spent = sum(seconds[name] for name in candidate.members)
            self._write(case, candidate, result, fold, seconds=spent)
            scores, records[candidate.name] = self._score(case, reference, result.segmentation, plans)
        assert scores is not None
        self.folder.save_record(
            CaseRecord(
                case=case.id,
                patient=case.patient_id,
                diagonal_mm=scores.diagonal_mm,
                tolerance_mm=dict(scores.tolerance_mm),
                models=fold.digests,
                seconds=seconds,
                total_seconds=round(time.monotonic() - started, 3),
                candidates=records,
            )
        )

    def _write(self, case: Case, candidate: Candidate, result: Prediction, fold: OpenFold, *, seconds: float) -> None:
        digest = "+".join(fold.models[name].digest for name in candidate.members)
        plan = fold.models[candidate.members[0]].plan
        record = result_record(case.id, result.segmentation, plan, model=digest, seconds=seconds)
        write_map(self.folder.prediction(candidate.name, case.id), result, Clock(), record)

    def _score(
        self, case: Case, reference: Segmentation, predicted: Segmentation, plans: Sequence[Plan]
    ) -> tuple[CaseScores, dict[str, StructureRecord]]:
        known = known_structures(reference, plans)
        shown = without(predicted, [name for name in predicted.labels.names if name not in known])
        scored = score_case(
            case.id,
            reference,
            shown,
            tolerance_mm=self.tolerance_mm,
            patient_id=case.patient_id,
            threads=self.settings.threads,
        )
        return scored, {
            name: structure_record(scores, _parts(reference, predicted, name) if name in known else None)
            for name, scores in scored.scores.items()
        }


def result_record(case_id: str, found: Segmentation, plan: Plan, *, model: str, seconds: float) -> ResultRecord:
    """What stands beside a result; `model`: the digests of what made it."""
    return ResultRecord(
        case=case_id,
        labels={label.name: label.value for label in found.labels},
        regions={region.name: list(region.values) for region in plan.regions},
        volumes_ml={one.label.name: round(one.value, 3) for one in volumes_ml(found)},
        model=model,
        series_uid=None,
        seconds=round(seconds, 2),
    )


def averaged_prediction(members: Sequence[Prediction], plan: Plan) -> Prediction:
    """What the members' mean probabilities give, as a model of them would. They must have been asked for."""
    mean = Mean()
    for member in members:
        assert member.probabilities is not None
        mean.add(member.probabilities)
    first = members[0].segmentation
    label_map = most_probable(mean.take(), first.labels, plan.regions)
    array = region_masks(label_map, first.labels, plan.regions) if plan.regions else label_map
    return Prediction(replace(first, array=array, author=None), label_map)


def known_structures(reference: Segmentation, plans: Sequence[Plan]) -> tuple[str, ...]:
    """The structures that a reference says something about: those that it has, where what lacks is unknown to a plan:
    all candidates are scored alike."""
    names = reference.labels.names
    if all(plan.training.missing_labels != "unknown" for plan in plans):
        return names
    return tuple(name for name in names if reference.mask(name).any())


def without(segmentation: Segmentation, names: Sequence[str]) -> Segmentation:
    """The segmentation with nothing of some structures."""
    if not names:
        return segmentation
    array, labels = segmentation.array.copy(), segmentation.labels
    for name in names:
        if labels.overlaps:
            array[labels.names.index(name)] = False
        else:
            array[array == labels.named(name).value] = 0
    return replace(segmentation, array=array)


def _parts(reference: Segmentation, predicted: Segmentation, name: str) -> Parts:
    mask, drawn = predicted.mask(name), reference.mask(name)
    free = ~mask if predicted.labels.overlaps else predicted.array == 0
    if reference.ignored is not None:
        mask, drawn, free = (one & ~reference.ignored for one in (mask, drawn, free))
    return take_apart(drawn, mask, free, voxel_ml=reference.grid.voxel_volume_ml)
