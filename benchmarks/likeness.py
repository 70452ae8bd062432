"""How alike different patients' images are, and how alike an image stays when it is changed: for docs/leakage.md.

    python benchmarks/likeness.py DATASET [EVERY]

The pairs of a dataset are compared with each other; every EVERY-th image with changed copies of itself.
"""

from __future__ import annotations

import itertools
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from delineate import formats
from delineate.dataset import open_dataset
from delineate.evaluation.descriptors import describe_image
from delineate.evaluation.likeness import THRESHOLD, find_near_duplicates, likeness
from delineate.volume import reorient

Image = tuple[npt.NDArray[np.float32], tuple[float, ...]]


def resampled(image: Image, *factors: float) -> Image:
    array, spacing = image
    new = ndimage.zoom(array, factors, order=1, grid_mode=True, mode="nearest")
    return new, tuple(s * n / m for s, n, m in zip(spacing, array.shape, new.shape, strict=True))


def cut(image: Image, share: float) -> Image:
    return image[0][:, :, int(image[0].shape[2] * share) :], image[1]


def in_bytes(image: Image) -> Image:
    low, high = np.quantile(image[0], (0.005, 0.995))
    return np.round(np.clip((image[0] - low) / (high - low), 0, 1) ** 0.8 * 255).astype(np.float32), image[1]


def noisy(image: Image) -> Image:
    noise = np.random.default_rng(0).normal(0, 0.1 * image[0].std(), image[0].shape)
    return image[0] + noise.astype(np.float32), image[1]


CHANGES: dict[str, Callable[[Image], Image]] = {
    "resampled to 0.7, 0.7, 0.5 of the voxels": lambda image: resampled(image, 0.7, 0.7, 0.5),
    "resampled to 1.3 of the voxels": lambda image: resampled(image, 1.3, 1.3, 1.3),
    "8 bits, gamma 0.8, tails cut": in_bytes,
    "noise of a tenth of the spread": noisy,
    "10 % of the slices cut": lambda image: cut(image, 0.1),
    "20 % of the slices cut": lambda image: cut(image, 0.2),
    "mirrored": lambda image: (image[0][::-1, :, ::-1], image[1]),
    "resampled, mirrored, 10 % cut, 8 bits": lambda image: in_bytes(
        cut((resampled(image, 0.8, 0.8, 0.7)[0][::-1], resampled(image, 0.8, 0.8, 0.7)[1]), 0.1)
    ),
}


def main(folder: Path, every: int) -> None:
    images: dict[str, Image] = {}
    for case in open_dataset(folder).cases:
        volume = reorient(formats.read_volume(case.images[0]), "RAS")
        images[case.id] = np.asarray(volume.array[0], np.float32), volume.grid.spacing_mm
    start = time.perf_counter()
    described = {name: describe_image(*image) for name, image in images.items()}
    seconds = time.perf_counter() - start
    print(f"{len(images)} images described in {seconds:.1f} s", flush=True)
    start = time.perf_counter()
    pairs = find_near_duplicates(described, threshold=0.5)
    count = len(images) * (len(images) - 1) // 2
    print(f"{count} pairs compared in {time.perf_counter() - start:.1f} s; the most alike:")
    for pair in pairs[:6]:
        print(f"  {pair.likeness.correlation:.3f} {pair.first} {pair.second} mirrored in {pair.likeness.flipped}")
    chosen = list(itertools.islice(images, 0, None, every))
    for name, change in CHANGES.items():
        found = [likeness(described[case], describe_image(*change(images[case]))).correlation for case in chosen]
        known = sum(value >= THRESHOLD for value in found)
        print(
            f"{name}: least {min(found):.3f}, median {np.median(found):.3f}, {known} of {len(found)} known", flush=True
        )


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else 5)
