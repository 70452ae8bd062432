"""A structure's surface as triangles in the patient, with the volume of its voxels.

Marching cubes on a mask cuts corners: of a single voxel it leaves a sixth, of a plate one voxel thin it loses the rim.
Here the surface still crosses between the same voxel centres, but at the place between them that gives every body
(every part connected by faces, with its cavities) exactly the volume of its voxels. Smoothing and simplification end
with the same correction.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt

from delineate.errors import ExportError
from delineate.formats.meshes.marching_cubes import Crossings, IntArray, crossings
from delineate.geometry import Box, FloatArray, Grid, crop_grid, foreground_box, index_to_world, world_to_index
from delineate.labels import Colour
from delineate.volume import Array, Segmentation, cut, read_only

VOLUME_TOLERANCE = 0.005
"""By how much, relatively, a surface's volume may differ from its voxels' before it is refused."""

SMOOTHING_REACH = 0.5
"""How far, in voxels, smoothing may move a point sideways. On its own line a point stays between the two voxel centres
that it parts: a mask says no more about where the surface is, and so no body vanishes or tears."""

_TAUBIN = (0.5, -0.53)
_CORRECT = 1e-4  # a body whose volume is off by less is left alone
_CORRECTIONS = 40
_FEWEST_TRIANGLES = 200  # a body with fewer is not worth simplifying
_NEAREST, _FARTHEST = 0.02, 0.98  # the range of places between two voxel centres, from the inside one


@dataclass(frozen=True, slots=True, eq=False)
class Mesh:
    """A surface. `vertices_mm`: (V, 3) LPS millimetres; `faces`: (F, 3) vertices, anticlockwise seen from outside."""

    vertices_mm: FloatArray
    faces: IntArray
    name: str = ""
    colour: Colour = (204, 204, 204)

    def __post_init__(self) -> None:
        object.__setattr__(self, "vertices_mm", read_only(np.asarray(self.vertices_mm, dtype=np.float64)))
        object.__setattr__(self, "faces", read_only(np.asarray(self.faces, dtype=np.int64)))


@dataclass(frozen=True, slots=True, eq=False)
class _Surface:
    """`vertices`: (V, 3) mm from `centre_mm`; `body`: (V,) from 0; `volumes`: (bodies,) mm³ that each should have.

    `reach`: how far below and above its place each vertex may go along each array axis, (2, V, 3) voxels.
    """

    vertices: FloatArray
    faces: IntArray
    body: IntArray
    volumes: FloatArray
    centre_mm: FloatArray
    reach: FloatArray


def surface(segmentation: Segmentation, name: str, *, smooth: int = 0, simplify: float = 0.0) -> Mesh:
    """The surface of one structure: closed, manifold, turned outwards, on any grid, sheared and left-handed ones too.

    Every voxel centre of the structure is inside and every other one outside; bodies that touch at an edge or a corner
    only are apart, cavities are kept. `smooth`: rounds of Taubin's smoothing (1995), which move points by less than
    a voxel; 10 to 30 take off the voxels' steps. `simplify`: the share of triangles to take away, below
    1; a body that would tear keeps more of them. Each body has the volume of its voxels: within 1e-6 of it as it comes
    from the voxels, within 0.1 % after smoothing or simplification, and within 0.5 % or no mesh at all.
    Raises `ExportError` for a structure without voxels, `LabelError` for an unknown name, `ValueError` for a number of
    rounds or a share out of range.
    """
    if smooth < 0 or not 0 <= simplify < 1:
        raise ValueError(f"smooth must be 0 or more and simplify in [0, 1): {smooth}, {simplify}")
    label = segmentation.labels.named(name)
    mask = segmentation.mask(name)
    box = foreground_box(mask)
    if box is None:
        raise ExportError(
            f"{name} has no voxels, and so no surface", path=segmentation.source.path, remedy="Leave it out."
        )
    grid = crop_grid(segmentation.grid, box)
    made = mask_surface(cut(mask, box), grid)
    if smooth:
        made = _smoothed(made, grid, rounds=smooth)
    if simplify:
        made = _simplified(made, simplify)
    _check(made, name)
    return Mesh(made.vertices + made.centre_mm, made.faces, name, label.colour)


def mask_surface(mask: npt.NDArray[np.bool_], grid: Grid) -> _Surface:
    """The surface of a mask that has voxels, with each body's volume right."""
    found = crossings(mask)
    bodies = _bodies(mask)
    body = bodies[tuple(found.inside.T)].astype(np.int64) - 1
    counts = np.bincount(bodies[mask].astype(np.int64) - 1).astype(np.float64)
    place = _places(found, body, counts)[body, np.newaxis]
    index = found.inside + place * found.step
    centre_mm = index_to_world(grid, (np.asarray(grid.shape) - 1) / 2)
    faces = found.faces if np.linalg.det(grid.affine[:3, :3]) > 0 else found.faces[:, ::-1]
    volumes = counts * grid.voxel_volume_ml * 1000.0
    vertices = index_to_world(grid, index) - centre_mm
    return _Surface(vertices, faces, body, volumes, centre_mm, _reach(found.step, place))


def _reach(step: IntArray, place: FloatArray) -> FloatArray:
    inwards, outwards = (_NEAREST - place) * step, (_FARTHEST - place) * step
    own_axis = step != 0
    low = np.where(own_axis, np.minimum(inwards, outwards), -SMOOTHING_REACH)
    return np.stack([low, np.where(own_axis, np.maximum(inwards, outwards), SMOOTHING_REACH)])


def _bodies(mask: npt.NDArray[np.bool_]) -> Array:
    import cc3d

    # A copy, because the library takes no read-only array, as the masks of a segmentation are.
    bodies: Array = cc3d.connected_components(np.array(mask, order="C"), connectivity=6)
    return bodies


def _places(found: Crossings, body: IntArray, counts: FloatArray) -> FloatArray:
    """(bodies,) where between the voxel centres, 0 inside to 1 outside, the surface encloses as many voxels as it has.

    The volume is a cubic polynomial of the place, so four volumes determine it.
    """
    nodes = np.array([0.0, 1 / 3, 2 / 3, 1.0])
    volumes = [_volumes(found.inside + t * found.step, found.faces, body) for t in nodes]
    cubic = np.linalg.solve(np.vander(nodes), np.stack(volumes))
    low, high = np.full(len(counts), _NEAREST), np.full(len(counts), _FARTHEST)
    for _ in range(50):
        middle = (low + high) / 2
        above = ((cubic[0] * middle + cubic[1]) * middle + cubic[2]) * middle + cubic[3] > counts
        low, high = np.where(above, low, middle), np.where(above, middle, high)
    return np.asarray((low + high) / 2, dtype=np.float64)


def _volumes(points: FloatArray, faces: IntArray, body: IntArray) -> FloatArray:
    """(bodies,) signed volumes."""
    volumes = np.bincount(body[faces[:, 0]], _tetrahedra(points, faces), minlength=int(body.max()) + 1)
    return np.asarray(volumes, dtype=np.float64)


def _tetrahedra(points: FloatArray, faces: IntArray) -> FloatArray:
    """(F,) signed volume between each triangle and the origin."""
    a, b, c = (points[faces[:, n]] for n in range(3))
    volumes: FloatArray = np.einsum("ij,ij->i", a, np.cross(b, c)) / 6.0
    return volumes


def _smoothed(made: _Surface, grid: Grid, *, rounds: int) -> _Surface:
    """Taubin, "A signal processing approach to fair surface design", SIGGRAPH 1995, within reach of the voxels."""
    mean_of_neighbours = _averaging(made.faces, len(made.vertices))
    points = made.vertices
    for _ in range(rounds):
        for weight in _TAUBIN:
            points = points + weight * (mean_of_neighbours @ points - points)
        points = _within_reach(points, made, grid)
    smooth = replace(made, vertices=points)
    for _ in range(_CORRECTIONS):
        corrected, done = _corrected(smooth)
        if done.all():
            break
        smooth = replace(smooth, vertices=_within_reach(corrected.vertices, made, grid))
    # A body too small to be smooth, within that reach and with that volume, stays as it is.
    kept = _relative_errors(smooth) <= _CORRECT
    return replace(made, vertices=np.where(kept[made.body, np.newaxis], smooth.vertices, made.vertices))


def _within_reach(points: FloatArray, made: _Surface, grid: Grid) -> FloatArray:
    linear = grid.affine[:3, :3]
    moved = np.clip((points - made.vertices) @ np.linalg.inv(linear).T, made.reach[0], made.reach[1])
    return np.asarray(made.vertices + moved @ linear.T)


def _averaging(faces: IntArray, count: int) -> Any:
    """A sparse (V, V) matrix that takes the mean over each vertex's neighbours."""
    from scipy.sparse import csr_array

    start, end = faces.reshape(-1), np.roll(faces, -1, axis=1).reshape(-1)
    # In a closed, oriented surface every pair of neighbours occurs once in each direction.
    links: Any = csr_array((np.ones(len(start)), (start, end)), shape=(count, count))
    degree = np.bincount(start, minlength=count)
    links.data /= np.repeat(degree, np.diff(links.indptr))
    return links


def _relative_errors(made: _Surface) -> FloatArray:
    """(bodies,) by how much each volume differs from what it should be."""
    return np.asarray(np.abs(_volumes(made.vertices, made.faces, made.body) / made.volumes - 1))


def _corrected(made: _Surface) -> tuple[_Surface, npt.NDArray[np.bool_]]:
    """Each body moved along its normals by what its volume misses, to first order; and which missed nothing."""
    missing = made.volumes - _volumes(made.vertices, made.faces, made.body)
    done = np.abs(missing) <= _CORRECT * made.volumes
    normals, areas = _normals(made.vertices, made.faces)
    growth = np.bincount(made.body, areas, minlength=len(missing))
    step_mm = np.where(done, 0.0, missing / np.maximum(growth, 1e-12))
    return replace(made, vertices=made.vertices + step_mm[made.body, np.newaxis] * normals), done


def _normals(points: FloatArray, faces: IntArray) -> tuple[FloatArray, FloatArray]:
    """Unit normals (V, 3) outwards, and how much volume a unit step along each adds: the area it sweeps (V,)."""
    a, b, c = (points[faces[:, n]] for n in range(3))
    doubled = np.cross(b - a, c - a)
    corners = faces.reshape(-1)
    sums = np.stack([np.bincount(corners, np.repeat(doubled[:, n], 3), minlength=len(points)) for n in range(3)], 1)
    lengths = np.linalg.norm(sums, axis=1)
    return sums / np.maximum(lengths, 1e-12)[:, np.newaxis], lengths / 6.0


def _simplified(made: _Surface, share: float) -> _Surface:
    order = np.argsort(made.body[made.faces[:, 0]], kind="stable")
    edges = np.searchsorted(made.body[made.faces[order, 0]], np.arange(len(made.volumes) + 1))
    pieces = [_simplified_body(made, made.faces[order[a:b]], share) for a, b in pairwise(edges)]
    starts = np.cumsum([0, *(len(points) for points, _ in pieces)])
    body = np.repeat(np.arange(len(pieces)), np.diff(starts))
    faces = np.concatenate([faces + start for (_, faces), start in zip(pieces, starts, strict=False)])
    fewer = replace(made, vertices=np.concatenate([points for points, _ in pieces]), faces=faces, body=body)
    for _ in range(_CORRECTIONS):
        fewer, done = _corrected(fewer)
        if done.all():
            break
    return fewer


def _simplified_body(made: _Surface, faces: IntArray, share: float) -> tuple[FloatArray, IntArray]:
    """One body with fewer triangles, by quadric error metrics (Garland and Heckbert, SIGGRAPH 1997)."""
    from fast_simplification import simplify

    used, own = np.unique(faces, return_inverse=True)
    points, triangles = made.vertices[used], own.reshape(-1, 3)
    if len(triangles) < _FEWEST_TRIANGLES:
        return points, triangles
    parts = _parts(triangles, len(points))
    for reduction in (share, share * 0.75, share * 0.5, share * 0.25):
        fewer, kept = simplify(points, triangles.astype(np.int32), target_reduction=reduction)
        kept = np.asarray(kept, dtype=np.int64)
        # The library's collapses can pinch a thin neck, or swallow a small cavity.
        if len(kept) and is_closed(kept) and _parts(kept, len(fewer)) == parts:
            return np.asarray(fewer, dtype=np.float64), kept
    return points, triangles


def _parts(faces: IntArray, count: int) -> int:
    """The number of connected pieces of a surface; vertices that no face uses do not count."""
    from scipy.sparse import csr_array
    from scipy.sparse.csgraph import connected_components

    start, end = faces[:, [0, 1]].reshape(-1), faces[:, [1, 2]].reshape(-1)
    links = csr_array((np.ones(len(start), dtype=bool), (start, end)), shape=(count, count))
    pieces = connected_components(links, directed=False)[1]
    return len(np.unique(pieces[faces[:, 0]]))


def is_closed(faces: IntArray) -> bool:
    """Whether every edge of (F, 3) triangles has exactly two of them, that turn the same way."""
    if len(faces) == 0:
        return False
    count = int(faces.max()) + 1
    start, end = faces.reshape(-1), np.roll(faces, -1, axis=1).reshape(-1)
    forth, back = np.sort(start * count + end), np.sort(end * count + start)
    return bool((np.diff(forth) > 0).all() and np.array_equal(forth, back) and (start != end).all())


def _check(made: _Surface, name: str) -> None:
    errors = _relative_errors(made)
    if is_closed(made.faces) and errors.max() <= VOLUME_TOLERANCE:
        return
    worst = int(np.argmax(errors))
    raise ExportError(
        f"no sound surface of {name} could be made",
        expected=f"a closed surface of {made.volumes[worst] / 1000:.6g} ml, within {VOLUME_TOLERANCE:.1%}",
        got=f"{errors[worst]:.2%} off",
        remedy="Smooth and simplify less.",
    )


def mesh_volume_ml(mesh: Mesh) -> float:
    """The volume that the surface encloses; negative if it is turned inside out, 0 if there are no faces."""
    return float(_tetrahedra(_centred(mesh), mesh.faces).sum()) / 1000.0 if len(mesh.faces) else 0.0


def mesh_centroid_mm(mesh: Mesh) -> FloatArray:
    """(3,) the centre of mass of the enclosed volume, LPS mm. Raises `ValueError` if it encloses none."""
    points = _centred(mesh)
    weights = _tetrahedra(points, mesh.faces)
    if not len(weights) or abs(weights.sum()) < 1e-12:
        raise ValueError("the surface encloses no volume")
    # A tetrahedron's centre of mass is the mean of its corners, and the fourth corner is the origin.
    centroid = weights @ points[mesh.faces].sum(axis=1) / 4.0 / weights.sum()
    return np.asarray(centroid + _middle(mesh), dtype=np.float64)


def _middle(mesh: Mesh) -> FloatArray:
    middle: FloatArray = (mesh.vertices_mm.min(axis=0) + mesh.vertices_mm.max(axis=0)) / 2
    return middle


def _centred(mesh: Mesh) -> FloatArray:
    return mesh.vertices_mm - _middle(mesh) if len(mesh.vertices_mm) else mesh.vertices_mm


def mesh_box(mesh: Mesh, grid: Grid) -> Box | None:
    """The voxels of the grid that the surface can contain, or None if it lies wholly outside."""
    index = world_to_index(grid, mesh.vertices_mm)
    start = np.clip(np.floor(index.min(axis=0)), 0, grid.shape).astype(int)
    stop = np.clip(np.ceil(index.max(axis=0)) + 1, 0, grid.shape).astype(int)
    return Box(tuple(start), tuple(stop)) if (start < stop).all() else None
