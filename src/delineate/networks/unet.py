"""The U-Net (Ronneberger et al. 2015), in 3D as by Çiçek et al. 2016; and the decoder that its descendants share."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from delineate.networks.blocks import Style, UpConvolution, convolution, convolutions, initialise, style_of
from delineate.planning import NetworkPlan


class PoolingEncoder(nn.Module):
    """Two convolutions a level, max pooling between levels; gives the features of every level, highest first."""

    def __init__(self, plan: NetworkPlan, in_channels: int, style: Style) -> None:
        super().__init__()
        pool = nn.MaxPool3d if len(plan.kernels[0]) == 3 else nn.MaxPool2d
        counts = plan.convolutions or (2,) * len(plan.features)
        before = (in_channels, *plan.features)
        self.pools = nn.ModuleList(pool(stride, stride) for stride in plan.strides[1:])
        self.levels = nn.ModuleList(
            convolutions(before[n], features, kernel=kernel, stride=plan.strides[0], count=counts[n], style=style)
            for n, (features, kernel) in enumerate(zip(plan.features, plan.kernels, strict=True))
        )

    def forward(self, x: Tensor) -> list[Tensor]:
        found = [self.levels[0](x)]
        for pool, level in zip(self.pools, self.levels[1:], strict=True):
            found.append(level(pool(found[-1])))
        return found


class Decoder(nn.Module):
    """From the features of all levels to logits: up, join with the skip, convolve; a 1x1x1 head at every level.

    `ups`, `levels` and `heads` run from the lowest resolution to the highest. In training with deep supervision the
    result is a tuple of logits, highest resolution first, one for each level but the lowest; otherwise one tensor.
    `counts`: convolutions of a level, highest resolution first.
    """

    def __init__(self, plan: NetworkPlan, out_channels: int, style: Style, *, counts: Sequence[int]) -> None:
        super().__init__()
        still = (1,) * len(plan.kernels[0])
        self.deep_supervision = plan.deep_supervision
        self.ups, self.levels, self.heads = nn.ModuleList(), nn.ModuleList(), nn.ModuleList()
        for n in reversed(range(len(plan.features) - 1)):
            features, kernel = plan.features[n], plan.kernels[n]
            self.ups.append(UpConvolution(plan.features[n + 1], features, plan.strides[n + 1]))
            self.levels.append(
                convolutions(2 * features, features, kernel=kernel, stride=still, count=counts[n], style=style)
            )
            self.heads.append(convolution(features, out_channels, still, stride=still, bias=True))

    def forward(self, features: Sequence[Tensor]) -> Tensor | tuple[Tensor, ...]:
        x, found = features[-1], []
        every_level = self.training and self.deep_supervision
        for n, (up, level) in enumerate(zip(self.ups, self.levels, strict=True)):
            x = level(torch.cat((up(x), features[-2 - n]), dim=1))
            if every_level or n == len(self.ups) - 1:
                found.append(self.heads[n](x))
        return tuple(reversed(found)) if every_level else found[-1]


class EncoderDecoder(nn.Module):
    """(B, C, I, J, K) image to (B, classes, I, J, K) logits; every axis a multiple of the product of its strides."""

    def __init__(self, encoder: nn.Module, decoder: Decoder) -> None:
        super().__init__()
        self.encoder = encoder
        self.decoder = decoder

    def forward(self, x: Tensor) -> Tensor | tuple[Tensor, ...]:
        logits: Tensor | tuple[Tensor, ...] = self.decoder(self.encoder(x))
        return logits


def build_unet(plan: NetworkPlan, in_channels: int, out_channels: int) -> nn.Module:
    """Two convolutions with ReLU a level, max pooling, up-convolutions, skips."""
    style = style_of(plan, slope=0.0)
    decoder = Decoder(plan, out_channels, style, counts=plan.decoder_convolutions or (2,) * len(plan.features))
    return initialise(EncoderDecoder(PoolingEncoder(plan, in_channels, style), decoder), slope=style.slope)
