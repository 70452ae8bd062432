"""Real DICOM series: what becomes of every file, and how far other readers differ. The tables of docs/dicom-data.md.

    python benchmarks/real_dicom.py DATA_FOLDER

DATA_FOLDER holds `dicom` and `sarcoma`. Needs SimpleITK, dcm2niix, dicom2nifti and plastimatch. Differences are the
largest distance in mm between voxels of one index, and the largest difference of values.
"""

from __future__ import annotations

import argparse
import logging
import shutil
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import replace
from importlib import import_module
from importlib.metadata import version
from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np
import pydicom

from delineate import formats
from delineate.errors import DelineateError
from delineate.formats import Repair, Stack, nifti
from delineate.formats.dicom.geometry import plain_grid
from delineate.formats.dicom.instances import read_instance
from delineate.formats.dicom.pixels import read_stack
from delineate.formats.dicom.series import dicom_files
from delineate.formats.dicom.slices import Slice
from delineate.formats.dicom_results.rtstruct import read_rtstruct
from delineate.formats.dicom_results.seg import read_seg
from delineate.formats.dicom_results.structure_sets import labels_from
from delineate.geometry import Grid, compose_affine, index_to_world, largest_distance_mm
from delineate.settings import Settings
from delineate.volume import Volume, reorient
from delineate.workflow.scanning import scan

# The peers have no types that mypy knows.
itk: Any = import_module("SimpleITK")
dcm2niix: Any = import_module("dcm2niix")
dicom2nifti: Any = import_module("dicom2nifti")
TRUTH = "_ground_truth.nii.gz"
SCANS = ("CT", "MR_T1", "PET")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, metavar="DATA_FOLDER")
    data = parser.parse_args().data.resolve()
    itk.ProcessObject.SetGlobalWarningDisplay(False)
    logging.disable(logging.CRITICAL)
    print(f"{_versions()}.\n\n## Series\n")
    _print_table(("folder", "files", "what", "delineate", "ground truth", "SimpleITK", "dcm2niix"), _series(data))
    print("\n## Labels\n")
    _print_table(("folder", "objects", "kind", "structures"), _objects(data / "dicom"))
    print()
    _print_table(("contours", "structure sets", "voxels", "least Dice with plastimatch", "same"), _contours(data))
    print("\n## Where other converters differ\n")
    _print_table(("series", "reader", "what it does"), _differences(data))
    print("\n## Lossy and retired encodings\n")
    _print_table(("file", "delineate", "largest difference from GDCM", "from the original"), _encodings(data / "dicom"))


def _versions() -> str:
    names = ("pydicom", "SimpleITK", "dcm2niix", "dicom2nifti")
    return ", ".join([f"{name} {version(name)}" for name in names])


def _print_table(head: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    print(f"| {' | '.join(head)} |\n|{'---|' * len(head)}")
    for row in rows:
        print(f"| {' | '.join(str(cell) for cell in row)} |", flush=True)


# Series


def _series(data: Path) -> Iterator[Sequence[object]]:
    for folder in sorted({path.parent for path in dicom_files(data / "dicom")}):
        yield _folder(folder, data)
    for kind in SCANS:
        yield _patients(sorted((data / "sarcoma").glob(f"*/{kind}/image")), data)


def _folder(folder: Path, data: Path) -> Sequence[object]:
    files = [path for path in dicom_files(folder) if path.parent == folder]
    stacks = [stack for stack in formats.find_series(folder) if stack.files[0].parent == folder and stack.is_scan]
    truth = folder.with_name(folder.name + TRUTH)
    compared = [_compared(stacks[0], truth)] if stacks else []
    return (
        f"`{folder.relative_to(data / 'dicom')}`",
        len(files),
        _what(files),
        "; ".join(_fates(folder)),
        *(compared[0] if compared else ("", "", "")),
    )


def _compared(stack: Stack, truth: Path) -> tuple[str, str, str]:
    volume, folder = formats.read_series(stack), stack.files[0].parent
    known = _difference(volume, formats.read_volume(truth)) if truth.exists() else ""
    niix = _dcm2niix(folder)
    best = [theirs for name, theirs in niix if "_Tilt" in name] or [theirs for _, theirs in niix]
    return known, _difference(volume, _simpleitk(folder)), _difference(volume, best[0])


def _patients(folders: Sequence[Path], data: Path) -> Sequence[object]:
    volumes = [(folder, formats.read_volume(folder)) for folder in folders]
    files = [path for folder in folders for path in dicom_files(folder)]
    kind = folders[0].parent.name
    pairs = [(volume, data / f"sarcoma/{folder.parts[-3]}_nifti/{kind}_image.nii.gz") for folder, volume in volumes]
    truth = [_apart(volume, formats.read_volume(path)) for volume, path in pairs if path.exists()]
    simple = [_apart(volume, _simpleitk(folder)) for folder, volume in volumes]
    niix = [_apart(volume, _dcm2niix(folder)[0][1]) for folder, volume in volumes]
    worst = [f"{len(found)}: {_in_words(*np.max(found, axis=0))}" for found in (truth, simple, niix)]
    actions = {stack.action.value for folder in folders for stack in formats.find_series(folder)}
    return f"`sarcoma/*/{kind}/image`", len(files), f"{len(folders)} series, {_what(files)}", *actions, *worst


def _what(files: Sequence[Path]) -> str:
    facts = [read_instance(path).facts for path in files]
    kinds = ", ".join(dict.fromkeys(fact.modality for fact in facts))
    makers = ", ".join(dict.fromkeys(fact.manufacturer for fact in facts if fact.manufacturer))
    return f"{kinds} ({makers})" if makers else kinds


def _fates(folder: Path) -> Iterator[str]:
    """What a scan of the folder says of the files in it, equal reasons once."""
    counts: dict[str, int] = {}
    with tempfile.TemporaryDirectory() as cache:
        report = scan(folder, settings=Settings("cpu", 1, 2**30, Path(cache)))
    for row in report.rows:
        here = [name for name in row.files if "/" not in name]
        notes = [note for note in row.notes if not note.startswith(("dropped", "one of several"))]
        why = "; ".join([*([row.problem] if row.problem else []), *(notes if row.action != "skip" else [])])
        if here:
            named = f"{row.action}{f' ({row.volume})' if row.volume else ''}{f': {why}' if why else ''}"
            counts[named] = counts.get(named, 0) + len(here)
        copies = sum("/" not in name for name in row.copies)
        if copies:
            counts["dropped: identical copies"] = counts.get("dropped: identical copies", 0) + copies
    for text, count in counts.items():
        yield f"{count} {text}" if len(counts) > 1 else text


# Other readers


def _simpleitk(folder: Path) -> Volume:
    files = itk.ImageSeriesReader.GetGDCMSeriesFileNames(str(folder))
    image = itk.ReadImage(files if len(files) > 1 else files[0])
    linear = np.reshape(image.GetDirection(), (3, 3)) @ np.diag(image.GetSpacing())
    array = itk.GetArrayFromImage(image).transpose(2, 1, 0)
    return Volume(array[np.newaxis], Grid(array.shape, compose_affine(linear, image.GetOrigin())))


def _dcm2niix(folder: Path) -> list[tuple[str, Volume]]:
    """(name, volume) of everything that it writes and whose place is one."""
    with tempfile.TemporaryDirectory() as out:
        call = [dcm2niix.bin, "-z", "n", "-b", "n", "-f", "scan", "-o", out, str(folder)]
        subprocess.run(call, capture_output=True, check=True)
        found = []
        for path in sorted(Path(out).glob("*.nii")):
            try:
                found.append((path.stem, formats.read_volume(path)))
            except DelineateError:
                continue  # a tilted volume as acquired: sform and qform differ
        return found


def _dicom2nifti(folder: Path) -> str:
    with tempfile.TemporaryDirectory() as out, redirect_stdout(StringIO()), redirect_stderr(StringIO()):
        try:
            dicom2nifti.dicom_series_to_nifti(str(folder), f"{out}/scan.nii.gz", reorient_nifti=False)
        # It raises whatever it meets.
        except Exception as error:
            return f"refuses: {str(error).splitlines()[0]}"
    return "converts it"


def _apart(first: Volume, second: Volume) -> tuple[float, float]:
    one, other = reorient(first, "LPS"), reorient(second, "LPS")
    if one.grid.shape != other.grid.shape:
        return float("inf"), float("inf")
    values = np.abs(one.array.astype(float) - other.array.astype(float)).max()
    return largest_distance_mm(one.grid, other.grid), float(values)


def _difference(first: Volume, second: Volume) -> str:
    return _in_words(*_apart(first, second))


def _in_words(mm: float, values: float) -> str:
    return "not on one grid" if np.isinf(mm) else f"{mm:.1e} mm, {'equal' if values == 0 else f'{values:.2g}'}"


# Where they differ


def _differences(data: Path) -> Iterator[Sequence[object]]:
    failing = data / "dicom" / "series" / "failing"
    readers: tuple[tuple[str, Callable[[Path], Iterable[str]]], ...] = (
        ("SimpleITK", _slices_of_simpleitk),
        ("dcm2niix", _slices_of_dcm2niix),
        ("dicom2nifti", lambda folder: [_dicom2nifti(folder)]),
    )
    tilted, turned = failing / "gantrytilting" / "001", "`gantrytilting/001`, instances numbered downwards"
    for folder in (failing / "sliceincrement/001", failing / "sliceorientation/001", tilted, data / "dicom/tilt_ge"):
        for name, run in readers:
            for line in run(folder):
                yield f"`{folder.relative_to(data)}`", name, line
    with tempfile.TemporaryDirectory() as other:
        _reverse(tilted, Path(other))
        volume = formats.read_volume(Path(other))
        yield (
            turned,
            "delineate",
            _difference(volume, formats.read_volume(tilted)) + " from the series numbered upwards",
        )
        (straight,) = [theirs for name, theirs in _dcm2niix(Path(other)) if "_Tilt" in name]
        yield turned, "dcm2niix", f"_Tilt_1: {_difference(volume, straight)} from delineate"
    yield from _philips(data)


def _slices_of_simpleitk(folder: Path) -> Iterator[str]:
    try:
        yield _misplaced(folder, _simpleitk(folder))
    except RuntimeError as error:
        yield f"refuses: {str(error).splitlines()[-1]}"


def _slices_of_dcm2niix(folder: Path) -> Iterator[str]:
    for name, volume in _dcm2niix(folder):
        yield f"{name.removeprefix('scan') or 'first file'}: {_misplaced(folder, volume)}"


def _misplaced(folder: Path, theirs: Volume) -> str:
    """How far slices lie from where their headers say, found by their pixels."""
    far: list[float] = []
    count = 0
    for stack in formats.find_series(folder, repair=Repair.INTERPOLATE):
        turned = reorient(theirs, stack.acquired.orientation)
        count += len(stack.slices)
        if turned.grid.shape[:2] == stack.acquired.shape[:2]:
            far += [mm for s in stack.slices for mm in _distance(s, turned)]
    spacing = " x ".join(f"{mm:.4g}" for mm in theirs.grid.spacing_mm)
    shape = " x ".join(map(str, theirs.grid.shape))
    moved = f"slices up to {max(far):.3g} mm from their place" if far else "no slice as it was acquired"
    return f"{shape} of {spacing} mm; {moved}" + (f" ({len(far)} of {count} found)" if 0 < len(far) < count else "")


def _distance(s: Slice, theirs: Volume) -> Iterator[float]:
    """From the slice's corners to those of the first plane of `theirs` with its pixels; nothing if there is none."""
    pixels = read_stack([s])
    x, y, z = np.add(s.position_mm, s.normal).tolist()
    plane = plain_grid([s, replace(s, position_mm=(x, y, z))])
    planes = (theirs.array[0] == pixels).all(axis=(0, 1))
    corners = np.array([(i, j, 0) for i in (0, s.columns - 1) for j in (0, s.rows - 1)])
    for k in np.flatnonzero(planes)[:1]:
        there = index_to_world(theirs.grid, np.add(corners, (0, 0, k)))
        yield float(np.linalg.norm(there - index_to_world(plane, corners), axis=1).max())


def _reverse(folder: Path, out: Path) -> None:
    files = sorted(dicom_files(folder))
    for n, path in enumerate(files):
        dataset = pydicom.dcmread(path)
        dataset.InstanceNumber = len(files) - n
        dataset.save_as(out / f"{len(files) - n:03d}.dcm")


def _philips(data: Path) -> Iterator[Sequence[object]]:
    for folder in sorted((data / "dicom/series/philips_enhanced/anatomical").glob("001*")):
        if folder.is_dir():
            volume = reorient(formats.read_volume(folder), "LPS")
            ((_, theirs),) = _dcm2niix(folder)
            some = volume.array > 0
            ratio = reorient(theirs, "LPS").array[some] / volume.array[some]
            text = f"every value is {np.median(ratio):.6g} times the rescaled one (spread {np.ptp(ratio):.1g})"
            yield f"`{folder.relative_to(data)}`", "dcm2niix", text


# Encodings


def _encodings(folder: Path) -> Iterator[Sequence[object]]:
    original = read_stack(read_instance(folder / "transfer_syntaxes" / "CTImage.dcm").slices).astype(float)
    for path in sorted((folder / "transfer_syntaxes").glob("CT*")):
        slices = read_instance(path).slices
        theirs = itk.GetArrayFromImage(itk.ReadImage(str(path))).reshape(-1, slices[0].rows, slices[0].columns)
        name = f"`{path.name[:24]}`…`{path.name[-25:]}`" if len(path.name) > 60 else f"`{path.name}`"
        try:
            found = read_stack(slices).astype(float)
        except DelineateError as error:
            yield name, f"{error.problem}: {error.got}", "", ""
            continue
        same = path.name.startswith("CTImage")
        yield (
            name,
            f"{pydicom.uid.UID(slices[0].storage.syntax).name}, {'lossy' if slices[0].storage.lossy else 'lossless'}",
            f"{np.abs(found - theirs.transpose(2, 1, 0)).max():.3g} (a stored step is {slices[0].slope:.3g})",
            f"{np.abs(found - original).max():.3g}" if same else "",
        )


# Labels


def _objects(folder: Path) -> Iterator[Sequence[object]]:
    counts: Counter[tuple[str, str, str]] = Counter()
    with tempfile.TemporaryDirectory() as cache:
        report = scan(folder, settings=Settings("cpu", 1, 2**30, Path(cache)))
        for found in sorted(report.objects(), key=lambda instance: instance.path):
            place, kind = f"`{found.path.parent.relative_to(folder)}`", found.facts.modality
            counts[place, kind, _structures(found.path, kind)] += 1
    for (place, kind, structures), count in counts.items():
        yield place, count, kind, structures


def _structures(path: Path, modality: str) -> str:
    try:
        if modality == "SEG":
            segmentation = read_seg(path).segmentation
            return f"{', '.join(segmentation.labels.names)} in {' x '.join(map(str, segmentation.grid.shape))}"
        return f"{', '.join(roi.name for roi in read_rtstruct(path).rois)}"
    except DelineateError as error:
        return f"refused: {error.problem}"


def _contours(data: Path) -> Iterator[Sequence[object]]:
    if shutil.which("plastimatch") is None:
        print("plastimatch is not installed", file=sys.stderr)
        return
    for kind in SCANS:
        folders = sorted((data / "sarcoma").glob(f"*/{kind}"))
        counts = [_filled(folder) for folder in folders]
        dice = [2 * both / (ours + theirs) for ours, theirs, both in counts]
        equal = sum(ours == theirs == both for ours, theirs, both in counts)
        yield f"`sarcoma/*/{kind}`", len(folders), sum(ours for ours, _, _ in counts), f"{min(dice):.5f}", equal


def _filled(folder: Path) -> tuple[int, int, int]:
    """How many voxels delineate fills, plastimatch fills, and both."""
    path, image = folder / "mask" / "RS.dcm", folder / "image"
    found = labels_from(read_rtstruct(path), formats.read_grid(image)).segmentation
    with tempfile.TemporaryDirectory() as out:
        call = ["plastimatch", "convert", "--input", path, "--referenced-ct", image]
        subprocess.run([*map(str, call), "--output-prefix", out, "--prefix-format", "nii"], capture_output=True)
        theirs, _ = nifti.read_label_values(Path(out) / f"{found.labels.names[0]}.nii")
    ours = found.array > 0
    return int(ours.sum()), int((theirs > 0).sum()), int((ours & (theirs > 0)).sum())


if __name__ == "__main__":
    main()
