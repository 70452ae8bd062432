"""Tools that change a structure's outline as a whole: grow, shrink, smooth, fill its holes.

Each takes an (I, J, K) label array and the value of a structure, and gives a `Change`. Lengths are in mm along the
array's axes. They raise `LabelError` if there is nothing of the structure, `InputError` for a length that is none.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from delineate.editing.boxes import Mask, checked_axis, checked_mm, checked_spacing, padded, reach
from delineate.editing.changes import Change, Labels, Over, extent, painted, redrawn
from delineate.editing.distances import TIE, distance_to

_WIDE = 4.0  # standard deviations of a Gaussian that are added up
_EQUAL = 1e-6  # blurred values that differ by less are equal: sums in another order differ a little


def grow(
    labels: Labels, value: int, *, distance_mm: float, spacing_mm: Sequence[float], over: Over = "background"
) -> Change:
    """Adds every voxel whose centre is within `distance_mm` of the centre of one of the structure."""
    spacing, distance = checked_spacing(spacing_mm), checked_mm(distance_mm, what="how far to grow")
    box = padded(extent(labels, value), reach(distance, spacing), labels.shape)
    added = distance_to(labels[box.slices] == value, spacing) <= distance * (1 + TIE)
    return painted(labels, box, added, value=value, over=over)


def shrink(labels: Labels, value: int, *, distance_mm: float, spacing_mm: Sequence[float]) -> Change:
    """Takes away every voxel whose centre is within `distance_mm` of the centre of one that is not the structure's.

    It is `grow` of all else. At the border of the array nothing is taken away: the structure may go on beyond it.
    """
    spacing, distance = checked_spacing(spacing_mm), checked_mm(distance_mm, what="how far to shrink")
    box = padded(extent(labels, value), 1, labels.shape)
    kept = distance_to(labels[box.slices] != value, spacing) > distance * (1 + TIE)
    return redrawn(labels, box, kept, value=value)


def smooth(
    labels: Labels, value: int, *, radius_mm: float, spacing_mm: Sequence[float], over: Over = "background"
) -> Change:
    """Smooths a structure's surface and keeps its volume: bumps and dents smaller than about `radius_mm` go.

    A Gaussian (standard deviation half of `radius_mm`) blurs the mask; as many voxels as there were, those with the
    highest values, are the structure from then on (a tie may add or spare a few). At the border of the array the
    structure is taken to go on.
    """
    from scipy.ndimage import gaussian_filter

    spacing, radius = checked_spacing(spacing_mm), checked_mm(radius_mm, what="the radius of smoothing")
    widths = [radius / 2 / step for step in spacing]
    box = padded(extent(labels, value), [math.ceil(_WIDE * width) + 1 for width in widths], labels.shape)
    part = labels[box.slices]
    mask = part == value
    # Turned round, as labels of a review lie in memory, which is several times as fast.
    blurred = gaussian_filter(mask.T.astype(np.float64), widths[::-1], mode="nearest", truncate=_WIDE).T
    allowed = np.ones_like(mask) if over == "all" else mask | (part == 0)
    return redrawn(labels, box, _highest(blurred, allowed, int(mask.sum())), value=value, over=over)


def _highest(values: np.ndarray[tuple[int, ...], np.dtype[np.float64]], allowed: Mask, count: int) -> Mask:
    """About `count` voxels with the highest values; equal ones stand or fall together."""
    steps = np.where(allowed, np.rint(values / _EQUAL).astype(np.int32), -1)
    some = steps[steps > 0]
    if len(some) < count:
        some = steps[allowed]  # blurred so wide that not even the structure's own voxels stand out
    last = np.partition(some, len(some) - count)[len(some) - count]
    with_ties, without = int((some >= last).sum()), int((some > last).sum())
    mask: Mask = steps >= last if with_ties - count <= count - without else steps > last
    return mask


def fill_holes(labels: Labels, value: int, *, axis: int | None = None, over: Over = "background") -> Change:
    """Fills what a structure encloses: in 3D (no way out through faces), or slice by slice across `axis`."""
    from scipy.ndimage import binary_fill_holes

    box = extent(labels, value)
    mask = labels[box.slices] == value
    if axis is None:
        return painted(labels, box, binary_fill_holes(mask), value=value, over=over)
    slices = [binary_fill_holes(plane) for plane in np.moveaxis(mask, checked_axis(axis), 0)]
    return painted(labels, box, np.moveaxis(np.stack(slices), 0, axis), value=value, over=over)
