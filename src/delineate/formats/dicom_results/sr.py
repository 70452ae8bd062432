"""Measurements out and in as a DICOM structured report: PS3.16 TID 1500 in a Comprehensive 3D SR (PS3.3 A.35.13).

Every structure is one measurement group (TID 1411) that points to its segment in a SEG object, to the series that was
segmented, and carries the segment's tracking identifiers; the parts of a structure, its lesions, are groups of their
own. A number (TID 1419) has its statistic as derivation, the second structure of a distance or share as its own finding
site, and its spread over several results as upper and lower uncertainty. The ends of a line stay out: TID 1411 allows
no coordinates beside a segment. highdicom builds the report; reading it needs pydicom alone.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from delineate.errors import ExportError
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
from delineate.formats.dicom_results.sr_reading import Measured as Measured
from delineate.formats.dicom_results.sr_reading import read_sr as read_sr
from delineate.labels import Code
from delineate.terminology import ABNORMAL_STRUCTURE, PRIVATE_SCHEME, concept_of

if TYPE_CHECKING:
    from pydicom import Dataset

_PROCEDURES = {"CT": "CTUnspecifiedBodyRegion", "MR": "MRIUnspecifiedBodyRegion", "PT": "PETUnspecifiedBodyRegion"}


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
    segment whose label is the name of the finding's label; the notes of a group's findings are a comment of the group,
    because a number that the scan cuts must not lose that remark. `created`: the report's date and
    time, now where None.
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
                _group(segment, part, seg=seg, sources=found)
                for segment in measured
                for part in _parts(segment, findings)
            ]
            dataset = _report(groups, seg, found)
        dataset.SeriesDescription = description.replace("\\", "/")[:LONGEST_TEXT]
        if any(_is_private(code) for code in (*(one.label.code for one in segments), *_codes(findings))):
            name_private_codes(dataset)
        stamp(dataset, created or datetime.now())
        with atomic_path(path) as temporary:
            dataset.save_as(temporary, enforce_file_format=True)


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


def _parts(segment: Segment, findings: Sequence[Finding]) -> list[list[Finding]]:
    """The findings on one segment: first those on all of it, then those on each of its parts."""
    own = [finding for finding in findings if finding.label.name == segment.label.name]
    numbers = sorted({finding.component or 0 for finding in own})
    return [[finding for finding in own if (finding.component or 0) == number] for number in numbers]


def _codes(findings: Sequence[Finding]) -> Iterator[Code | None]:
    for finding in findings:
        yield from (finding.quantity, finding.derivation)
        yield None if finding.other is None else concept_of(finding.other).type


def _is_private(code: Code | None) -> bool:
    return code is not None and code.scheme == PRIVATE_SCHEME


def _group(segment: Segment, findings: Sequence[Finding], *, seg: Dataset, sources: Sources) -> Any:
    import highdicom as hd
    from pydicom.sr.codedict import codes

    kind = segment.label.code
    # Where a lesion lies is not what it is: only structures are their own site.
    is_site = kind is not None and segment.category != ABNORMAL_STRUCTURE
    laterality = None if segment.laterality is None else coded(segment.laterality)
    group = hd.sr.VolumetricROIMeasurementsAndQualitativeEvaluations(
        tracking_identifier=_tracking(segment, findings[0].component),
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
        measurements=[_measurement(finding) for finding in findings],
    )
    notes = _notes(findings)
    if notes:
        comment = hd.sr.TextContentItem(codes.DCM.Comment, notes, hd.sr.RelationshipTypeValues.CONTAINS)
        group[0].ContentSequence.append(comment)
    return group


def _notes(findings: Sequence[Finding]) -> str:
    """Every note once, and the quantities that it is on."""
    on: dict[str, list[str]] = {}
    for finding in findings:
        if finding.note:
            on.setdefault(finding.note, []).append(finding.quantity.meaning)
    return "; ".join(f"{note} ({', '.join(dict.fromkeys(quantities))})" for note, quantities in on.items())


def _tracking(segment: Segment, part: int | None) -> Any:
    import highdicom as hd
    from pydicom.uid import generate_uid

    uid, name = segment.tracking_uid or hd.UID(), segment.tracking_id or segment.label.name
    if part is not None:
        uid, name = generate_uid(entropy_srcs=[uid, str(part)]), f"{name}, part {part}"
    return hd.sr.TrackingIdentifier(uid=hd.UID(uid), identifier=name)


def _measurement(finding: Finding) -> Any:
    import highdicom as hd

    other = None if finding.other is None else concept_of(finding.other)
    side = None if other is None or other.laterality is None else coded(other.laterality)
    measurement = hd.sr.Measurement(
        coded(finding.quantity),
        finding.value,
        coded(finding.unit),
        derivation=None if finding.derivation is None else coded(finding.derivation),
        finding_sites=None if other is None else [hd.sr.FindingSite(coded(other.type), side)],
        properties=_uncertainty(finding),
    )
    for item in items(measurement[0], "ContentSequence"):
        # highdicom says that uncertainties have no units.
        for value in items(item, "MeasuredValueSequence"):
            value.MeasurementUnitsCodeSequence = [coded(finding.unit)]
    return measurement


def _uncertainty(finding: Finding) -> Any:
    import highdicom as hd

    if finding.spread is None:
        return None
    return hd.sr.MeasurementProperties(
        upper_measurement_uncertainty=max(finding.spread.highest - finding.value, 0.0),
        lower_measurement_uncertainty=max(finding.value - finding.spread.lowest, 0.0),
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
