"""nnU-Net trained for given minutes, with its own planner, preprocessing, trainer and predictor, and timed at a step.

Its schedule is given what it lacks: the number of epochs follows the time that is left, so that its learning rate ends
at zero when the time is over, as after 1000 epochs; and epochs are of 25 steps, so that the rate falls smoothly.
"""

from __future__ import annotations

import json
import os
import shutil
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from models import PLAIN, PREPROCESSED, RAW
from nnunetv2.experiment_planning.plan_and_preprocess_api import (
    extract_fingerprints,
    plan_experiments,
    preprocess_dataset,
)
from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer
from peer_predicting import predict_case, predictor_of

STEPS = 25  # an epoch
CONFIGURATION = "3d_fullres"


def prepare(source: Path, number: int, training: Sequence[str], scored: Sequence[str]) -> str:
    """The data set in nnU-Net's raw layout, planned and preprocessed by nnU-Net; fold 0 is the given split.

    Gives back the folder's name; does nothing where all of it is there.
    """
    os.environ["nnUNet_n_proc_DA"] = "1"  # noqa: SIM112 - nnU-Net's spelling
    name = f"Dataset{number}_{source.name.capitalize()}"
    content = json.loads((source / "dataset.json").read_text())
    splits = PREPROCESSED / name / "splits_final.json"
    if not splits.exists():
        shutil.rmtree(PREPROCESSED / name, ignore_errors=True)
        for case in (*training, *scored):
            for kind, ending in (("imagesTr", "_0000.nii.gz"), ("labelsTr", ".nii.gz")):
                target = RAW / name / kind / f"{case}{ending}"
                target.parent.mkdir(parents=True, exist_ok=True)
                target.unlink(missing_ok=True)
                target.symlink_to(source / kind / f"{case}.nii.gz")
        channels = content.get("channel_names") or content["modality"]
        labels = content["labels"]
        if all(str(key).isdecimal() for key in labels):
            labels = {label: int(value) for value, label in labels.items()}
        raw = {"channel_names": channels, "labels": labels, "numTraining": len(training) + len(scored)}
        (RAW / name / "dataset.json").write_text(json.dumps(raw | {"file_ending": ".nii.gz"}, indent=1))
        extract_fingerprints([number], num_processes=2, check_dataset_integrity=False, verbose=False)
        plan_experiments([number])
        preprocess_dataset(number, PLAIN, [CONFIGURATION], num_processes=[2], show_progress_bar=False)
        splits.write_text(json.dumps([{"train": list(training), "val": list(scored)}]))
    return name


def trainer_of(name: str, *, seed: int) -> Any:
    os.environ["nnUNet_n_proc_DA"] = "1"  # noqa: SIM112 - patches are made beside the steps
    folder = PREPROCESSED / name
    plans = json.loads((folder / f"{PLAIN}.json").read_text()) | {"continue_training": False}
    dataset = json.loads((folder / "dataset.json").read_text())
    torch.manual_seed(seed)
    np.random.seed(seed)  # noqa: NPY002 - the generator that nnU-Net's data loading draws from
    trainer = nnUNetTrainer(plans, CONFIGURATION, 0, dataset, device=torch.device("cpu"))
    trainer.num_iterations_per_epoch, trainer.num_val_iterations_per_epoch = STEPS, 1
    trainer.disable_checkpointing = True
    return trainer


def train(name: str, minutes: float, target: Path, *, seed: int, mirrored: bool) -> dict[str, float]:
    """Train for `minutes` (only training counts), then write masks of the scored cases to `target`."""
    trainer = trainer_of(name, seed=seed)
    trainer.on_train_start()
    began = time.perf_counter()
    epoch = 0
    while epoch == 0 or epoch < trainer.num_epochs:
        trainer.on_epoch_start()
        trainer.on_train_epoch_start()
        outputs = [trainer.train_step(next(trainer.dataloader_train)) for _ in range(STEPS)]
        trainer.on_train_epoch_end(outputs)
        with torch.no_grad():
            trainer.on_validation_epoch_start()
            trainer.on_validation_epoch_end([trainer.validation_step(next(trainer.dataloader_val))])
        trainer.on_epoch_end()
        epoch += 1
        spent = time.perf_counter() - began
        trainer.num_epochs = epoch + max(0, int((60 * minutes - spent) / (spent / epoch)))
        trainer.lr_scheduler.max_steps = trainer.num_epochs
    seconds = time.perf_counter() - began
    trainer.disable_checkpointing = False
    trainer.on_train_end()
    folder = Path(trainer.output_folder)
    masks(folder, name, target, mirrored=mirrored)
    return {"seconds": seconds, "steps": epoch * STEPS}


def masks(folder: Path, name: str, target: Path, *, mirrored: bool) -> None:
    """Of the scored cases, by nnU-Net's predictor from their files."""
    target.mkdir(parents=True, exist_ok=True)
    predictor = predictor_of(folder.parent, (0,), mirrored=mirrored)
    splits = json.loads((PREPROCESSED / name / "splits_final.json").read_text())
    for case in splits[0]["val"]:
        predict_case(predictor, RAW / name / "imagesTr" / f"{case}_0000.nii.gz", target)


def step(name: str, *, steps: int, batch: int | None) -> dict[str, Any]:
    """Seconds of one step of nnU-Net's trainer, its waiting for patches included, and the network that it trained."""
    trainer = trainer_of(name, seed=0)
    if batch is not None:
        trainer.configuration_manager.configuration["batch_size"] = batch
        trainer.batch_size = batch
    trainer.on_train_start()
    trainer.on_train_epoch_start()
    seconds = []
    for _ in range(steps):
        began = time.perf_counter()
        trainer.train_step(next(trainer.dataloader_train))
        seconds.append(time.perf_counter() - began)
    configuration = trainer.configuration_manager
    kept = ("features_per_stage", "strides", "kernel_sizes", "n_conv_per_stage", "n_conv_per_stage_decoder")
    return {
        "seconds": float(np.median(seconds[1:])),
        "patch": [int(n) for n in configuration.patch_size],
        "batch": trainer.batch_size,
        **{key: configuration.network_arch_init_kwargs[key] for key in kept},
    }
