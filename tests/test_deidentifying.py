"""A tree without its patients: complete, resumable, and honest about what was left out."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import identified
import pytest
from pydicom import dcmread

from delineate.errors import InputError
from delineate.formats.deidentification.deidentify import Dates, DeidentifyOptions
from delineate.formats.deidentification.pseudonyms import Patient, PseudonymKey
from delineate.workflow.deidentifying import RECORD, deidentify_tree

KEY = PseudonymKey(b"k" * 32)


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("originals")
    identified.write_study(folder)
    (folder / "notes.txt").write_text("Hildegard Quastenbrink")
    (folder / "DICOMDIR").write_bytes(b"\0" * 128 + b"DICM Quastenbrink")
    return folder


@pytest.fixture
def source(original: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(original, tmp_path / "originals"))


def files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file() and path.name != RECORD)


def edited(path: Path, **values: object) -> None:
    dataset = dcmread(path)
    for keyword, value in values.items():
        setattr(dataset, keyword, value)
    dataset.save_as(path)


def test_every_object_is_written_under_new_names(source: Path, tmp_path: Path) -> None:
    summary = deidentify_tree(source, tmp_path / "new", KEY)
    assert (summary.written, summary.passed_over, summary.patients, summary.failures) == (7, 2, 1, ())
    assert summary.text == "7 objects of 1 patients written, 2 other files passed over"
    for path in files(tmp_path / "new"):
        new = dcmread(path)
        parts = (new.PatientID, new.StudyInstanceUID, new.SeriesInstanceUID, f"{new.SOPInstanceUID}.dcm")
        assert path.relative_to(tmp_path / "new").parts == parts


def test_nothing_of_the_patient_is_in_the_tree(source: Path, tmp_path: Path) -> None:
    deidentify_tree(source, tmp_path / "new", KEY, options=DeidentifyOptions(dates=Dates.SHIFT))
    for path in (tmp_path / "new").rglob("*"):
        assert not any(secret.decode() in str(path.relative_to(tmp_path)) for secret in identified.SECRETS)
        assert path.is_dir() or not any(secret in path.read_bytes() for secret in identified.SECRETS)


def test_separate_runs_agree(source: Path, tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    shutil.move(source / "mask", tmp_path / "other" / "mask")
    deidentify_tree(source, tmp_path / "new", KEY)
    deidentify_tree(tmp_path / "other", tmp_path / "newer", KEY)
    (mask,) = files(tmp_path / "newer")
    names = {str(dcmread(path).SOPInstanceUID) for path in files(tmp_path / "new")}
    (reference,) = dcmread(mask).ReferencedSeriesSequence
    assert {str(item.ReferencedSOPInstanceUID) for item in reference.ReferencedInstanceSequence} <= names


def test_a_second_run_writes_what_is_missing_only(source: Path, tmp_path: Path) -> None:
    deidentify_tree(source, tmp_path / "new", KEY)
    before = {path: path.stat().st_mtime_ns for path in files(tmp_path / "new")}
    lost = files(tmp_path / "new")[2]
    lost.unlink()
    summary = deidentify_tree(source, tmp_path / "new", KEY)
    assert (summary.written, summary.kept) == (1, 6)
    assert {path for path in before if path.stat().st_mtime_ns != before[path]} == {lost}


def test_a_run_that_is_stopped_leaves_whole_files(source: Path, tmp_path: Path) -> None:
    def stop(stage: str, done: float, total: float, note: str) -> None:
        if stage == "De-identifying" and done == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        deidentify_tree(source, tmp_path / "new", KEY, watch=stop)
    assert len(files(tmp_path / "new")) == 3
    assert deidentify_tree(source, tmp_path / "new", KEY).kept == 3


@pytest.mark.parametrize(
    ("key", "options"),
    [(PseudonymKey(b"o" * 32), DeidentifyOptions()), (KEY, DeidentifyOptions(dates=Dates.SHIFT))],
)
def test_one_folder_holds_one_way(source: Path, tmp_path: Path, key: PseudonymKey, options: DeidentifyOptions) -> None:
    deidentify_tree(source, tmp_path / "new", KEY)
    with pytest.raises(InputError, match="another key or other options"):
        deidentify_tree(source, tmp_path / "new", key, options=options)


def test_the_record_says_how_and_not_who(source: Path, tmp_path: Path) -> None:
    deidentify_tree(source, tmp_path / "new", KEY)
    record = json.loads((tmp_path / "new" / RECORD).read_text())
    assert record["dates"] == "remove"
    assert record["key"] == KEY.fingerprint
    assert KEY.secret.hex() not in str(record)


def test_bad_files_are_left_out_with_their_reasons(source: Path, tmp_path: Path) -> None:
    (source / "cut").write_bytes((source / "mask").read_bytes()[:900])
    edited(source / "images" / "slice_0001.dcm", BurnedInAnnotation="YES")
    summary = deidentify_tree(source, tmp_path / "new", KEY)
    reasons = {failure.path.name: failure.reason for failure in summary.failures}
    assert summary.written == 6
    assert set(reasons) == {"cut", "slice_0001.dcm"}
    assert "BurnedInAnnotation" in reasons["slice_0001.dcm"]
    assert not any(secret.decode() in reason for reason in reasons.values() for secret in identified.SECRETS)
    assert "2 left out" in summary.text


def test_a_text_that_still_identifies_is_not_written(source: Path, tmp_path: Path) -> None:
    dataset = dcmread(source / "structures")
    dataset.RTROIObservationsSequence[0].RTROIIdentificationCodeSequence = [
        identified.code("1", "99LOCAL", "Quastenbrink's tumour")
    ]
    dataset.save_as(source / "structures")
    summary = deidentify_tree(source, tmp_path / "new", KEY)
    (failure,) = summary.failures
    assert failure.path.name == "structures"
    assert "CodeMeaning" in failure.reason
    assert "Quastenbrink" not in failure.reason


def test_duplicates_count_once_and_contradictions_are_told(source: Path, tmp_path: Path) -> None:
    shutil.copy(source / "mask", source / "mask copy")
    shutil.copy(source / "report", source / "report changed")
    edited(source / "report changed", CompletionFlag="PARTIAL")
    summary = deidentify_tree(source, tmp_path / "new", KEY)
    assert (summary.written, summary.duplicates) == (7, 1)
    assert [(one.path.name, "other content" in one.reason) for one in summary.failures] == [("report changed", True)]


def test_a_mask_without_its_issuer_stays_with_its_images(source: Path, tmp_path: Path) -> None:
    for path in (source / "images").iterdir():
        edited(path, IssuerOfPatientID="Clinic B")
    summary = deidentify_tree(source, tmp_path / "new", KEY)
    assert (summary.patients, summary.failures) == (1, ())
    assert {dcmread(path).PatientID for path in files(tmp_path / "new")} == {
        KEY.pseudonym(Patient("HQ-4711", "Clinic B"))
    }


def test_one_study_of_two_patients_is_told(source: Path, tmp_path: Path) -> None:
    edited(source / "structures", PatientID="HQ-4712")
    (failure,) = deidentify_tree(source, tmp_path / "new", KEY).failures
    assert failure.path.name == "structures"
    assert "another patient's" in failure.reason


def test_originals_and_results_do_not_mix(source: Path) -> None:
    for target in (source, source / "new", source.parent):
        with pytest.raises(InputError, match="must not mix"):
            deidentify_tree(source, target, KEY)
    with pytest.raises(InputError, match="no such folder"):
        deidentify_tree(source / "missing", source.parent / "new", KEY)


def test_pipes_are_passed_over(source: Path, tmp_path: Path) -> None:
    os.mkfifo(source / "pipe")
    assert deidentify_tree(source, tmp_path / "new", KEY).passed_over == 3


def test_progress_names_pseudonyms_only(source: Path, tmp_path: Path) -> None:
    told: list[tuple[str, float, float, str]] = []

    def look(stage: str, done: float, total: float, note: str) -> None:
        told.append((stage, done, total, note))

    deidentify_tree(source, tmp_path / "new", KEY, watch=look)
    stage, done, total, note = told[-1]
    assert f"{stage} {done:g}/{total:g}" == "De-identifying 7/7"
    assert {one[3] for one in told} == {"", note}
    assert note == KEY.pseudonym(Patient("HQ-4711"))


def test_a_folder_that_cannot_be_listed_is_said(source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (source / "closed").mkdir()
    look = os.scandir

    def refuse(path: Path) -> object:
        if Path(path).name == "closed":
            raise PermissionError(13, "Permission denied")
        return look(path)

    monkeypatch.setattr(os, "scandir", refuse)
    (failure,) = deidentify_tree(source, tmp_path / "out", KEY).failures
    assert (str(failure.path), failure.reason) == ("closed", "a folder that cannot be listed: Permission denied")
