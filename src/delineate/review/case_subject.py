"""Who a case is about: what everybody may see, and the name that only some may."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from delineate.formats.deidentification.objects import read_names, text_of
from delineate.formats.dicom.headers import is_dicom
from delineate.review.finding_scans import IMAGES
from delineate.workflow.case_identity import Naming, identify

if TYPE_CHECKING:
    from pydicom import Dataset

_KEYWORDS = (
    "InstitutionName",
    "Manufacturer",
    "ManufacturerModelName",
    "Modality",
    "PatientName",
    "SpecificCharacterSet",
    "StudyDate",
)
_ODD = re.compile(r"[^A-Za-z0-9._-]+")


@dataclass(frozen=True, slots=True)
class Subject:
    """`key`: names the case everywhere, also in addresses and logs; `pseudonym`: what everybody sees.

    `date`: YYYY-MM-DD of the study; `site`, `scanner`: as the scan tells. What it does not tell is "".
    """

    key: str
    pseudonym: str
    patient_name: str = field(default="", repr=False)
    date: str = ""
    site: str = ""
    scanner: str = ""


def subject_of(name: str, segmentation: Path, scan: Path) -> Subject:
    """Of a result that is called `name`. A name that tells who the patient is, by the scan's header, is replaced.

    Raises what reading a DICOM header raises.
    """
    image = first_image(scan)
    identity = identify(segmentation, image, Naming())
    if identity.found_in(name):
        made_up = identity.title.removeprefix("Case ")
        name, shown = f"case-{made_up.lower()}", identity.title
    else:
        shown = name
    key = _ODD.sub("_", name)
    if image is None:
        return Subject(key, shown)
    header = read_names(image, _KEYWORDS)
    date = text_of(header, "StudyDate")
    return Subject(
        key,
        shown,
        patient_name=_patient_name(header),
        date=f"{date[:4]}-{date[4:6]}-{date[6:8]}" if len(date) == 8 and date.isdigit() else "",
        site=text_of(header, "InstitutionName"),
        scanner=" ".join(filter(None, (text_of(header, "Manufacturer"), text_of(header, "ManufacturerModelName")))),
    )


def first_image(scan: Path) -> Path | None:
    """A DICOM image of a scan; None for a scan that is none."""
    files = sorted(path for path in scan.iterdir() if path.is_file()) if scan.is_dir() else [scan]
    found = [path for path in files if is_dicom(path)]
    images = (path for path in found if str(read_names(path, ("Modality",)).get("Modality", "")) in IMAGES)
    return next(images, found[0] if found else None)


def _patient_name(header: Dataset) -> str:
    name = header.get("PatientName")
    if not name:
        return ""
    parts = (getattr(name, "family_name", ""), getattr(name, "given_name", ""))
    return ", ".join(part for part in parts if part) or str(name)
