"""DICOM RT Structure Sets in: the contours of regions, and their voxels on a grid (PS3.3 A.19.3, C.8.8.5, C.8.8.6)."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from delineate.errors import DelineateError, UnreadableImage
from delineate.formats.dicom.headers import first_value, number, quiet, read_header, text
from delineate.formats.dicom_results.contours import Contour
from delineate.formats.dicom_results.structure_sets import Roi, SkippedContour, StructureSet
from delineate.geometry import FloatArray
from delineate.labels import Code, Colour

if TYPE_CHECKING:
    from pydicom import Dataset

CLOSED = ("CLOSED_PLANAR", "CLOSEDPLANAR_XOR")
"""Geometric types that enclose an area; others are listed and left out."""

_UID = re.compile(r"[0-9]+(\.[0-9]+)*")
_OF_NUMBERS = b"0123456789+-.eE\\ \0"


def read_rtstruct(path: Path) -> StructureSet:
    """The structure set in a file.

    POINT and open contours, and those of fewer than three points, are listed in `skipped`.
    Raises `UnreadableImage` for a file that is no RT Structure Set, is damaged or cut off, or has contours whose
    coordinates are no triples of finite numbers, or not as many as the file itself says.
    """
    with quiet():
        dataset = _dataset(path)
        try:
            return _structure_set(dataset, path)
        except DelineateError:
            raise
        # Values are parsed when they are asked for, and damaged ones end in almost any exception.
        except Exception as error:
            raise _damaged(path, str(error)[:200] or type(error).__name__) from error


def _dataset(path: Path) -> Dataset:
    import pydicom

    header, _ = read_header(path)
    modality = text(header, "Modality")
    if modality != "RTSTRUCT":
        raise UnreadableImage(
            "not an RT Structure Set", expected="modality RTSTRUCT", got=modality or "no modality", path=path
        )
    try:
        return pydicom.dcmread(path, force=True)
    # A damaged file ends in almost any exception inside pydicom.
    except Exception as error:
        raise _damaged(path, str(error)[:200] or type(error).__name__) from error


def _damaged(path: Path, what: str) -> UnreadableImage:
    return UnreadableImage("a damaged RT Structure Set", got=what, path=path, remedy="Fetch or export the file again.")


class _Notes:
    """What is found missing while one file is read."""

    def __init__(self) -> None:
        self.problems: list[str] = []
        self.skipped: list[SkippedContour] = []

    def uid(self, dataset: Dataset, keyword: str, what: str) -> str | None:
        found = text(dataset, keyword)
        if _UID.fullmatch(found) and len(found) <= 64:
            return found
        self.problems.append(f"{what}: {f'no valid UID {found[:64]!r}' if found else 'missing'}")
        return None


def _structure_set(dataset: Dataset, path: Path) -> StructureSet:
    for keyword in ("StructureSetROISequence", "ROIContourSequence"):
        if keyword not in dataset:  # Type 1: without it, the file was cut off
            raise _damaged(path, f"no {keyword}")
    notes = _Notes()
    frames, studies, series, instances = _references(dataset, notes)
    rois = _rois(dataset, notes, path)
    frames += [roi.frame_of_reference_uid for roi in rois]
    instances += [contour.instance_uid for roi in rois for contour in roi.contours]
    return StructureSet(
        rois,
        text(dataset, "StructureSetLabel"),
        notes.uid(dataset, "SOPInstanceUID", "SOP instance"),
        _distinct(frames),
        _distinct(studies)[0] if len(_distinct(studies)) == 1 else None,
        _distinct(series),
        _distinct(instances),
        tuple(notes.skipped),
        tuple(dict.fromkeys(notes.problems)),
        path,
    )


def _distinct(uids: Sequence[str | None]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(uid for uid in uids if uid is not None))


_References = tuple[list[str | None], list[str | None], list[str | None], list[str | None]]


def _references(dataset: Dataset, notes: _Notes) -> _References:
    frames: list[str | None] = []
    studies: list[str | None] = []
    series: list[str | None] = []
    instances: list[str | None] = []
    for frame in _items(dataset, "ReferencedFrameOfReferenceSequence"):
        frames.append(notes.uid(frame, "FrameOfReferenceUID", "referenced frame of reference"))
        for study in _items(frame, "RTReferencedStudySequence"):
            studies.append(notes.uid(study, "ReferencedSOPInstanceUID", "referenced study"))
            for one in _items(study, "RTReferencedSeriesSequence"):
                series.append(notes.uid(one, "SeriesInstanceUID", "referenced series"))
                images = _items(one, "ContourImageSequence")
                instances += [notes.uid(image, "ReferencedSOPInstanceUID", "referenced image") for image in images]
    if not series:
        notes.problems.append("referenced series: missing")
    return frames, studies, series, instances


def _items(dataset: Dataset, keyword: str) -> list[Dataset]:
    found: Any = dataset.get(keyword)
    return list(found or [])


def _rois(dataset: Dataset, notes: _Notes, path: Path) -> tuple[Roi, ...]:
    described = _by_number(dataset, "StructureSetROISequence", "ROINumber", path)
    observed = _by_number(dataset, "RTROIObservationsSequence", "ReferencedROINumber", path)
    drawn = _by_number(dataset, "ROIContourSequence", "ReferencedROINumber", path)
    for roi_number, items in described.items():
        if len(items) > 1:
            raise _damaged(path, f"{len(items)} ROIs of number {roi_number}")
    for roi_number in drawn.keys() - described.keys():
        raise _damaged(path, f"contours of ROI {roi_number}, which is not described")
    return tuple(
        _roi(items[0], drawn.get(roi_number, []), observed.get(roi_number, []), notes, path)
        for roi_number, items in described.items()
    )


def _by_number(dataset: Dataset, sequence: str, keyword: str, path: Path) -> dict[int, list[Dataset]]:
    found: dict[int, list[Dataset]] = {}
    for item in _items(dataset, sequence):
        value = number(item, keyword)
        if value is None or value != int(value):
            raise _damaged(path, f"an item of {sequence} without {keyword}")
        found.setdefault(int(value), []).append(item)
    return found


def _roi(described: Dataset, drawn: Sequence[Dataset], observed: Sequence[Dataset], notes: _Notes, path: Path) -> Roi:
    roi_number = int(described.ROINumber)
    closed: list[Contour] = []
    items = [item for part in drawn for item in _items(part, "ContourSequence")]
    for position, item in enumerate(items, start=1):
        reason = _open_reason(item)
        if reason:
            notes.skipped.append(SkippedContour(roi_number, position, reason))
        else:
            closed.append(_contour(item, notes, roi_number, position, path))
    return Roi(
        roi_number,
        _joined_text(described, "ROIName"),
        tuple(closed),
        _first(_colour(part) for part in drawn),
        _first(_code(part) for part in observed),
        next((found for part in observed if (found := text(part, "RTROIInterpretedType"))), ""),
        text(described, "ROIGenerationAlgorithm"),
        notes.uid(described, "ReferencedFrameOfReferenceUID", f"frame of reference of ROI {roi_number}"),
        _first(_plane_spacing_mm(part) for part in drawn),
    )


def _first(found: Iterable[Any]) -> Any:
    return next((one for one in found if one is not None), None)


def _joined_text(dataset: Dataset, keyword: str) -> str:
    value = first_value(dataset, keyword)
    # A backslash separates values in DICOM, but some systems write it within a name.
    parts = [value] if isinstance(value, str) or value is None else list(value)
    return "\\".join(str(part) for part in parts if part is not None).strip("\0 ")


def _colour(dataset: Dataset) -> Colour | None:
    value = first_value(dataset, "ROIDisplayColor")
    if value is None or isinstance(value, str) or len(list(value)) != 3:
        return None
    red, green, blue = (int(part) for part in value)
    return (red, green, blue) if all(0 <= part <= 255 for part in (red, green, blue)) else None


def _plane_spacing_mm(dataset: Dataset) -> float | None:
    for planes in _items(dataset, "SourcePixelPlanesCharacteristicsSequence"):
        spacing = number(planes, "SpacingBetweenSlices")
        if spacing is not None and 0 < spacing < np.inf:
            return spacing
    return None


def _code(dataset: Dataset) -> Code | None:
    for item in _items(dataset, "RTROIIdentificationCodeSequence"):
        value, scheme = text(item, "CodeValue"), text(item, "CodingSchemeDesignator")
        if value and scheme:
            return Code(value, scheme, text(item, "CodeMeaning"))
    return None


def _open_reason(item: Dataset) -> str | None:
    kind = text(item, "ContourGeometricType")
    if kind not in CLOSED:
        return f"geometric type {kind or 'missing'}"
    raw = _raw(item, "ContourData")
    if not raw.strip(b"\0 "):
        return "no points"
    points = raw.count(b"\\") // 3 + 1
    return f"{points} point(s) enclose no area" if points < 3 and not (raw.count(b"\\") + 1) % 3 else None


def _raw(item: Dataset, keyword: str) -> bytes:
    """The bytes as they are in the file: a million decimal strings take pydicom minutes."""
    if keyword not in item:
        return b""
    value = item.get_item(keyword).value
    if value is None or isinstance(value, bytes):
        return value or b""
    parts = [value] if isinstance(value, (str, float, int)) else list(value)
    return "\\".join(str(part) for part in parts).encode()


def _contour(item: Dataset, notes: _Notes, roi_number: int, position: int, path: Path) -> Contour:
    what = f"contour {position} of ROI {roi_number}"
    points = _points(_raw(item, "ContourData"), what, path)
    claimed = number(item, "NumberOfContourPoints")
    if claimed is not None and claimed != len(points):
        raise _damaged(path, f"{what} has {len(points)} points, and says {claimed:g}")
    images = _items(item, "ContourImageSequence")
    uid = notes.uid(images[0], "ReferencedSOPInstanceUID", f"images of ROI {roi_number}") if images else None
    return Contour(points, text(item, "ContourGeometricType"), uid)


def _points(raw: bytes, what: str, path: Path) -> FloatArray:
    odd = raw.translate(None, delete=_OF_NUMBERS)
    if odd:
        raise _damaged(path, f"{what} has coordinates with {odd[:10]!r}")
    try:
        values = np.array(raw.replace(b"\0", b" ").split(b"\\")).astype(np.float64)
    except ValueError as error:
        raise _damaged(path, f"{what} has coordinates that are no numbers") from error
    if len(values) % 3 or not np.isfinite(values).all():
        raise _damaged(path, f"{what} has {len(values)} coordinates, which are no triples of finite numbers")
    return values.reshape(-1, 3)
