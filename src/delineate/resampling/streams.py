"""Logits that come slab by slab along one axis, reduced to a label map on another grid as they come.

Only the slab at hand is in memory. A target plane is written as soon as all source planes it is interpolated from are
there; slabs share the few planes that the next target planes need as well.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import numpy as np
import numpy.typing as npt

from delineate.geometry import Grid, Triple
from delineate.resampling.arrays import Array, apply_matrices, inside_rows, thread_count
from delineate.resampling.matrices import AxisMatrices, AxisMatrix, Float32Array, axis_matrices, check_logits

Slabs = Iterable[tuple[slice, Float32Array]]
"""(source planes along the streamed axis, logits (C, I, J, K) of those planes), in order."""

BLOCK: Triple = (16, 16, 64)
"""Target voxels reduced at a time: their logits of a hundred classes about fill a core's second-level cache."""

SLAB_BYTES = 64 * 2**20
ROUNDING = 1e-6  # of weights
FEW_BLOCKS = 4  # for one thread: starting another takes longer

Reduce = Callable[[Float32Array, AxisMatrices, Array], None]


def shared_planes(matrix: AxisMatrix) -> int:
    """How many planes each slab must have in common with the one before."""
    return max(0, matrix.taps - 1)


def resample_argmax(logits: Array, source: Grid, target: Grid, *, fill: int | None = None) -> Array:
    """The label map on `target` of class logits (C, I, J, K) on `source`: interpolate linearly, take the largest.

    Gives uint8, or uint16 for more than 256 classes; the lower class at a tie. Voxels outside the source's extent get
    `fill`, or the nearest edge's class if it is None. Beside logits and result it needs one slab.
    Raises `GeometryMismatch` as `resample` does.
    """
    check_logits(logits.shape, source)
    return argmax_matrices(logits, axis_matrices(source, target, anti_alias=False), fill=fill)


def argmax_matrices(logits: Array, matrices: AxisMatrices, *, fill: int | None = None) -> Array:
    """`resample_argmax` with matrices whose weights are not negative: those of NEAREST and LINEAR."""
    dtype = np.uint8 if logits.shape[0] <= 256 else np.uint16
    out = np.empty(tuple(matrix.rows for matrix in matrices), dtype=dtype)
    inner, inside = inside_rows(matrices, out, fill)
    reduce_to_classes(_slabs(logits, inner[0]), inner, axis=0, out=inside)
    return out


def _slabs(logits: Array, matrix: AxisMatrix) -> Slabs:
    """Logits in one piece, or, if they are to be copied into another type or order, in slabs along their first axis."""
    if logits.dtype == np.float32 and logits.flags.c_contiguous:
        yield slice(0, matrix.size), logits
        return
    shared, size = shared_planes(matrix), max(1, SLAB_BYTES * matrix.size // max(1, 4 * logits.size))
    for start in range(0, matrix.size, size):
        planes = slice(max(0, start - shared), min(matrix.size, start + size))
        yield planes, np.ascontiguousarray(logits[:, planes], dtype=np.float32)


def reduce_to_classes(slabs: Slabs, matrices: AxisMatrices, *, axis: int, out: Array, half: bool = False) -> None:
    """Write the class with the largest interpolated logit, the lower one at a tie, to `out` (I, J, K).

    `out` may have any strides: a view into a larger array. Slabs start with the last `shared_planes` of the one before.
    `half`: logits are rounded to float16 before they are compared, which takes longer.
    Raises `ValueError` for slabs that leave planes out or end early, for an `out` of another shape, and for weights
    below 0 (splines): where neighbours agree, so must every point between them.
    """
    _by_planes(_reduce_halves if half else _reduce_classes, slabs, matrices, axis, out)


def reduce_to_regions(slabs: Slabs, matrices: AxisMatrices, paints: Sequence[int], *, axis: int, out: Array) -> None:
    """Write the value of the last region whose interpolated logit is above 0 (sigmoid above 1/2), else 0, to `out`.

    `paints`: the value of each region, in the order in which they are painted. Otherwise as `reduce_to_classes`.
    """
    _by_planes(partial(_paint_regions, np.asarray(paints, dtype=out.dtype)), slabs, matrices, axis, out)


def _by_planes(reduce: Reduce, slabs: Slabs, matrices: AxisMatrices, axis: int, out: Array) -> None:
    if out.shape != tuple(matrix.rows for matrix in matrices):
        raise ValueError(f"the matrices give {tuple(matrix.rows for matrix in matrices)}, not {out.shape}")
    if any((matrix.weights < -ROUNDING).any() for matrix in matrices):
        raise ValueError("logits are interpolated by weights that are not negative, not by splines")
    done = 0
    for planes, logits in slabs:
        ready = _ready_rows(matrices[axis], planes, done)
        if ready.stop > ready.start:
            near = matrices[axis].part(ready).from_window(planes)
            i, j, k = (near if n == axis else matrix for n, matrix in enumerate(matrices))
            labels = np.zeros((i.rows, j.rows, k.rows), dtype=out.dtype)
            reduce(logits, (i, j, k), labels)
            np.moveaxis(out, axis, 0)[ready] = np.moveaxis(labels, axis, 0)
            done = ready.stop
    if done < matrices[axis].rows:
        raise ValueError(f"the slabs end before plane {done} of {matrices[axis].rows}")


def _ready_rows(matrix: AxisMatrix, planes: slice, done: int) -> slice:
    """The target planes that the source planes up to here suffice for, and that have not been written yet."""
    ready = int(np.searchsorted(matrix.first, planes.stop - matrix.taps, side="right"))
    if ready > done and matrix.first[done] < planes.start:
        raise ValueError(f"the slab starts at plane {planes.start}; plane {matrix.first[done]} is needed")
    return slice(done, max(done, ready))


def _reduce_classes(logits: Float32Array, matrices: AxisMatrices, out: Array) -> None:
    from delineate.resampling import kernels

    _on_blocks(kernels.reduce_classes, logits, matrices, (), out)


def _reduce_halves(logits: Float32Array, matrices: AxisMatrices, out: Array) -> None:
    """Class by class, so that memory does not grow with them."""
    highest = np.full(out.shape, -np.inf, dtype=np.float16)
    for index, of_class in enumerate(logits):
        values = apply_matrices(of_class, matrices).astype(np.float16)
        higher = values > highest
        highest[higher] = values[higher]
        out[higher] = index


def _paint_regions(paints: Array, logits: Float32Array, matrices: AxisMatrices, out: Array) -> None:
    from delineate.resampling import kernels

    _on_blocks(kernels.paint_regions, logits, matrices, (paints,), out)


def _on_blocks(
    kernel: Callable[..., None], logits: Float32Array, matrices: AxisMatrices, more: tuple[Array, ...], out: Array
) -> None:
    """The kernel for all blocks of `out`, on as many threads as may be used."""
    logits = np.ascontiguousarray(logits, dtype=np.float32).view()
    logits.flags.writeable = False  # always, or the kernels would be compiled once for each case
    first, weights = tuple(m.first for m in matrices), tuple(m.weights for m in matrices)
    blocks = _blocks(out.shape)
    threads = min(len(blocks) // FEW_BLOCKS, thread_count())
    if threads <= 1:
        kernel(logits, first, weights, *more, blocks, out)
        return
    shares = np.array_split(blocks, min(len(blocks), 4 * threads))
    with ThreadPoolExecutor(threads) as pool:
        for _ in pool.map(lambda share: kernel(logits, first, weights, *more, share, out), shares):
            pass


def _blocks(shape: Sequence[int]) -> npt.NDArray[np.intp]:
    """(blocks, 6): start and stop along each axis."""
    ranges = [
        np.array([(start, min(start + size, n)) for start in range(0, n, size)])
        for n, size in zip(shape, BLOCK, strict=True)
    ]
    i, j, k = np.meshgrid(*(np.arange(len(r)) for r in ranges), indexing="ij")
    picked = [ranges[0][i.ravel()], ranges[1][j.ravel()], ranges[2][k.ravel()]]
    return np.ascontiguousarray(np.concatenate(picked, axis=1), dtype=np.intp)
