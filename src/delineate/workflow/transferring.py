"""`delineate train --from`: a run that begins with the weights of another model."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

import msgspec

from delineate.dataset import Dataset
from delineate.errors import DelineateError, ModelError, PlanError, TrainingError
from delineate.files import write_text
from delineate.labels import LabelSet
from delineate.model import Model, load_model, read_provenance
from delineate.planning import Plan, PlanOptions, TransferPlan, check_plan, training_bytes
from delineate.planning.adopting import adopt, adopting_options, check_adopted, match_plans, transfer_reason
from delineate.settings import Settings
from delineate.training import TrainingState
from delineate.training.transfer import TransferRecord, begin_with, describe_transfer, fresh_names
from delineate.workflow.preparing import plan_dataset
from delineate.workflow.progress import Watch, nobody
from delineate.workflow.training import Course, Division, divide
from delineate.workspace import RunFolder

RECORD = "transfer.json"


@dataclass(frozen=True, slots=True)
class Beginning:
    """The model folder whose weights a run begins with, and how they are treated: see `TransferPlan`."""

    source: Path
    freeze: Literal["nothing", "encoder", "all_but_head"] = "nothing"
    freeze_fraction: float = 0.2
    backbone_rate: float = 1.0
    names: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Start:
    """What `train` is called with. `plan`: None where the run has its own. `record`: None if nothing is begun with."""

    plan: Plan | PlanOptions | None
    course: Course
    record: TransferRecord | None


def begin_from(
    dataset: Dataset,
    folder: Path,
    beginning: Beginning | None,
    *,
    division: Division,
    settings: Settings,
    plan: Plan | PlanOptions | None = None,
    watch: Watch = nobody,
) -> Start:
    """Plan a run that begins with another model's weights; of one that `folder` holds, check that it is the same model.

    With no `beginning`, it is a run from scratch.

    Raises `ModelError` if the weights cannot serve, `PlanError` if `plan` has another network, `TrainingError` if the
    run in `folder` began otherwise.
    """
    if beginning is None:
        return Start(plan, Course(), None)
    run = RunFolder(folder)
    if run.exists:
        return _going_on(run, beginning.source, dataset.labels)
    whole = load_model(beginning.source)
    model, notes = _part(whole, beginning.source, dataset.labels)
    if isinstance(plan, Plan):
        check_adopted(plan, model.plan)
        own = plan
    else:
        options = plan or PlanOptions()
        seen = _seen(dataset, division)
        base = plan_dataset(seen, settings, adopting_options(options, model.plan), watch=watch)
        own = _fitted(adopt(base, model.plan, options), settings)
    own = _with_transfer(own, model.plan, beginning, whole.digest)
    return _start(own, model, run, notes)


def _going_on(run: RunFolder, source: Path, labels: LabelSet) -> Start:
    own = run.plan()
    _check_source(own, source, run.model)
    if run.facts() is not None:
        return Start(None, Course(), None)
    model, notes = _part(load_model(source), source, labels)
    return replace(_start(own, model, run, notes), plan=None)


def _with_transfer(plan: Plan, source: Plan, beginning: Beginning, digest: str) -> Plan:
    transfer = TransferPlan(
        source=digest,
        names=dict(beginning.names),
        fresh=fresh_names(plan, match_plans(source, plan, beginning.names)),
        freeze=beginning.freeze,
        freeze_fraction=beginning.freeze_fraction,
        backbone_rate=beginning.backbone_rate,
    )
    made = msgspec.structs.replace(
        plan,
        training=msgspec.structs.replace(plan.training, transfer=transfer),
        reasons=(*plan.reasons, transfer_reason(source, digest)),
    )
    check_plan(made)
    return made


def _start(plan: Plan, model: Model, run: RunFolder, notes: tuple[str, ...]) -> Start:
    transfer = plan.training.transfer
    assert transfer is not None
    matching = match_plans(model.plan, plan, transfer.names)
    record = describe_transfer(
        model.weights,
        model.plan,
        plan,
        matching,
        digest=transfer.source,
        notes=(*notes, *_notes(model, record_of=plan)),
    )
    begin = _recorded(begin_with(model.weights, plan, matching), record, run)
    return Start(plan, Course(begin=begin), record)


def _recorded(
    begin: Callable[[TrainingState], None], record: TransferRecord, run: RunFolder
) -> Callable[[TrainingState], None]:
    def begin_and_write(state: TrainingState) -> None:
        begin(state)
        text = msgspec.json.format(msgspec.json.encode(record), indent=1).decode() + "\n"
        write_text(run.folder / RECORD, text)

    return begin_and_write


def read_transfer(folder: Path) -> TransferRecord | None:
    """What the run in a model folder began with; None if it did not begin with another model's weights."""
    path = RunFolder(folder).folder / RECORD
    return msgspec.json.decode(path.read_bytes(), type=TransferRecord) if path.is_file() else None


def _seen(dataset: Dataset, division: Division) -> Dataset:
    """Without the cases that nobody may know. To find them, every file is read: only where there are some."""
    if not division.test and (division.given is None or not division.given.held_out):
        return dataset
    held_out = divide(dataset, division).held_out
    return replace(dataset, cases=tuple(case for case in dataset.cases if case.id not in held_out))


def _fitted(plan: Plan, settings: Settings) -> Plan:
    """The plan with as many patches a step as the memory holds: the other model's network may need more."""
    batch = plan.training.batch_size
    while batch > 1 and training_bytes(plan) > settings.memory_bytes:
        batch //= 2
        plan = msgspec.structs.replace(
            plan,
            training=msgspec.structs.replace(plan.training, batch_size=batch),
            reasons=(*plan.reasons, f"batch of {batch}, so that a step of that model's network fits the memory"),
        )
    if training_bytes(plan) > settings.memory_bytes:
        raise PlanError(
            "one training step of that model's network does not fit the memory",
            expected=f"at most {settings.memory_bytes / 1e9:.2f} GB",
            got=f"{training_bytes(plan) / 1e9:.2f} GB for one patch of {plan.patch_size}",
            remedy="Give a smaller --patch, or more --memory-gb.",
        )
    return plan


def _part(model: Model, path: Path, labels: LabelSet) -> tuple[Model, tuple[str, ...]]:
    """The network to take: of a model of several parts the one that finds most of the structures."""
    if model.plan.previous:
        raise ModelError(
            "the last stage of a cascade sees the first one's masks, which a new run has not",
            path=path,
            remedy=f"Begin with the first stage: --from {path / 'previous'}",
        )
    parts = (model, *model.overlays)
    if len(parts) == 1:
        return model, ()
    shared = [len(set(part.plan.labels) & set(labels.names)) for part in parts]
    best = shared.index(max(shared))
    name = "the first" if best == 0 else f"number {best + 1}"
    note = f"of the {len(parts)} parts of that model {name} is taken, which finds {shared[best]} of the structures"
    return parts[best], (note,)


def _notes(model: Model, *, record_of: Plan) -> tuple[str, ...]:
    notes = []
    if len(model.folds) > 1:
        notes.append(f"of the model's {len(model.folds)} folds the first one's weights are taken")
    if model.partners:
        notes.append(f"of the {1 + len(model.partners)} models that are averaged the first one's weights are taken")
    if bool(model.plan.regions) != bool(record_of.regions) and model.plan.pretraining is None:
        notes.append("one of the two tells structures apart and the other finds regions that overlap: heads start anew")
    if record_of.spacing_mm != model.plan.spacing_mm:
        mm = " x ".join(f"{value:g}" for value in model.plan.spacing_mm)
        notes.append(f"the weights have learnt at a spacing of {mm} mm")
    return tuple(notes)


def _check_source(plan: Plan, source: Path, folder: Path) -> None:
    transfer = plan.training.transfer
    if transfer is None:
        raise TrainingError(
            "the run in this folder did not begin with another model's weights",
            path=folder,
            remedy="Leave --from out to go on with it, or train into a new folder.",
        )
    try:
        digest = read_provenance(source)[1]
    except DelineateError as error:
        raise ModelError(f"the model to begin with cannot be read: {error.problem}", path=source) from error
    if digest != transfer.source:
        raise TrainingError(
            "the run in this folder began with another model",
            expected=transfer.source[:12],
            got=digest[:12],
            path=folder,
            remedy="Train into a new folder.",
        )
