"""Where a scan's voxels go when it is prepared, and the way back: grids, boxes and matrices, no intensities."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from delineate.errors import InputError
from delineate.geometry import (
    AxisChange,
    Box,
    Grid,
    Triple,
    TripleMM,
    axis_change,
    box_of,
    change_axes,
    crop_grid,
    reshape_grid,
    respace_grid,
)
from delineate.planning import STORED, Plan
from delineate.resampling import AxisMatrices, Interpolation, axis_matrices, resize_matrices
from delineate.volume import Array, change_array_axes, read_only

_ORDERS = {0: Interpolation.NEAREST, 1: Interpolation.LINEAR, 3: Interpolation.CUBIC}
_SAME_SPACING = 1e-6  # relative; less is a header's rounding


@dataclass(frozen=True, slots=True)
class Trace:
    """How a scan was prepared, and with it the way back.

    `original`: the scan's own grid. `change`: turns its axes into the prepared image's; the boxes are in indices of the
    turned scan. `crop`: what was cut out, and resampled onto the grid `whole`. `part`: the prepared image's part of
    `whole`, in its indices. `box`: what comes back from it; the crop, unless only a region was asked for.
    """

    original: Grid
    change: AxisChange
    crop: Box
    whole: Grid
    part: Box
    box: Box

    @property
    def turned(self) -> Grid:
        return change_axes(self.original, self.change)

    @property
    def prepared(self) -> Grid:
        """The prepared image's grid."""
        return self.whole if self.part.shape == self.whole.shape else crop_grid(self.whole, self.part)

    @property
    def restored(self) -> Grid:
        """The grid of what comes back, before it is put into the scan: that of `box`."""
        return crop_grid(self.turned, self.box)


@dataclass(frozen=True, slots=True)
class Focus:
    """A part of a scan that is wanted, and more around it that is prepared.

    `box`: what comes back, in the scan's own indices. `widen`: what is prepared, given the whole prepared image's shape
    and the box of it that `box` depends on, which it must hold.
    """

    box: Box
    widen: Callable[[Triple, Box], Box]


def turn(grid: Grid, plan: Plan) -> AxisChange:
    """What turns a scan's axes into those of the prepared image."""
    oriented = axis_change(grid.orientation, grid.orientation if plan.orientation == STORED else plan.orientation)
    axes = plan.preparation.axes
    order = tuple(oriented.order[axis] for axis in axes)
    return AxisChange(order, tuple(oriented.flips[axis] for axis in axes))  # type: ignore[arg-type]


def trace_scan(original: Grid, change: AxisChange, crop: Box, plan: Plan, region: Box | Focus | None = None) -> Trace:
    """The way of a scan whose foreground, in turned indices, is `crop`. `region`: in the scan's own indices.

    Raises `InputError` for a region without a voxel of the crop.
    """
    turned = change_axes(original, change)
    whole = prepared_grid(crop_grid(turned, crop), plan)
    everything = Trace(original, change, crop, whole, Box((0, 0, 0), whole.shape), crop)
    if region is None:
        return everything
    wanted = region.box if isinstance(region, Focus) else region
    box = _overlap(_turned_box(wanted, original, change), crop, wanted)
    needed = (matrix.needed for matrix in _rows_of(logit_matrices(everything, plan), _relative(box, crop)))
    part = box_of((window.start, window.stop) for window in needed)
    if isinstance(region, Focus):
        part = region.widen(whole.shape, part)
    return Trace(original, change, crop, whole, part, box)


def of_whole(trace: Trace) -> Trace:
    """The trace of the whole crop, of which a region was prepared."""
    return replace(trace, part=Box((0, 0, 0), trace.whole.shape), box=trace.crop)


def _turned_box(box: Box, grid: Grid, change: AxisChange) -> Box:
    def ends(axis: int, flip: bool) -> tuple[int, int]:
        start, stop, size = box.start[axis], box.stop[axis], grid.shape[axis]
        return (size - stop, size - start) if flip else (start, stop)

    return box_of(ends(axis, flip) for axis, flip in zip(change.order, change.flips, strict=True))


def _overlap(box: Box, crop: Box, region: Box) -> Box:
    ranges = [(max(a, c), min(b, d)) for a, b, c, d in zip(box.start, box.stop, crop.start, crop.stop, strict=True)]
    if any(start >= stop for start, stop in ranges):
        raise InputError(
            "the region to segment lies outside the patient",
            expected=f"voxels within {crop.start} to {crop.stop}, in the prepared image's axes",
            got=f"{region.start} to {region.stop} in the scan's",
        )
    return box_of(ranges)


def _relative(box: Box, to: Box) -> tuple[slice, slice, slice]:
    i, j, k = (slice(a - o, b - o) for a, b, o in zip(box.start, box.stop, to.start, strict=True))
    return i, j, k


def _rows_of(matrices: AxisMatrices, rows: tuple[slice, slice, slice]) -> AxisMatrices:
    i, j, k = (matrix.part(part) for matrix, part in zip(matrices, rows, strict=True))
    return i, j, k


def prepared_grid(grid: Grid, plan: Plan) -> Grid:
    """The grid that a crop with the given grid is resampled onto."""
    if plan.resize_to is not None:
        return reshape_grid(grid, plan.resize_to)
    spacing = plan_spacing_mm(grid, plan)
    if plan.preparation.resampling == "delineate":
        return respace_grid(grid, spacing)
    # In this order and to the nearest even number at a tie, as nnU-Net computes it: a voxel more or less shows.
    shape = [max(1, round(s / new * n)) for n, s, new in zip(grid.shape, _scan_spacing_mm(grid), spacing, strict=True)]
    return grid if tuple(shape) == grid.shape else reshape_grid(grid, shape)


def plan_spacing_mm(grid: Grid, plan: Plan) -> TripleMM:
    """The spacing that the plan wants for a scan with the given (turned) grid."""
    i, j, k = plan.spacing_mm
    return (i, j, _scan_spacing_mm(grid)[2]) if plan.preparation.keep_slices else (i, j, k)


def _scan_spacing_mm(grid: Grid) -> TripleMM:
    i, j, k = (_as_stored(mm) for mm in grid.spacing_mm)
    return i, j, k


def _as_stored(mm: float) -> float:
    """A spacing as a NIfTI header has it, in float32; the length of an oblique axis is off by some rounding.

    nnU-Net takes spacings from there, and decides by comparing them: is 3 mm more than three times 1 mm?
    """
    if float(np.float32(mm)) == mm:
        return mm
    for digits in (5, 6, 7):
        short = float(f"{mm:.{digits}g}")
        if abs(short - mm) <= 6e-8 * mm:
            return float(np.float32(short))
    return float(np.float32(mm))


def slice_axis(source_mm: TripleMM, target_mm: TripleMM, plan: Plan) -> int | None:
    """The axis across which slices are resampled one by one, or None.

    It is the coarsest of the source's, or, if those differ too little, of the target's. Two equally coarse ones are
    none.
    """
    how = plan.preparation.slice_wise
    if how == "never":
        return None
    for spacing in (source_mm, target_mm):
        if how == "always" or max(spacing) / min(spacing) > plan.preparation.anisotropy:
            coarsest = [axis for axis, mm in enumerate(spacing) if mm >= max(spacing) * (1 - _SAME_SPACING)]
            return coarsest[0] if len(coarsest) == 1 else None
    return None


def image_slice_axis(trace: Trace, plan: Plan) -> int | None:
    """`slice_axis` on the way to the prepared image."""
    grid = trace.turned
    return slice_axis(_scan_spacing_mm(grid), plan_spacing_mm(grid, plan), plan)


def image_matrices(trace: Trace, plan: Plan) -> AxisMatrices:
    """From the crop to the prepared image."""
    whole = _matrices_to_whole(trace, plan, _ORDERS[plan.preparation.image_order])
    return _rows_of(whole, trace.part.slices)


def overshoots(trace: Trace, plan: Plan) -> bool:
    """Whether the resampled image is clipped to the range of its source, as scikit-image does after a cubic spline."""
    how = plan.preparation
    return how.resampling == "nnunet" and how.image_order == 3 and trace.crop.shape != trace.whole.shape


def label_matrices(trace: Trace, plan: Plan) -> tuple[AxisMatrices, AxisMatrices]:
    """From the crop to the prepared image for label maps: to interpolate their masks linearly, or take the closest."""
    linear, nearest = (_matrices_to_whole(trace, plan, how) for how in (Interpolation.LINEAR, Interpolation.NEAREST))
    return _rows_of(linear, trace.part.slices), _rows_of(nearest, trace.part.slices)


def _matrices_to_whole(trace: Trace, plan: Plan, how: Interpolation) -> AxisMatrices:
    return _matrices(crop_grid(trace.turned, trace.crop), trace.whole, how, plan, slices=image_slice_axis(trace, plan))


def logit_matrices(trace: Trace, plan: Plan, *, anti_alias: bool = False) -> AxisMatrices:
    """From the prepared image to what comes back, `trace.box`: how logits are interpolated.

    The weights are those of the whole crop also where a region is prepared. They are not negative.
    """
    grid = trace.turned
    slices = slice_axis(plan_spacing_mm(grid, plan), _scan_spacing_mm(grid), plan)
    how = _ORDERS[plan.preparation.logits_order]
    cropped = crop_grid(grid, trace.crop)
    matrices = _matrices(trace.whole, cropped, how, plan, slices=slices, anti_alias=anti_alias)
    i, j, k = _rows_of(matrices, _relative(trace.box, trace.crop))
    a, b, c = trace.part.slices
    return i.from_window(a), j.from_window(b), k.from_window(c)


def _matrices(
    source: Grid, target: Grid, how: Interpolation, plan: Plan, *, slices: int | None, anti_alias: bool = True
) -> AxisMatrices:
    hows = [Interpolation.NEAREST if axis == slices else how for axis in range(3)]
    resampling = plan.preparation.resampling
    if resampling != "delineate":
        return resize_matrices(source.shape, target.shape, hows, single_precision=resampling == "nnunet_torch")
    made = {one: axis_matrices(source, target, interpolation=one, anti_alias=anti_alias) for one in set(hows)}
    return made[hows[0]][0], made[hows[1]][1], made[hows[2]][2]


def restored_view(array: Array, trace: Trace) -> Array:
    """What comes back, in an array (..., I, J, K) in the scan's own grid: a view, with the prepared image's axes."""
    view: Array = change_array_axes(array, trace.change)[(..., *trace.box.slices)]
    return view


def uncrop(array: Array, trace: Trace, *, fill: float = 0) -> Array:
    """An array (..., I, J, K) of `trace.box` put into the scan's own grid, with `fill` around it; read-only."""
    out = np.full((*array.shape[:-3], *trace.original.shape), fill, dtype=array.dtype)
    restored_view(out, trace)[...] = array
    return read_only(out)
