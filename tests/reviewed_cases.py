"""Cases of a review for tests: an oblique, anisotropic scan on disk, what a model made of it, and decisions."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
from anatomy import blob_case

from delineate import formats
from delineate.dataset import fingerprint_file
from delineate.review.exports import Reviewed
from delineate.review.records import Decision, EditRecord, NewCase, ReviewCase, State, Structure, Verdict
from delineate.volume import Segmentation, align

NOON = datetime(2026, 3, 4, 12, 30, tzinfo=UTC)
SEEN = "5e" * 32


def new_case(folder: Path, *, key: str = "p1", seed: int = 5, dicom: bool = True) -> tuple[NewCase, Segmentation]:
    """A scan and the model's result in files, and that result on the scan's grid."""
    volume, result = blob_case(seed)
    scan = folder / (key if dicom else f"{key}.nii.gz")
    if dicom:
        formats.write_dicom_series(scan, volume, patient_id="SECRET", patient_name="Secret^Patient", seed=key)
        result = align(result, formats.stack_at(scan).grid)
    else:
        formats.write_volume(scan, volume)
    target = folder / "results" / f"{key}.nii.gz"
    formats.write_segmentation(target, result)
    structures = tuple(
        Structure(label.value, label.name, label.colour, float(np.count_nonzero(result.mask(label.name))))
        for label in result.labels
    )
    case = NewCase(
        key=key,
        collection="test",
        pseudonym=f"P-{key}",
        scan=scan,
        segmentation=target,
        digest=fingerprint_file(target),
        structures=structures,
        model="blobs",
        model_digest="ab" * 32,
        site="North",
    )
    return case, result


def corrected(result: Segmentation) -> Segmentation:
    """With one structure grown at one corner, so that a flip or a transpose shows."""
    array = result.array.copy()
    array[2:5, 3:9, 1:3] = 1
    return replace(result, array=array)


def approval(person: str = "weiss", *, revision: int = 1, seen: str = SEEN, minutes: int = 0) -> Decision:
    return Decision(
        case=1,
        person=person,
        signature=f"Anna {person.title()}",
        verdict=Verdict.APPROVE,
        revision=revision,
        seen=seen,
        made=NOON + timedelta(minutes=minutes),
    )


def edit(revision: int = 1, *, tool: str = "brush", person: str = "weiss") -> EditRecord:
    return EditRecord(1, revision, person, tool, "{}", b"", "0" * 64, NOON)


def approved(folder: Path, *, dicom: bool = True) -> Reviewed:
    """A case that was edited with the brush and approved."""
    new, result = new_case(folder, dicom=dicom)
    case = ReviewCase(1, new, State.APPROVED_WITH_EDITS, 1, reader="weiss")
    return Reviewed(case, corrected(result), SEEN, result, (approval(),), (edit(),))
