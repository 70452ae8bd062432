"""The residual U-Net of MONAI (Kerfoot et al. 2018)."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from delineate.planning import NetworkPlan


class SingleOutput(nn.Module):
    """A network with one output, in the form all networks here have: a tuple in training with deep supervision."""

    def __init__(self, network: nn.Module, *, deep_supervision: bool) -> None:
        super().__init__()
        self.network = network
        self.deep_supervision = deep_supervision

    def forward(self, x: Tensor) -> Tensor | tuple[Tensor, ...]:
        logits: Tensor = self.network(x)
        return (logits,) if self.training and self.deep_supervision else logits


def build_residual_unet(plan: NetworkPlan, in_channels: int, out_channels: int) -> nn.Module:
    """Two residual units a level (or as many as `convolutions` says for the first), PReLU, strides inside the units.

    Level n has `features[n]`, as elsewhere, but the highest n has half the resolution already. The kernels of the
    first level serve for all.
    """
    from monai.networks.nets import UNet  # type: ignore[attr-defined]  # here, because it is slow

    network = UNet(**unet_arguments(plan, in_channels, out_channels))
    return SingleOutput(network, deep_supervision=plan.deep_supervision)


def unet_arguments(plan: NetworkPlan, in_channels: int, out_channels: int) -> dict[str, Any]:
    """What MONAI's `UNet` is made with."""
    return {
        "spatial_dims": len(plan.kernels[0]),
        "in_channels": in_channels,
        "out_channels": out_channels,
        "channels": plan.features,
        "strides": plan.strides[1:],  # one an axis works as well
        "kernel_size": plan.kernels[0],
        "up_kernel_size": plan.kernels[0],
        "num_res_units": plan.convolutions[0] if plan.convolutions else 2,
        "norm": (plan.norm, {"affine": True, "eps": plan.eps}),
        "dropout": plan.dropout,
    }
