"""Exports of twenty structures in a large CT: writing, reading back, the proof, and peak memory of each format.

    python benchmarks/dicom_objects.py

512x512x400 voxels, turned in plane so that no coordinate is round. Each format has a process of its own. Peers read the
same files where they are installed: dcmqi's segimage2itkimage (PyPI) and plastimatch (Debian).
"""

from __future__ import annotations

import resource
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from delineate import formats
from delineate.formats.dicom.writing import write_dicom_series
from delineate.formats.exporters import EXPORTERS, ExportOptions
from delineate.geometry import Grid, compose_affine
from delineate.labels import label_set
from delineate.volume import Kind, Segmentation, Volume
from delineate.workflow.exporting import compared

SHAPE = (512, 512, 400)
TURN = np.array([[0.995, -0.0998, 0.0], [0.0998, 0.995, 0.0], [0.0, 0.0, 1.0]])
KINDS = ("seg", "labelmap-seg", "rtstruct", "nrrd", "nifti", "glb", "stl", "obj", "3mf")


def main() -> None:
    if len(sys.argv) == 3:
        measure(sys.argv[1], Path(sys.argv[2]))
        return
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_dicom_series(folder / "ct", Volume(np.zeros((1, *SHAPE), np.int16), grid(), Kind.CT))
        np.save(folder / "organs.npy", organs())
        print(f"{'format':<14}{'write, s':>10}{'read, s':>10}{'proof, s':>10}{'MB':>8}{'peak, GB':>10}  least Dice")
        for kind in KINDS:
            subprocess.run([sys.executable, __file__, kind, str(folder)], check=True)
        peers(folder)


def grid() -> Grid:
    return Grid(SHAPE, compose_affine(TURN @ np.diag([0.9, 0.8, 1.0]), (-220.25, -233.5, -100.125)), "1.2.3.4")


def organs() -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
    array = np.zeros(SHAPE, dtype=np.uint8)
    i, j, k = (axis.astype(np.float32) for axis in np.ogrid[: SHAPE[0], : SHAPE[1], : SHAPE[2]])
    for n in range(20):
        waves = 1 + 0.15 * np.sin(i / 7 + n) * np.cos(j / 5) + 0.1 * np.sin(k / 9)
        middle_i, middle_j = 60 + (n % 5) * 98, 70 + (n // 5) * 120
        array[((i - middle_i) / 44) ** 2 + ((j - middle_j) / 52) ** 2 + ((k - 200) / 190) ** 2 < waves] = n + 1
    return array


def measure(kind: str, folder: Path) -> None:
    """One format, in this process."""
    stack = formats.stack_at(folder / "ct")
    array = np.load(folder / "organs.npy")
    labels = label_set({n + 1: f"organ {n + 1}" for n in range(20)})
    segmentation = Segmentation(array, stack.grid, labels)
    exporter, path = EXPORTERS[kind], folder / f"organs{EXPORTERS[kind].suffix}"
    options = ExportOptions(sources=tuple(slice_.path for slice_ in stack.slices))
    began = time.perf_counter()
    exporter.write(path, segmentation, options)
    written = time.perf_counter()
    found = exporter.read(path, segmentation)
    read = time.perf_counter()
    proofs = compared(segmentation, found)
    done = time.perf_counter()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
    print(
        f"{kind:<14}{written - began:10.1f}{read - written:10.1f}{done - read:10.1f}"
        f"{size_of(path) / 1e6:8.0f}{peak:10.2f}  {min(proof.dice for proof in proofs):.6f}",
        flush=True,
    )


def size_of(path: Path) -> int:
    return sum(file.stat().st_size for file in (path.iterdir() if path.is_dir() else [path]))


def peers(folder: Path) -> None:
    """How long others take to read what was written."""
    target = folder / "peer"
    target.mkdir()
    dcmqi = shutil.which("segimage2itkimage") or shutil.which(str(Path(sys.executable).with_name("segimage2itkimage")))
    seg, contours = folder / "organs.seg.dcm", folder / "organs.rtstruct.dcm"
    commands = {
        "dcmqi reads the SEG": [dcmqi, "--inputDICOM", seg, "--outputDirectory", target, "-t", "nrrd"],
        "plastimatch reads the RTSTRUCT": [
            *(shutil.which("plastimatch"), "convert", "--input", contours, "--referenced-ct", folder / "ct"),
            *("--output-labelmap", target / "rt.nrrd"),
        ],
    }
    for what, command in commands.items():
        if command[0] is not None:
            began = time.perf_counter()
            subprocess.run([str(word) for word in command], check=True, capture_output=True)
            print(f"{what}: {time.perf_counter() - began:.1f} s")


if __name__ == "__main__":
    main()
