"""Scanning a tree of DICOM: delineate's index against one pydicom loop and SimpleITK's GDCM, on the same files.

    python benchmarks/scanning.py [FILES]

So many small CT slices (default 10,000; 64 x 64, 100 a series, one folder each) are written to a temporary folder and
are then in the system's file cache: what is measured is parsing, not the disk. Processor seconds are of all processes
together, and suffer less from a busy machine. The loop reads every header without
pixels and sorts each series by position; SimpleITK lists the series of each folder and sorts their files. Neither keeps
anything, checks the spacing, or knows a copy. Peak memory is the main process's.
"""

from __future__ import annotations

import resource
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np

from delineate.formats import write_dicom_series
from delineate.geometry import Grid, compose_affine
from delineate.settings import detect
from delineate.volume import Kind, Volume
from delineate.workflow.scanning import scan

SLICES, SIZE = 100, 64


def main() -> None:
    files = int(sys.argv[1]) if len(sys.argv) > 1 else 10_000
    with tempfile.TemporaryDirectory() as folder:
        tree = Path(folder, "tree")
        for series in range(files // SLICES):
            _write(tree / f"{series:04d}", series)
        print(f"{files} files: seconds, files a second, processor seconds, peak memory of the main process")
        for what in ("delineate", "delineate again", "delineate, 1 process", "pydicom loop", "SimpleITK"):
            print(_measured(what, tree, Path(folder), files), flush=True)


def _write(folder: Path, series: int) -> None:
    rotation = np.array([[0.96, -0.28, 0.0], [0.28, 0.96, 0.0], [0.0, 0.0, 1.0]])
    affine = compose_affine(rotation @ np.diag([0.8, 0.9, 2.5]), (-90.25, 120.5, -33.125 - series))
    values = np.arange(SIZE * SIZE * SLICES, dtype=np.int32).reshape(1, SIZE, SIZE, SLICES) % 977
    volume = Volume(values.astype(np.int16), Grid((SIZE, SIZE, SLICES), affine), Kind.CT)
    write_dicom_series(folder, volume, patient_id=f"P{series:04d}", seed="benchmark")


def _measured(what: str, tree: Path, work: Path, files: int) -> str:
    # A process each: peak memory is never given back.
    done = subprocess.run(
        [sys.executable, __file__, "--only", what, str(tree), str(work)], capture_output=True, text=True, check=True
    )
    seconds, busy, peak_mb = (float(word) for word in done.stdout.split())
    return f"{what:22} {seconds:7.2f} s {files / seconds:8.0f}/s {busy:7.2f} s {peak_mb:6.0f} MB"


def _only(what: str, tree: Path, work: Path) -> None:
    began = time.perf_counter()
    if what.startswith("delineate"):
        settings = detect("cpu", cache=work)
        alone = what.endswith("1 process")
        report = scan(
            tree,
            settings=replace(settings, threads=1) if alone else settings,
            index=work / ("alone" if alone else "index"),
        )
        assert report.files.read == report.files.total
    elif what == "pydicom loop":
        _pydicom_loop(tree)
    else:
        _simpleitk(tree)
    seconds = time.perf_counter() - began
    mine, others = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    busy = sum(usage.ru_utime + usage.ru_stime for usage in (mine, others))
    print(seconds, busy, mine.ru_maxrss / 1024)


def _pydicom_loop(tree: Path) -> None:
    import pydicom

    series = defaultdict(list)
    for path in sorted(tree.rglob("*.dcm")):
        header = pydicom.dcmread(path, stop_before_pixels=True)
        x, y = (np.array(header.ImageOrientationPatient[n : n + 3], dtype=float) for n in (0, 3))
        height = float(np.cross(x, y) @ np.array(header.ImagePositionPatient, dtype=float))
        series[str(header.SeriesInstanceUID)].append((height, path))
    assert all(len(sorted(found)) == SLICES for found in series.values())


def _simpleitk(tree: Path) -> None:
    reader: Any = import_module("SimpleITK").ImageSeriesReader
    for folder in sorted(tree.iterdir()):
        for uid in reader.GetGDCMSeriesIDs(str(folder)):
            assert len(reader.GetGDCMSeriesFileNames(str(folder), uid)) == SLICES


if __name__ == "__main__":
    if sys.argv[1:2] == ["--only"]:
        _only(sys.argv[2], Path(sys.argv[3]), Path(sys.argv[4]))
    else:
        main()
