"""nnU-Net's networks (Isensee et al. 2021), and its residual encoder (Isensee et al. 2024, "nnU-Net Revisited").

Modules stand in the order of nnU-Net's own, so that its weights can be carried over one to one: encoder levels from
the highest resolution to the lowest, decoder levels the other way. Only the biases of convolutions before an
instance normalisation have no counterpart; they have no effect.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import replace

from torch import Tensor, nn
from torch.nn import functional

from delineate.networks.blocks import ConvNormActivation, Size, Style, convolutions, initialise, style_of
from delineate.networks.unet import Decoder, EncoderDecoder
from delineate.planning import NetworkPlan

_RESIDUAL_BLOCKS = (1, 3, 4, 6, 6, 6)  # further levels have 6 as well


class Encoder(nn.Module):
    """Levels one after the other, each with its own stride; gives the features of all, highest resolution first."""

    def __init__(self, levels: list[nn.Module], stem: nn.Module | None = None) -> None:
        super().__init__()
        self.stem = stem or nn.Identity()
        self.levels = nn.ModuleList(levels)

    def forward(self, x: Tensor) -> list[Tensor]:
        x, found = self.stem(x), []
        for level in self.levels:
            x = level(x)
            found.append(x)
        return found


class ResidualBlock(nn.Module):
    """Two convolutions beside a skip (ResNet-D, He et al. 2019): the skip pools by averaging, then projects."""

    def __init__(self, in_channels: int, out_channels: int, *, kernel: Size, stride: Size, style: Style) -> None:
        super().__init__()
        still = (1,) * len(kernel)
        undropped = replace(style, dropout=0.0)
        self.slope = style.slope
        self.conv1 = ConvNormActivation(in_channels, out_channels, kernel=kernel, stride=stride, style=style)
        self.conv2 = ConvNormActivation(
            out_channels, out_channels, kernel=kernel, stride=still, style=undropped, activate=False
        )
        pool: Callable[..., nn.Module] = nn.AvgPool3d if len(kernel) == 3 else nn.AvgPool2d
        self.pool = pool(stride, stride) if max(stride) > 1 else nn.Identity()
        self.project = (
            ConvNormActivation(in_channels, out_channels, kernel=still, stride=still, style=undropped, activate=False)
            if in_channels != out_channels
            else nn.Identity()
        )

    def forward(self, x: Tensor) -> Tensor:
        joined = self.conv2(self.conv1(x)) + self.project(self.pool(x))
        return functional.leaky_relu(joined, self.slope, inplace=True)


def encoder_convolutions(plan: NetworkPlan) -> tuple[int, ...]:
    """How many convolutions, or residual blocks, each level of the encoder has."""
    if plan.convolutions:
        return plan.convolutions
    usual = itertools.chain(_RESIDUAL_BLOCKS, itertools.repeat(6)) if _is_residual(plan) else itertools.repeat(2)
    return tuple(itertools.islice(usual, len(plan.features)))


def decoder_convolutions(plan: NetworkPlan) -> tuple[int, ...]:
    """How many convolutions each level of the decoder has, highest resolution first."""
    return plan.decoder_convolutions or (1 if _is_residual(plan) else 2,) * (len(plan.features) - 1)


def _is_residual(plan: NetworkPlan) -> bool:
    return plan.architecture == "nnunet_res"


def build_nnunet(plan: NetworkPlan, in_channels: int, out_channels: int) -> nn.Module:
    """Plain encoder: two convolutions with leaky ReLU a level, the first of them strided."""
    style = style_of(plan)
    counts = encoder_convolutions(plan)
    shapes = zip((in_channels, *plan.features), plan.features, plan.kernels, plan.strides, counts, strict=False)
    levels: list[nn.Module] = [
        convolutions(before, features, kernel=kernel, stride=stride, count=count, style=style)
        for before, features, kernel, stride, count in shapes
    ]
    decoder = Decoder(plan, out_channels, style, counts=decoder_convolutions(plan))
    return initialise(EncoderDecoder(Encoder(levels), decoder), slope=style.slope)


def build_nnunet_res(plan: NetworkPlan, in_channels: int, out_channels: int) -> nn.Module:
    """Residual encoder: a stem, then 1, 3, 4, 6, 6, ... residual blocks a level; one convolution a decoder level."""
    style = style_of(plan)
    counts = encoder_convolutions(plan)
    still = (1,) * len(plan.kernels[0])
    stem = convolutions(in_channels, plan.features[0], kernel=plan.kernels[0], stride=still, count=1, style=style)
    before = (plan.features[0], *plan.features)
    shapes = zip(before, plan.features, plan.kernels, plan.strides, counts, strict=False)
    levels: list[nn.Module] = [_residual_level(shape, style) for shape in shapes]
    decoder = Decoder(plan, out_channels, style, counts=decoder_convolutions(plan))
    return initialise(EncoderDecoder(Encoder(levels, stem), decoder), slope=style.slope)


def _residual_level(shape: tuple[int, int, Size, Size, int], style: Style) -> nn.Sequential:
    before, features, kernel, stride, count = shape
    still = (1,) * len(kernel)
    blocks = (
        ResidualBlock(features if n else before, features, kernel=kernel, stride=still if n else stride, style=style)
        for n in range(count)
    )
    return nn.Sequential(*blocks)
