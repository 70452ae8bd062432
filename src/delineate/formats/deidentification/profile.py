"""What DICOM's basic confidentiality profile asks of each attribute: PS3.15 Annex E, Table E.1-1, as data and rules.

The table's rows come from the package dicom-anonymizer, the attributes' Types in each IOD (PS3.3) from highdicom.
Neither package's code decides anything here. Where the table is silent and a value could still identify somebody,
`rule_of` is stricter than the table; it is never laxer, unless an option retains what the option's column names.
"""

from __future__ import annotations

import json
from enum import Enum
from functools import lru_cache
from importlib import import_module, resources

from delineate.errors import ResourceError

EDITION = "2026c"
"""The edition of PS3.15 whose table is used."""


DUMMY_TEXT = "REMOVED"
DUMMY_DATE = "19000101"


class Retain(Enum):
    """What the profile's options keep; the value is the option's code in CID 7050 (PS3.16)."""

    PATIENT_CHARACTERISTICS = "113108"
    DEVICE_IDENTITY = "113109"


class Action(Enum):
    """What is done to one element, once its Type in the IOD is known."""

    REMOVE = "X"
    EMPTY = "Z"
    DUMMY = "D"
    UID = "U"
    CLEAN = "C"
    """Kept; a sequence's items are treated element by element."""


KEEP = "K"
LEAVE_OUT = "-"
"""Rules beside the cells of the table: kept; and left out, even if the IOD asks for it."""

PATIENT_CHARACTERISTICS = frozenset(
    (
        "EthnicGroup",
        "EthnicGroupCodeSequence",
        "EthnicGroups",
        "PatientAge",
        "PatientSex",
        "PatientSexNeutered",
        "PatientSize",
        "PatientWeight",
        "PregnancyStatus",
        "SelectorASValue",
        "SmokingStatus",
    )
)
"""Kept by PS3.15 E.3.7; attributes that the option wants cleaned (allergies, special needs, ...) are removed."""

DEVICE_IDENTITY = frozenset(
    (
        "CassetteID",
        "DetectorID",
        "DeviceDescription",
        "DeviceLabel",
        "DeviceSerialNumber",
        "DeviceUID",
        "GantryID",
        "GeneratorID",
        "LensMake",
        "LensModel",
        "LensSerialNumber",
        "LensSpecification",
        "ManufacturerDeviceClassUID",
        "ManufacturerDeviceIdentifier",
        "ModifyingDeviceID",
        "ModifyingSystem",
        "PerformedStationGeographicLocationCodeSequence",
        "PerformedStationName",
        "PerformedStationNameCodeSequence",
        "PlateID",
        "ScheduledProcedureStepLocation",
        "ScheduledStationGeographicLocationCodeSequence",
        "ScheduledStationName",
        "ScheduledStationNameCodeSequence",
        "ScheduledStudyLocation",
        "SourceManufacturer",
        "SourceSerialNumber",
        "StationName",
        "TransducerIdentificationSequence",
        "TreatmentMachineName",
        "UDISequence",
        "UniqueDeviceIdentifier",
        "XRayDetectorID",
        "XRayDetectorLabel",
        "XRaySourceID",
    )
)
"""Kept by PS3.15 E.3.8, except dates of calibration, which follow the rule for dates, and titles of network nodes."""

NEVER_SHIFTED = frozenset(("PatientBirthDate", "PatientBirthTime", "ContextGroupVersion", "TemplateVersion"))
"""Dates that the option with modified dates does not cover, or that are no event in a patient's course."""

TEMPORAL_VRS = ("DA", "DT", "TM")
_FREE_TEXT_VRS = ("LT", "ST", "UT")
_KEPT_UIDS = frozenset(
    (
        "AvailableTransferSyntaxUID",
        "CodingSchemeUID",
        "ContextGroupExtensionCreatorUID",
        "ContextUID",
        "FlowTransferSyntaxUID",
        "MappingResourceUID",
        "OriginalSpecializedSOPClassUID",
        "PertinentSOPClassesInSeries",
        "PertinentSOPClassesInStudy",
        "ReferencedSOPClassUID",
        "RelatedGeneralSOPClassUID",
        "SOPClassUID",
        "SOPClassesInStudy",
        "SOPClassesSupported",
        "StoredInstanceTransferSyntaxUID",
    )
)
_KEPT_TEXT = frozenset(("CodingSchemeExternalID", "CodingSchemeName", "URNCodeValue"))
# Not in the table, or there with an action that needs a person to judge it.
_ALSO_REMOVED = frozenset(
    (
        "EncryptedAttributesSequence",
        "GraphicAnnotationSequence",
        "IssuerOfPatientIDQualifiersSequence",
        "MACParametersSequence",
        "PatientAlternativeCalendar",
        "PatientBirthDateInAlternativeCalendar",
        "PatientDeathDateInAlternativeCalendar",
    )
)
_SECTIONS = {
    "D": "D_TAGS",
    "Z": "Z_TAGS",
    "X": "X_TAGS",
    "U": "U_TAGS",
    "Z/D": "Z_D_TAGS",
    "X/Z": "X_Z_TAGS",
    "X/D": "X_D_TAGS",
    "X/Z/D": "X_Z_D_TAGS",
    "X/Z/U*": "X_Z_U_STAR_TAGS",
}
_STRICTEST_FIRST = ("1", "1C", "2", "2C", "3")


def rule_of(tag: int, vr: str, keyword: str, retained: frozenset[Retain]) -> str:
    """The profile's rule for an element: a cell of Table E.1-1, such as "X/Z/D", or `KEEP` or `LEAVE_OUT`.

    `keyword` is empty for an element that neither the standard nor the table knows: it is removed, and so are private
    elements, curves and overlays. Names of persons, dates, addresses and long free text that the table does not list
    are removed or replaced all the same, and unlisted UIDs are remapped unless they name a class, a syntax or a scheme.
    """
    if _is_out(tag) or not keyword or keyword in _ALSO_REMOVED or vr == "UN":
        return LEAVE_OUT
    if is_retained(keyword, retained):
        return KEEP
    listed = table().get(tag)
    if listed is not None:
        return listed
    if vr in (*TEMPORAL_VRS, *_FREE_TEXT_VRS, "PN", "UR") and keyword not in _KEPT_TEXT:
        return "X/Z/D"
    if vr == "UI" and keyword not in _KEPT_UIDS:
        return "U"
    return KEEP


def is_retained(keyword: str, retained: frozenset[Retain]) -> bool:
    """Whether an option keeps an attribute that the basic profile does not."""
    return (Retain.PATIENT_CHARACTERISTICS in retained and keyword in PATIENT_CHARACTERISTICS) or (
        Retain.DEVICE_IDENTITY in retained and keyword in DEVICE_IDENTITY
    )


def resolve(rule: str, type_: str | None) -> Action:
    """The action of a rule for an attribute of a Type ("1", "1C", "2", "2C", "3"; None: not known).

    Combined rules are resolved as PS3.15 E.1.1 says: remove, unless the IOD needs the attribute. A plain X or Z gives
    way in the same manner, so that an object that was valid stays so. Not knowing the Type, an element stays with a
    dummy value.
    """
    if rule == LEAVE_OUT:
        return Action.REMOVE
    if rule == "U":
        return Action.UID
    if rule == "D":
        return Action.DUMMY
    # References lead nowhere but to other de-identified objects; without them contours and masks lose their images.
    if rule in (KEEP, "X/Z/U*"):
        return Action.CLEAN
    if type_ in ("1", "1C"):
        return Action.DUMMY
    if type_ in ("2", "2C"):
        return Action.EMPTY
    if type_ is None:
        return {"X": Action.REMOVE, "Z": Action.EMPTY, "X/Z": Action.EMPTY}.get(rule, Action.DUMMY)
    return Action.REMOVE if rule.startswith("X") else Action.EMPTY


@lru_cache(maxsize=1)
def table() -> dict[int, str]:
    """Table E.1-1: the basic profile's action by tag, without its repeating groups and private attributes."""
    try:
        module = import_module(f"dicomanonymizer.dicom_anonymization_databases.dicomfields_{EDITION}")
    except ImportError as error:
        raise ResourceError(
            "the table of the confidentiality profile is not there",
            expected=f"the package dicom-anonymizer with PS3.15 {EDITION}",
            remedy="Install dicom-anonymizer 2.1 or newer.",
        ) from error
    return {
        (entry[0] << 16) | entry[1]: rule
        for rule, section in _SECTIONS.items()
        for entry in getattr(module, section)
        if len(entry) == 2
    }


def attribute_type(sop_class_uid: str, path: tuple[str, ...]) -> str | None:
    """The Type of an attribute in the IOD of a SOP class, by its keyword after those of the sequences it is in.

    The strictest, where the IOD's modules differ; "3" for what a class's IOD does not mention at its top (a Standard
    Extended SOP Class, PS3.2 3.11); None where neither the class nor the place is known.
    """
    # Content items nest to any depth; the IOD describes one level.
    flat = tuple(word for n, word in enumerate(path) if n == 0 or word != path[n - 1])
    types = _types(sop_class_uid)
    return types.get(flat, "3" if types and len(flat) == 1 else None)


def iod_of(sop_class_uid: str) -> str:
    """The name of a SOP class's IOD, such as "ct-image"; empty if the class is not known."""
    return _standard()[0].get(sop_class_uid, "")


@lru_cache(maxsize=32)
def _types(sop_class_uid: str) -> dict[tuple[str, ...], str]:
    _, modules, attributes = _standard()
    found: dict[tuple[str, ...], str] = {}
    for module in modules.get(iod_of(sop_class_uid), ()):
        for path, type_ in attributes.get(module, {}).items():
            found[path] = min(type_, found.get(path, "3"), key=_STRICTEST_FIRST.index)
    return found


_Standard = tuple[dict[str, str], dict[str, list[str]], dict[str, dict[tuple[str, ...], str]]]


@lru_cache(maxsize=1)
def _standard() -> _Standard:
    """SOP class to IOD, IOD to modules, module to the Types of its attributes."""
    folder = resources.files("highdicom") / "_standard"
    try:
        iods, modules, attributes = (
            json.loads((folder / f"{name}.json").read_bytes())
            for name in ("sop_class_iod_map", "iod_module_map", "module_attribute_map")
        )
    except OSError as error:
        raise ResourceError(
            "the Types of DICOM attributes are not there",
            expected="highdicom with its tables of the standard",
            remedy="Install highdicom 0.28.",
        ) from error
    return (
        iods,
        {iod: [module["key"] for module in used] for iod, used in modules.items()},
        {
            module: {(*entry["path"], entry["keyword"]): entry["type"] for entry in entries}
            for module, entries in attributes.items()
        },
    )


def _is_out(tag: int) -> bool:
    """Private groups, command and file-set groups, curves, overlays, signatures, padding, group lengths."""
    group, element = tag >> 16, tag & 0xFFFF
    odd, repeating = group % 2 == 1, group >> 8 in (0x50, 0x60)
    return odd or repeating or group < 0x0008 or group >= 0xFFFA or element == 0
