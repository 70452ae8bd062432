"""Texts for records and results: people name files and regions after patients, and records are shared."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

from delineate.errors import DelineateError
from delineate.formats.deidentification.objects import read_names
from delineate.formats.deidentification.residue import Identifier, identifiers_in, identifiers_of

Scrub = Callable[[str], str]

HIDDEN = "***"

_KEYWORDS = (
    "SpecificCharacterSet",
    "PatientName",
    "PatientID",
    "PatientBirthDate",
    "PatientBirthName",
    "OtherPatientIDs",
    "OtherPatientNames",
)
_SHORTEST_PART = 4  # letters; shorter names are parts of too many words


def scrubber(path: Path) -> Scrub:
    """Hides, in a text, the names, the ID and the birth date of the patient whom a DICOM object is about.

    Whole words, in any case, and names of four letters or more also within words.
    """
    try:
        identifiers = identifiers_of(read_names(path, _KEYWORDS))
    except (DelineateError, OSError):
        # What cannot be read again cannot be imported or converted either.
        identifiers = frozenset()
    return lambda text: _scrubbed(text, identifiers)


def _scrubbed(text: str, identifiers: frozenset[Identifier]) -> str:
    parts = [one.text for one in identifiers if "Name" in one.keyword and len(one.text) >= _SHORTEST_PART]
    found = [one.text for one in identifiers_in(text, identifiers)]
    for word in sorted({*parts, *found}, key=len, reverse=True):
        text = re.sub(re.escape(word), HIDDEN, text, flags=re.IGNORECASE)
    # A date may be written with hyphens.
    return HIDDEN if identifiers_in(text, identifiers) else text
