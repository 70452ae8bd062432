"""What training needs of inference: the logits of a whole prepared scan, and how good they are there."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from torch import nn

from delineate.inference.running import NetworkRunner
from delineate.inference.streaming import Streaming, batch_size, stream_logits
from delineate.planning import Plan
from delineate.preprocessing import IGNORE, FloatImage


def predict_logits(network: nn.Module, image: FloatImage, plan: Plan, *, device: str = "cpu") -> FloatImage:
    """Logits (classes, I, J, K), float32, of a prepared image (C, I, J, K). The network must be on `device`."""
    network.eval()
    runner = NetworkRunner(network, plan, device)
    how = Streaming(axis=2 if plan.dimensions == 2 else 0, batch=batch_size(plan))
    logits = np.empty((plan.classes, *image.shape[1:]), dtype=np.float32)
    for planes, slab in stream_logits(image, plan, [runner], how=how):
        np.moveaxis(logits, 1 + how.axis, 0)[planes] = np.moveaxis(slab, 1 + how.axis, 0)
    return logits


def paint(logits: FloatImage, plan: Plan) -> npt.NDArray[np.uint8]:
    """A label map (I, J, K) of logits (C, I, J, K): the largest one's class, or the number of the region that was
    painted last, from 1 in the plan's order."""
    if not plan.regions:
        return np.asarray(logits.argmax(0), dtype=np.uint8)
    painted = np.zeros(logits.shape[1:], dtype=np.uint8)
    for number, logit in enumerate(logits, start=1):
        painted[logit > 0] = number
    return painted


def dice_of_case(painted: npt.NDArray[np.uint8], target: npt.NDArray[np.uint8], plan: Plan) -> FloatImage:
    """(labels,) Dice of each structure on the prepared grid; NaN where it is absent from both.

    `painted`: of `paint`. Voxels whose target is `IGNORE` count nowhere. A region is what `predict` makes of it: the
    voxels that were painted with one of its values.
    """
    known = target != IGNORE
    if not known.all():
        painted, target = painted[known], target[known]
    if not plan.regions:
        return dice_per_label(painted, target, plan.classes)
    regions, parts = plan.regions, plan.parts
    held = np.array([[False, *(other.paints in region.values for other in regions)] for region in regions])
    drawn = np.array([[False, *(part in region.values for part in parts)] for region in regions])
    shape = (1 + len(regions), 1 + len(parts))
    pairs = np.bincount(painted.ravel().astype(np.int64) * shape[1] + target.ravel(), minlength=shape[0] * shape[1])
    counts = pairs.reshape(shape).astype(np.float64)
    hits = np.array([counts[np.ix_(*which)].sum() for which in zip(held, drawn, strict=True)])
    with np.errstate(invalid="ignore"):
        return np.asarray(2 * hits / (held @ counts.sum(1) + drawn @ counts.sum(0)), dtype=np.float32)


def dice_per_label(prediction: npt.NDArray[np.uint8], target: npt.NDArray[np.uint8], classes: int) -> FloatImage:
    """(classes - 1,) Dice of each structure on the prepared grid; NaN where a structure is absent from both."""
    pairs = np.bincount(prediction.ravel().astype(np.int64) * classes + target.ravel(), minlength=classes**2)
    counts = pairs.reshape(classes, classes).astype(np.float64)
    hits, sizes = np.diag(counts), counts.sum(0) + counts.sum(1)
    with np.errstate(invalid="ignore"):
        return np.asarray((2 * hits / sizes)[1:], dtype=np.float32)
