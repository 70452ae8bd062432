"""What losses have in common: overlaps of probabilities with a reference, from their sums.

Sums are (B, S): of each case and structure. `known` (B, S) is 1 where a case says something about a structure, else 0.
`whole_batch`: one overlap of all cases together, else the mean over cases. No structure at all gives 0. `group`: the
processes that have shares of the batch, each with its own sums; the loss is of all of them.
"""

from __future__ import annotations

import torch
from torch import Tensor

from delineate.groups import ALONE, Group

_SMOOTH = 1e-5


def mean_dice_loss(overlap: Tensor, both: Tensor, known: Tensor, *, whole_batch: bool, group: Group = ALONE) -> Tensor:
    """1 - mean soft Dice: 2 `overlap` / `both`, what was predicted and what was expected together."""
    if whole_batch:
        (overlap, both), known = _pooled((overlap, both), known, group)
    return _mean_loss((2 * overlap + _SMOOTH) / (both + _SMOOTH), known, ALONE if whole_batch else group)


def mean_of_counted(values: Tensor, counted: Tensor | None, group: Group = ALONE) -> Tensor:
    """The mean of `values` where `counted`, of a shape that it can be spread to, is not 0; of all if it is None.

    0 if none is. `group`: the mean of the values of all its processes.
    """
    if group.size == 1:
        if counted is None:
            return values.mean()
        return (values * counted).sum() / counted.sum().clamp(min=1)
    if counted is None:
        total, count = values.sum(), values.new_tensor(float(values.numel()))
    else:
        total, count = (values * counted).sum(), counted.sum().to(values.dtype)
    total, count = group.sum(torch.stack((total, count))).unbind()
    return total / count.clamp(min=1)


def _pooled(sums: tuple[Tensor, ...], known: Tensor, group: Group) -> tuple[tuple[Tensor, ...], Tensor]:
    pooled, anywhere = tuple((one * known).sum(0) for one in sums), known.amax(0)
    if group.size == 1:
        return pooled, anywhere
    *pooled_of_all, anywhere = group.sum(torch.stack((*pooled, anywhere))).unbind()
    return tuple(pooled_of_all), anywhere.clamp(max=1)


def _mean_loss(index: Tensor, known: Tensor, group: Group) -> Tensor:
    loss, count = ((1 - index) * known).sum(), known.sum()
    if group.size > 1:
        loss, count = group.sum(torch.stack((loss, count))).unbind()
    return loss / count.clamp(min=1)
