"""Where voxels are: a Grid maps array indices to millimetres in the patient.

World coordinates are LPS millimetres as in DICOM (PS3.3 C.7.6.2.1.1): x grows to the patient's Left,
y to Posterior, z to Superior. Column n of the affine belongs to array axis n. Indices are voxel centres.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import permutations, product

import numpy as np
import numpy.typing as npt

from delineate.errors import GeometryMismatch

FloatArray = npt.NDArray[np.float64]
Triple = tuple[int, int, int]
TripleMM = tuple[float, float, float]

LETTERS = (("R", "L"), ("A", "P"), ("I", "S"))  # (towards minus, towards plus) of each LPS world axis
ORIENTATIONS = tuple(
    "".join(LETTERS[world][sign] for world, sign in zip(order, signs, strict=True))
    for order in permutations(range(3))
    for signs in product((0, 1), repeat=3)
)
"""All 48 orientation codes; code letter n is where array axis n points to."""


@dataclass(frozen=True, slots=True, eq=False)
class Grid:
    """A box of voxels in the patient.

    `shape`: (I, J, K). `affine`: 4x4 float64, index -> LPS world mm, read-only.
    Raises `GeometryMismatch` for a shape without voxels or an affine that is not finite and invertible.
    """

    shape: Triple
    affine: FloatArray
    frame_of_reference_uid: str | None = None

    def __post_init__(self) -> None:
        shape = tuple(int(n) for n in self.shape)
        if len(shape) != 3 or min(shape) < 1:
            raise GeometryMismatch("a grid needs three axes with voxels", expected="(I, J, K)", got=tuple(self.shape))
        affine = np.array(self.affine, dtype=np.float64)
        check_affine(affine)
        affine.flags.writeable = False
        object.__setattr__(self, "shape", shape)
        object.__setattr__(self, "affine", affine)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Grid):
            return NotImplemented
        return (
            self.shape == other.shape
            and np.array_equal(self.affine, other.affine)
            and self.frame_of_reference_uid == other.frame_of_reference_uid
        )

    def __hash__(self) -> int:
        return hash((self.shape, self.affine.tobytes(), self.frame_of_reference_uid))

    @property
    def spacing_mm(self) -> TripleMM:
        """Distance between neighbouring voxel centres along each array axis."""
        i, j, k = np.linalg.norm(self.affine[:3, :3], axis=0)
        return float(i), float(j), float(k)

    @property
    def origin_mm(self) -> TripleMM:
        """World position of the centre of voxel (0, 0, 0)."""
        x, y, z = self.affine[:3, 3]
        return float(x), float(y), float(z)

    @property
    def direction(self) -> FloatArray:
        """3x3; column n is the unit vector of array axis n in the world."""
        direction: FloatArray = self.affine[:3, :3] / np.asarray(self.spacing_mm)
        return direction

    @property
    def orientation(self) -> str:
        """The closest of the 48 orientation codes, e.g. "LPS": letter n is where array axis n points to."""
        return orientation_of(self.affine)

    @property
    def voxel_volume_ml(self) -> float:
        return abs(float(np.linalg.det(self.affine[:3, :3]))) / 1000.0

    @property
    def extent_mm(self) -> TripleMM:
        """Size from outer edge to outer edge of the outermost voxels."""
        i, j, k = (n * s for n, s in zip(self.shape, self.spacing_mm, strict=True))
        return i, j, k


@dataclass(frozen=True, slots=True)
class Box:
    """A half-open range of indices, start <= index < stop; it may reach outside the grid it refers to."""

    start: Triple
    stop: Triple

    def __post_init__(self) -> None:
        object.__setattr__(self, "start", tuple(int(n) for n in self.start))
        object.__setattr__(self, "stop", tuple(int(n) for n in self.stop))
        if min(self.shape) < 1:
            raise ValueError(f"an empty box: {self.start} to {self.stop}")

    @property
    def shape(self) -> Triple:
        i, j, k = (b - a for a, b in zip(self.start, self.stop, strict=True))
        return i, j, k

    @property
    def slices(self) -> tuple[slice, slice, slice]:
        """To index an array that contains the box wholly."""
        if min(self.start) < 0:
            raise ValueError(f"the box starts outside the array: {self.start}")
        i, j, k = (slice(a, b) for a, b in zip(self.start, self.stop, strict=True))
        return i, j, k


def box_of(ranges: Iterable[tuple[int, int]]) -> Box:
    """The box of (start, stop) along each axis."""
    (i0, i1), (j0, j1), (k0, k1) = ranges
    return Box((i0, j0, k0), (i1, j1, k1))


@dataclass(frozen=True, slots=True)
class AxisChange:
    """A reorientation: new axis n is old axis `order[n]`, reversed if `flips[n]`."""

    order: Triple
    flips: tuple[bool, bool, bool]

    @property
    def inverse(self) -> AxisChange:
        order = tuple(self.order.index(axis) for axis in range(3))
        return AxisChange(order, tuple(self.flips[n] for n in order))  # type: ignore[arg-type]


def check_affine(affine: FloatArray) -> None:
    """Raises `GeometryMismatch` unless `affine` is a finite 4x4 matrix that can be inverted."""
    if affine.shape != (4, 4) or not np.isfinite(affine).all():
        raise GeometryMismatch("the affine is not a finite 4x4 matrix", got=affine.tolist())
    lengths = np.linalg.norm(affine[:3, :3], axis=0)
    if lengths.min() <= 0 or abs(np.linalg.det(affine[:3, :3] / lengths)) < 1e-3:
        raise GeometryMismatch(
            "the affine cannot be inverted: its axes have no length or lie in one plane",
            got=affine.tolist(),
            remedy="Export the scan again, or correct the header's orientation.",
        )
    if not np.allclose(affine[3], (0, 0, 0, 1)):
        raise GeometryMismatch("the affine's last row is wrong", expected="0 0 0 1", got=affine[3].tolist())


def orientation_of(affine: FloatArray) -> str:
    """The orientation code whose axes make the smallest angles with the affine's columns.

    The assignment of array axes to world axes maximises the sum of absolute cosines, so each world
    axis is used once also for oblique grids.
    """
    cosines = affine[:3, :3] / np.linalg.norm(affine[:3, :3], axis=0)
    best = max(permutations(range(3)), key=lambda order: sum(abs(cosines[w, n]) for n, w in enumerate(order)))
    return "".join(LETTERS[world][int(cosines[world, n] > 0)] for n, world in enumerate(best))


def axis_change(current: str, wanted: str) -> AxisChange:
    """What turns an array oriented as `current` into one oriented as `wanted`.

    Raises `ValueError` for a code that is not one of `ORIENTATIONS`.
    """
    for code in (current, wanted):
        if code not in ORIENTATIONS:
            raise ValueError(f"unknown orientation {code!r}: expected three of R/L, A/P, I/S, e.g. 'RAS'")
    worlds = [_world_axis(letter) for letter in current]
    order = tuple(worlds.index(_world_axis(letter)) for letter in wanted)
    flips = tuple(current[axis] != letter for axis, letter in zip(order, wanted, strict=True))
    return AxisChange(order, flips)  # type: ignore[arg-type]


def _world_axis(letter: str) -> int:
    return next(axis for axis, letters in enumerate(LETTERS) if letter in letters)


def index_to_world(grid: Grid, index: npt.ArrayLike) -> FloatArray:
    """World positions (..., 3) in mm of indices (..., 3)."""
    points = np.asarray(index, dtype=np.float64)
    world: FloatArray = points @ grid.affine[:3, :3].T + grid.affine[:3, 3]
    return world


def world_to_index(grid: Grid, world_mm: npt.ArrayLike) -> FloatArray:
    """Continuous indices (..., 3) of world positions (..., 3) in mm."""
    points = np.asarray(world_mm, dtype=np.float64) - grid.affine[:3, 3]
    index = np.linalg.solve(grid.affine[:3, :3], points.reshape(-1, 3).T).T
    return np.asarray(index.reshape(points.shape), dtype=np.float64)


def change_axes(grid: Grid, change: AxisChange) -> Grid:
    """The same voxels with their array axes permuted and reversed; no voxel moves in the world."""
    linear = grid.affine[:3, :3][:, change.order].copy()
    i, j, k = change.order
    shape = (grid.shape[i], grid.shape[j], grid.shape[k])
    origin = grid.affine[:3, 3].copy()
    for axis in range(3):
        if change.flips[axis]:
            origin += linear[:, axis] * (shape[axis] - 1)
            linear[:, axis] *= -1
    return replace(grid, shape=shape, affine=compose_affine(linear, origin))


def crop_grid(grid: Grid, box: Box) -> Grid:
    """The part of the grid in `box`; a box that reaches outside pads."""
    return replace(grid, shape=box.shape, affine=compose_affine(grid.affine[:3, :3], index_to_world(grid, box.start)))


def respace_grid(grid: Grid, spacing_mm: Sequence[float]) -> Grid:
    """A grid with the given spacing, the same axes and the same centre, covering the same extent.

    Each axis gets the nearest whole number of voxels (at least one), so its extent can differ from the
    source's by up to half a voxel, shared by both ends. An axis that keeps its spacing keeps its voxels.
    """
    shape = tuple(
        n if s == new else max(1, round(n * s / new))
        for n, s, new in zip(grid.shape, grid.spacing_mm, spacing_mm, strict=True)
    )
    return _regrid(grid, shape, tuple(float(s) for s in spacing_mm))


def reshape_grid(grid: Grid, shape: Sequence[int]) -> Grid:
    """A grid with the given number of voxels over exactly the same extent."""
    spacing = tuple(e / n for e, n in zip(grid.extent_mm, shape, strict=True))
    return _regrid(grid, tuple(int(n) for n in shape), spacing)


def _regrid(grid: Grid, shape: tuple[int, ...], spacing_mm: tuple[float, ...]) -> Grid:
    if min(spacing_mm) <= 0:
        raise ValueError(f"spacings must be positive: {spacing_mm}")
    scale = np.asarray(spacing_mm) / np.asarray(grid.spacing_mm)
    linear = grid.affine[:3, :3] * scale
    middle = index_to_world(grid, (np.asarray(grid.shape) - 1) / 2)
    origin = middle - linear @ ((np.asarray(shape) - 1) / 2)
    return replace(grid, shape=(shape[0], shape[1], shape[2]), affine=compose_affine(linear, origin))


def compose_affine(linear: npt.ArrayLike, origin_mm: npt.ArrayLike) -> FloatArray:
    """4x4 affine of a 3x3 linear part and the world position of index (0, 0, 0)."""
    affine: FloatArray = np.eye(4, dtype=np.float64)
    affine[:3, :3] = linear
    affine[:3, 3] = origin_mm
    return affine


def largest_distance_mm(first: Grid, second: Grid) -> float:
    """The largest distance between equally indexed corners of two grids of one shape.

    Affine maps differ most at a corner, so this bounds the distance at every voxel. Infinite if the
    shapes differ.
    """
    if first.shape != second.shape:
        return float("inf")
    corners = np.array(list(product(*((0, n - 1) for n in first.shape))))
    return float(np.linalg.norm(index_to_world(first, corners) - index_to_world(second, corners), axis=1).max())


def same_space(first: Grid, second: Grid, tolerance_mm: float = 1e-2) -> bool:
    """Whether every voxel of one lies within `tolerance_mm` of the other's voxel of the same index."""
    return largest_distance_mm(first, second) <= tolerance_mm


def aligned(first: Grid, second: Grid) -> bool:
    """Whether two grids are one for all that voxels can tell: apart by at most a tenth of the smallest voxel edge.

    Headers are rounded, by NIfTI to 32 bits and by DICOM to 16 characters, so equal grids seldom come back equal.
    """
    return largest_distance_mm(first, second) <= 0.1 * min(first.spacing_mm)


def foreground_box(mask: npt.NDArray[np.bool_]) -> Box | None:
    """The smallest box that holds every True voxel of an (I, J, K) mask, or None if there is none."""
    ranges = []
    for axis in range(3):
        others = tuple(a for a in range(3) if a != axis)
        hits = np.flatnonzero(mask.any(axis=others))
        if hits.size == 0:
            return None
        ranges.append((int(hits[0]), int(hits[-1]) + 1))
    return box_of(ranges)
