"""What an experiment comes to: the candidate that is used, how good it is, and its model."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import msgspec
import numpy as np

from delineate.dataset import Dataset, Split
from delineate.engines.work import operations
from delineate.evaluation import Evaluation, summarise
from delineate.evaluation.selecting import Candidate, Choice, NestedEstimate, choose, estimate
from delineate.inference.windows import mirrors
from delineate.model import Model
from delineate.networks import build_network
from delineate.planning import Plan
from delineate.planning.configurations import LOW
from delineate.postprocessing import Rule
from delineate.workflow.evaluating import SEED
from delineate.workflow.experiment_folder import Setup
from delineate.workflow.experiment_records import CaseRecord, out_of_fold
from delineate.workflow.joining import join_models
from delineate.workflow.run_records import populations


@dataclass(frozen=True, slots=True)
class CandidateResult:
    """A candidate's scores on cases it was not trained on. `seconds`: a scan, measured."""

    candidate: Candidate
    evaluation: Evaluation
    seconds: float


@dataclass(frozen=True, slots=True)
class Conclusion:
    """`candidates`: all, in the order in which they were made. `nested`: how good what is chosen this way is."""

    candidates: tuple[CandidateResult, ...]
    choice: Choice
    nested: NestedEstimate

    @property
    def chosen(self) -> CandidateResult:
        return next(one for one in self.candidates if one.candidate.name == self.choice.chosen)

    @property
    def rules(self) -> tuple[Rule, ...]:
        return tuple(found.rule for found in self.choice.rules)


def work_of(plans: Mapping[str, Plan]) -> dict[str, float]:
    """Operations of each plan's network for each mm³ of a scan; a cascade's with those of its first stage."""
    own = {name: _work_of(plan) for name, plan in plans.items()}
    return {name: own[name] + (own[LOW] if plan.previous else 0.0) for name, plan in plans.items()}


def _work_of(plan: Plan) -> float:
    """Windows overlap, and are mirrored."""
    network = build_network(plan.network, in_channels=plan.inputs, out_channels=plan.classes)
    step = math.prod(plan.patch_size[n] * (1 - plan.tiling.overlap) for n in range(plan.dimensions))
    voxels = step * (plan.patch_size[2] if plan.dimensions == 2 else 1)
    return operations(network, plan) * len(list(mirrors(plan.tiling))) / (voxels * math.prod(plan.spacing_mm))


def conclude(setup: Setup, candidates: Sequence[Candidate], records: Sequence[CaseRecord]) -> Conclusion:
    """Choose among candidates by the scores of all folds; the same records give the same conclusion."""
    results = [out_of_fold(records, candidate) for candidate in candidates]
    choice = choose(results, np.random.default_rng(SEED))
    nested = estimate(results, setup.folds, np.random.default_rng(SEED))
    return Conclusion(
        tuple(
            CandidateResult(
                one.candidate,
                summarise(one.scores, generator=np.random.default_rng(SEED)),
                _seconds(one.candidate, records),
            )
            for one in results
        ),
        choice,
        nested,
    )


def _seconds(candidate: Candidate, records: Sequence[CaseRecord]) -> float:
    return sum(record.seconds[name] for record in records for name in candidate.members) / len(records)


def pack(conclusion: Conclusion, models: Mapping[str, Sequence[Model]], dataset: Dataset, setup: Setup) -> Model:
    """One model of the chosen candidate: all folds of each of its members, averaged, and the rules.

    `models`: by fold, without stages before, of each configuration that is needed. Its validation Dice is the nested
    estimate.
    """
    joined = {
        name: join_models({f"{name}, fold {n}": one for n, one in enumerate(of_folds)})
        for name, of_folds in models.items()
    }
    seconds = sum(one.provenance.seconds for one in joined.values())
    members = [joined[name] for name in _chosen(conclusion)]
    members = [replace(one, previous=joined[LOW]) if one.plan.previous else one for one in members]
    split = Split(setup.cases, (), setup.dataset_digest, setup.how, setup.test)
    known = msgspec.structs.replace(
        members[0].provenance,
        training_cases=setup.cases,
        validation_cases=(),
        held_out_cases=setup.test,
        seconds=round(seconds, 1),
        validation_dice=None if math.isnan(conclusion.nested.dice) else conclusion.nested.dice,
        populations=populations(dataset, split),
    )
    alike = [replace(member, provenance=known) for member in members]
    return replace(alike[0], partners=tuple(alike[1:]), postprocessing=conclusion.rules)


def _chosen(conclusion: Conclusion) -> tuple[str, ...]:
    return conclusion.chosen.candidate.members
