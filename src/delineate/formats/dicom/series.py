"""DICOM series in: what a tree of files holds, and a volume of it in its own geometry.

The policy that decides what is a volume, what is repaired and what is refused stands in `stacks`.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from delineate.errors import InconsistentSeries, UnreadableImage
from delineate.formats.dicom.geometry import mixed
from delineate.formats.dicom.headers import is_dicom
from delineate.formats.dicom.instances import read_instance
from delineate.formats.dicom.pixels import read_stack
from delineate.formats.dicom.slices import Instance
from delineate.formats.dicom.stacks import Action, Repair, Stack, sort_out
from delineate.geometry import Grid
from delineate.resampling import even_stack
from delineate.volume import Array, Kind, Source, Volume

AIR_HU = -1024


def find_series(folder: Path, *, repair: Repair = Repair.STRAIGHTEN) -> tuple[Stack, ...]:
    """The volumes of the image series in a folder and all folders below, and what was set aside in these series.

    Ordered by study, series number, UID. Only headers are read. Files that are not DICOM, and objects without an image
    of their own (reports, contours, segmentations, doses), are passed over.
    Raises `UnreadableImage` for a DICOM file whose header is broken: passing it over would make a slice missing.
    """
    of_series: dict[tuple[str, str], list[Instance]] = {}
    for path in dicom_files(folder):
        instance = read_instance(path)
        of_series.setdefault((instance.facts.study_uid, instance.facts.series_uid), []).append(instance)
    stacks = [
        stack
        for instances in of_series.values()
        if any(instance.slices or not instance.expected for instance in instances)
        for stack in sort_out(instances, repair=repair)
    ]
    # Sorting is stable: the volumes of one series stay in their order.
    return tuple(sorted(stacks, key=lambda s: (s.facts.study_uid, s.facts.number or 0, s.facts.series_uid)))


def one_volume(files: Sequence[Path], *, repair: Repair = Repair.STRAIGHTEN) -> Stack:
    """The volume that the files make.

    Raises `InconsistentSeries` with the reason if they make none, or several; `UnreadableImage` for a broken header;
    `ValueError` for no files.
    """
    if not files:
        raise ValueError("no files: a series needs slices")
    instances = [read_instance(path) for path in files]
    slices = [slice_ for instance in instances for slice_ in instance.slices]
    if len({instance.facts.series_uid for instance in instances}) > 1:
        raise mixed(slices) or InconsistentSeries("files of several series", expected="one", path=files[0].parent)
    return the_volume(sort_out(instances, repair=repair), files[0].parent)


def the_volume(stacks: Sequence[Stack], folder: Path) -> Stack:
    """The one volume among stacks. Raises the error that keeps it from being one, or says that there are several."""
    scans = [stack for stack in stacks if stack.is_scan]
    refused = [stack for stack in stacks if stack.action is Action.REFUSE]
    if len(scans) == 1 and not refused:
        return scans[0]
    slices = [slice_ for stack in stacks for slice_ in stack.slices]
    odd = mixed(slices) if slices and len(scans) < 2 else None
    errors = [stack.error for stack in (*refused, *stacks) if stack.error is not None]
    if errors and not scans and (odd is None or len({str(error) for error in errors}) == 1):
        raise errors[0]
    raise odd or InconsistentSeries(
        "several volumes",
        expected="one",
        got="; ".join(f"{s.summary}{'' if s.error is None else f': {s.error.problem}'}" for s in [*scans, *refused]),
        path=folder,
        remedy="List them and read one of them, or import them all.",
    )


def read_series(series: Stack | Sequence[Path], *, repair: Repair = Repair.STRAIGHTEN) -> Volume:
    """The volume of one series, (1, I, J, K): I along a row, J down a column, K along the normal (row x column).

    For its numbers see `pixels.read_stack`. PET is `Kind.PET` only where it is SUV. A tilted or unevenly spaced
    series is put onto a right-angled, even grid if `repair` allows it (voxels outside the slices become -1024 HU in CT,
    or the least that its type holds, else the smallest value): `Stack.notes` say so.
    Raises `InconsistentSeries` with the files at fault where the files do not make one volume, and `UnreadableImage`
    for a file without readable header or pixels. Source: PS3.3 C.7.6.2.1.1, C.11.1.1.
    """
    stack = series if isinstance(series, Stack) else one_volume(series, repair=repair)
    grid = stack.grid
    array = read_stack(stack.slices)
    if stack.action is not Action.READ:
        array = even_stack(array, stack.positions, fill=_outside(array, stack.slices[0].kind))
    return Volume(array[np.newaxis], grid, stack.slices[0].kind, source_of(stack))


def source_of(stack: Stack) -> Source:
    """The identifiers of a volume's series and instances, in slice order."""
    first = stack.slices[0]
    uids = tuple(dict.fromkeys(s.instance_uid for s in stack.slices))
    return Source(first.path.parent, first.study_uid or None, first.series_uid or None, uids)


def read_series_grid(series: Stack | Sequence[Path], *, repair: Repair = Repair.STRAIGHTEN) -> Grid:
    """The grid of `read_series`, from the headers alone; raises the same, but sees no broken pixels."""
    return (series if isinstance(series, Stack) else one_volume(series, repair=repair)).grid


def _outside(array: Array, kind: Kind) -> float:
    if kind is not Kind.CT:
        return float(array.min())
    return float(AIR_HU if array.dtype.kind == "f" else max(AIR_HU, np.iinfo(array.dtype).min))


def dicom_files(folder: Path) -> Iterator[Path]:
    """The DICOM files in a folder and all folders below, in order of their paths; links are not followed to folders.

    Raises `UnreadableImage` for a folder that cannot be listed.
    """
    for parent, folders, names in os.walk(folder, onerror=_refuse_closed):
        folders.sort()
        for path in (Path(parent, name) for name in sorted(names)):
            if path.is_file() and is_dicom(path):
                yield path


def _refuse_closed(error: OSError) -> None:
    # Passing it over might make a slice missing.
    raise UnreadableImage("a folder cannot be listed", got=error.strerror, path=error.filename) from error
