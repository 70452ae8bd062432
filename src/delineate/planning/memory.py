"""What a training step takes of the memory, known before it is taken."""

from __future__ import annotations

import math

from delineate.planning.plan import Plan


def training_bytes(plan: Plan) -> int:
    """Estimated peak memory of one training step, from the activations kept for the backward pass.

    Each convolution keeps its input and its normalised output; a decoder level holds the joined skip too.
    """
    size = 4 if plan.training.precision == "float32" else 2
    voxels, kept, weights = float(math.prod(plan.patch_size)), 0.0, 0.0
    levels = zip(plan.network.features, plan.network.strides, plan.network.kernels, strict=True)
    before = plan.inputs
    for features, stride, kernel in levels:
        voxels /= math.prod(stride)
        kept += 14 * features * voxels * size
        weights += math.prod(kernel) * features * (before + 5 * features)
        before = features
    heads = 6 * 4 * plan.classes * math.prod(plan.patch_size)
    return int(plan.training.batch_size * (kept + heads) + 20 * weights + 3e8)
