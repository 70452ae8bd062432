"""Which objects are refused, because a header's rules do not reach what is in them."""

from __future__ import annotations

import pytest
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian

from delineate.errors import InputError, UnreadableImage
from delineate.formats.deidentification.screening import Pixels, check_can_be_deidentified, text_in_pixels

ROOT = "1.2.840.10008.5.1.4.1.1."
CT, CAPTURE, ULTRASOUND = f"{ROOT}2", f"{ROOT}7", f"{ROOT}6.1"


def instance(sop_class: str = CT, **values: object) -> Dataset:
    dataset = Dataset()
    dataset.SOPClassUID, dataset.Modality = sop_class, "CT"
    dataset.SOPInstanceUID, dataset.StudyInstanceUID, dataset.SeriesInstanceUID = "1.2.1", "1.2.2", "1.2.3"
    for keyword, value in values.items():
        setattr(dataset, keyword, value)
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    return dataset


@pytest.mark.parametrize(
    ("dataset", "match"),
    [
        (instance(BurnedInAnnotation="YES"), "BurnedInAnnotation is YES"),
        (instance(ImageType=["DERIVED", "SECONDARY", "SCREEN SAVE"]), "SCREEN SAVE"),
        (instance(ImageType=["ORIGINAL", "PRIMARY", "LABEL", "NONE"], BurnedInAnnotation="NO"), "LABEL"),
        (instance(CAPTURE), "secondary capture"),
        (instance(ULTRASOUND, BurnedInAnnotation="NO"), "ultrasound"),
        (instance(f"{ROOT}77.1.4"), "photographic"),
        (instance(f"{ROOT}77.1.4.1"), "video"),
        (instance(ConversionType="DF"), "not declared free of text"),
        (instance(Modality="OT"), "not declared free of text"),
    ],
)
def test_text_in_the_pixels_is_likely(dataset: Dataset, match: str) -> None:
    with pytest.raises(InputError, match=match):
        check_can_be_deidentified(dataset)
    check_can_be_deidentified(dataset, Pixels.ACCEPT)


@pytest.mark.parametrize(
    "dataset",
    [
        instance(),
        instance(f"{ROOT}4", Modality="MR"),
        instance(f"{ROOT}66.7", Modality="SEG"),
        instance(f"{ROOT}481.3", Modality="RTSTRUCT"),
        instance(f"{ROOT}88.34", Modality="SR"),
        instance(CAPTURE, BurnedInAnnotation="NO"),
        instance(ImageType=["ORIGINAL", "PRIMARY", "AXIAL"]),
    ],
)
def test_plain_objects_pass(dataset: Dataset) -> None:
    check_can_be_deidentified(dataset)
    assert text_in_pixels(dataset) == ""


def test_an_overlay_hidden_in_the_pixels_is_text() -> None:
    hidden = instance()
    hidden.add_new(0x60020010, "US", 4)
    assert "unused bits" in text_in_pixels(hidden)
    hidden.add_new(0x60023000, "OW", b"\0\0")
    assert text_in_pixels(hidden) == ""


@pytest.mark.parametrize(
    "sop_class",
    [f"{ROOT}104.1", f"{ROOT}66", f"{ROOT}11.1", f"{ROOT}9.4.1", "1.2.840.10008.1.3.10", "1.2.3.4"],
)
def test_kinds_that_rules_for_headers_do_not_reach_are_refused(sop_class: str) -> None:
    with pytest.raises(InputError, match="cannot be de-identified"):
        check_can_be_deidentified(instance(sop_class), Pixels.ACCEPT)


def test_a_document_in_any_object_is_refused() -> None:
    with pytest.raises(InputError, match="cannot be de-identified"):
        check_can_be_deidentified(instance(EncapsulatedDocument=b"%PDF"))


def test_without_a_transfer_syntax_nothing_is_done() -> None:
    dataset = instance()
    del dataset.file_meta.TransferSyntaxUID
    with pytest.raises(UnreadableImage, match="transfer syntax"):
        check_can_be_deidentified(dataset)
