"""Resampling of images that are made window by window while they are resampled: converted, normalised, masked.

Nothing as large as the source is ever held.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from delineate.resampling.arrays import (
    PLANES,
    blend,
    contiguous,
    each_slab,
    from_window,
    needed_window,
    thread_count,
)
from delineate.resampling.matrices import AxisMatrices, AxisMatrix, Float32Array

Window = tuple[slice, slice, slice]
Read = Callable[[Window], Float32Array]
"""Gives a window of the source as a C-contiguous float32 array; several threads call it at the same time."""

LEAST_PLANES = 16  # of the source, that a slab reads
SLAB_BYTES = 32 * 2**20  # of the target
WINDOW_BYTES = 512 * 2**20  # of the source, that all threads together read at a time, unless one needs more

_ONE = AxisMatrix(np.zeros(1, dtype=np.intp), np.ones((1, 1), dtype=np.float32), 1, slice(0, 1))


def blend_windows(
    read: Read, matrices: AxisMatrices, out: Float32Array, *, limits: tuple[float, float] | None = None
) -> None:
    """The product of an image (I, J, K) with the matrix of each axis, into `out`, clipped to `limits`."""
    i, j, k = matrices
    in_order = out.flags.c_contiguous

    def compute(rows: slice) -> None:
        part = (i.part(rows), j, k)
        window = needed_window(part)
        # Where `out` lies in another order, some planes together fill whole lines of the processor's cache.
        slab = out[rows] if in_order else np.empty(out[rows].shape, dtype=np.float32)
        blend(read(window), from_window(part, window), slab)
        if limits is not None:
            np.clip(slab, *limits, out=slab)
        if not in_order:
            out[rows] = slab

    each_slab(compute, i.rows, planes=slab_planes(matrices), most_threads=_most_threads(matrices))


def slab_planes(matrices: AxisMatrices) -> int:
    """How many target planes `blend_windows` computes together.

    Neighbouring slabs read the same planes as far as the kernel reaches, so a slab is to be larger than that; but then
    only as large as memory for each thread allows.
    """
    i, j, k = matrices
    fitting = SLAB_BYTES // (4 * j.rows * k.rows)
    return max(1, min(math.ceil(max(LEAST_PLANES, i.taps) * i.rows / i.size), fitting))


def window_bytes(matrices: AxisMatrices, *, copies: int = 1) -> int:
    """The most memory that `blend_windows` takes, with `copies` of each window that is read, beside `out`."""
    i, j, k = matrices
    slab = 4 * min(slab_planes(matrices), i.rows) * j.rows * k.rows
    return _most_threads(matrices) * (copies * _largest_window(matrices) + slab)


def slice_bytes(matrices: AxisMatrices, *, axis: int, copies: int = 1) -> int:
    """The same of `blend_slices`."""
    across = matrices[axis]
    j, k = (matrix for n, matrix in enumerate(matrices) if n != axis)
    return thread_count() * 4 * ((1 + copies) * j.size * k.size + min(PLANES, across.rows) * j.rows * k.rows)


def _most_threads(matrices: AxisMatrices) -> int:
    return max(1, min(thread_count(), WINDOW_BYTES // _largest_window(matrices)))


def _largest_window(matrices: AxisMatrices) -> int:
    i, j, k = matrices
    planes = slab_planes(matrices)
    parts = (needed_window((i.part(slice(n, n + planes)), j, k)) for n in range(0, i.rows, planes))
    return 4 * max(math.prod(int(part.stop - part.start) for part in window) for window in parts)


def blend_slices(read: Read, matrices: AxisMatrices, out: Float32Array, *, axis: int, clip: bool) -> None:
    """`blend_windows` where the matrix of `axis` takes the nearest: slices across it are blended one by one.

    `clip`: each slice to the range of the whole slice it was made of.
    """
    order = (axis, *(n for n in range(3) if n != axis))
    back = [order.index(n) for n in range(3)]
    across, j, k = (matrices[n] for n in order)
    turned = out.transpose(order)

    def slice_at(index: int) -> Float32Array:
        window = (slice(index, index + 1), slice(0, j.size), slice(0, k.size))
        return contiguous(read((window[back[0]], window[back[1]], window[back[2]])).transpose(order))

    def compute(rows: slice) -> None:
        first = across.first[rows]
        slab = np.empty(turned[rows].shape, dtype=np.float32)
        for index in np.unique(first):
            start, stop = np.searchsorted(first, (index, index + 1))
            values, target = slice_at(int(index)), slab[start : start + 1]
            blend(values, (_ONE, j, k), target)
            if clip:
                np.clip(target, values.min(), values.max(), out=target)
            slab[start + 1 : stop] = target
        turned[rows] = slab

    each_slab(compute, across.rows)
