"""Who was scanned on what, as a file's header says it: what scores are grouped by."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from delineate.errors import UnreadableImage
from delineate.formats.dicom.headers import quiet, text

_FIELDS = {
    "manufacturer": "Manufacturer",
    "scanner": "ManufacturerModelName",
    "institution": "InstitutionName",
    "slice_thickness": "SliceThickness",
    "sex": "PatientSex",
    "age": "PatientAge",
    "contrast": "ContrastBolusAgent",
}


@dataclass(frozen=True, slots=True)
class Acquisition:
    """Texts as the header has them, "" for what it does not say (PS3.3 C.7.5.1, C.7.2.2, C.7.1.1, C.7.6.2, C.7.6.4).

    `slice_thickness`: in mm. `age`: e.g. 063Y. `contrast`: "with contrast" if an agent is named.
    """

    manufacturer: str
    scanner: str
    institution: str
    slice_thickness: str
    sex: str
    age: str
    contrast: str


def read_acquisition(path: Path) -> Acquisition:
    """What one file of a series says of all. Raises `UnreadableImage` for what is no DICOM file."""
    import pydicom

    try:
        with quiet():
            header = pydicom.dcmread(path, stop_before_pixels=True, specific_tags=list(_FIELDS.values()))
            values = {field: text(header, keyword) for field, keyword in _FIELDS.items()}
    except Exception as error:  # pydicom raises almost anything for broken files
        raise UnreadableImage("the header cannot be read", got=str(error), path=path) from error
    return Acquisition(**values | {"contrast": "with contrast" if values["contrast"] else ""})
