"""The scores that choose a checkpoint."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from delineate.errors import TrainingError
from delineate.inference import dice_of_case, paint, predict_logits
from delineate.planning import Plan
from delineate.preprocessing import PreparedCase
from delineate.training.state import TrainingState, averaged_network
from delineate.training.together import gathered_rows


def validate(
    state: TrainingState, cases: Sequence[PreparedCase], plan: Plan, *, device: str = "cpu"
) -> tuple[float | None, ...]:
    """Mean Dice of each structure over cases, with the averaged weights and full sliding windows; see `case_dice`.

    None if no case has the structure. The processes of a group have a share of the cases each, and all get the means.
    """
    network = averaged_network(state, plan, device=device)
    numbers = range(state.group.rank, len(cases), state.group.size)
    own = case_dice(network, [cases[n] for n in numbers], plan, device=device)
    rows = gathered_rows(torch.from_numpy(own), numbers, len(cases), state.group)
    means = rows.nanmean(0).tolist()
    return tuple(None if math.isnan(mean) else mean for mean in means)


def case_dice(
    network: nn.Module, cases: Sequence[PreparedCase], plan: Plan, *, device: str = "cpu"
) -> npt.NDArray[np.float32]:
    """(cases, labels) Dice of each structure in each case, on the prepared grid; (0, labels) for no cases.

    A structure missed altogether counts as 0; NaN for one absent from reference and prediction, and for one that the
    reference lacks if the plan says that this means unknown. Of several readers' targets the mean: how well a network
    that learns from all of them agrees with any one. The network must be on `device`. Raises `TrainingError` for a case
    without a reference.
    """
    rows = np.empty((len(cases), len(plan.labels)), dtype=np.float32)
    for row, case in zip(rows, cases, strict=True):
        if case.target is None:
            raise TrainingError("a validation case has no reference", case=case.id)
        painted = paint(predict_logits(network, case.image, plan, device=device), plan)
        row[:] = _mean_known([_target_dice(painted, target, plan) for target in (case.target, *case.others)])
    return rows


def _target_dice(painted: npt.NDArray[np.uint8], target: npt.NDArray[np.uint8], plan: Plan) -> npt.NDArray[np.float32]:
    dice = dice_of_case(painted, target, plan)
    if plan.training.missing_labels == "unknown":
        dice[~np.array(plan.drawn(set(np.unique(target).tolist())))[-len(dice) :]] = np.nan
    return dice


def _mean_known(rows: Sequence[npt.NDArray[np.float32]]) -> npt.NDArray[np.float32]:
    """The mean of the values that are not NaN, NaN where there are none."""
    known = np.isfinite(rows)
    with np.errstate(invalid="ignore"):
        return np.asarray(np.nansum(rows, axis=0) / known.sum(axis=0), dtype=np.float32)
