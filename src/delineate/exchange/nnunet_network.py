"""The network that nnU-Net's plans describe, as a `NetworkPlan`; what that cannot say is refused."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec

from delineate.errors import ModelError, PlanError
from delineate.exchange.nnunet_json import PLANS, Architecture, Configuration, Sizes, convert
from delineate.networks import check_levels
from delineate.planning import NetworkPlan

_ARCHITECTURES = {"PlainConvUNet": "nnunet", "ResidualEncoderUNet": "nnunet_res"}
_PACKAGE = re.compile(r"(?:dynamic_network_architectures\.architectures\.\w+\.)?(\w+)")
_EPS = 1e-5  # PyTorch's own, and that of nnU-Net's trainer with batch normalisation
_SLOPE = 0.01  # PyTorch's own
_MOST_LEVELS = 20  # no scan can be halved more often
_LARGEST = 2**14  # number of features, voxels of a kernel, convolutions in a row


class _Norm(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    eps: float = _EPS
    momentum: float | None = None
    affine: bool | None = None
    track_running_stats: bool | None = None


class _Activation(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    inplace: bool = False
    negative_slope: float = _SLOPE


class _Dropout(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    p: float = 0.5
    inplace: bool = False


class _Arguments(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Of PlainConvUNet and ResidualEncoderUNet (dynamic-network-architectures 0.2 to 0.4)."""

    n_stages: int
    features_per_stage: int | tuple[int, ...]
    conv_op: str
    kernel_sizes: Sizes
    strides: Sizes
    n_conv_per_stage_decoder: int | tuple[int, ...]
    n_conv_per_stage: int | tuple[int, ...] | None = None
    n_blocks_per_stage: int | tuple[int, ...] | None = None
    conv_bias: bool = False
    norm_op: str | None = None
    norm_op_kwargs: _Norm | None = None
    dropout_op: str | None = None
    dropout_op_kwargs: _Dropout | None = None
    nonlin: str | None = None
    nonlin_kwargs: _Activation | None = None
    nonlin_first: bool = False
    deep_supervision: bool = True
    block: str | None = None
    bottleneck_channels: Any = None
    stem_channels: int | None = None


def network_plan(configuration: Configuration, folder: Path, *, batch_normalised: bool) -> NetworkPlan:
    """The network of a configuration, its axes reversed to (i, j, k).

    `batch_normalised`: what the weights show; a trainer class may have changed it without the plans' saying so.
    Raises `ModelError` for other network classes, and for arguments that change the network in ways not supported.
    """
    path = folder / PLANS
    named = configuration.architecture or _from_old(configuration, path)
    architecture = _architecture(named.network_class_name, path)
    arguments = convert(named.arch_kwargs, _Arguments, "arch_kwargs", path)
    dimensions = len(configuration.patch_size)
    _check(arguments, dimensions, batch_normalised, path)
    levels = arguments.n_stages
    in_encoder = arguments.n_blocks_per_stage if architecture == "nnunet_res" else arguments.n_conv_per_stage
    norm = arguments.norm_op_kwargs or _Norm()
    declared = "BatchNorm" in str(arguments.norm_op)
    dropout = arguments.dropout_op_kwargs or _Dropout()
    plan = NetworkPlan(
        architecture=architecture,
        features=_each(arguments.features_per_stage, levels),
        strides=_per_axis(arguments.strides, levels, dimensions),
        kernels=_per_axis(arguments.kernel_sizes, levels, dimensions),
        convolutions=_each(2 if in_encoder is None else in_encoder, levels),
        decoder_convolutions=tuple(reversed(_each(arguments.n_conv_per_stage_decoder, levels - 1))),
        norm="batch" if batch_normalised else "instance",
        eps=norm.eps if declared == batch_normalised else _EPS,
        slope=_slope(arguments, path),
        dropout=dropout.p if arguments.dropout_op else 0.0,
    )
    sizes = (*plan.features, *plan.convolutions, *plan.decoder_convolutions, *sum(plan.kernels + plan.strides, ()))
    if max(sizes, default=0) > _LARGEST:
        raise ModelError("plans.json describes no network of this world", got=f"a size of {max(sizes)}", path=path)
    try:
        check_levels(plan)
    except PlanError as error:
        raise ModelError(f"plans.json: {error}", path=path) from error
    return plan


def _architecture(name: str, path: Path) -> str:
    known = _PACKAGE.fullmatch(name)
    if known is None or known.group(1) not in _ARCHITECTURES:
        raise ModelError(
            "the network's class is not supported",
            expected=" or ".join(_ARCHITECTURES),
            got=name,
            path=path,
            remedy="Predict with nnU-Net itself.",
        )
    return _ARCHITECTURES[known.group(1)]


def _from_old(configuration: Configuration, path: Path) -> Architecture:
    """The plans' format up to nnU-Net 2.2 did not spell out what was the same for all networks."""
    name = configuration.old_class
    if name is None:
        raise ModelError("plans.json describes no network", expected="architecture or UNet_class_name", path=path)
    levels, dimensions = len(configuration.old_convolutions), len(configuration.patch_size)
    counts = "n_blocks_per_stage" if name == "ResidualEncoderUNet" else "n_conv_per_stage"
    widest = configuration.old_most_features
    arguments: Mapping[str, Any] = {
        "n_stages": levels,
        "features_per_stage": [min(configuration.old_features * 2**n, widest) for n in range(levels)],
        "conv_op": f"torch.nn.Conv{dimensions}d",
        "kernel_sizes": configuration.old_kernels,
        "strides": configuration.old_strides,
        counts: configuration.old_convolutions,
        "n_conv_per_stage_decoder": configuration.old_decoder_convolutions,
        "conv_bias": True,
        "norm_op": f"torch.nn.InstanceNorm{dimensions}d",
        "norm_op_kwargs": {"eps": _EPS, "affine": True},
        "nonlin": "torch.nn.LeakyReLU",
    }
    return Architecture(network_class_name=name, arch_kwargs=dict(arguments))


def _check(arguments: _Arguments, dimensions: int, batch_normalised: bool, path: Path) -> None:
    """What would make it another network than ours."""
    norm = arguments.norm_op_kwargs or _Norm()
    kind = _last(arguments.norm_op)
    is_instance = kind == f"InstanceNorm{dimensions}d"
    if not 2 <= arguments.n_stages <= _MOST_LEVELS:
        raise ModelError("the network's n_stages is not supported", got=arguments.n_stages, path=path)
    features = _each(arguments.features_per_stage, arguments.n_stages)
    numbers = (norm.eps, (arguments.nonlin_kwargs or _Activation()).negative_slope)
    facts = {
        "eps or negative_slope": (norm.eps > 0 and all(map(math.isfinite, numbers)), numbers),
        "conv_op": (_last(arguments.conv_op) == f"Conv{dimensions}d", arguments.conv_op),
        "norm_op": (is_instance or kind == f"BatchNorm{dimensions}d", arguments.norm_op),
        # PyTorch's instance normalisation has weights only if asked.
        "norm_op_kwargs affine": (batch_normalised or norm.affine is True or not is_instance, norm.affine),
        "norm_op_kwargs track_running_stats": (norm.track_running_stats is not is_instance, norm.track_running_stats),
        "nonlin_first": (not arguments.nonlin_first, arguments.nonlin_first),
        "block": (arguments.block is None or _last(arguments.block) == "BasicBlockD", arguments.block),
        "bottleneck_channels": (arguments.bottleneck_channels is None, arguments.bottleneck_channels),
        "stem_channels": (arguments.stem_channels in (None, *features[:1]), arguments.stem_channels),
    }
    for name, (is_ours, value) in facts.items():
        if not is_ours:
            raise ModelError(
                f"the network's {name} is not supported",
                expected="a U-Net with convolutions, instance or batch normalisation with weights, then activation",
                got=value,
                path=path,
            )


def _slope(arguments: _Arguments, path: Path) -> float:
    kind = _last(arguments.nonlin)
    if kind == "ReLU":
        return 0.0
    if kind == "LeakyReLU":
        return (arguments.nonlin_kwargs or _Activation()).negative_slope
    raise ModelError(
        "the network's activation is not supported", expected="LeakyReLU or ReLU", got=arguments.nonlin, path=path
    )


def _last(name: str | None) -> str | None:
    return None if name is None else name.rpartition(".")[2]


def _each(value: int | tuple[int, ...], levels: int) -> tuple[int, ...]:
    return (value,) * levels if isinstance(value, int) else value


def _per_axis(value: Sizes, levels: int, dimensions: int) -> tuple[tuple[int, ...], ...]:
    """One entry a level and axis, axes reversed."""
    each = (value,) * levels if isinstance(value, int) else value
    return tuple((size,) * dimensions if isinstance(size, int) else tuple(reversed(size)) for size in each)
