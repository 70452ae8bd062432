"""What training needs of inference: the logits of a whole prepared scan, and how good they are there."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from torch import nn

from delineate.inference.running import NetworkRunner
from delineate.inference.streaming import Streaming, batch_size, stream_logits
from delineate.planning import Plan
from delineate.preprocessing import FloatImage


def predict_logits(network: nn.Module, image: FloatImage, plan: Plan, *, device: str = "cpu") -> FloatImage:
    """Logits (classes, I, J, K), float32, of a prepared image (C, I, J, K). The network must be on `device`."""
    network.eval()
    runner = NetworkRunner(network, plan, device)
    how = Streaming(axis=2 if plan.dimensions == 2 else 0, batch=batch_size(plan))
    logits = np.empty((plan.classes, *image.shape[1:]), dtype=np.float32)
    for planes, slab in stream_logits(image, plan, [runner], how=how):
        np.moveaxis(logits, 1 + how.axis, 0)[planes] = np.moveaxis(slab, 1 + how.axis, 0)
    return logits


def dice_per_label(prediction: npt.NDArray[np.uint8], target: npt.NDArray[np.uint8], classes: int) -> FloatImage:
    """(classes - 1,) Dice of each structure on the prepared grid; NaN where a structure is absent from both."""
    pairs = np.bincount(prediction.ravel().astype(np.int64) * classes + target.ravel(), minlength=classes**2)
    counts = pairs.reshape(classes, classes).astype(np.float64)
    hits, sizes = np.diag(counts), counts.sum(0) + counts.sum(1)
    with np.errstate(invalid="ignore"):
        return np.asarray((2 * hits / sizes)[1:], dtype=np.float32)
