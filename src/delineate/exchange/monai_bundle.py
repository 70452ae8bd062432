"""MONAI bundles (docs.monai.io, "MONAI Bundle Specification"): configurations and weights that `monai.bundle` runs.

Only of networks that are MONAI's own. The bundle's transforms are MONAI's; where they do otherwise than delineate's
preparation, `bundle_differences` says it.
"""

from __future__ import annotations

import json
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from delineate.errors import ExportError
from delineate.exchange.notes import write_readme
from delineate.fingerprint import FOREGROUND_ABOVE
from delineate.model import Model
from delineate.networks.residual_unet import unet_arguments
from delineate.planning import STORED, ClipZScore, Normalisation, Plan, Rescale, Unchanged, Window, ZScore

Json = dict[str, Any]

_SCHEMA = "https://github.com/Project-MONAI/MONAI-extra-test-data/releases/download/0.8.1/meta_schema_20240725.json"
_IMAGE = {"keys": "image"}
_PAD = -1e30  # lower than any intensity


def write_monai_bundle(model: Model, folder: Path) -> tuple[str, ...]:
    """Write a bundle; what MONAI will do otherwise than delineate, in words.

    Raises `ExportError` for a network that is not MONAI's, or a model that a bundle cannot hold.
    """
    _check(model)
    notes = bundle_differences(model)
    for name in ("configs", "models", "docs"):
        (folder / name).mkdir(parents=True)
    _write_json(folder / "configs" / "metadata.json", metadata_of(model))
    _write_json(folder / "configs" / "inference.json", inference_of(model))
    weights = {name.removeprefix("network."): tensor for name, tensor in model.weights.items()}
    torch.save(weights, folder / "models" / "model.pt")
    write_readme(folder / "docs", "MONAI bundle", model, notes)
    return notes


def _check(model: Model) -> None:
    plan = model.plan
    remedy = "Export to torchscript or onnx."
    if plan.network.architecture != "residual_unet":
        raise ExportError(
            "MONAI has no such network", expected="residual_unet", got=plan.network.architecture, remedy=remedy
        )
    if model.stages or model.more_folds or plan.regions:
        raise ExportError("a bundle holds one network", got="folds, stages or regions", remedy=remedy)
    if len(set(plan.normalisation)) > 1 or len({FOREGROUND_ABOVE[kind] for kind in plan.kinds}) > 1:
        raise ExportError("a bundle prepares all channels alike", got=plan.normalisation, remedy=remedy)
    if plan.preparation.axes != (0, 1, 2):
        raise ExportError("a bundle keeps the order of axes", got=plan.preparation.axes, remedy=remedy)


def _write_json(path: Path, content: Json) -> None:
    path.write_text(json.dumps(content, indent=4) + "\n", encoding="utf-8")


def inference_of(model: Model) -> Json:
    """The bundle's configs/inference.json."""
    plan = model.plan
    network = unet_arguments(plan.network, plan.inputs, plan.classes)
    return {
        "imports": ["$import glob", "$import torch"],
        "bundle_root": ".",
        "dataset_dir": "$@bundle_root + '/scans'",
        "output_dir": "$@bundle_root + '/results'",
        "files": "$sorted(glob.glob(@dataset_dir + '/*.nii.gz'))",
        "datalist": f"$[@files[n:n + {plan.inputs}] for n in range(0, len(@files), {plan.inputs})]",
        "device": "$torch.device('cuda:0' if torch.cuda.is_available() else 'cpu')",
        "network_def": {"_target_": "UNet", **network},
        "network": "$@network_def.to(@device)",
        "weights": "$torch.load(@bundle_root + '/models/model.pt', map_location=@device, weights_only=True)",
        "preprocessing": {"_target_": "Compose", "transforms": transforms_of(plan)},
        "dataset": {
            "_target_": "Dataset",
            "data": "$[{'image': images} for images in @datalist]",
            "transform": "@preprocessing",
        },
        "dataloader": {"_target_": "DataLoader", "dataset": "@dataset", "batch_size": 1, "num_workers": 0},
        "inferer": _inferer(plan),
        "postprocessing": {"_target_": "Compose", "transforms": _post_transforms(model)},
        "evaluator": {
            "_target_": "SupervisedEvaluator",
            "device": "@device",
            "val_data_loader": "@dataloader",
            "network": "@network",
            "inferer": "@inferer",
            "postprocessing": "@postprocessing",
        },
        "initialize": ["$@network.load_state_dict(@weights)"],
        "run": ["$@evaluator.run()"],
    }


def transforms_of(plan: Plan) -> list[Json]:
    """MONAI's transforms for a plan's preparation, in its order."""
    steps: list[Json] = [
        {"_target_": "LoadImaged", **_IMAGE, "reader": "NibabelReader"},
        {"_target_": "EnsureChannelFirstd", **_IMAGE},
    ]
    if plan.orientation != STORED:
        steps.append({"_target_": "Orientationd", **_IMAGE, "axcodes": plan.orientation, "labels": None})
    if plan.crop_foreground:
        nonzero = plan.preparation.crop_to == "nonzero"
        rule = "x != 0" if nonzero else f"x > {FOREGROUND_ABOVE[plan.kinds[0]]:g}"
        steps.append(
            {"_target_": "CropForegroundd", **_IMAGE, "source_key": "image", "select_fn": f"$lambda x: {rule}"}
        )
    ranges, resampled = _normalisation(plan.normalisation[0]), [_resampling(plan)]
    steps += [*ranges, *resampled] if plan.preparation.normalise_first else [*resampled, *ranges]
    return steps + (_padding(plan) if plan.tiling.padding == "lowest" else [])


def _padding(plan: Plan) -> list[Json]:
    """To at least a patch, with each channel's own lowest value, for which MONAI's padding has no word."""
    lowest = f"x.masked_fill(x <= {_PAD}, float('inf')).amin(dim=(1, 2, 3), keepdim=True)"
    return [
        {"_target_": "SpatialPadd", **_IMAGE, "spatial_size": list(plan.patch_size), "value": _PAD},
        {"_target_": "Lambdad", **_IMAGE, "func": f"$lambda x: torch.maximum(x, {lowest})"},
    ]


def _resampling(plan: Plan) -> Json:
    # Linear, because the way back takes the same interpolation, and logits must not ring.
    if plan.resize_to is not None:
        return {"_target_": "Resized", **_IMAGE, "spatial_size": list(plan.resize_to), "mode": "trilinear"}
    spacing = [*plan.spacing_mm[:2], -1.0] if plan.preparation.keep_slices else list(plan.spacing_mm)
    edges = {"scale_extent": True, "align_corners": True}  # the scan's edges stay, as in delineate
    return {"_target_": "Spacingd", **_IMAGE, "pixdim": spacing, "mode": "bilinear", **edges}


def _normalisation(how: Normalisation) -> list[Json]:
    if isinstance(how, ClipZScore):
        how = Window(
            lower=how.lower, upper=how.upper, to_lower=_scaled(how, how.lower), to_upper=_scaled(how, how.upper)
        )
    if isinstance(how, Window):
        ends = {"a_min": how.lower, "a_max": how.upper, "b_min": how.to_lower, "b_max": how.to_upper, "clip": True}
        return [{"_target_": "ScaleIntensityRanged", **_IMAGE, **ends}]
    if isinstance(how, Rescale):
        return [{"_target_": "ScaleIntensityd", **_IMAGE, "minv": 0.0, "maxv": 1.0, "channel_wise": True}]
    if isinstance(how, Unchanged):
        return []
    percentiles = {"lower": how.lower_percentile, "upper": how.upper_percentile}
    clip: list[Json] = [{"_target_": "ClipIntensityPercentilesd", **_IMAGE, **percentiles, "channel_wise": True}]
    scale = {"_target_": "NormalizeIntensityd", **_IMAGE, "nonzero": how.masked, "channel_wise": True}
    return [*(clip if percentiles != {"lower": 0.0, "upper": 100.0} else []), scale]


def _scaled(how: ClipZScore, value: float) -> float:
    return (value - how.mean) / how.std


def _inferer(plan: Plan) -> Json:
    window = {
        "roi_size": list(plan.patch_size[: plan.dimensions]),
        "sw_batch_size": plan.tiling.batch_size,
        "overlap": plan.tiling.overlap,
        "mode": "gaussian" if plan.tiling.gaussian else "constant",
        "padding_mode": "constant",
        "cval": 0.0,
    }
    if plan.dimensions == 2:
        return {"_target_": "SliceInferer", "spatial_dim": 2, **window}
    return {"_target_": "SlidingWindowInferer", **window}


def _post_transforms(model: Model) -> list[Json]:
    pred = {"keys": "pred"}
    values = [model.labels.named(name).value for name in model.plan.labels]
    indices = list(range(1, len(values) + 1))
    renamed: Json = {"_target_": "MapLabelValued", **pred, "orig_labels": indices, "target_labels": values}
    saved = {"output_dir": "@output_dir", "output_postfix": "seg", "separate_folder": False, "resample": False}
    inverted = {"transform": "@preprocessing", "orig_keys": "image", "nearest_interp": False, "to_tensor": True}
    return [
        {"_target_": "Invertd", **pred, **inverted},
        {"_target_": "AsDiscreted", **pred, "argmax": True},
        *([] if values == indices else [renamed]),
        {"_target_": "SaveImaged", **pred, **saved, "output_dtype": "$torch.int16"},
    ]


def metadata_of(model: Model) -> Json:
    """The bundle's configs/metadata.json."""
    plan, card = model.plan, model.provenance
    patch = list(plan.patch_size[: plan.dimensions])
    names = enumerate(("background", *plan.labels))
    image = {"type": "image", "num_channels": plan.inputs, "spatial_shape": patch, "dtype": "float32"}
    shown = {"channel_def": {str(n): name for n, name in enumerate(plan.channels)}, "is_patch_data": True}
    pred = {"type": "image", "format": "segmentation", "num_channels": plan.classes, "spatial_shape": patch}
    return {
        "schema": _SCHEMA,
        "version": "1.0.0",
        "changelog": {"1.0.0": f"exported by delineate {version('delineate')}"},
        "monai_version": version("monai"),
        "pytorch_version": str(torch.__version__),
        "numpy_version": version("numpy"),
        "required_packages_version": {"nibabel": version("nibabel"), "pytorch-ignite": "0.5.0", "fire": "0.5.0"},
        "name": plan.dataset,
        "task": f"Segmentation of {', '.join(plan.labels)}",
        "description": f"Trained by delineate on {card.dataset}, {card.step} steps; model {model.digest[:12]}",
        "authors": "",
        "copyright": "",
        "network_data_format": {
            "inputs": {"image": image | {"format": "magnitude", "value_range": []} | shown},
            "outputs": {
                "pred": pred
                | {"dtype": "float32", "value_range": [], "is_patch_data": True}
                | {"channel_def": {str(n): name for n, name in names}}
            },
        },
    }


def bundle_differences(model: Model) -> tuple[str, ...]:
    """What MONAI will do otherwise with this model than delineate does, in sentences."""
    plan = model.plan
    facts = {
        "MONAI resamples linearly; delineate by splines of third order that fade what is too fine for the grid.": True,
        "MONAI's last window of a row is moved back to the edge; delineate spreads windows evenly.": True,
        "Windows are not mirrored; delineate averages over mirrored ones.": bool(plan.tiling.mirror_axes),
        "The mask of the normalisation is what is not 0; delineate fills its holes.": any(
            isinstance(how, ZScore) and how.masked for how in plan.normalisation
        ),
        "MONAI applies no rules afterwards; delineate does.": bool(model.postprocessing),
        "`python -m monai.bundle run --config_file configs/inference.json` needs pytorch-ignite and fire.": True,
    }
    return tuple(sentence for sentence, holds in facts.items() if holds)
