"""A scan's values as 16-bit numbers for the browser: exact where they are whole and few enough, else to one in 65,535
of their range."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from delineate.volume import Array

LOWEST, HIGHEST = -(2**15), 2**15 - 1
_STEPS = HIGHEST - LOWEST

Numbers = npt.NDArray[np.int16]


@dataclass(frozen=True, slots=True)
class Coding:
    """A value is `slope` x number + `intercept`; the numbers are -32768 to 32767."""

    slope: float = 1.0
    intercept: float = 0.0

    def after(self, slope: float, intercept: float) -> Coding:
        """Of what these values are once they are scaled further."""
        return Coding(self.slope * slope, self.intercept * slope + intercept)


def coding_for(low: float, high: float, *, whole: bool) -> Coding:
    """How to code values of that range. `whole`: whether all are whole numbers, which stay exact where at most 65,536
    lie in the range. An empty range (low > high) is coded as it comes."""
    if low > high:
        return Coding()
    if whole and low >= LOWEST and high <= HIGHEST:
        return Coding()
    if whole and high - low <= _STEPS:
        return Coding(1.0, float(low - LOWEST))
    slope = (high - low) / _STEPS or 1.0
    return Coding(slope, low - LOWEST * slope)


def numbers_of(values: Array, coding: Coding) -> Numbers:
    """The values as numbers, of their shape; what is no number or beyond the range becomes the nearest end of it."""
    if values.dtype.kind in "iu" and values.dtype.itemsize <= 4 and coding.slope == 1 and coding.intercept.is_integer():
        if coding.intercept == 0 and np.can_cast(values.dtype, np.int16):
            return values.astype("<i2", copy=False)
        moved = values.astype(np.int64 if values.dtype.itemsize == 4 else np.int32)
        np.subtract(moved, int(coding.intercept), out=moved)
        return np.clip(moved, LOWEST, HIGHEST, out=moved).astype("<i2")
    scaled = (values.astype(np.float64) - coding.intercept) / coding.slope
    np.rint(scaled, out=scaled)
    np.nan_to_num(scaled, copy=False, nan=LOWEST, posinf=HIGHEST, neginf=LOWEST)
    return np.clip(scaled, LOWEST, HIGHEST, out=scaled).astype("<i2")


def values_of(numbers: Array, coding: Coding) -> npt.NDArray[np.float64]:
    """What numbers mean."""
    return np.asarray(numbers * coding.slope + coding.intercept, dtype=np.float64)


def coding_of(parts: Iterable[Array]) -> Coding:
    """How to code all of some arrays, after looking at every value."""
    low, high, whole = np.inf, -np.inf, True
    for part in parts:
        finite = part if part.dtype.kind in "iu" else part[np.isfinite(part)]
        if finite.size:
            low, high = min(low, float(finite.min())), max(high, float(finite.max()))
            whole = whole and (part.dtype.kind in "iu" or bool((finite == np.rint(finite)).all()))
    return coding_for(low, high, whole=whole)
