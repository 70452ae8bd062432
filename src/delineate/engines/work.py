"""How much there is to compute, without computing it."""

from __future__ import annotations

import copy

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from delineate.engines.runner import network_input
from delineate.planning import Plan

_PER_SECOND = {"cpu": 40e9, "cuda": 20e12, "mps": 2e12}
"""Operations of PyTorch's convolutions in float32, of one thread of a CPU or of a whole GPU: the order of magnitude."""

FORESEEN_WITHIN = 6.0
"""The factor by which a window may take longer than foreseen: networks with few features are far from that speed."""


@torch.no_grad()
def operations(network: nn.Module, plan: Plan) -> int:
    """Floating-point operations of a network on one window: multiplications and additions of its convolutions."""
    shadow = copy.deepcopy(network).eval().to("meta")
    with FlopCounterMode(display=False) as counter:
        shadow(torch.empty(network_input(plan), device="meta"))
    return int(counter.get_total_flops())


def foreseen_seconds(network: nn.Module, plan: Plan, *, device: str, threads: int) -> float:
    """About how long a window will take PyTorch in float32; see `FORESEEN_WITHIN`."""
    kind = torch.device(device).type
    speed = _PER_SECOND.get(kind, _PER_SECOND["cuda"])
    return operations(network, plan) / (speed * max(1, threads) if kind == "cpu" else speed)
