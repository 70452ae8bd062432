"""How each axis of one Grid is read from the same axis of another: a banded matrix."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import Enum

import numpy as np
import numpy.typing as npt

from delineate.errors import GeometryMismatch
from delineate.geometry import FloatArray, Grid, Triple, world_to_index

Float32Array = npt.NDArray[np.float32]
IndexArray = npt.NDArray[np.intp]

Kernel = Callable[[FloatArray], FloatArray]

SAME_SPACING = 1e-6  # relative; less is a header's rounding
LARGEST_ANGLE = 1e-4  # rad between axes called parallel: 0.05 mm at the end of 500 mm


class Interpolation(Enum):
    """What is read between voxels; see the module's text."""

    NEAREST = "nearest"
    LINEAR = "linear"
    CUBIC = "cubic"


@dataclass(frozen=True, slots=True, eq=False)
class AxisMatrix:
    """A banded matrix: target[n] = sum over t of weights[n, t] * source[first[n] + t].

    `first`: (target voxels,), never falling. `weights`: (target voxels, taps) float32, each row's sum is 1. `size`:
    source voxels. `inside`: the target voxels whose centres lie in the source's extent.
    """

    first: IndexArray
    weights: Float32Array
    size: int
    inside: slice

    @property
    def rows(self) -> int:
        return int(self.first.size)

    @property
    def taps(self) -> int:
        return int(self.weights.shape[1])

    @property
    def needed(self) -> slice:
        """The source voxels that any row reads."""
        return slice(int(self.first[0]), int(self.first[-1]) + self.taps) if self.rows else slice(0, 0)

    def part(self, rows: slice) -> AxisMatrix:
        """Some of the rows, of the same source; all of them are taken for inside."""
        first = self.first[rows]
        return AxisMatrix(first, self.weights[rows], self.size, slice(0, first.size))

    def from_window(self, window: slice) -> AxisMatrix:
        """The same rows, of a source cut to `window`."""
        return AxisMatrix(self.first - window.start, self.weights, window.stop - window.start, self.inside)

    def dense(self) -> Float32Array:
        """(target voxels, source voxels)."""
        matrix = np.zeros((self.rows, self.size), dtype=np.float32)
        columns = self.first[:, None] + np.arange(self.taps)
        np.put_along_axis(matrix, columns, self.weights, axis=1)
        return matrix


AxisMatrices = tuple[AxisMatrix, AxisMatrix, AxisMatrix]


def axis_matrices(
    source: Grid, target: Grid, *, interpolation: Interpolation = Interpolation.LINEAR, anti_alias: bool = True
) -> AxisMatrices:
    """The matrix of each axis that takes arrays on `source` to arrays on `target`.

    `anti_alias` does nothing to NEAREST, nor along axes whose spacing does not grow. Computed in float64.
    Raises `GeometryMismatch` if an axis of one grid and the same axis of the other differ in direction.
    """
    _check_parallel(source, target)
    steps = np.asarray(target.spacing_mm) / np.asarray(source.spacing_mm)
    offsets = world_to_index(source, target.origin_mm)
    stretches = np.where(anti_alias & (steps > 1.0 + SAME_SPACING), steps, 1.0)

    def matrix(axis: int) -> AxisMatrix:
        positions = offsets[axis] + steps[axis] * np.arange(target.shape[axis])
        return _axis_matrix(source.shape[axis], positions, interpolation, stretch=float(stretches[axis]))

    return matrix(0), matrix(1), matrix(2)


def resize_matrices(
    shape: Triple, target: Triple, interpolations: Sequence[Interpolation], *, single_precision: bool = False
) -> AxisMatrices:
    """The matrix of each axis that stretches arrays of `shape` to `target` over the same extent.

    As `skimage.transform.resize(mode="edge", anti_aliasing=False)` does it, which is `scipy.ndimage.zoom` with
    `grid_mode` and mode "nearest": beyond the border the outermost voxels go on, for the spline's prefilter as well.
    `interpolations`: one an axis. NEAREST takes the higher index at a tie, as far as float64 tells ties, or float32
    with `single_precision`, as torch's "nearest-exact" does.
    """

    def matrix(axis: int) -> AxisMatrix:
        return _resize_matrix(shape[axis], target[axis], interpolations[axis], single_precision=single_precision)

    return matrix(0), matrix(1), matrix(2)


def _resize_matrix(size: int, rows: int, interpolation: Interpolation, *, single_precision: bool) -> AxisMatrix:
    inside = slice(0, rows)
    if interpolation is Interpolation.NEAREST:
        nearest = _nearest_single(size, rows) if single_precision else _nearest_double(size, rows)
        return AxisMatrix(np.clip(nearest, 0, size - 1), np.ones((rows, 1), dtype=np.float32), size, inside)
    kernel, radius = _KERNELS[interpolation]
    positions = np.round((np.arange(rows) + 0.5) * (size / rows) - 0.5, 9)
    first, weights = _band(_kernel_matrix(size, positions, kernel, radius=radius, stretch=1.0, fold=_to_edge))
    return AxisMatrix(first, weights, size, inside)


def _nearest_double(size: int, rows: int) -> IndexArray:
    positions = (np.arange(rows) + 0.5) * (size / rows) - 0.5
    return np.asarray(np.floor(positions + 0.5), dtype=np.intp)


def _nearest_single(size: int, rows: int) -> IndexArray:
    # torch multiplies and subtracts in one step, rounded once.
    step = np.float64(np.float32(size) / np.float32(rows))
    positions = ((np.arange(rows) + 0.5) * step - 0.5).astype(np.float32)
    return np.asarray(np.floor(positions + np.float32(0.5)), dtype=np.intp)


def _check_parallel(source: Grid, target: Grid) -> None:
    angles = [
        float(np.arctan2(np.linalg.norm(np.cross(a, b)), a @ b))
        for a, b in zip(source.direction.T, target.direction.T, strict=True)
    ]
    if max(angles) > LARGEST_ANGLE:
        raise GeometryMismatch(
            "the axes of the two grids are not parallel",
            expected=f"{target.orientation}, within {LARGEST_ANGLE} rad",
            got=f"{source.orientation}, at angles of {', '.join(f'{a:.2g}' for a in angles)} rad",
            remedy="Reorient the image to the target's orientation first; rotated grids are out of reach.",
        )


def _axis_matrix(size: int, positions: FloatArray, interpolation: Interpolation, *, stretch: float) -> AxisMatrix:
    # Affines carry rounding errors; without this, voxels that coincide would be mixed with their neighbours.
    positions = np.round(positions, 9)
    inside = np.flatnonzero((positions >= -0.5) & (positions <= size - 0.5))
    within = slice(int(inside[0]), int(inside[-1]) + 1) if inside.size else slice(0, 0)
    positions = np.clip(positions, 0, size - 1)
    if interpolation is Interpolation.NEAREST:
        nearest = np.minimum(np.floor(positions + 0.5), size - 1).astype(np.intp)
        return AxisMatrix(nearest, np.ones((nearest.size, 1), dtype=np.float32), size, within)
    kernel, radius = _KERNELS[interpolation]
    matrix = _kernel_matrix(size, positions, kernel, radius=radius * stretch, stretch=stretch, fold=_to_mirror)
    first, weights = _band(matrix)
    return AxisMatrix(first, weights, size, within)


def _kernel_matrix(
    size: int,
    positions: FloatArray,
    kernel: Kernel,
    *,
    radius: float,
    stretch: float,
    fold: Callable[[IndexArray, int], IndexArray],
) -> FloatArray:
    """(positions, size): the kernel around each position, folded at the borders; rows sum to 1."""
    taps = np.ceil(positions - radius).astype(np.intp)[:, None] + np.arange(int(np.floor(2 * radius)) + 1)
    distances = taps - positions[:, None]
    weights = kernel(distances / stretch)
    weights /= weights.sum(axis=1, keepdims=True)
    if stretch > 1.0:
        weights = _centred(weights, distances, spread=_triangle(distances / stretch))
    matrix = np.zeros((positions.size, size))
    np.add.at(matrix, (np.arange(positions.size)[:, None], fold(taps, size)), weights)
    return matrix


def _to_mirror(taps: IndexArray, size: int) -> IndexArray:
    period = max(1, 2 * (size - 1))
    folded = np.mod(taps, period)
    return np.minimum(folded, period - folded) if size > 1 else np.zeros_like(taps)


def _to_edge(taps: IndexArray, size: int) -> IndexArray:
    return np.clip(taps, 0, size - 1)


def _centred(weights: FloatArray, distances: FloatArray, *, spread: FloatArray) -> FloatArray:
    """The weights changed a little, by a slope within `spread`, so that their centre of mass is the position itself.

    A stretched kernel has its centre only nearly there, differently from voxel to voxel: edges would jitter.
    """
    middle = (spread * distances).sum(axis=1, keepdims=True) / spread.sum(axis=1, keepdims=True)
    slope = spread * (distances - middle)
    off_centre = (weights * distances).sum(axis=1, keepdims=True)
    return np.asarray(weights - off_centre * slope / (slope * distances).sum(axis=1, keepdims=True))


def _band(matrix: FloatArray) -> tuple[IndexArray, Float32Array]:
    """Where the weights of each row start, never falling from row to row, and the weights from there on."""
    used = np.abs(matrix) > 1e-8
    size = matrix.shape[1]
    first, last = np.argmax(used, axis=1), size - 1 - np.argmax(used[:, ::-1], axis=1)
    # A row on a voxel has one weight and starts later than the next: it has to start as early.
    first = np.minimum.accumulate(first[::-1])[::-1]
    taps = int((last - first).max()) + 1
    first = np.minimum(first, size - taps).astype(np.intp)
    weights = np.take_along_axis(matrix, first[:, None] + np.arange(taps), axis=1)
    return first, weights.astype(np.float32)


def _triangle(x: FloatArray) -> FloatArray:
    return np.asarray(np.maximum(0.0, 1.0 - np.abs(x)))


def _cardinal_spline(x: FloatArray) -> FloatArray:
    """The interpolating cubic spline through a single 1 at 0: the B-spline prefilter's response on B-splines."""
    pole = np.sqrt(3.0) - 2.0
    gain = -6.0 * pole / (1.0 - pole**2)
    floor = np.floor(x)
    value = np.zeros_like(x)
    for shift in (-1, 0, 1, 2):
        knot = floor + shift
        value += gain * pole ** np.abs(knot) * _cubic_bspline(x - knot)
    return value


def _cubic_bspline(x: FloatArray) -> FloatArray:
    x = np.abs(x)
    near, far = 2.0 / 3.0 - x**2 + x**3 / 2.0, np.maximum(0.0, 2.0 - x) ** 3 / 6.0
    return np.asarray(np.where(x < 1.0, near, far))


_KERNELS: dict[Interpolation, tuple[Kernel, float]] = {
    Interpolation.LINEAR: (_triangle, 1.0),
    Interpolation.CUBIC: (_cardinal_spline, 12.0),
}


def check_shape(shape: tuple[int, ...], grid: Grid) -> None:
    if tuple(shape[-3:]) != grid.shape:
        raise GeometryMismatch("the array does not fit its grid", expected=f"(..., I, J, K) of {grid.shape}", got=shape)


def check_logits(shape: tuple[int, ...], grid: Grid) -> None:
    if len(shape) != 4 or shape[0] < 1:
        raise ValueError(f"logits have shape (C, I, J, K) with at least one class, not {tuple(shape)}")
    check_shape(shape, grid)
