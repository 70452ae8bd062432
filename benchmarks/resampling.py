"""Resampling a CT-sized volume to 1.5 mm, and a label map and class logits back: delineate and its peers.

    python benchmarks/resampling.py --size small     a few seconds
    python benchmarks/resampling.py                  512 x 512 x 120: two minutes, about 6 GB of memory

Everyone gets the same float32 array in memory, the same two grids (0.75 x 0.75 x 2.5 mm and 1.5 mm, which cover the
same extent) and two threads where it has threads. Peers do not smooth before they shrink, so delineate is timed
without anti-aliasing, and with it as a row of its own. Inside the outermost centres every peer's result must agree
with ours; at the border each has its own rule. "Extra" is the peak of the process's memory over what it held before the
call, the result included.
"""

from __future__ import annotations

import argparse
import os
import threading
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import psutil
import SimpleITK
import torch
from monai.data.meta_tensor import MetaTensor
from monai.transforms.spatial.array import Spacing
from scipy import ndimage
from skimage import transform
from timing import median_seconds, print_table
from torch.nn import functional

from delineate.geometry import Grid, compose_affine, respace_grid
from delineate.resampling import Interpolation, resample, resample_argmax, resample_labels, set_threads

Array = npt.NDArray[Any]
sitk: Any = SimpleITK
skimage_transform: Any = transform
Runs = dict[str, Callable[[], Array]]

SIZES = {"small": (128, 128, 30), "full": (512, 512, 120)}
THREADS = 2
CLASSES = 14
FIELDS = 12  # random values along each axis, between which structures vary smoothly


def make_image(grid: Grid, *, seed: int = 0) -> npt.NDArray[np.float32]:
    """Smooth structures with noise, in HU."""
    generator = np.random.default_rng(seed)
    image = 20 * generator.standard_normal(grid.shape, dtype=np.float32)
    image += 400 * _smooth_fields(1, grid, generator)[0]
    return image


def make_logits(grid: Grid, *, seed: int = 0) -> npt.NDArray[np.float32]:
    return 5 * _smooth_fields(CLASSES, grid, np.random.default_rng(seed))


def _smooth_fields(count: int, grid: Grid, generator: np.random.Generator) -> npt.NDArray[np.float32]:
    coarse = respace_grid(grid, [extent / FIELDS for extent in grid.extent_mm])
    values = generator.standard_normal((count, *coarse.shape), dtype=np.float32)
    return resample(values, coarse, grid, interpolation=Interpolation.CUBIC)


def sitk_resample(array: Array, source: Grid, target: Grid, method: int) -> Array:
    """Arrays go in and out as (K, J, I) views of memory in their own order, so that nothing is transposed."""
    image = sitk.GetImageFromArray(array)
    image.SetSpacing(source.spacing_mm[::-1])
    image.SetOrigin(source.origin_mm[::-1])
    size, spacing, origin = target.shape[::-1], target.spacing_mm[::-1], target.origin_mm[::-1]
    direction = image.GetDirection()
    out = sitk.Resample(image, size, sitk.Transform(), method, origin, spacing, direction, 0.0, image.GetPixelID())
    return np.asarray(sitk.GetArrayViewFromImage(out)).copy()


def scipy_zoom(array: Array, target: Grid, order: int) -> Array:
    factors = np.array(target.shape) / array.shape
    mode = "mirror" if order == 3 else "nearest"
    return np.asarray(ndimage.zoom(array, factors, order=order, mode=mode, grid_mode=True))


def skimage_resize(array: Array, target: Grid, order: int) -> Array:
    """As nnU-Net calls it."""
    return np.asarray(skimage_transform.resize(array, target.shape, order, mode="edge", anti_aliasing=False))


def torch_interpolate(array: Array, target: Grid) -> Array:
    out = functional.interpolate(torch.from_numpy(array)[None], target.shape, mode="trilinear", align_corners=False)
    return np.asarray(out[0].numpy())


def monai_spacing(array: Array, source: Grid, target: Grid, mode: str | int) -> Array:
    image = MetaTensor(torch.from_numpy(array)[None], affine=torch.from_numpy(source.affine.copy()))
    padding = "mirror" if isinstance(mode, int) else "border"
    spacing = Spacing(target.spacing_mm, mode=mode, padding_mode=padding, scale_extent=True, dtype=np.float32)
    return np.asarray(spacing(image)[0].numpy())


def image_runs(array: Array, source: Grid, target: Grid, interpolation: Interpolation) -> Runs:
    def ours(*, anti_alias: bool) -> Array:
        return resample(array, source, target, interpolation=interpolation, anti_alias=anti_alias)

    linear = interpolation is Interpolation.LINEAR
    runs: Runs = {
        "delineate": lambda: ours(anti_alias=False),
        "delineate, anti-aliased": lambda: ours(anti_alias=True),
        "SimpleITK": lambda: sitk_resample(array, source, target, sitk.sitkLinear if linear else sitk.sitkBSpline),
        "SciPy zoom": lambda: scipy_zoom(array, target, 1 if linear else 3),
        "skimage resize": lambda: skimage_resize(array, target, 1 if linear else 3),
        "MONAI Spacing": lambda: monai_spacing(array, source, target, "bilinear" if linear else 3),
    }
    if linear:
        runs["torch interpolate"] = lambda: torch_interpolate(array[None], target)[0]
    return runs


def nearest_runs(labels: Array, source: Grid, target: Grid) -> Runs:
    return {
        "delineate": lambda: resample_labels(labels, source, target),
        "SimpleITK": lambda: sitk_resample(labels, source, target, sitk.sitkNearestNeighbor),
        "SciPy zoom": lambda: scipy_zoom(labels, target, 0),
    }


def vote_runs(labels: Array, source: Grid, target: Grid) -> Runs:
    def by_mask() -> Array:
        """As nnU-Net's `resize_segmentation`: each label's mask on its own, cut at a half."""
        out = np.zeros(target.shape, labels.dtype)
        for value in range(CLASSES):
            out[skimage_resize((labels == value).astype(float), target, 1) >= 0.5] = value
        return out

    return {
        "delineate": lambda: resample_labels(labels, source, target, interpolation=Interpolation.LINEAR),
        "SimpleITK": lambda: sitk_resample(labels, source, target, sitk.sitkLabelLinear),
        "skimage resize, mask by mask": by_mask,
    }


def argmax_runs(logits: Array, source: Grid, target: Grid) -> Runs:
    def by_class() -> Array:
        """As nnU-Net's export: every class resampled, then the argmax."""
        classes = np.stack([skimage_resize(one, target, 1) for one in logits])
        return np.asarray(classes.argmax(axis=0).astype(np.uint8))

    def by_torch() -> Array:
        out = functional.interpolate(torch.from_numpy(logits)[None], target.shape, mode="trilinear")
        return np.asarray(out[0].argmax(dim=0).to(torch.uint8).numpy())

    return {
        "delineate": lambda: resample_argmax(logits, source, target),
        "torch interpolate + argmax": by_torch,
        "skimage resize + argmax": by_class,
    }


def run_watched(run: Callable[[], Array]) -> tuple[Array, float]:
    """The result, and the most megabytes this process held during the call over what it held before."""
    process, done = psutil.Process(os.getpid()), threading.Event()
    before = process.memory_info().rss
    peaks = [before]

    def watch() -> None:
        while not done.wait(0.002):
            peaks.append(process.memory_info().rss)

    watcher = threading.Thread(target=watch)
    watcher.start()
    result = run()
    done.set()
    watcher.join()
    return result, (max(peaks) - before) / 1e6


def steady_seconds(run: Callable[[], object]) -> float:
    once = median_seconds(run, repeats=1, warmup=0)
    return once if once > 5 else median_seconds(run, repeats=5 if once < 1 else 3, warmup=0)


def compare(title: str, runs: Runs, *, agree: float, exempt: tuple[str, ...] = ()) -> None:
    """Print times, peaks and how far each result is from the first one's, inside.

    Raises `RuntimeError` if a result is further away than `agree`; 0 allows any (label maps differ at ties).
    """
    inside = np.s_[16:-16, 16:-16, 8:-8]
    first_run = next(iter(runs.values()))
    first_run()  # compiles, or loads what was compiled
    first = first_run()[inside].astype(np.float32)
    rows, notes = [], []
    for name, run in runs.items():
        result, extra = run_watched(run)
        if result[inside].shape != first.shape:
            raise RuntimeError(f"{name}: another shape, {result.shape}")
        differs = np.abs(result[inside] - first)
        distance = float(np.max(differs)) if agree > 0 else float(np.mean(differs > 0))
        del result, differs
        rows.append((name, steady_seconds(run)))
        notes.append(f"  {name}: extra {extra:.0f} MB; differs from the first by {distance:.2g}")
        if agree > 0 and distance > agree and name not in exempt:
            raise RuntimeError(f"{name} differs by {distance}")
    print_table(title, rows, reference=rows[0][0])
    print("\n".join(notes), flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", choices=SIZES, default="full")
    shape = SIZES[parser.parse_args().size]
    torch.set_num_threads(THREADS)
    sitk.ProcessObject.SetGlobalDefaultNumberOfThreads(THREADS)
    set_threads(THREADS)
    scan = Grid(shape, compose_affine(np.diag((0.75, 0.75, 2.5)), (10.0, -20.0, 30.0)))
    even = respace_grid(scan, (1.5, 1.5, 1.5))
    image = make_image(scan)
    step = f"{shape} at 0.75 x 0.75 x 2.5 mm to {even.shape} at 1.5 mm"
    for interpolation in (Interpolation.LINEAR, Interpolation.CUBIC):
        runs = image_runs(image, scan, even, interpolation)
        # skimage and nnU-Net extend the border before the prefilter; the smoothed image is another image.
        compare(f"{interpolation.value}: {step}", runs, agree=0.5, exempt=("delineate, anti-aliased",))
    logits = make_logits(even)
    labels = logits.argmax(axis=0).astype(np.uint8)
    back = f"{even.shape} at 1.5 mm to {shape}, {CLASSES} classes (differences: part of voxels)"
    compare(f"label map, nearest: {back}", nearest_runs(labels, even, scan), agree=0)
    compare(f"label map, linear: {back}", vote_runs(labels, even, scan), agree=0)
    compare(f"logits to label map: {back}", argmax_runs(logits, even, scan), agree=0)


if __name__ == "__main__":
    main()
