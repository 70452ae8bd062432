"""The scores that choose a checkpoint."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch

from delineate.errors import TrainingError
from delineate.inference import dice_per_label, predict_logits
from delineate.planning import Plan
from delineate.preprocessing import PreparedCase
from delineate.training.state import TrainingState, averaged_network


def validate(
    state: TrainingState, cases: Sequence[PreparedCase], plan: Plan, *, device: str = "cpu"
) -> tuple[float | None, ...]:
    """Mean Dice of each structure over cases, with the averaged weights and full sliding windows.

    A structure missed altogether counts as 0; one absent from reference and prediction is left out, as is one that
    the reference lacks if the plan says that this means unknown; None if no case has it.
    """
    network = averaged_network(state, plan, device=device)
    rows = []
    for case in cases:
        if case.target is None:
            raise TrainingError("a validation case has no reference", case=case.id)
        labels = predict_logits(network, case.image, plan, device=device).argmax(0).astype("uint8")
        dice = dice_per_label(labels, case.target, plan.classes)
        if plan.training.missing_labels == "unknown":
            dice[~np.isin(np.arange(1, plan.classes), case.target)] = np.nan
        rows.append(torch.from_numpy(dice))
    means = torch.stack(rows).nanmean(0).tolist()
    return tuple(None if math.isnan(mean) else mean for mean in means)
