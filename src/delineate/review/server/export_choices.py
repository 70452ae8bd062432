"""What may be exported of a case now, and in which formats, as the page tells it before anybody asks."""

from __future__ import annotations

from delineate.formats.nifti import is_nifti_name
from delineate.review.export_formats import formats_of
from delineate.review.readers import ACCEPTED
from delineate.review.records import Person, ReviewCase, Role
from delineate.review.server.problems import sentence
from delineate.review.server.wire import FormatChoice


def format_choices(case: ReviewCase) -> list[FormatChoice]:
    """The formats that the page offers, and why some cannot hold this case."""
    fits = formats_of(case)
    return [FormatChoice.model_validate({"format": one.format, "problem": _said(one.problem)}) for one in fits]


def export_problem(case: ReviewCase, person: Person) -> str | None:
    """Why this person can export nothing of a case now; None where they can."""
    if person.role is Role.VIEWER:
        return "You may look at this case, but not export it."
    if hides_name(case, person):
        return "Exported files of this case name the patient. Ask somebody who may see patients' names."
    if case.state not in ACCEPTED:
        return "Only what is approved is exported. Approve the case first."
    return None


def hides_name(case: ReviewCase, person: Person) -> bool:
    """Whether a case's files would tell this person a name that they may not see."""
    # DICOM results hold what the scan says of the patient: also without a name the number and the date of birth.
    return not person.sees_names and (bool(case.new.patient_name) or not is_nifti_name(case.new.scan))


def _said(problem: str | None) -> str | None:
    return None if problem is None else sentence(problem)
