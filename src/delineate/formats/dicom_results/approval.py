"""Who has approved what a DICOM object says, put where each kind of object has its place for it.

RT Structure Set: the Approval module (PS3.3 C.8.8.16), interpreters and generation of its ROIs (C.8.8.8, C.8.8.5).
Structured report: verification and verifying observers (C.17.2). Segmentation: its content creator and how each segment
was made (C.8.20.2). All: a contribution with its operators (C.12.1).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from delineate.errors import ExportError, UnreadableImage
from delineate.files import atomic_path
from delineate.formats.dicom.headers import quiet
from delineate.formats.dicom_results.seg_frames import items
from delineate.formats.dicom_results.seg_writing import AlgorithmKind, own_version
from delineate.formats.dicom_results.sources import LONGEST_TEXT, MANUFACTURER

if TYPE_CHECKING:
    from pydicom import Dataset

_MODIFYING = ("109103", "Modifying Equipment")
_PROCESSING = ("109102", "Processing Equipment")
_LONGEST_NAME = 64  # of a component group of value representation PN
_NOT_STATED = "not stated"


@dataclass(frozen=True, slots=True)
class Signer:
    """A person who approved, the name as it was signed with, and when; a time without zone is UTC."""

    name: str
    at: datetime
    organisation: str = ""


@dataclass(frozen=True, slots=True)
class Approval:
    """What people decided about a segmentation.

    `signers`: in the order in which they signed; of nobody the object is marked as a draft. `kinds`: by structure, how
    it was made; as it is written in the object for others. `decision`: such as "approved with edits". `seen`: SHA-256
    of what the signers saw.
    """

    signers: tuple[Signer, ...]
    kinds: Mapping[str, AlgorithmKind]
    decision: str
    seen: str


def approve(path: Path, approval: Approval) -> None:
    """Write into a SEG, RTSTRUCT or SR object, atomically, what was decided; pixels, contours and numbers stay.

    Raises `UnreadableImage` for a file that is no DICOM object, `ExportError` for one of another kind.
    """
    import pydicom

    with quiet():
        try:
            dataset = pydicom.dcmread(path)
        except (OSError, pydicom.errors.InvalidDicomError) as error:
            raise UnreadableImage("not a DICOM object", got=str(error)[:200], path=path) from error
        kind = str(dataset.get("Modality", ""))
        if kind not in _MARKS:
            raise ExportError("an object that has no place for an approval", got=kind, path=path)
        _MARKS[kind](dataset, approval)
        _contribute(dataset, approval)
        with atomic_path(path) as temporary:
            dataset.save_as(temporary, enforce_file_format=True)


def person_name(name: str) -> str:
    """A name as it was signed, without the characters that part a DICOM name (PS3.5 6.2.1), cut to what it may hold."""
    plain = " ".join(
        "".join(" " if letter in "\\^=" or not letter.isprintable() else letter for letter in name).split()
    )
    return plain[:_LONGEST_NAME]


def _mark_segmentation(dataset: Dataset, approval: Approval) -> None:
    for segment in items(dataset, "SegmentSequence"):
        kind = approval.kinds.get(str(segment.get("SegmentLabel", "")))
        if kind is None:
            continue
        segment.SegmentAlgorithmType = kind.value
        if kind is AlgorithmKind.MANUAL:
            for keyword in ("SegmentAlgorithmName", "SegmentationAlgorithmIdentificationSequence"):
                if keyword in segment:
                    delattr(segment, keyword)
    dataset.ContentCreatorName = person_name(approval.signers[-1].name) if approval.signers else ""
    dataset.ContentDescription = approval.decision[:LONGEST_TEXT]


def _mark_structure_set(dataset: Dataset, approval: Approval) -> None:
    for roi in items(dataset, "StructureSetROISequence"):
        kind = approval.kinds.get(str(roi.get("ROIName", "")))
        if kind is not None:
            roi.ROIGenerationAlgorithm = kind.value
    dataset.StructureSetDescription = approval.decision[:1024]
    if not approval.signers:
        dataset.ApprovalStatus = "UNAPPROVED"
        return
    last = approval.signers[-1]
    here = _zoned(last.at).astimezone()
    dataset.ApprovalStatus = "APPROVED"
    dataset.ReviewDate, dataset.ReviewTime = here.strftime("%Y%m%d"), here.strftime("%H%M%S")
    dataset.ReviewerName = person_name(last.name)
    for observation in items(dataset, "RTROIObservationsSequence"):
        observation.ROIInterpreter = person_name(last.name)


def _mark_report(dataset: Dataset, approval: Approval) -> None:
    from pydicom import Dataset

    dataset.PreliminaryFlag = "FINAL" if approval.signers else "PRELIMINARY"
    dataset.VerificationFlag = "VERIFIED" if approval.signers else "UNVERIFIED"
    if not approval.signers:
        return
    observers = []
    for signer in approval.signers:
        observer = Dataset()
        observer.VerifyingObserverName = person_name(signer.name)
        observer.VerifyingObserverIdentificationCodeSequence = []
        observer.VerifyingOrganization = (signer.organisation or _NOT_STATED)[:LONGEST_TEXT]
        observer.VerificationDateTime = _moment(signer.at)
        observers.append(observer)
    dataset.VerifyingObserverSequence = observers


_MARKS = {"SEG": _mark_segmentation, "RTSTRUCT": _mark_structure_set, "SR": _mark_report}


def _contribute(dataset: Dataset, approval: Approval) -> None:
    """One item beside those that are there: who looked at it, with what, and the digest of what was seen."""
    from pydicom import Dataset

    edited = any(kind is not AlgorithmKind.AUTOMATIC for kind in approval.kinds.values())
    code, meaning = _MODIFYING if edited else _PROCESSING
    purpose = Dataset()
    purpose.CodeValue, purpose.CodingSchemeDesignator, purpose.CodeMeaning = code, "DCM", meaning
    item = Dataset()
    item.PurposeOfReferenceCodeSequence = [purpose]
    item.Manufacturer = item.ManufacturerModelName = MANUFACTURER
    item.SoftwareVersions = own_version()
    item.ContributionDescription = f"{approval.decision}; what was seen has SHA-256 {approval.seen}"[:1024]
    if approval.signers:
        item.OperatorsName = [person_name(signer.name) for signer in approval.signers]
        item.ContributionDateTime = _moment(approval.signers[-1].at)
    dataset.ContributingEquipmentSequence = [*items(dataset, "ContributingEquipmentSequence"), item]


def _zoned(at: datetime) -> datetime:
    return at if at.tzinfo is not None else at.replace(tzinfo=UTC)


def _moment(at: datetime) -> str:
    return _zoned(at).astimezone(UTC).strftime("%Y%m%d%H%M%S+0000")
