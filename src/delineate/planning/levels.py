"""The levels of a network: how often each axis is halved, and which kernels see how far."""

from __future__ import annotations

from delineate.geometry import Triple, TripleMM
from delineate.planning.effort import Effort
from delineate.planning.options import PlanOptions
from delineate.planning.plan import NetworkPlan

_FEATURES = {"residual_unet": (16, 256), "vnet": (16, 256)}  # as published, whatever the device
_SMALLEST_LEVEL = 4  # voxels an axis of the lowest resolution keeps
_MOST_LEVELS = 6


def choose_network(
    patch: Triple, spacing: TripleMM, effort: Effort, *, options: PlanOptions, reasons: list[str]
) -> NetworkPlan:
    """The network for a patch: as wide as the effort allows, as deep as the patch can be halved."""
    strides, kernels = choose_strides(patch[: options.dimensions], spacing[: options.dimensions])
    levels = len(strides)
    base, most = _FEATURES.get(options.architecture, (effort.base_features, effort.most_features))
    features = options.features or tuple(min(most, base * 2**n) for n in range(levels))
    if len(features) > levels:
        given = " ".join(str(n) for n in features)
        reasons.append(f"width: the first {levels} of {given}, because a patch is halved only {levels - 1} times")
    levels = min(levels, len(features))
    return NetworkPlan(
        architecture=options.architecture,
        features=features[:levels],
        strides=strides[:levels],
        kernels=kernels[:levels],
        deep_supervision=options.architecture in ("nnunet", "nnunet_res"),
        norm="batch" if options.architecture in ("residual_unet", "vnet") else "instance",
    )


def choose_strides(
    patch: tuple[int, ...], spacing: tuple[float, ...]
) -> tuple[tuple[tuple[int, ...], ...], tuple[tuple[int, ...], ...]]:
    """(strides, kernels) a level for a patch: an axis is halved while it is even and stays at least 4.

    An axis more than twice as coarse as the finest waits, and is not convolved along, until the others have
    caught up (Isensee et al. 2021, nnU-Net's rule for anisotropic data).
    """
    sizes, spacings = list(patch), list(spacing)
    strides: list[tuple[int, ...]] = [(1,) * len(patch)]
    kernels = [_kernel(spacings)]
    while len(strides) < _MOST_LEVELS:
        halves = [n % 2 == 0 and n // 2 >= _SMALLEST_LEVEL for n in sizes]
        finest = min((s for s, half in zip(spacings, halves, strict=True) if half), default=0.0)
        stride = tuple(2 if half and s < 2 * finest else 1 for half, s in zip(halves, spacings, strict=True))
        if max(stride) == 1:
            break
        sizes = [n // s for n, s in zip(sizes, stride, strict=True)]
        spacings = [mm * s for mm, s in zip(spacings, stride, strict=True)]
        strides.append(stride)
        kernels.append(_kernel(spacings))
    return tuple(strides), tuple(kernels)


def _kernel(spacings: list[float]) -> tuple[int, ...]:
    return tuple(1 if mm > 2 * min(spacings) else 3 for mm in spacings)
