"""From logits to a saved label map: 117 classes, a scan of 512x512x400.

    python benchmarks/export_speed.py [CLASSES]

Logits on a grid of 1.5 mm (256x256x267) are made slab by slab, as they come from the network, and reduced to labels in
the scan's own grid (0.75 mm pixels, 1 mm slices), which are then written as .nii.gz. Only reducing and writing are
timed. Compared with what others do: interpolate every class on the scan's grid (scikit-image, float32), then take the
largest; that is timed for two classes, since 117 would need 49 GB, and multiplied.
"""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from skimage.transform import resize

from delineate import formats
from delineate.geometry import Grid, reshape_grid
from delineate.inference.memory import process_bytes
from delineate.labels import label_set
from delineate.resampling import axis_matrices
from delineate.resampling.streams import reduce_to_classes, shared_planes
from delineate.volume import Segmentation

Logits = npt.NDArray[np.float32]

PREPARED = Grid((256, 256, 267), np.diag([-1.5, -1.5, 1.5, 1.0]))
SCAN = reshape_grid(PREPARED, (512, 512, 400))
PLANES = 8


@dataclass
class Body:
    """Logits of round structures side by side, and background between: the sharper, the further from the border.

    `seconds`: spent by whoever asked for the slabs, wall-clock time and CPU time.
    """

    classes: int
    seconds: list[float] = field(default_factory=lambda: [0.0, 0.0])
    peak: int = 0

    def slab(self, planes: slice) -> Logits:
        rng = np.random.default_rng(7)
        centres = rng.uniform(0.1, 0.9, (self.classes, 3)) * PREPARED.shape
        radii = rng.uniform(6, 25, self.classes)
        i, j, k = (np.arange(n, dtype=np.float32) for n in PREPARED.shape)
        logits = np.empty((self.classes, planes.stop - planes.start, len(j), len(k)), dtype=np.float32)
        noise = np.random.default_rng(planes.start).normal(0, 0.5, logits.shape[1:]).astype(np.float32)
        for logit, centre, radius in zip(logits, centres, radii, strict=True):
            squares = [(axis - c) ** 2 for axis, c in zip((i[planes], j, k), centre, strict=True)]
            np.sqrt(squares[0][:, None, None] + squares[1][:, None] + squares[2], out=logit)
            np.clip((radius - logit) * 1.5, -12, 12, out=logit)
            logit += np.roll(noise, int(7 * radius), axis=2)
        logits[0] = 2
        return logits

    def slabs(self, shared: int) -> Iterator[tuple[slice, Logits]]:
        for start in range(0, PREPARED.shape[0], PLANES):
            planes = slice(max(0, start - shared), start + PLANES)
            logits = self.slab(planes)
            wall, cpu = time.perf_counter(), time.process_time()
            yield planes, logits
            self.peak = max(self.peak, process_bytes())
            self.seconds[0] += time.perf_counter() - wall
            self.seconds[1] += time.process_time() - cpu


def others_seconds(classes: int) -> float:
    """CPU time of interpolating each class on the scan's grid by scikit-image, and taking the largest."""
    logits = np.random.default_rng(0).normal(size=(2, *PREPARED.shape)).astype(np.float32)
    start = time.process_time()
    interpolate: Any = resize
    first, second = (interpolate(logit, SCAN.shape, order=1, mode="edge", anti_aliasing=False) for logit in logits)
    np.argmax(np.stack([first, second]), axis=0)
    return (time.process_time() - start) / 2 * classes


def main(classes: int) -> None:
    matrices = axis_matrices(PREPARED, SCAN, anti_alias=False)
    body, labels = Body(classes), np.zeros(SCAN.shape, dtype=np.uint8)
    small = Grid((4, 4, 4), np.eye(4))
    reduce_to_classes(
        iter([(slice(0, 4), np.zeros((2, *small.shape), np.float32))]),
        axis_matrices(small, small),
        axis=0,
        out=np.zeros(small.shape, np.uint8),
    )  # the kernels are compiled once for a machine
    reduce_to_classes(body.slabs(shared_planes(matrices[0])), matrices, axis=0, out=labels)
    names = label_set({n: f"structure {n}" for n in range(1, classes)})
    wall, cpu = time.perf_counter(), time.process_time()
    with tempfile.TemporaryDirectory() as folder:
        formats.write_segmentation(Path(folder) / "labels.nii.gz", Segmentation(labels, SCAN, names))
    saving = time.perf_counter() - wall, time.process_time() - cpu
    total, total_cpu = body.seconds[0] + saving[0], body.seconds[1] + saving[1]
    print(
        f"classes {classes}, scan {SCAN.shape}, logits {PREPARED.shape}, structures found {len(np.unique(labels)) - 1}"
    )
    print(f"reduce  {body.seconds[0]:7.1f} s  ({body.seconds[1]:.1f} s of CPU time)")
    print(f"save    {saving[0]:7.1f} s  ({saving[1]:.1f} s of CPU time)")
    print(f"total   {total:7.1f} s, peak memory {body.peak / 1e9:.2f} GB, a slab of logits included")
    others = others_seconds(classes)
    print(f"every class on the scan's grid, then the largest: {others:.0f} s of CPU time, {others / total_cpu:.0f}x")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 117)
