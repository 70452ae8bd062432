"""What there is to say of slices that are read: of their numbers, and of images that may not be here."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from delineate.formats.dicom.geometry import positions_of
from delineate.formats.dicom.measurements import MEASURED
from delineate.formats.dicom.pixels import has_scale_slopes
from delineate.formats.dicom.slices import Slice
from delineate.volume import Kind

_MOST_SHOWN = 4
_STEP_ROUNDING_MM = 0.05
_LEAST_SHARE_HERE = 4  # of numbers that skip more than one in so many, they count something else than these images


def value_notes(stack: Sequence[Slice], *, modality: str = "", manufacturer: str = "") -> Iterator[str]:
    """Of the numbers of one volume."""
    first = stack[0]
    if any(s.storage.lossy for s in stack):
        yield "lossy compression: the numbers are not the scanner's"
    if first.kind is Kind.CT and not first.rescaled:
        yield "no rescale slope and intercept: the stored numbers are taken for HU"
    if first.units and modality == "CT":
        yield f"RescaleType is {first.units}: {'taken for' if first.kind is Kind.CT else 'the numbers are not'} HU"
    if any(s.storage.widened for s in stack):
        yield "padding beyond the stored bits: all bits are read"
    if any(s.inverted for s in stack):
        yield "MONOCHROME1: meant to be shown inverted; the numbers are kept"
    if first.padding is not None:
        low, high = (value * first.slope + first.intercept for value in first.padding)
        yield f"padding of {low:g}{'' if low == high else f' to {high:g}'} kept outside the image"
    uptakes = [s.uptake for s in stack if s.uptake is not None]
    if uptakes:
        # Of differing factors the least is used: see `pixels`.
        yield min(uptakes, key=lambda uptake: uptake.factor or 0.0).how
    yield from _scaling_notes(stack, manufacturer)
    yield from _measured_notes(stack)
    yield from _step_notes(stack)


def _scaling_notes(stack: Sequence[Slice], manufacturer: str) -> Iterator[str]:
    if has_scale_slopes(stack):
        yield "Philips' scale slopes applied: they differ between the slices"
    bare = not all(s.scale_slope for s in stack) and len({s.slope for s in stack}) > 1
    if bare and stack[0].kind is Kind.MR and "philips" in manufacturer.lower():
        yield "rescale slopes differ and Philips' scale slopes are missing: brightness may differ between the slices"


def _measured_notes(stack: Sequence[Slice]) -> Iterator[str]:
    """How the slices of one volume were measured, where that is not the same for all."""
    each = [dict(s.hints) for s in stack]
    if len({hints.get("description") for hints in each}) > 1:
        yield "the series description differs between the slices"
    for name in MEASURED:
        values = list(dict.fromkeys(hints.get(name, "none") for hints in each))
        if len(values) > 1:
            shown = ", ".join(values[:_MOST_SHOWN])
            more = f" and {len(values) - _MOST_SHOWN} more" if len(values) > _MOST_SHOWN else ""
            yield f"the {name} differs between the slices: {shown}{more}"


def _step_notes(stack: Sequence[Slice]) -> Iterator[str]:
    """Every other slice missing leaves even steps; what the header says of them may show it."""
    said, thickness = stack[0].said_step_mm, stack[0].thickness_mm
    # Some write the gap between slices there; it is no measure where slices are thicker.
    if said is None or thickness is None or not 0 < thickness <= said + _STEP_ROUNDING_MM:
        return
    step = float(np.linalg.norm(positions_of(stack)[-1] - positions_of(stack)[0])) / (len(stack) - 1)
    times = round(step / said)
    if times > 1 and abs(step - times * said) <= _STEP_ROUNDING_MM:
        yield f"SpacingBetweenSlices is {said:g} mm and slices lie {step:.4g} mm apart: others between may be missing"


def absence_notes(slices: Sequence[Slice], others: int) -> Iterator[str]:
    """Of images of a series that its headers count or number and that are not here, which positions cannot show.

    `others`: how many files of the series hold no slices; they are counted too. Numbers count from 0 or 1.
    """
    single = [s for s in slices if s.frames == 1]
    here = len(single) + others
    counts = {s.counted for s in single if s.counted is not None}
    if single and len(counts) == 1 and here < max(counts):
        yield f"the headers count {max(counts)} images and {here} are here: some may be missing"
        return
    numbers = {s.instance_number for s in single if s.instance_number is not None}
    if not numbers:
        return
    absent = max(numbers) + 1 - min(1, *numbers) - len(numbers)
    if others < absent <= len(numbers) // _LEAST_SHARE_HERE:
        first = min(1, *numbers)
        yield f"of the instance numbers {first} to {max(numbers)}, {absent} are not here: slices may be missing"
