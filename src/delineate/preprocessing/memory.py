"""What preparing a scan takes, known before it is done."""

from __future__ import annotations

import math

from delineate.geometry import Box, Grid, Triple
from delineate.planning import Plan, Unchanged, ZScore
from delineate.preprocessing.boxes import CHUNK_VOXELS
from delineate.preprocessing.intensities import is_masked, needs_statistics
from delineate.preprocessing.traces import Trace, image_matrices, image_slice_axis, overshoots, trace_scan, turn
from delineate.resampling import slice_bytes, window_bytes


def prepared_shape(grid: Grid, plan: Plan, region: Box | None = None) -> Triple:
    """(I, J, K) of the prepared image of a scan on `grid`, or of a region of it; less if its foreground is smaller."""
    return _trace(grid, plan, region).part.shape


def prepare_bytes(grid: Grid, plan: Plan, region: Box | None = None) -> int:
    """The most memory that `prepare` takes beside the scan, which may be mapped, and the stage before's segmentation.

    The sum of the prepared image (4 bytes a voxel and channel), windows of the channel that is being
    resampled (`resampling.window_bytes`; twice where they are normalised while they are read), chunks of statistics,
    and of whole scans of what the plan needs: its outline for a masked Z-score or a cascade (1 byte a voxel), the label
    map before (2 bytes; more than 253 labels: 4), and copies of the resampled channel for percentiles (12 bytes) or a
    region's statistics (4 bytes). All of the scan is taken for foreground: with air around the patient it takes less.
    """
    trace = _trace(grid, plan, region)
    voxels, resampled = math.prod(trace.crop.shape), math.prod(trace.whole.shape)
    normalised = voxels if plan.preparation.normalise_first else resampled
    image = 4 * plan.prepared_channels * math.prod(trace.part.shape)
    masks = voxels * (bool(plan.previous) or any(map(is_masked, plan.normalisation)))
    before = (4 if len(plan.previous) > 253 else 2) * voxels * bool(plan.previous)
    percentiles = 12 * normalised * any(map(_has_percentiles, plan.normalisation))
    statistics = not plan.preparation.normalise_first and any(map(needs_statistics, plan.normalisation))
    whole = 4 * resampled * (region is not None and statistics)
    chunks = (24 if any(map(needs_statistics, plan.normalisation)) else 12) * CHUNK_VOXELS
    return image + masks + max(before, percentiles, whole + _resampling_bytes(trace, plan), chunks)


def _trace(grid: Grid, plan: Plan, region: Box | None) -> Trace:
    change = turn(grid, plan)
    shape = tuple(grid.shape[axis] for axis in change.order)
    return trace_scan(grid, change, Box((0, 0, 0), shape), plan, region)  # type: ignore[arg-type]


def _resampling_bytes(trace: Trace, plan: Plan) -> int:
    """As NIfTI and DICOM arrays lie in memory: their last axis is the slowest."""
    how, slices = plan.preparation, image_slice_axis(trace, plan)
    matrices = image_matrices(trace, plan)
    copies = 2 if how.normalise_first and any(not isinstance(n, Unchanged) for n in plan.normalisation) else 1
    if slices is not None and overshoots(trace, plan):
        return slice_bytes(matrices, axis=slices, copies=copies)
    if how.resampling != "delineate":
        i, j, k = (matrices[axis] for axis in sorted(range(3), key=lambda n: -trace.change.order[n]))
        matrices = (i, j, k)
    return window_bytes(matrices, copies=copies)


def _has_percentiles(how: object) -> bool:
    return isinstance(how, ZScore) and (how.lower_percentile > 0 or how.upper_percentile < 100)
