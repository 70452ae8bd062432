"""Losses on logits: overlap and cross-entropy, for classes (softmax) and for regions (sigmoids), on several levels.

Shapes: logits (B, C, ...), of any floating type; target (B, ...) of integers: 0 is background, then the structures (of
regions their parts), or `IGNORE` where the reference says nothing. Everything is computed in float32, also under
autocast. What was not annotated in a case may be named: `annotated` (B, C) is False for it.
"""

from __future__ import annotations

from functools import partial
from typing import Protocol

import torch
from torch import Tensor

from delineate.groups import ALONE, Group
from delineate.losses.classes import dice_ce_loss, dice_loss
from delineate.losses.levels import Loss, deep_supervision_loss, shrink_target
from delineate.losses.regions import region_dice_ce_loss, region_dice_loss, region_members
from delineate.planning import Plan
from delineate.preprocessing import IGNORE


class RegionLoss(Protocol):
    """As `Loss`, of regions; `members` as `region_members` gives them."""

    def __call__(
        self, logits: Tensor, target: Tensor, *, members: Tensor, annotated: Tensor | None = None, group: Group = ALONE
    ) -> Tensor: ...


class ClassLoss(Protocol):
    """As `Loss`, of classes; `group`: the processes that have shares of the batch."""

    def __call__(
        self, logits: Tensor, target: Tensor, *, annotated: Tensor | None = None, group: Group = ALONE
    ) -> Tensor: ...


LOSSES: dict[str, ClassLoss] = {
    "dice": dice_loss,
    "dice_ce": dice_ce_loss,
}
REGION_LOSSES: dict[str, RegionLoss] = {
    "dice": region_dice_loss,
    "dice_ce": region_dice_ce_loss,
}


def loss_of(plan: Plan, device: torch.device | str = "cpu", group: Group = ALONE) -> Loss:
    """The plan's loss, on logits that lie on a device; `group`: the processes that have shares of the batch."""
    if not plan.regions:
        loss = LOSSES[plan.training.loss]
        return loss if group.size == 1 else partial(loss, group=group)
    return partial(REGION_LOSSES[plan.training.loss], members=region_members(plan, device), group=group)


__all__ = [
    "IGNORE",
    "LOSSES",
    "REGION_LOSSES",
    "ClassLoss",
    "Loss",
    "RegionLoss",
    "deep_supervision_loss",
    "dice_ce_loss",
    "dice_loss",
    "loss_of",
    "region_dice_ce_loss",
    "region_dice_loss",
    "region_members",
    "shrink_target",
]
