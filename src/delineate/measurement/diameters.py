"""The diameters that people draw: the longest in an axial slice, across it, and the longest in any direction.

After RECIST 1.1 (Eisenhauer et al., European Journal of Cancer 2009): the longest diameter of a lesion in one axial
slice, and the longest one at right angles to it in the same slice.

Where a diameter ends: the longest one a quarter of a voxel outside the outermost voxel centres. From centre to centre a
flat body would be too short by a voxel, and from face to face a round one too long by nearly one, because the longest
chord looks for the voxels that stick out. Balls and discs of 8 to 50 voxels come out 0 to 0.5 voxels too long (of the
largest edge), bodies with flat ends half a voxel too short. The second axial diameter has no choice of direction: it
goes from face to face, half a voxel outside the centres, and is never given as longer than the first.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from delineate.geometry import FloatArray, Grid, TripleMM, index_to_world
from delineate.measurement.shapes import numbered_parts, outer_voxels

Mask = npt.NDArray[np.bool_]

REACH = 0.25
"""How far, in voxels, a longest diameter reaches beyond the centres of the outermost voxels."""

REACH_ACROSS = 0.5
"""The same for the diameter at right angles to it."""

_SAME_MM = 1e-6
_CHUNK = 1000  # rows of a table of distances at once


@dataclass(frozen=True, slots=True)
class Diameter:
    """A straight line through a structure. `start_mm`, `stop_mm`: its ends, LPS.

    `slice_index`: the slice it lies in, along `axial_axis` of the grid it was measured on; None for any direction.
    """

    value_mm: float
    start_mm: TripleMM
    stop_mm: TripleMM
    slice_index: int | None = None


@dataclass(frozen=True, slots=True)
class AxialDiameters:
    """The longest diameter in a slice, and the longest at right angles to it in the same part of the same slice."""

    long: Diameter
    short: Diameter


def axial_axis(grid: Grid) -> int:
    """The array axis whose slices are nearest to perpendicular to the patient's length."""
    a, b, c = grid.affine[:3, :3].T
    normals = np.stack([np.cross(b, c), np.cross(c, a), np.cross(a, b)])
    return int(np.argmax(np.abs(normals[:, 2]) / np.linalg.norm(normals, axis=1)))


def axial_diameters(mask: Mask, grid: Grid) -> AxialDiameters | None:
    """Of all connected pieces (by edges or corners) in all slices, the one with the longest diameter.

    A mask of several parts is taken whole: see `largest_part`. Holes count as inside. The second diameter does not
    leave the structure, where that is bent. Of slices with equal diameters, the one with most voxels counts. On an
    oblique grid the slices are the grid's, and distances are measured in their own plane. None for a mask without
    voxels.
    """
    axis = axial_axis(grid)
    others = [n for n in range(3) if n != axis]
    planes = np.moveaxis(mask, axis, 0)
    slices = [
        _Slice(index, _length(_farthest(index_to_world(grid, _reaching(corners, others)))), int(planes[index].sum()))
        for index, corners in _slice_hulls(mask, axis)
    ]
    best: _Chord | None = None
    for one in sorted(slices, key=lambda one: (-round(one.bound_mm, 6), -one.voxels)):
        if best is not None and one.bound_mm <= best.length_mm + _SAME_MM:
            break
        for outline in _outlines(planes[one.index], REACH):
            chord = _longest(outline, grid, axis=axis, index=one.index)
            best = chord if best is None or chord.length_mm > best.length_mm else best
    if best is None:
        return None
    return AxialDiameters(_diameter(*best.ends_mm, best.index), _across(best, grid, axis))


def diameter_3d(mask: Mask, grid: Grid) -> Diameter | None:
    """The longest line between any two points, None for a mask without voxels; see `largest_part` for several parts."""
    hulls = [corners for _, corners in _slice_hulls(mask, int(np.argmin(mask.shape)))]
    if not hulls:
        return None
    points = _hull(_reaching(_hull(np.concatenate(hulls)), range(3)))
    return _diameter(*_farthest(index_to_world(grid, points)))


def largest_part(mask: Mask) -> Mask:
    """The largest of the parts connected by faces, edges or corners; the mask itself if it has no voxels."""
    parts = numbered_parts(mask)
    counts = np.bincount(parts[mask])
    return mask if len(counts) <= 2 else np.asarray(parts == counts.argmax())


@dataclass(frozen=True, slots=True)
class _Slice:
    """A slice with voxels, and a length that no diameter in it exceeds."""

    index: int
    bound_mm: float
    voxels: int


@dataclass(frozen=True, slots=True, eq=False)
class _Chord:
    """The longest chord of an outline in slice `index`, whose `points` (N, 3) are in voxels."""

    points: FloatArray
    ends_mm: tuple[FloatArray, FloatArray]
    index: int

    @property
    def length_mm(self) -> float:
        return _length(self.ends_mm)


def _slice_hulls(mask: Mask, axis: int) -> Iterator[tuple[int, FloatArray]]:
    """Of each slice with voxels its index along the axis, and the corners (N, 3) of the hull of its voxel centres."""
    outer = outer_voxels(np.moveaxis(mask, axis, 0))
    outer = outer[np.argsort(outer[:, 0], kind="stable")]
    indices, starts = np.unique(outer[:, 0], return_index=True)
    for index, first, stop in zip(indices, starts, [*starts[1:], len(outer)], strict=False):
        yield int(index), np.insert(_hull(outer[first:stop, 1:].astype(np.float64)), axis, index, axis=1)


def _reaching(points: FloatArray, axes: Iterable[int]) -> FloatArray:
    """(2 len(axes) N, 3) from voxel centres (N, 3): where the structure ends beside each along each axis."""
    steps = [sign * REACH * np.eye(3)[axis] for axis in axes for sign in (1, -1)]
    return np.asarray((points[:, np.newaxis] + steps).reshape(-1, 3))


def _outlines(plane: Mask, reach: float) -> Iterator[FloatArray]:
    """(N, 2) the closed outline of every connected piece, in pixels; those of holes come too, inside another one."""
    from skimage import measure

    trace: Any = measure.find_contours
    # Values run from 1 at a centre inside to 0 at its neighbour outside.
    for outline in trace(np.pad(plane, 1).astype(np.float64), 1.0 - reach, fully_connected="high"):
        yield np.asarray(outline - 1.0, dtype=np.float64)


def _longest(outline: FloatArray, grid: Grid, *, axis: int, index: int) -> _Chord:
    points, corners = (np.insert(some, axis, index, axis=1) for some in (outline, _hull(outline)))
    return _Chord(points, _farthest(index_to_world(grid, corners)), index)


def _across(chord: _Chord, grid: Grid, axis: int) -> Diameter:
    """The longest stretch inside the chord's outline at right angles to it.

    Along parallel lines its length is linear between two corners of the outline, so the longest one ends at a corner.
    Lines run just beside the corners, where an even number of sides is crossed.
    """
    start, stop = chord.ends_mm
    along = (stop - start) / chord.length_mm
    u, v = (vector for n, vector in enumerate(grid.affine[:3, :3].T) if n != axis)
    normal = np.cross(u, v)
    across = np.cross(normal / np.linalg.norm(normal), along)
    centres = np.round(chord.points)
    wider = index_to_world(grid, centres + (chord.points - centres) * (REACH_ACROSS / REACH)) - start
    x, y = wider @ along, wider @ across
    line, low, high = max((_stretch(x, y, line) for line in _beside(x, chord.length_mm)), key=lambda s: s[2] - s[1])
    excess = max(0.0, high - low - chord.length_mm)
    low, high = low + excess / 2, high - excess / 2
    return _diameter(start + line * along + low * across, start + line * along + high * across, chord.index)


def _stretch(x: FloatArray, y: FloatArray, line: float) -> tuple[float, float, float]:
    """Where x is `line`: that, and from where to where in y the longest way inside the outline goes."""
    crossed = np.flatnonzero((x[:-1] > line) != (x[1:] > line))
    if not len(crossed):
        return line, 0.0, 0.0
    share = (line - x[crossed]) / (x[crossed + 1] - x[crossed])
    hits = np.sort(y[crossed] + share * (y[crossed + 1] - y[crossed]))
    n = 2 * int((hits[1::2] - hits[::2]).argmax())
    return line, float(hits[n]), float(hits[n + 1])


def _beside(places: FloatArray, length_mm: float) -> list[float]:
    step = 1e-7 * length_mm
    unique = np.unique(np.round(places / step) * step)
    return [float(line) for line in np.concatenate([unique - step / 3, unique + step / 3])]


def _length(ends_mm: tuple[FloatArray, FloatArray]) -> float:
    return float(np.linalg.norm(ends_mm[1] - ends_mm[0]))


def _diameter(start_mm: FloatArray, stop_mm: FloatArray, index: int | None = None) -> Diameter:
    ends = [(float(x), float(y), float(z)) for x, y, z in (start_mm, stop_mm)]
    return Diameter(_length((start_mm, stop_mm)), ends[0], ends[1], index)


def _hull(points: FloatArray) -> FloatArray:
    """The corners of the convex hull of (N, D) points; all points where they lie in a plane, on a line, or are few."""
    from scipy.spatial import ConvexHull, QhullError

    if len(points) > points.shape[1]:
        try:
            return np.asarray(points[ConvexHull(points).vertices], dtype=np.float64)
        except QhullError:
            pass
    return points


def _farthest(points_mm: FloatArray) -> tuple[FloatArray, FloatArray]:
    """The two of (N, 3) points that are farthest apart, the one with the smaller coordinates first."""
    from scipy.spatial.distance import cdist

    points = _promising(points_mm)
    best, pair = -1.0, (0, 0)
    for first in range(0, len(points), _CHUNK):
        apart = cdist(points[first : first + _CHUNK], points[first:])
        row, column = divmod(int(apart.argmax()), apart.shape[1])
        if apart[row, column] > best:
            best, pair = float(apart[row, column]), (first + row, first + column)
    ends = sorted((points[n] for n in pair), key=lambda point: tuple(point))
    return ends[0], ends[1]


def _promising(points: FloatArray) -> FloatArray:
    """The points that can be an end of the longest line: it is no longer than the way through the middle."""
    far = np.linalg.norm(points - (points.min(axis=0) + points.max(axis=0)) / 2, axis=1)
    start = points[far.argmax()]
    for _ in range(2):
        apart = np.linalg.norm(points - start, axis=1)
        start = points[apart.argmax()]
    return np.asarray(points[far + far.max() >= apart.max() * (1 - 1e-12)], dtype=np.float64)
