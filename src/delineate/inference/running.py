"""A network in torch as training and validation run it: on its device, in the layout it is fastest in."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from delineate.engines import EngineChoice
from delineate.engines.torch_engine import DTYPES
from delineate.planning import Plan


def place(network: nn.Module, device: str) -> nn.Module:
    """The network on a device, in the memory layout its convolutions are fastest in."""
    placed = network.to(device)
    if any(parameter.ndim == 5 for parameter in placed.parameters()):
        return placed.to(memory_format=torch.channels_last_3d)  # type: ignore[call-overload, no-any-return]
    return placed.to(memory_format=torch.channels_last)  # type: ignore[call-overload, no-any-return]


def run_network(network: nn.Module, images: Tensor, plan: Plan) -> Tensor | tuple[Tensor, ...]:
    """Outputs (B, classes, I, J, K) of images (B, C, I, J, K); a 2D network sees the one slice without its axis K."""
    if plan.dimensions == 3:
        outputs: Tensor | tuple[Tensor, ...] = network(images.contiguous(memory_format=torch.channels_last_3d))
        return outputs
    flat = network(images.squeeze(-1).contiguous(memory_format=torch.channels_last))
    return tuple(out.unsqueeze(-1) for out in flat) if isinstance(flat, tuple) else flat.unsqueeze(-1)


@dataclass(frozen=True, slots=True, eq=False)
class NetworkRunner:
    """A network that is being trained, as a `Runner`: on its device, in the precision it is trained in."""

    network: nn.Module
    plan: Plan
    device: str = "cpu"

    @property
    def choice(self) -> EngineChoice:
        return EngineChoice("torch", self.plan.training.precision, self.device)

    def __call__(self, windows: Tensor) -> Tensor:
        dtype = DTYPES[self.plan.training.precision]
        with torch.autocast(windows.device.type, dtype, enabled=dtype is not torch.float32):
            logits = run_network(self.network, windows, self.plan)
        assert isinstance(logits, Tensor)
        return logits.float()
