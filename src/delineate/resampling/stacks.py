"""A stack of parallel slices that is tilted or unevenly spaced, onto a right-angled grid with even steps.

Slices stay in their own planes. Each is moved sideways, by its true position, by linear interpolation along each image
axis; then, where steps are uneven, even planes are interpolated linearly between their two neighbours. Where a shift is
a whole number of pixels and a plane is there, the numbers stay what they were.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from delineate.geometry import FloatArray, Grid, Triple, compose_affine
from delineate.resampling.arrays import Array

_ROUNDING_MM = 0.1  # the coarsest of headers; no plane is mixed with its neighbour for less, or for a tenth of a step
_SHIFT_ROUNDING = 1e-3  # pixels


@dataclass(frozen=True, slots=True)
class StackPositions:
    """Where the slices of an array (I, J, K) lie.

    `positions_mm`: the LPS position of pixel (0, 0) of each, rising along the normal. `directions`: the unit vectors of
    axes I and J, which all slices share. `spacing_mm`: along I and J.
    """

    shape: Triple
    positions_mm: tuple[tuple[float, float, float], ...]
    directions: tuple[tuple[float, float, float], tuple[float, float, float]]
    spacing_mm: tuple[float, float]
    frame_of_reference_uid: str | None = None

    @property
    def axes(self) -> FloatArray:
        """3x3: columns are the unit vectors along I, J and the normal I x J."""
        i, j = (np.asarray(direction) for direction in self.directions)
        normal = np.cross(i, j)
        return np.column_stack([i, j, normal / np.linalg.norm(normal)])

    @property
    def offsets_mm(self) -> FloatArray:
        """(K, 3): how far each slice lies from the first, along I, J and the normal."""
        positions = np.asarray(self.positions_mm)
        offsets: FloatArray = (positions - positions[0]) @ self.axes
        return offsets


def even_grid(stack: StackPositions) -> Grid:
    """The right-angled grid for a stack: its own pixel spacing, about the median step, room for every slice.

    The first and the last plane are the first and the last slice; where slices are evenly spaced along the normal, or
    some are missing of evenly spaced ones, all are planes of the grid.
    """
    offsets = stack.offsets_mm
    planes = _planes(offsets[:, 2])
    step = (planes[-1] - planes[0]) / (len(planes) - 1)
    low, high = _margins(stack)
    spacing = np.array([*stack.spacing_mm, step])
    shape = (stack.shape[0] + int(low[0] + high[0]), stack.shape[1] + int(low[1] + high[1]), len(planes))
    origin = np.asarray(stack.positions_mm[0]) - stack.axes[:, :2] @ (low * spacing[:2])
    return Grid(shape, compose_affine(stack.axes * spacing, origin), stack.frame_of_reference_uid)


def even_stack(array: Array, stack: StackPositions, *, fill: float) -> Array:
    """The slices (I, J, K) on `even_grid(stack)`, in the array's own type; `fill` where no slice was.

    Integers are rounded to the nearest. Raises `ValueError` if the array is not of the stack's shape.
    """
    if array.shape != stack.shape:
        raise ValueError(f"an array of {array.shape} for a stack of {stack.shape}")
    moved = _moved(array, stack, fill)
    heights = stack.offsets_mm[:, 2]
    planes = _planes(heights)
    after = np.clip(np.searchsorted(heights, planes, side="left"), 1, len(heights) - 1)
    share = np.clip((planes - heights[after - 1]) / (heights[after] - heights[after - 1]), 0.0, 1.0)
    nearest = np.where(share < 0.5, after - 1, after)
    there = np.abs(planes - heights[nearest]) <= min(_ROUNDING_MM, 0.1 * (planes[1] - planes[0]))
    share = np.where(there, np.round(share), share)
    if len(planes) == len(heights) and np.array_equal(after - 1 + share, np.arange(len(planes))):
        return moved
    out = np.full((*moved.shape[:2], len(planes)), fill, dtype=array.dtype, order="F")
    for k, (n, weight) in enumerate(zip(after.tolist(), share.tolist(), strict=True)):
        both = _both(stack, n) if 0.0 < weight < 1.0 else (slice(None), slice(None))
        out[(*both, k)] = _mixed(moved[(*both, n - 1)], moved[(*both, n)], weight)
    return out


def _planes(heights: FloatArray) -> FloatArray:
    """Even heights from the first slice to the last, at the whole fraction of the way nearest to the usual step."""
    step = float(np.median(np.diff(heights)))
    return np.linspace(heights[0], heights[-1], round((heights[-1] - heights[0]) / step) + 1)


def _margins(stack: StackPositions) -> tuple[FloatArray, FloatArray]:
    """Whole pixels to add before and behind, along I and J, so that no slice is cut off."""
    shifts = _shifts(stack)
    return np.ceil(np.maximum(0.0, -shifts.min(axis=0))), np.ceil(np.maximum(0.0, shifts.max(axis=0)))


def _shifts(stack: StackPositions) -> FloatArray:
    """(K, 2): each slice's offset along I and J in pixels; rounding noise of headers is none."""
    shifts = stack.offsets_mm[:, :2] / np.asarray(stack.spacing_mm)
    whole = np.round(shifts)
    return np.asarray(np.where(np.abs(shifts - whole) < _SHIFT_ROUNDING, whole, shifts))


def _both(stack: StackPositions, n: int) -> tuple[slice, slice]:
    """The pixels, moved, that slice n and the one before both have: between an image and nothing there is nothing."""
    first, second = np.ceil(_shifts(stack)[n - 1 : n + 1] + _margins(stack)[0] - 0.5).astype(int)
    start, stop = np.maximum(first, second), np.minimum(first, second) + stack.shape[:2]
    return slice(int(start[0]), int(stop[0])), slice(int(start[1]), int(stop[1]))


def _moved(array: Array, stack: StackPositions, fill: float) -> Array:
    low, high = _margins(stack)
    shape = (array.shape[0] + int(low[0] + high[0]), array.shape[1] + int(low[1] + high[1]), array.shape[2])
    out = np.full(shape, fill, dtype=array.dtype, order="F")
    for k, shift in enumerate(_shifts(stack) + low):
        start = np.floor(shift).astype(int)
        image = array[:, :, k]
        for axis, share in enumerate((shift - start).tolist()):
            image = _moved_along(image, axis, share, fill)
        size = image.shape
        out[start[0] : start[0] + size[0], start[1] : start[1] + size[1], k] = image
    return out


def _moved_along(image: Array, axis: int, share: float, fill: float) -> Array:
    """The image moved by a share of a pixel towards higher indices, one pixel longer; itself where there is none.

    Of the two ends, the one within half a pixel of an outermost centre is in that pixel; the other is outside.
    """
    if share == 0.0:
        return image
    before = np.pad(image, [(0, int(axis == n)) for n in range(2)], mode="edge")
    behind = np.pad(image, [(int(axis == n), 0) for n in range(2)], mode="edge")
    moved = _mixed(before, behind, share)
    np.moveaxis(moved, axis, 0)[-1 if share <= 0.5 else 0] = fill
    return moved


def _mixed(first: Array, second: Array, weight: float) -> Array:
    """(1 - weight) * first + weight * second, in the arrays' type."""
    if weight in (0.0, 1.0):
        return second if weight else first
    mixed = first * np.float32(1.0 - weight) + second * np.float32(weight)
    return (np.rint(mixed) if first.dtype.kind in "iu" else mixed).astype(first.dtype)
