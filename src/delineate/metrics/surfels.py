"""The area of the piece of surface in every 2x2x2 neighbourhood of voxels, as marching cubes cuts it.

Eight voxel centres are the corners of a cube. The surface cuts each edge between an inside and an
outside corner in the middle, and the cuts of one face join into segments, the segments into polygons.
The sum of the polygons' areas is the area of one surface element, or surfel. Nothing is tabulated here:
the three rules below (`_segments`, `_polygons`, `_normals`) reproduce the areas of DeepMind's
surface-distance, which come from Lorensen and Cline, "Marching cubes", SIGGRAPH 1987.

Bit 4c + 2a + b of a neighbourhood's code says whether the voxel (i + a, j + b, k + c) is inside.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache
from itertools import product

import numpy as np

from delineate.geometry import FloatArray, Triple, TripleMM

Edge = frozenset[Triple]

CORNERS: tuple[Triple, ...] = tuple((a, b, c) for c, a, b in product((0, 1), repeat=3))
"""The cube's corner of each bit."""


@lru_cache(maxsize=64)
def surfel_areas_mm2(spacing_mm: TripleMM) -> FloatArray:
    """(256,) area of the surface in the neighbourhood of each code; 0 for all inside or all outside."""
    i, j, k = spacing_mm
    face_mm2 = np.array((j * k, i * k, i * j))
    areas = np.array([np.linalg.norm(normals * face_mm2, axis=1).sum() for normals in _unit_normals()])
    areas.flags.writeable = False
    return areas


@lru_cache(maxsize=1)
def _unit_normals() -> tuple[FloatArray, ...]:
    """For each code the normals (triangles, 3) of its triangles, as long as the triangles are large."""
    none = np.zeros((0, 3))
    return tuple(np.concatenate([none, *map(_normals, _polygons(_segments(code)))]) for code in range(256))


def _segments(code: int) -> list[tuple[Edge, Edge]]:
    """Pairs of cut edges that the surface joins across a face of the cube.

    A face with two inside corners on one diagonal can be cut in two ways: here the cuts go round the
    corners of the kind, inside or outside, that fewer of the cube's eight corners have.
    """
    inside = {corner: bool(code >> bit & 1) for bit, corner in enumerate(CORNERS)}
    lonely = code.bit_count() <= 4
    segments = []
    for ring in _faces():
        edges = [frozenset((ring[n - 1], ring[n])) for n in range(4)]
        cuts = [edge for n, edge in enumerate(edges) if inside[ring[n - 1]] != inside[ring[n]]]
        if len(cuts) == 2:
            segments.append((cuts[0], cuts[1]))
        elif len(cuts) == 4:
            segments += [(edges[n], edges[(n + 1) % 4]) for n in range(4) if inside[ring[n]] == lonely]
    return segments


def _faces() -> Iterator[tuple[Triple, Triple, Triple, Triple]]:
    """The corners of each face of the cube, in order round it."""
    for axis, side in product(range(3), (0, 1)):
        ring = ((0, 0), (0, 1), (1, 1), (1, 0))
        a, b, c, d = ((*uv[:axis], side, *uv[axis:]) for uv in ring)
        yield a, b, c, d  # type: ignore[misc]


def _polygons(segments: list[tuple[Edge, Edge]]) -> Iterator[FloatArray]:
    """The closed polygons (points, 3) that the segments make; every cut edge is in exactly two segments."""
    left = list(segments)
    while left:
        path = list(left.pop())
        while path[-1] != path[0]:
            following = next(segment for segment in left if path[-1] in segment)
            left.remove(following)
            path.append(following[1] if following[0] == path[-1] else following[0])
        yield np.array([np.mean(sorted(edge), axis=0) for edge in path[:-1]])


def _normals(polygon: FloatArray) -> FloatArray:
    """Normals (points - 2, 3) of the triangles between one point of the polygon and all others.

    Polygons of five or six points need not be flat, and their area depends on that one point: it is the
    one that gives the largest area in a cube of edge 1. Points that tie there, tie in every box.
    """
    fans = [_fan(np.roll(polygon, n, axis=0)) for n in range(len(polygon))]
    return max(fans, key=lambda normals: round(float(np.linalg.norm(normals, axis=1).sum()), 9))


def _fan(polygon: FloatArray) -> FloatArray:
    spokes = polygon[1:] - polygon[0]
    return np.asarray(np.cross(spokes[:-1], spokes[1:]) / 2)
