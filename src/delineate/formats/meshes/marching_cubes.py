"""The surface between the inside and the outside of a mask, as closed, oriented, manifold triangles.

Lorensen and Cline, "Marching cubes", SIGGRAPH 1987: eight neighbouring voxel centres are the corners of a cube, the
surface crosses each edge of the cube between an inside and an outside corner, and the crossings of a cube join into
polygons. Nothing is tabulated by hand. A face with two inside corners on one diagonal is always cut so that they stay
apart, in both cubes that share it, so the surface has no hole and no edge with more than two triangles, whatever the
mask; the inside is thus connected by faces (6 neighbours). scikit-image's version leaves holes in masks whose voxels
touch at corners.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import product

import numpy as np
import numpy.typing as npt

from delineate.geometry import Triple

IntArray = npt.NDArray[np.int64]
Edge = tuple[Triple, int]  # the lower corner and the axis along which the edge runs

CORNERS: tuple[Triple, ...] = tuple((a, b, c) for c, a, b in product((0, 1), repeat=3))
"""The cube's corner of each bit of a code."""

EDGES: tuple[Edge, ...] = tuple((corner, axis) for corner in CORNERS for axis in range(3) if corner[axis] == 0)


@dataclass(frozen=True, slots=True)
class Crossings:
    """Where a surface passes between voxels.

    `inside`: (V, 3) index of the inside voxel beside each vertex; `step`: (V, 3) the way from there to the outside
    one, a unit vector along one axis. A vertex is anywhere between: `inside + t * step` with 0 < t < 1.
    `faces`: (F, 3) vertices of triangles that turn anticlockwise seen from outside, in a right-handed index space.
    """

    inside: IntArray
    step: IntArray
    faces: IntArray


def crossings(mask: npt.NDArray[np.bool_]) -> Crossings:
    """The surface of an (I, J, K) mask; beyond the array is outside. An empty mask has no vertices and no faces."""
    padded = np.pad(mask, 1)
    keys, inside, step = _vertices(padded)
    corners = _triangles(padded)
    return Crossings(inside - 1, step, np.searchsorted(keys, corners))


def _vertices(padded: npt.NDArray[np.bool_]) -> tuple[IntArray, IntArray, IntArray]:
    """Of every edge that is crossed, in order: its key, three times the lower voxel's place plus axis; and its ends."""
    strides = _strides(padded.shape)
    keys = []
    for axis in range(3):
        lower, upper = _ends(padded, axis)
        places = np.nonzero(lower != upper)
        keys.append(3 * sum(n * s for n, s in zip(places, strides, strict=True)) + axis)
    ordered = np.sort(np.concatenate(keys))
    place, axes = np.divmod(ordered, 3)
    step = np.eye(3, dtype=np.int64)[axes]
    lower_index = np.stack(np.unravel_index(place, padded.shape), axis=-1)
    starts_inside = padded.reshape(-1)[place][:, np.newaxis]
    return ordered, np.where(starts_inside, lower_index, lower_index + step), np.where(starts_inside, step, -step)


def _ends(padded: npt.NDArray[np.bool_], axis: int) -> tuple[npt.NDArray[np.bool_], npt.NDArray[np.bool_]]:
    along = np.moveaxis(padded, axis, 0)
    return np.moveaxis(along[:-1], 0, axis), np.moveaxis(along[1:], 0, axis)


def _triangles(padded: npt.NDArray[np.bool_]) -> IntArray:
    """(F, 3) keys of the crossed edges that each triangle joins."""
    codes = np.zeros([n - 1 for n in padded.shape], dtype=np.uint8)
    for bit, corner in enumerate(CORNERS):
        part = padded[tuple(slice(c, c + n) for c, n in zip(corner, codes.shape, strict=True))]
        codes |= part.view(np.uint8) << np.uint8(bit)
    cells = np.nonzero((codes != 0) & (codes != 255))
    strides = _strides(padded.shape)
    places = sum(n * s for n, s in zip(cells, strides, strict=True))
    rows, owners = _expand(codes[cells])
    offsets = np.array([3 * sum(c * s for c, s in zip(corner, strides, strict=True)) + a for corner, a in EDGES])
    keys: IntArray = 3 * np.asarray(places)[owners, np.newaxis] + offsets[_table()[0][rows]]
    return keys


def _expand(codes: npt.NDArray[np.uint8]) -> tuple[IntArray, IntArray]:
    """Rows of the table for cells of these codes, one after the other, and the cell of each row."""
    _, first, count = _table()
    counts = count[codes]
    owners = np.repeat(np.arange(len(codes)), counts)
    within = np.arange(len(owners)) - np.repeat(np.cumsum(counts) - counts, counts)
    return first[codes][owners] + within, owners


def _strides(shape: Sequence[int]) -> Triple:
    _, j, k = (int(n) for n in shape)
    return j * k, k, 1


@lru_cache(maxsize=1)
def _table() -> tuple[IntArray, IntArray, IntArray]:
    """All triangles (T, 3) as numbers of edges; of each of the 256 codes the first triangle and their number."""
    triangles = [[t for polygon in _polygons(code) for t in _best_triangles(polygon)] for code in range(256)]
    count = np.array([len(found) for found in triangles])
    rows = np.array([t for found in triangles for t in found], dtype=np.int64)
    return rows, np.cumsum(count) - count, count


def _polygons(code: int) -> Iterator[list[int]]:
    """Closed rings of crossed edges, anticlockwise seen from outside.

    Round each face of the cube, seen from outside the cube, a run of inside corners has an edge that leads into it and
    one that leads out; the surface joins the two. Each edge leads in on one of its two faces and out on the other.
    """
    inside = {corner: bool(code >> bit & 1) for bit, corner in enumerate(CORNERS)}
    following: dict[int, int] = {}
    for ring in _faces():
        ways = [(inside[ring[n - 1]], inside[ring[n]], _edge(ring[n - 1], ring[n])) for n in range(4)]
        crossed = [(enters, edge) for left, enters, edge in ways if left != enters]
        for n, (enters, edge) in enumerate(crossed):
            if enters:
                following[edge] = crossed[(n + 1) % len(crossed)][1]
    while following:
        start, edge = following.popitem()
        ring_of_edges = [start]
        while edge != start:
            ring_of_edges.append(edge)
            edge = following.pop(edge)
        yield ring_of_edges


def _faces() -> Iterator[tuple[Triple, Triple, Triple, Triple]]:
    """The corners of each face of the cube, anticlockwise seen from outside the cube."""
    for axis, side in product(range(3), (0, 1)):
        ring = []
        for u, v in ((0, 0), (1, 0), (1, 1), (0, 1)):
            corner = [0, 0, 0]
            corner[axis], corner[(axis + 1) % 3], corner[(axis + 2) % 3] = side, u, v
            ring.append((corner[0], corner[1], corner[2]))
        a, b, c, d = ring if side else ring[::-1]
        yield a, b, c, d


def _edge(first: Triple, second: Triple) -> int:
    axis = next(n for n in range(3) if first[n] != second[n])
    return EDGES.index((min(first, second), axis))


def _best_triangles(polygon: list[int]) -> list[Triple]:
    """The polygon as triangles, by the shortest diagonals of which none lies in a face of the cube.

    A diagonal in a face could be drawn from the other side too, and would then have four triangles.
    """
    return min(_triangulations(polygon), key=lambda triangles: _cost(triangles, polygon))


def _triangulations(polygon: list[int]) -> Iterator[list[Triple]]:
    if len(polygon) < 3:
        yield []
        return
    first, last = polygon[0], polygon[-1]
    for n in range(1, len(polygon) - 1):
        for before in _triangulations(polygon[: n + 1]):
            for after in _triangulations(polygon[n:]):
                yield [(first, polygon[n], last), *before, *after]


def _cost(triangles: list[Triple], polygon: list[int]) -> tuple[int, float]:
    sides = {frozenset((polygon[n - 1], polygon[n])) for n in range(len(polygon))}
    pairs = {frozenset((t[n - 1], t[n])) for t in triangles for n in range(3)} - sides
    middles = [np.array(corner) + 0.5 * np.eye(3)[axis] for corner, axis in EDGES]
    in_a_face, length = 0, 0.0
    for pair in pairs:
        a, b = (middles[edge] for edge in pair)
        in_a_face += bool(((a == b) & ((a == 0) | (a == 1))).any())
        length += float(np.sum((a - b) ** 2))
    return in_a_face, round(length, 9)
