"""Losses on logits, for label maps: soft Dice and cross-entropy, and their sum over several resolutions.

Shapes: logits (B, C, ...), of any floating type; target (B, ...) of integers from 0 (background) to C - 1, or `IGNORE`
where the reference says nothing. Everything is computed in float32, also under autocast. Classes that were not
annotated in a case may be named: `annotated` (B, C) is False for them. Such a class has no Dice in that case, and its
probability counts as background's (marginal loss, Shi et al. 2021).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from delineate.preprocessing import IGNORE

__all__ = ["IGNORE", "LOSSES", "Loss", "deep_supervision_loss", "dice_ce_loss", "dice_loss", "shrink_target"]

_SMOOTH = 1e-5


class Loss(Protocol):
    """Logits and target to a scalar of at least 0."""

    def __call__(self, logits: Tensor, target: Tensor, *, annotated: Tensor | None = None) -> Tensor: ...


def dice_loss(logits: Tensor, target: Tensor, *, annotated: Tensor | None = None, batch_dice: bool = True) -> Tensor:
    """1 - mean soft Dice of the classes without background: 0 is perfect, 1 the worst.

    Dice is 2 sum(p r) / (sum(p) + sum(r)) (Drozdzal et al. 2016, as in nnU-Net): of the whole batch, or a case at a
    time if not `batch_dice`. A class that neither reference nor prediction has counts as 1; no class at all gives 0.
    """
    likelihoods = _likelihoods(logits, target, annotated)
    return _dice(likelihoods, annotated, batch_dice=batch_dice)


def dice_ce_loss(logits: Tensor, target: Tensor, *, annotated: Tensor | None = None, batch_dice: bool = True) -> Tensor:
    """`dice_loss` plus the mean cross-entropy of the voxels that are not `IGNORE` (0 if there are none)."""
    likelihoods = _likelihoods(logits, target, annotated)
    return _dice(likelihoods, annotated, batch_dice=batch_dice) + _cross_entropy(likelihoods)


LOSSES: dict[str, Loss] = {"dice": dice_loss, "dice_ce": dice_ce_loss}


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


@dataclass(frozen=True, slots=True)
class _Likelihoods:
    """Of all classes, `log_probabilities` (B, C, N); of the target's class, `log_likelihood` (B, N); float32.

    `target` (B, N) is int64; `valid` (B, N) is None if all voxels are.
    """

    log_probabilities: Tensor
    log_likelihood: Tensor
    target: Tensor
    valid: Tensor | None


def _likelihoods(logits: Tensor, target: Tensor, annotated: Tensor | None) -> _Likelihoods:
    flat = target.flatten(1).long()
    ignored = flat == IGNORE
    valid = ~ignored if bool(ignored.any()) else None
    flat = flat if valid is None else flat.masked_fill(ignored, 0)
    logs = logits.flatten(2).to(torch.float32, memory_format=torch.contiguous_format).log_softmax(dim=1)
    if annotated is not None:
        logs, flat = _merge_unannotated(logs, flat, annotated)
    return _Likelihoods(logs, logs.gather(1, flat[:, None]).squeeze(1), flat, valid)


def _merge_unannotated(logs: Tensor, target: Tensor, annotated: Tensor) -> tuple[Tensor, Tensor]:
    known = torch.cat((torch.ones_like(annotated[:, :1]), annotated[:, 1:]), dim=1)
    background = torch.cat((logs[:, :1], logs[:, 1:].masked_fill(known[:, 1:, None], -torch.inf)), dim=1)
    merged = torch.cat((background.logsumexp(dim=1, keepdim=True), logs[:, 1:]), dim=1)
    return merged, target * known.gather(1, target)


def _dice(given: _Likelihoods, annotated: Tensor | None, *, batch_dice: bool) -> Tensor:
    probabilities = given.log_probabilities.exp()
    if given.valid is not None:
        probabilities = probabilities * given.valid[:, None]
    # Scattering by class needs no one-hot reference, which would be as large as the probabilities.
    hits = given.log_likelihood.exp()
    nothing = hits.new_zeros(probabilities.shape[:2])
    counted = torch.ones_like(hits) if given.valid is None else given.valid.to(hits.dtype)
    overlap = nothing.scatter_add(1, given.target, hits * counted)
    both = probabilities.sum(dim=2) + nothing.scatter_add(1, given.target, counted)
    known = torch.ones_like(nothing) if annotated is None else annotated.to(nothing.dtype)
    overlap, both, known = overlap[:, 1:], both[:, 1:], known[:, 1:]
    if batch_dice:
        overlap, both = (overlap * known).sum(0), (both * known).sum(0)
        known = known.amax(0)
    dice = (2 * overlap + _SMOOTH) / (both + _SMOOTH)
    return ((1 - dice) * known).sum() / known.sum().clamp(min=1)


def _cross_entropy(given: _Likelihoods) -> Tensor:
    if given.valid is None:
        return -given.log_likelihood.mean()
    return -(given.log_likelihood * given.valid).sum() / given.valid.sum().clamp(min=1)
