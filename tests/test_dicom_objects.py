"""Whole DICOM files in and out; damage ends in one kind of error, which says nothing of the patient."""

from __future__ import annotations

import logging
from pathlib import Path

import identified
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from delineate.errors import DelineateError, UnreadableImage
from delineate.formats.deidentification.deidentify import deidentify, leftovers
from delineate.formats.deidentification.objects import read_names, read_object, write_object
from delineate.formats.deidentification.pseudonyms import PseudonymKey

KEY = PseudonymKey(b"k" * 32)


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("study")
    identified.write_study(folder)
    return folder


@pytest.mark.parametrize("content", [b"", b"x", b"no DICOM at all" * 50, b"\0" * 128 + b"DICM", b"\0" * 5000])
def test_other_files_are_no_objects(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "file").write_bytes(content)
    with pytest.raises(UnreadableImage, match="DICOM"):
        read_object(tmp_path / "file")


def test_a_missing_file_is_said(tmp_path: Path) -> None:
    with pytest.raises(UnreadableImage, match="there is no such file"):
        read_object(tmp_path / "file")


@pytest.mark.parametrize("kept", [0.2, 0.3, 0.45, 0.6, 0.75, 0.9, 0.999])
@pytest.mark.parametrize("name", ["images/slice_0001.dcm", "mask"])
def test_an_image_that_is_cut_off_is_refused(study: Path, tmp_path: Path, name: str, kept: float) -> None:
    content = (study / name).read_bytes()
    (tmp_path / "file").write_bytes(content[: int(len(content) * kept)])
    with pytest.raises(UnreadableImage, match=r"cut off|not a"):
        read_object(tmp_path / "file")


def test_a_length_that_lies_costs_no_memory(study: Path, tmp_path: Path) -> None:
    content = (study / "images/slice_0001.dcm").read_bytes()
    at = content.index(b"\xe0\x7f\x10\x00OW") + 8
    (tmp_path / "file").write_bytes(content[:at] + b"\xf0\xff\xff\xff" + content[at + 4 :])
    with pytest.raises(UnreadableImage, match="cut off"):
        read_object(tmp_path / "file")


def test_an_item_without_its_end_is_refused(study: Path, tmp_path: Path) -> None:
    original = read_object(study / "structures")
    original["ROIContourSequence"].is_undefined_length = True
    original.ROIContourSequence[1].is_undefined_length_sequence_item = True
    write_object(tmp_path / "whole", original)
    content = (tmp_path / "whole").read_bytes()
    end = content.rindex(b"\xfe\xff\x0d\xe0")  # the last item's delimiter
    (tmp_path / "file").write_bytes(content[:end] + b"\xfe\xff\x0d" + content[end + 4 :])
    with pytest.raises(UnreadableImage, match=r"cut off|not a"):
        deidentify(read_object(tmp_path / "file"), KEY)


def test_a_file_that_lost_its_preamble_is_read(study: Path, tmp_path: Path) -> None:
    content = (study / "images/slice_0001.dcm").read_bytes()
    meta_length = int.from_bytes(content[140:144], "little")
    (tmp_path / "bare").write_bytes(content[144 + meta_length :])
    new = deidentify(read_object(tmp_path / "bare"), KEY)
    assert new.file_meta.TransferSyntaxUID == "1.2.840.10008.1.2.1"
    assert new.PixelData == read_object(study / "images/slice_0001.dcm").PixelData


def test_names_are_read_without_the_rest(study: Path) -> None:
    names, whole = read_names(study / "mask"), read_object(study / "mask")
    assert (names.PatientID, names.SOPInstanceUID) == (whole.PatientID, whole.SOPInstanceUID)
    assert "PixelData" not in names


@settings(deadline=None, max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_damaged_bytes_end_in_an_error_of_ours_or_in_nothing_left(
    study: Path, tmp_path: Path, data: st.DataObject
) -> None:
    name = data.draw(st.sampled_from(["images/slice_0001.dcm", "mask", "structures", "report"]))
    content = bytearray((study / name).read_bytes())
    for _ in range(data.draw(st.integers(1, 8))):
        content[data.draw(st.integers(132, len(content) - 1))] = data.draw(st.integers(0, 255))
    (tmp_path / "file").write_bytes(content)
    try:
        original = read_object(tmp_path / "file")
        new = deidentify(original, KEY)
        write_object(tmp_path / "new", new)
        leftovers(original, new, KEY)
        told = ""
    except DelineateError as error:
        told = str(error)
    assert not any(secret.decode() in told for secret in identified.SECRETS)


def test_pydicom_is_silent_about_values(study: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    content = (study / "images/slice_0001.dcm").read_bytes()
    (tmp_path / "file").write_bytes(content.replace(b"19511224", b"Quastenb"))
    with caplog.at_level(logging.DEBUG):
        deidentify(read_object(tmp_path / "file"), KEY)
    assert caplog.text == ""
    assert not logging.getLogger("pydicom").disabled


def test_nothing_half_written_stays(study: Path, tmp_path: Path) -> None:
    new = deidentify(read_object(study / "mask"), KEY)
    del new.file_meta.TransferSyntaxUID
    with pytest.raises(UnreadableImage, match="not a readable DICOM object"):
        write_object(tmp_path / "new", new)
    assert list(tmp_path.iterdir()) == []
