"""Who a case is about: nobody that can be told, a pseudonym, or what the DICOM objects say."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from delineate import formats
from delineate.errors import InputError
from delineate.formats.deidentification.deidentify import patient_of
from delineate.formats.deidentification.objects import read_object, text_of
from delineate.formats.deidentification.pseudonyms import PseudonymKey
from delineate.formats.deidentification.residue import Identifier, identifiers_in, identifiers_of
from delineate.formats.dicom.headers import is_dicom
from delineate.reports.pages import Pairs
from delineate.workflow.exporting import files_of

if TYPE_CHECKING:
    from pydicom import Dataset

_IDENTITY = (
    ("Patient ID", "PatientID"),
    ("Born", "PatientBirthDate"),
    ("Sex", "PatientSex"),
    ("Scanned", "StudyDate"),
    ("Study", "StudyDescription"),
    ("Accession number", "AccessionNumber"),
)
_DATES = ("PatientBirthDate", "StudyDate")


@dataclass(frozen=True, slots=True)
class Naming:
    """How much is told of the patient. `identified`: all that the DICOM objects say; `key`: pseudonyms and moved dates
    of a key file; neither: a name made of the segmentation. `case`: what the case is called instead."""

    identified: bool = False
    key: PseudonymKey | None = None
    case: str = ""

    def __post_init__(self) -> None:
        if self.identified and self.key is not None:
            raise InputError("a page tells who the patient is, or has a pseudonym", expected="one of both")


@dataclass(frozen=True, slots=True)
class Identity:
    """What the page says of the patient. `hidden`: texts that may not be in it."""

    title: str
    facts: Pairs
    hidden: frozenset[Identifier] = field(default=frozenset(), repr=False)

    def found_in(self, text: str) -> tuple[str, ...]:
        """The attributes of which a text repeats what is hidden."""
        return tuple(sorted({one.keyword for one in identifiers_in(text, self.hidden)})) if self.hidden else ()


def identify(segmentation: Path, image: Path | None, naming: Naming) -> Identity:
    """What a page may say of the patient of a segmentation file and its scan.

    Raises `InputError` for a key without DICOM objects, and what reading a header raises.
    """
    # Of the file and not of the patient, whose number somebody could guess.
    made_up = hashlib.sha256(segmentation.read_bytes()).hexdigest()[:8].upper()
    header = _header(segmentation, image)
    if naming.identified:
        title = naming.case or f"Case {formats.image_stem(segmentation)}"
        return Identity(
            title, (("Patient", "not recorded: the scan is not DICOM"),) if header is None else _told(header)
        )
    title = naming.case or f"Case {made_up[:4]}-{made_up[4:]}"
    withheld = (("Patient", "withheld, and so are dates"),)
    if header is None:
        if naming.key is not None:
            raise InputError("pseudonyms are of DICOM patients", expected="a DICOM scan or segmentation", path=image)
        return Identity(title, withheld)
    hidden = identifiers_of(header)
    if naming.key is None:
        return Identity(title, withheld, hidden)
    patient = patient_of(header)
    pseudonym = naming.key.pseudonym(patient)
    moved = _moved(text_of(header, "StudyDate"), naming.key.shift_days(patient))
    shown = {pseudonym, moved.replace("-", "")}
    return Identity(
        naming.case or f"Case {made_up[:4]}-{made_up[4:]}",
        (("Patient", f"{pseudonym} (pseudonym)"), ("Scanned", f"{moved} (date moved)" if moved else "not recorded")),
        frozenset(one for one in hidden if one.text not in shown),
    )


def _header(segmentation: Path, image: Path | None) -> Dataset | None:
    """Of the first slice of the scan, or of the segmentation; None where neither is DICOM."""
    if image is not None and image.is_dir():
        return read_object(files_of(formats.stack_at(image))[0])
    found = next((path for path in (image, segmentation) if path is not None and is_dicom(path)), None)
    return None if found is None else read_object(found)


def _told(header: Dataset) -> Pairs:
    name = header.get("PatientName")
    parts = () if name is None else (name.family_name, name.given_name)
    patient = ", ".join(part for part in parts if part) or "not recorded"
    told = [(what, keyword, text_of(header, keyword)) for what, keyword in _IDENTITY]
    return (
        ("Patient", patient),
        *((what, _plain_date(text) if keyword in _DATES else text) for what, keyword, text in told if text),
    )


def _plain_date(text: str) -> str:
    return f"{text[:4]}-{text[4:6]}-{text[6:]}" if len(text) == 8 and text.isdigit() else text


def _moved(date: str, days: int) -> str:
    """YYYY-MM-DD, so many days later; "" for what is no date."""
    try:
        return (datetime.strptime(date, "%Y%m%d") + timedelta(days=days)).strftime("%Y-%m-%d")
    except ValueError:
        return ""
