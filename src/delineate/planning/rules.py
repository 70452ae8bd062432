"""The rules that make a plan of a fingerprint, a machine and a person's wishes."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import msgspec

from delineate.errors import PlanError
from delineate.fingerprint import Fingerprint, Intensities
from delineate.geometry import ORIENTATIONS, Triple, TripleMM
from delineate.planning.plan import (
    AugmentationPlan,
    ClipZScore,
    NetworkPlan,
    Normalisation,
    Plan,
    Precision,
    Preparation,
    Tiling,
    TrainingPlan,
    Window,
    ZScore,
)
from delineate.volume import Kind


@dataclass(frozen=True, slots=True)
class Machine:
    """What a plan must fit: `device` is "cpu", "cuda" or "mps"; `memory_bytes` is for one training step; `precision`:
    what the device trains fastest in."""

    device: str
    memory_bytes: int
    precision: Precision = "bfloat16"


class PlanOptions(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a person set by hand; None leaves the choice to the rules.

    `window`: (a_min, a_max, b_min, b_max), intensities a mapped onto b. `conventions`: whose way scans are prepared and
    windows blended; with nnU-Net's, a model with a network of nnU-Net's computes the same in its predictor.
    """

    architecture: str = "nnunet"
    conventions: Literal["delineate", "nnunet"] = "delineate"
    dimensions: Literal[2, 3] = 3
    orientation: str = "RAS"
    spacing_mm: TripleMM | None = None
    patch_size: Triple | None = None
    resize_to: Triple | None = None
    window: tuple[float, float, float, float] | None = None
    crop_foreground: bool = True
    batch_size: int | None = None
    features: tuple[int, ...] | None = None
    samples_per_image: int = 4
    positive_fraction: float | None = None
    missing_labels: Literal["absent", "unknown"] = "absent"
    loss: Literal["dice", "dice_ce"] = "dice_ce"
    optimiser: Literal["adam", "adamw", "sgd"] = "adamw"
    learning_rate: float | None = None
    precision: Precision | None = None
    flip_axes: tuple[int, ...] | None = None
    mirror: bool = True
    validations: int = 10
    seed: int = 0


@dataclass(frozen=True, slots=True)
class _Device:
    """What is sensible on a kind of device."""

    patch_voxels: int  # of one patch, at most
    step_voxels: int  # of a batch, about: it keeps a step short enough to take thousands of them
    base_features: int
    most_features: int
    steps: int


_DEVICES = {
    "cpu": _Device(200_000, 200_000, 16, 128, 2_000),
    "cuda": _Device(2_100_000, 4_200_000, 32, 320, 25_000),
    "mps": _Device(500_000, 1_000_000, 32, 256, 10_000),
}
_WEIGHT_DECAYS = {"adam": 0.0, "adamw": 5e-2, "sgd": 3e-5}
_LEARNING_RATES = {"adam": 1e-3, "adamw": 2e-3, "sgd": 1e-2}
_FEATURES = {"residual_unet": (16, 256), "vnet": (16, 256)}  # as published, whatever the device
_SMALLEST_LEVEL = 4  # voxels an axis of the lowest resolution keeps
_MOST_LEVELS = 6


def make_plan(fingerprint: Fingerprint, machine: Machine, options: PlanOptions | None = None) -> Plan:
    """Plan for a dataset on a machine: a pure function, equal inputs give equal plans.

    Raises `PlanError` if nothing fits the memory or an option is impossible.
    """
    options = options or PlanOptions()
    _check_options(options, fingerprint)
    device = _device(machine)
    reasons: list[str] = []
    spacing = _choose_spacing(fingerprint, device, options, reasons)
    patch = _choose_patch(fingerprint, spacing, device, options, reasons)
    network = _choose_network(patch, spacing, device, options)
    batch = options.batch_size or max(2, min(16, device.step_voxels // math.prod(patch)))
    reasons.append(f"batch of {batch}: {batch * math.prod(patch):,} voxels a step, of about {device.step_voxels:,}")
    flips = _choose_flips(fingerprint, options, reasons)
    plan = Plan(
        dataset=fingerprint.dataset,
        channels=fingerprint.channels,
        kinds=fingerprint.kinds,
        labels=fingerprint.labels,
        orientation=options.orientation,
        spacing_mm=spacing,
        resize_to=options.resize_to,
        crop_foreground=options.crop_foreground,
        normalisation=_choose_normalisation(fingerprint, options),
        patch_size=patch,
        network=network,
        training=_choose_training(batch, machine, options),
        augmentation=AugmentationPlan(flip_axes=flips),
        tiling=_choose_tiling(flips, options),
        preparation=_choose_preparation(options),
        reasons=tuple(reasons),
    )
    return _fit_memory(plan, machine)


def _check_options(options: PlanOptions, fingerprint: Fingerprint) -> None:
    if options.orientation not in ORIENTATIONS:
        raise PlanError("unknown orientation", expected="three of R/L, A/P, I/S", got=options.orientation)
    for name in ("spacing_mm", "patch_size", "resize_to"):
        value = getattr(options, name)
        if value is not None and min(value) <= 0:
            raise PlanError(f"{name} must be positive", got=value)
    if options.window is not None and not options.window[0] < options.window[1]:
        raise PlanError("the intensity window is empty", expected="a_min < a_max", got=options.window[:2])
    if options.conventions == "nnunet" and not (options.resize_to is None and options.crop_foreground):
        raise PlanError("nnU-Net crops scans and resamples them to a spacing", got="--no-crop or --resize-to")
    if not fingerprint.labels:
        raise PlanError("no structure to learn", remedy="List the labels in dataset.json.")


def in_orientation(values: TripleMM, orientation: str) -> TripleMM:
    """Values along the fingerprint's axes, in the order of another orientation's."""
    # The fingerprint's axes are R/L, A/P, S/I.
    i, j, k = (values[next(n for n, pair in enumerate(("RL", "AP", "SI")) if letter in pair)] for letter in orientation)
    return i, j, k


def _choose_spacing(fingerprint: Fingerprint, device: _Device, options: PlanOptions, reasons: list[str]) -> TripleMM:
    if options.spacing_mm is not None:
        return options.spacing_mm
    spacing = in_orientation(fingerprint.median_spacing_mm, options.orientation)
    extent = in_orientation(fingerprint.median_extent_mm, options.orientation)
    reasons.append("spacing: the median of the dataset, {:.3g} x {:.3g} x {:.3g} mm".format(*spacing))
    most = 8 * device.patch_voxels
    if math.prod(e / s for e, s in zip(extent, spacing, strict=True)) <= most:
        return _rounded(spacing)
    coarse = coarsened(spacing, extent, most=most)
    reasons.append(f"coarsened to at least {min(coarse):.3g} mm, so that a scan is a few patches on this device")
    return coarse


def coarsened(spacing: TripleMM, extent: TripleMM, *, most: float) -> TripleMM:
    """A spacing at which an extent in mm holds at most so many voxels.

    The finest axes are coarsened first: they carry the most voxels and lose the least.
    """
    voxels = math.prod(e / s for e, s in zip(extent, spacing, strict=True))
    if voxels <= most:
        return _rounded(spacing)
    fine, coarse = min(spacing), max(spacing) * (voxels / most) ** (1 / 3)
    for _ in range(60):
        middle = (fine + coarse) / 2
        size = math.prod(e / max(s, middle) for e, s in zip(extent, spacing, strict=True))
        fine, coarse = (middle, coarse) if size > most else (fine, middle)
    i, j, k = (max(s, coarse) for s in spacing)
    return _rounded((i, j, k))


def _rounded(spacing: TripleMM) -> TripleMM:
    i, j, k = (float(f"{s:.4g}") for s in spacing)
    return i, j, k


def _choose_patch(
    fingerprint: Fingerprint, spacing: TripleMM, device: _Device, options: PlanOptions, reasons: list[str]
) -> Triple:
    flat = options.dimensions == 2
    if options.patch_size is not None:
        patch = options.patch_size
        return (patch[0], patch[1], 1) if flat else patch
    extent = in_orientation(fingerprint.median_extent_mm, options.orientation)
    wanted = [e / s for e, s in zip(extent, spacing, strict=True)] if options.resize_to is None else options.resize_to
    sizes = [_round_up(n) for n in wanted]
    if flat:
        sizes[2] = 1
    while math.prod(sizes) > device.patch_voxels:
        largest = max(range(3), key=lambda axis: (sizes[axis] > 8) * sizes[axis] * spacing[axis])
        sizes[largest] = _round_down(sizes[largest] - 1)
    covered = math.prod(min(1.0, n / w) for n, w in zip(sizes, wanted, strict=True))
    reasons.append(
        f"patch {sizes[0]} x {sizes[1]} x {sizes[2]}: {100 * covered:.0f} % of the median scan's patient part"
    )
    return sizes[0], sizes[1], sizes[2]


def _multiple(n: float) -> int:
    # Small axes keep finer steps: 40 for a scan of 36, but 96 for one of 90.
    return 8 if n <= 64 else 16


def _round_up(n: float) -> int:
    return max(8, math.ceil(n / _multiple(n)) * _multiple(n))


def _round_down(n: float) -> int:
    return max(8, math.floor(n / _multiple(n)) * _multiple(n))


def _choose_network(patch: Triple, spacing: TripleMM, device: _Device, options: PlanOptions) -> NetworkPlan:
    strides, kernels = choose_strides(patch[: options.dimensions], spacing[: options.dimensions])
    levels = len(strides)
    base, most = _FEATURES.get(options.architecture, (device.base_features, device.most_features))
    features = options.features or tuple(min(most, base * 2**n) for n in range(levels))
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


def _choose_normalisation(fingerprint: Fingerprint, options: PlanOptions) -> tuple[Normalisation, ...]:
    if options.window is not None:
        low, high, to_low, to_high = options.window
        return (Window(lower=low, upper=high, to_lower=to_low, to_upper=to_high),) * len(fingerprint.channels)
    pairs = zip(fingerprint.kinds, fingerprint.intensities, strict=True)
    return tuple(_clip_zscore(pooled) if kind is Kind.CT else ZScore() for kind, pooled in pairs)


def _clip_zscore(pooled: Intensities) -> ClipZScore:
    return ClipZScore(
        lower=round(pooled.percentile_00_5, 2),
        upper=round(max(pooled.percentile_99_5, pooled.percentile_00_5 + 1), 2),
        mean=round(pooled.mean, 4),
        std=round(max(pooled.std, 1e-3), 4),
    )


def _choose_flips(fingerprint: Fingerprint, options: PlanOptions, reasons: list[str]) -> tuple[int, ...]:
    side = next(n for n, letter in enumerate(options.orientation) if letter in "RL")
    if options.flip_axes is not None:
        if fingerprint.pairs and side in options.flip_axes:
            raise PlanError(
                "left/right flips would swap paired structures",
                expected=f"flip axes without {side}",
                got=options.flip_axes,
                remedy=f"Leave axis {side} out: {fingerprint.pairs[0]} differ only in their side.",
            )
        return options.flip_axes
    if fingerprint.pairs:
        reasons.append("no flips: the dataset tells left from right")
        return ()
    if Kind.CT in fingerprint.kinds:
        reasons.append("no flips: in CT of the trunk or head, organs have a side and a way up")
        return ()
    if side >= options.dimensions:
        return ()
    reasons.append("flips left and right only: a mirrored patient is a possible one, one upside down is not")
    return (side,)


def _choose_tiling(flips: tuple[int, ...], options: PlanOptions) -> Tiling:
    mirror_axes = flips if options.mirror else ()
    if options.conventions == "nnunet":
        return Tiling(mirror_axes=mirror_axes, centre="nnunet", padding="zero")
    return Tiling(mirror_axes=mirror_axes)


def _choose_preparation(options: PlanOptions) -> Preparation:
    if options.conventions != "nnunet":
        return Preparation()
    return Preparation(
        crop_to="nonzero",
        normalise_first=True,
        keep_slices=options.dimensions == 2,
        resampling="nnunet",
        slice_wise="auto",
    )


def _device(machine: Machine) -> _Device:
    return _DEVICES[machine.device.split(":")[0]]


def _choose_training(batch: int, machine: Machine, options: PlanOptions) -> TrainingPlan:
    return TrainingPlan(
        batch_size=batch,
        steps=_device(machine).steps,
        samples_per_image=options.samples_per_image,
        positive_fraction=0.5 if options.positive_fraction is None else options.positive_fraction,
        missing_labels=options.missing_labels,
        loss=options.loss,
        optimiser=options.optimiser,
        learning_rate=options.learning_rate or _LEARNING_RATES[options.optimiser],
        weight_decay=_WEIGHT_DECAYS[options.optimiser],
        decay="poly" if options.optimiser == "sgd" else "cosine",
        precision=options.precision or machine.precision,
        validations=options.validations,
        seed=options.seed,
    )


def _fit_memory(plan: Plan, machine: Machine) -> Plan:
    """Halve the batch until a step fits. Raises `PlanError` if not even one patch does."""
    while training_bytes(plan) > machine.memory_bytes:
        batch = plan.training.batch_size // 2
        if batch < 1:
            raise PlanError(
                "one training step does not fit the memory",
                expected=f"at most {machine.memory_bytes / 1e9:.2f} GB",
                got=f"{training_bytes(plan) / 1e9:.2f} GB for one patch of {plan.patch_size}",
                remedy="Give a smaller --patch, fewer --features, or more --memory-gb.",
            )
        training = msgspec.structs.replace(plan.training, batch_size=batch)
        plan = msgspec.structs.replace(
            plan, training=training, reasons=(*plan.reasons, f"batch of {batch}, to fit the memory")
        )
    return plan


def training_bytes(plan: Plan) -> int:
    """Estimated peak memory of one training step, from the activations kept for the backward pass.

    Each convolution keeps its input and its normalised output; a decoder level holds the joined skip too.
    """
    size = 4 if plan.training.precision == "float32" else 2
    voxels, kept, weights = float(math.prod(plan.patch_size)), 0.0, 0.0
    levels = zip(plan.network.features, plan.network.strides, plan.network.kernels, strict=True)
    before = len(plan.channels)
    for features, stride, kernel in levels:
        voxels /= math.prod(stride)
        kept += 14 * features * voxels * size
        weights += math.prod(kernel) * features * (before + 5 * features)
        before = features
    heads = 6 * 4 * plan.classes * math.prod(plan.patch_size)
    return int(plan.training.batch_size * (kept + heads) + 20 * weights + 3e8)
