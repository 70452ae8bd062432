"""From shapes and what they are made of to voxels, with soft edges where a voxel holds two tissues."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np
import numpy.typing as npt

from delineate.geometry import Grid, world_to_index
from delineate.phantom.shapes import Field, FieldFunction, Points, Shape, waves

Material = float | FieldFunction
LabelMap = npt.NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class Structure:
    """One shape to draw over what is there.

    `material`: its intensity, or a function of the points; for a scan of several channels, one of these a channel.
    `label`: the value it gets in the label map (0: background), or None to keep what lies below.
    """

    shape: Shape
    material: Material | tuple[Material, ...]
    label: int | None = 0


@dataclass(frozen=True, slots=True)
class Build:
    """How one person differs from the atlas: stretched by `scale` along x, y, z, then bent by up to `bend_mm`."""

    scale: tuple[float, float, float]
    bend: tuple[FieldFunction, FieldFunction, FieldFunction]
    bend_mm: tuple[float, float, float]


def draw_build(rng: np.random.Generator, *, stretch: float, bend_mm: float) -> Build:
    """A person up to a fraction `stretch` larger or smaller than the atlas, bent smoothly by up to `bend_mm`."""
    size = rng.uniform(1 - stretch, 1 + stretch)
    x, y, z = (float(size * rng.uniform(0.97, 1.03)) for _ in range(3))
    bend = (waves(rng, length_mm=230, count=3), waves(rng, length_mm=230, count=3), waves(rng, length_mm=230, count=3))
    return Build((x, y, z), bend, (bend_mm, bend_mm, bend_mm))


def render(structures: Sequence[Structure], grid: Grid, build: Build, *, outside: float) -> tuple[Field, LabelMap]:
    """Draw the structures in their order.

    Returns the image (I, J, K) float32, `outside` where nothing is drawn, and the label map (I, J, K). A voxel has the
    label of its centre; its intensity is mixed by the share of the voxel that lies in the structure.
    """
    images, labels = render_channels(structures, grid, build, outside=outside, channels=1)
    return images[0], labels


def render_channels(
    structures: Sequence[Structure], grid: Grid, build: Build, *, outside: float, channels: int
) -> tuple[Field, LabelMap]:
    """As `render`, for a scan of several channels: the image is (C, I, J, K)."""
    atlas = atlas_points(grid, build)
    images = np.full((channels, *grid.shape), outside, np.float32)
    labels = np.zeros(grid.shape, np.uint8)
    for structure in structures:
        box = _voxels_of(structure.shape, grid, build)
        if box is None:
            continue
        points = Points(atlas.x[box], atlas.y[box], atlas.z[box])
        field = structure.shape.field(points)
        share = _share(field)
        for image, material in zip(images, _materials(structure, channels), strict=True):
            _mix(image[box], share, material, points)
        if structure.label is not None:
            labels[box][field < 0] = structure.label
    return images, labels


def _materials(structure: Structure, channels: int) -> tuple[Material, ...]:
    return structure.material if isinstance(structure.material, tuple) else (structure.material,) * channels


def _mix(image: Field, share: Field, material: Material, points: Points) -> None:
    """Blend the material into `image`, a view of an array that `render` made."""
    if callable(material):
        touched = share > 0
        here = image[touched]
        image[touched] = here + share[touched] * (material(Points(*(c[touched] for c in points))) - here)
    else:
        image += share * (material - image)


def atlas_points(grid: Grid, build: Build) -> Points:
    """The atlas coordinates in mm of every voxel's centre."""
    indices = [np.arange(n, dtype=np.float32) for n in grid.shape]
    affine = grid.affine.astype(np.float32)
    columns = np.ix_(*indices)
    world = [affine[r, 3] + sum(affine[r, c] * columns[c] for c in range(3)) for r in range(3)]
    plain = Points(*(w / s for w, s in zip(world, build.scale, strict=True)))
    return Points(*(c + mm * wave(plain) for c, wave, mm in zip(plain, build.bend, build.bend_mm, strict=True)))


def _voxels_of(shape: Shape, grid: Grid, build: Build) -> tuple[slice, slice, slice] | None:
    """The indices of a box of voxels, one wider all round, that holds the shape; None if it is off the grid."""
    reach = 1e4  # for shapes without ends
    low = (np.maximum(shape.low, -reach) - build.bend_mm) * build.scale
    high = (np.minimum(shape.high, reach) + build.bend_mm) * build.scale
    corners = world_to_index(grid, list(product(*zip(low, high, strict=True))))
    start = np.maximum(np.floor(corners.min(axis=0)).astype(int) - 1, 0)
    stop = np.minimum(np.ceil(corners.max(axis=0)).astype(int) + 2, grid.shape)
    if (stop - start).min() < 2:
        return None
    i, j, k = (slice(int(a), int(b)) for a, b in zip(start, stop, strict=True))
    return i, j, k


def _share(field: Field) -> Field:
    # Steps of the field from voxel to voxel, added over the axes, are the width over which a plane cuts a voxel;
    # this holds for fields that are no true distances, too.
    width = np.zeros(field.shape, np.float32)
    for axis in range(3):
        step = np.abs(np.diff(field, axis=axis))
        _along(width, axis, slice(1, None))[...] += step / 2
        _along(width, axis, slice(None, -1))[...] += step / 2
    return np.asarray(np.clip(0.5 - field / np.maximum(width, 1e-6), 0, 1), np.float32)


def _along(array: Field, axis: int, part: slice) -> Field:
    view: Field = array[(slice(None),) * axis + (part,)]
    return view
