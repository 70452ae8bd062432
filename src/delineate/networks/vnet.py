"""The V-Net (Milletari et al. 2016)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from delineate.networks.blocks import ConvNormActivation, Size, Style, UpConvolution, convolution, initialise
from delineate.networks.residual_unet import SingleOutput
from delineate.planning import NetworkPlan

_PLAIN = 1.0  # the slope of an activation that does nothing: V-Net's own is PReLU


class Stage(nn.Module):
    """`count` convolutions with PReLU, whose result is added to the input (repeated to as many channels)."""

    def __init__(self, in_channels: int, channels: int, *, kernel: Size, count: int, style: Style) -> None:
        super().__init__()
        still = (1,) * len(kernel)
        before = (in_channels, *(channels,) * count)
        self.convolutions = nn.ModuleList(
            ConvNormActivation(before[n], channels, kernel=kernel, stride=still, style=style) for n in range(count)
        )
        self.activations = nn.ModuleList(nn.PReLU(channels, init=0.25) for _ in range(count))
        self.repeated = [c % in_channels for c in range(channels)] if in_channels != channels else None

    def forward(self, x: Tensor) -> Tensor:
        base = x if self.repeated is None else x[:, self.repeated]
        for convolve, activate in zip(self.convolutions[:-1], self.activations[:-1], strict=True):
            x = activate(convolve(x))
        y: Tensor = self.activations[-1](self.convolutions[-1](x) + base)
        return y


class VNet(nn.Module):
    """(B, C, I, J, K) image to (B, classes, I, J, K) logits; every axis a multiple of the product of its strides."""

    def __init__(self, plan: NetworkPlan, in_channels: int, out_channels: int) -> None:
        super().__init__()
        style = Style(norm=plan.norm, dropout=plan.dropout, slope=_PLAIN, eps=plan.eps)
        features = plan.features
        kernels = [tuple(5 if size > 1 else 1 for size in kernel) for kernel in plan.kernels]
        counts = plan.convolutions or tuple(min(n + 1, 3) for n in range(len(features)))
        still = (1,) * len(kernels[0])
        self.first = Stage(in_channels, features[0], kernel=kernels[0], count=counts[0], style=style)
        self.downs, self.ups = nn.ModuleList(), nn.ModuleList()
        self.down_stages, self.up_stages = nn.ModuleList(), nn.ModuleList()
        for n, (stride, kernel) in enumerate(zip(plan.strides[1:], kernels[1:], strict=True), start=1):
            down = ConvNormActivation(features[n - 1], features[n], kernel=stride, stride=stride, style=style)
            self.downs.append(nn.Sequential(down, nn.PReLU(features[n])))
            self.down_stages.append(Stage(features[n], features[n], kernel=kernel, count=counts[n], style=style))
        width = features[-1]
        for n in reversed(range(len(features) - 1)):
            up = UpConvolution(width, features[n], plan.strides[n + 1])
            width = 2 * features[n]
            self.ups.append(nn.Sequential(up, nn.PReLU(features[n])))
            self.up_stages.append(Stage(width, width, kernel=kernels[n], count=counts[n], style=style))
        self.head = convolution(width, out_channels, still, stride=still, bias=True)

    def forward(self, x: Tensor) -> Tensor:
        skips = [self.first(x)]
        for down, stage in zip(self.downs, self.down_stages, strict=True):
            skips.append(stage(down(skips[-1])))
        x = skips.pop()
        for up, stage in zip(self.ups, self.up_stages, strict=True):
            x = stage(torch.cat((up(x), skips.pop()), dim=1))
        logits: Tensor = self.head(x)
        return logits


def build_vnet(plan: NetworkPlan, in_channels: int, out_channels: int) -> nn.Module:
    """Residual stages of one, two, three, three, ... convolutions of 5 voxels, strided convolutions between them."""
    network = initialise(VNet(plan, in_channels, out_channels), slope=0.25)
    return SingleOutput(network, deep_supervision=plan.deep_supervision)
