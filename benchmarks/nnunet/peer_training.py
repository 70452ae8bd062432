"""nnU-Net plans, preprocesses and trains: its own planner, preprocessing, trainer and checkpoints. Its plans are cut
down before training, so that a few hundred steps on a CPU are enough for masks that are worth comparing."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import torch
from models import INPUTS, MODELS, PLAIN, PREPROCESSED, RAW, RESIDUAL, RESULTS, SHARED, Data, Trained, by_name
from nnunetv2.experiment_planning.experiment_planners.network_topology import get_pool_and_conv_props
from nnunetv2.experiment_planning.plan_and_preprocess_api import (
    extract_fingerprints,
    plan_experiments,
    preprocess_dataset,
)
from nnunetv2.model_sharing.model_export import export_pretrained_model
from nnunetv2.utilities.find_objects import recursive_find_trainer_class_by_name

BASE_FEATURES, MOST_FEATURES = 16, 128
SMALLEST_EDGE = 4
LOWRES_MM = 2.0


def write_raw(data: Data) -> None:
    """A dataset in nnU-Net's raw layout, and the held-out cases' images and labels beside it."""
    source = SHARED / data.source
    description = json.loads((source / "dataset.json").read_text())
    cases = sorted(path.name.removesuffix(".nii.gz") for path in (source / "labelsTr").glob("*.nii.gz"))
    for case in cases[: data.training]:
        _place(source / "imagesTr" / f"{case}.nii.gz", RAW / data.folder / "imagesTr" / f"{case}_0000.nii.gz", data)
        _place(source / "labelsTr" / f"{case}.nii.gz", RAW / data.folder / "labelsTr" / f"{case}.nii.gz", data)
    for case in cases[-data.held_out :]:
        _place(source / "imagesTr" / f"{case}.nii.gz", INPUTS / data.folder / "images" / f"{case}_0000.nii.gz", data)
        _place(source / "labelsTr" / f"{case}.nii.gz", INPUTS / data.folder / "labels" / f"{case}.nii.gz", data)
    content: dict[str, Any] = {
        "channel_names": {"0": data.channel},
        "labels": dict(data.labels) or description["labels"],
        "numTraining": data.training,
        "file_ending": ".nii.gz",
    }
    if data.regions_class_order:
        content["regions_class_order"] = list(data.regions_class_order)
    (RAW / data.folder / "dataset.json").write_text(json.dumps(content, indent=1))


def _place(source: Path, target: Path, data: Data) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    target.unlink(missing_ok=True)
    if data.thin == 1:
        target.symlink_to(source)
    else:
        nib.save(nib.load(source).slicer[:: data.thin], target)  # type: ignore[attr-defined]


def plan(data: Data) -> None:
    """nnU-Net's plans of a dataset, cut down, and its training cases preprocessed by them."""
    os.environ["nnUNet_n_proc_DA"] = "1"  # noqa: SIM112 - nnU-Net's spelling
    models = [model for model in MODELS if model.data == data]
    extract_fingerprints([data.id], num_processes=1, check_dataset_integrity=True, verbose=False)
    planners = {PLAIN: "ExperimentPlanner", RESIDUAL: "nnUNetPlannerResEncM"}
    for plans in {model.plans for model in models}:
        plan_experiments([data.id], planners[plans])
        _cut_down(data, plans, [model for model in models if model.plans == plans])
    wanted = [model.configuration for model in models if model.plans == PLAIN and not model.after]
    preprocess_dataset(data.id, PLAIN, wanted, num_processes=[1] * len(wanted), show_progress_bar=False)


def _cut_down(data: Data, plans: str, models: list[Trained]) -> None:
    path = PREPROCESSED / data.folder / f"{plans}.json"
    content = json.loads(path.read_text())
    configurations = content["configurations"]
    if any(model.after for model in models):
        configurations["3d_lowres"] = _lowres(configurations["3d_fullres"])
        configurations["3d_cascade_fullres"] = {"inherits_from": "3d_fullres", "previous_stage": "3d_lowres"}
    for model in models:
        if not model.after:
            _shrink(configurations[model.configuration], model)
    path.write_text(json.dumps(content, indent=1))


def _lowres(fullres: dict[str, Any]) -> dict[str, Any]:
    shape = np.asarray(fullres["median_image_size_in_voxels"]) * fullres["spacing"] / LOWRES_MM
    copy: dict[str, Any] = json.loads(json.dumps(fullres))
    return copy | {
        "data_identifier": f"{PLAIN}_3d_lowres",
        "spacing": [LOWRES_MM] * 3,
        "median_image_size_in_voxels": [round(n) for n in shape],
        "next_stage": "3d_cascade_fullres",
    }


def _shrink(configuration: dict[str, Any], model: Trained) -> None:
    """A smaller patch and network; strides and kernels as nnU-Net's own rule gives them for that patch."""
    patch = model.patch or configuration["patch_size"]
    _, strides, kernels, patch, _ = get_pool_and_conv_props(configuration["spacing"], patch, SMALLEST_EDGE, 999)
    stages = len(strides)
    network = configuration["architecture"]["arch_kwargs"]
    network["n_stages"] = stages
    network["strides"] = [[int(n) for n in stride] for stride in strides]
    network["kernel_sizes"] = [[int(n) for n in kernel] for kernel in kernels]
    network["features_per_stage"] = [min(BASE_FEATURES * 2**i, MOST_FEATURES) for i in range(stages)]
    network["n_conv_per_stage_decoder"] = [1 if model.plans == RESIDUAL else 2] * (stages - 1)
    key = "n_blocks_per_stage" if model.plans == RESIDUAL else "n_conv_per_stage"
    network[key] = [1, *[2] * (stages - 1)] if model.plans == RESIDUAL else [2] * stages
    configuration["patch_size"] = [int(n) for n in patch]
    configuration["batch_size"] = model.batch


def train(model: Trained) -> None:
    """Each fold by nnU-Net's trainer, unless it is there; a cascade's stages predict their training cases as well."""
    os.environ["nnUNet_n_proc_DA"] = "0"  # noqa: SIM112 - the loading of patches in this process
    staged = model.after or any(other.after == model.name for other in MODELS)
    for fold in model.folds:
        folder = model.folder / f"fold_{fold}"
        trainer = _trainer(model, fold)
        if not (folder / "checkpoint_final.pth").exists():
            torch.manual_seed(0)
            np.random.seed(0)  # noqa: NPY002 - the generator that nnU-Net's data loading draws from
            trainer.run_training()
        if staged and not (folder / "validation" / "summary.json").exists():
            trainer.load_checkpoint(str(folder / "checkpoint_final.pth"))
            trainer.perform_actual_validation()


def _trainer(model: Trained, fold: int | str) -> Any:
    folder = PREPROCESSED / model.data.folder
    plans = json.loads((folder / f"{model.plans}.json").read_text()) | {"continue_training": False}
    dataset = json.loads((folder / "dataset.json").read_text())
    of_kind = recursive_find_trainer_class_by_name(model.trainer)
    trainer = of_kind(plans, model.configuration, fold, dataset, device=torch.device("cpu"))
    trainer.oversample_foreground_percent = 1.0  # so that few steps see structures
    trainer.num_epochs, trainer.num_iterations_per_epoch, trainer.num_val_iterations_per_epoch = (
        model.epochs,
        model.steps,
        2,
    )
    return trainer


def export_zips(models: list[Trained]) -> None:
    """Each cascade's stages as one zip, as nnU-Net exports them: `MODEL.zip` beside the results."""
    for model in models:
        if model.after:
            stages = (by_name(model.after).configuration, model.configuration)
            target = RESULTS / f"{model.name}.zip"
            export_pretrained_model(model.data.folder, str(target), stages, model.trainer, model.plans, model.folds)


def prepare_data(models: list[Trained]) -> Iterator[str]:
    """Raw data and plans of what `models` need, where they are not there already; yields what was made."""
    for data in dict.fromkeys(model.data for model in models):
        if not (PREPROCESSED / data.folder / "gt_segmentations").exists():
            shutil.rmtree(PREPROCESSED / data.folder, ignore_errors=True)
            write_raw(data)
            plan(data)
            yield data.folder
