"""Whether anything of a patient is left: an object's identifying texts, looked for in the bytes of its successor."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from io import BytesIO
from typing import TYPE_CHECKING, Any

from delineate.formats.deidentification.objects import refused_if_broken, stripped, text_of
from delineate.formats.deidentification.profile import DUMMY_DATE, DUMMY_TEXT, KEEP, Retain, is_retained, rule_of
from delineate.formats.dicom.headers import quiet

if TYPE_CHECKING:
    from pydicom import DataElement, Dataset

_IDENTIFYING = frozenset(
    (
        "AccessionNumber",
        "AdmissionID",
        "CountryOfResidence",
        "DeviceSerialNumber",
        "FillerOrderNumberImagingServiceRequest",
        "InstitutionAddress",
        "InstitutionName",
        "InstitutionalDepartmentName",
        "MedicalRecordLocator",
        "MilitaryRank",
        "Occupation",
        "OtherPatientIDs",
        "PatientAddress",
        "PatientID",
        "PatientTelephoneNumbers",
        "PerformedProcedureStepID",
        "PersonAddress",
        "PersonTelephoneNumbers",
        "PlacerOrderNumberImagingServiceRequest",
        "ReferringPhysicianAddress",
        "ReferringPhysicianTelephoneNumbers",
        "RegionOfResidence",
        "RequestedProcedureID",
        "ResponsibleOrganization",
        "ScheduledProcedureStepID",
        "ServiceEpisodeID",
        "StudyID",
    )
)
# Pixels of floats, of doubles and of integers, and coordinates of contours: numbers by the million, in which the digits
# of a patient's number turn up by chance.
_BULK = (0x7FE00008, 0x7FE00009, 0x7FE00010, 0x30060050)
_HOLDERS_OF_BULK = (0x30060039, 0x30060040)  # ROI Contour Sequence, Contour Sequence
_SHORTEST_WORD = 3
_SHORTEST_NUMBER = 6
_DATE_DIGITS = 8
_DATETIME_DIGITS = (8, 10, 12, 14)
_TEXT_VRS = ("AE", "AS", "CS", "DA", "DS", "DT", "IS", "LO", "LT", "PN", "SH", "ST", "TM", "UC", "UI", "UR", "UT")
_NO_IDENTIFIERS = frozenset((DUMMY_DATE, DUMMY_TEXT.lower(), "unknown", "anonymous", "anonymized", "none"))
_WORD = re.compile(rb"[0-9a-z]+")
_UID = re.compile(rb"[0-9]+(?:\.[0-9]+)+")


@dataclass(frozen=True, slots=True)
class Identifier:
    """A text that tells who somebody is, and the attribute it stood in; the text is never printed."""

    keyword: str
    text: str = field(repr=False)

    @property
    def is_date(self) -> bool:
        """Whether it is a day, YYYYMMDD."""
        return len(self.text) == _DATE_DIGITS and self.text.isdigit()


@dataclass(frozen=True, slots=True)
class Residue:
    """An identifier that still occurs, and the attributes it occurs in; none if they are not texts."""

    identifier: Identifier
    places: tuple[str, ...]
    coded: bool
    """Whether all places hold defined terms (VR CS), where a name is more likely to be a common word."""


@dataclass(frozen=True, slots=True)
class Search:
    """Identifiers by the bytes they are found by, all in lower case."""

    words: Mapping[bytes, frozenset[Identifier]]
    days: Mapping[bytes, frozenset[Identifier]]
    uids: Mapping[bytes, frozenset[Identifier]]
    phrases: Mapping[bytes, frozenset[Identifier]]


def identifiers_of(dataset: Dataset, retained: frozenset[Retain] = frozenset()) -> frozenset[Identifier]:
    """What would give the patient away if it were found elsewhere, from all depths of an object.

    Parts of names of persons from three letters, two in other scripts; numbers of the patient, the study and the
    visit, the institution, addresses and telephone numbers, from three letters or six digits; dates; and UIDs that the
    profile replaces. Shorter texts, which occur everywhere, and what an option retains are left out. Raises
    `UnreadableImage` for a data set that cannot be parsed.
    """
    with quiet(), refused_if_broken():
        found = {
            Identifier(element.keyword, text)
            for element in _elements(dataset)
            for value in _values(element)
            if not is_retained(element.keyword, retained)
            for text in _texts(element, value)
        }
    return frozenset(one for one in found if one.text.lower() not in _NO_IDENTIFIERS)


def residue(dataset: Dataset, identifiers: Iterable[Identifier]) -> tuple[Residue, ...]:
    """The identifiers that still occur in an object as it would be written, outside its pixels and coordinates.

    Best empty.

    Looked for in the encoded bytes, file meta information included, whatever the attribute: words and numbers between
    characters that are no letters or digits, in any case; days also at the start of a date and time, and written with
    hyphens. Raises `UnreadableImage` for a data set that cannot be written.
    """
    search = search_for(identifiers, dataset)
    places: dict[Identifier, dict[str, str]] = {hit: {} for hit in occurring(search, _encoded(dataset))}
    # Value by value as well: in the encoded bytes, the next element's tag may look like another letter of a word.
    with quiet(), refused_if_broken():
        for element in _elements(dataset):
            text = "\\".join(_values(element, _TEXT_VRS)).encode("utf-8", errors="replace")
            for hit in occurring(search, text.lower()):
                places.setdefault(hit, {})[element.keyword or str(element.tag)] = element.VR
    return tuple(
        Residue(hit, tuple(places[hit]), coded=set(places[hit].values()) == {"CS"})
        for hit in sorted(places, key=lambda hit: (hit.keyword, hit.text))
    )


def identifiers_in(text: str, identifiers: Iterable[Identifier]) -> frozenset[Identifier]:
    """The identifiers that occur in a text; see `residue`."""
    from pydicom import Dataset

    return occurring(search_for(identifiers, Dataset()), text.lower().encode())


def search_for(identifiers: Iterable[Identifier], dataset: Dataset) -> Search:
    """The identifiers as bytes, in UTF-8, Latin-1 and the character sets of a data set."""
    kinds: tuple[dict[bytes, frozenset[Identifier]], ...] = ({}, {}, {}, {})
    words, days, uids, phrases = kinds

    def note(kind: dict[bytes, frozenset[Identifier]], code: bytes, identifier: Identifier) -> None:
        kind[code] = kind.get(code, frozenset()) | {identifier}

    for identifier in identifiers:
        for code in _codes(identifier.text, dataset):
            if identifier.is_date:
                note(days, code, identifier)
                note(phrases, b"-".join((code[:4], code[4:6], code[6:])), identifier)
            else:
                note(words if _WORD.fullmatch(code) else uids if _UID.fullmatch(code) else phrases, code, identifier)
    return Search(*kinds)


def occurring(search: Search, encoded: bytes) -> frozenset[Identifier]:
    """Which identifiers occur in bytes that are in lower case."""
    words = set(_WORD.findall(encoded))
    days = {word[:_DATE_DIGITS] for word in words if word.isdigit() and len(word) in _DATETIME_DIGITS}
    found = [search.words[word] for word in words & search.words.keys()]
    found += [search.days[day] for day in days & search.days.keys()]
    found += [search.uids[uid] for uid in search.uids.keys() & set(_UID.findall(encoded))]
    found += [ones for phrase, ones in search.phrases.items() if phrase in encoded and _delimited(phrase, encoded)]
    return frozenset().union(*found)


def _elements(dataset: Dataset) -> Iterator[DataElement]:
    for tag in sorted(tag for tag in list(dataset.keys()) if tag not in _BULK):
        element = dataset[tag]
        if element.VR == "SQ":
            for item in element.value or ():
                yield from _elements(item)
        else:
            yield element


_SOURCES = ("DA", "DT", "LO", "LT", "PN", "SH", "ST", "UC", "UI", "UT")


def _values(element: DataElement, vrs: tuple[str, ...] = _SOURCES) -> list[str]:
    from pydicom.multival import MultiValue

    if element.VR not in vrs:
        return []
    values = element.value if isinstance(element.value, MultiValue | list | tuple) else [element.value]
    return [text for value in values if (text := stripped(value))]


def _texts(element: DataElement, value: str) -> Iterator[str]:
    if element.VR == "PN":
        parts = re.split(r"[\s^=,.]+", value)
        # Two letters are little in Latin script and a whole name in Chinese.
        yield from (part for part in parts if len(part) >= _SHORTEST_WORD - (not part.isascii()) and not part.isdigit())
    elif element.VR in ("DA", "DT"):
        digits = re.sub(r"[.\-]", "", value)[:_DATE_DIGITS]
        if len(digits) == _DATE_DIGITS and digits.isdigit() and element.keyword != "ContextGroupVersion":
            yield digits
    elif element.VR == "UI":
        standard = value.startswith("1.2.840.10008.")
        if not standard and "." in value and rule_of(element.tag, "UI", element.keyword, frozenset()) != KEEP:
            yield value
    elif element.keyword in _IDENTIFYING:
        number = re.fullmatch(r"[\d\s.\-+/]+", value)
        if len(value) >= (_SHORTEST_NUMBER if number else _SHORTEST_WORD):
            yield value


def _codes(text: str, dataset: Dataset) -> set[bytes]:
    from pydicom.charset import convert_encodings, encode_string

    with quiet(), refused_if_broken():
        own = encode_string(text, convert_encodings(dataset.get("SpecificCharacterSet") or "ISO_IR 6"))
    codes = {own, *(text.encode(charset, errors="ignore") for charset in ("utf-8", "latin-1"))}
    # Only ASCII has cases here: a byte beyond it may be part of another character.
    return {code.lower() for code in codes if len(code) >= _SHORTEST_WORD}


def _encoded(dataset: Dataset) -> bytes:
    """The object as in its file, in lower case, without its bulk, little-endian and not deflated."""
    from pydicom import dcmwrite
    from pydicom.uid import DeflatedExplicitVRLittleEndian, ExplicitVRBigEndian, ExplicitVRLittleEndian

    with quiet(), refused_if_broken():
        rest = _without_bulk(dataset)
        rest.file_meta = type(dataset.file_meta)(dataset.file_meta)
        # The low byte of a big-endian length stands right before its text and may look like a letter of it.
        if text_of(rest.file_meta, "TransferSyntaxUID") in (DeflatedExplicitVRLittleEndian, ExplicitVRBigEndian):
            rest.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        rest.preamble = getattr(dataset, "preamble", None)
        stream = BytesIO()
        dcmwrite(stream, rest, enforce_file_format=True)
    return stream.getvalue().lower()


def _without_bulk(dataset: Dataset) -> Dataset:
    from pydicom import DataElement, Dataset

    encoding: Any = dataset.original_character_set
    implicit, little = dataset.original_encoding
    rest = Dataset(parent_encoding=encoding)
    rest.set_original_encoding(implicit, little, encoding)
    for tag in list(dataset.keys()):
        if tag in _HOLDERS_OF_BULK and dataset[tag].VR == "SQ":
            rest[tag] = DataElement(tag, "SQ", [_without_bulk(item) for item in dataset[tag].value or ()])
        elif tag not in _BULK:
            rest[tag] = dataset.get_item(tag)
    return rest


def _delimited(code: bytes, encoded: bytes) -> bool:
    return re.search(rb"(?<![0-9a-z])" + re.escape(code) + rb"(?![0-9a-z])", encoded) is not None
