"""nnU-Net predicts the held-out cases with its own predictor, one after the other, and notes where the time goes."""

from __future__ import annotations

import itertools
import json
import resource
import time
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from models import INPUTS, MASKS, TIMES, Trained, by_name
from nnunetv2.inference import predict_from_raw_data, sliding_window_prediction
from nnunetv2.inference.export_prediction import export_prediction_from_logits
from nnunetv2.utilities.label_handling.label_handling import convert_labelmap_to_one_hot


@dataclass(frozen=True, slots=True)
class Way:
    """How a model is asked: with mirroring or without, logits kept in nnU-Net's float16 or, a control, in float32."""

    mirrored: bool
    exact: bool = False

    @property
    def name(self) -> str:
        return ("mirrored" if self.mirrored else "plain") + ("_float32" if self.exact else "")


def predictor_of(folder: Path, folds: tuple[int | str, ...], *, mirrored: bool) -> Any:
    """nnU-Net's predictor of a trained-model folder, on the CPU."""
    predictor = predict_from_raw_data.nnUNetPredictor(
        tile_step_size=0.5, use_mirroring=mirrored, device=torch.device("cpu"), allow_tqdm=False
    )
    predictor.initialize_from_trained_model_folder(str(folder), folds)
    return predictor


def predict(model: Trained, way: Way, *, limit: int | None = None) -> None:
    """Masks of the held-out cases under `masks/MODEL/WAY`, and their seconds and peak memory as JSON."""
    if way.exact:
        keep_logits_in_float32()
    target = MASKS / model.name / way.name
    target.mkdir(parents=True, exist_ok=True)
    predictor = predictor_of(model.folder, model.folds, mirrored=way.mirrored)
    images = sorted((INPUTS / model.data.folder / "images").glob("*_0000.nii.gz"))[:limit]
    before = MASKS / by_name(model.after).name / way.name if model.after else None
    cases = {
        image.name.removesuffix("_0000.nii.gz"): predict_case(predictor, image, target, before=before)
        for image in images
    }
    report = {"cases": cases, "peak_gb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20}
    TIMES.mkdir(parents=True, exist_ok=True)
    (TIMES / f"nnunet_{model.name}_{way.name}.json").write_text(json.dumps(report, indent=1))


def predict_case(predictor: Any, image: Path, target: Path, *, before: Path | None = None) -> dict[str, float]:
    """One case from its file to the file of its mask; the seconds of reading and preparing, network, and writing."""
    case = image.name.removesuffix("_0000.nii.gz")
    plans, configuration = predictor.plans_manager, predictor.configuration_manager
    clock = [time.perf_counter()]
    earlier = None if before is None else str(before / f"{case}.nii.gz")
    preprocessor = configuration.preprocessor_class(verbose=False)
    array, masks, properties = preprocessor.run_case(
        [str(image)], earlier, plans, configuration, predictor.dataset_json
    )
    if earlier is not None:
        classes = predictor.label_manager.foreground_labels
        array = np.vstack((array, convert_labelmap_to_one_hot(masks[0], classes, array.dtype)))
    clock.append(time.perf_counter())
    logits = predictor.predict_logits_from_preprocessed_data(torch.from_numpy(array))
    clock.append(time.perf_counter())
    export_prediction_from_logits(logits, properties, configuration, plans, predictor.dataset_json, str(target / case))
    clock.append(time.perf_counter())
    names = ("preparing", "network", "writing")
    return {name: round(b - a, 3) for name, (a, b) in zip(names, itertools.pairwise(clock), strict=True)}


class _Float32Torch:
    """torch as nnU-Net's predictor sees it, in which half precision is single: the control that says how many voxels
    differ only because it adds up and resamples logits in float16."""

    half = torch.float32

    def __getattr__(self, name: str) -> Any:
        return getattr(torch, name)


def keep_logits_in_float32() -> None:
    """From here on this process's nnU-Net adds up, divides and resamples logits in float32.

    The weights of a window's voxels stay those that it rounds to float16: near a corner others would be other weights.
    """
    predict_from_raw_data.torch = _Float32Torch()
    original = sliding_window_prediction.compute_gaussian.__wrapped__

    @lru_cache(maxsize=2)
    def weights(*arguments: Any, **options: Any) -> torch.Tensor:
        rounded: torch.Tensor = original(*arguments, **options)
        return rounded.float()

    predict_from_raw_data.compute_gaussian = weights
