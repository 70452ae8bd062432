"""Structures as surfaces for pictures: coarse enough to be quick, and never for measuring."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from delineate.errors import LabelError
from delineate.formats.meshes.marching_cubes import crossings
from delineate.formats.meshes.surfaces import Mesh
from delineate.geometry import Box, FloatArray, Grid, box_of, compose_affine, crop_grid, index_to_world, world_to_index
from delineate.labels import Label
from delineate.terminology import ABNORMAL_STRUCTURE, concept_of
from delineate.volume import Segmentation

Mask = npt.NDArray[np.bool_]

MOST_VOXELS_ACROSS = 96
"""Along the longest edge of a structure's box; a larger one is made coarser first."""

TRANSLUCENT, FAINT = 0.3, 0.13
_INSIDE = 0.5  # share of a structure that must lie within another one


@dataclass(frozen=True, slots=True, eq=False)
class Solid:
    """A structure's surface, and how much light it lets through: 1 for none, so that what lies inside others shows."""

    mesh: Mesh
    opacity: float = 1.0


@dataclass(frozen=True, slots=True, eq=False)
class _Coarse:
    label: Label
    mask: Mask
    grid: Grid


def solids(segmentation: Segmentation, *, structures: Collection[str] = ()) -> tuple[Solid, ...]:
    """The surfaces of all structures that have voxels, or of the named ones, in the labels' order.

    A structure that encloses most of another one is translucent, one that encloses such a one is faint; lesions (as
    their names say) never are. Raises `LabelError` for a name that is not there.
    """
    unknown = sorted(set(structures) - set(segmentation.labels.names))
    if unknown:
        raise LabelError("no such label", expected=f"some of {list(segmentation.labels.names)}", got=unknown)
    found = [
        _coarse(label, mask, crop_grid(segmentation.grid, box))
        for label, box, mask in boxed_masks(segmentation)
        if not structures or label.name in structures
    ]
    meshes = [_surface(coarse) for coarse in found]
    return tuple(Solid(mesh, opacity) for mesh, opacity in zip(meshes, _opacities(found, meshes), strict=True))


def boxed_masks(segmentation: Segmentation) -> Iterator[tuple[Label, Box, Mask]]:
    """Every structure that has voxels, with the box around it and the mask in that box."""
    from scipy.ndimage import find_objects

    array, labels = segmentation.array, segmentation.labels
    if labels.overlaps:
        for label, mask in zip(labels, array, strict=True):
            for (place,) in [find_objects(mask.view(np.uint8), max_label=1)]:
                if place is not None:
                    yield label, _box(place), mask[place]
        return
    places = find_objects(array, max_label=max(labels.values, default=0))
    for label in labels:
        place = places[label.value - 1]
        if place is not None:
            yield label, _box(place), array[place] == label.value


def _box(place: tuple[slice, ...]) -> Box:
    return box_of((part.start, part.stop) for part in place)


def _coarse(label: Label, mask: Mask, grid: Grid) -> _Coarse:
    """With voxels so large that no edge of the box has more than `MOST_VOXELS_ACROSS`, and with the same volume."""
    steps = [-(-n // MOST_VOXELS_ACROSS) for n in mask.shape]
    if max(steps) == 1:
        return _Coarse(label, mask, grid)
    padded = np.pad(mask, [(0, -n % step) for n, step in zip(mask.shape, steps, strict=True)])
    i, j, k = (n // step for n, step in zip(padded.shape, steps, strict=True))
    blocks = padded.reshape(i, steps[0], j, steps[1], k, steps[2])
    share = blocks.mean(axis=(1, 3, 5), dtype=np.float32)
    # As many blocks as the structure fills, those it fills most: thin ones would vanish at a half.
    filled = max(1, round(float(share.sum())))
    least = float(np.partition(share.reshape(-1), -filled)[-filled])
    origin = index_to_world(grid, (np.asarray(steps) - 1) / 2)
    affine = compose_affine(grid.affine[:3, :3] * np.asarray(steps), origin)
    return _Coarse(label, share >= max(least, 1e-6), replace(grid, shape=(i, j, k), affine=affine))


def _surface(coarse: _Coarse) -> Mesh:
    """Halfway between voxel centres, not smoothed."""
    found = crossings(coarse.mask)
    grid, label = coarse.grid, coarse.label
    faces = found.faces if np.linalg.det(grid.affine[:3, :3]) > 0 else found.faces[:, ::-1]
    return Mesh(index_to_world(grid, found.inside + 0.5 * found.step), faces, label.name, label.colour)


def _opacities(found: list[_Coarse], meshes: list[Mesh]) -> list[float]:
    within = [[_encloses(outer, mesh.vertices_mm) and outer.label != found[n].label for n, mesh in enumerate(meshes)]
              for outer in found]  # fmt: skip
    holds = [any(row) and not _is_lesion(outer.label) for row, outer in zip(within, found, strict=True)]
    deep = [any(inside and holds[n] for n, inside in enumerate(row)) for row in within]
    return [1.0 if not some else FAINT if deeper else TRANSLUCENT for some, deeper in zip(holds, deep, strict=True)]


def _is_lesion(label: Label) -> bool:
    return concept_of(label).category == ABNORMAL_STRUCTURE


def _encloses(outer: _Coarse, points_mm: FloatArray) -> bool:
    """Whether most of the points have voxels of `outer`'s main body on both sides along every array axis."""
    index = np.rint(world_to_index(outer.grid, points_mm[:: max(1, len(points_mm) // 500)])).astype(int)
    there = ((index >= 0) & (index < outer.grid.shape)).all(axis=1)
    if there.mean() <= _INSIDE:
        return False
    body = _main_body(outer.mask)
    surrounded = np.ones(body.shape, dtype=bool)
    for axis in range(3):
        before = np.logical_or.accumulate(body, axis=axis)
        behind = np.flip(np.logical_or.accumulate(np.flip(body, axis), axis=axis), axis)
        surrounded &= before & behind
    i, j, k = index[there].T
    return float(surrounded[i, j, k].sum()) / len(index) > _INSIDE


def _main_body(mask: Mask) -> Mask:
    import cc3d

    body: Mask = cc3d.largest_k(np.array(mask, order="C"), k=1) > 0
    return body
