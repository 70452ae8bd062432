"""The convolutions that a network is made of, counted without building it: its weights, its memory, its time."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

from delineate.planning.options import Speed
from delineate.planning.plan import NetworkPlan, Plan

_RESIDUAL_BLOCKS = (1, 3, 4, 6, 6, 6)  # a level of nnU-Net's residual encoder
_WEIGHT_SECONDS = 3e-9  # of a step's optimiser and average, for each weight


@dataclass(frozen=True, slots=True)
class Convolution:
    """One convolution: `voxels` of its output, features in and out, `taps` that each of these voxels is summed over,
    and `weights` for each pair of features. The last two differ where it goes up: there a voxel is of one tap."""

    voxels: float
    inputs: int
    outputs: int
    taps: float
    weights: int


def convolutions_of(plan: Plan) -> tuple[Convolution, ...]:
    """All of a plan's network, for one patch. An architecture that is not known counts as nnU-Net's."""
    made = {"nnunet_res": _residual_encoder, "residual_unet": _residual_unet, "vnet": _vnet}
    return tuple(made.get(plan.network.architecture, _unet)(plan))


def parameter_count(plan: Plan) -> int:
    """Weights of the network, without the few of its normalisations."""
    return sum(c.weights * c.inputs * c.outputs for c in convolutions_of(plan))


def step_seconds(plan: Plan, speed: Speed) -> float:
    """What a training step takes at a measured speed, not waiting for patches; the loss counts as features."""
    seconds = 0.0
    for c in convolutions_of(plan):
        seconds += c.voxels * c.outputs * (speed.feature_seconds + c.inputs * c.taps * speed.product_seconds)
    loss = 4 * plan.classes * math.prod(plan.patch_size) * speed.feature_seconds
    return plan.training.batch_size * (seconds + loss) + _WEIGHT_SECONDS * parameter_count(plan)


def step_operations(plan: Plan) -> float:
    """Multiplications and additions of the convolutions in a training step: forward, and twice as many backward."""
    return 6 * plan.training.batch_size * sum(c.voxels * c.inputs * c.outputs * c.taps for c in convolutions_of(plan))


def level_voxels(plan: Plan) -> tuple[float, ...]:
    """Voxels of one patch at each level, the highest first."""
    found, voxels = [], float(math.prod(plan.patch_size))
    for stride in plan.network.strides:
        voxels /= math.prod(stride)
        found.append(voxels)
    return tuple(found)


def encoder_counts(network: NetworkPlan) -> tuple[int, ...]:
    """Convolutions, or residual blocks, of each level of the encoder."""
    levels = len(network.features)
    if network.convolutions:
        return network.convolutions
    if network.architecture == "nnunet_res":
        return tuple(_RESIDUAL_BLOCKS[min(n, len(_RESIDUAL_BLOCKS) - 1)] for n in range(levels))
    if network.architecture == "vnet":
        return tuple(min(n + 1, 3) for n in range(levels))
    return (2,) * levels


def decoder_counts(network: NetworkPlan) -> tuple[int, ...]:
    """Convolutions of each level of the decoder, highest first."""
    usual = 1 if network.architecture == "nnunet_res" else 2
    return network.decoder_convolutions or (usual,) * (len(network.features) - 1)


def _row(voxels: float, before: int, features: int, taps: int, count: int) -> Iterator[Convolution]:
    for n in range(count):
        yield Convolution(voxels, features if n else before, features, taps, taps)


def _decoder(plan: Plan) -> Iterator[Convolution]:
    network, voxels = plan.network, level_voxels(plan)
    for n, count in enumerate(decoder_counts(network)):
        features, up = network.features[n], math.prod(network.strides[n + 1])
        yield Convolution(voxels[n], network.features[n + 1], features, 1, up)
        yield from _row(voxels[n], 2 * features, features, math.prod(network.kernels[n]), count)
        yield Convolution(voxels[n], features, plan.classes, 1, 1)


def _unet(plan: Plan) -> Iterator[Convolution]:
    network, before = plan.network, plan.inputs
    levels = zip(level_voxels(plan), network.features, network.kernels, encoder_counts(network), strict=True)
    for voxels, features, kernel, count in levels:
        yield from _row(voxels, before, features, math.prod(kernel), count)
        before = features
    yield from _decoder(plan)


def _residual_encoder(plan: Plan) -> Iterator[Convolution]:
    network, before = plan.network, plan.network.features[0]
    voxels = level_voxels(plan)
    yield from _row(voxels[0], plan.inputs, before, math.prod(network.kernels[0]), 1)
    levels = zip(voxels, network.features, network.kernels, encoder_counts(network), strict=True)
    for n_voxels, features, kernel, count in levels:
        yield from _row(n_voxels, before, features, math.prod(kernel), 2 * count)
        if before != features:
            yield from _row(n_voxels, before, features, 1, 1)
        before = features
    yield from _decoder(plan)


def _residual_unet(plan: Plan) -> Iterator[Convolution]:
    """MONAI's: level n has half the resolution of the others' level n, but for the lowest."""
    network, voxels = plan.network, level_voxels(plan)
    features, taps = network.features, math.prod(network.kernels[0])
    units = network.convolutions[0] if network.convolutions else 2
    before = plan.inputs
    for n, width in enumerate(features):
        last = n == len(features) - 1
        here = voxels[n if last else n + 1]
        yield from _row(here, before, width, taps, units)
        yield from _row(here, before, width, 1 if last else taps, 1)
        before = width
    for n in reversed(range(len(features) - 1)):
        joined = features[n] + (features[n + 1] if n == len(features) - 2 else features[n])
        out = features[n - 1] if n else plan.classes
        yield Convolution(voxels[n], joined, out, taps / math.prod(network.strides[n + 1]), taps)
        yield from _row(voxels[n], out, out, taps, 1)


def _vnet(plan: Plan) -> Iterator[Convolution]:
    network, voxels, before = plan.network, level_voxels(plan), plan.inputs
    taps = [math.prod(5 if size > 1 else 1 for size in kernel) for kernel in network.kernels]
    counts = encoder_counts(network)
    for n, features in enumerate(network.features):
        if n:
            down = math.prod(network.strides[n])
            yield Convolution(voxels[n], before, features, down, down)
            before = features
        yield from _row(voxels[n], before, features, taps[n], counts[n])
        before = features
    for n in reversed(range(len(network.features) - 1)):
        yield Convolution(voxels[n], before, network.features[n], 1, math.prod(network.strides[n + 1]))
        before = 2 * network.features[n]
        yield from _row(voxels[n], before, before, taps[n], counts[n])
    yield Convolution(voxels[0], before, plan.classes, 1, 1)
