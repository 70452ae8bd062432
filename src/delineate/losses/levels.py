"""A loss over several resolutions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import torch
from torch import Tensor


class Loss(Protocol):
    """Logits and target to a scalar of at least 0."""

    def __call__(self, logits: Tensor, target: Tensor, *, annotated: Tensor | None = None) -> Tensor: ...


def deep_supervision_loss(
    loss: Loss, outputs: Tensor | Sequence[Tensor], target: Tensor, *, annotated: Tensor | None = None
) -> Tensor:
    """`loss` of every resolution, weighted 1, 1/2, 1/4, ... and divided by the weights' sum; one tensor counts alone.

    `outputs`: logits, highest resolution first. `target` is brought to each one's size by nearest neighbour.
    """
    levels = (outputs,) if isinstance(outputs, Tensor) else outputs
    weights = [0.5**n for n in range(len(levels))]
    losses = [
        weight / sum(weights) * loss(logits, shrink_target(target, logits.shape[2:]), annotated=annotated)
        for weight, logits in zip(weights, levels, strict=True)
    ]
    return torch.stack(losses).sum()


def shrink_target(target: Tensor, size: Sequence[int]) -> Tensor:
    """A label map (B, ...) at a lower resolution `size`, a view: every n-th voxel, from the middle of its block.

    Raises `ValueError` if `size` does not divide the target's.
    """
    if any(full % small for full, small in zip(target.shape[1:], size, strict=True)):
        raise ValueError(f"a target of {tuple(target.shape[1:])} cannot be shrunk to {tuple(size)}")
    factors = [full // small for full, small in zip(target.shape[1:], size, strict=True)]
    return target[(slice(None), *(slice(factor // 2, None, factor) for factor in factors))]
