"""A Segmentation out as a DICOM SEG object, tied by UID to the images it was made on.

PS3.3 A.51 (Segmentation IOD) and A.83 (Label Map Segmentation IOD); highdicom builds the object.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from delineate.errors import ExportError
from delineate.files import atomic_path
from delineate.formats.dicom.headers import number, quiet
from delineate.formats.dicom_results.seg import Encoding, smallest_type
from delineate.formats.dicom_results.seg_planes import Planes, planes_of
from delineate.formats.dicom_results.sources import (
    LONGEST_TEXT,
    MANUFACTURER,
    Sources,
    building,
    check_names,
    read_sources,
    stamp,
)
from delineate.labels import Code, Label, LabelSet
from delineate.terminology import PRIVATE_SCHEME, concept_of
from delineate.volume import Array, Segmentation

if TYPE_CHECKING:
    from pydicom import Dataset


class AlgorithmKind(Enum):
    """How structures were made (PS3.3 C.8.20.2, Segment Algorithm Type)."""

    AUTOMATIC = "AUTOMATIC"
    SEMIAUTOMATIC = "SEMIAUTOMATIC"  # an algorithm, with a person's help
    MANUAL = "MANUAL"


def own_version() -> str:
    """Of this package, as it was installed."""
    from importlib.metadata import version

    return version("delineate")


@dataclass(frozen=True, slots=True)
class Algorithm:
    """What made the structures. The segmentation's author is added: a model's digest, or the person for MANUAL.

    `at`: the date and time that the object is given, now where None.
    """

    name: str = "delineate"
    version: str = field(default_factory=own_version)
    kind: AlgorithmKind = AlgorithmKind.AUTOMATIC
    at: datetime | None = None


def write_seg(
    path: Path,
    segmentation: Segmentation,
    sources: Sequence[Path],
    *,
    encoding: Encoding = Encoding.BINARY,
    algorithm: Algorithm | None = None,
    description: str = "Segmentation",
) -> None:
    """Write one SEG object, atomically. `sources`: all images of the series that was segmented; pixels are not read.

    Every voxel keeps its place in the world, whatever order and direction the grid's axes have. On the series' own
    slices each frame refers to its slice and has its matrix; on another grid (straightened, resampled, cropped between
    pixels) the planes are written as they are, in the same frame of reference. Planes without voxels are left out.
    Structures are described also where they are empty. BINARY numbers segments 1..n in order of value, and keeps a
    different value as text in the segment's description; LABELMAP numbers them by their values.

    Images without a frame of reference (de-identified ones often lost it) get one for the object, made from their
    series' UID, if the planes are their slices.

    Raises `ExportError` for no structures, overlapping ones as LABELMAP, names that DICOM cannot hold, a sheared grid,
    another frame of reference than the sources' or none that says where the planes lie, and what `read_sources` raises;
    `ResourceError` for a full disk; `ValueError` for FRACTIONAL, as structures have no fractions.
    """
    if encoding is Encoding.FRACTIONAL:
        raise ValueError("structures have no fractions: write BINARY or LABELMAP")
    if not len(segmentation.labels):
        raise ExportError("a segmentation without structures", path=path)
    check_names(segmentation.labels, path)
    with quiet():
        found = read_sources(sources)
        planes = planes_of(segmentation, found.slices)
        _check_place(segmentation, planes, found, path)
        numbers = _numbers(segmentation.labels, encoding)
        pixels = _pixels(planes, segmentation.labels, numbers, encoding, path)
        author = segmentation.author
        algorithm = algorithm or Algorithm()
        with building(path):
            segments = [
                _segment(label, n, algorithm, author) for label, n in zip(segmentation.labels, numbers, strict=True)
            ]
            dataset = _object(found, planes, pixels, segments, encoding=encoding)
        if any(concept_of(label).type.scheme == PRIVATE_SCHEME for label in segmentation.labels):
            name_private_codes(dataset)
        _describe(dataset, description, author if algorithm.kind is AlgorithmKind.MANUAL else None)
        stamp(dataset, algorithm.at or datetime.now())
        with atomic_path(path) as temporary:
            dataset.save_as(temporary, enforce_file_format=True)


def coded(code: Code) -> Any:
    """A code in highdicom's type."""
    from highdicom.sr import CodedConcept

    return CodedConcept(code.value, code.scheme, code.meaning)


def _check_place(segmentation: Segmentation, planes: Planes, sources: Sources, path: Path) -> None:
    uid, expected = segmentation.grid.frame_of_reference_uid, sources.frame_of_reference_uid
    if expected is None and planes.on_slices:
        return  # the slices say where it lies
    if expected is None or uid not in (None, expected):
        raise ExportError(
            "the segmentation does not lie in its sources' frame of reference"
            if expected
            else "neither slices nor a frame of reference say where the segmentation lies",
            expected=expected or "planes that are slices, or images with FrameOfReferenceUID",
            got=uid,
            path=path,
            remedy="Give the images of the series that was segmented.",
        )


def _numbers(labels: LabelSet, encoding: Encoding) -> tuple[int, ...]:
    if encoding is Encoding.LABELMAP:
        if labels.values[-1] >= 2**16:
            raise ExportError("label values that do not fit into 16 bits", got=labels.values[-1])
        return labels.values
    return tuple(range(1, len(labels) + 1))


def _pixels(planes: Planes, labels: LabelSet, numbers: tuple[int, ...], encoding: Encoding, path: Path) -> Array:
    """(planes, rows, columns) of segment numbers; for overlapping masks (planes, rows, columns, segments) of bool."""
    if labels.overlaps:
        if encoding is Encoding.BINARY:
            return np.moveaxis(planes.array, 0, -1)
        if bool((planes.array.sum(axis=0, dtype=np.uint16) > 1).any()):
            raise ExportError(
                "overlapping structures do not fit into one label map", path=path, remedy="Write them as BINARY."
            )
        merged = np.zeros(planes.array.shape[1:], dtype=smallest_type(numbers))
        for mask, n in zip(planes.array, numbers, strict=True):
            merged[mask] = n
        return merged
    table = np.zeros(max(int(planes.array.max()), labels.values[-1]) + 1, dtype=smallest_type(numbers))
    table[list(labels.values)] = numbers
    # Every plane is gone through once for each segment: it must lie in one piece.
    return np.ascontiguousarray(table[planes.array])


def _segment(label: Label, n: int, algorithm: Algorithm, author: str | None) -> Any:
    import highdicom as hd
    from pydicom.sr.codedict import codes

    what = concept_of(label)
    identification = None
    if algorithm.kind is not AlgorithmKind.MANUAL:
        identification = hd.AlgorithmIdentificationSequence(
            name=algorithm.name,
            family=codes.DCM.ArtificialIntelligence,
            version=algorithm.version,
            parameters=None if author is None else {"author": author},
        )
    segment: Any = hd.seg.SegmentDescription(
        segment_number=n,
        segment_label=label.name,
        segmented_property_category=coded(what.category),
        segmented_property_type=coded(what.type),
        algorithm_type=algorithm.kind.value,
        algorithm_identification=identification,
        tracking_uid=hd.UID(),
        tracking_id=label.name,
        display_color=hd.color.CIELabColor.from_rgb(*label.colour),
    )
    if what.laterality is not None:
        kind = segment.SegmentedPropertyTypeCodeSequence[0]
        kind.SegmentedPropertyTypeModifierCodeSequence = [coded(what.laterality)]
    if n != label.value:
        segment.SegmentDescription = f"label value {label.value}"
    return segment


def _object(sources: Sources, planes: Planes, pixels: Array, segments: Sequence[Any], *, encoding: Encoding) -> Dataset:
    import highdicom as hd

    multi_frame = number(sources.first, "NumberOfFrames") is not None
    measures = hd.PixelMeasuresSequence(planes.spacing_mm, planes.between_planes_mm, planes.between_planes_mm)
    dataset: Dataset = hd.seg.Segmentation(
        source_images=sources.datasets[:1] if multi_frame else sources.datasets,
        further_source_images=sources.datasets[1:] if multi_frame else None,
        pixel_array=pixels,
        segmentation_type=encoding.value,
        segment_descriptions=segments,
        series_instance_uid=hd.UID(),
        series_number=1000 + int(number(sources.first, "SeriesNumber") or 0),
        sop_instance_uid=hd.UID(),
        instance_number=1,
        manufacturer=MANUFACTURER,
        manufacturer_model_name=MANUFACTURER,
        software_versions=own_version(),
        device_serial_number="0",
        content_label="SEGMENTATION",
        omit_empty_frames=bool(pixels.any()),
        pixel_measures=measures,
        plane_orientation=hd.PlaneOrientationSequence("PATIENT", planes.cosines),
        plane_positions=[hd.PlanePositionSequence("PATIENT", tuple(p)) for p in planes.positions_mm.tolist()],
        specific_character_set="ISO_IR 192",
    )
    # Where pixels are the sources', highdicom writes the sources' slice spacing, be it another than these planes have.
    dataset.SharedFunctionalGroupsSequence[0].PixelMeasuresSequence = measures
    return dataset


def name_private_codes(dataset: Dataset) -> None:
    """Say whose the private codes are (PS3.3 C.12.1.1.9)."""
    from pydicom import Dataset

    scheme = Dataset()
    scheme.CodingSchemeDesignator = PRIVATE_SCHEME
    scheme.CodingSchemeName = "delineate structures and quantities"
    scheme.CodingSchemeResponsibleOrganization = MANUFACTURER
    dataset.CodingSchemeIdentificationSequence = [scheme]


def _describe(dataset: Dataset, description: str, person: str | None) -> None:
    # A backslash would make two values of it.
    dataset.SeriesDescription = dataset.ContentDescription = description.replace("\\", "/")[:LONGEST_TEXT]
    dataset.ContentCreatorName = person or ""
