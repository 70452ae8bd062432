"""Each thing of a plan that may be tuned: how it is read, how it is written, and its usual limits."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import get_args, get_type_hints

import msgspec

from delineate.errors import PlanError
from delineate.geometry import Triple
from delineate.planning import AugmentationPlan, ClipZScore, Plan, TrainingPlan, Window, ZScore

Value = float | int | str
Values = Mapping[str, Value]

LIMITS = {"a_min": "lower", "a_max": "upper"}
PERCENTILES = {"low_percentile": "lower_percentile", "high_percentile": "upper_percentile"}

_PATCH_SCALES = (0.5, 0.75, 1.0, 1.25, 1.5)
_FEATURES_STEP = 4  # what features are rounded to
_NEUTRAL_AT_0 = ("noise_std", "blur_voxels")  # of the pairs of an augmentation plan; the others are factors


class Range(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag="range"):
    """Any number from `low` to `high`, or any `whole` one; `log`: each factor is as likely as another."""

    name: str
    low: float
    high: float
    log: bool = False
    whole: bool = False

    def points(self, count: int) -> tuple[Value, ...]:
        """So many evenly spread numbers, both ends among them; fewer where whole ones fall together."""
        shares = [n / (count - 1) for n in range(count)] if count > 1 else [0.5]
        if self.log:
            numbers = [self.low * (self.high / self.low) ** share for share in shares]
        else:
            numbers = [self.low + (self.high - self.low) * share for share in shares]
        kept = [float(f"{number:.6g}") for number in numbers]
        return tuple(dict.fromkeys(round(number) for number in kept) if self.whole else dict.fromkeys(kept))

    def nearest(self, value: Value) -> Value:
        """The number of the range that is closest to a value."""
        clamped = min(max(float(value), self.low), self.high)
        return round(clamped) if self.whole else clamped


class Choices(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag="choices"):
    """One of several values, in no order."""

    name: str
    values: tuple[Value, ...]

    def points(self, count: int) -> tuple[Value, ...]:
        """All of them, whatever the count."""
        return self.values

    def nearest(self, value: Value) -> Value:
        """The value itself if it is one of them, else the first."""
        return value if value in self.values else self.values[0]


Dimension = Range | Choices
Space = tuple[Dimension, ...]


@dataclass(frozen=True, slots=True)
class Parameter:
    """`usual`: the limits when none are given, for a plan. `write` gives a plan that may contradict itself."""

    read: Callable[[Plan], Value]
    write: Callable[[Plan, Value], Plan]
    usual: Callable[[Plan], Dimension]


def window_names(plan: Plan) -> tuple[str, ...]:
    """What the two limits of a plan's windows are called; () if it has no windows."""
    if any(isinstance(how, Window | ClipZScore) for how in plan.normalisation):
        return tuple(LIMITS)
    return tuple(PERCENTILES) if any(isinstance(how, ZScore) for how in plan.normalisation) else ()


def strengthened(plan: AugmentationPlan, strength: float) -> AugmentationPlan:
    """A plan with all its probabilities (up to 1) and ranges multiplied: 0 is no augmentation but flips, 1 as it is.

    Ranges of factors are raised to that power, so that they grow about 1.
    """
    changes: dict[str, object] = {}
    for name in plan.__struct_fields__:
        value = getattr(plan, name)
        if name in ("flip_axes", "channel_dropout", "coarser"):
            continue
        if name == "rotation_degrees":
            changes[name] = tuple(min(180.0, angle * strength) for angle in value)
        elif name in _NEUTRAL_AT_0:
            changes[name] = tuple(number * strength for number in value)
        elif isinstance(value, tuple):
            changes[name] = tuple(number**strength for number in value)
        elif isinstance(value, float):
            changes[name] = min(1.0, value * strength) if name.endswith("probability") else value * strength
    return msgspec.structs.replace(plan, **changes)


def rounded_up(plan: Plan, patch: Triple) -> Triple:
    """The next larger patch that the plan's network can halve at each of its levels."""
    factors = [math.prod(stride[axis] for stride in plan.network.strides) for axis in range(plan.dimensions)]
    i, j, k = (max(1, math.ceil(n / f)) * f for n, f in zip(patch, (*factors, 1, 1), strict=False))
    return i, j, k


def train_with(plan: Plan, **changes: object) -> Plan:
    return msgspec.structs.replace(plan, training=msgspec.structs.replace(plan.training, **changes))


def _training(name: str, field: str, usual: Callable[[Plan], Dimension]) -> dict[str, Parameter]:
    """A field of the training plan."""

    def write(plan: Plan, value: Value) -> Plan:
        kind = type(getattr(plan.training, field))
        return train_with(plan, **{field: round(value) if kind is int and not isinstance(value, str) else value})

    return {name: Parameter(lambda plan: getattr(plan.training, field), write, usual)}


def _limit(name: str, field: str, low: float, high: float) -> dict[str, Parameter]:
    """One end of the windows, or of the percentiles."""
    kinds = (Window, ClipZScore) if name in LIMITS else (ZScore,)

    def read(plan: Plan) -> Value:
        return float(next(getattr(how, field) for how in plan.normalisation if isinstance(how, kinds)))

    def write(plan: Plan, value: Value) -> Plan:
        changed = (
            msgspec.structs.replace(_as_window(how), **{field: float(value)}) if isinstance(how, kinds) else how
            for how in plan.normalisation
        )
        return msgspec.structs.replace(plan, normalisation=tuple(changed))

    return {name: Parameter(read, write, lambda plan: Range(name=name, low=low, high=high))}


def _as_window(how: Window | ClipZScore | ZScore) -> Window | ZScore:
    # Mean and standard deviation of a dataset's structures say nothing once other limits are chosen.
    return Window(lower=how.lower, upper=how.upper, to_lower=-1.0) if isinstance(how, ClipZScore) else how


def _read_patch(plan: Plan) -> Value:
    return by(plan.patch_size)


def _write_patch(plan: Plan, value: Value) -> Plan:
    try:
        i, j, k = (int(part) for part in str(value).split("x"))
    except ValueError as error:
        raise PlanError("no patch size", expected="such as 96x96x64", got=value) from error
    if min(i, j, k) < 1:
        raise PlanError("a patch has at least one voxel", got=value)
    return msgspec.structs.replace(plan, patch_size=(i, j, k))


def _usual_patch(plan: Plan) -> Dimension:
    flat = plan.dimensions == 2
    sizes = []
    for scale in _PATCH_SCALES:
        i, j, k = (max(1, round(n * scale)) for n in plan.patch_size)
        sizes.append(by(rounded_up(plan, (i, j, 1 if flat else k))))
    return Choices(name="patch", values=tuple(dict.fromkeys(sizes)))


def by(patch: Triple) -> str:
    return "x".join(str(n) for n in patch)


def _write_width(plan: Plan, value: Value) -> Plan:
    ratio = float(value) / plan.network.features[0]
    step = _FEATURES_STEP
    features = tuple(max(step, round(n * ratio / step) * step) for n in plan.network.features)
    return msgspec.structs.replace(plan, network=msgspec.structs.replace(plan.network, features=features))


def _usual_width(plan: Plan) -> Dimension:
    first = plan.network.features[0]
    return Range(name="width", low=max(_FEATURES_STEP, first // 2), high=2 * first, log=True, whole=True)


def _usual_batch(plan: Plan) -> Dimension:
    batch = plan.training.batch_size
    return Range(name="batch", low=max(1, batch // 2), high=2 * batch, log=True, whole=True)


def _usual_rate(plan: Plan) -> Dimension:
    factor = 10 if plan.training.optimiser == "sgd" else 1
    return Range(name="learning_rate", low=1e-4 * factor, high=1e-2 * factor, log=True)


def _write_dropout(plan: Plan, value: Value) -> Plan:
    network = msgspec.structs.replace(plan.network, dropout=float(value))
    return msgspec.structs.replace(plan, network=network)


def _write_strength(plan: Plan, value: Value) -> Plan:
    return msgspec.structs.replace(plan, augmentation=strengthened(plan.augmentation, float(value)))


def _losses(plan: Plan) -> Dimension:
    return Choices(name="loss", values=get_args(get_type_hints(TrainingPlan)["loss"]))


PARAMETERS: dict[str, Parameter] = {
    **_training("learning_rate", "learning_rate", _usual_rate),
    **_training("weight_decay", "weight_decay", lambda plan: Range(name="weight_decay", low=1e-6, high=0.2, log=True)),
    **_limit("a_min", "lower", -1000.0, 50.0),
    **_limit("a_max", "upper", 100.0, 1000.0),
    **_limit("low_percentile", "lower_percentile", 0.0, 10.0),
    **_limit("high_percentile", "upper_percentile", 90.0, 100.0),
    "patch": Parameter(_read_patch, _write_patch, _usual_patch),
    "width": Parameter(lambda plan: plan.network.features[0], _write_width, _usual_width),
    **_training("batch", "batch_size", _usual_batch),
    **_training(
        "positive_fraction",
        "positive_fraction",
        lambda plan: Range(name="positive_fraction", low=0.1, high=0.9),
    ),
    **_training("loss", "loss", _losses),
    "augmentation": Parameter(
        lambda plan: 1.0, _write_strength, lambda plan: Range(name="augmentation", low=0.0, high=2.0)
    ),
    "dropout": Parameter(
        lambda plan: plan.network.dropout, _write_dropout, lambda plan: Range(name="dropout", low=0.0, high=0.5)
    ),
}
