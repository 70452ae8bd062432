"""What a run minimises: a function of the network and a batch. One more way to learn is one more objective."""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor, nn

from delineate.engines.torch_engine import DTYPES
from delineate.inference import run_network
from delineate.losses import deep_supervision_loss, loss_of
from delineate.planning import Plan
from delineate.sampling import Batch


class Objective(Protocol):
    """A scalar of a batch, which lies on the network's device, in the plan's precision; its gradient is followed.

    Of a batch that processes share (`batch.group`) it is the scalar of all of it, the same in each of them.
    """

    def __call__(self, network: nn.Module, batch: Batch, plan: Plan) -> Tensor: ...


def supervised(network: nn.Module, batch: Batch, plan: Plan) -> Tensor:
    """The plan's loss against the references."""
    return reference_loss(outputs_of(network, batch.images, plan), batch, plan)


def outputs_of(network: nn.Module, images: Tensor, plan: Plan) -> Tensor | tuple[Tensor, ...]:
    """What the network says of images (B, C, I, J, K), computed in the plan's precision."""
    dtype = DTYPES[plan.training.precision]
    with torch.autocast(images.device.type, dtype, enabled=dtype is not torch.float32):
        return run_network(network, images, plan)


def reference_loss(outputs: Tensor | tuple[Tensor, ...], batch: Batch, plan: Plan) -> Tensor:
    """The plan's loss of a network's outputs, of one resolution or several, against the batch's references."""
    loss = loss_of(plan, batch.targets.device, batch.group)
    if isinstance(outputs, tuple):
        return deep_supervision_loss(loss, outputs, batch.targets, annotated=batch.annotated)
    return loss(outputs, batch.targets, annotated=batch.annotated)
