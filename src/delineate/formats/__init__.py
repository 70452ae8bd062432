"""The only doors to the disk formats: NIfTI files and DICOM series in and out.

nibabel and pydicom are imported when a file needs them, so that importing this package stays fast.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from delineate.errors import GeometryMismatch, InconsistentSeries, LabelError, UnreadableImage
from delineate.formats import nifti
from delineate.formats.dicom.headers import is_dicom
from delineate.formats.dicom.series import find_series, one_volume, read_series, the_volume
from delineate.formats.dicom.stacks import Action, Repair, Stack
from delineate.formats.dicom.writing import write_dicom_series
from delineate.formats.nifti import is_nifti_name, read_label_values, write_segmentation, write_volume
from delineate.geometry import Grid, largest_distance_mm, same_space
from delineate.labels import LabelSet
from delineate.volume import Allocate, Array, Kind, Segmentation, Source, Volume, from_values

__all__ = [
    "Action",
    "Repair",
    "Stack",
    "check_label_values",
    "count_channels",
    "find_series",
    "image_stem",
    "is_image",
    "read_channels",
    "read_grid",
    "read_label_values",
    "read_segmentation",
    "read_series",
    "read_volume",
    "stack_at",
    "write_dicom_series",
    "write_segmentation",
    "write_volume",
]


def read_volume(
    path: Path, *, kind: Kind = Kind.OTHER, allocate: Allocate = np.empty, map_bytes: float = math.inf
) -> Volume:
    """A scan of one channel, (1, I, J, K), from a NIfTI file, a DICOM file, or a folder with one DICOM series.

    `kind` says what a NIfTI file's numbers measure; a DICOM series knows it itself. `allocate`, `map_bytes`: of NIfTI
    files that may be too large for the memory. Raises `UnreadableImage` for anything else, and what
    `nifti.read_volume` and `dicom.series.read_series` raise.
    """
    if is_nifti_name(path):
        return nifti.read_volume(path, kind=kind, allocate=allocate, map_bytes=map_bytes)
    volume = read_series(stack_at(path))
    return replace(volume, source=replace(volume.source, path=path))


def read_grid(path: Path) -> Grid:
    """Where the voxels of `read_volume(path)` are, from headers alone; raises the same."""
    return nifti.read_grid(path) if is_nifti_name(path) else stack_at(path).grid


def count_channels(path: Path) -> int:
    """How many channels `read_channels` finds at one path, from headers alone; raises the same."""
    return nifti.count_channels(path) if is_nifti_name(path) else 1


def read_channels(
    paths: Sequence[Path], *, kind: Kind = Kind.OTHER, allocate: Allocate = np.empty, map_bytes: float = math.inf
) -> Volume:
    """Several scans of one space as the channels of one, (C, I, J, K), on the first one's grid.

    One NIfTI file alone may hold all channels, behind one another, as in the Medical Segmentation Decathlon.
    The kind and the source are the first one's; see `read_volume` for the rest. Raises `GeometryMismatch` if a grid is
    not the first one's within 0.01 mm, `ValueError` for no paths, and what `read_volume` raises.
    """
    if not paths:
        raise ValueError("no paths: a volume needs at least one channel")
    if len(paths) == 1 and is_nifti_name(paths[0]):
        return nifti.read_channels(paths[0], kind=kind, allocate=allocate, map_bytes=map_bytes)
    volumes = [read_volume(path, kind=kind, allocate=allocate, map_bytes=map_bytes) for path in paths]
    first = volumes[0]
    for path, volume in zip(paths, volumes, strict=True):
        _check_same_space(first.grid, volume.grid, first_path=paths[0], path=path)
    if len(volumes) == 1:
        return first
    joined = allocate((len(volumes), *first.grid.shape), np.result_type(*(volume.array for volume in volumes)))
    return replace(first, array=np.concatenate([volume.array for volume in volumes], out=joined))


def read_segmentation(path: Path, labels: LabelSet) -> Segmentation:
    """A NIfTI label map as uint8 or uint16, (I, J, K); masks where the labels have regions. What is ignored is apart.

    Raises `LabelError` for values that are not in `labels` (see also `read_label_values`), with the number of their
    voxels, and for a `LabelSet` with overlaps but no regions; and what `read_volume` raises.
    """
    if labels.overlaps and not labels.regions:
        raise LabelError("one label map cannot hold overlapping structures", path=path)
    if not is_nifti_name(path):
        raise UnreadableImage("label maps are read from NIfTI files", expected=".nii.gz or .nii", path=path)
    array, grid = read_label_values(path)
    check_label_values(array, labels, path)
    return from_values(array, grid, labels, Source(path=path))


def is_image(path: Path) -> bool:
    """Whether `read_volume` would try it: a NIfTI name, a DICOM file, or a folder that holds DICOM files directly."""
    if path.is_dir():
        return any(is_dicom(file) for file in sorted(path.iterdir()) if file.is_file())
    return path.is_file() and (is_nifti_name(path) or is_dicom(path))


def image_stem(path: Path) -> str:
    """The name without its format's suffix: "a_0000.nii.gz" and "a_0000.dcm" give "a_0000"; others stay as they are."""
    for suffix in (*nifti.SUFFIXES, ".dcm"):
        if path.name.lower().endswith(suffix):
            return path.name[: -len(suffix)]
    return path.name


def stack_at(path: Path, *, repair: Repair = Repair.STRAIGHTEN) -> Stack:
    """The one DICOM volume at a path: a file, or a folder that may also hold what is no scan.

    Raises `UnreadableImage` where there is no DICOM image, `InconsistentSeries` where the files do not make one volume.
    """
    if path.is_file() and is_dicom(path):
        return one_volume((path,), repair=repair)
    if not path.is_dir():
        raise UnreadableImage(
            "not an image" if path.exists() else "there is no such file or folder",
            expected=".nii, .nii.gz, a DICOM file or a folder with a DICOM series",
            path=path,
        )
    found = find_series(path, repair=repair)
    if not found:
        raise UnreadableImage("the folder holds no image", expected="one DICOM series", path=path)
    if len({stack.facts.series_uid for stack in found}) == 1:
        return the_volume(found, path)
    volumes = [stack for stack in found if stack.action is not Action.SKIP] or list(found)
    if len(volumes) > 1:
        raise InconsistentSeries(
            "the folder holds several series",
            expected="one series of parallel slices",
            got="; ".join([stack.summary for stack in volumes[:4]] + ["..."] * (len(volumes) > 4)),
            path=path,
            remedy="Name the folder of one of them.",
        )
    return volumes[0]


def _check_same_space(first: Grid, other: Grid, *, first_path: Path, path: Path) -> None:
    if same_space(first, other):
        return
    same_shape = first.shape == other.shape
    raise GeometryMismatch(
        "the channels of a case are not in one space",
        expected=f"{'the voxels' if same_shape else f'shape {first.shape}'} of {first_path}",
        got=f"up to {largest_distance_mm(first, other):.3g} mm away" if same_shape else other.shape,
        path=path,
        remedy="If they show one patient in one place: delineate convert ONE NEW.nii.gz --onto OTHER.",
    )


def check_label_values(array: Array, labels: LabelSet, path: Path | None = None) -> None:
    """Raises `LabelError` for values of a label map of unsigned integers that no label has, with their voxels."""
    highest = int(array.max())
    if highest > nifti.MAX_LABEL:
        raise LabelError("label values out of range", expected=f"0 to {nifti.MAX_LABEL}", got=highest, path=path)
    if set(range(1, highest + 1)) <= set(labels.stored_values):
        return
    # Slab by slab, because bincount widens its input to 64 bits.
    counts = np.zeros(highest + 1, dtype=np.int64)
    for slab in np.moveaxis(array, -1, 0):
        counts += np.bincount(slab.reshape(-1), minlength=len(counts))
    unknown = [value for value in np.flatnonzero(counts).tolist() if value and value not in labels.stored_values]
    if unknown:
        raise LabelError(
            "label map with values that have no label",
            expected=f"0 or one of {list(labels.stored_values)}",
            got=", ".join(f"{value} ({counts[value]} voxels)" for value in unknown[:10]),
            path=path,
            remedy="Correct the label map, or add the values to the dataset's labels.",
        )
