"""DICOM RT Structure Sets in: the contours of regions, and their voxels on a grid (PS3.3 A.19.3, C.8.8.5, C.8.8.6)."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from delineate.errors import DelineateError, GeometryMismatch, LabelError, UnreadableImage
from delineate.formats.contours import Contour, ContourMask, contour_mask
from delineate.formats.dicom_headers import first_value, number, quiet, text
from delineate.geometry import FloatArray, Grid
from delineate.labels import Code, Colour, Label, LabelSet, label_set
from delineate.roi_names import RoiMatches, RoiTable, match_rois
from delineate.volume import Array, Segmentation, Source

if TYPE_CHECKING:
    from pydicom import Dataset

CLOSED = ("CLOSED_PLANAR", "CLOSEDPLANAR_XOR")
"""Geometric types that enclose an area; others are listed and left out."""

_UID = re.compile(r"[0-9]+(\.[0-9]+)*")
_OF_NUMBERS = b"0123456789+-.eE\\ \0"


@dataclass(frozen=True, slots=True, eq=False)
class Roi:
    """A region of interest. `contours` holds its closed contours only; it may be empty.

    `interpreted_type`: e.g. ORGAN, GTV, EXTERNAL (PS3.3 C.8.8.8.1), `algorithm`: AUTOMATIC, SEMIAUTOMATIC, MANUAL; ""
    where the file does not say.
    """

    number: int
    name: str
    contours: tuple[Contour, ...]
    colour: Colour | None = None
    code: Code | None = None
    interpreted_type: str = ""
    algorithm: str = ""
    frame_of_reference_uid: str | None = None


@dataclass(frozen=True, slots=True)
class SkippedContour:
    """A contour that encloses nothing that could be filled. `position`: its place in the ROI's sequence, from 1."""

    roi_number: int
    position: int
    reason: str


@dataclass(frozen=True, slots=True, eq=False)
class StructureSet:
    """What an RT Structure Set file says. References that are missing or no UIDs are left out and told in `problems`.

    `referenced_*`: the study, series and images that the contours were drawn on; whether those are there is not asked.
    """

    rois: tuple[Roi, ...]
    label: str
    instance_uid: str | None
    frame_of_reference_uids: tuple[str, ...]
    referenced_study_uid: str | None
    referenced_series_uids: tuple[str, ...]
    referenced_instance_uids: tuple[str, ...]
    skipped: tuple[SkippedContour, ...]
    problems: tuple[str, ...]
    path: Path

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(roi.name for roi in self.rois)

    def roi(self, key: int | str) -> Roi:
        """The ROI of that number or name. Raises `LabelError` if there is none, or several have the name."""
        found = [roi for roi in self.rois if key == (roi.number if isinstance(key, int) else roi.name)]
        if len(found) == 1:
            return found[0]
        raise LabelError(
            f"{len(found)} ROIs are called so" if found else "no such ROI",
            expected=f"one of {list(self.names)}",
            got=key,
            path=self.path,
            remedy=f"Choose by number: {[roi.number for roi in found]}." if found else None,
        )


@dataclass(frozen=True, slots=True, eq=False)
class RoiMask:
    """The voxels of one ROI on a grid."""

    roi: Roi
    voxels: ContourMask


@dataclass(frozen=True, slots=True, eq=False)
class ImportedRois:
    """A structure set as a segmentation, and what to tell about it.

    `masks`: the ROIs that became labels, in the order of `segmentation.labels` that they fill; `matches`: how names
    were mapped, None where no table was asked.
    """

    segmentation: Segmentation
    masks: tuple[RoiMask, ...]
    matches: RoiMatches | None = None


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


def rasterise(structure_set: StructureSet, grid: Grid, rois: Sequence[int | str] | None = None) -> tuple[RoiMask, ...]:
    """The voxels of ROIs, by number or name; of all without a choice. See `contours.contour_mask` for the rules.

    Raises `GeometryMismatch` if the grid is known to be in another frame of reference, or lies oblique to the contours,
    and `LabelError` for an unknown name or number.
    """
    chosen = structure_set.rois if rois is None else tuple(structure_set.roi(key) for key in rois)
    return tuple(_roi_mask(structure_set, roi, grid) for roi in chosen)


def labels_from(
    structure_set: StructureSet, grid: Grid, *, labels: LabelSet | None = None, table: RoiTable | None = None
) -> ImportedRois:
    """The structure set as a segmentation on `grid`.

    With `labels`, ROIs become labels by their names: through the table, or where they are the labels' own. Without,
    every ROI with closed contours becomes a label of its name and colour, valued from 1. Structures that overlap give
    masks (`labels.overlaps`), others a label map.
    Raises `LabelError` if nothing can be mapped, several ROIs map onto one label, or names occur twice;
    `GeometryMismatch` as `rasterise`, and if all contours lie outside the grid.
    """
    matches = None
    if labels is None:
        rois = [roi for roi in structure_set.rois if roi.contours]
        labels = _own_labels(rois, structure_set)
        pairs = list(zip(labels, rois, strict=True))
    else:
        matches = match_rois(structure_set.names, table) if table is not None else None
        mapped = {n: n for n in structure_set.names} if matches is None else matches.mapped
        pairs = _pairs(structure_set, labels, mapped)
    masks = [_roi_mask(structure_set, roi, grid) for _, roi in pairs]
    _check_inside(masks, grid, structure_set)
    values = [label.value for label, _ in pairs]
    array = None if labels.overlaps else _label_map(masks, values, grid)
    if array is None:
        labels = replace(labels, overlaps=True)
        array = _stacked(masks, values, labels, grid)
    source = Source(structure_set.path, structure_set.referenced_study_uid, _only(structure_set.referenced_series_uids))
    return ImportedRois(Segmentation(array, grid, labels, source), tuple(masks), matches)


def _roi_mask(structure_set: StructureSet, roi: Roi, grid: Grid) -> RoiMask:
    ours, theirs = grid.frame_of_reference_uid, roi.frame_of_reference_uid
    if ours is not None and theirs is not None and ours != theirs:
        raise GeometryMismatch(
            f"the contours of {roi.name!r} are in another frame of reference",
            expected=ours,
            got=theirs,
            path=structure_set.path,
            remedy="Take the series that they were drawn on, or one registered to it.",
        )
    try:
        return RoiMask(roi, contour_mask(roi.contours, grid))
    except GeometryMismatch as error:
        raise GeometryMismatch(
            f"{roi.name!r}: {error.problem}",
            expected=error.expected,
            got=error.got,
            path=structure_set.path,
            remedy=error.remedy,
        ) from error


def _own_labels(rois: Sequence[Roi], structure_set: StructureSet) -> LabelSet:
    names = [roi.name for roi in rois]
    twice = sorted({name for name in names if names.count(name) > 1})
    if not names or twice or "" in names:
        raise LabelError(
            "no ROI with closed contours" if not names else "ROIs that share a name, or have none",
            got=twice or names,
            path=structure_set.path,
            remedy="Name the ROIs in the planning system, or map them with a table.",
        )
    default = label_set(dict(enumerate(names, start=1)))
    pairs = zip(default, rois, strict=True)
    return LabelSet(tuple(replace(label, colour=roi.colour or label.colour, code=roi.code) for label, roi in pairs))


def _pairs(structure_set: StructureSet, labels: LabelSet, mapped: Mapping[str, str]) -> list[tuple[Label, Roi]]:
    pairs = []
    for label in labels:
        rois = [roi for roi in structure_set.rois if mapped.get(roi.name) == label.name]
        if len(rois) > 1:
            raise LabelError(
                f"several ROIs are mapped onto {label.name!r}",
                got=[roi.name for roi in rois],
                path=structure_set.path,
                remedy="Narrow the table down until one is left, or take the others out of the file.",
            )
        pairs += [(label, roi) for roi in rois]
    if pairs:
        return pairs
    raise LabelError(
        "no ROI is mapped onto a label",
        expected=f"one of {list(labels.names)}",
        got=list(structure_set.names),
        path=structure_set.path,
        remedy="Add rows to the table of ROI names.",
    )


def _check_inside(masks: Sequence[RoiMask], grid: Grid, structure_set: StructureSet) -> None:
    drawn = [mask for mask in masks if mask.roi.contours]
    if drawn and all(mask.voxels.outside >= 1.0 for mask in drawn):
        raise GeometryMismatch(
            "all contours lie outside the image",
            expected=f"contours within {grid.shape} voxels from {np.round(grid.origin_mm, 1).tolist()} mm",
            got=f"e.g. {np.round(drawn[0].roi.contours[0].points_mm[0], 1).tolist()} mm in {drawn[0].roi.name!r}",
            path=structure_set.path,
            remedy="Take the series that the contours were drawn on.",
        )


def _label_map(masks: Sequence[RoiMask], values: Sequence[int], grid: Grid) -> Array | None:
    """(I, J, K), or None where structures overlap."""
    array = np.zeros(grid.shape, dtype=np.uint8 if max(values, default=0) <= 255 else np.uint16)
    for mask, value in zip(masks, values, strict=True):
        if mask.voxels.box is not None:
            part = array[mask.voxels.box.slices]
            if part[mask.voxels.patch].any():
                return None
            part[mask.voxels.patch] = value
    return array


def _stacked(masks: Sequence[RoiMask], values: Sequence[int], labels: LabelSet, grid: Grid) -> Array:
    array = np.zeros((len(labels), *grid.shape), dtype=np.bool_)
    for mask, value in zip(masks, values, strict=True):
        if mask.voxels.box is not None:
            array[(labels.values.index(value), *mask.voxels.box.slices)] = mask.voxels.patch
    return array


def _only(uids: Sequence[str]) -> str | None:
    return uids[0] if len(uids) == 1 else None


def _dataset(path: Path) -> Dataset:
    import pydicom

    try:
        dataset = pydicom.dcmread(path)
    except FileNotFoundError as error:
        raise UnreadableImage("there is no such file", path=path) from error
    # A damaged header ends in almost any exception inside pydicom.
    except Exception as error:
        raise UnreadableImage("not a readable DICOM file", got=str(error)[:200], path=path) from error
    if text(dataset, "Modality") != "RTSTRUCT":
        raise UnreadableImage(
            "not an RT Structure Set",
            expected="modality RTSTRUCT",
            got=text(dataset, "Modality") or text(dataset, "SOPClassUID") or "none",
            path=path,
        )
    return dataset


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
        _only(_distinct(studies)),
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
            closed.append(_contour(item, notes, f"ROI {roi_number}, contour {position}", path))
    return Roi(
        roi_number,
        _joined_text(described, "ROIName"),
        tuple(closed),
        _first(_colour(part) for part in drawn),
        _first(_code(part) for part in observed),
        next((found for part in observed if (found := text(part, "RTROIInterpretedType"))), ""),
        text(described, "ROIGenerationAlgorithm"),
        notes.uid(described, "ReferencedFrameOfReferenceUID", f"frame of reference of ROI {roi_number}"),
    )


def _first(found: Iterator[Any]) -> Any:
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


def _contour(item: Dataset, notes: _Notes, what: str, path: Path) -> Contour:
    points = _points(_raw(item, "ContourData"), what, path)
    claimed = number(item, "NumberOfContourPoints")
    if claimed is not None and claimed != len(points):
        raise _damaged(path, f"{what} has {len(points)} points, and says {claimed:g}")
    images = _items(item, "ContourImageSequence")
    uid = notes.uid(images[0], "ReferencedSOPInstanceUID", f"image of {what}") if images else None
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
