"""A small oblique CT series and structures on it, for tests of DICOM segmentations: nothing in them is symmetric."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pydicom
from anatomy import oblique_grid
from pydicom.dataset import Dataset

from delineate.formats import read_series, write_dicom_series
from delineate.geometry import Grid
from delineate.labels import LabelSet, label_set
from delineate.volume import Array, Kind, Segmentation, Volume

SHAPE = (9, 7, 6)
LABELS = label_set({2: "left_kidney", 7: "liver", 300: "tumor"})
OVERLAPPING = label_set({1: "liver", 2: "tumor"}, overlaps=True)


def series(folder: Path, *, grid: Grid | None = None) -> tuple[list[Path], Grid]:
    """The files of a CT series, and its grid as it is read back."""
    grid = oblique_grid(SHAPE) if grid is None else grid
    image = Volume(np.zeros((1, *grid.shape), dtype=np.int16), grid, Kind.CT)
    files = write_dicom_series(folder, image, patient_name="Test^Case", seed="seg")
    return list(files), read_series(files).grid


def voxels(shape: tuple[int, ...] = SHAPE, *, empty_planes: tuple[int, ...] = (0, 3)) -> Array:
    """Scattered voxels with holes of values 0, 2, 7 and 300; touching each other."""
    rng = np.random.default_rng(1)
    array = (rng.choice([2, 7, 300], shape) * (rng.random(shape) < 0.4)).astype(np.uint16)
    array[:, :, list(empty_planes)] = 0
    return array


def structures(grid: Grid, *, labels: LabelSet = LABELS, author: str | None = None) -> Segmentation:
    """`voxels` on a grid."""
    return Segmentation(voxels(grid.shape), grid, labels, author=author)


def overlapping(grid: Grid) -> Segmentation:
    """Two masks of which one lies partly in the other."""
    rng = np.random.default_rng(2)
    return Segmentation(rng.random((2, *grid.shape)) < 0.4, grid, OVERLAPPING)


def edited(path: Path, edit: Callable[[Dataset], object]) -> Path:
    """The same DICOM file with something changed."""
    dataset = pydicom.dcmread(path)
    edit(dataset)
    dataset.save_as(path)
    return path
