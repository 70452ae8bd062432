"""RT structure sets of a large CT: writing, reading, filling, and how well shapes between drawn slices are met.

    python benchmarks/dicom_objects_rtstruct.py

Twenty structures in 512x512x400 voxels, turned in plane, so that no coordinate is round. Then an ellipsoid whose
contours are known exactly, drawn more sparsely than the grid's slices, or between them: Dice against the ellipsoid's
own voxels, and the volume's ratio to the true one.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
from timing import median_seconds

from delineate.formats.contour_tracing import mask_polygons
from delineate.formats.contours import Contour, contour_mask
from delineate.formats.dicom_rtstruct import read_rtstruct
from delineate.formats.dicom_rtstruct_writing import write_rtstruct
from delineate.formats.dicom_writing import write_dicom_series
from delineate.formats.structure_sets import labels_from
from delineate.geometry import FloatArray, Grid, compose_affine, index_to_world
from delineate.labels import label_set
from delineate.volume import Kind, Segmentation, Volume

SHAPE = (512, 512, 400)
TURN = np.array([[0.995, -0.0998, 0.0], [0.0998, 0.995, 0.0], [0.0, 0.0, 1.0]])
GRID = Grid(SHAPE, compose_affine(TURN @ np.diag([0.9, 0.8, 1.0]), (-220.25, -233.5, -100.125)), "1.2.3.4")
RADII_MM, CENTRE_MM = np.array([25.0, 20.0, 30.0]), np.array([0.013, 0.017, 0.0])


def main() -> None:
    mask_polygons(np.ones((2, 2), dtype=np.bool_))  # compiled before anything is timed
    with tempfile.TemporaryDirectory() as folder:
        _large(Path(folder))
    _sparse()


def _large(folder: Path) -> None:
    files = write_dicom_series(folder / "ct", Volume(np.zeros((1, *SHAPE), np.int16), GRID, Kind.CT))
    segmentation = _organs()
    path = folder / "rt.dcm"
    print(f"writing  {median_seconds(lambda: write_rtstruct(path, segmentation, files), repeats=3, warmup=0):6.2f} s")
    print(f"reading  {median_seconds(lambda: read_rtstruct(path), repeats=3, warmup=0):6.2f} s")
    structures = read_rtstruct(path)
    print(f"filling  {median_seconds(lambda: labels_from(structures, GRID), repeats=3, warmup=0):6.2f} s")
    contours = [contour for roi in structures.rois for contour in roi.contours]
    points = sum(len(contour.points_mm) for contour in contours)
    print(f"{len(contours)} contours, {points} points, {path.stat().st_size / 1e6:.1f} MB")
    same = np.array_equal(labels_from(structures, GRID).segmentation.array, segmentation.array)
    print(f"every voxel came back: {same}")


def _organs() -> Segmentation:
    array = np.zeros(SHAPE, dtype=np.uint8)
    i, j, k = (axis.astype(np.float32) for axis in np.ogrid[: SHAPE[0], : SHAPE[1], : SHAPE[2]])
    for n in range(20):
        waves = 1 + 0.15 * np.sin(i / 7 + n) * np.cos(j / 5) + 0.1 * np.sin(k / 9)
        middle_i, middle_j = 60 + (n % 5) * 98, 70 + (n // 5) * 120
        array[((i - middle_i) / 44) ** 2 + ((j - middle_j) / 52) ** 2 + ((k - 200) / 190) ** 2 < waves] = n + 1
    return Segmentation(array, GRID, label_set({n + 1: f"organ {n + 1}" for n in range(20)}))


def _sparse() -> None:
    volume_ml = 4 / 3 * np.pi * RADII_MM.prod() / 1000
    print("\ncontours every, offset, slices (mm)   Dice   volume")
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
