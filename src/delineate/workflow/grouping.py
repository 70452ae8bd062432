"""A DICOM series into groups of slices, and the groups' segmentations back onto the series."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from msgspec.structs import replace

from delineate import formats
from delineate.errors import ExportError, InputError
from delineate.files import atomic_path, remove, sweep
from delineate.findings import volumes_ml
from delineate.formats.dicom.groups import Joined, SliceGroup, SliceGroups, join_groups, read_groups, write_groups
from delineate.formats.nifti import SUFFIXES, is_nifti_name
from delineate.labels import LabelSet, label_set
from delineate.volume import Segmentation, Source
from delineate.workflow.progress import Watch, nobody
from delineate.workflow.results import ResultRecord, read_record, record_path, write_record


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


def ungroup(
    groups_folder: Path,
    segmentations_folder: Path,
    target: Path,
    *,
    labels: LabelSet | None = None,
    again: bool = False,
) -> Joined:
    """Put NIfTI label maps of all groups, named 01.nii.gz and so on, together and write them as one to `target`.

    Without `labels`, values mean what the records that `predict` wrote beside the groups' label maps say, and such a
    record is written beside the target; where there are none, every value that occurs is a label.
    Raises what `dicom.groups.read_groups`, `join_groups` and `formats.read_segmentation` raise, naming the group or its
    file; `ExportError` for a target that is no NIfTI, or is there already and not to be written over (`again`).
    """
    if not is_nifti_name(target):
        raise ExportError("the result is a NIfTI file", expected=" or ".join(SUFFIXES), got=target.name, path=target)
    if target.exists() and not again:
        remedy = "Choose another name, or write over it (--again)."
        raise ExportError("the target is there already", path=target, remedy=remedy)
    record = read_groups(groups_folder)
    paths = {one.name: _segmentation_file(segmentations_folder, one) for one in record.groups}
    results = [read_record(path) for path in paths.values()]
    made = [result for result in results if result is not None]
    same = len(made) == len(paths) and all((one.labels, one.model) == (made[0].labels, made[0].model) for one in made)
    if labels is None and same:
        labels = label_set({value: name for name, value in made[0].labels.items()})
    joined = join_groups(record, _read(paths, labels))
    made_by = _joined_record(made, joined, record, target) if same else None
    with atomic_path(target) as temporary:
        formats.write_segmentation(temporary, joined.segmentation)
        # Cut off anywhere, a record never stands beside another label map than its own.
        remove(target)
        if made_by is not None:
            write_record(target, made_by)
        elif read_record(target) is not None:
            remove(record_path(target))
    return joined


def _joined_record(made: Sequence[ResultRecord], joined: Joined, groups: SliceGroups, target: Path) -> ResultRecord:
    return replace(
        made[0],
        case=formats.image_stem(target),
        volumes_ml={finding.label.name: round(finding.value, 3) for finding in volumes_ml(joined.segmentation)},
        series_uid=groups.series_uid,
        seconds=sum(one.seconds for one in made),
        recipe="",
    )


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
