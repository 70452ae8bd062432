"""The profile's table and rules, against rows of PS3.15 Table E.1-1 written down by hand."""

from __future__ import annotations

import pytest
from pydicom.datadict import dictionary_VR, keyword_for_tag, tag_for_keyword

from delineate.formats.deidentification.profile import (
    DEVICE_IDENTITY,
    KEEP,
    LEAVE_OUT,
    NEVER_SHIFTED,
    PATIENT_CHARACTERISTICS,
    Action,
    Retain,
    attribute_type,
    iod_of,
    resolve,
    rule_of,
    table,
)

CT, SEG, SR = "1.2.840.10008.5.1.4.1.1.2", "1.2.840.10008.5.1.4.1.1.66.4", "1.2.840.10008.5.1.4.1.1.88.34"
RTSTRUCT = "1.2.840.10008.5.1.4.1.1.481.3"


def rule(keyword: str, *retained: Retain) -> str:
    tag = tag_for_keyword(keyword)
    assert tag is not None
    return rule_of(tag, dictionary_VR(tag), keyword, frozenset(retained))


@pytest.mark.parametrize(
    ("keyword", "cell"),
    [
        ("PatientName", "Z"),
        ("PatientID", "Z/D"),
        ("PatientBirthDate", "Z"),
        ("PatientSex", "Z"),
        ("PatientAge", "X"),
        ("PatientWeight", "X"),
        ("PatientSize", "X"),
        ("OtherPatientIDs", "X"),
        ("PatientAddress", "X"),
        ("EthnicGroup", "X"),
        ("AccessionNumber", "Z"),
        ("StudyID", "Z"),
        ("StudyDate", "Z"),
        ("SeriesDate", "X/D"),
        ("AcquisitionDate", "X/Z"),
        ("AcquisitionDateTime", "X/Z/D"),
        ("ContentDate", "Z/D"),
        ("ReferringPhysicianName", "Z"),
        ("PerformingPhysicianName", "X"),
        ("OperatorsName", "X/Z/D"),
        ("InstitutionName", "X/Z/D"),
        ("InstitutionAddress", "X"),
        ("StationName", "X/Z/D"),
        ("DeviceSerialNumber", "X/Z/D"),
        ("ProtocolName", "X/D"),
        ("StudyDescription", "X"),
        ("SeriesDescription", "X"),
        ("ImageComments", "X"),
        ("PatientComments", "X"),
        ("RequestAttributesSequence", "X"),
        ("OriginalAttributesSequence", "X"),
        ("IconImageSequence", "X"),
        ("ContentSequence", "D"),
        ("VerifyingObserverName", "D"),
        ("PersonName", "D"),
        ("StructureSetLabel", "D"),
        ("ROIName", "Z"),
        ("StudyInstanceUID", "U"),
        ("SeriesInstanceUID", "U"),
        ("SOPInstanceUID", "U"),
        ("ReferencedSOPInstanceUID", "U"),
        ("FrameOfReferenceUID", "U"),
        ("ReferencedFrameOfReferenceUID", "U"),
        ("TrackingUID", "U"),
        ("DeviceUID", "U"),
        ("IrradiationEventUID", "U"),
        ("SourceImageSequence", "X/Z/U*"),
        ("RadiopharmaceuticalStartDateTime", "X"),
    ],
)
def test_the_table_says_what_the_standard_says(keyword: str, cell: str) -> None:
    assert rule(keyword) == cell


@pytest.mark.parametrize(
    "keyword",
    [
        "SOPClassUID",
        "ReferencedSOPClassUID",
        "CodingSchemeUID",
        "Modality",
        "Manufacturer",
        "Rows",
        "PixelSpacing",
        "ImagePositionPatient",
        "RescaleSlope",
        "ContourData",
        "SegmentLabel",
        "BodyPartExamined",
        "CodeMeaning",
        "RadionuclideTotalDose",
        "PixelData",
    ],
)
def test_what_images_and_references_need_is_kept(keyword: str) -> None:
    assert rule(keyword) == KEEP


@pytest.mark.parametrize(
    ("keyword", "cell"),
    [
        ("EvaluatorName", "X/Z/D"),
        ("StudyUpdateDateTime", "X/Z/D"),
        ("RetrieveURL", "X/Z/D"),
        ("CommentsOnTheScheduledProcedureStep", "X/Z/D"),
        ("SOPInstanceUIDOfConcatenationSource", "U"),
        ("EncryptedAttributesSequence", LEAVE_OUT),
        ("PatientBirthDateInAlternativeCalendar", LEAVE_OUT),
        ("GraphicAnnotationSequence", LEAVE_OUT),
    ],
)
def test_where_the_table_is_silent_the_rule_is_strict(keyword: str, cell: str) -> None:
    assert rule(keyword) == cell


@pytest.mark.parametrize("tag", [0x00091001, 0x50000010, 0x60003000, 0x60FE4000, 0xFFFAFFFA, 0xFFFCFFFC, 0x00080000])
def test_private_curve_overlay_and_signature_elements_are_out(tag: int) -> None:
    assert rule_of(tag, "LO", "Anything", frozenset()) == LEAVE_OUT


def test_what_nobody_knows_is_out() -> None:
    assert rule_of(0x00080007, "LO", "", frozenset()) == LEAVE_OUT
    assert rule_of(0x00280010, "UN", "Rows", frozenset()) == LEAVE_OUT


def test_options_keep_their_own_attributes_only() -> None:
    assert rule("PatientWeight", Retain.PATIENT_CHARACTERISTICS) == KEEP
    assert rule("PatientWeight", Retain.DEVICE_IDENTITY) == "X"
    assert rule("StationName", Retain.DEVICE_IDENTITY) == KEEP
    assert rule("PatientBirthDate", *Retain) == "Z"
    assert rule("InstitutionName", *Retain) == "X/Z/D"
    assert rule("OperatorsName", *Retain) == "X/Z/D"


@pytest.mark.parametrize("names", [PATIENT_CHARACTERISTICS, DEVICE_IDENTITY, NEVER_SHIFTED])
def test_the_options_lists_name_attributes(names: frozenset[str]) -> None:
    newer = {"EthnicGroups", "SelectorASValue"}  # not in every version of pydicom
    tags = {name: tag_for_keyword(name) for name in names - newer}
    assert [name for name, tag in tags.items() if tag is None] == []
    assert [name for name, tag in tags.items() if tag not in table()] == []


def test_no_name_date_uid_or_address_escapes() -> None:
    from pydicom._dicom_dict import DicomDictionary

    kept = {
        keyword_for_tag(tag)
        for tag, (vr, *_) in DicomDictionary.items()
        if vr in ("PN", "DA", "DT", "TM", "UR", "LT", "ST", "UT")
        and rule_of(tag, vr, keyword_for_tag(tag), frozenset()) == KEEP
    }
    assert kept == {"CodingSchemeExternalID", "CodingSchemeName", "URNCodeValue"}


@pytest.mark.parametrize(
    ("cell", "of_type"),
    [
        # Types 1, 1C, 2, 2C, 3, not known
        ("X", "DDZZXX"),
        ("Z", "DDZZZZ"),
        ("D", "DDDDDD"),
        ("U", "UUUUUU"),
        (KEEP, "CCCCCC"),
        ("Z/D", "DDZZZD"),
        ("X/Z", "DDZZXZ"),
        ("X/D", "DDZZXD"),
        ("X/Z/D", "DDZZXD"),
        ("X/Z/U*", "CCCCCC"),
        (LEAVE_OUT, "XXXXXX"),
    ],
)
def test_the_type_decides_between_actions(cell: str, of_type: str) -> None:
    types = ("1", "1C", "2", "2C", "3", None)
    assert [resolve(cell, type_) for type_ in types] == [Action(letter) for letter in of_type]


@pytest.mark.parametrize(
    ("sop_class", "path", "type_"),
    [
        (CT, ("PatientID",), "2"),
        (CT, ("SOPInstanceUID",), "1"),
        (CT, ("SeriesDescription",), "3"),
        (SEG, ("ContentDate",), "1"),
        (SEG, ("SegmentSequence", "SegmentLabel"), "1"),
        (SEG, ("PerFrameFunctionalGroupsSequence", "DerivationImageSequence", "SourceImageSequence"), "2"),
        (RTSTRUCT, ("StructureSetLabel",), "1"),
        (RTSTRUCT, ("StructureSetROISequence", "ROIName"), "2"),
        (SR, ("ContentSequence", "ContentSequence", "ContentSequence", "TextValue"), "1C"),
        (CT, ("SegmentSequence",), "3"),
        (CT, ("SegmentSequence", "SegmentLabel"), None),
        ("1.2.3", ("PatientID",), None),
    ],
)
def test_types_are_those_of_the_iod(sop_class: str, path: tuple[str, ...], type_: str | None) -> None:
    assert attribute_type(sop_class, path) == type_


def test_every_class_that_matters_has_its_iod() -> None:
    assert (iod_of(CT), iod_of(SEG), iod_of(RTSTRUCT)) == ("ct-image", "segmentation", "rt-structure-set")
    assert iod_of("1.2.840.10008.5.1.4.1.1.66.7") != ""
    assert iod_of("1.2.3") == ""
