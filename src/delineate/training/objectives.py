"""What a run minimises: a function of the network and a batch. One more way to learn is one more objective."""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor, nn

from delineate.engines.torch_engine import DTYPES
from delineate.inference import run_network
from delineate.losses import LOSSES, deep_supervision_loss
from delineate.planning import Plan
from delineate.sampling import Batch


class Objective(Protocol):
    """A scalar of a batch, which lies on the network's device, in the plan's precision; its gradient is followed."""

    def __call__(self, network: nn.Module, batch: Batch, plan: Plan) -> Tensor: ...


def supervised(network: nn.Module, batch: Batch, plan: Plan) -> Tensor:
    """The plan's loss against the references."""
    dtype = DTYPES[plan.training.precision]
    with torch.autocast(batch.images.device.type, dtype, enabled=dtype is not torch.float32):
        outputs = run_network(network, batch.images, plan)
    loss = LOSSES[plan.training.loss]
    if isinstance(outputs, tuple):
        return deep_supervision_loss(loss, outputs, batch.targets, annotated=batch.annotated)
    return loss(outputs, batch.targets, annotated=batch.annotated)
