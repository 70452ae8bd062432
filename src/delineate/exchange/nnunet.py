"""nnU-Net's trained models as models of ours. Nothing of nnU-Net is needed, and none of its code is run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

from torch import Tensor

from delineate.errors import LabelError, ModelError
from delineate.exchange import nnunet_json
from delineate.exchange.checkpoints import Checkpoint, read_checkpoint
from delineate.exchange.nnunet_folder import TrainedFolder, checkpoints, choose, find_trained, opened, stage_before
from delineate.exchange.nnunet_json import PlansFile, read_dataset, read_plans
from delineate.exchange.nnunet_labels import structures_of
from delineate.exchange.nnunet_network import network_plan
from delineate.exchange.nnunet_plans import STEPS_PER_EPOCH, Trained, make_plan
from delineate.exchange.nnunet_weights import from_nnunet, is_batch_normalised
from delineate.labels import LabelSet, label_set
from delineate.model import Locator, Model, Provenance, versions
from delineate.planning import Plan


@dataclass(frozen=True, slots=True)
class _Wanted:
    folds: Sequence[int | str] | None
    checkpoint: str | None
    orientation: str | None


def read_nnunet(
    path: Path,
    *,
    configuration: str | None = None,
    folds: Sequence[int | str] | None = None,
    checkpoint: str | None = None,
    orientation: str | None = None,
) -> Model:
    """A model that nnU-Net v2 trained: a trained-model folder, a folder above one, or an exported ZIP archive.

    `configuration`: which one, where there are several; stages of one cascade count as one. `folds`: numbers or
    "all"; None takes every numbered one. `checkpoint`: "final", "best" or "latest". `orientation`: what scans must be
    turned to first, where the plans do not say it.

    Raises `ModelError` for what is missing, damaged, not to be trusted or not supported; `InputError` for an archive
    that is not to be trusted.
    """
    with opened(path) as root:
        found = find_trained(root)
        chosen = choose(found, configuration, root)
        return _read(chosen, found, _Wanted(folds, checkpoint, orientation))


def read_nnunet_parts(
    paths: Sequence[Path],
    *,
    values: Mapping[str, int] | None = None,
    configuration: str | None = None,
    folds: Sequence[int | str] | None = None,
    checkpoint: str | None = None,
    orientation: str | None = None,
) -> Model:
    """Several models whose structures make one label map: what a later one finds is painted over the earlier ones'.

    A name that occurs in two parts is one structure. `values`: the map's value of every name; without it they are
    numbered on in the order of the parts. Raises `LabelError` for a name without a value or parts with regions,
    `ModelError` if the parts want different channels, and as `read_nnunet`.
    """
    if not paths:
        raise ModelError("no parts of a model were given", expected="at least one folder")
    parts = [
        read_nnunet(path, configuration=configuration, folds=folds, checkpoint=checkpoint, orientation=orientation)
        for path in paths
    ]
    for path, part in zip(paths, parts, strict=True):
        _check_part(part, parts[0], path)
    return replace(parts[0], labels=_joint_labels(parts, values), overlays=tuple(parts[1:]))


def with_locator(model: Model, locator: Model, structures: Sequence[str], margin_mm: float) -> Model:
    """The model, to be run only around `structures` (all if empty) as `locator` finds them in the whole scan.

    Raises `LabelError` for structures that the locator does not find, `ModelError` for a negative margin or a locator
    that wants other channels.
    """
    names = tuple(structures) or locator.labels.names
    for name in names:
        locator.labels.named(name)
    if not margin_mm >= 0:
        raise ModelError("the margin must not be negative", got=f"{margin_mm} mm")
    if len(locator.plan.channels) != len(model.plan.channels):
        raise ModelError("the locator wants other channels", expected=model.plan.channels, got=locator.plan.channels)
    return replace(model, locator=Locator(locator, names, float(margin_mm)))


def _read(
    trained: TrainedFolder, found: Sequence[TrainedFolder], wanted: _Wanted, *, later: tuple[TrainedFolder, ...] = ()
) -> Model:
    """One trained model with its stages before; `later`: those that asked for it."""
    folder = trained.path
    plans, dataset = read_plans(folder), read_dataset(folder)
    files = checkpoints(trained, wanted.folds, wanted.checkpoint)
    first = read_checkpoint(files[0])
    name = _configuration_name(trained, plans, first)
    chosen = nnunet_json.configuration(plans, name, folder)
    used = Trained(folder, name, first.trainer or trained.trainer or "unknown", first.mirror_axes, first.epochs or 0)
    network = network_plan(chosen, folder, batch_normalised=is_batch_normalised(first.weights))
    plan = make_plan(plans, chosen, dataset, network=network, trained=used, orientation=wanted.orientation)
    before = None if chosen.previous_stage is None else stage_before(trained, chosen.previous_stage, found)
    folds = [_weights(file, first, plan, name) for file in files]
    return Model(
        weights=folds[0],
        plan=plan,
        labels=structures_of(dataset, folder).labels,
        provenance=_provenance(plans, used, files),
        more_folds=tuple(folds[1:]),
        previous=None if before is None else _previous(before, found, wanted, plan=plan, later=(*later, trained)),
    )


def _configuration_name(trained: TrainedFolder, plans: PlansFile, first: Checkpoint) -> str:
    """As the checkpoint says, or the folder's name, or the only one there is."""
    only = next(iter(plans.configurations)) if len(plans.configurations) == 1 else None
    name = first.configuration or trained.configuration or only
    if name is None:
        raise ModelError(
            "neither checkpoint nor folder say which configuration this is",
            expected=f"one of {', '.join(sorted(plans.configurations))}",
            path=trained.path,
            remedy="Give the folder the name that nnU-Net gave it: Trainer__Plans__configuration.",
        )
    return name


def _weights(file: Path, first: Checkpoint, plan: Plan, name: str) -> dict[str, Tensor]:
    fold = first if file == first.path else read_checkpoint(file)
    if fold.configuration not in (None, name):
        raise ModelError("folds of different configurations", expected=name, got=fold.configuration, path=file)
    return from_nnunet(fold.weights, plan.network, inputs=plan.inputs, classes=plan.classes, path=file)


def _previous(
    before: TrainedFolder,
    found: Sequence[TrainedFolder],
    wanted: _Wanted,
    *,
    plan: Plan,
    later: tuple[TrainedFolder, ...],
) -> Model:
    """A cascade's stage before; `plan` is that of the stage after."""
    if before in later:
        raise ModelError("stages that each ask for the other before", path=before.path)
    model = _read(before, found, wanted, later=later)
    if model.plan.labels != plan.previous or len(model.plan.channels) != len(plan.channels):
        raise ModelError(
            "the stages of the cascade do not fit together",
            expected=f"{', '.join(plan.previous)} in {', '.join(plan.channels)}",
            got=f"{', '.join(model.plan.labels)} in {', '.join(model.plan.channels)}",
            path=before.path,
        )
    return model


def _provenance(plans: PlansFile, used: Trained, files: Sequence[Path]) -> Provenance:
    own, torch_version = versions()
    folds = ", ".join(file.parent.name.removeprefix("fold_") for file in files)
    return Provenance(
        dataset=plans.dataset_name,
        dataset_digest="",
        training_cases=(),
        validation_cases=(),
        held_out_cases=(),
        step=used.epochs * STEPS_PER_EPOCH,
        seconds=0.0,
        validation_dice=None,
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        delineate=own,
        torch=torch_version,
        origin=f"nnU-Net v2: dataset {plans.dataset_name}, trainer {used.trainer}, plans {plans.plans_name}, "
        f"configuration {used.configuration}, fold {folds}, {files[0].name}",
    )


def _check_part(part: Model, first: Model, path: Path) -> None:
    if part.plan.regions:
        raise LabelError("parts with regions cannot be joined into one label map", path=path)
    if len(part.plan.channels) != len(first.plan.channels):
        raise ModelError(
            "the parts want different channels", expected=first.plan.channels, got=part.plan.channels, path=path
        )


def _joint_labels(parts: Sequence[Model], values: Mapping[str, int] | None) -> LabelSet:
    names = list(dict.fromkeys(name for part in parts for name in part.plan.labels))
    table = values or {name: value for value, name in enumerate(names, start=1)}
    without = [name for name in names if name not in table]
    if without:
        raise LabelError("structures without a value", expected="every name of every part", got=", ".join(without))
    shared = [name for name in names if sum(table[other] == table[name] for other in names) > 1]
    if shared:
        raise LabelError("structures with the same value", expected="a value for each name", got=", ".join(shared))
    return label_set({table[name]: name for name in names})
