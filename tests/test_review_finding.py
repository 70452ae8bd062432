"""What is found to review: results, their scans, whom they are about, and what is left out."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from delineate import formats
from delineate.dataset import fingerprint_file
from delineate.errors import InputError
from delineate.formats.dicom_results.seg_writing import write_seg
from delineate.geometry import Grid, compose_affine
from delineate.labels import label_set
from delineate.review.finding_cases import find_cases, gather
from delineate.review.records import NewCase
from delineate.volume import Kind, Segmentation, Volume, align
from delineate.workflow.exporting import files_of
from delineate.workflow.results import ResultRecord, variant_path, write_record

GRID = Grid((14, 12, 8), compose_affine(np.diag([2.0, 3.0, -4.0]), (5, -7, 11)))
LABELS = label_set({1: "liver", 2: "spleen"})


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def scan(grid: Grid = GRID) -> Volume:
    values = np.random.default_rng(1).integers(-900, 900, grid.shape).astype(np.int16)
    return Volume(values[np.newaxis], grid, Kind.CT)


def segmentation(grid: Grid = GRID, shift: int = 0) -> Segmentation:
    array = np.zeros(grid.shape, np.uint8)
    array[3 + shift : 9 + shift, 2:7, 2:6] = 1
    return Segmentation(array, grid, LABELS)


def write_dicom(folder: Path, patient: str) -> str:
    formats.write_dicom_series(folder, scan(), patient_id=patient, patient_name=f"{patient}^Anna", seed=patient)
    return formats.stack_at(folder).facts.series_uid


def write_result(
    path: Path, *, series: str | None = None, doubts: tuple[str, ...] = (), variants: tuple[int, ...] = ()
) -> None:
    names = [f"fold_{n}" for n in range(len(variants))]
    record = ResultRecord(
        case=formats.image_stem(path),
        labels={"liver": 1, "spleen": 2},
        volumes_ml={},
        model="abc123" * 10,
        series_uid=series,
        seconds=1.0,
        recipe="r",
        doubts=list(doubts),
        variants=names,
    )
    for name, shift in zip(names, variants, strict=True):
        formats.write_segmentation(variant_path(path, name), segmentation(shift=shift))
        write_record(variant_path(path, name), record)
    grid = GRID if series is None else formats.stack_at(path.parents[1] / "archive" / formats.image_stem(path)).grid
    formats.write_segmentation(path, align(segmentation(), grid))
    write_record(path, record)


def found_in(*folders: Path) -> tuple[dict[str, NewCase], tuple[str, ...]]:
    where = folders if len(folders) == 1 else (None, *folders)
    cases, problems = gather(find_cases(*where))
    return {case.key: case for case in cases}, problems


def test_a_result_is_paired_with_its_series_by_uid(tmp_path: Path) -> None:
    (tmp_path / "results").mkdir()
    write_dicom(tmp_path / "archive" / "b", "Other")
    uid = write_dicom(tmp_path / "archive" / "a", "Meier")
    write_result(tmp_path / "results" / "a.nii.gz", series=uid)
    cases, problems = found_in(tmp_path)
    (case,) = cases.values()
    assert (case.scan, case.collection, problems) == (tmp_path / "archive" / "a", tmp_path.name, ())
    assert (case.pseudonym, case.patient_name) == ("a", "Meier, Anna")
    assert case.digest == fingerprint_file(tmp_path / "results" / "a.nii.gz")
    assert [(one.value, one.name) for one in case.structures] == [(1, "liver"), (2, "spleen")]
    assert case.structures[0].volume_ml == pytest.approx(6 * 5 * 4 * 24 / 1000)


def test_a_name_that_tells_the_patient_is_not_shown(tmp_path: Path) -> None:
    (tmp_path / "results").mkdir()
    uid = write_dicom(tmp_path / "archive" / "Meier", "Meier")
    write_result(tmp_path / "results" / "Meier.nii.gz", series=uid)
    (case,) = found_in(tmp_path)[0].values()
    assert "meier" not in (case.key + case.pseudonym).lower()
    assert case.pseudonym.startswith("Case ")


def test_scans_and_segmentations_are_paired_by_name_and_what_is_missing_is_said(tmp_path: Path) -> None:
    for name in ("a", "b"):
        formats.write_volume(tmp_path / "scans" / f"{name}_0000.nii.gz", scan())
    for name in ("a", "b", "c"):
        formats.write_segmentation(tmp_path / "maps" / f"{name}.nii.gz", segmentation())
    cases, problems = found_in(tmp_path / "scans", tmp_path / "maps")
    assert sorted(cases) == ["a", "b"]
    assert [one.name for one in cases["a"].structures] == ["value 1"]
    (problem,) = problems
    assert "its scan is not there" in problem
    assert "case c" in problem


def test_a_result_on_other_voxels_is_left_out_with_the_reason(tmp_path: Path) -> None:
    formats.write_volume(tmp_path / "scans" / "a.nii.gz", scan())
    formats.write_volume(tmp_path / "scans" / "b.nii.gz", scan())
    other = Grid(GRID.shape, GRID.affine + np.array([[0, 0, 0, 9.0], *[[0.0] * 4] * 3]))
    formats.write_segmentation(tmp_path / "maps" / "a.nii.gz", segmentation())
    formats.write_segmentation(tmp_path / "maps" / "b.nii.gz", segmentation(other))
    cases, problems = found_in(tmp_path / "scans", tmp_path / "maps")
    assert list(cases) == ["a"]
    assert "do not lie in the same place" in problems[0]
    assert "case b" in problems[0]


def test_a_dataset_gives_scans_and_references(tmp_path: Path) -> None:
    write_dataset(tmp_path / "data", ("a", "b"))
    (tmp_path / "results").mkdir()
    write_result(tmp_path / "results" / "a.nii.gz")
    cases, _ = found_in(tmp_path)
    assert list(cases) == ["a"]
    assert cases["a"].scan == tmp_path / "data" / "imagesTr" / "a_0000.nii.gz"
    assert cases["a"].reference == tmp_path / "data" / "labelsTr" / "a.nii.gz"


def test_a_label_map_without_a_word_takes_its_names_from_the_scans_dataset(tmp_path: Path) -> None:
    write_dataset(tmp_path / "data", ("a", "b"))
    formats.write_segmentation(tmp_path / "maps" / "a.nii.gz", segmentation())
    strange = Segmentation(segmentation().array * np.uint8(9), GRID, label_set({9: "what"}))
    formats.write_segmentation(tmp_path / "maps" / "b.nii.gz", strange)
    cases, _ = found_in(tmp_path / "data", tmp_path / "maps")
    assert [one.name for one in cases["a"].structures] == ["liver", "spleen"]
    assert [one.name for one in cases["b"].structures] == ["value 9"]


def test_of_an_experiment_the_chosen_results_are_reviewed(tmp_path: Path) -> None:
    write_dataset(tmp_path / "data", ("a",))
    experiment = tmp_path / "experiment"
    for name in ("small", "large"):
        (experiment / "predictions" / name).mkdir(parents=True)
        write_result(experiment / "predictions" / name / "a.nii.gz")
    (experiment / "experiment.json").write_text(json.dumps({"dataset": "data", "folds": [["a"]]}))
    (experiment / "choice.json").write_text(json.dumps({"chosen": "large"}))
    (case,) = found_in(experiment)[0].values()
    assert case.segmentation == experiment / "predictions" / "large" / "a.nii.gz"
    assert case.scan == tmp_path / "data" / "imagesTr" / "a_0000.nii.gz"


def test_agreement_of_folds_and_doubts_become_warnings(tmp_path: Path) -> None:
    formats.write_volume(tmp_path / "scans" / "a.nii.gz", scan())
    (tmp_path / "maps").mkdir()
    write_result(tmp_path / "maps" / "a.nii.gz", doubts=("slices are missing",), variants=(0, 3))
    (case,) = found_in(tmp_path / "scans", tmp_path / "maps")[0].values()
    # Moved by three of six voxels, they have half in common.
    assert case.structures[0].agreement == pytest.approx(0.5)
    assert case.structures[1].agreement is None
    assert case.warnings[0].startswith("liver: the model's variants agree with Dice 0.50")
    assert "slices are missing" in case.warnings
    assert case.priority > 70


def test_a_dicom_seg_object_is_paired_by_the_series_that_it_names(tmp_path: Path) -> None:
    write_dicom(tmp_path / "scans" / "x", "Meier")
    stack = formats.stack_at(tmp_path / "scans" / "x")
    write_seg(tmp_path / "objects" / "one.dcm", align(segmentation(), stack.grid), files_of(stack))
    (case,) = found_in(tmp_path / "scans", tmp_path / "objects")[0].values()
    assert (case.key, case.scan) == ("one", tmp_path / "scans" / "x")
    assert case.structures[0].name == "liver"


def test_results_of_one_name_get_keys_of_their_own(tmp_path: Path) -> None:
    formats.write_volume(tmp_path / "scans" / "a_0000.nii.gz", scan())
    for folder in ("first", "second"):
        (tmp_path / folder).mkdir()
        write_result(tmp_path / folder / "a.nii.gz")
    formats.write_segmentation(tmp_path / "second" / "a.nii.gz", segmentation(shift=1))
    cases, _ = found_in(tmp_path)
    assert len(cases) == 2
    assert all(key.startswith("a-") for key in cases)


def test_what_review_keeps_itself_is_no_result(tmp_path: Path) -> None:
    formats.write_volume(tmp_path / "a_0000.nii.gz", scan())
    for folder in ("results", "review/exports"):
        (tmp_path / folder).mkdir(parents=True)
        write_result(tmp_path / folder / "a.nii.gz")
    assert list(found_in(tmp_path)[0]) == ["a"]


def test_nothing_to_review_is_said(tmp_path: Path) -> None:
    formats.write_volume(tmp_path / "a.nii.gz", scan())
    with pytest.raises(InputError, match="there is nothing to review"):
        found_in(tmp_path)


def test_no_scan_at_all_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "maps").mkdir()
    write_result(tmp_path / "maps" / "a.nii.gz")
    with pytest.raises(InputError, match=r"none of . result.s. could be taken .* its scan is not there"):
        found_in(tmp_path)


def write_dataset(folder: Path, names: tuple[str, ...]) -> None:
    for name in names:
        formats.write_volume(folder / "imagesTr" / f"{name}_0000.nii.gz", scan())
        formats.write_segmentation(folder / "labelsTr" / f"{name}.nii.gz", segmentation())
    content: dict[str, object] = {
        "name": "data",
        "channel_names": {"0": "CT"},
        "labels": {"background": 0, "liver": 1, "spleen": 2},
    }
    content |= {"numTraining": len(names), "file_ending": ".nii.gz"}
    (folder / "dataset.json").write_text(json.dumps(content))
