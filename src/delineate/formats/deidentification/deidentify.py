"""DICOM objects without their patient: the basic confidentiality profile of PS3.15 Annex E, with options.

A new data set is made, element by element, at every depth; the input stays as it is. Pixel data is not looked at:
objects in whose pixels text is likely are refused, and the option to clean pixel data is never claimed.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import date, timedelta
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from delineate.formats.deidentification.objects import refused_if_broken, stripped, text_of
from delineate.formats.deidentification.profile import (
    DUMMY_DATE,
    DUMMY_TEXT,
    EDITION,
    KEEP,
    LEAVE_OUT,
    NEVER_SHIFTED,
    TEMPORAL_VRS,
    Action,
    Retain,
    attribute_type,
    resolve,
    rule_of,
    table,
)
from delineate.formats.deidentification.pseudonyms import Patient, PseudonymKey
from delineate.formats.deidentification.residue import (
    Identifier,
    Residue,
    Search,
    identifiers_of,
    occurring,
    residue,
    search_for,
)
from delineate.formats.deidentification.screening import Pixels, check_can_be_deidentified
from delineate.formats.dicom.headers import quiet

if TYPE_CHECKING:
    from pydicom import DataElement, Dataset
    from pydicom.dataelem import RawDataElement
    from pydicom.dataset import FileMetaDataset


class Dates(Enum):
    """What becomes of dates and times."""

    REMOVE = "remove"
    SHIFT = "shift"
    """Moved by whole days, the same for all of a patient's; times of the day stay. Birth dates are emptied even so."""


@dataclass(frozen=True, slots=True)
class DeidentifyOptions:
    """Departures from the basic profile; each is stated in the result."""

    dates: Dates = Dates.REMOVE
    retain: frozenset[Retain] = frozenset()
    pixels: Pixels = Pixels.REFUSE


BASIC = DeidentifyOptions()
_DUMMIES: dict[str, object] = {
    "AS": "000Y",
    "DA": DUMMY_DATE,
    "DT": f"{DUMMY_DATE}000000",
    "TM": "000000",
    "UR": "http://removed.invalid",
    **dict.fromkeys(("DS", "IS"), "0"),
    **dict.fromkeys(("FD", "FL"), 0.0),
    **dict.fromkeys(("SL", "SS", "SV", "UL", "US", "UV"), 0),
    **dict.fromkeys(("OB", "OD", "OF", "OL", "OV", "OW"), b"\0" * 8),
}
# CID 7050 (PS3.16) with the meanings of its codes.
_BASIC_PROFILE = ("113100", "Basic Application Confidentiality Profile")
_CLEAN_STRUCTURED_CONTENT = ("113104", "Clean Structured Content Option")
_MODIFIED_DATES = ("113107", "Retain Longitudinal Temporal Information Modified Dates Option")
_RETAINED = {
    Retain.PATIENT_CHARACTERISTICS: "Retain Patient Characteristics Option",
    Retain.DEVICE_IDENTITY: "Retain Device Identity Option",
}
# Age, sex, weight, height and body mass index as concepts of content items (TID 1007 and TID 3602).
_CHARACTERISTIC_CONCEPTS = frozenset(
    ("121032", "121033", "397669002", "29463-7", "27113001", "8302-2", "50373000", "60621009", "39156-5", "263495000")
)
_TRACKING_IDENTIFIER, _BIRTH_DATE = "112039", "121031"
_OLDEST_AGE_YEARS = 89
_DATE = re.compile(r"(\d{4})(\d{2})?(\d{2})?(.*)")
_TIME_OF_DATETIME = re.compile(r"(\d{2}(\d{2}(\d{2}(\.\d{1,6})?)?)?)?([+-]\d{4})?")
_TIME = re.compile(r"\d{2}(:?\d{2}(:?\d{2}(\.\d{1,6})?)?)?")
_AGE = re.compile(r"(\d{3})([DWMY])")
_TIMEZONE = re.compile(r"[+-]\d{4}")
_SCRUBBED_VRS = ("AE", "LO", "SH", "UC")
_CODE_KEYWORDS = frozenset(
    ("CodeMeaning", "CodeValue", "CodingSchemeDesignator", "CodingSchemeVersion", "LongCodeValue")
)


def deidentify(dataset: Dataset, key: PseudonymKey, options: DeidentifyOptions = BASIC) -> Dataset:
    """A new data set under PS3.15's basic profile and the options, with file meta information, ready to be written.

    Pixel data is the same object as the input's, byte for byte. UIDs, patients and dates change as `key` says, alike in
    images, segmentations, structure sets and reports, so that references still meet. Tracking identifiers become
    tokens, names of structures become "ROI 1" and so on. A text that the profile keeps, such as a segment's label, goes
    as well if it contains a name, a number or a date that identifies this object's patient.
    Raises `InputError` and `UnreadableImage` as `check_can_be_deidentified`, and `UnreadableImage` for a damaged
    object. No message repeats a value. Source: PS3.15 E.1.1, E.2 and Table E.1-1; PS3.16 CID 7050.
    """
    with quiet(), refused_if_broken():
        check_can_be_deidentified(dataset, options.pixels)
        words = [one for one in identifiers_of(dataset, options.retain) if "UID" not in one.keyword]
        work = _Work(key, options, patient_of(dataset), text_of(dataset, "SOPClassUID"), search_for(words, dataset))
        new = _cleaned(dataset, work, ())
        _sign(new, options, structured="ContentSequence" in new)
        new.file_meta = _file_meta(dataset, new)
        new.preamble = b"\0" * 128
    return new


def leftovers(
    original: Dataset, new: Dataset, key: PseudonymKey, options: DeidentifyOptions = BASIC
) -> tuple[Residue, ...]:
    """What `residue` finds of an object in the one that `deidentify` made of it with this key and options; best empty.

    A pseudonym or a moved date that happens to equal something of the original is no residue.
    """
    return residue(new, telltales(original, key, options))


def telltales(original: Dataset, key: PseudonymKey, options: DeidentifyOptions = BASIC) -> frozenset[Identifier]:
    """What must not be found in anything that is made of an object under its patient's pseudonym."""
    patient = patient_of(original)
    identifiers = identifiers_of(original, options.retain)
    days = timedelta(days=key.shift_days(patient))
    made = {key.pseudonym(patient)}
    if options.dates is Dates.SHIFT:
        made |= {_datetime(one.text, days) for one in identifiers if one.is_date}
    return frozenset(one for one in identifiers if one.text not in made)


def patient_of(dataset: Dataset) -> Patient:
    """Whom an object is about."""
    return Patient(*(text_of(dataset, word) for word in ("PatientID", "IssuerOfPatientID", "StudyInstanceUID")))


def relative_path(dataset: Dataset, key: PseudonymKey) -> Path:
    """Where what `deidentify` makes of an object belongs: patient/study/series/instance.dcm, of the new names."""
    study, series, instance = (key.uid(text_of(dataset, f"{level}InstanceUID")) for level in ("Study", "Series", "SOP"))
    return Path(key.pseudonym(patient_of(dataset)), study, series, f"{instance}.dcm")


@dataclass(frozen=True, slots=True)
class _Work:
    key: PseudonymKey
    options: DeidentifyOptions
    patient: Patient
    sop_class_uid: str
    identifiers: Search


_Path = tuple[str, ...]


def _cleaned(dataset: Dataset, work: _Work, path: _Path) -> Dataset:
    """A data set or an item of a sequence, without what has to go."""
    from pydicom import Dataset

    encoding: Any = dataset.original_character_set
    implicit, little = dataset.original_encoding
    new = Dataset(parent_encoding=encoding)
    new.set_original_encoding(implicit, little, encoding)
    for tag in list(dataset.keys()):
        element = _treated(dataset, tag, work, path)
        if element is not None:
            new[element.tag] = element
    _neutralise_subject(new, work)
    return new


def _treated(dataset: Dataset, tag: Any, work: _Work, path: _Path) -> DataElement | RawDataElement | None:
    """One element as it goes into the result; None if it is left out."""
    keyword, raw = _keyword(tag), cast("DataElement | RawDataElement", dataset.get_item(tag))
    vr = _vr(raw, tag)
    rule = rule_of(tag, vr, keyword, work.options.retain)
    if rule == LEAVE_OUT:
        return None
    if rule == KEEP and _may_hold_names(vr, keyword) and _identifies(raw, work):
        rule = "X/Z/D"
    if rule == KEEP and vr not in ("SQ", "AS") and _stays_raw(raw, dataset):
        return copy.copy(raw)
    element = dataset[tag]
    if element.VR == "UN":
        return None
    if work.options.dates is Dates.SHIFT:
        if element.VR in TEMPORAL_VRS and keyword not in NEVER_SHIFTED:
            return _shifted(element, work)
        if keyword == "TimezoneOffsetFromUTC":
            return _with(element, element.value) if _TIMEZONE.fullmatch(stripped(element.value)) else None
    action = resolve(rule, attribute_type(work.sop_class_uid, (*path, keyword)))
    return _acted(element, action, dataset, work=work, path=(*path, keyword))


def _may_hold_names(vr: str, keyword: str) -> bool:
    """Short texts that people or sites fill in; codes are left alone, and so are numbers that others refer to."""
    return keyword == "SeriesNumber" or (vr in _SCRUBBED_VRS and keyword not in _CODE_KEYWORDS)


def _identifies(raw: DataElement | RawDataElement, work: _Work) -> bool:
    value = raw.value if isinstance(raw.value, bytes) else str(raw.value).encode("utf-8", errors="replace")
    return bool(occurring(work.identifiers, value.lower()))


def _acted(element: DataElement, action: Action, dataset: Dataset, *, work: _Work, path: _Path) -> DataElement | None:
    if action is Action.REMOVE:
        return None
    special = _special(element, path[-1], dataset, work)
    if special is not None:
        return _with(element, special)
    if action is Action.UID or (action is Action.DUMMY and element.VR == "UI"):
        return _with(element, _each(element.value, work.key.uid))
    if action is Action.CLEAN:
        return _sequence(element, work, path) if element.VR == "SQ" else _kept(element)
    if action is Action.EMPTY or element.is_empty:
        return _with(element, element.empty_value)
    if element.VR == "SQ":
        return _dummy_sequence(element, work, path)
    return _with(element, _DUMMIES.get(element.VR, DUMMY_TEXT))


def _special(element: DataElement, keyword: str, dataset: Dataset, work: _Work) -> str | None:
    """Values that people or programs need in order to tell things apart; they are as new as any dummy."""
    if keyword in ("PatientID", "PatientName"):
        nested = Patient(*(text_of(dataset, word) for word in ("PatientID", "IssuerOfPatientID")))
        return work.key.pseudonym(nested if nested.id else work.patient)
    if keyword == "ROIName":
        return f"ROI {_number(dataset, 'ROINumber')}"
    if keyword == "TrackingID" or (keyword == "TextValue" and _concept(dataset) == _TRACKING_IDENTIFIER):
        return work.key.token(str(element.value or ""))
    return None


def _sequence(element: DataElement, work: _Work, path: _Path) -> DataElement:
    return _with(element, [_cleaned(item, work, path) for item in element.value or ()])


def _dummy_sequence(element: DataElement, work: _Work, path: _Path) -> DataElement:
    if any("CodeMeaning" in item for item in element.value):
        return _with(element, [_code(DUMMY_TEXT, "99REMOVED", "Removed")])
    return _sequence(element, work, path)


def _kept(element: DataElement) -> DataElement | None:
    """An element that stays; a high age, which few people have, becomes "90 or older" (45 CFR 164.514(b)(2)(i)(C))."""
    if element.VR != "AS":
        return copy.copy(element)
    found = _AGE.fullmatch(str(element.value or ""))
    if found is None:
        return _with(element, None)
    old = found[2] == "Y" and int(found[1]) > _OLDEST_AGE_YEARS
    return _with(element, f"{_OLDEST_AGE_YEARS + 1:03d}Y") if old else copy.copy(element)


def _shifted(element: DataElement, work: _Work) -> DataElement:
    """Dates moved by the patient's days, times of the day unchanged; what is no date or time is emptied."""
    days = timedelta(days=work.key.shift_days(work.patient))
    move = _time if element.VR == "TM" else _datetime
    return _with(element, _each(element.value, lambda text: move(text, days)))


def _time(text: str, days: timedelta) -> str:
    return text if _TIME.fullmatch(text) else ""


def _datetime(text: str, days: timedelta) -> str:
    """A DA or DT value moved; one without day or month is moved from its first day, and keeps its precision."""
    found = _DATE.fullmatch(text.replace(".", "", 2) if re.fullmatch(r"\d{4}\.\d{2}\.\d{2}", text) else text)
    if found is None or not _TIME_OF_DATETIME.fullmatch(found[4]):
        return ""
    try:
        moved = date(int(found[1]), int(found[2] or 1), int(found[3] or 1)) + days
    except (ValueError, OverflowError):
        return ""
    digits = f"{moved.year:04d}{moved.month:02d}{moved.day:02d}"
    return digits[: sum(len(found[n] or "") for n in (1, 2, 3))] + found[4]


def _neutralise_subject(item: Dataset, work: _Work) -> None:
    """Age, sex and size in a report are characteristics of the patient, as they are in the header.

    A birth date is none, and is not moved like the days of the examinations.
    """
    concept = _concept(item)
    if concept == _BIRTH_DATE and "Date" in item:
        item.Date = DUMMY_DATE
    if Retain.PATIENT_CHARACTERISTICS in work.options.retain or concept not in _CHARACTERISTIC_CONCEPTS:
        return
    if "MeasuredValueSequence" in item:
        item.MeasuredValueSequence = []
    if "ConceptCodeSequence" in item:
        item.ConceptCodeSequence = [_code("261665006", "SCT", "Unknown")]


def _sign(new: Dataset, options: DeidentifyOptions, *, structured: bool) -> None:
    """Say what was done (PS3.15 E.1.1)."""
    shifted = options.dates is Dates.SHIFT
    codes = [_BASIC_PROFILE]
    codes += [_CLEAN_STRUCTURED_CONTENT] if structured else []
    codes += [_MODIFIED_DATES] if shifted else []
    codes += [(option.value, _RETAINED[option]) for option in sorted(options.retain, key=lambda option: option.value)]
    new.PatientIdentityRemoved = "YES"
    new.DeidentificationMethod = [f"delineate: PS3.15 {EDITION} basic profile", "Pixel data not inspected"]
    new.DeidentificationMethodCodeSequence = [_code(value, "DCM", meaning) for value, meaning in codes]
    new.LongitudinalTemporalInformationModified = "MODIFIED" if shifted else "REMOVED"


def _file_meta(old: Dataset, new: Dataset) -> FileMetaDataset:
    from pydicom.dataset import FileMetaDataset
    from pydicom.uid import PYDICOM_IMPLEMENTATION_UID

    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID = new.SOPClassUID, new.SOPInstanceUID
    meta.TransferSyntaxUID = old.file_meta.TransferSyntaxUID
    meta.ImplementationClassUID = PYDICOM_IMPLEMENTATION_UID
    return meta


def _code(value: str, scheme: str, meaning: str) -> Dataset:
    from pydicom import Dataset

    code = Dataset()
    code.CodeValue, code.CodingSchemeDesignator, code.CodeMeaning = value, scheme, meaning
    return code


def _concept(item: Dataset) -> str:
    names: Any = item.get("ConceptNameCodeSequence")
    return text_of(names[0], "CodeValue") if names else ""


def _number(dataset: Dataset, keyword: str) -> str:
    digits = text_of(dataset, keyword)
    return digits if digits.isdigit() else "?"


def _keyword(tag: Any) -> str:
    """The standard's or the table's keyword of a tag; empty if neither knows it."""
    from pydicom.datadict import keyword_for_tag

    return keyword_for_tag(tag) or ("Listed" if int(tag) in table() else "")


def _vr(raw: DataElement | RawDataElement, tag: Any) -> str:
    from pydicom.datadict import dictionary_VR

    if raw.VR not in (None, "UN"):
        return str(raw.VR)
    try:
        return dictionary_VR(tag)
    except KeyError:
        return "UN"


def _stays_raw(raw: DataElement | RawDataElement, dataset: Dataset) -> bool:
    """Whether a kept element can be written as it was read, without being parsed."""
    from pydicom.dataelem import RawDataElement

    if not isinstance(raw, RawDataElement):
        return True
    return raw.VR != "UN" and (raw.is_implicit_VR, raw.is_little_endian) == dataset.original_encoding


def _with(element: DataElement, value: object) -> DataElement:
    from pydicom import DataElement

    return DataElement(element.tag, element.VR, value)


def _each(value: Any, change: Callable[[str], str]) -> Any:
    """A changed value, or each of several; nothing stays nothing."""
    from pydicom.multival import MultiValue

    if isinstance(value, MultiValue | list | tuple):
        return [change(text) if (text := stripped(one)) else "" for one in value]
    text = stripped(value)
    return change(text) if text else None
