"""The planes that a segmentation is written as: the slices of its series where they fit, else those of its own grid."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import product

import numpy as np
import numpy.typing as npt

from delineate.errors import ExportError
from delineate.formats.dicom.slices import COSINE_TOLERANCE, Slice
from delineate.geometry import AxisChange, FloatArray, Grid, change_axes, index_to_world
from delineate.volume import Array, Segmentation, change_array_axes

SHEAR_TOLERANCE = 1e-3  # cosine; what float32 headers and rounded positions leave is smaller
PLACE_TOLERANCE = 0.1  # of the smallest voxel edge, as in geometry.aligned


@dataclass(frozen=True, slots=True, eq=False)
class Planes:
    """Planes with voxels of some structure, or the first one if there are none.

    `array`: (..., planes, rows, columns), a label map or masks as in the segmentation. `positions_mm`: (planes, 3), the
    centre of each one's first pixel. `cosines`: along a row, down a column. `spacing_mm`: between rows, between
    columns. `between_planes_mm`: of the whole stack, along the normal, also where planes between were left out.
    `on_slices`: every plane is a slice of the series.
    """

    array: Array
    positions_mm: FloatArray
    cosines: tuple[float, ...]
    spacing_mm: tuple[float, float]
    between_planes_mm: float
    on_slices: bool = False


def planes_of(segmentation: Segmentation, slices: Sequence[Slice]) -> Planes:
    """The segmentation as planes parallel to the slices if any two of its axes are, else to its first two axes.

    Where every plane's pixels are pixels of a slice, the planes take over the slices' own positions and full matrix.
    Raises `ExportError` for a grid of which no two axes are perpendicular.
    """
    change = (_along(segmentation.grid, slices[0]) if slices else None) or _own_axes(segmentation.grid)
    grid = change_axes(segmentation.grid, change)
    array = change_array_axes(segmentation.array, change)
    rows_first = array.transpose(*range(array.ndim - 3), -1, -2, -3)
    lead = tuple(range(array.ndim - 3))
    occupied = np.flatnonzero(rows_first.any(axis=(*lead, -2, -1)))
    if not occupied.size:
        occupied = np.zeros(1, dtype=np.intp)
    row, column, step = grid.affine[:3, :3].T
    normal = np.cross(row, column)
    planes = Planes(
        array=_taken(rows_first, occupied),
        positions_mm=index_to_world(grid, [(0, 0, k) for k in occupied.tolist()]),
        cosines=(*grid.direction[:, 0].tolist(), *grid.direction[:, 1].tolist()),
        spacing_mm=(grid.spacing_mm[1], grid.spacing_mm[0]),
        between_planes_mm=float(step @ normal / np.linalg.norm(normal)),
    )
    return _on_slices(planes, slices) or planes


def _taken(array: Array, planes: npt.NDArray[np.intp]) -> Array:
    """The planes of axis -3; a view where they follow each other, for masks may be most of the memory."""
    first, last = int(planes[0]), int(planes[-1])
    return array[..., first : last + 1, :, :] if last - first + 1 == len(planes) else array[..., planes, :, :]


def _along(grid: Grid, first: Slice) -> AxisChange | None:
    """What turns axes I and J along the slices' rows and columns; None if they are not parallel to any two axes."""
    direction = grid.direction
    order, flips = [], []
    for axis in (first.row_direction, first.column_direction):
        cosines = np.asarray(axis) @ direction
        best = int(np.abs(cosines).argmax())
        flip = bool(cosines[best] < 0)
        if np.abs(direction[:, best] * (-1 if flip else 1) - axis).max() > COSINE_TOLERANCE:
            return None
        order.append(best)
        flips.append(flip)
    last = 3 - sum(order)
    backwards = bool(direction[:, last] @ first.normal < 0)
    return AxisChange((order[0], order[1], last), (flips[0], flips[1], backwards))


def _own_axes(grid: Grid) -> AxisChange:
    direction = grid.direction
    for order in ((0, 1, 2), (0, 2, 1), (1, 2, 0)):
        i, j, k = direction[:, order].T
        if abs(i @ j) <= SHEAR_TOLERANCE:
            return AxisChange(order, (False, False, bool(np.cross(i, j) @ k < 0)))
    raise ExportError(
        "a sheared grid cannot be written as planes",
        expected="two perpendicular axes",
        got=np.round(direction, 4).tolist(),
        remedy="Resample the segmentation onto a grid with perpendicular axes.",
    )


def _on_slices(planes: Planes, slices: Sequence[Slice]) -> Planes | None:
    """The same voxels in the full matrix of the slices; None unless each is a pixel of theirs."""
    if not slices:
        return None
    rows, columns = planes.array.shape[-2:]
    found = [_nearest(position, slices) for position in planes.positions_mm]
    starts = _starts(planes, found)
    if starts is None or len({(s.path, s.frame) for s in found}) < len(found):
        return None
    j, i = starts
    first = slices[0]
    (to_j, from_j), (to_i, from_i) = (
        _overlap(start, here, there) for start, here, there in ((j, rows, first.rows), (i, columns, first.columns))
    )
    array = inside = planes.array[..., from_j, from_i]
    if inside.shape != planes.array.shape and np.count_nonzero(inside) != np.count_nonzero(planes.array):
        return None
    if inside.shape[-2:] != (first.rows, first.columns):
        array = np.zeros((*inside.shape[:-2], first.rows, first.columns), dtype=inside.dtype)
        array[..., to_j, to_i] = inside
    positions = np.array([s.position_mm for s in found], dtype=np.float64)
    return replace(
        planes,
        array=array,
        positions_mm=positions,
        cosines=first.cosines,
        spacing_mm=first.spacing_mm,
        on_slices=True,
    )


def _nearest(position_mm: FloatArray, slices: Sequence[Slice]) -> Slice:
    normal = slices[0].normal
    return min(slices, key=lambda s: abs(float(normal @ (position_mm - s.position_mm))))


def _starts(planes: Planes, found: Sequence[Slice]) -> tuple[int, int] | None:
    """Row and column in the slices of the planes' first pixel; None unless all corners of all planes are on pixels."""
    rows, columns = planes.array.shape[-2:]
    across, down = np.array(planes.cosines).reshape(2, 3) * np.array(planes.spacing_mm[::-1])[:, np.newaxis]
    corners = np.array(list(product((0, rows - 1), (0, columns - 1))), dtype=np.float64)
    shifts_mm = []
    for position, slice_ in zip(planes.positions_mm, found, strict=True):
        axes = np.array([slice_.column_direction, slice_.row_direction, slice_.normal])
        world = position + corners[:, :1] * down + corners[:, 1:] * across
        in_plane = corners * slice_.spacing_mm
        shifts_mm.append((world - slice_.position_mm) @ axes.T - np.column_stack([in_plane, np.zeros(len(corners))]))
    shifts = np.concatenate(shifts_mm)
    spacing = np.array([*found[0].spacing_mm, 1.0])
    start = np.rint(shifts[0] / spacing) * (1, 1, 0)
    tolerance = PLACE_TOLERANCE * min(*planes.spacing_mm, planes.between_planes_mm)
    if np.linalg.norm(shifts - start * spacing, axis=1).max() > tolerance:
        return None
    return int(start[0]), int(start[1])


def _overlap(start: int, here: int, there: int) -> tuple[slice, slice]:
    """The part of `there` pixels that `here` pixels cover from `start` on, and the same part of `here`."""
    first = max(start, 0)
    stop = max(min(start + here, there), first)
    return slice(first, stop), slice(first - start, stop - start)
