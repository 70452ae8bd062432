"""Resampling of images that are made window by window while they are resampled: converted, normalised, masked.

Nothing as large as the source is ever held.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from delineate.resampling.arrays import Array, array_window, blend, each_slab, from_window, needed_window
from delineate.resampling.matrices import AxisMatrices, AxisMatrix, Float32Array

Window = tuple[slice, slice, slice]
Read = Callable[[Window], Float32Array]
"""Gives a window of the source as a C-contiguous float32 array; several threads call it at the same time."""

_ONE = AxisMatrix(np.zeros(1, dtype=np.intp), np.ones((1, 1), dtype=np.float32), 1, slice(0, 1))


def blend_windows(
    read: Read, matrices: AxisMatrices, out: Float32Array, *, limits: tuple[float, float] | None = None
) -> None:
    """The product of an image (I, J, K) with the matrix of each axis, into `out`, clipped to `limits`."""
    i, j, k = matrices

    def compute(rows: slice) -> None:
        part = (i.part(rows), j, k)
        window = needed_window(part)
        blend(read(window), from_window(part, window), out[rows])
        if limits is not None:
            np.clip(out[rows], *limits, out=out[rows])

    each_slab(compute, i.rows)


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
        values = read((window[back[0]], window[back[1]], window[back[2]]))
        return np.ascontiguousarray(values.transpose(order))

    def compute(rows: slice) -> None:
        first = across.first[rows]
        for index in np.unique(first):
            start, stop = rows.start + np.searchsorted(first, (index, index + 1))
            values, target = slice_at(int(index)), turned[start : start + 1]
            blend(values, (_ONE, j, k), target)
            if clip:
                np.clip(target, values.min(), values.max(), out=target)
            turned[start + 1 : stop] = target

    each_slab(compute, across.rows)


def vote_matrices(labels: Array, matrices: AxisMatrices, nearest: AxisMatrices) -> Array:
    """A label map (I, J, K) of unsigned integers, where each voxel has the label with the most weight around it.

    At a tie that is the label of the closest voxel, which the matrices `nearest` take, if it is among the tied, else
    the lowest of them. The weights of `matrices` must not be negative. It costs no memory a label.
    """
    from delineate.resampling import kernels, label_kernels

    out = np.empty(tuple(matrix.rows for matrix in matrices), dtype=labels.dtype)

    def compute(rows: slice) -> None:
        part = (matrices[0].part(rows), matrices[1], matrices[2])
        window, (i, j, k) = array_window(labels, part, dtype=labels.dtype)
        is_open = kernels.settle(window, i.first, j.first, k.first, (i.taps, j.taps, k.taps), out[rows])
        if not is_open.any():
            return
        closest = labels[np.ix_(nearest[0].first[rows], nearest[1].first, nearest[2].first)]
        weights = (i.weights, j.weights, k.weights)
        label_kernels.vote(window, (i.first, j.first, k.first), weights, is_open, closest, out[rows])

    each_slab(compute, out.shape[0])
    return out
