"""How fast review shows a CT of 512x512x300 for the first time, and what compressing its slices costs.

    python benchmarks/review_volumes.py [FOLDER]

A body with organs and noise of 12 HU, as .nii.gz and as DICOM (as it is, and JPEG-LS), is opened with nothing in the
cache: until its grid and windows are known, until the 16 slices in its middle are there, compressed for the browser,
and until all of it is. Then once more. The libraries are imported before, as in a server that runs. Then a slab and a
label map are compressed in several ways. Time is wall-clock, the median of three.
"""

from __future__ import annotations

import gzip
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pydicom
from isal import igzip

from delineate import formats
from delineate.geometry import Grid
from delineate.inference.memory import process_bytes
from delineate.review import scan_headers
from delineate.review.records import NewCase, ReviewCase, State
from delineate.review.volumes import DisplayVolumes, compress
from delineate.volume import Kind, Volume

SHAPE = (512, 512, 300)
GRID = Grid(SHAPE, np.diag([0.8, 0.8, 1.5, 1.0]))
MIDDLE = (142, 158)
REPEATS = 3

Hounsfield = npt.NDArray[np.int16]
Labels = npt.NDArray[np.uint8]


def body() -> tuple[Hounsfield, Labels]:
    """An ellipse of fat and muscle in air, with round organs of other densities; and these organs' labels."""
    rng = np.random.default_rng(3)
    i, j = np.meshgrid(np.linspace(-1, 1, 512), np.linspace(-1, 1, 512), indexing="ij")
    inside = (i / 0.85) ** 2 + (j / 0.6) ** 2 < 1
    muscle = (i / 0.78) ** 2 + (j / 0.53) ** 2 < 1
    plane = np.where(muscle, 50, np.where(inside, -100, -1000)).astype(np.float32)
    centres, radii = rng.uniform(-0.5, 0.5, (8, 2)) * (1, 0.6), rng.uniform(0.08, 0.25, 8)
    scan, labels = np.empty(SHAPE, np.int16, order="F"), np.zeros(SHAPE, np.uint8, order="F")
    for k in range(SHAPE[2]):
        values = plane.copy()
        for n, (centre, radius) in enumerate(zip(centres, radii, strict=True)):
            across = radius * np.sqrt(max(0.0, 1 - ((k - 150) / 140) ** 2))
            organ = (i - centre[0]) ** 2 + (j - centre[1]) ** 2 < across**2
            values[organ], labels[organ, k] = (-850, 30, 60, 90, 120, 200, 400, -50)[n], n + 1
        noise = rng.normal(0, 12, values.shape) * (values > -900)
        scan[:, :, k] = np.rint(values + noise)
    return scan, labels


def write_scans(folder: Path, scan: Hounsfield) -> tuple[tuple[str, Path], ...]:
    volume = Volume(scan[np.newaxis], GRID, Kind.CT)
    formats.write_volume(folder / "scan_0000.nii.gz", volume)
    formats.write_dicom_series(folder / "dicom", volume, patient_id="p", seed="p")
    formats.write_dicom_series(folder / "jpegls", volume, patient_id="p", seed="q")
    for path in (folder / "jpegls").iterdir():
        dataset = pydicom.dcmread(path)
        dataset.compress(pydicom.uid.JPEGLSLossless, generate_instance_uid=False)
        dataset.save_as(path)
    return (
        ("NIfTI, gzip", folder / "scan_0000.nii.gz"),
        ("DICOM", folder / "dicom"),
        ("DICOM, JPEG-LS", folder / "jpegls"),
    )


@dataclass(frozen=True)
class Opening:
    """Seconds from the first question."""

    known: float
    middle: float
    whole: float
    again: float


def open_once(path: Path, cache: Path) -> Opening:
    case = ReviewCase(1, NewCase("a", "", "", path, path, "", ()), State.UNREVIEWED, 0)
    scan_headers._stack.cache_clear()  # as if nobody had asked
    volumes, start = DisplayVolumes(cache, memory_bytes=10**9), time.perf_counter()
    volumes.about(case)
    known = time.perf_counter() - start
    compress(volumes.slab(case, *MIDDLE))
    middle = time.perf_counter() - start
    volumes.numbers(case)
    whole = time.perf_counter() - start
    second, start = DisplayVolumes(cache, memory_bytes=10**9), time.perf_counter()
    second.about(case)
    compress(second.slab(case, *MIDDLE))
    return Opening(known, middle, whole, time.perf_counter() - start)


def compare_openings(folder: Path, scans: tuple[tuple[str, Path], ...]) -> None:
    print(f"\nA CT of {'x'.join(map(str, SHAPE))} for the first time, seconds")
    print(f"  {'':<14} {'grid known':>11} {'16 slices':>11} {'all':>8} {'next time':>10} {'memory':>12}")
    for name, path in scans:
        before, runs = process_bytes(), []
        for _ in range(REPEATS):
            with tempfile.TemporaryDirectory(dir=folder) as cache:
                runs.append(open_once(path, Path(cache)))
        known, middle, whole, again = (
            statistics.median(getattr(run, what) for run in runs) for what in ("known", "middle", "whole", "again")
        )
        grown = max(0, process_bytes() - before) / 1e6
        print(f"  {name:<14} {known:>11.2f} {middle:>11.2f} {whole:>8.2f} {again:>10.3f} {grown:>9.0f} MB")


def compare_compression(scan: Hounsfield, labels: Labels) -> None:
    pack: Any = igzip.compress
    ways: list[tuple[str, Callable[[bytes], bytes]]] = [
        *((f"isal {level}", lambda data, level=level: pack(data, level)) for level in range(4)),
        *((f"zlib {level}", lambda data, level=level: gzip.compress(data, level)) for level in (1, 6)),
    ]
    for what, array in (("16 slices of the CT", scan), ("16 slices of labels", labels)):
        data = np.ascontiguousarray(array[:, :, slice(*MIDDLE)].T).tobytes()
        print(f"\nCompressing {what}, {len(data) / 1e6:.1f} MB")
        for name, way in ways:
            seconds = []
            for _ in range(REPEATS):
                start = time.perf_counter()
                packed = way(data)
                seconds.append(time.perf_counter() - start)
            speed = len(data) / statistics.median(seconds) / 1e6
            print(f"  {name}  {speed:8.0f} MB/s  to 1/{len(data) / len(packed):.1f}")


def main() -> None:
    with tempfile.TemporaryDirectory(dir=sys.argv[1] if len(sys.argv) > 1 else None) as name:
        folder = Path(name)
        scan, labels = body()
        scans = write_scans(folder, scan)
        with tempfile.TemporaryDirectory(dir=folder) as cache:
            for _, path in scans:  # imports what reading needs
                open_once(path, Path(cache))
        compare_openings(folder, scans)
        compare_compression(scan, labels)


if __name__ == "__main__":
    main()
