"""A Plan says everything about how a model is prepared for, trained and run. It is data: JSON a person may edit."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import msgspec

from delineate.errors import PlanError
from delineate.fingerprint import Fingerprint, Intensities
from delineate.geometry import ORIENTATIONS, Triple, TripleMM
from delineate.volume import Kind

SCHEMA_VERSION = 1


class ClipZScore(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag="clip_zscore"):
    """Clip to lower..upper, subtract the mean, divide by std; the same numbers for every case (CT)."""

    lower: float
    upper: float
    mean: float
    std: float


class Window(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag="window"):
    """Map lower..upper linearly onto to_lower..to_upper and clip."""

    lower: float
    upper: float
    to_lower: float = 0.0
    to_upper: float = 1.0


class ZScore(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag="zscore"):
    """Clip to the case's own percentiles, subtract its mean, divide by its standard deviation (MR)."""

    lower_percentile: float = 0.0
    upper_percentile: float = 100.0


Normalisation = ClipZScore | Window | ZScore


class NetworkPlan(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One network. A level is a resolution, the highest first; 2 or 3 numbers an axis tuple (2D or 3D)."""

    architecture: str
    features: tuple[int, ...]
    strides: tuple[tuple[int, ...], ...]
    kernels: tuple[tuple[int, ...], ...]
    convolutions: tuple[int, ...] = ()  # per level of the encoder; empty means the architecture's own choice
    deep_supervision: bool = True
    norm: Literal["instance", "batch"] = "instance"
    dropout: float = 0.0


class AugmentationPlan(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Probabilities are per patch; ranges are (lowest, highest), sampled uniformly."""

    spatial_probability: float = 0.7
    rotation_degrees: tuple[float, float, float] = (25.0, 25.0, 25.0)  # largest angle about each array axis
    scale: tuple[float, float] = (0.75, 1.33)
    shear: float = 0.08
    shift_mm: float = 4.0
    elastic_probability: float = 0.25
    elastic_mm: float = 3.0  # standard deviation of the control points' displacement
    flip_axes: tuple[int, ...] = ()
    noise_probability: float = 0.15
    noise_std: tuple[float, float] = (0.0, 0.1)
    blur_probability: float = 0.1
    blur_voxels: tuple[float, float] = (0.4, 1.0)
    brightness_probability: float = 0.15
    brightness: tuple[float, float] = (0.8, 1.25)
    contrast_probability: float = 0.15
    contrast: tuple[float, float] = (0.75, 1.3)
    gamma_probability: float = 0.3
    gamma: tuple[float, float] = (0.7, 1.5)
    low_resolution_probability: float = 0.1
    low_resolution: tuple[float, float] = (0.5, 1.0)


class TrainingPlan(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How weights are found. An epoch is `samples_per_image` patches from each training image.

    `missing_labels`: what it means that a structure is not in a case's reference: it is "absent" from the patient (a
    lesion, say), or "unknown", because nobody drew it: then the case says nothing about it, for or against.
    """

    batch_size: int
    steps: int
    samples_per_image: int = 4
    positive_fraction: float = 0.5
    missing_labels: Literal["absent", "unknown"] = "absent"
    loss: Literal["dice", "dice_ce"] = "dice_ce"
    optimiser: Literal["adam", "adamw", "sgd"] = "adamw"
    learning_rate: float = 2e-3
    weight_decay: float = 5e-2
    momentum: float = 0.99
    warmup_fraction: float = 0.04
    decay: Literal["cosine", "poly"] = "cosine"
    gradient_clip: float = 12.0
    ema_decay: float = 0.99
    precision: Literal["float32", "bfloat16", "float16"] = "bfloat16"
    validations: int = 10
    seed: int = 0


class Tiling(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How a trained network goes over a scan: windows of the plan's patch size, blended by a Gaussian."""

    overlap: float = 0.5
    gaussian: bool = True
    mirror_axes: tuple[int, ...] = ()
    batch_size: int = 1


class Plan(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The whole recipe. `patch_size`, `spacing_mm` and axes refer to arrays in `orientation`.

    `resize_to`: every case gets this shape instead of `spacing_mm`. `reasons`: choices in words.
    """

    schema_version: int = SCHEMA_VERSION
    dataset: str
    channels: tuple[str, ...]
    kinds: tuple[Kind, ...]
    labels: tuple[str, ...]
    orientation: str = "RAS"
    spacing_mm: TripleMM
    resize_to: Triple | None = None
    crop_foreground: bool = True
    normalisation: tuple[Normalisation, ...]
    patch_size: Triple
    network: NetworkPlan
    training: TrainingPlan
    augmentation: AugmentationPlan = AugmentationPlan()
    tiling: Tiling = Tiling()
    reasons: tuple[str, ...] = ()

    @property
    def dimensions(self) -> int:
        return len(self.network.strides[0])

    @property
    def classes(self) -> int:
        """Channels of the network's output: background and the labels."""
        return 1 + len(self.labels)


@dataclass(frozen=True, slots=True)
class Machine:
    """What a plan must fit: `device` is "cpu", "cuda" or "mps"; `memory_bytes` is for one training step."""

    device: str
    memory_bytes: int


class PlanOptions(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a person set by hand; None leaves the choice to the rules.

    `window`: (a_min, a_max, b_min, b_max), intensities a mapped onto b.
    """

    architecture: str = "nnunet"
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
    precision: Literal["float32", "bfloat16", "float16"] | None = None
    flip_axes: tuple[int, ...] | None = None
    mirror: bool = True
    seed: int = 0


@dataclass(frozen=True, slots=True)
class _Device:
    """What is sensible on a kind of device."""

    patch_voxels: int  # of one patch, at most
    step_voxels: int  # of a batch, about: it keeps a step short enough to take thousands of them
    base_features: int
    most_features: int
    steps: int
    precision: Literal["float32", "bfloat16", "float16"]


_DEVICES = {
    "cpu": _Device(200_000, 200_000, 16, 128, 2_000, "bfloat16"),
    "cuda": _Device(2_100_000, 4_200_000, 32, 320, 25_000, "bfloat16"),
    "mps": _Device(500_000, 1_000_000, 32, 256, 10_000, "float32"),
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
    device = _DEVICES[machine.device.split(":")[0]]
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
        training=_choose_training(batch, device, options),
        augmentation=AugmentationPlan(flip_axes=flips),
        tiling=Tiling(mirror_axes=flips if options.mirror else ()),
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
    if not fingerprint.labels:
        raise PlanError("no structure to learn", remedy="List the labels in dataset.json.")


def _in_orientation(values: TripleMM, orientation: str) -> TripleMM:
    # The fingerprint's axes are R/L, A/P, S/I.
    i, j, k = (values[next(n for n, pair in enumerate(("RL", "AP", "SI")) if letter in pair)] for letter in orientation)
    return i, j, k


def _choose_spacing(fingerprint: Fingerprint, device: _Device, options: PlanOptions, reasons: list[str]) -> TripleMM:
    if options.spacing_mm is not None:
        return options.spacing_mm
    spacing = _in_orientation(fingerprint.median_spacing_mm, options.orientation)
    extent = _in_orientation(fingerprint.median_extent_mm, options.orientation)
    reasons.append("spacing: the median of the dataset, {:.3g} x {:.3g} x {:.3g} mm".format(*spacing))
    voxels = math.prod(e / s for e, s in zip(extent, spacing, strict=True))
    most = 8 * device.patch_voxels
    if voxels <= most:
        return _rounded(spacing)
    # Coarsen the finest axes first: they carry the most voxels and lose the least.
    fine, coarse = min(spacing), max(spacing) * (voxels / most) ** (1 / 3)
    for _ in range(60):
        middle = (fine + coarse) / 2
        size = math.prod(e / max(s, middle) for e, s in zip(extent, spacing, strict=True))
        fine, coarse = (middle, coarse) if size > most else (fine, middle)
    i, j, k = (max(s, coarse) for s in spacing)
    reasons.append(f"coarsened to at least {coarse:.3g} mm, so that a scan is a few patches on this device")
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
    extent = _in_orientation(fingerprint.median_extent_mm, options.orientation)
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


def _choose_training(batch: int, device: _Device, options: PlanOptions) -> TrainingPlan:
    return TrainingPlan(
        batch_size=batch,
        steps=device.steps,
        samples_per_image=options.samples_per_image,
        positive_fraction=0.5 if options.positive_fraction is None else options.positive_fraction,
        missing_labels=options.missing_labels,
        loss=options.loss,
        optimiser=options.optimiser,
        learning_rate=options.learning_rate or _LEARNING_RATES[options.optimiser],
        weight_decay=_WEIGHT_DECAYS[options.optimiser],
        decay="poly" if options.optimiser == "sgd" else "cosine",
        precision=options.precision or device.precision,
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


def plan_to_json(plan: Plan) -> str:
    """Readable JSON: nested, indented, in the order of the fields."""
    return msgspec.json.format(msgspec.json.encode(plan), indent=2).decode() + "\n"


def plan_from_json(text: str | bytes) -> Plan:
    """Raises `PlanError` for a newer schema, unknown or missing fields, wrong types, inconsistent choices."""
    try:
        version = msgspec.json.decode(text, type=dict[str, msgspec.Raw]).get("schema_version")
        number = msgspec.json.decode(version, type=int) if version is not None else SCHEMA_VERSION
        if number > SCHEMA_VERSION:
            raise PlanError(
                "the plan was written by a newer delineate",
                expected=f"schema version {SCHEMA_VERSION} or older",
                got=number,
                remedy="Update delineate: pip install --upgrade delineate.",
            )
        plan = msgspec.json.decode(text, type=Plan)
    except msgspec.DecodeError as error:
        raise PlanError("the plan cannot be read", got=str(error), remedy="Correct that entry of plan.json.") from error
    check_plan(plan)
    return plan


def check_plan(plan: Plan) -> None:
    """Raises `PlanError` if parts of a (hand-edited) plan contradict each other."""
    network, patch = plan.network, plan.patch_size
    factors = [math.prod(s[axis] for s in network.strides) for axis in range(plan.dimensions)]
    facts = {
        "orientation must be three of R/L, A/P, I/S": plan.orientation in ORIENTATIONS,
        "spacing_mm must be positive": min(plan.spacing_mm) > 0,
        "one normalisation a channel": len(plan.normalisation) == len(plan.channels) == len(plan.kinds),
        "features, strides and kernels need one entry a level": len(network.features)
        == len(network.strides)
        == len(network.kernels),
        "a 2D plan needs a patch of one slice": plan.dimensions == 3 or patch[2] == 1,
        f"patch_size must be a multiple of the strides' product {factors}": all(
            n % f == 0 for n, f in zip(patch, factors, strict=False)
        ),
        "batch_size and steps must be positive": min(plan.training.batch_size, plan.training.steps) > 0,
        "overlap must be from 0 to below 1": 0 <= plan.tiling.overlap < 1,
        "positive_fraction must be from 0 to 1": 0 <= plan.training.positive_fraction <= 1,
    }
    for rule, holds in facts.items():
        if not holds:
            raise PlanError(f"the plan contradicts itself: {rule}", remedy="Correct plan.json or plan anew.")
