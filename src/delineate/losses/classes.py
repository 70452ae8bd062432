"""Losses for classes of which each voxel has one: a softmax over background and structures.

Classes that were not annotated in a case have no Dice there, and their probability counts as background's (marginal
loss, Shi et al. 2021). `group`: the processes that have shares of the batch; the loss is of all of it.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from delineate.groups import ALONE, Group
from delineate.losses.overlaps import mean_dice_loss, mean_of_counted
from delineate.preprocessing import IGNORE


def dice_loss(
    logits: Tensor, target: Tensor, *, annotated: Tensor | None = None, batch_dice: bool = True, group: Group = ALONE
) -> Tensor:
    """1 - mean soft Dice of the classes without background: 0 is perfect, 1 the worst.

    Dice is 2 sum(p r) / (sum(p) + sum(r)) (Drozdzal et al. 2016, as in nnU-Net): of the whole batch, or a case at a
    time if not `batch_dice`. A class that neither reference nor prediction has counts as 1; no class at all gives 0.
    """
    likelihoods = _likelihoods(logits, target, annotated)
    return _dice(likelihoods, annotated, batch_dice=batch_dice, group=group)


def dice_ce_loss(
    logits: Tensor, target: Tensor, *, annotated: Tensor | None = None, batch_dice: bool = True, group: Group = ALONE
) -> Tensor:
    """`dice_loss` plus the mean cross-entropy of the voxels that are not `IGNORE` (0 if there are none)."""
    likelihoods = _likelihoods(logits, target, annotated)
    return _dice(likelihoods, annotated, batch_dice=batch_dice, group=group) + _cross_entropy(likelihoods, group)


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


def _dice(given: _Likelihoods, annotated: Tensor | None, *, batch_dice: bool, group: Group) -> Tensor:
    overlap, predicted, expected = _sums(given)
    known = _known(overlap, annotated)
    return mean_dice_loss(overlap, predicted + expected, known, whole_batch=batch_dice, group=group)


def _sums(given: _Likelihoods) -> tuple[Tensor, Tensor, Tensor]:
    """Of each structure (B, C - 1): the probability where it is, its probability everywhere, and its voxels."""
    probabilities = given.log_probabilities.exp()
    if given.valid is not None:
        probabilities = probabilities * given.valid[:, None]
    # Scattering by class needs no one-hot reference, which would be as large as the probabilities.
    hits = given.log_likelihood.exp()
    nothing = hits.new_zeros(probabilities.shape[:2])
    counted = torch.ones_like(hits) if given.valid is None else given.valid.to(hits.dtype)
    overlap = nothing.scatter_add(1, given.target, hits * counted)
    expected = nothing.scatter_add(1, given.target, counted)
    return overlap[:, 1:], probabilities.sum(dim=2)[:, 1:], expected[:, 1:]


def _known(overlap: Tensor, annotated: Tensor | None) -> Tensor:
    return torch.ones_like(overlap) if annotated is None else annotated[:, 1:].to(overlap.dtype)


def _cross_entropy(given: _Likelihoods, group: Group) -> Tensor:
    return -mean_of_counted(given.log_likelihood, given.valid, group)
