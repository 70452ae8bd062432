"""What nnU-Net's own code takes: its network, a batch of cases, one large scan, an export. Seconds, to be printed."""

from __future__ import annotations

import itertools
import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from models import INPUTS, PREPROCESSED, Trained, by_name
from nnunetv2.inference.export_prediction import export_prediction_from_logits
from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer
from nnunetv2.utilities.plans_handling.plans_handler import PlansManager
from peer_predicting import predictor_of

SPACING_MM, PATCH, LEVELS = 1.5, 128, 6
EXPORT_MM = 0.8


def write_random_model(folder: Path, *, classes: int) -> None:
    """A trained-model folder with a network of nnU-Net's usual size (32 to 320 features, patch 128 cubed, 1.5 mm, CT)
    and random weights, as its trainer saves them: for time and memory, not for masks."""
    plans = json.loads((PREPROCESSED / by_name("headneck_3d").data.folder / "nnUNetPlans.json").read_text())
    plans |= {"transpose_forward": [0, 1, 2], "transpose_backward": [0, 1, 2]}
    configuration = plans["configurations"]["3d_fullres"]
    configuration |= {"patch_size": [PATCH] * 3, "spacing": [SPACING_MM] * 3}
    configuration["architecture"]["arch_kwargs"] |= {
        "n_stages": LEVELS,
        "features_per_stage": [min(32 * 2**level, 320) for level in range(LEVELS)],
        "strides": [[1] * 3, *[[2] * 3] * (LEVELS - 1)],
        "kernel_sizes": [[3] * 3] * LEVELS,
        "n_conv_per_stage": [2] * LEVELS,
        "n_conv_per_stage_decoder": [2] * (LEVELS - 1),
    }
    names = {"background": 0} | {f"structure {n}": n for n in range(1, classes)}
    dataset = {"channel_names": {"0": "CT"}, "labels": names, "numTraining": 1, "file_ending": ".nii.gz"}
    manager = PlansManager(plans)
    torch.manual_seed(0)
    network = nnUNetTrainer.build_network_architecture(
        manager, manager.get_configuration("3d_fullres"), 1, classes, enable_deep_supervision=True
    )
    checkpoint = {
        "network_weights": network.state_dict(),
        "trainer_name": "nnUNetTrainer",
        "init_args": {"configuration": "3d_fullres", "fold": "all"},
        "inference_allowed_mirroring_axes": (0, 1, 2),
        "current_epoch": 1,
    }
    (folder / "fold_all").mkdir(parents=True, exist_ok=True)
    (folder / "plans.json").write_text(json.dumps(plans))
    (folder / "dataset.json").write_text(json.dumps(dataset))
    torch.save(checkpoint, folder / "fold_all" / "checkpoint_final.pth")


def batch(model: Trained, target: Path) -> dict[str, float]:
    """Every held-out case of a model by `predict_from_files`, with the processes it starts by itself."""
    began = time.perf_counter()
    predictor = predictor_of(model.folder, model.folds, mirrored=True)
    images = [[str(path)] for path in sorted((INPUTS / model.data.folder / "images").glob("*.nii.gz"))]
    target.mkdir(parents=True, exist_ok=True)
    predictor.predict_from_files(images, [str(target / Path(image).name[:-12]) for (image,) in images])
    return {"seconds": time.perf_counter() - began, "cases": len(images)}


@dataclass(slots=True)
class Windows:
    """Lets a predictor run at most `most` windows of a scan, and counts those run and all there are."""

    slicers: Callable[[tuple[int, ...]], list[Any]]
    most: int | None
    run: int = 0
    all: int = 0

    def __call__(self, size: tuple[int, ...]) -> list[Any]:
        every = self.slicers(size)
        self.run, self.all = len(every[: self.most]), len(every)
        return every[: self.most]


def case(folder: Path, image: Path, target: Path, *, mirrored: bool, tiles: int | None) -> dict[str, float]:
    """One scan, step by step. `tiles`: so many windows only; the network's seconds are extrapolated to all of them."""
    predictor = predictor_of(folder, ("all",), mirrored=mirrored)
    windows = Windows(predictor._internal_get_sliding_window_slicers, tiles)
    predictor._internal_get_sliding_window_slicers = windows
    clock = [time.perf_counter()]
    plans, configuration = predictor.plans_manager, predictor.configuration_manager
    preprocessor = configuration.preprocessor_class(verbose=False)
    array, _, properties = preprocessor.run_case([str(image)], None, plans, configuration, predictor.dataset_json)
    clock.append(time.perf_counter())
    logits = predictor.predict_logits_from_preprocessed_data(torch.from_numpy(array))
    clock.append(time.perf_counter())
    if windows.run < windows.all:
        logits = torch.nan_to_num(logits)
    clock.append(time.perf_counter())
    export_prediction_from_logits(logits, properties, configuration, plans, predictor.dataset_json, str(target))
    clock.append(time.perf_counter())
    preparing, network, _, writing = (b - a for a, b in itertools.pairwise(clock))
    network *= windows.all / windows.run
    times = {"preparing": preparing, "network": network, "writing": writing, "seconds": preparing + network + writing}
    return times | {"windows_run": windows.run, "windows": windows.all}


def export(folder: Path, logits: Path, target: Path, *, shape: tuple[int, int, int]) -> dict[str, float]:
    """From logits (classes, *shape at 1.5 mm) to the file of a label map of `shape` (nnU-Net's axes) in 0.8 mm."""
    predictor = predictor_of(folder, ("all",), mirrored=False)
    properties = {
        "spacing": [EXPORT_MM] * 3,
        "shape_before_cropping": shape,
        "shape_after_cropping_and_before_resampling": shape,
        "bbox_used_for_cropping": [[0, n] for n in shape],
        "sitk_stuff": {"spacing": (EXPORT_MM,) * 3, "origin": (0.0,) * 3, "direction": tuple(np.eye(3).ravel())},
    }
    began = time.perf_counter()
    array = np.load(logits)
    export_prediction_from_logits(
        array, properties, predictor.configuration_manager, predictor.plans_manager, predictor.dataset_json, str(target)
    )
    return {"seconds": time.perf_counter() - began, "classes": array.shape[0]}
