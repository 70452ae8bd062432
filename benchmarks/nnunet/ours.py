"""delineate's side of `measure.py`: the scans and logits to measure with, the network alone, the export alone. Each
command prints its seconds as JSON."""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path

import numpy as np
from scipy.ndimage import zoom

from delineate import formats
from delineate.geometry import Grid
from delineate.phantom import make_patient

SIZE, VOLUME_MM = (192, 160, 160), 1.5
PHANTOM = (512, 512, 200)
COARSER = 16


def phantom(arguments: argparse.Namespace) -> None:
    """A CT of the upper abdomen, as large as real ones."""
    formats.write_volume(arguments.path, make_patient(1, matrix=PHANTOM).image)


def volume(arguments: argparse.Namespace) -> None:
    """A CT on the very grid that the network wants, so that nothing is resampled."""
    image = make_patient(1, matrix=SIZE).image
    grid = Grid(SIZE, np.diag([VOLUME_MM] * 3 + [1.0]))
    formats.write_volume(arguments.path, replace(image, grid=grid))


def logits(arguments: argparse.Namespace) -> None:
    """Smooth random logits (classes, *shape) in float16: every class is somewhere, and none everywhere."""
    random = np.random.default_rng(0)
    shape = tuple(arguments.shape)
    array = np.lib.format.open_memmap(arguments.path, "w+", np.float16, (arguments.classes, *shape))
    coarse = tuple(max(2, n // COARSER) for n in shape)
    for number in range(arguments.classes):
        field = random.normal(0, 4, coarse).astype(np.float32)
        array[number] = zoom(field, [n / m for n, m in zip(shape, coarse, strict=True)], order=1, grid_mode=False)
    array.flush()


def parser() -> argparse.ArgumentParser:
    root = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    add = root.add_subparsers(required=True).add_parser
    commands = {run: add(run.__name__) for run in (phantom, volume, logits)}
    for run, command in commands.items():
        command.set_defaults(run=run)
        command.add_argument("path", type=Path)
    commands[logits].add_argument("--classes", type=int, required=True)
    commands[logits].add_argument("--shape", type=int, nargs=3, required=True)
    return root


if __name__ == "__main__":
    found = parser().parse_args()
    found.run(found)
