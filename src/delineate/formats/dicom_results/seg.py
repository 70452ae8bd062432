"""DICOM Segmentation objects in: binary, fractional and label maps, as a Segmentation in their own geometry.

PS3.3 A.51 (Segmentation IOD), A.83 (Label Map Segmentation IOD) and C.8.20 (Segmentation modules).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from delineate.errors import DelineateError, LabelError, ResourceError, UnreadableImage
from delineate.formats.dicom.headers import first_value, number, quiet, text
from delineate.formats.dicom_results.seg_frames import Layout, items, iterate_pixels, read_layout
from delineate.labels import Code, Label, LabelSet, label_set
from delineate.volume import Array, Segmentation, Source

if TYPE_CHECKING:
    from pydicom import Dataset

SEGMENTATION_STORAGE = "1.2.840.10008.5.1.4.1.1.66.4"
LABEL_MAP_STORAGE = "1.2.840.10008.5.1.4.1.1.66.7"

_BACKGROUND = ("125040", "DCM")


class Encoding(Enum):
    """How the voxels of a segmentation are stored (PS3.3 C.8.20.2, Segmentation Type)."""

    BINARY = "BINARY"  # one bitmap a segment; segments may overlap
    FRACTIONAL = "FRACTIONAL"  # one map of probability or occupancy a segment
    LABELMAP = "LABELMAP"  # one map of segment numbers


@dataclass(frozen=True, slots=True)
class Segment:
    """What the object says of one segment. `label.value` is its number in the object.

    `category`, `laterality`: its coded property category and side (`label.code` is its property type).
    `description`: free text. `tracking_id`, `tracking_uid`: its identity across objects. "" where nothing is said.
    """

    label: Label
    category: Code | None
    laterality: Code | None
    description: str
    algorithm_type: str
    algorithm_name: str
    algorithm_version: str
    tracking_id: str
    tracking_uid: str


@dataclass(frozen=True, slots=True)
class References:
    """What the segmentation was made on, by UID, as far as the object says. The images need not be there."""

    frame_of_reference_uid: str | None
    study_uid: str | None
    series_uids: tuple[str, ...]
    instance_uids: tuple[str, ...]


@dataclass(frozen=True, slots=True, eq=False)
class SegObject:
    """A segmentation as read. `segmentation`: on the grid of its own frames, from the first to the last one.

    `planes`: the indices along axis K that have frames; the others were left out and are empty.
    """

    segmentation: Segmentation
    segments: tuple[Segment, ...]
    encoding: Encoding
    references: References
    planes: tuple[int, ...]


def read_seg(path: Path, *, threshold: float = 0.5) -> SegObject:
    """Read a DICOM SEG. Label values are segment numbers, names are segment labels ("name #n" where several are equal).

    The array is a label map (I, J, K), or masks where voxels belong to several segments. A fractional segment has the
    voxels whose stored value is at least `threshold` (above 0, at most 1) of MaximumFractionalValue. In label maps,
    background and PixelPaddingValue become 0; a segment that is described but has no voxels stays among the labels.
    I runs along a row, J down a column, K along the normal (row x column); frames that were left out are empty.

    Raises `UnreadableImage` for what is no sound segmentation, `InconsistentSeries` for frames that are not parallel,
    evenly spaced planes in a patient (whole-slide and planar images among them), `LabelError` for voxels of segments
    that are not described, `ResourceError` for too little memory, `ValueError` for a threshold out of range.
    """
    if not 0 < threshold <= 1:
        raise ValueError(f"a threshold is above 0 and at most 1: {threshold}")
    with quiet(), _refusing(path):
        dataset = _dataset(path)
        encoding = _encoding(dataset, path)
        layout = read_layout(dataset, path)
        segments = _segments(dataset, path)
        if encoding is Encoding.LABELMAP:
            background = _background(dataset)
            segments = tuple(s for s in segments if s.label.value not in background)
            array: Array = _of_label_map(dataset, layout, segments, background, path)
            labels = LabelSet(tuple(segment.label for segment in segments))
        else:
            array, labels = _of_masks(dataset, layout, segments, _lowest(dataset, encoding, threshold, path), path)
        segmentation = Segmentation(array, layout.grid, labels, _source(dataset, path), _author(dataset))
        return SegObject(segmentation, segments, encoding, _references(dataset), layout.planes)


def read_segments(path: Path) -> tuple[Dataset, tuple[Segment, ...]]:
    """The header of a SEG object, and what it says of its segments. Raises `UnreadableImage` as `read_seg` does."""
    with quiet(), _refusing(path):
        dataset = _dataset(path, with_pixels=False)
        _encoding(dataset, path)
        return dataset, _segments(dataset, path)


@contextmanager
def _refusing(path: Path) -> Iterator[None]:
    try:
        yield
    except DelineateError:
        raise
    except MemoryError as error:
        raise ResourceError("not enough memory for the voxels", path=path) from error
    # Damaged headers end in almost any exception inside pydicom, also long after reading.
    except Exception as error:
        raise UnreadableImage("not a sound DICOM segmentation", got=str(error)[:200], path=path) from error


def _dataset(path: Path, *, with_pixels: bool = True) -> Dataset:
    import pydicom

    try:
        return pydicom.dcmread(path, stop_before_pixels=not with_pixels)
    except FileNotFoundError as error:
        raise UnreadableImage("there is no such file", path=path) from error
    except Exception as error:
        raise UnreadableImage("not a readable DICOM file", got=str(error)[:200], path=path) from error


def _encoding(dataset: Dataset, path: Path) -> Encoding:
    sop_class, kind = text(dataset, "SOPClassUID"), text(dataset, "SegmentationType")
    if sop_class not in (SEGMENTATION_STORAGE, LABEL_MAP_STORAGE):
        modality = text(dataset, "Modality") or "no modality"
        raise UnreadableImage("not a DICOM segmentation", expected="a SEG object", got=modality, path=path)
    if kind not in Encoding.__members__:
        raise UnreadableImage("an unknown SegmentationType", expected=list(Encoding.__members__), got=kind, path=path)
    return Encoding(kind)


def _segments(dataset: Dataset, path: Path) -> tuple[Segment, ...]:
    found = items(dataset, "SegmentSequence")
    numbers = [number(item, "SegmentNumber") for item in found]
    if not found or None in numbers:
        raise UnreadableImage("a segmentation that does not describe its segments", path=path)
    values = [int(n) for n in numbers if n is not None]
    names = [text(item, "SegmentLabel") or f"segment {value}" for item, value in zip(found, values, strict=True)]
    counts = Counter(names)
    names = [name if counts[name] == 1 else f"{name} #{value}" for name, value in zip(names, values, strict=True)]
    if len(set(values)) != len(values) or len(set(names)) != len(names) or not 0 <= min(values) <= max(values) < 2**16:
        raise LabelError("segment numbers or labels occur twice, or are out of range", got=values[:20], path=path)
    # Label sets start at 1; number 0 is the background of a label map, checked where its voxels are read.
    colours = {label.value - 1: label.colour for label in label_set({v + 1: str(v) for v in values})}
    return tuple(
        _segment(item, Label(value, name, _colour(item) or colours[value], _code(item, "SegmentedPropertyType")))
        for item, value, name in sorted(zip(found, values, names, strict=True), key=lambda one: one[1])
    )


def _segment(item: Dataset, label: Label) -> Segment:
    types = items(item, "SegmentedPropertyTypeCodeSequence")
    algorithms = items(item, "SegmentationAlgorithmIdentificationSequence")
    return Segment(
        label=label,
        category=_code(item, "SegmentedPropertyCategory"),
        laterality=_code(types[0], "SegmentedPropertyTypeModifier") if types else None,
        description=text(item, "SegmentDescription"),
        algorithm_type=text(item, "SegmentAlgorithmType"),
        algorithm_name=text(item, "SegmentAlgorithmName") or next((text(a, "AlgorithmName") for a in algorithms), ""),
        algorithm_version=next((text(a, "AlgorithmVersion") for a in algorithms), ""),
        tracking_id=text(item, "TrackingID"),
        tracking_uid=text(item, "TrackingUID"),
    )


def _code(item: Dataset, keyword: str) -> Code | None:
    found = items(item, f"{keyword}CodeSequence")
    if not found:
        return None
    value = next((v for v in (text(found[0], k) for k in ("CodeValue", "LongCodeValue", "URNCodeValue")) if v), "")
    return Code(value, text(found[0], "CodingSchemeDesignator"), text(found[0], "CodeMeaning")) if value else None


def _colour(item: Dataset) -> tuple[int, int, int] | None:
    from highdicom.color import CIELabColor

    value = first_value(item, "RecommendedDisplayCIELabValue")
    try:
        red, green, blue = CIELabColor.from_dicom_value([int(v) for v in value]).to_rgb()
    except (TypeError, ValueError):
        return None
    return int(red), int(green), int(blue)


def _background(dataset: Dataset) -> frozenset[int]:
    """Values of a label map that mean no structure: 0, unless it is described as one, and the padding value."""
    described = {int(number(item, "SegmentNumber") or 0): item for item in items(dataset, "SegmentSequence")}
    padding = number(dataset, "PixelPaddingValue")
    values = set() if padding is None else {int(padding)}
    code = _code(described[0], "SegmentedPropertyType") if 0 in described else None
    named = 0 in described and text(described[0], "SegmentLabel").lower() == "background"
    if 0 not in described or named or (code is not None and (code.value, code.scheme) == _BACKGROUND):
        values.add(0)
    return frozenset(values)


def _of_label_map(
    dataset: Dataset, layout: Layout, segments: Sequence[Segment], background: frozenset[int], path: Path
) -> Array:
    table = np.full(2**16, -1, dtype=np.int32)
    values = [segment.label.value for segment in segments]
    table[values] = values
    table[list(background)] = 0
    if 0 in values:
        raise LabelError("segment number 0 is a structure", expected="background", path=path)
    shape = (layout.grid.shape[2], layout.grid.shape[1], layout.grid.shape[0])
    array = np.zeros(shape, dtype=smallest_type(values))
    for frame, pixels in zip(layout.frames, iterate_pixels(dataset, layout, path), strict=True):
        found = table[pixels]
        if found.min() < 0:
            unknown = np.unique(pixels[found < 0])[:10].tolist()
            raise LabelError("voxels of segments that are not described", expected=values[:20], got=unknown, path=path)
        array[frame.plane] = found
    return array.transpose(2, 1, 0)


def _of_masks(
    dataset: Dataset, layout: Layout, segments: Sequence[Segment], lowest: float, path: Path
) -> tuple[Array, LabelSet]:
    """One label map where no voxel belongs to several segments, masks otherwise, whatever SegmentsOverlap says."""
    labels = tuple(segment.label for segment in segments)
    values = [label.value for label in labels]
    named = {frame.segment for frame in layout.frames if frame.segment is not None}
    unknown = sorted(named.difference(values))
    if unknown or 0 in values:
        raise LabelError("frames of segments that are not described", expected=values[:20], got=unknown[:10], path=path)
    shape = (layout.grid.shape[2], layout.grid.shape[1], layout.grid.shape[0])
    array: Array = np.zeros(shape, dtype=smallest_type(values))
    if _merge(array, dataset, layout, lowest, path):
        return array.transpose(2, 1, 0), LabelSet(labels)
    array = np.zeros((len(labels), *shape), dtype=bool)
    for frame, pixels in zip(layout.frames, iterate_pixels(dataset, layout, path), strict=True):
        np.greater_equal(pixels, lowest, out=array[values.index(int(frame.segment or 0)), frame.plane])
    return array.transpose(0, 3, 2, 1), LabelSet(labels, overlaps=True)


def _merge(array: Array, dataset: Dataset, layout: Layout, lowest: float, path: Path) -> bool:
    """Write the segments' numbers into a label map (K, J, I); False, and it is left half done, where they overlap."""
    for frame, pixels in zip(layout.frames, iterate_pixels(dataset, layout, path), strict=True):
        plane, mask = array[frame.plane], pixels >= lowest
        if np.logical_and(plane, mask).any():
            return False
        plane[mask] = frame.segment
    return True


def _lowest(dataset: Dataset, encoding: Encoding, threshold: float, path: Path) -> float:
    """The lowest stored value that belongs to a segment."""
    if encoding is Encoding.BINARY:
        return 1
    highest = number(dataset, "MaximumFractionalValue")
    if highest is None or highest <= 0:
        raise UnreadableImage("a fractional segmentation without MaximumFractionalValue", path=path)
    # PS3.3 C.8.20.2: probability and occupancy alike are the stored value divided by the maximum.
    return float(np.ceil(threshold * highest - 1e-6))


def smallest_type(values: Sequence[int]) -> type[np.unsignedinteger[Any]]:
    """The smaller of uint8 and uint16 that holds the values."""
    return np.uint8 if max((0, *values)) <= 255 else np.uint16


def _source(dataset: Dataset, path: Path) -> Source:
    study, series = (text(dataset, keyword) or None for keyword in ("StudyInstanceUID", "SeriesInstanceUID"))
    return Source(path, study, series, (text(dataset, "SOPInstanceUID"),))


def _author(dataset: Dataset) -> str | None:
    """The person, or the model that an algorithm identification names as this package writes it."""
    for segment in items(dataset, "SegmentSequence"):
        for algorithm in items(segment, "SegmentationAlgorithmIdentificationSequence"):
            parameters = text(algorithm, "AlgorithmParameters")
            if parameters.startswith("author="):
                return parameters.removeprefix("author=")
    return text(dataset, "ContentCreatorName") or None


def _references(dataset: Dataset) -> References:
    series = items(dataset, "ReferencedSeriesSequence")
    instances = [i for one in series for i in items(one, "ReferencedInstanceSequence")]
    if not instances:
        frames = items(dataset, "PerFrameFunctionalGroupsSequence")
        derivations = [d for frame in frames for d in items(frame, "DerivationImageSequence")]
        instances = [i for derivation in derivations for i in items(derivation, "SourceImageSequence")]
    uids = dict.fromkeys(text(instance, "ReferencedSOPInstanceUID") for instance in instances)
    return References(
        frame_of_reference_uid=text(dataset, "FrameOfReferenceUID") or None,
        study_uid=text(dataset, "StudyInstanceUID") or None,
        series_uids=tuple(text(one, "SeriesInstanceUID") for one in series),
        instance_uids=tuple(uid for uid in uids if uid),
    )
