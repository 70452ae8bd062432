"""Scans from one disk format to the other, with every decision beside the result."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pydicom
import pytest
from anatomy import blob_case
from test_dicom_series import edited, moved, setting, written

from delineate import formats
from delineate.errors import InconsistentSeries, InputError
from delineate.formats.deidentification.pseudonyms import PseudonymKey
from delineate.geometry import same_space
from delineate.workflow.converting import convert


def test_a_plain_series_becomes_a_file_and_its_record(tmp_path: Path) -> None:
    written(tmp_path / "ct")
    run = convert(tmp_path / "ct", tmp_path / "scan.nii.gz")
    found, expected = formats.read_volume(tmp_path / "scan.nii.gz"), formats.read_volume(tmp_path / "ct")
    assert np.array_equal(found.array, expected.array)
    assert same_space(found.grid, expected.grid, 1e-4)
    record = json.loads((tmp_path / "scan.json").read_text())
    assert (record["action"], record["values"], record["slices"]) == ("read", "HU", 5)
    assert len(run.lines) == 1


def test_a_tilted_series_is_straightened_and_says_so(tmp_path: Path) -> None:
    for n, path in enumerate(written(tmp_path / "ct")):
        moved(path, (0, n * 0.9, 0))
    run = convert(tmp_path / "ct", tmp_path / "scan.nii.gz")
    record = json.loads((tmp_path / "scan.json").read_text())
    assert record["action"] == "straighten"
    assert "tilted by" in record["notes"][0]
    assert "tilted by" in run.lines[0]
    axes = np.array(record["acquired_affine"])[:3, :3]
    assert axes[:, 1] @ axes[:, 2] == pytest.approx(0.9 * 0.96 * 0.9)
    straight = np.array(record["affine"])[:3, :3]
    np.testing.assert_allclose(straight.T @ straight, np.diag(np.sum(straight**2, axis=0)), atol=1e-6)


def test_no_patient_data_is_in_records_and_names(tmp_path: Path) -> None:
    for path in written(tmp_path / "ct"):
        edited(path, setting("PatientID", "SECRET-1"))
        edited(path, setting("PatientName", "Secret^Name"))
    convert(tmp_path / "ct", tmp_path / "out")
    files = list((tmp_path / "out").iterdir())
    assert sorted(path.name for path in files) == ["001_CT.json", "001_CT.nii.gz"]
    assert b"ecret" not in (tmp_path / "out" / "001_CT.json").read_bytes()


def test_a_key_maps_the_uids_in_records(tmp_path: Path) -> None:
    uid = pydicom.dcmread(written(tmp_path / "ct")[0]).SeriesInstanceUID
    key = PseudonymKey(bytes(range(32)))
    convert(tmp_path / "ct", tmp_path / "scan.nii", key=key)
    assert json.loads((tmp_path / "scan.json").read_text())["series"] == key.uid(uid) != uid


def test_the_volumes_of_one_series_get_names(tmp_path: Path) -> None:
    for echo in (1, 2):
        for path in written(tmp_path / str(echo)):
            edited(path, setting("EchoNumbers", echo))
            edited(path, setting("SOPInstanceUID", pydicom.uid.generate_uid()))
            path.rename(path.with_name(f"{echo}_{path.name}"))
    for path in [*(tmp_path / "2").iterdir()]:
        path.rename(tmp_path / "1" / path.name)
    convert(tmp_path / "1", tmp_path / "scan.nii.gz")
    names = sorted(path.name for path in tmp_path.glob("*.nii.gz"))
    assert names == ["scan_echo_1.nii.gz", "scan_echo_2.nii.gz"]


def test_a_tree_is_converted_volume_by_volume_and_failures_are_kept_apart(tmp_path: Path) -> None:
    written(tmp_path / "tree" / "a")
    gapped = formats.write_dicom_series(tmp_path / "tree" / "b", blob_case(0)[0])
    gapped[4].unlink()
    run = convert(tmp_path / "tree", tmp_path / "out")
    assert len(run.lines) == 1
    assert [type(failure.error) for failure in run.failures] == [InconsistentSeries]
    assert "missing" in str(run.failures[0].error)


def test_interpolation_is_done_only_when_asked(tmp_path: Path) -> None:
    written(tmp_path / "ct")[2].unlink()
    with pytest.raises(InconsistentSeries, match="1 slice"):
        convert(tmp_path / "ct", tmp_path / "scan.nii.gz")
    convert(tmp_path / "ct", tmp_path / "scan.nii.gz", repair=formats.Repair.INTERPOLATE)
    assert formats.read_volume(tmp_path / "scan.nii.gz").grid.shape == (3, 4, 5)


def test_several_series_do_not_fit_into_one_file(tmp_path: Path) -> None:
    written(tmp_path / "tree" / "a")
    formats.write_dicom_series(tmp_path / "tree" / "b", blob_case(0)[0])
    with pytest.raises(InconsistentSeries, match="several series"):
        convert(tmp_path / "tree", tmp_path / "scan.nii.gz")


def test_an_unknown_format_is_refused(tmp_path: Path) -> None:
    written(tmp_path / "ct")
    with pytest.raises(InputError, match="unknown format"):
        convert(tmp_path / "ct", tmp_path / "scan.mha")
