"""Measurements out and in as a DICOM structured report: PS3.16 TID 1500 in a Comprehensive 3D SR (PS3.3 A.35.13).

Every structure is one measurement group (TID 1411) that points to its segment in a SEG object, to the series that was
segmented, and carries the segment's tracking identifiers. highdicom builds the report; reading it needs pydicom alone.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from delineate.errors import DelineateError, ExportError, UnreadableImage
from delineate.files import atomic_path
from delineate.findings import Finding
from delineate.formats.dicom.headers import number, quiet, text
from delineate.formats.dicom_results.seg import Segment, read_segments
from delineate.formats.dicom_results.seg_frames import items
from delineate.formats.dicom_results.seg_writing import coded, name_private_codes, own_version
from delineate.formats.dicom_results.sources import (
    LONGEST_TEXT,
    MANUFACTURER,
    Sources,
    building,
    read_sources,
    stamp,
)
from delineate.labels import Code
from delineate.terminology import ABNORMAL_STRUCTURE, PRIVATE_SCHEME

if TYPE_CHECKING:
    from pydicom import Dataset

_GROUP, _GROUPS = ("125007", "DCM"), ("126010", "DCM")
_TRACKING_ID, _TRACKING_UID = ("112039", "DCM"), ("112040", "DCM")
_SEGMENT, _FINDING, _SITE = ("121191", "DCM"), ("121071", "DCM"), ("363698007", "SCT")
_PROCEDURES = {"CT": "CTUnspecifiedBodyRegion", "MR": "MRIUnspecifiedBodyRegion", "PT": "PETUnspecifiedBodyRegion"}


@dataclass(frozen=True, slots=True)
class Measured:
    """One number as a report says it, with what it was measured on; "" or None where the report does not say."""

    tracking_id: str
    tracking_uid: str
    segmentation_uid: str
    segment_number: int | None
    finding: Code | None
    site: Code | None
    quantity: Code
    value: float
    unit: Code


def write_sr(
    path: Path,
    findings: Sequence[Finding],
    seg_path: Path,
    *,
    sources: Sequence[Path],
    description: str = "Measurements",
    created: datetime | None = None,
) -> None:
    """Write one report of findings on the structures of a SEG object, atomically.

    `sources`: all images of the series that was segmented; patient and study are theirs. A finding belongs to the
    segment whose label is the name of the finding's label. `created`: the report's date and time, now where None.
    Raises `ExportError` for no findings, for a structure that the SEG object does not have, or a SEG object made on
    another series; `UnreadableImage` for a SEG object or image that cannot be read; what `read_sources` raises.
    """
    if not findings:
        raise ExportError("a report without findings", path=path)
    with quiet():
        found = read_sources(sources)
        seg, segments = read_segments(seg_path)
        _check_series(seg, found, seg_path)
        measured = _measured(segments, findings, seg_path)
        with building(path):
            groups = [
                _group(segment, [f for f in findings if f.label.name == segment.label.name], seg=seg, sources=found)
                for segment in measured
            ]
            dataset = _report(groups, seg, found)
        dataset.SeriesDescription = description.replace("\\", "/")[:LONGEST_TEXT]
        if any(_is_private(segment.label.code) for segment in segments):
            name_private_codes(dataset)
        stamp(dataset, created or datetime.now())
        with atomic_path(path) as temporary:
            dataset.save_as(temporary, enforce_file_format=True)


def read_sr(path: Path) -> tuple[Measured, ...]:
    """The numbers of a TID 1500 report in its order; none if it has no measurement groups.

    Raises `UnreadableImage` for a file that is no sound structured report.
    """
    import pydicom

    with quiet():
        try:
            dataset = pydicom.dcmread(path)
            if "ContentSequence" not in dataset:
                modality = text(dataset, "Modality") or "no modality"
                raise UnreadableImage("not a structured report", expected="SR", got=modality, path=path)
            return tuple(_numbers(dataset))
        except FileNotFoundError as error:
            raise UnreadableImage("there is no such file", path=path) from error
        except DelineateError:
            raise
        # Damaged data ends in almost any exception inside pydicom.
        except Exception as error:
            raise UnreadableImage("not a sound structured report", got=str(error)[:200], path=path) from error


def _check_series(seg: Dataset, sources: Sources, seg_path: Path) -> None:
    series = [text(one, "SeriesInstanceUID") for one in items(seg, "ReferencedSeriesSequence")]
    own = text(sources.first, "SeriesInstanceUID")
    if own not in series:
        raise ExportError(
            "the segmentation was made on another series than the images given",
            expected=f"series {', '.join(series) or 'unknown'}",
            got=own,
            path=seg_path,
            remedy="Give the images of the series that was segmented.",
        )


def _measured(segments: Sequence[Segment], findings: Sequence[Finding], seg_path: Path) -> list[Segment]:
    names = {finding.label.name for finding in findings}
    unknown = sorted(names - {segment.label.name for segment in segments})
    if unknown:
        raise ExportError(
            "findings on structures that the segmentation does not have",
            expected=[segment.label.name for segment in segments],
            got=unknown,
            path=seg_path,
        )
    return [segment for segment in segments if segment.label.name in names]


def _is_private(code: Code | None) -> bool:
    return code is not None and code.scheme == PRIVATE_SCHEME


def _group(segment: Segment, findings: Sequence[Finding], *, seg: Dataset, sources: Sources) -> Any:
    import highdicom as hd

    kind = segment.label.code
    # Where a lesion lies is not what it is: only structures are their own site.
    is_site = kind is not None and segment.category != ABNORMAL_STRUCTURE
    laterality = None if segment.laterality is None else coded(segment.laterality)
    return hd.sr.VolumetricROIMeasurementsAndQualitativeEvaluations(
        tracking_identifier=hd.sr.TrackingIdentifier(
            uid=segment.tracking_uid or hd.UID(), identifier=segment.tracking_id or segment.label.name
        ),
        referenced_segment=hd.sr.ReferencedSegment(
            sop_class_uid=seg.SOPClassUID,
            sop_instance_uid=seg.SOPInstanceUID,
            segment_number=segment.label.value,
            source_series=hd.sr.SourceSeriesForSegmentation(sources.first.SeriesInstanceUID),
        ),
        finding_type=None if kind is None else coded(kind),
        finding_category=None if segment.category is None else coded(segment.category),
        finding_sites=[hd.sr.FindingSite(coded(kind), laterality)] if is_site and kind is not None else None,
        algorithm_id=_algorithm(segment),
        measurements=[
            hd.sr.Measurement(coded(finding.quantity), finding.value, coded(finding.unit)) for finding in findings
        ],
    )


def _algorithm(segment: Segment) -> Any:
    import highdicom as hd

    if not segment.algorithm_name:
        return None
    return hd.sr.AlgorithmIdentification(segment.algorithm_name, segment.algorithm_version or "unknown")


def _report(groups: Sequence[Any], seg: Dataset, sources: Sources) -> Dataset:
    import highdicom as hd
    from pydicom.sr.codedict import codes
    from pydicom.uid import generate_uid

    modality = text(sources.first, "Modality")
    device = hd.sr.DeviceObserverIdentifyingAttributes(
        uid=generate_uid(entropy_srcs=[MANUFACTURER, own_version()]),
        name=MANUFACTURER,
        manufacturer_name=MANUFACTURER,
        model_name=MANUFACTURER,
    )
    observer = hd.sr.ObserverContext(codes.DCM.Device, device)
    content = hd.sr.MeasurementReport(
        observation_context=hd.sr.ObservationContext(observer_device_context=observer),
        procedure_reported=getattr(codes.cid100, _PROCEDURES.get(modality, "ImagingProcedure")),
        imaging_measurements=groups,
        title=codes.DCM.ImagingMeasurementReport,
    )
    dataset: Dataset = hd.sr.Comprehensive3DSR(
        evidence=[*sources.datasets, seg],
        content=content[0],
        series_instance_uid=hd.UID(),
        series_number=2000 + int(number(sources.first, "SeriesNumber") or 0),
        sop_instance_uid=hd.UID(),
        instance_number=1,
        manufacturer=MANUFACTURER,
        is_complete=True,
        manufacturer_model_name=MANUFACTURER,
        software_versions=own_version(),
        device_serial_number="0",
        specific_character_set="ISO_IR 192",
    )
    return dataset


def _numbers(dataset: Dataset) -> Iterator[Measured]:
    for groups in _children(dataset, _GROUPS):
        for group in _children(groups, _GROUP):
            segment = next(
                (s for item in _children(group, _SEGMENT) for s in items(item, "ReferencedSOPSequence")), None
            )
            segment_number = None if segment is None else number(segment, "ReferencedSegmentNumber")
            for item in items(group, "ContentSequence"):
                measured = next(iter(items(item, "MeasuredValueSequence")), None)
                quantity = _code(item, "ConceptNameCodeSequence")
                value, unit = _value(measured)
                if text(item, "ValueType") == "NUM" and quantity is not None and value is not None and unit is not None:
                    yield Measured(
                        tracking_id=_said(group, _TRACKING_ID, "TextValue"),
                        tracking_uid=_said(group, _TRACKING_UID, "UID"),
                        segmentation_uid="" if segment is None else text(segment, "ReferencedSOPInstanceUID"),
                        segment_number=None if segment_number is None else int(segment_number),
                        finding=_concept(group, _FINDING),
                        site=_concept(group, _SITE),
                        quantity=quantity,
                        value=value,
                        unit=unit,
                    )


def _value(measured: Dataset | None) -> tuple[float | None, Code | None]:
    if measured is None:
        return None, None
    exact = number(measured, "FloatingPointValue")
    value = number(measured, "NumericValue") if exact is None else exact
    return (value if value is not None and np.isfinite(value) else None), _code(
        measured, "MeasurementUnitsCodeSequence"
    )


def _children(item: Dataset, name: tuple[str, str]) -> Iterator[Dataset]:
    for child in items(item, "ContentSequence"):
        code = _code(child, "ConceptNameCodeSequence")
        if code is not None and (code.value, code.scheme) == name:
            yield child


def _said(group: Dataset, name: tuple[str, str], keyword: str) -> str:
    return next((text(child, keyword) for child in _children(group, name)), "")


def _concept(group: Dataset, name: tuple[str, str]) -> Code | None:
    return next((_code(child, "ConceptCodeSequence") for child in _children(group, name)), None)


def _code(item: Dataset, keyword: str) -> Code | None:
    found = items(item, keyword)
    value = text(found[0], "CodeValue") if found else ""
    return Code(value, text(found[0], "CodingSchemeDesignator"), text(found[0], "CodeMeaning")) if value else None
