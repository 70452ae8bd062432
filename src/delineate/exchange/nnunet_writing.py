"""Models for nnU-Net: a folder that the predictor of nnU-Net 2.8 loads as it is.

Everything is turned back into nnU-Net's order of axes, which is ours reversed: its arrays are (z, y, x). What nnU-Net
has no words for is not passed over: `differences` says it, and so does the folder's README.md.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from delineate.errors import ExportError
from delineate.exchange.nnunet_names import Counterpart, counterparts
from delineate.exchange.nnunet_plans_writing import (
    CASCADE,
    LOW_RESOLUTION,
    NETWORK_CLASSES,
    PLANS_NAME,
    Json,
    dataset_of,
    nnunet_mirror_axes,
    plans_of,
)
from delineate.model import Model
from delineate.planning import (
    STORED,
    NetworkPlan,
    Plan,
    Preparation,
    Unchanged,
    ZScore,
)
from delineate.volume import Kind

_TRAINER = "nnUNetTrainer"


def write_nnunet(model: Model, folder: Path) -> tuple[str, ...]:
    """Write a model as nnU-Net leaves one after training; what nnU-Net will do otherwise than delineate, in words.

    Folds become fold_0, fold_1, ... Of a cascade two such folders are made in `folder`, named as nnU-Net names them.
    Raises `ExportError` for what nnU-Net cannot hold at all.
    """
    stages = _stages(model)
    notes: dict[str, None] = {}
    for configuration, stage in stages.items():
        _check(stage)
        target = folder if len(stages) == 1 else folder / f"{_TRAINER}__{PLANS_NAME}__{configuration}"
        _write_stage(stage, target, configuration, plans_of(stages))
        notes |= dict.fromkeys(differences(stage))
    return tuple(notes)


def _stages(model: Model) -> dict[str, Model]:
    """The model's stages by nnU-Net's names of configurations. Raises `ExportError` for those it has none for."""
    if model.overlays or model.partners or model.locator is not None:
        raise ExportError(
            "nnU-Net has no models of several parts",
            got=f"a model with {', '.join(name for name in model.stages if name != 'previous')}",
            remedy="Export the parts one by one: each is a folder in the model's folder.",
        )
    if model.previous is None:
        return {"2d" if model.plan.dimensions == 2 else "3d_fullres": model}
    if model.previous.stages:
        raise ExportError("nnU-Net's cascades have two stages", got="a cascade of more")
    return {LOW_RESOLUTION: model.previous, CASCADE: model}


def _check(model: Model) -> None:
    plan = model.plan
    if plan.network.architecture not in NETWORK_CLASSES:
        raise ExportError(
            "nnU-Net has no such network",
            expected=" or ".join(NETWORK_CLASSES),
            got=plan.network.architecture,
            remedy="Export to onnx or torchscript.",
        )
    if plan.resize_to is not None:
        raise ExportError("nnU-Net resamples to a spacing, not to a shape", got=f"resize_to {plan.resize_to}")
    if plan.previous and (plan.regions or plan.previous != plan.labels):
        raise ExportError(
            "nnU-Net's cascades find the same structures in both stages", expected=plan.labels, got=plan.previous
        )
    if plan.regions and max(len(region.values) for region in plan.regions) == 1:
        raise ExportError("nnU-Net takes no regions of which none holds another", got=plan.labels)
    reserved = {"background", "ignore"} & set(plan.labels)
    if reserved:
        raise ExportError("nnU-Net keeps this name for itself", got=reserved.pop(), remedy="Rename it in labels.json.")


def _write_stage(model: Model, folder: Path, configuration: str, plans: Json) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    _write_json(folder / "plans.json", plans)
    _write_json(folder / "dataset.json", dataset_of(model))
    axes = nnunet_mirror_axes(model.plan)
    for fold, weights in enumerate(model.folds):
        checkpoint = {
            "network_weights": to_nnunet_weights(weights, model.plan.network),
            "init_args": {
                "configuration": configuration,
                "fold": fold,
                "plans": plans,
                "dataset_json": dataset_of(model),
            },
            "trainer_name": _TRAINER,
            "inference_allowed_mirroring_axes": axes or None,  # nnU-Net trips over an empty tuple
        }
        path = folder / f"fold_{fold}" / "checkpoint_final.pth"
        path.parent.mkdir()
        torch.save(checkpoint, path)


def _write_json(path: Path, content: Json) -> None:
    path.write_text(json.dumps(content, indent=4) + "\n", encoding="utf-8")


def to_nnunet_weights(weights: Mapping[str, Tensor], network: NetworkPlan) -> dict[str, Tensor]:
    """nnU-Net's state dict of ours, everything under all the names it has there; tensors with two names are shared.

    Biases before a normalisation, of which we keep none, are zeros. Raises `ExportError` for weights left over.
    """
    found: dict[str, Tensor] = {}
    used: set[str] = set()
    for pair in counterparts(network):
        tensors = {name: tensor for name, tensor in weights.items() if name.startswith(f"{pair.ours}.")}
        used |= set(tensors)
        found |= _translated({name.removeprefix(f"{pair.ours}."): tensor for name, tensor in tensors.items()}, pair)
    if used != set(weights):
        raise ExportError("weights that nnU-Net has no place for", got=sorted(set(weights) - used)[:5])
    encoder = {f"decoder.{name}": tensor for name, tensor in found.items() if name.startswith("encoder.")}
    return found | encoder


def _translated(tensors: Mapping[str, Tensor], pair: Counterpart) -> dict[str, Tensor]:
    if pair.role != "convolution":
        return {f"{pair.theirs}.{name}": _reversed_kernel(tensor) for name, tensor in tensors.items()}
    kernel = _reversed_kernel(tensors["conv.weight"])
    convolution = {"weight": kernel} | ({"bias": torch.zeros(len(kernel))} if pair.biased else {})
    norm = {name.rpartition(".")[2]: tensor for name, tensor in tensors.items() if name.startswith("norm.")}
    pieces = {"conv": convolution, "norm": norm, "all_modules.0": convolution, "all_modules.1": norm}
    return {
        f"{pair.theirs}.{module}.{name}": tensor for module, some in pieces.items() for name, tensor in some.items()
    }


def _reversed_kernel(tensor: Tensor) -> Tensor:
    """A kernel (O, I, i, j, k) as (O, I, k, j, i); what is no kernel as it is."""
    spatial = range(tensor.ndim - 1, 1, -1)
    return tensor.permute(0, 1, *spatial).contiguous() if tensor.ndim > 2 else tensor


def differences(model: Model) -> tuple[str, ...]:
    """What nnU-Net's predictor will do otherwise with this model than delineate does, in sentences."""
    plan, own = model.plan, model.plan.preparation
    air = " or ".join(sorted({"-400 HU" if kind is Kind.CT else "0" for kind in plan.kinds}))
    values = {name: model.labels.named(name).value for name in plan.labels}
    renumbered = not plan.regions and list(values.values()) != list(range(1, len(values) + 1))
    changed = any(not isinstance(how, Unchanged) for how in plan.normalisation)
    margin = (
        f"nnU-Net surrounds scans smaller than the patch ({_patch(plan)}) with 0, which this network never saw there:"
    )
    clipped = any(isinstance(how, ZScore) and how != ZScore(masked=how.masked) for how in plan.normalisation)
    steps = plan.tiling.overlap != 0.5
    facts = {
        f"Files must be stored with axes to {plan.orientation}: nnU-Net takes them as they are.": plan.orientation
        not in ("RAS", STORED),
        f"nnU-Net crops to what is not 0, delineate to what is above {air}: other windows.": own.crop_to == "foreground"
        and plan.crop_foreground,
        "nnU-Net crops to what is not 0, delineate does not crop.": not plan.crop_foreground,
        "nnU-Net resamples after it normalises, delineate before.": not own.normalise_first and changed,
        "nnU-Net clips no percentiles before it takes mean and standard deviation.": clipped,
        "nnU-Net resamples in its own way: details too fine for the grid are not faded.": own.resampling == "delineate",
        "nnU-Net does not resample across the slices.": plan.dimensions == 2 and not own.keep_slices,
        f"{margin} masks of such scans are not to be used.": plan.tiling.padding == "lowest",
        "The weights of nnU-Net's windows are half a voxel off those of delineate.": plan.tiling.centre == "middle",
        f"nnU-Net numbers structures from 1; delineate's values were {values}.": renumbered,
        "nnU-Net applies no rules afterwards; delineate does.": bool(model.postprocessing),
        "nnU-Net blends with a Gaussian unless told otherwise; delineate's plan does not.": not plan.tiling.gaussian,
        f"nnU-Net's windows overlap by half unless told otherwise (-step_size {1 - plan.tiling.overlap:g}).": steps,
    }
    found = tuple(sentence for sentence, holds in facts.items() if holds)
    if own == Preparation():
        return (*found, "A model trained with `--like nnunet` is the same in both.")
    return found


def _patch(plan: Plan) -> str:
    sizes = [f"{n * mm:.0f}" for n, mm in zip(plan.patch_size, plan.spacing_mm, strict=True)]
    return f"{' x '.join(sizes[: plan.dimensions])} mm"
