"""Scans from one disk format to the other, with every decision beside the result."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from anatomy import blob_case
from test_dicom_series import edited, moved, setting, written

from delineate import formats
from delineate.errors import ExportError, GeometryMismatch, InconsistentSeries, InputError
from delineate.formats.deidentification.pseudonyms import PseudonymKey
from delineate.geometry import Grid, Triple, index_to_world, same_space, world_to_index
from delineate.settings import detect
from delineate.volume import Volume
from delineate.workflow.converting import ConversionRun, ConvertOptions, _distinct
from delineate.workflow.converting import convert as run_convert


def convert(source: Path, target: Path, **options: Any) -> ConversionRun:
    settings = detect("cpu", threads=1, cache=target.with_name("cache"))
    return run_convert(source, target, ConvertOptions(**options), settings=settings)


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
    image, record = sorted((tmp_path / "out").iterdir(), key=lambda path: path.suffix, reverse=True)[::-1]
    assert re.fullmatch(r"CT_[0-9a-f]{10}\.nii\.gz", image.name)
    assert b"ecret" not in record.read_bytes()


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


def test_what_was_converted_is_kept_until_files_or_options_change(tmp_path: Path) -> None:
    files = written(tmp_path / "tree" / "a")
    formats.write_dicom_series(tmp_path / "tree" / "b", blob_case(0)[0])
    assert len(convert(tmp_path / "tree", tmp_path / "out").lines) == 2
    run = convert(tmp_path / "tree", tmp_path / "out")
    assert (run.lines, run.kept) == ((), 2)
    edited(files[0], setting("RescaleIntercept", 5))
    run = convert(tmp_path / "tree", tmp_path / "out")
    assert (len(run.lines), run.kept) == (1, 1)
    assert len(convert(tmp_path / "tree", tmp_path / "out", repair=formats.Repair.NONE).lines) == 2


def test_names_stay_when_a_tree_grows(tmp_path: Path) -> None:
    written(tmp_path / "tree" / "b")
    convert(tmp_path / "tree", tmp_path / "out")
    before = {path.name: path.stat().st_mtime_ns for path in (tmp_path / "out").iterdir()}
    formats.write_dicom_series(tmp_path / "tree" / "a", blob_case(0)[0])
    convert(tmp_path / "tree", tmp_path / "out")
    after = {path.name: path.stat().st_mtime_ns for path in (tmp_path / "out").iterdir()}
    assert len(after) == 4
    assert before.items() <= after.items()


def test_volumes_whose_names_become_equal_do_not_overwrite_each_other() -> None:
    assert _distinct(["b 0", "b/0", "B 0", "b_0_2"]) == ["b_0", "b_0_2", "B_0_3", "b_0_2_2"]


@pytest.mark.parametrize("name", ["scan.nii.gz", "scan.json"])
def test_a_file_that_is_there_is_not_overwritten(tmp_path: Path, name: str) -> None:
    written(tmp_path / "ct")
    (tmp_path / name).write_text("mine")
    with pytest.raises(ExportError, match=r"--again"):
        convert(tmp_path / "ct", tmp_path / "scan.nii.gz")
    assert (tmp_path / name).read_text() == "mine"
    convert(tmp_path / "ct", tmp_path / "scan.nii.gz", again=True)
    assert json.loads((tmp_path / "scan.json").read_text())["slices"] == 5


def test_another_series_does_not_take_a_name(tmp_path: Path) -> None:
    written(tmp_path / "a")
    formats.write_dicom_series(tmp_path / "b", blob_case(0)[0])
    convert(tmp_path / "a", tmp_path / "scan.nii.gz")
    with pytest.raises(ExportError, match="another series was converted to this name"):
        convert(tmp_path / "b", tmp_path / "scan.nii.gz")


def test_an_archive_is_never_replaced_by_a_series(tmp_path: Path) -> None:
    formats.write_volume(tmp_path / "ct.nii.gz", blob_case(0)[0])
    written(tmp_path / "archive" / "patient")
    for again in (False, True):
        with pytest.raises(ExportError, match=r"there already|holds something else"):
            convert(tmp_path / "ct.nii.gz", tmp_path / "archive", again=again)
    assert len(list((tmp_path / "archive" / "patient").iterdir())) == 5
    with pytest.raises(ExportError, match="there already"):
        convert(tmp_path / "ct.nii.gz", tmp_path / "ct.nii.gz")


def test_a_record_without_its_file_is_of_a_run_that_was_cut_off(tmp_path: Path) -> None:
    written(tmp_path / "ct")
    convert(tmp_path / "ct", tmp_path / "scan.nii.gz")
    (tmp_path / "scan.nii.gz").unlink()
    assert len(convert(tmp_path / "ct", tmp_path / "scan.nii.gz").lines) == 1


def test_a_damaged_file_does_not_keep_a_tree_from_being_converted(tmp_path: Path) -> None:
    written(tmp_path / "tree" / "a")
    broken = written(tmp_path / "tree" / "b")[2]
    broken.write_bytes(broken.read_bytes()[:700])
    run = convert(tmp_path / "tree", tmp_path / "out")
    assert len(run.lines) == 1
    assert broken.name in " ".join(run.problems)


def straight(shape: Triple, spacing: Sequence[float] = (1, 1, 1), origin: float = 0) -> Grid:
    affine = np.diag([*spacing, 1.0])
    affine[:3, 3] = origin
    return Grid(shape, affine)


def nifti(path: Path, array: Any, affine: Any) -> Path:
    formats.write_volume(path, Volume(np.asarray(array)[np.newaxis], Grid(np.shape(array), np.asarray(affine))))
    return path


def ramp(grid: Grid) -> Any:
    """World x + 2 y + 3 z at every voxel: what linear interpolation gives back exactly, on any grid."""
    index = np.stack(np.meshgrid(*(np.arange(n) for n in grid.shape), indexing="ij"), axis=-1)
    return (index_to_world(grid, index) @ [1.0, 2.0, 3.0]).astype(np.float32)


OBLIQUE = np.array([[1.8, 0.6, 0, 4], [-0.6, 1.8, 0, 9], [0, 0, -2.5, 30], [0, 0, 0, 1]])


def test_a_scan_is_brought_onto_the_grid_of_another(tmp_path: Path) -> None:
    pet = straight((14, 15, 16), (3, 3, 2.5))
    ct = Grid((10, 9, 8), OBLIQUE)
    nifti(tmp_path / "pet.nii.gz", ramp(pet), pet.affine)
    nifti(tmp_path / "ct.nii.gz", ramp(ct), ct.affine)
    run = convert(tmp_path / "pet.nii.gz", tmp_path / "out.nii.gz", onto=formats.read_grid(tmp_path / "ct.nii.gz"))
    found = formats.read_volume(tmp_path / "out.nii.gz")
    assert same_space(found.grid, ct, 1e-4)
    index = world_to_index(pet, index_to_world(ct, np.moveaxis(np.indices(ct.shape), 0, -1)))
    inside = np.all((index >= 0) & (index <= np.array(pet.shape) - 1), axis=-1)
    assert inside.mean() > 0.5
    np.testing.assert_allclose(found.array[0][inside], ramp(ct)[inside], atol=2e-3)
    assert "interpolated linearly" in run.lines[0]


def test_a_series_is_brought_onto_the_grid_of_another(tmp_path: Path) -> None:
    written(tmp_path / "ct")
    ct = formats.read_volume(tmp_path / "ct")
    half = Grid((ct.grid.shape[0], ct.grid.shape[1], 2), ct.grid.affine)
    run = convert(tmp_path / "ct", tmp_path / "out.nii.gz", onto=half)
    found = formats.read_volume(tmp_path / "out.nii.gz")
    np.testing.assert_allclose(found.array, ct.array[..., :2], atol=1e-3)
    assert "another grid" in json.loads((tmp_path / "out.json").read_text())["notes"][0]
    assert len(run.lines) == 1
    assert convert(tmp_path / "ct", tmp_path / "out.nii.gz", onto=half).kept == 1
    assert convert(tmp_path / "ct", tmp_path / "out.nii.gz").kept == 0
    np.testing.assert_array_equal(formats.read_volume(tmp_path / "out.nii.gz").array, ct.array)


def test_what_a_scan_does_not_reach_is_said_and_filled(tmp_path: Path) -> None:
    scan = nifti(tmp_path / "a.nii.gz", np.arange(1000.0).reshape(10, 10, 10) - 900, np.eye(4))
    run = convert(scan, tmp_path / "out.nii.gz", onto=straight((10, 10, 20)))
    found = formats.read_volume(tmp_path / "out.nii.gz").array[0]
    assert "covers 50% of that grid" in run.lines[0]
    assert found.max() == 99
    assert np.all(found[..., 10:] == -1024)


def test_labels_are_not_mixed(tmp_path: Path) -> None:
    labels = np.zeros((12, 12, 12), dtype=np.uint8)
    labels[2:9, 3:9, 4:9] = 7
    source = nifti(tmp_path / "labels.nii.gz", labels, np.eye(4))
    fine = straight((24, 24, 24), (0.5, 0.5, 0.5), -0.25)
    with pytest.raises(InputError, match="scan or label map"):
        convert(source, tmp_path / "out.nii.gz", onto=fine)
    convert(source, tmp_path / "out.nii.gz", onto=fine, labels=True)
    array, grid = formats.read_label_values(tmp_path / "out.nii.gz")
    assert same_space(grid, fine, 1e-4)
    assert set(np.unique(array)) == {0, 7}
    assert (array == 7).sum() == pytest.approx(8 * (labels == 7).sum(), rel=0.1)
    convert(source, tmp_path / "mixed.nii.gz", onto=fine, labels=False)
    assert len(np.unique(formats.read_volume(tmp_path / "mixed.nii.gz").array)) > 2


def test_scans_of_other_places_and_frames_are_refused(tmp_path: Path) -> None:
    scan = nifti(tmp_path / "a.nii.gz", np.arange(1000.0).reshape(10, 10, 10), np.eye(4))
    with pytest.raises(GeometryMismatch, match="no place in common"):
        convert(scan, tmp_path / "out.nii.gz", onto=straight((5, 5, 5), origin=500))
    written(tmp_path / "ct")
    grid = formats.read_grid(tmp_path / "ct")
    assert grid.frame_of_reference_uid is not None
    with pytest.raises(GeometryMismatch, match="frames of reference"):
        convert(
            tmp_path / "ct",
            tmp_path / "out.nii.gz",
            onto=Grid(grid.shape, grid.affine, "1.2.3"),
        )
    assert not (tmp_path / "out.nii.gz").exists()
