"""Closed planar contours onto the voxels of a grid. Pure geometry; no DICOM.

The contours of a structure lie in parallel planes, perpendicular to one axis of the grid. In a plane a pixel is inside
if its centre is (even-odd over all contours of the plane), so that a contour inside another is a hole, and a keyhole,
whose bridge runs there and back, is one as well. Even-odd is what DICOM prescribes for CLOSEDPLANAR_XOR, and what
planning systems mean where they write a hole as an inner CLOSED_PLANAR contour (PS3.3 C.8.8.6.3). Centres that lie on
an edge belong to the structure on the edge's far side along each axis of the patient (towards left, posterior,
superior), so structures that share an edge neither overlap nor leave a gap, on every orientation of one grid.

Planes need not be the grid's slices. Let the usual spacing be what the file says of it (PS3.3 C.8.8.6.4: a plane that
was left out is a gap then), else the median distance of neighbouring planes; but where there is one plane only, or
planes lie farther apart than `WIDEST_MM` and two slices, the grid's slice spacing.

- A slice within a tenth of a slice of a plane takes the plane's shape as it is.
- A slice between two planes that are at most `WIDEST_BRIDGE` usual spacings apart is filled by shape-based
  interpolation (Raya and Udupa 1990, doi:10.1109/42.52980): the signed distances in mm of the two shapes, weighted by
  nearness, are positive inside. Where the two shapes lie so far apart that nothing comes out, the nearer one stands.
- Planes farther apart bound a real gap, which stays empty and is told in `ContourMask.gaps_mm`.
- The first and the last plane, also at a gap, reach half a usual spacing outwards (the lower end included, the upper
  one excluded), so n evenly spaced planes fill n spacings.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from delineate.errors import GeometryMismatch
from delineate.geometry import AxisChange, Box, FloatArray, Grid, Triple, axis_change, change_axes, world_to_index
from delineate.volume import change_array_axes

Mask = npt.NDArray[np.bool_]
Polygon = FloatArray  # (N, 2) continuous in-plane indices

WIDEST_BRIDGE = 1.5
"""In usual spacings: a plane left out makes a gap of two, uneven slices seldom one of more than 1.2."""

WIDEST_MM = 10.0
"""Planes farther apart were hardly drawn to be joined: every second slice of a thick-sliced scan makes 10 mm."""

COINCIDES = 0.1
"""In slices: how far from a plane a slice still takes its shape unchanged, and contours of one plane may be apart."""

FLATNESS_MM = 0.05
"""A contour may leave its plane by this, or by `COINCIDES` of a slice: rounded coordinates do."""

MOST_COMPARED = 500

_SNAP = 2.0**20  # steps in a pixel, far below what files can say: noise of the arithmetic must not decide ties
_EDGE = 1e-3  # of a pixel beyond the outermost edges: rounded coordinates are not outside
_CANONICAL = "LPS"
_CROSSINGS_AT_ONCE = 2**22


@dataclass(frozen=True, slots=True, eq=False)
class Contour:
    """A closed polygon in a plane; the last point joins the first.

    `points_mm`: (N, 3) float64, LPS, N >= 3, read-only. `instance_uid`: the image it was drawn on, if known.
    Raises `GeometryMismatch` for other shapes and for numbers that are not finite.
    """

    points_mm: FloatArray
    geometric_type: str = "CLOSED_PLANAR"
    instance_uid: str | None = None

    def __post_init__(self) -> None:
        points = np.array(self.points_mm, dtype=np.float64)
        if points.ndim != 2 or points.shape[1] != 3 or len(points) < 3 or not np.isfinite(points).all():
            raise GeometryMismatch("not a contour", expected="(N, 3) finite coordinates, N >= 3", got=points.shape)
        points.flags.writeable = False
        object.__setattr__(self, "points_mm", points)


@dataclass(frozen=True, slots=True, eq=False)
class ContourMask:
    """The voxels inside the contours of one structure, and what was noticed on the way.

    `patch`: bool, the voxels of `box`, outside of which nothing is inside; None where the contours reach no voxel.
    `outside`: share of the contours' area that lies outside the grid, 0..1. `duplicates`: contours that were dropped
    because their plane holds them already, which even-odd would cancel out. `gaps_mm`: distances between neighbouring
    planes that were too wide to be filled. `interpolated`: number of slices filled between planes. `crossings`: pairs
    of contours of one plane that overlap in part, neither apart nor one in the other: what they share is left out, and
    whether that was meant the file cannot say. (Not counted in planes of more than `MOST_COMPARED` contours.)
    """

    shape: Triple
    box: Box | None
    patch: Mask
    outside: float = 0.0
    duplicates: int = 0
    gaps_mm: tuple[float, ...] = ()
    interpolated: int = 0
    crossings: int = 0

    @property
    def mask(self) -> Mask:
        """(I, J, K), a new array at every call."""
        mask = np.zeros(self.shape, dtype=np.bool_)
        if self.box is not None:
            mask[self.box.slices] = self.patch
        return mask


@dataclass(frozen=True, slots=True, eq=False)
class _Plane:
    height: float  # continuous index along the stack
    polygons: tuple[Polygon, ...]


@dataclass(frozen=True, slots=True)
class _Slice:
    """Slice `index` is plane `below` (fraction 0), or lies between it and the next."""

    index: int
    below: int
    fraction: float = 0.0


@dataclass(frozen=True, slots=True)
class _Window:
    """Pixels of a plane: the first index and the number along both axes."""

    start: tuple[int, int]
    shape: tuple[int, int]


def contour_mask(contours: Sequence[Contour], grid: Grid, *, plane_spacing_mm: float | None = None) -> ContourMask:
    """The voxels of `grid` inside the contours of one structure; without contours, nothing.

    `plane_spacing_mm`: the distance of the planes that the contours were made on, if the file says so. The grid may
    have any axes, as long as one of them is perpendicular to the contours' planes; the result is the same on every
    reorientation of one grid. What lies outside the grid is cut off and counted.
    Raises `GeometryMismatch` for contours that are not perpendicular to an axis.
    """
    if not contours:
        return ContourMask(grid.shape, None, np.zeros((0, 0, 0), dtype=np.bool_))
    change = axis_change(grid.orientation, _CANONICAL)
    turned = change_axes(grid, change)
    points = _snapped_indices(contours, turned)
    axis = _stack_axis(points, turned)
    planes, duplicates = _planes(points, axis, turned)
    heights = np.array([plane.height for plane in planes])
    widest = max(2.0, WIDEST_MM / turned.spacing_mm[axis]) + COINCIDES
    usual = _usual_step(heights, widest) if plane_spacing_mm is None else plane_spacing_mm / turned.spacing_mm[axis]
    slices, gaps = _slices(heights, turned.shape[axis], usual=usual)
    box, patch = _filled_box(planes, slices, axis, turned)
    return ContourMask(
        grid.shape,
        None if box is None else _changed_box(box, turned.shape, change.inverse),
        change_array_axes(patch, change.inverse),
        _outside_share(planes, turned.shape, axis),
        duplicates,
        tuple(gap * turned.spacing_mm[axis] for gap in gaps),
        sum(slice_.fraction > 0 for slice_ in slices),
        sum(_crossings(plane.polygons) for plane in planes),
    )


def _filled_box(planes: Sequence[_Plane], slices: Sequence[_Slice], axis: int, grid: Grid) -> tuple[Box | None, Mask]:
    across = ((1, 2), (0, 2), (0, 1))[axis]
    points = np.concatenate([polygon for plane in planes for polygon in plane.polygons])
    window = _window(points, (grid.shape[across[0]], grid.shape[across[1]]))
    if not slices or window is None:
        return None, np.zeros((0, 0, 0), dtype=np.bool_)
    stack = _filled_slices(planes, slices, window, (grid.spacing_mm[across[0]], grid.spacing_mm[across[1]]))
    patch = np.moveaxis(stack, 0, axis)
    start = [*window.start]
    start.insert(axis, slices[0].index)
    stop = [first + n for first, n in zip(start, patch.shape, strict=True)]
    return Box(tuple(start), tuple(stop)), patch  # type: ignore[arg-type]


def _snapped_indices(contours: Sequence[Contour], grid: Grid) -> list[FloatArray]:
    together = world_to_index(grid, np.concatenate([contour.points_mm for contour in contours]))
    snapped = np.round(together * _SNAP) / _SNAP
    return np.split(snapped, np.cumsum([len(contour.points_mm) for contour in contours])[:-1])


def _stack_axis(points: Sequence[FloatArray], grid: Grid) -> int:
    """The axis along which no contour extends."""
    spacing = np.asarray(grid.spacing_mm)
    extents_mm = np.array([np.ptp(one, axis=0) for one in points]) * spacing
    worst_mm = extents_mm.max(axis=0)
    axis = int(np.argmin(worst_mm))
    allowed_mm = max(FLATNESS_MM, COINCIDES * spacing[axis])
    if worst_mm[axis] <= allowed_mm:
        return axis
    width_mm = float(np.linalg.norm(extents_mm[int(np.argmax(extents_mm[:, axis]))]))
    angle = np.degrees(np.arcsin(min(1.0, worst_mm[axis] / width_mm)))
    raise GeometryMismatch(
        "the contours do not lie in planes perpendicular to an axis of the grid",
        expected=f"points of a contour within {allowed_mm:.3g} mm of one plane",
        got=f"{worst_mm[axis]:.3g} mm, {angle:.1f} degrees",
        remedy="Take the grid of the series that they were drawn on, and resample the labels afterwards.",
    )


def _planes(points: Sequence[FloatArray], axis: int, grid: Grid) -> tuple[list[_Plane], int]:
    """The contours by height, ascending, and how many were given twice."""
    heights = np.array([float(one[:, axis].mean()) for one in points])
    order = np.argsort(heights, kind="stable")
    tolerance = COINCIDES * min(1.0, 1.0 / grid.spacing_mm[axis])
    breaks = np.flatnonzero(np.diff(heights[order]) > tolerance) + 1
    planes = []
    for members in np.split(order, breaks):
        flat = [np.delete(points[n], axis, axis=1) for n in members]
        unique = {_edges(polygon): polygon for polygon in flat}
        planes.append(_Plane(float(heights[members].mean()), tuple(unique.values())))
    return planes, len(points) - sum(len(plane.polygons) for plane in planes)


def _edges(polygon: Polygon) -> bytes:
    """What even-odd knows of a polygon: its edges, whatever the starting point and the direction."""
    ends = np.stack([polygon, np.roll(polygon, -1, axis=0)], axis=1)
    swap = (ends[:, 0, 0] > ends[:, 1, 0]) | ((ends[:, 0, 0] == ends[:, 1, 0]) & (ends[:, 0, 1] > ends[:, 1, 1]))
    ends[swap] = ends[swap][:, ::-1]
    rows = ends.reshape(-1, 4) + 0.0  # no negative zeros
    return rows[np.lexsort(rows.T)].tobytes()


def _window(points: Polygon, shape: tuple[int, int]) -> _Window | None:
    """The pixels that shapes with these corners can reach, or None if that is none."""
    first = np.clip(np.ceil(points.min(axis=0)), 0, shape).astype(int)
    stop = np.clip(np.floor(points.max(axis=0)) + 1, 0, shape).astype(int)
    if (stop <= first).any():
        return None
    return _Window((int(first[0]), int(first[1])), (int(stop[0] - first[0]), int(stop[1] - first[1])))


def _usual_step(heights: FloatArray, widest: float) -> float:
    """The usual distance of planes, in slices."""
    usual = float(np.median(np.diff(heights))) if len(heights) > 1 else 1.0
    return usual if usual <= widest else 1.0


def _slices(heights: FloatArray, count: int, *, usual: float) -> tuple[list[_Slice], list[float]]:
    """Which slices 0 <= k < count are filled from which planes, and the gaps that are none's (in slices)."""
    steps = np.diff(heights)
    bridged = steps <= WIDEST_BRIDGE * usual
    first = int(np.clip(np.floor(heights[0] - usual), 0, count))
    stop = int(np.clip(np.ceil(heights[-1] + usual) + 1, 0, count))
    found = (_slice(k, heights, bridged, usual / 2) for k in range(first, stop))
    return [slice_ for slice_ in found if slice_ is not None], steps[~bridged].tolist()


def _slice(k: int, heights: FloatArray, bridged: Mask, reach: float) -> _Slice | None:
    nearest = int(np.argmin(np.abs(heights - k)))
    if abs(heights[nearest] - k) <= COINCIDES:
        return _Slice(k, nearest)
    below = int(np.searchsorted(heights, k)) - 1
    if 0 <= below < len(heights) - 1 and bridged[below]:
        return _Slice(k, below, float((k - heights[below]) / (heights[below + 1] - heights[below])))
    # Positions in files are rounded: whether a slice at just half a spacing belongs to it must not hang on that.
    beyond = round(float(k - heights[nearest]), 3)
    return _Slice(k, nearest) if -round(reach, 3) <= beyond < round(reach, 3) else None


def _filled_slices(
    planes: Sequence[_Plane], slices: Sequence[_Slice], window: _Window, spacing_mm: tuple[float, float]
) -> Mask:
    """(slices, rows, columns) from the first slice to the last."""
    stack = np.zeros((slices[-1].index - slices[0].index + 1, *window.shape), dtype=np.bool_)
    shapes: dict[int, Mask] = {}
    for slice_ in slices:
        wanted = (slice_.below, slice_.below + 1) if slice_.fraction else (slice_.below,)
        shapes = {n: shapes[n] if n in shapes else _filled(planes[n].polygons, window) for n in wanted}
        target = stack[slice_.index - slices[0].index]
        target[...] = shapes[slice_.below]
        if slice_.fraction:
            target[...] = _between(shapes[slice_.below], shapes[slice_.below + 1], slice_.fraction, spacing_mm)
    return stack


def _between(below: Mask, above: Mask, fraction: float, spacing_mm: tuple[float, float]) -> Mask:
    """The shape at `fraction` of the way from one to the other."""
    nearer = below if fraction <= 0.5 else above
    distance = (1 - fraction) * _signed_distance_mm(below, spacing_mm)
    distance += fraction * _signed_distance_mm(above, spacing_mm)
    between: Mask = (distance > 0) | ((distance == 0) & nearer)
    return between if between.any() else nearer


def _signed_distance_mm(shape: Mask, spacing_mm: tuple[float, float]) -> FloatArray:
    """Distance to the nearest centre of the other kind, positive inside; beyond the window all is outside."""
    from scipy.ndimage import distance_transform_edt

    padded = np.pad(shape, 1)
    if not shape.any():
        return np.full(shape.shape, -np.hypot(*(n * s for n, s in zip(shape.shape, spacing_mm, strict=True))))
    inside = distance_transform_edt(padded, sampling=spacing_mm)
    outside = distance_transform_edt(~padded, sampling=spacing_mm)
    signed: FloatArray = (inside - outside)[1:-1, 1:-1]
    return signed


def _filled(polygons: Sequence[Polygon], window: _Window) -> Mask:
    """Pixels with their centre inside, even-odd: every edge flips all pixels of a row from its crossing on."""
    start, stop = _ordered_edges(polygons)
    rows, columns = window.shape
    first = np.clip(np.ceil(start[:, 0]) - window.start[0], 0, rows).astype(np.int64)
    counts = np.clip(np.ceil(stop[:, 0]) - window.start[0], 0, rows).astype(np.int64) - first
    flips = np.zeros(rows * (columns + 1), dtype=np.uint8)
    parts = np.cumsum(counts) // _CROSSINGS_AT_ONCE
    for part in np.split(np.arange(len(counts)), np.flatnonzero(np.diff(parts)) + 1):
        edge = np.repeat(part, counts[part])
        row = np.arange(len(edge)) - np.repeat(np.cumsum(counts[part]) - counts[part] - first[part], counts[part])
        rise = stop[edge] - start[edge]
        crossing = start[edge, 1] + (row + window.start[0] - start[edge, 0]) * (rise[:, 1] / rise[:, 0])
        column = np.clip(np.ceil(crossing) - window.start[1], 0, columns).astype(np.int64)
        np.add.at(flips, row * (columns + 1) + column, 1)
    parity = np.bitwise_xor.accumulate(flips.reshape(rows, columns + 1) & 1, axis=1)
    return parity[:, :columns].astype(np.bool_)


def _ordered_edges(polygons: Sequence[Polygon]) -> tuple[FloatArray, FloatArray]:
    """Lower and upper end of every edge: an edge run through either way crosses rows at the very same places."""
    ends = [np.stack([polygon, np.roll(polygon, -1, axis=0)]) for polygon in polygons]
    start, stop = np.concatenate(ends, axis=1)
    down = start[:, :1] > stop[:, :1]
    return np.where(down, stop, start), np.where(down, start, stop)


def _crossings(polygons: Sequence[Polygon]) -> int:
    """Pairs of polygons of which the smaller one lies neither in nor beside the other."""
    if not 1 < len(polygons) <= MOST_COMPARED:
        return 0
    lows = np.array([polygon.min(axis=0) for polygon in polygons])
    highs = np.array([polygon.max(axis=0) for polygon in polygons])
    meet = ((lows[:, np.newaxis] < highs) & (highs[:, np.newaxis] > lows)).all(axis=2)
    pairs = np.argwhere(np.triu(meet, 1)).tolist()
    return sum(_in_part(polygons[n], polygons[m]) for n, m in pairs)


def _in_part(first: Polygon, second: Polygon) -> bool:
    smaller, larger = sorted((first, second), key=_area)
    # Sixteen by sixteen places in the smaller one's box tell enough, however large the contours are.
    low, size = smaller.min(axis=0), np.maximum(np.ptp(smaller, axis=0), 1e-9)
    fine = _Window((0, 0), (16, 16))
    inside = _filled([(smaller - low) * (16 / size) - 0.5], fine)
    shared = inside & _filled([(larger - low) * (16 / size) - 0.5], fine)
    return bool(0.1 * inside.sum() < shared.sum() < 0.9 * inside.sum())


def _outside_share(planes: Sequence[_Plane], shape: Triple, axis: int) -> float:
    rows, columns = (n for m, n in enumerate(shape) if m != axis)
    whole = kept = 0.0
    for plane in planes:
        within = -0.5 - COINCIDES <= plane.height <= shape[axis] - 0.5 + COINCIDES
        for polygon in plane.polygons:
            area = _area(polygon)
            whole += area
            kept += _area(_clipped(polygon, (rows, columns))) if within else 0.0
    return float(np.clip(1.0 - kept / whole, 0.0, 1.0)) if whole > 0 else 0.0


def _area(polygon: Polygon) -> float:
    centred = polygon - polygon[0] if len(polygon) else polygon
    u, v = centred.T
    return float(abs(u @ np.roll(v, -1) - v @ np.roll(u, -1))) / 2


def _clipped(polygon: Polygon, shape: tuple[int, int]) -> Polygon:
    """The polygon inside the outer edges of the pixels (Sutherland and Hodgman 1974); its area is right."""
    for axis, count in enumerate(shape):
        for side, limit in ((1.0, -0.5 - _EDGE), (-1.0, count - 0.5 + _EDGE)):
            depth = side * (polygon[:, axis] - limit)
            if (depth >= 0).all():
                continue
            polygon = _cut_at(polygon, depth)
            if not len(polygon):
                return polygon
    return polygon


def _cut_at(polygon: Polygon, depth: FloatArray) -> Polygon:
    following, next_depth = np.roll(polygon, -1, axis=0), np.roll(depth, -1)
    crosses = (depth >= 0) != (next_depth >= 0)
    share = np.where(crosses, depth, 0.0) / np.where(crosses, depth - next_depth, 1.0)
    meets = polygon + share[:, np.newaxis] * (following - polygon)
    both = np.stack([polygon, meets], axis=1).reshape(-1, 2)
    kept: Polygon = both[np.stack([depth >= 0, crosses], axis=1).reshape(-1)]
    return kept


def _changed_box(box: Box, shape: Triple, change: AxisChange) -> Box:
    """The box of the same voxels after the change of axes of an array of `shape`."""
    pairs = [
        (shape[axis] - box.stop[axis], shape[axis] - box.start[axis]) if flip else (box.start[axis], box.stop[axis])
        for axis, flip in zip(change.order, change.flips, strict=True)
    ]
    return Box(tuple(a for a, _ in pairs), tuple(b for _, b in pairs))  # type: ignore[arg-type]
