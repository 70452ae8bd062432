"""Where the patient is in a scan."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import numpy as np
import numpy.typing as npt

from delineate.fingerprint import FOREGROUND_ABOVE
from delineate.geometry import Box, box_of
from delineate.planning import Plan
from delineate.volume import Array, Kind, Volume

CHUNK_VOXELS = 2**19  # looked at together
Slices = tuple[slice, slice, slice]
Mask = npt.NDArray[np.bool_]


def memory_order(array: Array) -> tuple[int, int, int]:
    """The last three axes, the one that is slowest in memory or on disk first; those of one voxel last."""
    shape, strides = array.shape[-3:], array.strides[-3:]
    first, second, third = sorted(range(3), key=lambda axis: -abs(strides[axis]) * (shape[axis] > 1))
    return first, second, third


def chunks(array: Array) -> Iterator[Slices]:
    """Ranges of planes of an array (..., I, J, K), in the order in which it lies in memory or on disk."""
    shape, axis = array.shape[-3:], memory_order(array)[0]
    planes = max(1, CHUNK_VOXELS * shape[axis] // max(1, int(np.prod(shape))))
    for start in range(0, shape[axis], planes):
        whole = [slice(0, n) for n in shape]
        whole[axis] = slice(start, min(start + planes, shape[axis]))
        yield whole[0], whole[1], whole[2]


def find_box(image: Volume, plan: Plan) -> Box:
    """The foreground's box in the image's own indices; the whole image if the plan says so, or all is air."""
    whole = Box((0, 0, 0), image.grid.shape)
    if not plan.crop_foreground:
        return whole
    is_inside = _is_not_zero if plan.preparation.crop_to == "nonzero" else _is_above_air
    recorded = [n for n in range(image.channels) if n not in image.absent]
    return _box([image.array[n] for n in recorded], [plan.kinds[n] for n in recorded], is_inside) or whole


def outline(array: Array) -> Mask | None:
    """(I, J, K): what is not 0 in some channel of (C, I, J, K), its holes filled; None if that is everything."""
    order = memory_order(array)
    ordered = np.empty([array.shape[1 + axis] for axis in order], dtype=np.uint8)
    state: Array = ordered.transpose(np.argsort(order))
    for chunk in chunks(array):
        state[chunk] = (array[(slice(None), *chunk)] == 0).all(axis=0)
    if not state.any():
        return None
    from delineate.preprocessing import holes

    holes.flood(ordered)
    mask: Mask = np.not_equal(state, holes.OUTSIDE, out=state.view(bool))
    return mask


def _is_not_zero(values: Array, kind: Kind) -> Mask:
    return np.asarray(values != 0)


def _is_above_air(values: Array, kind: Kind) -> Mask:
    return np.asarray(values > FOREGROUND_ABOVE[kind])


def _box(channels: Sequence[Array], kinds: Sequence[Kind], is_inside: Callable[[Array, Kind], Mask]) -> Box | None:
    """Chunk by chunk, so that no mask of the scan is held."""
    hits = [np.zeros(n, dtype=bool) for n in channels[0].shape]
    for chunk in chunks(channels[0]):
        mask = np.logical_or.reduce([is_inside(c[chunk], kind) for c, kind in zip(channels, kinds, strict=True)])
        for axis in range(3):
            hits[axis][chunk[axis]] |= mask.any(axis=tuple(n for n in range(3) if n != axis))
    if not hits[0].any():
        return None
    ends = [np.flatnonzero(axis)[[0, -1]] for axis in hits]
    return box_of((int(first), int(last) + 1) for first, last in ends)
