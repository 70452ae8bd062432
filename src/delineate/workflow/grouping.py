"""A DICOM series into groups of slices, and the groups' segmentations back onto the series."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from delineate import formats
from delineate.errors import ExportError, InputError
from delineate.files import sweep
from delineate.formats.dicom.groups import Joined, SliceGroup, SliceGroups, join_groups, read_groups, write_groups
from delineate.formats.nifti import SUFFIXES, is_nifti_name
from delineate.labels import LabelSet, label_set
from delineate.volume import Segmentation, Source
from delineate.workflow.progress import Watch, nobody


def group(series_folder: Path, out: Path, *, slices: int = 65, watch: Watch = nobody) -> SliceGroups:
    """Write the series in a folder as groups of `slices` consecutive slices; the last one overlaps the one before.

    Raises `InconsistentSeries` for a series that would have to be repaired, since its groups would be repaired one by
    one, and what `formats.stack_at`, `formats.read_series` and `dicom.groups.write_groups` raise.
    """
    stack = formats.stack_at(series_folder, repair=formats.Repair.NONE)
    # Broken pixels are better found now than in one of the copies.
    volume = formats.read_series(stack)
    files = [slice_.path for slice_ in stack.slices]
    total = len(files)
    sweep(out.parent)
    return write_groups(
        files, out, grid=volume.grid, slices=slices, tick=lambda done: watch("Grouping", min(done, total), total, "")
    )


def ungroup(groups_folder: Path, segmentations_folder: Path, target: Path, *, labels: LabelSet | None = None) -> Joined:
    """Put NIfTI label maps of all groups, named 01.nii.gz and so on, together and write them as one to `target`.

    Without `labels` every value that occurs is a label. Raises what `dicom.groups.read_groups`, `join_groups` and
    `formats.read_segmentation` raise, naming the group or its file, and `ExportError` for a target that is no NIfTI.
    """
    if not is_nifti_name(target):
        raise ExportError("the result is a NIfTI file", expected=" or ".join(SUFFIXES), got=target.name, path=target)
    record = read_groups(groups_folder)
    paths = {one.name: _segmentation_file(segmentations_folder, one) for one in record.groups}
    joined = join_groups(record, _read(paths, labels))
    formats.write_segmentation(target, joined.segmentation)
    return joined


def _segmentation_file(folder: Path, one: SliceGroup) -> Path:
    found = [folder / f"{one.name}{suffix}" for suffix in SUFFIXES if (folder / f"{one.name}{suffix}").is_file()]
    if len(found) != 1:
        raise InputError(
            f"group {one.name} has no segmentation" if not found else f"group {one.name} has two segmentations",
            expected=f"{one.name}.nii.gz",
            got=[path.name for path in found] or None,
            path=folder,
            remedy="Give every group one label map with the group's name.",
        )
    return found[0]


def _read(paths: dict[str, Path], labels: LabelSet | None) -> dict[str, Segmentation]:
    if labels is not None:
        return {name: formats.read_segmentation(path, labels) for name, path in paths.items()}
    maps = {name: formats.read_label_values(path) for name, path in paths.items()}
    values = sorted({int(value) for array, _ in maps.values() for value in np.unique(array)} - {0})
    found = label_set({value: f"label_{value}" for value in values})
    return {name: Segmentation(array, grid, found, Source(path=paths[name])) for name, (array, grid) in maps.items()}
