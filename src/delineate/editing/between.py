"""Filling between slices: what was drawn on a few slices becomes a whole structure."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from delineate.editing.boxes import Mask, checked_axis, checked_spacing
from delineate.editing.changes import Change, Labels, Over, extent, redrawn
from delineate.editing.distances import signed_distance
from delineate.errors import InputError

_NEAR = 1e-4  # mm: a voxel this near to the outline is in it


def fill_between(
    labels: Labels,
    value: int,
    *,
    axis: int,
    spacing_mm: Sequence[float],
    drawn: Sequence[int] | None = None,
    over: Over = "background",
) -> Change:
    """Fills a structure between the slices across `axis` that it is drawn on: several gaps at once.

    Shape-based interpolation (Raya and Udupa 1990): signed distances in the plane, in mm, go over linearly from one
    drawn slice to the next; where both have one piece, they are laid over each other at their centres first, so that
    an oblique vessel stays one. Drawn slices stay as they are. `drawn`: which ones count; the slices between them are
    made anew then, whatever they hold. By default all that hold the structure, and only empty slices are filled.

    Raises `InputError` if fewer than two slices are drawn, or a drawn one is empty; `LabelError` without structure.
    """
    spacing, axis = checked_spacing(spacing_mm), checked_axis(axis)
    around = extent(labels, value)
    planes = np.moveaxis(labels[around.slices] == value, axis, 0)
    first = around.start[axis]
    held = (np.flatnonzero(planes.any(axis=(1, 2))) + first).tolist()
    chosen = _chosen(held, drawn, labels.shape[axis])
    in_plane = [step for other, step in enumerate(spacing) if other != axis]
    wanted = planes.copy()
    for low, high in pairwise(chosen):
        if high - low > 1:
            filled = between(planes[low - first], planes[high - first], high - low - 1, in_plane)
            wanted[low - first + 1 : high - first] = filled
    return redrawn(labels, around, np.moveaxis(wanted, 0, axis), value=value, over=over)


def _chosen(held: list[int], drawn: Sequence[int] | None, size: int) -> list[int]:
    chosen = held if drawn is None else sorted({int(number) for number in drawn})
    empty = [number for number in chosen if number not in set(held)]
    if empty:
        raise InputError("a slice to fill from holds nothing of the structure", got=f"slice {empty[0]} of {size}")
    if len(chosen) < 2:
        raise InputError(
            "filling goes from one drawn slice to another",
            expected="at least two drawn slices",
            got=len(chosen),
            remedy="Draw the structure on another slice of the same plane.",
        )
    return chosen


def between(one: Mask, other: Mask, count: int, spacing_mm: Sequence[float]) -> Mask:
    """`count` planes evenly between two masks of a plane (I, J), each with at least a voxel: (count, I, J)."""
    from scipy.ndimage import label

    corners = np.ones((3, 3))
    single = all(label(mask, corners)[1] == 1 for mask in (one, other))
    way = _centre(other) - _centre(one) if single else np.zeros(2)
    # Shapes that are moved may reach over the edge on the way.
    margin = np.ceil(np.abs(way)).astype(int) + 1
    wide = [np.pad(mask, [(side, side) for side in margin]) for mask in (one, other)]
    distances = [signed_distance(mask, spacing_mm) for mask in wide]
    planes = np.empty((count, *one.shape), np.bool_)
    inner = tuple(slice(side, side + size) for side, size in zip(margin, one.shape, strict=True))
    for number in range(count):
        part = (number + 1) / (count + 1)
        moved = _moved(distances[0], part * way), _moved(distances[1], (part - 1) * way)
        planes[number] = ((1 - part) * moved[0] + part * moved[1] > -_NEAR)[inner]
    return planes


def _centre(mask: Mask) -> npt.NDArray[np.float64]:
    centre: npt.NDArray[np.float64] = np.argwhere(mask).mean(axis=0)
    return centre


def _moved(distances: npt.NDArray[np.float32], way: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """A plane moved by parts of voxels, linearly; beyond its edge it goes on as it is there."""
    moved = distances.astype(np.float64)
    for axis, step in enumerate(way.tolist()):
        if step == 0:
            continue
        size, whole = moved.shape[axis], math.floor(-step)
        part = -step - whole
        low, high = (np.clip(np.arange(size) + whole + more, 0, size - 1) for more in (0, 1))
        moved = (1 - part) * moved.take(low, axis) + part * moved.take(high, axis)
    return moved
