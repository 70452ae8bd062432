"""Losses for regions, which overlap: a sigmoid each.

`members` (R, 256) says which values of a target each region consists of, see `region_members`. A region that was not
annotated in a case counts nowhere there; `annotated` is (B, R). `group`: the processes that have shares of the batch;
the loss is of all of it.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor
from torch.nn import functional

from delineate.groups import ALONE, Group
from delineate.losses.overlaps import mean_dice_loss, mean_of_counted
from delineate.planning import Plan, Region
from delineate.preprocessing import IGNORE


def region_members(plan: Plan, device: torch.device | str = "cpu") -> Tensor:
    """(R, 256) float32, 1 where a target's value is a part of a region of the plan. The same tensor for equal plans."""
    return _members(plan.regions, plan.parts, str(device))


@lru_cache(maxsize=8)
def _members(regions: tuple[Region, ...], parts: tuple[int, ...], device: str) -> Tensor:
    table = torch.zeros(len(regions), IGNORE + 1)
    for row, region in zip(table, regions, strict=True):
        row[[n for n, part in enumerate(parts, start=1) if part in region.values]] = 1
    return table.to(device)


def region_dice_loss(
    logits: Tensor, target: Tensor, *, members: Tensor, annotated: Tensor | None = None, group: Group = ALONE
) -> Tensor:
    """1 - mean soft Dice of the regions, of the whole batch; as `dice_loss`, of sigmoids."""
    return _dice(_compared(logits, target, members, annotated), group)


def region_dice_ce_loss(
    logits: Tensor, target: Tensor, *, members: Tensor, annotated: Tensor | None = None, group: Group = ALONE
) -> Tensor:
    """`region_dice_loss` plus the binary cross-entropy, mean over regions and the voxels that are not `IGNORE`."""
    compared = _compared(logits, target, members, annotated)
    return _dice(compared, group) + _cross_entropy(compared, group)


@dataclass(frozen=True, slots=True)
class _Compared:
    """`logits`, `reference` (B, R, N), float32; `known` (B, R), 1 or 0; `counted` (B, R, N), None if all voxels are."""

    logits: Tensor
    reference: Tensor
    known: Tensor
    counted: Tensor | None


def _compared(logits: Tensor, target: Tensor, members: Tensor, annotated: Tensor | None) -> _Compared:
    flat = target.flatten(1).long()
    logits = logits.flatten(2).to(torch.float32, memory_format=torch.contiguous_format)
    known = logits.new_ones(logits.shape[:2]) if annotated is None else annotated.to(logits.dtype)
    valid = flat != IGNORE
    counted = None
    if annotated is not None or not bool(valid.all()):
        counted = valid[:, None] * known[:, :, None]
    return _Compared(logits, members[:, flat].transpose(0, 1), known, counted)


def _sums(given: _Compared) -> tuple[Tensor, Tensor, Tensor]:
    probabilities, reference = given.logits.sigmoid(), given.reference
    if given.counted is not None:
        probabilities, reference = probabilities * given.counted, reference * given.counted
    return (probabilities * reference).sum(2), probabilities.sum(2), reference.sum(2)


def _dice(given: _Compared, group: Group) -> Tensor:
    overlap, predicted, expected = _sums(given)
    return mean_dice_loss(overlap, predicted + expected, given.known, whole_batch=True, group=group)


def _cross_entropy(given: _Compared, group: Group) -> Tensor:
    losses = functional.binary_cross_entropy_with_logits(given.logits, given.reference, reduction="none")
    return mean_of_counted(losses, given.counted, group)
