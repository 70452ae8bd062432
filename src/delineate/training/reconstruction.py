"""Learning from scans that nobody has drawn on: the network says what is behind blocks that were hidden from it.

Masked autoencoders (He et al. 2022) on a U-Net: the whole network learns, its decoder too, and hidden voxels are filled
in rather than left out, as in Models Genesis (Zhou et al. 2019).
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import msgspec
import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn import functional

from delineate.geometry import Triple, TripleMM
from delineate.groups import ALONE, Group
from delineate.planning import Plan, PretrainingPlan
from delineate.sampling import Batch, TrainingCase, make_batch
from delineate.training.objectives import outputs_of

BLOCKS = 8  # along an average edge of the patch, as 16^3 voxels are in one of 128^3
_SMALLEST = 2  # voxels of a block's edge; a single hidden voxel is the mean of those beside it
_MASKS = 0x6D61736B  # apart from what else is drawn from the plan's seed
_CLEAN = ("noise", "blur", "brightness", "contrast", "gamma", "low_resolution")


def reconstruction_plan(plan: Plan, *, masked_fraction: float = 0.6, block: Triple | None = None) -> Plan:
    """A plan of masked reconstruction with the network, the patches and the preparation of another.

    Intensities are not augmented, for they are what is to be found; `block`: in voxels, None for `choose_block`.
    """
    chosen = block or choose_block(plan.patch_size, plan.spacing_mm)
    changes = {f"{name}_probability": 0.0 for name in _CLEAN}
    return msgspec.structs.replace(
        plan,
        labels=(),
        regions=(),
        previous=(),
        pretraining=PretrainingPlan(block=chosen, masked_fraction=masked_fraction),
        training=msgspec.structs.replace(
            plan.training, positive_fraction=0.0, missing_labels="absent", transfer=None, distillation=None
        ),
        augmentation=msgspec.structs.replace(plan.augmentation, **changes),
        reasons=(
            *plan.reasons,
            f"{100 * masked_fraction:.0f} % of the blocks of {chosen[0]} x {chosen[1]} x {chosen[2]} voxels are hidden",
        ),
    )


def choose_block(patch: Triple, spacing_mm: TripleMM) -> Triple:
    """The size of a hidden block in voxels, about as long in mm along every axis: an eighth of the patch's edge.

    One voxel along an axis in which the patch has one.
    """
    edges = [n * mm for n, mm in zip(patch, spacing_mm, strict=True) if n > 1]
    edge_mm = math.prod(edges) ** (1 / max(1, len(edges))) / BLOCKS
    i, j, k = (
        1 if n == 1 else min(n, max(_SMALLEST, round(edge_mm / mm))) for n, mm in zip(patch, spacing_mm, strict=True)
    )
    return i, j, k


def draw_mask(plan: PretrainingPlan, patch: Triple, *, seed: int, number: int) -> npt.NDArray[np.bool_]:
    """Which voxels (I, J, K) of patch `number` of a run are hidden; a function of seed and number alone.

    The blocks' borders lie elsewhere in each patch, and every block reaches into it. At least one is hidden, and at
    least one is not, unless there is only one.
    """
    rng = np.random.default_rng((seed, _MASKS, number))
    shift = [int(rng.integers(size)) for size in plan.block]
    cells = [-(-(n + s) // size) for n, s, size in zip(patch, shift, plan.block, strict=True)]
    count = math.prod(cells)
    hidden = min(max(1, round(plan.masked_fraction * count)), max(1, count - 1))
    mask = np.zeros(count, dtype=np.bool_)
    mask[rng.permutation(count)[:hidden]] = True
    mask = mask.reshape(cells)
    for axis, size in enumerate(plan.block):
        mask = np.repeat(mask, size, axis=axis)
    i, j, k = (slice(s, s + n) for s, n in zip(shift, patch, strict=True))
    return mask[i, j, k]


def reconstruction(network: nn.Module, batch: Batch, plan: Plan) -> Tensor:
    """Mean squared error of the intensities behind hidden blocks, of normalised images: an `Objective`."""
    masks = _masks(batch, plan)
    outputs = outputs_of(network, hide(batch.images, masks), plan)
    return masked_error(outputs, batch.images, masks, group=batch.group)


def _masks(batch: Batch, plan: Plan) -> Tensor:
    assert plan.pretraining is not None
    masks = [
        draw_mask(plan.pretraining, plan.patch_size, seed=plan.training.seed, number=batch.first_number + n)
        for n in range(len(batch.images))
    ]
    return torch.from_numpy(np.stack(masks)).to(batch.images.device, non_blocking=True)


def hide(images: Tensor, masks: Tensor) -> Tensor:
    """Images (B, C, I, J, K) with each channel's mean over what is seen where `masks` (B, I, J, K) hide it."""
    seen = ~masks[:, None]
    axes = (2, 3, 4)
    means = (images * seen).sum(axes, keepdim=True) / seen.sum(axes, keepdim=True).clamp(min=1)
    return torch.where(seen, images, means)


def masked_error(outputs: Tensor | Sequence[Tensor], images: Tensor, masks: Tensor, *, group: Group = ALONE) -> Tensor:
    """Mean squared error over hidden voxels, all channels alike; of several resolutions weighted 1, 1/2, 1/4, ...

    `outputs`: (B, C, ...), the highest resolution first, whose sizes divide the images'. At a lower resolution a voxel
    is as much hidden as the voxels it is the mean of. `group`: the mean over the voxels of all its processes.
    """
    levels = (outputs,) if isinstance(outputs, Tensor) else tuple(outputs)
    hidden = masks[:, None].to(images.dtype)
    errors = []
    for level in levels:
        target, share = _shrunk(images, level), _shrunk(hidden, level)
        squares = (level.float() - target).square() * share
        total, count = squares.sum(), share.sum() * images.shape[1]
        if group.size > 1:
            total, count = group.sum(torch.stack((total, count))).unbind()
        errors.append(total / count.clamp(min=1e-6))
    weights = [0.5**n for n in range(len(levels))]
    parts = [weight / sum(weights) * error for weight, error in zip(weights, errors, strict=True)]
    return torch.stack(parts).sum()


def _shrunk(volumes: Tensor, like: Tensor) -> Tensor:
    """Volumes (B, C, I, J, K) averaged over blocks to the size of another."""
    i, j, k = like.shape[2:]
    return volumes if volumes.shape[2:] == like.shape[2:] else functional.adaptive_avg_pool3d(volumes, (i, j, k))


def unexplained_share(
    network: nn.Module, cases: Sequence[TrainingCase], plan: Plan, *, patches: int = 2, device: str = "cpu"
) -> float:
    """What of the hidden intensities' variance the network does not know: 0 is perfect, 1 as good as saying the mean.

    Of `patches` patches of each case, which are the same at every call, not augmented; NaN for no case.
    """
    if not cases:
        return math.nan
    still = msgspec.structs.replace(plan.augmentation, spatial_probability=0.0, elastic_probability=0.0, flip_axes=())
    plan = msgspec.structs.replace(plan, augmentation=still)
    wrong = total = 0.0
    batches = -(-patches * len(cases) // plan.training.batch_size)
    network.eval()
    with torch.no_grad():
        for step in range(batches):
            batch = make_batch(cases, plan, step).to(device)
            masks = _masks(batch, plan)
            seen = hide(batch.images, masks)
            output = outputs_of(network, seen, plan)
            assert isinstance(output, Tensor)
            hidden = masks[:, None]
            wrong += float(((output.float() - batch.images).square() * hidden).sum())
            total += float(((seen - batch.images).square() * hidden).sum())
    return wrong / total if total else math.nan
