"""What makes one doubt that a scan is what a model was made for: sentences for people, never errors."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from delineate.geometry import LETTERS, Grid, change_axes
from delineate.planning import STORED, Normalisation, Plan, Window
from delineate.preprocessing.traces import plan_spacing_mm, turn
from delineate.volume import Array, Kind, Volume

SAMPLES = 500_000
AIR_HU = (-1100.0, -900.0)
HIGHEST_LOW_HU = -200.0  # below fat: a CT whose lowest value is above it shows no air, not even in the bowel
AIR_SHARE = 0.005
COARSER = 4.0
SMALLER = 4.0


@dataclass(frozen=True, slots=True)
class _Look:
    """A channel's lowest and highest value, and the share of its voxels that are as air is in Hounsfield units."""

    low: float
    high: float
    air: float

    @property
    def may_be_hounsfield(self) -> bool:
        return self.low <= HIGHEST_LOW_HU

    @property
    def is_hounsfield(self) -> bool:
        return self.air >= AIR_SHARE and self.high > 0


def doubts(volume: Volume, plan: Plan) -> tuple[str, ...]:
    """Sentences on what is unusual about a scan for a model with this plan; none if nothing is.

    Looks at every n-th voxel only. A scan with other channels than the plan's gives none: `prepare` refuses it.
    """
    if volume.channels != len(plan.channels):
        return ()
    looks = [_look(channel) for channel in volume.array]
    is_known = volume.kind is Kind.CT and volume.source.series_uid is not None  # DICOM says what its numbers are
    swapped = [] if volume.absent else _swapped(looks, plan)
    intensities = swapped or ([] if is_known else list(_strange(looks, plan)))
    constant = [
        f"Channel {name} holds nothing but the value {look.low:g}."
        for n, (name, look) in enumerate(zip(plan.channels, looks, strict=True))
        if look.low == look.high and n not in volume.absent
    ]
    axes = _axes(volume.grid, plan) if volume.source.series_uid is not None else ()
    absent = [f"Channel {plan.channels[n]} was not there; the model was trained to do without." for n in volume.absent]
    return (*absent, *constant, *intensities, *axes, *_geometry(volume.grid, plan))


def _look(channel: Array) -> _Look:
    step = max(1, math.floor((channel.size / SAMPLES) ** (1 / 3)))
    values = channel[::step, ::step, ::step]
    finite = values[np.isfinite(values)] if values.dtype.kind == "f" else values
    if finite.size == 0:
        return _Look(0.0, 0.0, 0.0)
    air = np.count_nonzero((finite >= AIR_HU[0]) & (finite <= AIR_HU[1])) / finite.size
    return _Look(float(finite.min()), float(finite.max()), air)


def _swapped(looks: list[_Look], plan: Plan) -> list[str]:
    pairs = list(zip(plan.channels, plan.kinds, looks, strict=True))
    strange = [name for name, kind, look in pairs if kind is Kind.CT and not look.may_be_hounsfield]
    hounsfield = [name for name, kind, look in pairs if kind is not Kind.CT and look.is_hounsfield]
    if not (strange and hounsfield):
        return []
    return [
        f"The channels look swapped: {hounsfield[0]} has values as CT has them, and {strange[0]} has not. "
        f"The model expects {', '.join(plan.channels)}, in this order."
    ]


def _strange(looks: list[_Look], plan: Plan) -> Iterator[str]:
    for name, kind, how, look in zip(plan.channels, plan.kinds, plan.normalisation, looks, strict=True):
        sentence = _unlike(kind, how, look) if look.low < look.high else None
        if sentence:
            yield f"Channel {name} {sentence}"


def _unlike(kind: Kind, how: Normalisation, look: _Look) -> str | None:
    values = f"its values go from {look.low:g} to {look.high:g}"
    if kind is Kind.CT and not look.may_be_hounsfield:
        return f"is not in Hounsfield units, it seems: {values}, and air has -1000. {_guess(look)}"
    if kind in (Kind.MR, Kind.PET) and look.is_hounsfield:
        return (
            f"looks like CT: {100 * look.air:.0f} % of its voxels have the value of air, about -1000, "
            f"but the model was made for {kind.value}."
        )
    if kind is Kind.OTHER and isinstance(how, Window) and not how.lower <= look.low <= look.high <= how.upper:
        return f"is outside the range that the model expects, {how.lower:g} to {how.upper:g}: {values}."
    return None


def _guess(look: _Look) -> str:
    if look.low >= 0 and look.high <= 1:
        return "It may have been scaled to 0..1."
    if look.low >= 0 and look.high <= 255:
        return "It may have been turned into 8-bit pictures."
    if look.low >= 0 and look.high > 1500:
        return "It may be MR, or CT from which 1024 has not been subtracted."
    return "It may be MR, or a cut-out without any air."


def _axes(grid: Grid, plan: Plan) -> Iterator[str]:
    """Of a DICOM series for a model that takes scans as files store them: converters disagree about the rows."""
    if plan.orientation != STORED or set(plan.augmentation.flip_axes) >= set(range(plan.dimensions)):
        return  # a network that was trained on mirrored scans sees no difference
    letters = grid.orientation
    opposite = next(b if a == letters[1] else a for a, b in LETTERS if letters[1] in (a, b))
    other = letters[0] + opposite + letters[2]
    yield (
        f"The model takes axes as files store them; this is a DICOM series, which was taken to {letters}, as ITK does. "
        f"dcm2niix turns rows upside down: a model trained on its files has to be imported with --orientation {other}."
    )


def _geometry(grid: Grid, plan: Plan) -> Iterator[str]:
    if plan.resize_to is not None:
        return
    turned = change_axes(grid, turn(grid, plan))
    seen = plan_spacing_mm(turned, plan)
    if any(mm > COARSER * new for mm, new in zip(turned.spacing_mm, seen, strict=True)):
        yield (
            f"The scan's voxels of {_by(turned.spacing_mm)} mm are more than {COARSER:g} times as coarse as the "
            f"{_by(seen)} mm that the model was made for."
        )
    window = [n * mm for n, mm in zip(plan.patch_size, seen, strict=True)]
    axes = range(plan.dimensions)
    if any(turned.extent_mm[axis] * SMALLER < window[axis] for axis in axes):
        yield (
            f"The scan is only {_by(turned.extent_mm, axes)} mm large; the model looks at "
            f"{_by(window, axes)} mm at a time and may miss what it is used to see around."
        )


def _by(values: Sequence[float], axes: Iterable[int] = range(3)) -> str:
    return " x ".join(f"{values[axis]:.3g}" for axis in axes)
