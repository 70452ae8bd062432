"""Scans and segmentations of any kind from disk, with what they measure and their structures' names."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from delineate import formats
from delineate.dataset import Case, open_dataset, read_labels
from delineate.errors import DatasetError, DelineateError, InputError, UnreadableImage
from delineate.formats.dicom.headers import is_dicom
from delineate.formats.dicom_results.rtstruct import read_rtstruct
from delineate.formats.dicom_results.seg import read_seg
from delineate.formats.dicom_results.seg_placing import seg_on_grid
from delineate.formats.dicom_results.structure_sets import labels_from
from delineate.formats.nifti import is_nifti_name
from delineate.formats.nrrd_files import is_nrrd_name, read_nrrd
from delineate.geometry import Grid
from delineate.labels import LabelSet, label_set
from delineate.volume import Kind, Segmentation, Source, Volume, align, with_absent
from delineate.workflow.results import StandingVariants, read_record, read_result, standing_variants

RTSTRUCT = "RTSTRUCT"
_AIR_HU, _BONE_HU = -500.0, 200.0


def read_any_segmentation(path: Path, *, labels: LabelSet | None = None, grid: Grid | None = None) -> Segmentation:
    """A NIfTI label map, an NRRD file, a DICOM SEG or an RTSTRUCT; on `grid`, if it is given: that of the scan.

    Names are those that a DICOM object says itself, else `labels`, else what NRRD says or what predict wrote beside the
    file, else those of a dataset.json near it, else the values. Raises `InputError` for an RTSTRUCT without a grid,
    `GeometryMismatch` for voxels that are not the grid's: nothing is resampled; and what the readers raise.
    """
    if is_nrrd_name(path):
        return _placed(read_nrrd(path, labels), grid)
    if not path.is_file() or not is_dicom(path):
        found = _named(path, labels)
        return _placed(found, grid)
    if modality(path) == RTSTRUCT:
        if grid is None:
            raise InputError(
                "contours have no voxels of their own", path=path, remedy="Give the scan that they were drawn on."
            )
        return labels_from(read_rtstruct(path), grid).segmentation
    seg = read_seg(path)
    return seg.segmentation if grid is None else seg_on_grid(seg, grid)


@dataclass(frozen=True, slots=True, eq=False)
class OtherResults:
    """Further segmentations of a scan. `kind`: what they are, "" where that is not known, e.g. "5 folds"; `remarks`:
    sentences about what is not there."""

    segmentations: tuple[Segmentation, ...] = ()
    kind: str = ""
    remarks: tuple[str, ...] = ()

    @property
    def over(self) -> str:
        """What the first result and they are together."""
        return f"the result and its {self.kind}" if self.kind else ""


def others_of(
    result: Path, given: Sequence[Path] = (), *, own: bool = True, labels: LabelSet | None, grid: Grid
) -> OtherResults:
    """Other results for the scan of a result, on its grid: those `given`, else its `own`: by `predict --variants`.

    If some of its own are gone, that is a remark, and none is read: over some of the folds there is no range over all.
    Raises what `read_any_segmentation` raises.
    """
    standing = standing_variants(result, read_record(result)) if own and not given else StandingVariants()
    if standing.lost:
        count = standing.lost + len(standing.paths)
        remark = f"{standing.lost} of the {count} variants of this result are gone or belong to another: no ranges"
        return OtherResults(remarks=(remark,))
    found = [read_any_segmentation(path, labels=labels, grid=grid) for path in given or standing.paths]
    return OtherResults(tuple(found), standing.kind)


def read_scan(path: Path, kind: Kind | None = None) -> Volume:
    """A scan of one channel. What a NIfTI file's numbers measure is `kind`, else what a dataset.json near it says, else
    CT where there is both air and bone in Hounsfield units; else it stays open, and with it the numbers' unit."""
    if not is_nifti_name(path):
        return formats.read_volume(path)
    known = kind or kind_near(path)
    volume = formats.read_volume(path, kind=known or Kind.OTHER)
    if known is not None:
        return volume
    is_ct = bool((volume.array <= _AIR_HU).any() and (volume.array >= _BONE_HU).any())
    return replace(volume, kind=Kind.CT) if is_ct else volume


def kind_near(path: Path) -> Kind | None:
    """Of the first channel of the dataset that a file lies in."""
    with suppress(DatasetError):
        if (path.parent.parent / "dataset.json").is_file():
            return open_dataset(path.parent.parent).kinds[0]
    return None


def read_image(case: Case, kinds: Sequence[Kind]) -> Volume:
    """A case's scan, with room for channels that it lacks. Raises what reading raises."""
    kind = next((kind for n, kind in enumerate(kinds) if n not in case.absent), Kind.OTHER)
    return with_absent(formats.read_channels(case.images, kind=kind), case.absent)


def read_case(case: Case, labels: LabelSet, kinds: Sequence[Kind]) -> tuple[Volume, Segmentation | None]:
    """A case's scan and reference. Raises what reading raises, naming the case."""
    try:
        image = read_image(case, kinds)
        reference = None if case.reference is None else formats.read_segmentation(case.reference, labels)
    except DelineateError as error:
        raise error.in_case(case.id) from error
    return image, reference


def modality(path: Path) -> str:
    """Of a DICOM object, from its header. Raises `UnreadableImage` for a file that has none."""
    import pydicom

    try:
        return str(pydicom.dcmread(path, stop_before_pixels=True, specific_tags=["Modality"]).get("Modality", ""))
    except (OSError, pydicom.errors.InvalidDicomError) as error:
        raise UnreadableImage("not a DICOM object", got=str(error)[:200], path=path) from error


def labels_at(path: Path | None) -> LabelSet | None:
    """The structures of a dataset.json, None for None."""
    return None if path is None else read_labels(path)


def _named(path: Path, labels: LabelSet | None) -> Segmentation:
    record = read_record(path)
    if record is not None:
        return replace(read_result(path, record, labels), author=record.model)
    known = labels or labels_near(path)
    if known is not None:
        return formats.read_segmentation(path, known)
    array, grid = formats.read_label_values(path)
    values = [int(value) for value in np.unique(array) if value]
    return Segmentation(array, grid, label_set({value: f"value {value}" for value in values}), Source(path=path))


def labels_near(path: Path) -> LabelSet | None:
    """What a dataset.json beside a file, or in the folder above, says of labels; None if there is none."""
    for folder in (path.parent, path.parent.parent):
        if (folder / "dataset.json").is_file():
            with suppress(DatasetError):
                return read_labels(folder)
    return None


def _placed(segmentation: Segmentation, grid: Grid | None) -> Segmentation:
    return segmentation if grid is None else align(segmentation, grid)
