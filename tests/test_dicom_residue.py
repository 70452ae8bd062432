"""The proof finds what is left, wherever it is, and does not cry over what is not."""

from __future__ import annotations

import pytest
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRBigEndian, ExplicitVRLittleEndian

from delineate.formats.deidentification.profile import Retain
from delineate.formats.deidentification.residue import Identifier, identifiers_of, residue

NAME, DAY = Identifier("PatientName", "Quastenbrink"), Identifier("StudyDate", "20230517")
UID = Identifier("StudyInstanceUID", "1.2.840.99.12")
PLACE = Identifier("InstitutionName", "Sankt Blasien")


def instance(**values: object) -> Dataset:
    dataset = Dataset()
    dataset.SOPClassUID, dataset.SOPInstanceUID = CTImageStorage, "2.25.1"
    for keyword, value in values.items():
        setattr(dataset, keyword, value)
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset.file_meta.MediaStorageSOPClassUID = CTImageStorage
    dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
    return dataset


def nested(**values: object) -> Dataset:
    item = Dataset()
    for keyword, value in values.items():
        setattr(item, keyword, value)
    middle = Dataset()
    middle.ContentSequence = [item]
    return instance(ContentSequence=[middle])


@pytest.mark.parametrize(
    ("identifier", "dataset", "place"),
    [
        (NAME, instance(Manufacturer="quastenbrink"), "Manufacturer"),
        (NAME, instance(SoftwareVersions=["1.0", "site QUASTENBRINK-2"]), "SoftwareVersions"),
        (NAME, nested(TextValue="seen by Dr. Quastenbrink."), "TextValue"),
        (NAME, nested(PersonName="Quastenbrink^H"), "PersonName"),
        (DAY, instance(SeriesDate="20230517"), "SeriesDate"),
        (DAY, instance(AcquisitionDateTime="20230517101500.123+0200"), "AcquisitionDateTime"),
        (DAY, nested(TextValue="scan of 2023-05-17"), "TextValue"),
        (UID, nested(UID="1.2.840.99.12"), "UID"),
        (UID, nested(TextValue="see 1.2.840.99.12"), "TextValue"),
        (PLACE, instance(ManufacturerModelName="made for sankt blasien"), "ManufacturerModelName"),
    ],
)
def test_what_is_left_is_found_with_its_place(identifier: Identifier, dataset: Dataset, place: str) -> None:
    (found,) = residue(dataset, [identifier])
    assert (found.identifier, found.places, found.coded) == (identifier, (place,), False)


@pytest.mark.parametrize(
    ("identifier", "dataset"),
    [
        (NAME, instance(Manufacturer="Quastenbrinks")),
        (DAY, instance(SeriesDate="20230518")),
        (DAY, instance(SOPInstanceUID="2.25.1202305171")),
        (UID, instance(SeriesInstanceUID="1.2.840.99.123")),
        (UID, instance(SeriesInstanceUID="1.2.840.99.12.1")),
        (PLACE, instance(Manufacturer="Sankt Blasiens")),
    ],
)
def test_what_only_looks_alike_is_not(identifier: Identifier, dataset: Dataset) -> None:
    assert residue(dataset, [identifier]) == ()


def test_binary_private_and_meta_elements_are_searched_too() -> None:
    binary = instance()
    binary.private_block(0x0029, "TESTS", create=True).add_new(1, "UN", b"\1\2Quastenbrink\0")
    meta = instance()
    meta.file_meta.SourceApplicationEntityTitle = "QUASTENBRINK"
    before = instance()
    before.preamble = b"Quastenbrink".ljust(128, b"\0")
    for dataset in (binary, meta, before):
        assert [one.identifier for one in residue(dataset, [NAME])] == [NAME]


def test_pixels_are_not_searched() -> None:
    dataset = instance()
    dataset.add_new("PixelData", "OW", b"Quastenbrink")
    assert residue(dataset, [NAME]) == ()


def test_a_word_among_defined_terms_is_marked() -> None:
    dataset = instance(ImageType=["DERIVED", "PRIMARY", "PERFUSION"])
    (found,) = residue(dataset, [Identifier("PatientName", "Perfusion")])
    assert found.coded
    dataset.Manufacturer = "Perfusion"
    assert not residue(dataset, [Identifier("PatientName", "Perfusion")])[0].coded


@pytest.mark.parametrize("keyword", ["TrackingID", "SeriesDescription"])
def test_neighbours_in_the_bytes_hide_nothing(keyword: str) -> None:
    dataset = instance(**{keyword: "Quastenbrink"})
    dataset.add_new(0x00620021, "UI", "2.25.7")  # its tag starts with the letter b
    dataset.file_meta.TransferSyntaxUID = ExplicitVRBigEndian
    assert len(residue(dataset, [NAME])) == 1


def test_identifiers_come_from_every_depth() -> None:
    dataset = nested(PersonName="Quastenbrink^Hildegard^^Dr", DateTime="20230517101500", UID="1.2.840.99.12")
    dataset.PatientID, dataset.InstitutionName = "HQ-4711", "Sankt Blasien"
    dataset.PatientBirthDate = "19511224"
    texts = {identifier.text for identifier in identifiers_of(dataset)}
    expected = {
        "Quastenbrink",
        "Hildegard",
        "20230517",
        "1.2.840.99.12",
        "HQ-4711",
        "Sankt Blasien",
        "19511224",
        "2.25.1",
    }
    assert texts == expected


@pytest.mark.parametrize(
    "values",
    [
        {"PatientName": "Li^X"},
        {"PatientID": "12345"},
        {"PatientID": "1"},
        {"StudyDate": "19000101"},
        {"PatientName": "Anonymous"},
        {"PatientID": "REMOVED"},
        {"StudyDescription": "CT of the chest"},
        {"Manufacturer": "Somebody"},
        {"StudyInstanceUID": "1.2.840.10008.1.4.1.1"},
    ],
)
def test_short_common_and_public_texts_identify_nobody(values: dict[str, object]) -> None:
    assert {identifier.text for identifier in identifiers_of(instance(**values))} == {"2.25.1"}


def test_what_an_option_retains_is_no_identifier() -> None:
    dataset = instance(DeviceSerialNumber="SN-556677")
    assert "SN-556677" in {one.text for one in identifiers_of(dataset)}
    assert "SN-556677" not in {one.text for one in identifiers_of(dataset, frozenset({Retain.DEVICE_IDENTITY}))}


def test_an_identifier_is_not_printed() -> None:
    assert "Quasten" not in repr(residue(instance(Manufacturer="Quastenbrink"), [NAME]))


def test_digits_of_a_contours_coordinates_are_no_number_of_a_patient() -> None:
    contour, region = Dataset(), Dataset()
    contour.ContourData, contour.ContourImageSequence = ["-12.998877", "20230517", "3.5"], [Dataset()]
    contour.ContourImageSequence[0].ReferencedSOPInstanceUID = "1.2.840.99.12"
    region.ContourSequence = [contour]
    found = residue(instance(ROIContourSequence=[region]), [Identifier("PatientID", "998877"), DAY, UID])
    assert [(one.identifier, one.places) for one in found] == [(UID, ("ReferencedSOPInstanceUID",))]
