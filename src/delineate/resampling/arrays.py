"""Resampling of NumPy arrays, slab by slab on several threads."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import numpy.typing as npt

from delineate.geometry import Grid
from delineate.resampling.matrices import (
    AxisMatrices,
    Float32Array,
    Interpolation,
    axis_matrices,
    check_shape,
)

Array = npt.NDArray[Any]

CACHE_VOXELS = 2**17  # that the second-level cache holds
PLANES = 16  # target planes a task: enough to share the source planes between them

_threads = 0


def set_threads(count: int) -> None:
    """How many CPU threads this process resamples with; 0, the default, is one for each CPU it may use."""
    global _threads
    if count < 0:
        raise ValueError(f"a number of threads cannot be negative: {count}")
    _threads = count


def thread_count() -> int:
    """How many threads this process resamples with."""
    return _threads or _available_cpus()


def resample(
    array: Array,
    source: Grid,
    target: Grid,
    *,
    interpolation: Interpolation = Interpolation.LINEAR,
    anti_alias: bool = True,
    fill: float | None = None,
) -> Float32Array:
    """Images (..., I, J, K) on `source` as float32 images on `target`; C-contiguous.

    Target voxels whose centres lie outside the source's extent get `fill`, or the nearest edge's value if it is None.
    Raises `GeometryMismatch` if the array does not fit its grid or the grids' axes are not parallel.
    """
    check_shape(array.shape, source)
    matrices = axis_matrices(source, target, interpolation=interpolation, anti_alias=anti_alias)
    return apply_matrices(array, matrices, fill=fill)


def apply_matrices(array: Array, matrices: AxisMatrices, *, fill: float | None = None) -> Float32Array:
    """The product of an array (..., I, J, K) with the matrix of each axis; `fill` as in `resample`.

    Raises `ValueError` if the matrices are for arrays of another shape.
    """
    sizes = tuple(matrix.size for matrix in matrices)
    if array.shape[-3:] != sizes:
        raise ValueError(f"the matrices are for arrays (..., I, J, K) of {sizes}, not {array.shape}")
    out = np.empty((*array.shape[:-3], *(matrix.rows for matrix in matrices)), dtype=np.float32)
    for lead in np.ndindex(array.shape[:-3]):
        inner, inside = inside_rows(matrices, out[lead], fill)
        _by_slabs(_take_blend, array[lead], inner, inside)
    return out


def resample_slabs(
    array: Array, matrices: AxisMatrices, *, axis: int = 0, planes: int = 32
) -> Iterator[tuple[slice, Float32Array]]:
    """`apply_matrices` in slabs of `planes` target planes along an array axis (0, 1 or 2 for I, J or K).

    Yields (range of planes, slab (..., I, J, K)) in order; the slabs joined are exactly the whole result. Only the
    part of the array that a slab needs is read, so a memory-mapped array need not fit in memory.
    Raises `ValueError` as `apply_matrices` does.
    """
    for start in range(0, matrices[axis].rows, planes):
        rows = slice(start, min(start + planes, matrices[axis].rows))
        i, j, k = (matrix.part(rows) if n == axis else matrix for n, matrix in enumerate(matrices))
        yield rows, apply_matrices(array, (i, j, k))


def resample_labels(
    labels: Array,
    source: Grid,
    target: Grid,
    *,
    interpolation: Interpolation = Interpolation.NEAREST,
    fill: int | None = None,
) -> Array:
    """Label maps or masks (..., I, J, K) on `target`, in the same type; no value is invented.

    NEAREST takes the closest voxel's label. LINEAR gives what interpolating each label's mask linearly and taking the
    largest gives, the lower label at a tie: smoother surfaces. It costs no memory a label. `fill` as in `resample`.
    Raises `GeometryMismatch` as `resample` does, `TypeError` for an array of another type than integer or bool,
    `ValueError` for CUBIC.
    """
    if labels.dtype.kind not in "uib":
        raise TypeError(f"label maps hold integers or bools, not {labels.dtype}")
    if interpolation is Interpolation.CUBIC:
        raise ValueError("label maps are resampled NEAREST or LINEAR, not CUBIC")
    check_shape(labels.shape, source)
    matrices = axis_matrices(source, target, interpolation=interpolation, anti_alias=False)
    take = _take_nearest if interpolation is Interpolation.NEAREST else _take_vote
    out = np.empty((*labels.shape[:-3], *target.shape), dtype=labels.dtype.newbyteorder("="))
    for lead in np.ndindex(labels.shape[:-3]):
        inner, inside = inside_rows(matrices, out[lead], fill)
        _by_slabs(take, labels[lead], inner, inside)
    return out


def _take_blend(image: Array, matrices: AxisMatrices, out: Array) -> None:
    window, matrices = array_window(image, matrices)
    blend(window, matrices, out)


def blend(window: Float32Array, matrices: AxisMatrices, out: Array) -> None:
    """The product of a contiguous float32 array (I, J, K) with the matrix of each axis, into `out`; one thread."""
    from delineate.resampling import kernels

    i, j, k = matrices
    window = _read_only(window)
    kernels.blend(window, i.first, i.weights, j.first, j.weights, k.first, k.weights, out)


def _take_nearest(labels: Array, matrices: AxisMatrices, out: Array) -> None:
    i, j, k = (matrix.first for matrix in matrices)
    for n, plane in enumerate(i):
        out[n] = labels[plane].take(j, axis=0).take(k, axis=1)


def vote_matrices(labels: Array, matrices: AxisMatrices, nearest: AxisMatrices | None) -> Array:
    """A label map (I, J, K) of unsigned integers, where each voxel has the label with the most weight around it.

    At a tie that is the label of the closest voxel, which the matrices `nearest` take, if it is among the tied, else
    the lowest of them; without `nearest` always the lowest. The weights of `matrices` must not be negative. It costs no
    memory a label.
    """
    out = np.empty(tuple(matrix.rows for matrix in matrices), dtype=labels.dtype)

    def compute(rows: slice) -> None:
        closest = None
        if nearest is not None:
            closest = labels[np.ix_(nearest[0].first[rows], nearest[1].first, nearest[2].first)]
        _take_vote(labels, (matrices[0].part(rows), matrices[1], matrices[2]), out[rows], closest)

    each_slab(compute, out.shape[0])
    return out


def _take_vote(labels: Array, matrices: AxisMatrices, out: Array, closest: Array | None = None) -> None:
    from delineate.resampling import kernels

    window, (i, j, k) = array_window(labels, matrices, dtype=out.dtype)
    is_open = kernels.settle(window, i.first, j.first, k.first, (i.taps, j.taps, k.taps), out)
    if closest is None:
        closest = np.broadcast_to(np.int64(-1), out.shape)  # no label is that: of tied ones the lowest is taken
    kernels.vote(window, (i.first, j.first, k.first), (i.weights, j.weights, k.weights), is_open, closest, out)


def inside_rows(matrices: AxisMatrices, out: Array, fill: float | None) -> tuple[AxisMatrices, Array]:
    """The rows to compute and where they go; with a `fill`, what lies outside has been filled."""
    if fill is None:
        return matrices, out
    out[...] = fill
    i, j, k = (matrix.part(matrix.inside) for matrix in matrices)
    if 0 in (i.rows, j.rows, k.rows):
        i = i.part(slice(0, 0))
    return (i, j, k), out[tuple(matrix.inside for matrix in matrices)]


def array_window(array: Array, matrices: AxisMatrices, dtype: npt.DTypeLike = np.float32) -> tuple[Array, AxisMatrices]:
    """What the matrices need of an array (..., I, J, K) as a contiguous read-only array, and the matrices for it.

    It is the array itself if that is contiguous, of the right type, and whole planes of it are needed.
    """
    needed = needed_window(matrices)
    whole_planes = all(s == slice(0, m.size) for s, m in zip(needed[1:], matrices[1:], strict=True))
    if not (whole_planes and array.dtype == dtype and array.flags.c_contiguous):
        at: tuple[Any, ...] = (..., *needed)
        array = contiguous(array[at], dtype)
        matrices = from_window(matrices, needed)
    return _read_only(array), matrices


def contiguous(array: Array, dtype: npt.DTypeLike = np.float32) -> Array:
    """A C-contiguous copy of another type of an array (..., I, J, K), or the array itself if it is that.

    Arrays of NIfTI files lie the other way round in memory; NumPy alone copies those ten times as slowly.
    """
    if array.flags.c_contiguous or array.ndim != 3:
        return np.ascontiguousarray(array, dtype=dtype)
    out = np.empty(array.shape, dtype=dtype)
    rows = max(1, CACHE_VOXELS * array.shape[1] // max(1, array.size))
    for start in range(0, array.shape[1], rows):
        part = np.s_[:, start : start + rows]
        out[part] = np.array(array[part], dtype=dtype, order="K")
    return out


def needed_window(matrices: AxisMatrices) -> tuple[slice, slice, slice]:
    """The part of the source that any row reads."""
    i, j, k = matrices
    return i.needed, j.needed, k.needed


def from_window(matrices: AxisMatrices, window: tuple[slice, slice, slice]) -> AxisMatrices:
    """The same matrices, of a source cut to `window`."""
    i, j, k = (matrix.from_window(part) for matrix, part in zip(matrices, window, strict=True))
    return i, j, k


def _read_only(array: Array) -> Array:
    # What the kernels read is always read-only, or they would be compiled once for each case.
    array = array.view()
    array.flags.writeable = False
    return array


def _by_slabs(
    take: Callable[[Array, AxisMatrices, Array], None],
    array: Array,
    matrices: AxisMatrices,
    out: Array,
    *,
    planes: int = PLANES,
) -> None:
    """`take` for every range of target planes."""
    i, j, k = matrices
    each_slab(lambda rows: take(array, (i.part(rows), j, k), out[rows]), i.rows, planes=planes)


def each_slab(
    compute: Callable[[slice], None], rows: int, *, planes: int = PLANES, most_threads: int | None = None
) -> None:
    """`compute` for every range of target planes, on as many threads as may be used."""

    def one(start: int) -> None:
        compute(slice(start, min(start + planes, rows)))

    starts = range(0, rows, planes)
    threads = min(len(starts), thread_count(), most_threads or len(starts))
    if threads <= 1:
        for start in starts:
            one(start)
        return
    # A pool for each call: one that lived on would not survive a fork.
    with ThreadPoolExecutor(threads) as pool:
        for _ in pool.map(one, starts):
            pass


def _available_cpus() -> int:
    affinity: Callable[[int], set[int]] | None = getattr(os, "sched_getaffinity", None)  # not on macOS and Windows
    return len(affinity(0)) if affinity else os.cpu_count() or 1
