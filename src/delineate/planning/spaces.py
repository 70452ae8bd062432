"""A search space: what of a plan may be tuned within which limits; and the plan that values of it make."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import msgspec

from delineate.errors import PlanError
from delineate.planning import Normalisation, Plan, Window, ZScore, check_plan, training_bytes
from delineate.planning.tunables import (
    LIMITS,
    PARAMETERS,
    PERCENTILES,
    Choices,
    Dimension,
    Range,
    Space,
    Value,
    Values,
    by,
    rounded_up,
    train_with,
    window_names,
)

WINDOW = "window"
"""Both limits of the window: `a_min` and `a_max` where intensities have a scale (CT), else two percentiles."""

_USUAL = ("learning_rate", "weight_decay", WINDOW, "augmentation")


@dataclass(frozen=True, slots=True)
class Candidate:
    """A plan with values of a space in it. `values`: those it has in the end; `notes`: what had to be corrected."""

    plan: Plan
    values: Values
    notes: tuple[str, ...] = ()


def names() -> tuple[str, ...]:
    """What can be tuned."""
    return (WINDOW, *PARAMETERS)


def usual_space(plan: Plan) -> Space:
    """What is tuned when nobody says what: it changes neither the time nor the memory of a step."""
    wanted = [name for name in _USUAL if name != WINDOW or window_names(plan)]
    return tuple(_usual(name, plan) for given in wanted for name in _single(given, plan))


def parse_space(text: str, plan: Plan) -> Space:
    """A space in words: names with commas between them, each with limits or choices if wished.

    `learning_rate=1e-4..1e-2,window,loss=dice|dice_ce,patch=64x64x32|96x96x48`. Raises `PlanError` for what cannot be
    tuned, or makes no range.
    """
    given: dict[str, str] = {}
    for word in (part.strip() for part in text.split(",")):
        name, _, limits = word.partition("=")
        if name in given:
            raise PlanError("the search space names something twice", got=name)
        given[name] = limits
    return _space({name: _parsed(name, limits) for name, limits in given.items()}, plan)


def space_from_json(text: str | bytes, plan: Plan) -> Space:
    """A space as JSON: `{"learning_rate": [1e-4, 1e-2], "window": null, "loss": ["dice", "dice_ce"]}`.

    Two numbers are a range, texts or more numbers are choices, null leaves the limits to `usual_space`'s. Raises
    `PlanError` as `parse_space`.
    """
    try:
        given = msgspec.json.decode(text, type=dict[str, list[float | str] | None])
    except msgspec.DecodeError as error:
        raise PlanError(
            "the search space cannot be read",
            expected='{"learning_rate": [1e-4, 1e-2], "window": null, "loss": ["dice", "dice_ce"]}',
            got=str(error),
        ) from error
    return _space({name: () if values is None else tuple(values) for name, values in given.items()}, plan)


def default_values(plan: Plan, space: Space) -> dict[str, Value]:
    """What a plan has of a space."""
    return {dimension.name: PARAMETERS[dimension.name].read(plan) for dimension in space}


def grid(space: Space, points: int) -> tuple[dict[str, Value], ...]:
    """Every combination of so many values of each range and of all choices."""
    columns = [dimension.points(points) for dimension in space]
    return tuple(
        {dimension.name: value for dimension, value in zip(space, row, strict=True)}
        for row in itertools.product(*columns)
    )


def candidate(plan: Plan, values: Values, *, memory_bytes: int) -> Candidate:
    """A plan with other values, corrected where that is possible: the limits of a window are put in order, a patch is
    rounded up to what the network can halve, a batch halved until a step fits the memory.

    Raises `PlanError` if the values make no plan, or one patch of it does not fit.
    """
    changed, notes = plan, list[str]()
    for name, value in values.items():
        changed = PARAMETERS[name].write(changed, value)
    changed = msgspec.structs.replace(changed, normalisation=tuple(_ordered(changed.normalisation, notes)))
    changed = _fitted(_halved_evenly(changed, notes), memory_bytes, notes)
    check_plan(changed)
    had = {name: PARAMETERS[name].read(changed) for name in values if name != "augmentation"}
    told = {name: had.get(name, value) for name, value in values.items()}
    said = "tuned: " + ", ".join(f"{name} {show(value)}" for name, value in told.items())
    return Candidate(msgspec.structs.replace(changed, reasons=(*changed.reasons, said)), told, tuple(notes))


def show(value: Value) -> str:
    """A value for people."""
    return value if isinstance(value, str) else f"{value:.4g}"


def _space(given: Mapping[str, tuple[Value, ...]], plan: Plan) -> Space:
    dimensions = []
    for name, values in given.items():
        if name == WINDOW and values:
            raise PlanError(
                "a window has two limits", expected=" and ".join(_single(name, plan)), got=name, remedy="Name each."
            )
        dimensions += [_dimension(single, values, plan) for single in _single(name, plan)]
    found = [dimension.name for dimension in dimensions]
    if len(set(found)) < len(found):
        raise PlanError("the search space names something twice", got=", ".join(found))
    if not dimensions:
        raise PlanError("the search space is empty", expected=f"some of {', '.join(names())}")
    return tuple(dimensions)


def _single(name: str, plan: Plan) -> tuple[str, ...]:
    window = window_names(plan)
    is_limit = name in LIMITS or name in PERCENTILES
    if name == WINDOW or is_limit:
        if not window or (is_limit and name not in window):
            kinds = ", ".join(sorted({type(how).__name__ for how in plan.normalisation}))
            raise PlanError("the plan has no such window to tune", expected=" and ".join(window) or None, got=kinds)
        return window if name == WINDOW else (name,)
    if name not in PARAMETERS:
        raise PlanError("this cannot be tuned", expected=f"some of {', '.join(names())}", got=name)
    return (name,)


def _parsed(name: str, limits: str) -> tuple[Value, ...]:
    if ".." in limits:
        try:
            low, high = (float(part) for part in limits.split(".."))
        except ValueError as error:
            raise PlanError(f"no range of {name}", expected="such as 1e-4..1e-2", got=limits) from error
        return low, high
    words = [word.strip() for word in limits.split("|") if word.strip()]
    try:
        numbers = [float(word) for word in words]
    except ValueError:
        return tuple(words)
    # A third, equal number tells two choices from a range.
    return tuple(numbers) if len(numbers) != 2 else (*numbers, numbers[1])


def _dimension(name: str, values: tuple[Value, ...], plan: Plan) -> Dimension:
    usual, now = _usual(name, plan), PARAMETERS[name].read(plan)
    if not values:
        return usual
    if isinstance(usual, Range) and not all(isinstance(value, float) for value in values):
        raise PlanError(f"{name} is a number", expected="such as 1e-4..1e-2 or 1e-4|1e-3", got=values)
    if isinstance(usual, Range) and len(values) == 2:
        low, high = float(values[0]), float(values[1])
        if not low < high or (usual.log and low <= 0):
            raise PlanError(
                f"no range of {name}",
                expected="the lower number first" + (", above 0" if usual.log else ""),
                got=values,
            )
        return msgspec.structs.replace(usual, low=low, high=high)
    unknown = [
        value for value in values if isinstance(usual, Choices) and name != "patch" and value not in usual.values
    ]
    if isinstance(usual, Choices) and unknown:
        raise PlanError(f"no such {name}", expected=" or ".join(map(str, usual.values)), got=unknown[0])
    chosen = (round(float(v)) for v in values) if isinstance(usual, Range) and usual.whole else values
    # The plan as it is belongs to the space, or it could not be compared.
    choices = Choices(name=name, values=tuple(dict.fromkeys((*chosen, now))))
    for value in choices.values:
        PARAMETERS[name].write(plan, value)
    return choices


def _usual(name: str, plan: Plan) -> Dimension:
    """The usual limits, made wide enough for what the plan has."""
    usual, now = PARAMETERS[name].usual(plan), PARAMETERS[name].read(plan)
    if isinstance(usual, Choices):
        return msgspec.structs.replace(usual, values=tuple(dict.fromkeys((*usual.values, now))))
    if usual.log and float(now) <= 0:
        return usual
    return msgspec.structs.replace(usual, low=min(usual.low, float(now)), high=max(usual.high, float(now)))


def _ordered(normalisation: tuple[Normalisation, ...], notes: list[str]) -> Iterator[Normalisation]:
    for how in normalisation:
        if isinstance(how, Window) and how.lower > how.upper:
            notes.append("a_min and a_max were changed round")
            yield msgspec.structs.replace(how, lower=how.upper, upper=how.lower)
        elif isinstance(how, ZScore) and how.lower_percentile > how.upper_percentile:
            notes.append("the percentiles were changed round")
            yield msgspec.structs.replace(
                how, lower_percentile=how.upper_percentile, upper_percentile=how.lower_percentile
            )
        else:
            yield how


def _halved_evenly(plan: Plan, notes: list[str]) -> Plan:
    patch = rounded_up(plan, plan.patch_size)
    if patch != plan.patch_size:
        notes.append(f"patch {by(plan.patch_size)} rounded up to {by(patch)}")
    return msgspec.structs.replace(plan, patch_size=patch)


def _fitted(plan: Plan, memory_bytes: int, notes: list[str]) -> Plan:
    wanted = plan.training.batch_size
    while training_bytes(plan) > memory_bytes and plan.training.batch_size > 1:
        plan = train_with(plan, batch_size=plan.training.batch_size // 2)
    if training_bytes(plan) > memory_bytes:
        raise PlanError(
            "one training step does not fit the memory",
            expected=f"at most {memory_bytes / 1e9:.2f} GB",
            got=f"{training_bytes(plan) / 1e9:.2f} GB for one patch of {by(plan.patch_size)}",
        )
    if plan.training.batch_size < wanted:
        notes.append(f"batch of {plan.training.batch_size} instead of {wanted}, to fit the memory")
    return plan
