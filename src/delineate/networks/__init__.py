"""Networks: (B, C, I, J, K) image to (B, classes, I, J, K) logits; 2D where the plan's strides have two numbers.

Every network gives one tensor when it evaluates. In training with `deep_supervision` it gives a tuple of logits,
highest resolution first (of one, where the architecture has no lower outputs); without, one tensor.
One more architecture is one more file and one more line in `ARCHITECTURES`.
"""

from __future__ import annotations

from collections.abc import Callable

from torch import nn

from delineate.errors import PlanError
from delineate.networks.nnunet import build_nnunet, build_nnunet_res
from delineate.networks.residual_unet import build_residual_unet
from delineate.networks.unet import build_unet
from delineate.networks.vnet import build_vnet
from delineate.planning import NetworkPlan

ARCHITECTURES: dict[str, Callable[[NetworkPlan, int, int], nn.Module]] = {
    "unet": build_unet,
    "residual_unet": build_residual_unet,
    "nnunet": build_nnunet,
    "nnunet_res": build_nnunet_res,
    "vnet": build_vnet,
}

_FREE = ("unet", "nnunet", "nnunet_res")  # whose activation and decoder a plan may choose

__all__ = ["ARCHITECTURES", "build_network"]


def build_network(plan: NetworkPlan, *, in_channels: int, out_channels: int) -> nn.Module:
    """The plan's network with fresh weights, drawn from torch's random generator. `out_channels` counts background.

    Raises `PlanError` for an unknown architecture and for levels that do not fit together.
    """
    if plan.architecture not in ARCHITECTURES:
        raise PlanError("unknown architecture", expected=f"one of {', '.join(ARCHITECTURES)}", got=plan.architecture)
    check_levels(plan)
    return ARCHITECTURES[plan.architecture](plan, in_channels, out_channels)


def check_levels(plan: NetworkPlan) -> None:
    """Raises `PlanError` unless every level has features, a stride and a kernel that a U-Net can be built of."""
    levels = len(plan.features)
    counts = {"features": levels, "strides": len(plan.strides), "kernels": len(plan.kernels)}
    if plan.convolutions:
        counts["convolutions"] = len(plan.convolutions)
    if plan.decoder_convolutions:
        counts["decoder_convolutions"] = len(plan.decoder_convolutions) + 1
    if levels < 2 or set(counts.values()) != {levels}:
        raise PlanError("a network needs one entry a level", expected="as many of each, two levels or more", got=counts)
    axes = {len(size) for size in (*plan.strides, *plan.kernels)}
    if axes not in ({2}, {3}):
        raise PlanError("strides and kernels must all be 2D or all be 3D", got=f"{sorted(axes)} numbers a level")
    if max(plan.strides[0]) != 1:
        raise PlanError("the first level keeps the resolution", expected="a first stride of ones", got=plan.strides[0])
    if any(size % 2 == 0 or size < 1 for kernel in plan.kernels for size in kernel):
        raise PlanError("kernels must be odd and positive", got=plan.kernels)
    if min(plan.features + plan.convolutions + plan.decoder_convolutions + sum(plan.strides, ())) < 1:
        raise PlanError("features, strides and convolutions must be positive", got=plan)
    if plan.architecture not in _FREE and (plan.decoder_convolutions or plan.slope is not None):
        raise PlanError(f"{plan.architecture} has its own activation and decoder", got=plan)
