"""The coarse start of a run: at first patches are sampled more coarsely, and more of them make a step."""

from __future__ import annotations

import math

import msgspec

from delineate.geometry import Triple
from delineate.planning.plan import Plan

COARSE_SHARE = 0.5  # of runs whose time is given
_LEAST_SHRINKING = 1.5  # of a patch's voxels, or it is not worth it
_LEAST_LOWEST = 8  # voxels at the network's lowest level, whose statistics are taken over them
_SPARE = 1.05  # of a step's voxels that the coarser patches may have more


def coarse_start(plan: Plan) -> Plan | None:
    """The plan by which a run begins, with smaller patches of about the same extent and more of them; None if it begins
    as it ends.

    The network is the same, and a step costs the same. Across thick slices, and across those of a network in two
    dimensions, nothing is coarser. Weights that know a grid already, and those that learn from another network's
    outputs, from hidden blocks or from prompts, begin as they end.
    """
    how = plan.training
    special = (how.transfer, how.distillation, plan.pretraining, plan.prompting)
    if how.coarse_share == 0 or any(one is not None for one in special):
        return None
    factors = tuple(how.coarse_factor if axis in _free_axes(plan) else 1.0 for axis in range(3))
    patch = _coarser(plan, factors)
    fewer = math.prod(plan.patch_size) / math.prod(patch)
    lowest = math.prod(patch) / math.prod(math.prod(stride) for stride in plan.network.strides)
    if fewer < _LEAST_SHRINKING or lowest < _LEAST_LOWEST:
        return None
    return msgspec.structs.replace(
        plan,
        patch_size=patch,
        training=msgspec.structs.replace(how, batch_size=how.batch_size * int(_SPARE * fewer)),
        augmentation=msgspec.structs.replace(plan.augmentation, coarser=factors),
    )


def _free_axes(plan: Plan) -> set[int]:
    return {axis for axis in range(plan.dimensions) if axis != plan.augmentation.slice_axis}


def _coarser(plan: Plan, factors: tuple[float, ...]) -> Triple:
    """The patch in coarser voxels, to the closest multiple of the strides' product."""
    sizes = list(plan.patch_size)
    for axis in _free_axes(plan):
        step = math.prod(stride[axis] for stride in plan.network.strides)
        sizes[axis] = min(sizes[axis], max(1, round(sizes[axis] / factors[axis] / step)) * step)
    return sizes[0], sizes[1], sizes[2]
