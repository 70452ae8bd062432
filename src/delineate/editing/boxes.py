"""What the tools are told, checked: boxes, indices, lengths. And the boxes of voxels that they work in.

Everything outside of a tool's box stays as it is without being looked at.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from delineate.errors import InputError
from delineate.geometry import Box, Triple, TripleMM, box_of

Mask = npt.NDArray[np.bool_]


def whole(shape: Sequence[int]) -> Box:
    """The box of everything in an (I, J, K) array."""
    return box_of((0, size) for size in shape)


def padded(box: Box, voxels: int | Sequence[int], shape: Sequence[int]) -> Box:
    """The box wider by `voxels` (one number, or one an axis) on each side, cut at the borders of `shape`."""
    wide = (voxels,) * 3 if isinstance(voxels, int) else tuple(voxels)
    ends = zip(box.start, box.stop, wide, shape, strict=True)
    return box_of((max(start - more, 0), min(stop + more, size)) for start, stop, more, size in ends)


def checked_box(start: Sequence[int], stop: Sequence[int], shape: Sequence[int]) -> Box:
    """The box from `start` up to, without, `stop`, cut at the borders. Raises `InputError` if nothing is inside."""
    ends = [(max(int(low), 0), min(int(high), size)) for low, high, size in zip(start, stop, shape, strict=True)]
    if any(low >= high for low, high in ends):
        raise InputError(
            "a box holds no voxel",
            expected=f"start before stop, inside {tuple(shape)}",
            got=f"{tuple(start)} to {tuple(stop)}",
            remedy="Draw the box over the picture.",
        )
    return box_of(ends)


def voxel_at(index: npt.ArrayLike) -> npt.NDArray[np.int64]:
    """The voxel that continuous indices lie in; on the border between two the higher one, as in the page."""
    found: npt.NDArray[np.int64] = np.floor(np.asarray(index, dtype=np.float64) + 0.5).astype(np.int64)
    return found


def checked_index(index: Sequence[float], shape: Sequence[int]) -> Triple:
    """The voxel at a continuous index. Raises `InputError` if it is not inside `shape`."""
    # Compared before numpy has them: whole numbers may be too large for it.
    if len(index) != 3 or not all(abs(at) < math.inf for at in index):
        raise InputError("a point must be three finite numbers", got=tuple(index))
    if not all(-0.5 <= at < size - 0.5 for at, size in zip(index, shape, strict=True)):
        raise InputError("a point lies outside the volume", expected=f"inside {tuple(shape)}", got=tuple(index))
    i, j, k = voxel_at(index).tolist()
    return i, j, k


def checked_axis(axis: int) -> int:
    """The axis 0, 1 or 2. Raises `InputError` for another."""
    if axis not in (0, 1, 2):
        raise InputError("an axis of a volume is one of three", expected="0, 1 or 2", got=axis)
    return axis


def checked_spacing(spacing_mm: Sequence[float]) -> TripleMM:
    """Three positive, finite distances between voxel centres. Raises `InputError` for others."""
    if len(spacing_mm) != 3 or not all(np.isfinite(side) and side > 0 for side in spacing_mm):
        raise InputError("spacings must be three lengths above 0 mm", got=tuple(spacing_mm))
    return float(spacing_mm[0]), float(spacing_mm[1]), float(spacing_mm[2])


def checked_mm(distance_mm: float, *, what: str) -> float:
    """A distance above 0 mm. Raises `InputError` for one that is not, or not finite."""
    if not (np.isfinite(distance_mm) and distance_mm > 0):
        raise InputError(f"{what} must be a length above 0 mm", got=distance_mm)
    return float(distance_mm)


def reach(distance_mm: float, spacing_mm: TripleMM) -> Triple:
    """How many voxels a distance goes along each axis, at most."""
    i, j, k = (int(np.ceil(distance_mm / step)) + 1 for step in spacing_mm)
    return i, j, k
