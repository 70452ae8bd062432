"""How well shapes between drawn slices are met: an ellipsoid whose contours are known exactly.

    python benchmarks/contours.py

It is drawn more sparsely than the grid's slices, or between them: Dice against the ellipsoid's own voxels, and the
volume's ratio to the true one.
"""

from __future__ import annotations

import numpy as np

from delineate.formats.dicom_results.contours import Contour, contour_mask
from delineate.geometry import FloatArray, Grid, compose_affine, index_to_world

RADII_MM, CENTRE_MM = np.array([25.0, 20.0, 30.0]), np.array([0.013, 0.017, 0.0])


def main() -> None:
    volume_ml = 4 / 3 * np.pi * RADII_MM.prod() / 1000
    print("contours every, offset, slices (mm)   Dice   volume")
    for step, offset, slices in ((2, 0, 2), (4, 0, 2), (6, 0.3, 2), (2, 1, 2), (3, 0.7, 2), (2, 0.5, 5)):
        grid = Grid((70, 60, 50), compose_affine(np.diag([0.9, 0.8, slices]), (-31, -24, -slices * 25)))
        found = contour_mask(_ellipses(np.arange(-40.0, 41.0, step) + offset), grid).mask
        index = np.stack(np.meshgrid(*map(np.arange, grid.shape), indexing="ij"), axis=-1)
        wanted = (((index_to_world(grid, index) - CENTRE_MM) / RADII_MM) ** 2).sum(axis=-1) < 1
        dice = 2 * (found & wanted).sum() / (found.sum() + wanted.sum())
        ratio = found.sum() * grid.voxel_volume_ml / volume_ml
        print(f"{step:14} {offset:7} {slices:7}        {dice:.4f}   {ratio:.4f}")


def _ellipses(heights_mm: FloatArray, corners: int = 400) -> list[Contour]:
    angle = np.linspace(0, 2 * np.pi, corners, endpoint=False)
    contours = []
    for height in heights_mm[np.abs(heights_mm) < RADII_MM[2]]:
        scale = np.sqrt(1 - (height / RADII_MM[2]) ** 2)
        points = [scale * RADII_MM[0] * np.cos(angle), scale * RADII_MM[1] * np.sin(angle), np.full(corners, height)]
        contours.append(Contour(np.column_stack(points) + CENTRE_MM))
    return contours


if __name__ == "__main__":
    main()
