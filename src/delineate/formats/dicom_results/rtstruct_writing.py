"""Segmentations out as DICOM RT Structure Sets (PS3.3 A.19.3): closed contours on the slices of the series they mark.

Implicit VR little endian, as planning systems write it: in explicit VR a contour could not hold more than 65,534 bytes.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from delineate.errors import ExportError
from delineate.files import atomic_path
from delineate.formats.dicom.headers import first_value, number, quiet
from delineate.formats.dicom.series import one_volume
from delineate.formats.dicom.slices import Slice
from delineate.formats.dicom.stacks import Stack
from delineate.formats.dicom_results.sources import MANUFACTURER, check_names, stamp
from delineate.geometry import FloatArray, Grid, aligned, axis_change, change_axes, index_to_world
from delineate.labels import Code, Label
from delineate.volume import Segmentation, change_array_axes

if TYPE_CHECKING:
    from pydicom import Dataset

_OF_THE_PATIENT_AND_STUDY = (
    "PatientName",
    "PatientID",
    "IssuerOfPatientID",
    "PatientBirthDate",
    "PatientSex",
    "PatientAge",
    "PatientSize",
    "PatientWeight",
    "PatientIdentityRemoved",
    "DeidentificationMethod",
    "DeidentificationMethodCodeSequence",
    "StudyInstanceUID",
    "StudyDate",
    "StudyTime",
    "StudyID",
    "StudyDescription",
    "AccessionNumber",
    "ReferringPhysicianName",
    "PositionReferenceIndicator",
)
_MAY_BE_EMPTY = (  # Type 2: present in any case
    "PatientName",
    "PatientID",
    "PatientBirthDate",
    "PatientSex",
    "StudyDate",
    "StudyTime",
    "StudyID",
    "AccessionNumber",
    "ReferringPhysicianName",
    "PositionReferenceIndicator",
)
_LONGEST_LABEL = 16  # of value representation SH
_STUDY_CLASS = "1.2.840.10008.3.1.2.3.1"  # Detached Study Management, which PS3.3 C.8.8.5 asks for

_PLANE_TOLERANCE = 0.1  # of a slice: what rounded headers leave
_ANGLE_TOLERANCE = 2e-3  # cosine; 0.1 degrees
_DECIMALS = 4  # 0.1 micrometre; more where pixels are that small
_LARGEST_MM = 1e6  # farther out, ten digits would not hold the decimals
_TARGETS = re.compile(r"(?<![a-z])(gtv|ctv|ptv)(?![a-z])", re.IGNORECASE)


@dataclass(frozen=True, slots=True, eq=False)
class _Planes:
    """How the segmentation's planes lie on the source's slices.

    `grid`: its axes turned so that K runs across the slices. `slice_of`: the slice at each plane, None where none is.
    `shift_mm` (K, 3): from each plane of the grid into the plane of the nearest slice; where there is a slice at the
    plane, no more than rounding left between them.
    """

    path: Path
    grid: Grid
    slice_of: tuple[Slice | None, ...]
    shift_mm: FloatArray


def write_rtstruct(
    path: Path,
    segmentation: Segmentation,
    sources: Sequence[Path],
    *,
    label: str = "delineate",
    created: datetime | None = None,
    seed: str | None = None,
) -> None:
    """Write every label of a segmentation as an ROI, on the slices of the series in the files `sources`.

    Contours run along the edges of the pixels, so that they enclose exactly the voxels of the label; see
    `contour_tracing.mask_polygons` for holes and corners. Coordinates are rounded to 0.1 micrometre. The grid may have
    any axes, and be a part of the series' or have other pixels, as long as its planes lie on slices. A label without
    voxels becomes an ROI without contours (ContourSequence is Type 3), so that readers learn it was looked for.
    Patient, study and frame of reference are the source's. `label`: StructureSetLabel; `created`: its date and time,
    empty where None. With a `seed` the identifiers are a function of it, the series, the label and the author.
    Raises `ExportError` if the planes do not lie on the slices, for another or no frame of reference, or a text that
    DICOM cannot hold; and what `dicom.series.one_volume` raises.
    """
    _check_label(label, path)
    check_names(segmentation.labels, path)
    stack = one_volume(sources)
    header = _header(stack.slices[0].path)
    planes = _planes(segmentation.grid, stack, path)
    with quiet():  # what the source says of patient and study is kept, be it longer than the standard allows
        document = _document(header, stack, label, created)
        _identify(document, segmentation, stack, label=label, seed=seed)
        _add_rois(document, segmentation, planes, str(header.SOPClassUID))
        with atomic_path(path) as temporary:
            document.save_as(temporary, enforce_file_format=True)


def _check_label(label: str, path: Path) -> None:
    if not label.strip() or len(label) > _LONGEST_LABEL or "\\" in label or not label.isprintable():
        raise ExportError(
            "a label that DICOM cannot hold",
            expected=f"1 to {_LONGEST_LABEL} printable characters without backslash",
            got=repr(label[:80]),
            path=path,
            remedy="Choose another label.",
        )


def _header(path: Path) -> Dataset:
    import pydicom

    tags = ["SOPClassUID", "SpecificCharacterSet", "SeriesNumber", *_OF_THE_PATIENT_AND_STUDY]
    with quiet():
        return pydicom.dcmread(path, stop_before_pixels=True, specific_tags=list(tags), force=True)


def _planes(grid: Grid, stack: Stack, path: Path) -> _Planes:
    theirs = stack.slices[0].frame_of_reference_uid
    ours = grid.frame_of_reference_uid
    if not theirs or (ours is not None and ours != theirs):
        raise ExportError(
            "the series has no frame of reference" if not theirs else "the series is in another frame of reference",
            expected=ours,
            got=theirs or None,
            path=path,
            remedy="Give the files of the series that was segmented.",
        )
    normal = stack.slices[0].normal
    cosines = np.abs(grid.direction.T @ normal)
    across = int(np.argmax(cosines))
    if abs(cosines - np.eye(3)[across]).max() > _ANGLE_TOLERANCE:
        angle = np.degrees(np.arccos(min(1.0, cosines[across])))
        raise _misaligned(path, "a grid with an axis across the slices", f"{angle:.2f} degrees between them")
    turned = change_axes(grid, axis_change(grid.orientation, _across_last(grid.orientation, across)))
    exact = _same_voxels(turned, stack.grid)
    starts = index_to_world(exact, np.column_stack([np.zeros((exact.shape[2], 2)), np.arange(exact.shape[2])]))
    heights = starts @ normal
    slices = np.array([np.dot(one.position_mm, normal) for one in stack.slices])
    nearest = np.abs(heights[:, np.newaxis] - slices).argmin(axis=1)
    away = slices[nearest] - heights
    tolerance_mm = _PLANE_TOLERANCE * min(exact.spacing_mm[2], stack.grid.spacing_mm[2])
    slice_of = tuple(
        stack.slices[n] if abs(distance) <= tolerance_mm else None for n, distance in zip(nearest, away, strict=True)
    )
    return _Planes(path, exact, slice_of, away[:, np.newaxis] * normal)


def _across_last(orientation: str, axis: int) -> str:
    """The orientation code with one axis moved to the end."""
    return orientation[:axis] + orientation[axis + 1 :] + orientation[axis]


def _same_voxels(grid: Grid, other: Grid) -> Grid:
    """The other grid on the first one's axes if both are one but for rounding, else the first."""
    turned = change_axes(other, axis_change(other.orientation, grid.orientation))
    return turned if aligned(grid, turned) else grid


def _misaligned(path: Path, expected: str, got: str) -> ExportError:
    return ExportError(
        "the segmentation does not lie on the slices of the series",
        expected=expected,
        got=got,
        path=path,
        remedy="Resample it onto the grid of the series, or give the files of the series that was segmented.",
    )


def _document(header: Dataset, stack: Stack, label: str, created: datetime | None) -> Dataset:
    """All but the regions."""
    from importlib.metadata import version

    from pydicom import Dataset, FileMetaDataset
    from pydicom.uid import ImplicitVRLittleEndian, RTStructureSetStorage

    document = Dataset()
    document.SpecificCharacterSet = "ISO_IR 192"
    document.SOPClassUID = RTStructureSetStorage
    for keyword in _OF_THE_PATIENT_AND_STUDY:
        value = first_value(header, keyword)
        if value is not None or keyword in _MAY_BE_EMPTY:
            setattr(document, keyword, value)
    document.Modality = "RTSTRUCT"
    document.SeriesNumber = 3000 + int(number(header, "SeriesNumber") or 0)
    document.InstanceNumber = 1
    document.OperatorsName = None
    document.SeriesDescription = label
    document.Manufacturer = document.ManufacturerModelName = MANUFACTURER
    document.SoftwareVersions = version("delineate")
    document.FrameOfReferenceUID = stack.slices[0].frame_of_reference_uid
    document.StructureSetLabel = label
    document.StructureSetDate = document.StructureSetTime = None
    if created is not None:
        stamp(document, created)
    document.ReferencedFrameOfReferenceSequence = [_referenced(stack, str(header.SOPClassUID))]
    document.ApprovalStatus = "UNAPPROVED"
    document.file_meta = FileMetaDataset()
    document.file_meta.MediaStorageSOPClassUID = RTStructureSetStorage
    document.file_meta.TransferSyntaxUID = ImplicitVRLittleEndian
    return document


def _referenced(stack: Stack, sop_class: str) -> Dataset:
    """Frame of reference, study, series and images (PS3.3 C.8.8.5)."""
    from pydicom import Dataset

    first = stack.slices[0]
    frame, study, series = Dataset(), Dataset(), Dataset()
    series.SeriesInstanceUID = first.series_uid
    whole = {one.instance_uid: one for one in stack.slices}
    series.ContourImageSequence = [_image(sop_class, uid) for uid in whole]
    study.ReferencedSOPClassUID, study.ReferencedSOPInstanceUID = _STUDY_CLASS, first.study_uid
    study.RTReferencedSeriesSequence = [series]
    frame.FrameOfReferenceUID = first.frame_of_reference_uid
    frame.RTReferencedStudySequence = [study]
    return frame


def _image(sop_class: str, instance_uid: str, frame: int | None = None) -> Dataset:
    from pydicom import Dataset

    image = Dataset()
    image.ReferencedSOPClassUID, image.ReferencedSOPInstanceUID = sop_class, instance_uid
    if frame is not None:
        image.ReferencedFrameNumber = frame
    return image


def _identify(document: Dataset, segmentation: Segmentation, stack: Stack, *, label: str, seed: str | None) -> None:
    from pydicom.uid import generate_uid

    origin = [stack.slices[0].series_uid, label, segmentation.author or "", *segmentation.labels.names]

    def uid(what: str) -> str:
        return str(generate_uid(entropy_srcs=None if seed is None else [seed, what, *origin]))

    document.SeriesInstanceUID, document.SOPInstanceUID = uid("structure sets"), uid("structure set")
    document.file_meta.MediaStorageSOPInstanceUID = document.SOPInstanceUID


def _add_rois(document: Dataset, segmentation: Segmentation, planes: _Planes, sop_class: str) -> None:
    described, drawn, observed = [], [], []
    for roi_number, (label, mask) in enumerate(_masks(segmentation, planes.grid), start=1):
        described.append(_described(roi_number, label, segmentation.author, document.FrameOfReferenceUID))
        drawn.append(_drawn(roi_number, label, list(_contours(mask, planes, label, sop_class)), planes.grid))
        observed.append(_observed(roi_number, label))
    document.StructureSetROISequence, document.ROIContourSequence = described, drawn
    document.RTROIObservationsSequence = observed


def _masks(segmentation: Segmentation, grid: Grid) -> Iterator[tuple[Label, npt.NDArray[np.bool_]]]:
    change = axis_change(segmentation.grid.orientation, grid.orientation)
    array = change_array_axes(segmentation.array, change)
    for n, label in enumerate(segmentation.labels):
        yield label, array[n] if segmentation.labels.overlaps else array == label.value


def _described(roi_number: int, label: Label, author: str | None, frame_of_reference_uid: str) -> Dataset:
    from pydicom import Dataset

    item = Dataset()
    item.ROINumber, item.ROIName = roi_number, label.name
    item.ReferencedFrameOfReferenceUID = frame_of_reference_uid
    item.ROIGenerationAlgorithm = "AUTOMATIC"
    if author:
        item.ROIDescription = f"by {author}"[:1024]
    return item


def _observed(roi_number: int, label: Label) -> Dataset:
    from pydicom import Dataset

    item = Dataset()
    item.ObservationNumber = item.ReferencedROINumber = roi_number
    target = _TARGETS.search(label.name)
    item.RTROIInterpretedType = target.group(1).upper() if target else "ORGAN"
    item.ROIInterpreter = None
    if label.code is not None:
        item.RTROIIdentificationCodeSequence = [_coded(label.code)]
    return item


def _coded(code: Code) -> Dataset:
    from pydicom import Dataset

    item = Dataset()
    setattr(item, "CodeValue" if len(code.value) <= 16 else "LongCodeValue", code.value)
    item.CodingSchemeDesignator, item.CodeMeaning = code.scheme, code.meaning[:64]
    return item


def _drawn(roi_number: int, label: Label, contours: Sequence[Dataset], grid: Grid) -> Dataset:
    from pydicom import Dataset

    item = Dataset()
    item.ROIDisplayColor = list(label.colour)
    item.SourcePixelPlanesCharacteristicsSequence = [_pixel_planes(grid)]
    if contours:
        item.ContourSequence = list(contours)
    item.ReferencedROINumber = roi_number
    return item


def _pixel_planes(grid: Grid) -> Dataset:
    """The planes that the contours were made from: one of them without contours is a gap (PS3.3 C.8.8.6.4).

    Without it, a reader takes contours on every second slice for sparsely drawn ones, and fills in between.
    """
    from pydicom import Dataset
    from pydicom.valuerep import format_number_as_ds

    columns, rows, frames = grid.shape
    between_columns, between_rows, between_frames = grid.spacing_mm
    # Frames follow the normal, which the grid's axis K does not where it is left-handed.
    first = frames - 1 if np.linalg.det(grid.affine[:3, :3]) < 0 else 0
    directions = grid.direction[:, :2].T.reshape(-1)
    item = Dataset()
    item.PixelSpacing = [format_number_as_ds(between_rows), format_number_as_ds(between_columns)]
    item.SpacingBetweenSlices = format_number_as_ds(between_frames)
    item.ImageOrientationPatient = [format_number_as_ds(value) for value in directions.tolist()]
    item.ImagePositionPatient = [format_number_as_ds(x) for x in index_to_world(grid, (0, 0, first)).tolist()]
    item.NumberOfFrames, item.Rows, item.Columns = frames, rows, columns
    return item


def _contours(mask: npt.NDArray[np.bool_], planes: _Planes, label: Label, sop_class: str) -> Iterator[Dataset]:
    from delineate.formats.dicom_results.contour_tracing import mask_polygons

    rows = np.flatnonzero(mask.any(axis=(1, 2)))
    columns = np.flatnonzero(mask.any(axis=(0, 2)))
    if not rows.size:
        return
    corner = np.array([rows[0], columns[0]])
    part = mask[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    for k in np.flatnonzero(part.any(axis=(0, 1))).tolist():
        slice_ = planes.slice_of[k]
        if slice_ is None:
            away_mm = float(np.linalg.norm(planes.shift_mm[k]))
            got = f"{away_mm:.3g} mm between a plane of {label.name!r} and the nearest slice"
            raise _misaligned(planes.path, "planes on slices", got)
        for polygon in mask_polygons(part[:, :, k]):
            index = np.column_stack([polygon + corner, np.full(len(polygon), k)])
            yield _contour(index_to_world(planes.grid, index) + planes.shift_mm[k], planes.grid, slice_, sop_class)


def _contour(points_mm: FloatArray, grid: Grid, slice_: Slice, sop_class: str) -> Dataset:
    from pydicom import Dataset
    from pydicom.charset import default_encoding
    from pydicom.dataelem import RawDataElement
    from pydicom.tag import Tag

    item = Dataset()
    frame = slice_.frame + 1 if slice_.frames > 1 else None
    item.ContourImageSequence = [_image(sop_class, slice_.instance_uid, frame)]
    item.ContourGeometricType = "CLOSED_PLANAR"
    item.NumberOfContourPoints = len(points_mm)
    tag = Tag("ContourData")
    data = _decimals(points_mm, min(grid.spacing_mm))
    # As bytes, said to be encoded as the file will be: pydicom would make an object of every number.
    item[tag] = RawDataElement(tag, "DS", len(data), data, 0, True, True)
    item.set_original_encoding(is_implicit_vr=True, is_little_endian=True, character_encoding=default_encoding)
    return item


def _decimals(points_mm: FloatArray, smallest_mm: float) -> bytes:
    """Decimal strings of at most 16 characters, separated and padded to even length (PS3.5 6.2)."""
    if np.abs(points_mm).max() >= _LARGEST_MM:
        raise ExportError("contours too far from the origin", expected=f"within {_LARGEST_MM:g} mm")
    places = max(_DECIMALS, 3 - int(np.floor(np.log10(smallest_mm))))
    values = (np.round(points_mm, places) + 0.0).reshape(-1)  # no negative zeros
    text = "\\".join(["%.10g"] * len(values)) % tuple(values.tolist())
    return (text + " " * (len(text) % 2)).encode()
