"""What a training step takes of the memory, known before it is taken."""

from __future__ import annotations

import math
from dataclasses import dataclass

from delineate.planning.plan import Plan
from delineate.planning.work import convolutions_of, parameter_count

_WEIGHT_BYTES = 20  # a weight, its gradient, the optimiser's two memories, its average: float32 whatever the precision
_LOSS_TENSORS = 4  # of the size of the logits, in float32: probabilities and logarithms, not all at the same time
_FIXED_BYTES = 15_000_000


@dataclass(frozen=True, slots=True)
class _Kept:
    """Tensors held at the worst moment, when the backward pass begins.

    `each`: of the size of every convolution's output, for the backward pass. `top`: of the size of the highest level's
    features, what the first backward steps need beside.
    """

    each: float
    top: float


_KEPT = {
    "nnunet": _Kept(2.0, 9.1),
    "nnunet_res": _Kept(2.0, 13.0),
    "unet": _Kept(2.0, 12.0),
    "residual_unet": _Kept(3.0, 1.0),
    "vnet": _Kept(3.0, 9.5),
}


def training_bytes(plan: Plan) -> int:
    """Estimated peak memory of one training step, beside what the process holds before.

    Measured on CPUs for each architecture, see `benchmarks/training_memory.py`; other architectures count as nnU-Net's.
    """
    size = 4 if plan.training.precision == "float32" else 2
    kept = _KEPT.get(plan.network.architecture, _KEPT["nnunet"])
    voxels = math.prod(plan.patch_size)
    values = kept.each * sum(c.voxels * c.outputs for c in convolutions_of(plan))
    values += kept.top * voxels * plan.network.features[0]
    loss = 4 * _LOSS_TENSORS * plan.classes * voxels
    return int(plan.training.batch_size * (size * values + loss) + _WEIGHT_BYTES * parameter_count(plan) + _FIXED_BYTES)
