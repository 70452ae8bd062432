"""Drawing tools: a brush in mm, a lasso, a threshold in a region.

The page paints by itself, with the same rules; cases in tests/review_fixtures hold both to them. A voxel belongs to a
stroke if its centre is within the radius of the pointer's way, to a lasso if its centre is inside or on the line.
Indices are continuous: voxel centres are whole numbers.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt

from delineate.editing.boxes import Mask, checked_axis, checked_mm, checked_spacing, voxel_at
from delineate.editing.changes import Change, Labels, erased, painted
from delineate.errors import InputError
from delineate.geometry import Box, Triple, TripleMM, box_of

Floats = npt.NDArray[np.float64]
_TIE = 1 + 1e-9  # of a squared radius: a centre just at the radius belongs to the stroke


@dataclass(frozen=True, slots=True, eq=False)
class Region:
    """Some voxels of an (I, J, K) array: those of `mask`, which has the shape of `box`."""

    box: Box
    mask: Mask


def box_region(box: Box) -> Region:
    """All voxels of a box."""
    return Region(box, np.ones(box.shape, np.bool_))


def stroke(
    path: Sequence[Sequence[float]],
    *,
    radius_mm: float,
    spacing_mm: Sequence[float],
    shape: Triple,
    axis: int | None = None,
) -> Region:
    """What a brush covers on its way along a path of continuous indices: a ball, or a disc in the slice across `axis`.

    The voxel under each point of the path belongs too, so that a brush smaller than a voxel paints. A disc stays in
    the slice of the path's points. Raises `InputError` for no points, or a path that is wholly outside.
    """
    points, spacing = _checked_path(path), checked_spacing(spacing_mm)
    radius = checked_mm(radius_mm, what="the radius of a brush")
    wide = np.array([0.0 if other == axis else radius / step for other, step in enumerate(spacing)])
    under = voxel_at(points)
    low = np.floor(np.minimum(points.min(axis=0) - wide, under.min(axis=0))).astype(int)
    high = np.ceil(np.maximum(points.max(axis=0) + wide, under.max(axis=0))).astype(int)
    ends = [(max(a, 0), min(b + 1, size)) for a, b, size in zip(low.tolist(), high.tolist(), shape, strict=True)]
    if any(a >= b for a, b in ends):
        raise InputError("a stroke lies outside the volume", expected=f"inside {tuple(shape)}", got=points[0].tolist())
    box = box_of(ends)
    mask = np.zeros(box.shape, np.bool_)
    ways = list(pairwise(points)) or [(points[0], points[0])]
    for start, stop in ways:
        mask |= _swept(box, start, stop, radius, _scale(spacing, axis))
        if axis is not None:
            _keep_slice(mask, box, axis, int(voxel_at(stop[axis])))
    for at in under:
        if all(a <= place < b for place, a, b in zip(at.tolist(), box.start, box.stop, strict=True)):
            mask[tuple(at - np.array(box.start))] = True
    return Region(box, mask)


def _scale(spacing: TripleMM, axis: int | None) -> Floats:
    return np.array([0.0 if other == axis else step for other, step in enumerate(spacing)])


def _keep_slice(mask: Mask, box: Box, axis: int, number: int) -> None:
    others = np.arange(box.start[axis], box.stop[axis]) != number
    np.moveaxis(mask, axis, 0)[others] = False


def _checked_path(path: Sequence[Sequence[float]]) -> Floats:
    points = np.asarray(path, dtype=np.float64)
    if points.ndim != 2 or points.shape[-1] != 3 or len(points) == 0 or not np.isfinite(points).all():
        raise InputError("a stroke is a list of points", expected="(n, 3) finite indices", got=points.shape)
    return points


def _swept(box: Box, start: Floats, stop: Floats, radius_mm: float, scale: Floats) -> Mask:
    """Voxels of the box whose centre is within the radius of the line from `start` to `stop`."""
    axes = [
        (np.arange(low, high) - at) * step
        for low, high, at, step in zip(box.start, box.stop, start, scale, strict=True)
    ]
    away = np.meshgrid(*axes, indexing="ij", sparse=True)
    way = (stop - start) * scale
    long = float(way @ way)
    along = sum(part * step for part, step in zip(away, way, strict=True))
    part = np.clip(along / long, 0, 1) if long > 0 else np.zeros((1, 1, 1))
    square = sum((side - part * step) ** 2 for side, step in zip(away, way, strict=True))
    mask: Mask = np.broadcast_to(square <= radius_mm**2 * _TIE, box.shape)
    return mask


def lasso(polygon: Sequence[Sequence[float]], *, axis: int, number: int, shape: Triple) -> Region:
    """The voxels of slice `number` across `axis` whose centre is in a polygon, by the even-odd rule.

    `polygon`: (n, 2) continuous indices along the two other axes, lower axis first; it closes by itself. A centre on
    the outline belongs. Raises `InputError` for fewer than three points or a slice or polygon outside.
    """
    corners = np.asarray(polygon, dtype=np.float64)
    if corners.ndim != 2 or corners.shape[-1] != 2 or len(corners) < 3 or not np.isfinite(corners).all():
        raise InputError("a lasso needs a closed line", expected="three or more finite points", got=corners.shape)
    sides = [size for other, size in enumerate(shape) if other != checked_axis(axis)]
    low, high = np.ceil(corners.min(axis=0)).astype(int), np.floor(corners.max(axis=0)).astype(int)
    ends = [(max(a, 0), min(b + 1, size)) for a, b, size in zip(low.tolist(), high.tolist(), sides, strict=True)]
    if not 0 <= number < shape[axis] or any(a >= b for a, b in ends):
        raise InputError("a lasso holds no voxel", expected=f"a line inside {tuple(shape)}", got=f"slice {number}")
    mask = _even_odd(corners, np.arange(*ends[0]), np.arange(*ends[1]))
    ends.insert(axis, (number, number + 1))
    return Region(box_of(ends), np.expand_dims(mask, axis))


def _even_odd(corners: Floats, rows: npt.NDArray[np.int64], columns: npt.NDArray[np.int64]) -> Mask:
    """(rows, columns): which centres are inside or on the outline."""
    r, c = rows[:, None].astype(np.float64), columns[None, :].astype(np.float64)
    inside, outline = np.zeros((len(rows), len(columns)), np.bool_), np.zeros((len(rows), len(columns)), np.bool_)
    for (r1, c1), (r2, c2) in zip(corners, np.roll(corners, -1, axis=0), strict=True):
        cross = (c - c1) * (r2 - r1) - (r - r1) * (c2 - c1)
        within = ((r - r1) * (r - r2) <= 0) & ((c - c1) * (c - c2) <= 0)
        outline |= (np.abs(cross) <= 1e-9 * (1 + abs(r2 - r1) + abs(c2 - c1))) & within
        if r1 != r2:
            # A corner at the height of a row counts for one of its two edges.
            inside ^= ((r1 > r) != (r2 > r)) & (c < c1 + (r - r1) / (r2 - r1) * (c2 - c1))
    return inside | outline


def threshold(
    labels: Labels,
    image: npt.NDArray[Any],
    region: Region,
    *,
    value: int,
    window: tuple[float, float],
    inside: Sequence[int] | None = None,
) -> Change:
    """Paints the voxels of a region whose intensity is in the window, both ends included.

    `image`: (I, J, K), on the labels' grid. `inside`: the structures that may be painted, 0 being the background,
    which alone may by default: `(0, 3)` takes from structure 3 as well, `(3,)` paints in structure 3 only.
    Raises `InputError` for a window whose lower end is above its upper one, or an image of another shape.
    """
    bright = _in_window(labels, image, region, window)
    allowed = np.isin(labels[region.box.slices], (0,) if inside is None else tuple(inside))
    return painted(labels, region.box, bright & allowed, value=value, over="all")


def threshold_out(
    labels: Labels, image: npt.NDArray[Any], region: Region, *, value: int, window: tuple[float, float]
) -> Change:
    """Takes from a structure the voxels of a region whose intensity is not in the window. Raises like `threshold`."""
    dark = region.mask & ~_in_window(labels, image, region, window)
    return erased(labels, region.box, dark, value=value)


def _in_window(labels: Labels, image: npt.NDArray[Any], region: Region, window: tuple[float, float]) -> Mask:
    if image.shape != labels.shape:
        raise InputError("an image must be on the labels' grid", expected=labels.shape, got=image.shape)
    if not window[0] <= window[1]:
        raise InputError("a window's lower end lies above its upper one", got=window)
    part = image[region.box.slices]
    found: Mask = region.mask & (part >= window[0]) & (part <= window[1])
    return found
