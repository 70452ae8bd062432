"""De-identification: nothing of the patient is left, everything else is, and references still meet."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import identified
import numpy as np
import pydicom
import pytest
from pydicom.dataset import Dataset
from pydicom.uid import UID, DeflatedExplicitVRLittleEndian, ExplicitVRBigEndian, ImplicitVRLittleEndian

from delineate.errors import InputError
from delineate.formats import read_series
from delineate.formats.deidentification.deidentify import (
    BASIC,
    Dates,
    DeidentifyOptions,
    deidentify,
    leftovers,
    patient_of,
    relative_path,
)
from delineate.formats.deidentification.objects import read_object, write_object
from delineate.formats.deidentification.profile import Retain
from delineate.formats.deidentification.pseudonyms import Patient, PseudonymKey
from delineate.formats.deidentification.screening import Pixels
from delineate.geometry import same_space

DATA = Path(__file__).parents[2] / "shared" / "data"
needs_data = pytest.mark.skipif(not DATA.is_dir(), reason="shared/data is not there")
needs_dciodvfy = pytest.mark.skipif(shutil.which("dciodvfy") is None, reason="dciodvfy is not installed")
needs_dcmdump = pytest.mark.skipif(shutil.which("dcmdump") is None, reason="dcmdump is not installed")

KEY = PseudonymKey(b"k" * 32)
SHIFT = DeidentifyOptions(dates=Dates.SHIFT)
PATIENT_KEPT = DeidentifyOptions(retain=frozenset({Retain.PATIENT_CHARACTERISTICS}))
OPTIONS = [BASIC, SHIFT, PATIENT_KEPT]
OBJECTS = ["images/slice_0003.dcm", "mask", "structures", "report"]


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("study")
    identified.write_study(folder)
    return folder


def made(path: Path, options: DeidentifyOptions = BASIC) -> Dataset:
    return deidentify(read_object(path), KEY, options)


def elements(dataset: Dataset) -> Iterator[pydicom.DataElement]:
    for element in dataset:
        yield element
        for item in element.value if element.VR == "SQ" else ():
            yield from elements(item)


def uids(dataset: Dataset, keyword: str) -> set[str]:
    return {str(element.value) for element in elements(dataset) if element.keyword == keyword}


@pytest.mark.parametrize("name", OBJECTS)
@pytest.mark.parametrize("options", OPTIONS)
def test_no_byte_of_the_patient_is_left(study: Path, tmp_path: Path, name: str, options: DeidentifyOptions) -> None:
    before = (study / name).read_bytes()
    write_object(tmp_path / "new.dcm", made(study / name, options))
    after = (tmp_path / "new.dcm").read_bytes()
    assert sum(secret in before for secret in identified.SECRETS) > 9
    assert [secret for secret in identified.SECRETS if secret in after] == []
    assert [code for code in (b"Hilde", b"QUASTEN", b"2023-05") if code in after] == []


@pytest.mark.parametrize("name", OBJECTS)
@pytest.mark.parametrize("options", OPTIONS)
def test_the_proof_agrees(study: Path, name: str, options: DeidentifyOptions) -> None:
    original = read_object(study / name)
    assert leftovers(original, deidentify(original, KEY, options), KEY, options) == ()
    assert len(leftovers(original, original, KEY, options)) > 9


@needs_dciodvfy
@pytest.mark.parametrize("name", OBJECTS)
@pytest.mark.parametrize("options", OPTIONS)
def test_valid_objects_stay_valid(study: Path, tmp_path: Path, name: str, options: DeidentifyOptions) -> None:
    write_object(tmp_path / "new.dcm", made(study / name, options))
    for path in (study / name, tmp_path / "new.dcm"):
        said = subprocess.run(["dciodvfy", "-new", path], capture_output=True, text=True, check=False)
        assert [line for line in said.stderr.splitlines() if line.startswith("Error")] == []


@needs_dcmdump
def test_another_reader_sees_the_pseudonym_only(study: Path, tmp_path: Path) -> None:
    write_object(tmp_path / "new.dcm", made(study / "report"))
    shown = subprocess.run(["dcmdump", "+L", tmp_path / "new.dcm"], capture_output=True, check=True).stdout
    assert KEY.pseudonym(identified_patient(study)).encode() in shown
    assert not any(secret in shown for secret in identified.SECRETS)


def identified_patient(study: Path) -> Patient:
    return patient_of(read_object(study / "report"))


def test_references_meet_the_same_new_objects(study: Path) -> None:
    images = [made(path) for path in sorted((study / "images").iterdir())]
    mask, structures, report = (made(study / name) for name in OBJECTS[1:])
    instances = {str(image.SOPInstanceUID) for image in images}
    assert len(instances) == 4
    assert uids(mask, "ReferencedSOPInstanceUID") == instances
    assert uids(structures, "ReferencedSOPInstanceUID") == instances | {str(images[0].StudyInstanceUID)}
    assert uids(report, "ReferencedSOPInstanceUID") >= {str(mask.SOPInstanceUID)}
    assert uids(structures, "ReferencedFrameOfReferenceUID") == {str(images[0].FrameOfReferenceUID)}
    assert uids(report, "TrackingUID") | uids(report, "UID") >= uids(mask, "TrackingUID")
    assert {str(one.StudyInstanceUID) for one in (*images, mask, structures, report)} == {KEY.uid("1.2.840.99.1")}


def test_classes_syntaxes_and_schemes_keep_their_uids(study: Path) -> None:
    old, new = read_object(study / "mask"), made(study / "mask")
    for keyword in ("SOPClassUID", "ReferencedSOPClassUID", "CodingSchemeUID", "ContextUID"):
        assert uids(new, keyword) == uids(old, keyword)
    assert new.file_meta.TransferSyntaxUID == old.file_meta.TransferSyntaxUID


def test_the_volume_is_the_same_in_voxels_and_place(study: Path, tmp_path: Path) -> None:
    files = sorted((study / "images").iterdir())
    for path in files:
        write_object(tmp_path / path.name, made(path))
    old, new = read_series(files), read_series(sorted(tmp_path.iterdir()))
    assert np.array_equal(new.array, old.array)
    assert same_space(new.grid, old.grid, 1e-9)
    assert new.grid.frame_of_reference_uid == KEY.uid("1.2.840.99.7.4")


@pytest.mark.parametrize("name", OBJECTS)
def test_the_input_stays_as_it_is(study: Path, name: str) -> None:
    original = read_object(study / name)
    new = deidentify(original, KEY, SHIFT)
    assert original == pydicom.dcmread(study / name)
    assert "PixelData" not in original or new.get_item("PixelData").value is original.get_item("PixelData").value


def test_private_unknown_and_overlay_elements_go_at_every_depth(study: Path) -> None:
    original = read_object(study / OBJECTS[0])
    original.add_new(0x00091234, "LO", "x")
    original.add_new(0x00080007, "LO", "nobody knows this one")
    new = deidentify(original, KEY)
    found = {element.tag for element in elements(new)}
    assert not any(tag.is_private or tag.group >> 8 == 0x60 for tag in found)
    assert 0x00080007 not in found
    assert new.ContributingEquipmentSequence[0].Manufacturer == "Delineate Tests"


def test_what_stands_before_the_data_set_goes_too(study: Path) -> None:
    new = made(study / OBJECTS[0])
    assert new.preamble == b"\0" * 128
    assert new.file_meta.MediaStorageSOPInstanceUID == new.SOPInstanceUID == KEY.uid("1.2.840.99.3.3")
    assert "SourceApplicationEntityTitle" not in new.file_meta


@pytest.mark.parametrize(
    ("name", "options", "codes", "dates"),
    [
        (OBJECTS[0], BASIC, ["113100"], "REMOVED"),
        ("report", BASIC, ["113100", "113104"], "REMOVED"),
        ("mask", SHIFT, ["113100", "113107"], "MODIFIED"),
        ("mask", DeidentifyOptions(retain=frozenset(Retain)), ["113100", "113108", "113109"], "REMOVED"),
    ],
)
def test_the_result_states_what_was_done(
    study: Path, name: str, options: DeidentifyOptions, codes: list[str], dates: str
) -> None:
    new = made(study / name, options)
    assert new.PatientIdentityRemoved == "YES"
    assert [item.CodeValue for item in new.DeidentificationMethodCodeSequence] == codes
    assert new.LongitudinalTemporalInformationModified == dates
    assert "Pixel data not inspected" in new.DeidentificationMethod


def test_all_dates_move_by_the_same_days_and_times_stay(study: Path) -> None:
    new = made(study / OBJECTS[0], SHIFT)
    days = KEY.shift_days(identified_patient(study))
    moved = np.datetime64("2023-05-17") + days
    assert days < 0
    assert new.StudyDate == new.SeriesDate == str(moved).replace("-", "")
    assert new.AcquisitionDateTime == f"{str(moved).replace('-', '')}102233.5+0200"
    assert (new.StudyTime, new.SeriesTime, new.TimezoneOffsetFromUTC) == ("101500", "102200.125", "+0200")
    assert new.PatientBirthDate == ""
    assert new.ContributingEquipmentSequence[0].ContributionDateTime == str(moved).replace("-", "")
    assert made(study / "structures", SHIFT).StructureSetDate == new.StudyDate


@pytest.mark.parametrize(("text", "digits"), [("2023", 4), ("202305", 6), ("20230517", 8), ("2023051712+0100", 15)])
def test_a_moved_date_keeps_its_precision(study: Path, text: str, digits: int) -> None:
    original = read_object(study / OBJECTS[0])
    original.AcquisitionDateTime = text
    assert len(deidentify(original, KEY, SHIFT).AcquisitionDateTime) == digits


@pytest.mark.parametrize("text", ["20231399", "17 May 2023", "00010101", "2023051799x"])
def test_what_is_no_date_is_not_kept_as_one(study: Path, text: str) -> None:
    original = read_object(study / OBJECTS[0])
    original["StudyDate"]._value = text
    assert not deidentify(original, KEY, SHIFT).StudyDate


def test_without_the_option_dates_and_times_are_gone(study: Path) -> None:
    new, mask = made(study / OBJECTS[0]), made(study / "mask")
    assert (new.StudyDate, new.StudyTime) == ("", "")
    assert "SeriesDate" not in new
    assert "AcquisitionDateTime" not in new
    assert (mask.ContentDate, mask.ContentTime) == ("19000101", "000000")  # Type 1 in a segmentation


def test_size_and_weight_stay_by_option_only(study: Path) -> None:
    kept, basic = made(study / OBJECTS[0], PATIENT_KEPT), made(study / OBJECTS[0])
    assert (kept.PatientWeight, kept.PatientAge, kept.PatientSex) == (64.5, "071Y", "F")
    assert "PatientWeight" not in basic
    assert "PatientAge" not in basic
    assert basic.PatientSex == ""
    assert kept.PatientBirthDate == ""


@pytest.mark.parametrize(("age", "kept"), [("089Y", "089Y"), ("090Y", "090Y"), ("104Y", "090Y"), ("011M", "011M")])
def test_nobody_is_older_than_ninety(study: Path, age: str, kept: str) -> None:
    original = read_object(study / OBJECTS[0])
    original.PatientAge = age
    assert deidentify(original, KEY, PATIENT_KEPT).PatientAge == kept


def test_the_device_stays_by_option_only(study: Path) -> None:
    options = DeidentifyOptions(retain=frozenset({Retain.DEVICE_IDENTITY}))
    kept, basic = made(study / OBJECTS[0], options), made(study / OBJECTS[0])
    assert (kept.DeviceSerialNumber, kept.StationName) == ("SN-556677", "HOSPITALNODE")
    assert "DeviceSerialNumber" not in basic
    assert "InstitutionName" not in kept


def test_kept_texts_go_if_they_name_the_patient(study: Path) -> None:
    original = read_object(study / "mask")
    assert made(study / "mask").SegmentSequence[0].SegmentLabel == "REMOVED"
    original.SegmentSequence[0].SegmentLabel = "Tumour"
    assert deidentify(original, KEY).SegmentSequence[0].SegmentLabel == "Tumour"
    assert "Zwirbelmann" not in str(made(study / OBJECTS[0]).get("SoftwareVersions"))


def test_structures_get_numbers_for_names(study: Path) -> None:
    new = made(study / "structures")
    assert [(roi.ROINumber, roi.ROIName) for roi in new.StructureSetROISequence] == [(1, "ROI 1"), (2, "ROI 2")]
    old = read_object(study / "structures")
    assert (
        new.ROIContourSequence[1].ContourSequence[2].ContourData
        == old.ROIContourSequence[1].ContourSequence[2].ContourData
    )


def test_a_report_keeps_its_measurements_and_loses_its_texts(study: Path) -> None:
    new = made(study / "report")
    items = {element.value[0].CodeValue: item for item in tree(new) for element in [item["ConceptNameCodeSequence"]]}
    assert items["118565006"].MeasuredValueSequence[0].NumericValue == 12.5
    assert items["121106"].TextValue == "REMOVED"
    assert items["121029"].PersonName == "REMOVED"
    assert items["121031"].Date == "19000101"
    assert list(items["121033"].MeasuredValueSequence) == []
    assert items["112039"].TextValue == made(study / "mask").SegmentSequence[0].TrackingID


def tree(item: Dataset) -> Iterator[Dataset]:
    for child in item.get("ContentSequence", ()):
        yield child
        yield from tree(child)


def test_the_subjects_age_in_a_report_stays_by_option(study: Path) -> None:
    ages = [
        item.MeasuredValueSequence[0].NumericValue
        for item in tree(made(study / "report", PATIENT_KEPT))
        if item.ConceptNameCodeSequence[0].CodeValue == "121033"
    ]
    assert ages == [71]


@pytest.mark.parametrize("options", OPTIONS)
def test_a_birth_date_in_a_report_is_not_moved_but_gone(study: Path, options: DeidentifyOptions) -> None:
    (birth,) = [item for item in tree(made(study / "report", options)) if "Date" in item]
    assert birth.ConceptNameCodeSequence[0].CodeValue == "121031"
    assert birth.Date == "19000101"


def test_twice_is_possible_and_changes_the_names_again(study: Path) -> None:
    once = made(study / "mask")
    twice = deidentify(once, KEY)
    assert twice.PatientID not in (once.PatientID, "HQ-4711")
    assert twice.SOPInstanceUID == KEY.uid(str(once.SOPInstanceUID))


def test_paths_are_of_new_names(study: Path) -> None:
    original = read_object(study / "mask")
    new = deidentify(original, KEY)
    expected = Path(new.PatientID, new.StudyInstanceUID, new.SeriesInstanceUID, f"{new.SOPInstanceUID}.dcm")
    assert relative_path(original, KEY) == expected


@pytest.mark.parametrize("syntax", [ImplicitVRLittleEndian, ExplicitVRBigEndian, DeflatedExplicitVRLittleEndian])
def test_every_encoding_comes_out_as_it_came_in(study: Path, tmp_path: Path, syntax: str) -> None:
    original = read_object(study / "mask")
    original.file_meta.TransferSyntaxUID = UID(syntax)
    little = syntax != ExplicitVRBigEndian
    implicit = syntax == ImplicitVRLittleEndian
    list(elements(original))  # parsed, so that they are encoded anew
    pydicom.dcmwrite(tmp_path / "old", original, implicit_vr=implicit, little_endian=little, force_encoding=True)
    encoded = read_object(tmp_path / "old")
    new = deidentify(encoded, KEY)
    write_object(tmp_path / "new", new)
    again = read_object(tmp_path / "new")
    assert again.file_meta.TransferSyntaxUID == syntax
    assert again.PixelData == encoded.PixelData
    assert leftovers(encoded, again, KEY) == ()
    assert uids(again, "ReferencedSOPInstanceUID") == uids(made(study / "mask"), "ReferencedSOPInstanceUID")


def test_data_sets_made_in_memory_are_treated_alike(study: Path, tmp_path: Path) -> None:
    images = [read_object(path) for path in sorted((study / "images").iterdir())]
    write_object(tmp_path / "memory", deidentify(identified.structure_set(images), KEY))
    write_object(tmp_path / "file", made(study / "structures"))
    assert (tmp_path / "memory").read_bytes() == (tmp_path / "file").read_bytes()


@pytest.mark.parametrize("charset", ["ISO_IR 192", "ISO_IR 100", "\\ISO 2022 IR 87"])
def test_names_in_other_letters_go_as_well(study: Path, charset: str) -> None:
    original = read_object(study / OBJECTS[0])
    name = "山田^太郎" if "2022" in charset else "Müßig^Gößta"
    original.SpecificCharacterSet, original.PatientName = charset.split("\\"), name
    original.SequenceName = name.partition("^")[0]
    new = deidentify(original, KEY)
    assert "SequenceName" not in new
    assert leftovers(original, new, KEY) == ()
    assert {one.identifier.keyword for one in leftovers(original, original, KEY)} >= {"PatientName"}


@needs_data
def test_real_objects_keep_their_pixels_and_lose_their_patients() -> None:
    options = DeidentifyOptions(pixels=Pixels.ACCEPT)
    paths = [path for path in sorted((DATA / "dicom" / "transfer_syntaxes").iterdir()) if path.suffix == ".dcm"]
    for path in (*paths, *(DATA / "dicom" / "seg").rglob("*.dcm")):
        original = read_object(path)
        new = deidentify(original, KEY, options)
        assert [one for one in leftovers(original, new, KEY, options) if not one.coded] == [], path
        assert "PixelData" not in original or new["PixelData"].value == original["PixelData"].value, path


@needs_data
@needs_dciodvfy
@pytest.mark.parametrize("name", ["sarcoma/STS_003/PET/image/000010.dcm", "dicom/rtstruct", "dicom/seg/dcmqi"])
def test_real_objects_get_no_new_errors(tmp_path: Path, name: str) -> None:
    def errors(path: Path) -> set[str]:
        said = subprocess.run(["dciodvfy", "-new", path], capture_output=True, check=False).stderr.decode("latin-1")
        return {
            line.partition(" - ")[2].partition("<")[2].partition("<")[0]
            for line in said.splitlines()
            if "Error" in line
        }

    paths = [DATA / name] if (DATA / name).is_file() else sorted((DATA / name).rglob("*.dcm"))
    for path in paths:
        write_object(tmp_path / "new.dcm", deidentify(read_object(path), KEY))
        assert errors(tmp_path / "new.dcm") <= errors(path), path


@needs_data
def test_real_contours_still_refer_to_their_images() -> None:
    folder = DATA / "dicom" / "rtstruct" / "rt-utils" / "tests" / "mock_data"
    images = {str(made(path).SOPInstanceUID) for path in folder.glob("ct_*.dcm")}
    contours = made(folder / "rt.dcm")
    old = uids(read_object(folder / "rt.dcm"), "ReferencedSOPInstanceUID")
    resolved = {str(read_object(path).SOPInstanceUID) for path in folder.glob("ct_*.dcm")} & old
    assert len(resolved) > 0
    assert uids(contours, "ReferencedSOPInstanceUID") & images == {KEY.uid(uid) for uid in resolved}


@pytest.mark.parametrize("keyword", ["SOPInstanceUID", "StudyInstanceUID", "SeriesInstanceUID"])
def test_an_object_without_a_name_is_refused(study: Path, keyword: str) -> None:
    original = read_object(study / "mask")
    del original[keyword]
    with pytest.raises(InputError, match=keyword):
        deidentify(original, KEY)
