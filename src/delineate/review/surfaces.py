"""A structure's surface for the browser's 3D picture, as MZ3, which NiiVue reads fastest.

MZ3 (github.com/neurolabusc/surf-ice, "mz3"): little-endian; magic 0x5A4D, attributes, numbers of faces and of vertices,
bytes to skip; then the faces as three uint32 each, then the vertices as three float32 each; all of it may be gzip.
Vertices are in RAS mm, NIfTI's world, in which NiiVue shows everything.
"""

from __future__ import annotations

import struct

import numpy as np

from delineate.errors import ExportError, LabelError
from delineate.formats.meshes.surfaces import Mesh, surface
from delineate.geometry import Grid, compose_affine, crop_grid, foreground_box, index_to_world
from delineate.labels import Label, LabelSet
from delineate.measurement.cropping import Mask
from delineate.review.volumes import compress
from delineate.volume import Segmentation

MOST_TRIANGLES = 40_000
"""Of a structure: more look no rounder on a screen, and a dozen of so many turn smoothly on ordinary graphics."""

MOST_VOXELS = 1_000_000
"""In the box of a structure that is shown as it is; larger ones are first made coarser, by as little as will do."""

_MAGIC = 0x5A4D
_FACES_AND_VERTICES = 1 | 2
_RAS_FROM_LPS = np.array([-1.0, -1.0, 1.0])
_SMOOTHING = 10


def mz3(segmentation: Segmentation, value: int) -> bytes:
    """The surface of the structure of that value: gzip of an MZ3 mesh, closed and turned outwards, in RAS mm.

    No voxels, no bytes. Points lie less than a voxel from the mask's boundary; structures whose box has more than
    `MOST_VOXELS` are first put on larger voxels, and those with more than `MOST_TRIANGLES` simplified: this is a
    picture, and what is measured or exported is made of all voxels. Raises `LabelError` for a value that no structure
    has.
    """
    label = next((label for label in segmentation.labels if label.value == value), None)
    if label is None:
        raise LabelError("no structure has this value", expected=list(segmentation.labels.values), got=value)
    mask = segmentation.mask(label.name)
    box = foreground_box(mask)
    if box is None:
        return b""
    shown, grid = _coarser(mask[box.slices], crop_grid(segmentation.grid, box))
    return compress(_packed(_mesh(shown, grid, label)))


def _coarser(mask: Mask, grid: Grid) -> tuple[Mask, Grid]:
    """On voxels that are whole multiples, their axes growing where they are shortest: those that are half full."""
    factors = [1, 1, 1]
    while np.prod([-(-n // f) for n, f in zip(mask.shape, factors, strict=True)]) > MOST_VOXELS:
        factors[int(np.argmin([s * f for s, f in zip(grid.spacing_mm, factors, strict=True)]))] += 1
    if factors == [1, 1, 1]:
        return mask, grid
    padded = np.pad(mask, [(0, -n % f) for n, f in zip(mask.shape, factors, strict=True)])
    shares = padded.astype(np.uint8)
    for axis, factor in enumerate(factors):
        shares = np.add.reduceat(shares, np.arange(0, shares.shape[axis], factor), axis=axis, dtype=np.uint16)
    coarse: Mask = shares * 2 >= np.prod(factors)
    # A sheet thinner than half a voxel would vanish.
    coarse = coarse if coarse.any() else shares > 0
    i, j, k = coarse.shape
    affine = compose_affine(grid.affine[:3, :3] * factors, index_to_world(grid, (np.array(factors) - 1) / 2))
    return coarse, Grid((i, j, k), affine)


def _mesh(mask: Mask, grid: Grid, label: Label) -> Mesh:
    one = Segmentation(mask.astype(np.uint8), grid, LabelSet((Label(1, label.name, label.colour),)))
    triangles = 2 * _crossings(mask)
    share = max(0.0, 1 - MOST_TRIANGLES / triangles)
    try:
        return surface(one, label.name, smooth=_SMOOTHING, simplify=share)
    except ExportError:
        # Specks may be too small to be smooth with their own volume.
        return surface(one, label.name)


def _crossings(mask: Mask) -> int:
    """Faces between inside and outside: the surface has a point in each, and twice as many triangles."""
    padded = np.pad(mask, 1)
    return sum(int(np.count_nonzero(np.diff(padded, axis=axis))) for axis in range(3))


def _packed(mesh: Mesh) -> bytes:
    header = struct.pack("<HHIII", _MAGIC, _FACES_AND_VERTICES, len(mesh.faces), len(mesh.vertices_mm), 0)
    # Turning by half about an axis leaves a triangle's sense as it is.
    vertices: bytes = (mesh.vertices_mm * _RAS_FROM_LPS).astype("<f4").tobytes()
    return header + mesh.faces.astype("<u4").tobytes() + vertices
