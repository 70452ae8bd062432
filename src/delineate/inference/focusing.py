"""Which of a scan's windows a part of it needs, so that the part comes out as it would in the whole.

A voxel's logits are a weighted mean over the windows that hold it. Run where they lie in the whole scan, with all that
they see there, the windows that hold a box give it the whole scan's very logits. Those that only graze the box count
next to nothing: a window's weight falls to 1/3000 of its peak towards its faces. They are left out.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from delineate.geometry import Box, Triple, box_of
from delineate.inference.windows import Layout, layout, padding, window_weight
from delineate.planning import Plan

LEAST_SHARE = 0.05


def windows_around(shape: Triple, needed: Box, plan: Plan, *, least_share: float = LEAST_SHARE) -> Box:
    """What the windows cover that matter for a box in a prepared image of a shape; more than the box on all sides.

    A window matters if, for some voxel, it counts at least `least_share` (0..1) as much as the one that counts most.
    """
    weight = window_weight(plan)
    ranges = []
    for axis, every in enumerate(layout(shape, plan).starts):
        profile = weight.max(axis=tuple(other for other in range(3) if other != axis))
        start, stop = needed.start[axis], needed.stop[axis]
        matter = _mattering(every, profile, np.arange(start, stop), least_share)
        ranges.append((min(start, matter[0]), min(shape[axis], matter[-1] + len(profile))))
    return box_of(ranges)


def layout_within(whole: Triple, part: Box, plan: Plan) -> Layout:
    """The windows of a whole prepared image that lie in a part of it, as a layout over that part.

    If they do not cover the part, it gets windows of its own, as if nothing lay around it.
    """
    starts = []
    for axis, every in enumerate(layout(whole, plan).starts):
        start, stop, width = part.start[axis], part.stop[axis], plan.patch_size[axis]
        if whole[axis] <= width:  # one window, and padding
            within, end = every, min(width, whole[axis])
        else:
            within = tuple(n - start for n in every if start <= n and n + width <= stop)
            end = within[-1] + width if within else 0
        if not within or within[0] != 0 or end != stop - start:
            return layout(part.shape, plan)
        starts.append(within)
    i, j, k = starts
    return Layout(part.shape, plan.patch_size, padding(part.shape, plan.patch_size), (i, j, k))


def _mattering(
    starts: tuple[int, ...], profile: npt.NDArray[np.float32], voxels: npt.NDArray[np.int_], least_share: float
) -> tuple[int, ...]:
    """The starts along one axis of the windows that count for some of the voxels."""
    weights = np.zeros((len(starts), len(voxels)))
    for row, start in zip(weights, starts, strict=True):
        inside = (voxels >= start) & (voxels < start + len(profile))
        row[inside] = profile[voxels[inside] - start]
    largest = (weights / weights.max(axis=0)).max(axis=1)
    return tuple(start for start, share in zip(starts, largest, strict=True) if share > 0 and share >= least_share)
