"""A trained model over a whole scan, and the result in the scan's own grid."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import nn

from delineate.inference.running import place
from delineate.inference.validating import predict_logits
from delineate.inference.windows import Progress
from delineate.model import Model
from delineate.preprocessing import FloatImage, prepare, restore_logits, restore_probabilities
from delineate.volume import Segmentation, Volume


@dataclass(frozen=True, slots=True, eq=False)
class Prediction:
    """`segmentation` in the scan's own grid; `probabilities` (C, I, J, K) there too if they were asked for."""

    segmentation: Segmentation
    probabilities: FloatImage | None = None


def segment(
    model: Model,
    volume: Volume,
    *,
    device: str = "cpu",
    with_probabilities: bool = False,
    progress: Progress | None = None,
    network: nn.Module | None = None,
) -> Prediction:
    """Segment one scan. `network`: the model's network, where it is already on the device.

    Raises `PlanError` if the scan has other channels than the model was trained on, `InputError` for NaN.
    """
    network = place(model.network() if network is None else network, device)
    prepared = prepare("", volume, None, model.plan)
    logits = predict_logits(network, prepared.image, model.plan, device=device, progress=progress)
    values = np.array((0, *(model.labels.named(name).value for name in model.plan.labels)))
    values = values.astype(np.uint8 if values.max() < 256 else np.uint16)
    labels = restore_logits(logits, prepared.trace, model.plan)
    probabilities = None
    if with_probabilities:
        probabilities = restore_probabilities(torch.from_numpy(logits).softmax(0).numpy(), prepared.trace, model.plan)
    segmentation = Segmentation(values[labels], volume.grid, model.labels, source=volume.source, author=model.digest)
    return Prediction(segmentation, probabilities)
