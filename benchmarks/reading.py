"""Reading a DICOM series into memory: delineate, SimpleITK and dicom2nifti; and what a compressed series costs.

    python benchmarks/reading.py --slices 60      a few seconds
    python benchmarks/reading.py                  400 slices of 512 x 512: about two minutes

Files are written once and read from the operating system's cache. delineate and SimpleITK return an array;
dicom2nifti writes an uncompressed NIfTI file. Peaks are of this process's resident memory, over what it held before the
call, next to the volume's own size. Lossless JPEG needs dcmtk's `dcmcjpeg` to make the files.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import tempfile
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from timing import median_seconds, print_table

from delineate.formats import find_series, read_series, read_volume, write_dicom_series
from delineate.formats.dicom import pixels
from delineate.geometry import Grid, compose_affine
from delineate.volume import Kind, Volume

# The peers are imported where they run: processes that decode would import them again.
SIDE = 512


def write_scan(folder: Path, slices: int) -> None:
    """A CT with smooth structures and noise, so that compression has what it has in a scan."""
    rng = np.random.default_rng(0)
    i, j, k = np.ogrid[:SIDE, :SIDE, :slices]
    body = 400 * np.sin(i / 40) * np.cos(j / 55 + k / 90)
    array = (body + rng.normal(0, 15, (SIDE, SIDE, slices))).astype(np.int16)
    grid = Grid((SIDE, SIDE, slices), compose_affine(np.diag([0.8, 0.8, 1.25]), (-200.0, -180.0, 40.0)))
    write_dicom_series(folder, Volume(array[np.newaxis], grid, Kind.CT), seed="benchmark")


def compressed(folder: Path, out: Path) -> Path:
    out.mkdir()
    for path in sorted(folder.iterdir()):
        subprocess.run(["dcmcjpeg", "+e1", str(path), str(out / path.name)], check=True)
    return out


def by_simpleitk(folder: Path) -> Any:
    import SimpleITK

    sitk: Any = SimpleITK
    reader = sitk.ImageSeriesReader()
    reader.SetFileNames(reader.GetGDCMSeriesFileNames(str(folder)))
    return reader.Execute()


def by_dicom2nifti(folder: Path) -> None:
    import dicom2nifti

    with tempfile.TemporaryDirectory() as out:
        dicom2nifti.dicom_series_to_nifti(str(folder), str(Path(out, "a.nii")), reorient_nifti=False)


def peak_megabytes(run: Callable[[], Any]) -> float:
    """The most this process held during the call over what it held before."""
    import psutil

    process, done = psutil.Process(), threading.Event()
    before = process.memory_info().rss
    peaks = [before]

    def watch() -> None:
        while not done.wait(0.002):
            peaks.append(process.memory_info().rss)

    watcher = threading.Thread(target=watch)
    watcher.start()
    result = run()
    peaks.append(process.memory_info().rss)
    done.set()
    watcher.join()
    del result
    return float(max(peaks) - before) / 1e6


def in_one_process(folder: Path) -> Volume:
    before, pixels._WORTH_PROCESSES = pixels._WORTH_PROCESSES, 2**62
    try:
        return read_volume(folder)
    finally:
        pixels._WORTH_PROCESSES = before


def check_agreement(folder: Path) -> None:
    """Raises `RuntimeError` unless both readers give the same numbers."""
    import SimpleITK

    sitk: Any = SimpleITK
    if not np.array_equal(sitk.GetArrayFromImage(by_simpleitk(folder)).T, read_volume(folder).array[0]):
        raise RuntimeError("delineate and SimpleITK read different numbers")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--slices", type=int, default=400)
    slices = parser.parse_args().slices
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary, "plain")
        write_scan(folder, slices)
        check_agreement(folder)
        runs: dict[str, Callable[[], Any]] = {
            "delineate": lambda: read_volume(folder),
            "SimpleITK": lambda: by_simpleitk(folder),
            "dicom2nifti": lambda: by_dicom2nifti(folder),
        }
        size = SIDE * SIDE * slices * 2 / 1e6
        for name, run in runs.items():
            print(f"{name}: peak {peak_megabytes(run):.0f} MB for a volume of {size:.0f} MB")
        rows = [(name, median_seconds(run, repeats=3)) for name, run in runs.items()]
        print_table(f"{slices} slices, uncompressed", rows, reference="SimpleITK")
        series = find_series(folder)
        parts = [
            ("headers, sorting out", median_seconds(lambda: find_series(folder), repeats=3)),
            ("pixels", median_seconds(lambda: read_series(series[0]), repeats=3)),
        ]
        print_table("of which delineate takes", parts, reference="pixels")
        if shutil.which("dcmcjpeg"):
            jpeg = compressed(folder, Path(temporary, "jpeg"))
            rows = [
                ("delineate", median_seconds(lambda: read_volume(jpeg), repeats=1)),
                ("delineate in one process", median_seconds(lambda: in_one_process(jpeg), repeats=1)),
                ("SimpleITK", median_seconds(lambda: by_simpleitk(jpeg), repeats=1)),
            ]
            print_table(f"{slices} slices, lossless JPEG", rows, reference="SimpleITK")


if __name__ == "__main__":
    main()
