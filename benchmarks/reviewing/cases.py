"""Scans and segmentations for a review, made up."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np

from delineate import formats
from delineate.geometry import Grid
from delineate.labels import label_set
from delineate.volume import Kind, Segmentation, Volume

SHAPE = (256, 256, 120)


def make_small_cases(folder: Path, count: int) -> tuple[str, ...]:
    """FOLDER/scans and FOLDER/results with two round organs in noise, a case a number; their names."""
    grid, rng = Grid(SHAPE, np.diag([1.2, 1.2, 2.5, 1.0])), np.random.default_rng(0)
    i, j, k = np.ogrid[: SHAPE[0], : SHAPE[1], : SHAPE[2]]
    for name in ("scans", "results"):
        (folder / name).mkdir()
    for number in range(count):
        labels = np.zeros(SHAPE, np.uint8)
        labels[(i - 90) ** 2 + (j - 120) ** 2 + (2 * (k - 60)) ** 2 < (40 + number) ** 2] = 1
        labels[(i - 180) ** 2 + (j - 130) ** 2 + (2 * (k - 50)) ** 2 < 30**2] = 2
        noise = rng.normal(0, 15, SHAPE[:2]).astype(np.float32)[:, :, None]
        scan = (labels * 60.0 + noise + rng.normal(0, 5, SHAPE[2])).astype(np.int16)
        formats.write_volume(folder / "scans" / f"p{number:02}.nii.gz", Volume(scan[None], grid, Kind.CT))
        made = Segmentation(labels, grid, label_set({1: "liver", 2: "spleen"}))
        formats.write_segmentation(folder / "results" / f"p{number:02}.nii.gz", made)
    return tuple(f"p{number:02}" for number in range(count))


def copy_case(source: Path, folder: Path, name: str, count: int) -> tuple[str, ...]:
    """The same NIfTI scan and result under so many names, without taking more of the disk."""
    names = tuple(f"copy{number:02}" for number in range(count))
    for kind in ("scans", "results"):
        (folder / kind).mkdir()
        for copy in names:
            os.link(source / kind / f"{name}.nii.gz", folder / kind / f"{copy}.nii.gz")
    return names
