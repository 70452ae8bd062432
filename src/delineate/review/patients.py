"""Which cases of a review are of one patient, without telling who that is."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from functools import cache
from pathlib import Path

from delineate.dataset import open_dataset
from delineate.errors import DatasetError, DelineateError
from delineate.formats.deidentification.objects import read_names, text_of
from delineate.review.case_subject import first_image
from delineate.review.records import ReviewCase


def patients_of(cases: Sequence[ReviewCase]) -> dict[str, str]:
    """The patient of each case, by the cases' keys; patients are called as the first of their cases is.

    DICOM scans tell by PatientID and its issuer, images of a dataset by its patient_id. A scan that tells nothing, or
    cannot be read, counts as of a patient of its own.
    """
    named: dict[object, str] = {}
    images_in = cache(_of_dataset)
    found: dict[str, str] = {}
    for case in sorted(cases, key=lambda one: one.id):
        own = case.new.pseudonym or case.new.key
        told = _told(case.new.scan, images_in)
        found[case.new.key] = own if told is None else named.setdefault(told, own)
    return found


def _told(scan: Path, images_in: Callable[[Path], Mapping[Path, object]]) -> object | None:
    with suppress(DelineateError, OSError):
        image = first_image(scan)
        if image is not None:
            header = read_names(image, ("PatientID", "IssuerOfPatientID"))
            number = text_of(header, "PatientID")
            return ("dicom", number, text_of(header, "IssuerOfPatientID")) if number else None
    folder = scan.absolute().parent.parent
    return images_in(folder).get(scan.resolve())


def _of_dataset(folder: Path) -> dict[Path, object]:
    """Patients by image files; none where there is no dataset."""
    with suppress(DatasetError):
        if (folder / "dataset.json").is_file():
            cases = open_dataset(folder).cases
            return {path.resolve(): (str(folder), case.patient_id) for case in cases for path in case.images}
    return {}
