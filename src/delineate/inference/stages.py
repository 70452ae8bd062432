"""The networks of a whole model: several folds, and the other models it consists of."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate

from torch import Tensor

from delineate.engines import EngineChoice, Runner, open_runner
from delineate.errors import PlanError
from delineate.inference.regions import values_of
from delineate.inference.windows import Progress
from delineate.model import Model


@dataclass(frozen=True, slots=True, eq=False)
class Runners:
    """What runs a model: `folds`, a runner each of its own network, and `stages`, those of `Model.stages` by name."""

    folds: tuple[Runner, ...]
    stages: Mapping[str, Runners]


def open_stage_runners(model: Model, choice: EngineChoice, calibration: Sequence[Tensor] = ()) -> Runners:
    """Make ready every network of a model, its stages' as well; they serve for any number of scans.

    `calibration`: windows (B, C, I, J, K) of the model's own prepared images, which int8 needs. What they say nothing
    about, the other stages, runs in float32 then. Raises `ResourceError` if the engine is not there, `ModelError` for
    weights that do not fit.
    """
    folds = tuple(open_runner(model.network(fold), model.plan, choice, calibration) for fold in range(len(model.folds)))
    others = replace(choice, precision="float32") if choice.precision == "int8" else choice
    return Runners(folds, {name: open_stage_runners(stage, others) for name, stage in model.stages.items()})


def overlays_of(model: Model) -> dict[str, Model]:
    """The models painted over this one, by the names of their stages, in their order."""
    return {name: stage for name, stage in model.stages.items() if name.startswith("overlay_")}


def partners_of(model: Model) -> dict[str, Model]:
    """The models averaged with this one, by the names of their stages, in their order."""
    return {name: stage for name, stage in model.stages.items() if name.startswith("partner_")}


def check_stages(model: Model, *, with_probabilities: bool = False) -> None:
    """Raises `PlanError` or `LabelError` if the stages of a model do not fit together, or cannot give probabilities."""
    if model.plan.pretraining is not None:
        raise PlanError(
            "the model was pretrained only, and finds no structures yet",
            remedy="Begin a run with it: delineate train DATASET NEW --from this model.",
        )
    if model.plan.prompting is not None:
        raise PlanError(
            "the model waits to be pointed at, and finds nothing by itself",
            remedy="Correct results with it: delineate review RESULTS --promptable this model.",
        )
    for name in model.plan.labels:
        model.labels.named(name)
    _check_cascade(model)
    _check_overlays(model)
    _check_partners(model)
    if with_probabilities and model.overlays:
        raise PlanError(
            "a model of several parts has no probabilities that add up",
            remedy="Run its parts one by one, or ask for no probabilities.",
        )
    for name, stage in model.stages.items():
        if len(stage.plan.channels) != len(model.plan.channels):
            raise PlanError(
                f"the model's stage {name} wants other channels",
                expected=list(model.plan.channels),
                got=list(stage.plan.channels),
            )
        check_stages(stage)


def _check_cascade(model: Model) -> None:
    if bool(model.plan.previous) != (model.previous is not None):
        raise PlanError(
            "a cascade's plan and the stage before belong together",
            expected=f"a stage that finds {list(model.plan.previous)}" if model.plan.previous else "no stage before",
            got="none" if model.previous is None else list(model.previous.labels.names),
            remedy="Import the model again with the folder that holds its stages.",
        )
    if model.previous is not None:
        for name in model.plan.previous:
            model.previous.labels.named(name)


def _check_overlays(model: Model) -> None:
    for stage in model.overlays:
        values_of(stage.labels, model.labels)
        if model.plan.regions or stage.plan.regions:
            raise PlanError("regions cannot be painted over each other", remedy="Run the parts one by one.")


def _check_partners(model: Model) -> None:
    for partner in model.partners:
        if partner.overlays or model.overlays:
            raise PlanError("models of several parts cannot be averaged", remedy="Average their parts one by one.")
        if (partner.labels, partner.plan.labels, partner.plan.regions) != (
            model.labels,
            model.plan.labels,
            model.plan.regions,
        ):
            raise PlanError(
                "models that are averaged must find the same structures",
                expected=list(model.labels.names),
                got=list(partner.labels.names),
            )


def shared(progress: Progress, works: Sequence[float]) -> list[Progress]:
    """A progress for each of several runs in turn, in proportion to their work."""
    total = max(sum(works), 1e-9)
    ends = [end / total for end in accumulate(works)]
    return [_part(progress, end - work / total, work / total) for end, work in zip(ends, works, strict=True)]


def _part(progress: Progress, start: float, size: float) -> Progress:
    return lambda share: progress(min(1.0, start + size * share))
