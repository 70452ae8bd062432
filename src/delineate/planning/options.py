"""What a plan is made for: the machine, and a person's wishes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import msgspec

from delineate.errors import PlanError
from delineate.fingerprint import Fingerprint
from delineate.geometry import ORIENTATIONS, Triple, TripleMM
from delineate.planning.plan import Annotators, LossName, Plan, Precision

Preset = Literal["quick", "balanced", "best"]


@dataclass(frozen=True, slots=True)
class Speed:
    """What one convolution with its normalisation and activation takes, forward and backward, of each voxel.

    `feature_seconds`: for each output feature, whatever the kernel (values that are read and written).
    `product_seconds`: for each product of an input feature, an output feature and a kernel's weight.
    """

    feature_seconds: float
    product_seconds: float


@dataclass(frozen=True, slots=True)
class Machine:
    """What a plan must fit: `device` is "cpu", "cuda" or "mps"; `memory_bytes` is for one training step; `precision`:
    what the device trains fastest in; `speed`: as measured, None if it was not."""

    device: str
    memory_bytes: int
    precision: Precision = "bfloat16"
    speed: Speed | None = None

    @property
    def kind(self) -> str:
        """The device without its number."""
        return self.device.split(":")[0]


class PlanOptions(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a person set by hand; None leaves the choice to the rules.

    `minutes`: how long training may take; the network's width, patch and batch are chosen for it. `preset`: the same
    without a number. `window`: (a_min, a_max, b_min, b_max), intensities a mapped onto b. `conventions`:
    whose way scans are prepared and windows blended; with nnU-Net's, a model with a network of nnU-Net's computes the
    same in its predictor.
    """

    architecture: str = "nnunet"
    conventions: Literal["delineate", "nnunet"] = "delineate"
    preset: Preset | None = None
    minutes: float | None = None
    dimensions: Literal[2, 3] = 3
    orientation: str | None = None
    spacing_mm: TripleMM | None = None
    patch_size: Triple | None = None
    resize_to: Triple | None = None
    window: tuple[float, float, float, float] | None = None
    regions: tuple[str, ...] = ()  # "whole=1,2,3": labels of the dataset to unite, before it is measured
    crop_foreground: bool = True
    batch_size: int | None = None
    features: tuple[int, ...] | None = None
    samples_per_image: int = 4
    positive_fraction: float | None = None
    balance: float | None = None
    off_centre: float | None = None
    annotators: Annotators = "first"
    missing_labels: Literal["absent", "unknown"] = "absent"
    loss: LossName = "dice_ce"
    optimiser: Literal["adam", "adamw", "sgd"] = "adamw"
    learning_rate: float | None = None
    precision: Precision | None = None
    flip_axes: tuple[int, ...] | None = None
    channel_dropout: float = 0.0
    mirror: bool = True
    validations: int = 10
    seed: int = 0


def for_minutes(plan: Plan | PlanOptions | None, minutes: float | None) -> Plan | PlanOptions | None:
    """Options that know how long training may take, where neither a plan is made yet nor the options say so."""
    if minutes is None or isinstance(plan, Plan) or (plan is not None and plan.minutes is not None):
        return plan
    return msgspec.structs.replace(plan or PlanOptions(), minutes=minutes)


def check_options(options: PlanOptions, fingerprint: Fingerprint) -> None:
    """Raises `PlanError` for options that are impossible, or impossible together."""
    if options.orientation is not None and options.orientation not in ORIENTATIONS:
        raise PlanError("unknown orientation", expected="three of R/L, A/P, I/S", got=options.orientation)
    for name in ("spacing_mm", "patch_size", "resize_to", "features"):
        value = getattr(options, name)
        if value is not None and min(value, default=0) <= 0:
            raise PlanError(f"{name} must be positive", got=value)
    if options.minutes is not None and not options.minutes > 0:
        raise PlanError("there must be time to train", expected="minutes above 0", got=options.minutes)
    if options.minutes is not None and options.preset is not None:
        got = f"{options.minutes:g} minutes and {options.preset}"
        raise PlanError("a preset is a time, too", expected="one of them", got=got, remedy="Leave --preset out.")
    if options.learning_rate is not None and not options.learning_rate > 0:
        raise PlanError("the learning rate must be above 0", got=options.learning_rate)
    for name in ("balance", "off_centre"):
        if not 0 <= (getattr(options, name) or 0.0) <= 1:
            raise PlanError(f"{name} must be from 0 to 1", got=getattr(options, name))
    if not 0 <= options.channel_dropout < 1:
        raise PlanError("channel_dropout must be from 0 to below 1", got=options.channel_dropout)
    if options.channel_dropout > 0 and len(fingerprint.channels) == 1:
        raise PlanError("the only channel cannot be dropped", got=options.channel_dropout)
    if options.window is not None and not options.window[0] < options.window[1]:
        raise PlanError("the intensity window is empty", expected="a_min < a_max", got=options.window[:2])
    if options.conventions == "nnunet" and not (options.resize_to is None and options.crop_foreground):
        raise PlanError("nnU-Net crops scans and resamples them to a spacing", got="--no-crop or --resize-to")
    if not fingerprint.labels:
        raise PlanError("no structure to learn", remedy="List the labels in dataset.json.")
