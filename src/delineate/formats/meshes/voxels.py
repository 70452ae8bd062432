"""Which voxel centres a closed surface contains: to compare a mesh with the mask it was made from."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from delineate.errors import InputError
from delineate.formats.meshes.marching_cubes import IntArray
from delineate.formats.meshes.surfaces import Mesh, is_closed, mesh_box
from delineate.geometry import FloatArray, Grid, world_to_index

# Rays through voxel centres would meet vertices and edges of surfaces made from voxels all the time. These steps aside,
# in voxels, are far below what any mesh resolves, and irrational to each other so that no diagonal is met either.
_ASIDE = np.array([np.sqrt(2.0), np.sqrt(3.0)]) * 1e-6
_AT_ONCE = 4_000_000  # pairs of triangle and ray in memory at a time


def mesh_mask(mesh: Mesh, grid: Grid) -> npt.NDArray[np.bool_]:
    """(I, J, K) mask of the voxel centres inside the surface; several bodies and cavities count as they lie.

    A ray along array axis I through each row of centres counts the triangles it leaves or enters by (winding number
    above 0 is inside). Centres within 1e-5 of a voxel of the surface may fall on either side. Raises `InputError` for
    a surface that is not closed.
    """
    if not is_closed(mesh.faces):
        raise InputError("the surface is not closed, so nothing is inside it", got=mesh.name or None)
    mask = np.zeros(grid.shape, dtype=bool, order="F")  # as scans lie in memory, so that comparing is quick
    box = mesh_box(mesh, grid)
    if box is None:
        return mask
    points = world_to_index(grid, mesh.vertices_mm) - box.start
    # A left-handed grid mirrors the surface, and so turns its inside out.
    faces = mesh.faces if np.linalg.det(grid.affine[:3, :3]) > 0 else mesh.faces[:, ::-1]
    turns = np.zeros(box.shape, dtype=np.int8)
    for triangle, ray in _candidates(points, faces, box.shape[1:]):
        _count(turns, points, faces[triangle], ray)
    mask[box.slices] = np.cumsum(turns, axis=0, dtype=np.int8) > 0
    return mask


def _candidates(points: FloatArray, faces: IntArray, shape: tuple[int, ...]) -> Iterator[tuple[IntArray, IntArray]]:
    """Triangles, and for each a ray (j, k) in the box about its shadow on the plane of J and K."""
    shadows = points[:, 1:][faces]
    low = np.clip(np.ceil(shadows.min(axis=1) - _ASIDE), 0, shape).astype(np.int64)
    high = np.clip(np.floor(shadows.max(axis=1) - _ASIDE) + 1, 0, shape).astype(np.int64)
    size = np.maximum(high - low, 0)
    count = size.prod(axis=1)
    ends = np.searchsorted(np.cumsum(count), np.arange(0, count.sum(), _AT_ONCE)[1:])
    for part in np.split(np.arange(len(faces)), ends):
        triangle = np.repeat(part, count[part])
        within = np.arange(len(triangle)) - np.repeat(np.cumsum(count[part]) - count[part], count[part])
        j, k = np.divmod(within, np.maximum(size[triangle, 1], 1))
        yield triangle, low[triangle] + np.stack([j, k], axis=1)


def _count(turns: npt.NDArray[np.int8], points: FloatArray, faces: IntArray, ray: IntArray) -> None:
    """Add, beside the place where each ray meets its triangle, whether the ray enters (+1) or leaves (-1) there."""
    target = ray + _ASIDE
    weights = np.stack([_side(points, faces[:, (n + 1) % 3], faces[:, (n + 2) % 3], target) for n in range(3)], axis=1)
    leaves, enters = np.all(weights > 0, axis=1), np.all(weights < 0, axis=1)
    hit = leaves | enters
    weights, faces, ray = weights[hit], faces[hit], ray[hit]
    heights = points[:, 0][faces]
    at = (weights * heights).sum(axis=1) / weights.sum(axis=1)
    after = np.floor(at).astype(np.int64) + 1
    seen = after < turns.shape[0]
    place = np.ravel_multi_index((np.maximum(after, 0)[seen], *ray[seen].T), turns.shape)
    signs = np.where(enters[hit], 1, -1)[seen]
    np.add.at(turns.reshape(-1), place, signs.astype(np.int8))


def _side(points: FloatArray, start: IntArray, end: IntArray, target: FloatArray) -> FloatArray:
    """On which side of each edge's shadow the ray passes, twice the area between them.

    Both triangles of an edge must get the same number, up to its sign, to the last bit: a ray that slips between them
    would fill a whole row. So the edge is always taken from its lower to its higher vertex.
    """
    lower, higher = np.minimum(start, end), np.maximum(start, end)
    a, b = points[lower, 1:], points[higher, 1:]
    area = (b[:, 0] - a[:, 0]) * (target[:, 1] - a[:, 1]) - (b[:, 1] - a[:, 1]) * (target[:, 0] - a[:, 0])
    # No ray passes an edge at 0: it counts as beyond it, for both triangles alike.
    area = np.where(area == 0, 1e-300, area)
    return np.where(start == lower, area, -area)
