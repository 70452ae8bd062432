"""Scans of one patient are known as such, by what they say, and under a name that tells nobody who it is."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from anatomy import blob_case, write_blobs
from reviewed_cases import approved, new_case

from delineate import formats
from delineate.dataset import open_dataset, put_cases
from delineate.review.patients import patients_of
from delineate.review.records import ReviewCase, State
from delineate.review.training_cases import add_reviewed


def cases_at(*scans: Path) -> list[ReviewCase]:
    base, _ = new_case(scans[0].parent / "made", key="base", dicom=False)
    named = [replace(base, key=f"c{n}", pseudonym=f"P-{n}", scan=scan) for n, scan in enumerate(scans)]
    return [ReviewCase(n + 1, new, State.UNREVIEWED, 0) for n, new in enumerate(named)]


def test_dicom_scans_of_one_number_are_of_the_patient_of_the_first(tmp_path: Path) -> None:
    for n, number in enumerate(("77", "78", "77", "", "")):
        formats.write_dicom_series(tmp_path / f"s{n}", blob_case(n)[0], patient_id=number, seed=f"s{n}")
    cases = cases_at(*(tmp_path / f"s{n}" for n in range(5)))
    assert patients_of(cases[::-1]) == {"c0": "P-0", "c1": "P-1", "c2": "P-0", "c3": "P-3", "c4": "P-4"}


def test_images_of_a_dataset_are_of_its_patients(tmp_path: Path) -> None:
    dataset = write_blobs(tmp_path / "set", 3)
    put_cases(tmp_path / "set", [replace(dataset.cases[2], patient_id=dataset.cases[0].patient_id)])
    cases = cases_at(*(case.images[0] for case in dataset.cases))
    assert patients_of(cases) == {"c0": "P-0", "c1": "P-1", "c2": "P-0"}


def test_a_scan_that_says_nothing_is_of_a_patient_of_its_own(tmp_path: Path) -> None:
    cases = cases_at(tmp_path / "gone.nii.gz", tmp_path / "gone_too.nii.gz")
    assert patients_of(cases) == {"c0": "P-0", "c1": "P-1"}


def test_a_patients_scans_stay_together_in_the_dataset(tmp_path: Path) -> None:
    what = approved(tmp_path)
    add_reviewed(tmp_path / "set", [what.case], lambda _: what, patients={"p1": "P-first"})
    assert open_dataset(tmp_path / "set").cases[0].patient_id == "P-first"


def test_a_test_on_another_scan_of_the_patient_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Provenance:
        held_out_cases = ("p0",)
        validation_cases = ()

    monkeypatch.setattr("delineate.model.read_provenance", lambda path: (Provenance(), "digest"))
    what, same = approved(tmp_path), {"p0": "P-first", "p1": "P-first"}
    made = add_reviewed(tmp_path / "set", [what.case], lambda _: what, patients=same, model=tmp_path / "m")
    assert made.remarks[0].startswith("1 patient(s) of these are among those that m was tested on: P-first.")
