"""The optimisers of a plan."""

from __future__ import annotations

import torch
from torch import nn

from delineate.planning import TrainingPlan
from delineate.training.freezing import parameter_groups


def make_optimiser(network: nn.Module, plan: TrainingPlan) -> torch.optim.Optimizer:
    """The plan's optimiser; biases and norms, vectors all, are not decayed."""
    groups = list(parameter_groups(network, plan))
    if plan.optimiser == "sgd":
        fused = all(p.is_cuda for p in network.parameters())
        return torch.optim.SGD(groups, lr=plan.learning_rate, momentum=plan.momentum, nesterov=True, fused=fused)
    kind = torch.optim.AdamW if plan.optimiser == "adamw" else torch.optim.Adam
    return kind(groups, lr=plan.learning_rate, fused=True)
