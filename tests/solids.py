"""Solids of known geometry on tilted, anisotropic grids, for tests of what is measured."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt
from scipy.spatial.transform import Rotation

from delineate.geometry import FloatArray, Grid, compose_affine, index_to_world

Mask = npt.NDArray[np.bool_]
Inside = Callable[[FloatArray], Mask]


def around_origin(
    size_mm: Sequence[float], spacing_mm: Sequence[float], *, turn: Sequence[float] = (0, 0, 0), shift: float = 0.3
) -> Grid:
    """A grid with room for something of that size about the world's origin.

    `turn`: a rotation vector in degrees; `shift`: of the voxel centres against the origin, in voxels.
    """
    linear = Rotation.from_rotvec(turn, degrees=True).as_matrix() * np.asarray(spacing_mm)
    half = np.ceil(np.asarray(size_mm) / 2 / np.asarray(spacing_mm)).astype(int) + 2
    i, j, k = (int(n) for n in 2 * half + 1)
    return Grid((i, j, k), compose_affine(linear, -linear @ (half + shift * np.array([1.0, -0.7, 0.4]))))


def solid(grid: Grid, inside: Inside) -> Mask:
    """The voxels whose centres are inside."""
    index = np.stack(np.meshgrid(*(np.arange(n) for n in grid.shape), indexing="ij"), axis=-1)
    return inside(index_to_world(grid, index))


def ellipsoid(diameters_mm: Sequence[float]) -> Inside:
    """With its axes along the world's; three equal diameters are a ball."""
    radii = np.asarray(diameters_mm, dtype=np.float64) / 2
    return lambda world: np.asarray(((world / radii) ** 2).sum(axis=-1) <= 1)
