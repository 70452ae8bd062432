"""Boxes of voxels: tools look at the part of an array that they may change, and leave the rest alone."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from delineate.errors import InputError

Mask = npt.NDArray[np.bool_]
Box = tuple[slice, slice, slice]
Index = tuple[int, int, int]
Spacing = tuple[float, float, float]


def whole(shape: Sequence[int]) -> Box:
    """The box of everything in an (I, J, K) array."""
    return slice(0, shape[0]), slice(0, shape[1]), slice(0, shape[2])


def box_of(mask: Mask) -> Box | None:
    """The smallest box around the voxels of an (I, J, K) mask; None if it has none."""
    sides = []
    for axis in range(3):
        found = np.flatnonzero(mask.any(axis=tuple(other for other in range(3) if other != axis)))
        if len(found) == 0:
            return None
        sides.append(slice(int(found[0]), int(found[-1]) + 1))
    return sides[0], sides[1], sides[2]


def padded(box: Box, voxels: int | Sequence[int], shape: Sequence[int]) -> Box:
    """The box wider by `voxels` (one number, or one an axis) on each side, cut at the borders of `shape`."""
    wide = (voxels,) * 3 if isinstance(voxels, int) else tuple(voxels)
    sides = [
        slice(max(side.start - more, 0), min(side.stop + more, size))
        for side, more, size in zip(box, wide, shape, strict=True)
    ]
    return sides[0], sides[1], sides[2]


def shape_of(box: Box) -> Index:
    """Voxels of the box along each axis."""
    first, second, third = (side.stop - side.start for side in box)
    return first, second, third


def checked_box(start: Sequence[int], stop: Sequence[int], shape: Sequence[int]) -> Box:
    """The box from `start` up to, without, `stop`, cut at the borders. Raises `InputError` if nothing is inside."""
    ends = [(max(int(a), 0), min(int(b), size)) for a, b, size in zip(start, stop, shape, strict=True)]
    if any(first >= last for first, last in ends):
        raise InputError(
            "a box holds no voxel",
            expected=f"start before stop, inside {tuple(shape)}",
            got=f"{tuple(start)} to {tuple(stop)}",
            remedy="Draw the box over the picture.",
        )
    sides = [slice(first, last) for first, last in ends]
    return sides[0], sides[1], sides[2]


def checked_index(index: Sequence[int], shape: Sequence[int]) -> Index:
    """The index as whole numbers. Raises `InputError` if it is not inside `shape`."""
    if len(index) != 3 or not all(0 <= at < size for at, size in zip(index, shape, strict=False)):
        raise InputError("a point lies outside the volume", expected=f"inside {tuple(shape)}", got=tuple(index))
    return int(index[0]), int(index[1]), int(index[2])


def checked_spacing(spacing_mm: Sequence[float]) -> Spacing:
    """Three positive, finite distances between voxel centres. Raises `InputError` for others."""
    if len(spacing_mm) != 3 or not all(np.isfinite(side) and side > 0 for side in spacing_mm):
        raise InputError("spacings must be three lengths above 0 mm", got=tuple(spacing_mm))
    return float(spacing_mm[0]), float(spacing_mm[1]), float(spacing_mm[2])


def checked_mm(distance_mm: float, *, what: str) -> float:
    """A distance of 0 mm or more. Raises `InputError` for one that is negative or not finite."""
    if not (np.isfinite(distance_mm) and distance_mm >= 0):
        raise InputError(f"{what} must be a length of 0 mm or more", got=distance_mm)
    return float(distance_mm)


def gaps(positions: Sequence[int]) -> list[tuple[int, int]]:
    """Neighbours in an ascending list between which whole numbers are missing."""
    return [(first, last) for first, last in pairwise(positions) if last - first > 1]
