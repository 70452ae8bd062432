"""delineate's side of `measure.py`: the scans and logits to measure with, the network alone, the export alone. Each
command prints its seconds as JSON."""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

from delineate import formats
from delineate.engines import EngineChoice
from delineate.geometry import Grid
from delineate.inference import open_stage_runners
from delineate.inference.streaming import Streaming, WindowCount, stream_logits
from delineate.labels import label_set
from delineate.model import load_model, with_tiling
from delineate.phantom import make_patient
from delineate.preprocessing import prepare
from delineate.resampling import Interpolation, resize_matrices
from delineate.resampling.streams import reduce_to_classes, shared_planes
from delineate.volume import Segmentation

SIZE, VOLUME_MM = (192, 160, 160), 1.5
PHANTOM = (512, 512, 200)
PLANES = 16
SURE, RADII = 2.0, (6.0, 25.0)  # of background; in voxels
EXPORTED_MM = 0.8


def phantom(arguments: argparse.Namespace) -> None:
    """A CT of the upper abdomen, as large as real ones."""
    formats.write_volume(arguments.path, make_patient(1, matrix=PHANTOM).image)


def volume(arguments: argparse.Namespace) -> None:
    """A CT on the very grid that the network wants, so that nothing is resampled."""
    image = make_patient(1, matrix=SIZE).image
    grid = Grid(SIZE, np.diag([VOLUME_MM] * 3 + [1.0]))
    formats.write_volume(arguments.path, replace(image, grid=grid))


def logits(arguments: argparse.Namespace) -> None:
    """Logits (classes, *shape) in float16 of round structures, surer the further from a border, and background."""
    random = np.random.default_rng(0)
    shape = tuple(arguments.shape)
    array = np.lib.format.open_memmap(arguments.path, "w+", np.float16, (arguments.classes, *shape))
    noise = random.normal(0, 0.5, shape).astype(np.float32)
    array[0] = SURE
    for structure in array[1:]:
        centre, radius = random.uniform(0.1, 0.9, 3) * shape, random.uniform(*RADII)
        squares = np.ogrid[tuple(slice(-c, n - c) for c, n in zip(centre, shape, strict=True))]
        distance = np.sqrt(sum(np.square(axis, dtype=np.float32) for axis in squares))
        structure[:] = np.clip((radius - distance) * 1.5, -12, 12) + np.roll(noise, int(7 * radius))
    array.flush()


def network(arguments: argparse.Namespace) -> None:
    """All windows of a scan through a model's network, blended, and nothing else; making it ready counts apart."""
    model = with_tiling(load_model(arguments.path), overlap=0.5, mirror=False)
    scan = prepare("", formats.read_volume(arguments.image, kind=model.plan.kinds[0]), None, model.plan)
    patch = tuple(slice(0, n) for n in model.plan.patch_size)
    calibration = [torch.from_numpy(scan.image[(slice(None), *patch)][None].copy())]
    began = time.perf_counter()
    runners = open_stage_runners(model, EngineChoice(arguments.engine, arguments.precision), calibration)
    opened = time.perf_counter()
    counts: list[WindowCount] = []
    for _ in stream_logits(scan.image, model.plan, runners.folds, how=Streaming(), watch=counts.append):
        pass
    ended = time.perf_counter()
    print(json.dumps({"network": ended - opened, "opening": opened - began, "windows": counts[-1].run}))


def export(arguments: argparse.Namespace) -> None:
    """From logits (classes, *shape) in an .npy file to the file of a label map of another shape."""
    began = time.perf_counter()
    array = np.load(arguments.path, mmap_mode="r")
    shape = tuple(arguments.shape)
    matrices = resize_matrices(array.shape[1:], shape, [Interpolation.LINEAR] * 3)
    labels = np.zeros(shape, np.uint8)
    reduce_to_classes(_slabs(array, shared_planes(matrices[0])), matrices, axis=0, out=labels)
    names = label_set({value: f"structure {value}" for value in range(1, array.shape[0])})
    grid = Grid(shape, np.diag([EXPORTED_MM] * 3 + [1.0]))
    formats.write_segmentation(arguments.target, Segmentation(labels, grid, names))
    print(json.dumps({"seconds": time.perf_counter() - began, "classes": array.shape[0]}))


def _slabs(array: npt.NDArray[np.float16], shared: int) -> Iterator[tuple[slice, npt.NDArray[np.float32]]]:
    start, size = 0, array.shape[1]
    while start < size:
        planes = slice(max(0, start - shared), min(size, start + PLANES))
        yield planes, np.asarray(array[:, planes], dtype=np.float32)
        start = planes.stop


def parser() -> argparse.ArgumentParser:
    root = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    add = root.add_subparsers(required=True).add_parser
    commands = {run: add(run.__name__) for run in (phantom, volume, logits, network, export)}
    for run, command in commands.items():
        command.set_defaults(run=run)
        command.add_argument("path", type=Path)
    commands[logits].add_argument("--classes", type=int, required=True)
    for run in (logits, export):
        commands[run].add_argument("--shape", type=int, nargs=3, required=True)
    commands[network].add_argument("image", type=Path)
    commands[network].add_argument("--engine", required=True)
    commands[network].add_argument("--precision", required=True)
    commands[export].add_argument("target", type=Path)
    return root


if __name__ == "__main__":
    found = parser().parse_args()
    found.run(found)
