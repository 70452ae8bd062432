"""`delineate evaluate` on files: what is paired, what counts as a failure, what is said."""

from __future__ import annotations

import csv
import json
import shutil
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from anatomy import blob_case, write_blobs
from click.testing import CliRunner, Result

from delineate import formats
from delineate.cli import main
from delineate.dataset import Split, split_to_json
from delineate.errors import InputError, LabelError
from delineate.files import write_text
from delineate.geometry import respace_grid
from delineate.labels import label_set
from delineate.resampling import Interpolation, resample_labels
from delineate.settings import Settings, detect
from delineate.volume import Segmentation
from delineate.workflow.evaluating import EvaluationOptions, evaluate
from delineate.workflow.pairing import CaseChoice, Pair, cases_set_aside, label_maps, pair_up
from delineate.workflow.results import ResultRecord, write_record
from delineate.workflow.scoring import cases_at_once, work_through


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return detect("cpu", threads=2, cache=tmp_path / "cache")


@pytest.fixture
def cohort(tmp_path: Path) -> Path:
    """Three blobs with their references, and predictions in out/ that are equal to them."""
    write_blobs(tmp_path / "data", 3)
    shutil.copytree(tmp_path / "data" / "labelsTr", tmp_path / "out")
    return tmp_path


def call(*words: object) -> Result:
    return CliRunner().invoke(main, ["evaluate", *map(str, words)], env={"COLUMNS": "100"})


def test_a_missing_prediction_is_a_failure_that_counts(cohort: Path, settings: Settings) -> None:
    (cohort / "out" / "blob_2.nii.gz").unlink()
    result = evaluate(cohort / "data" / "labelsTr", cohort / "out", settings=settings)
    assert result.failures == {"blob_2": "there is no prediction"}
    assert [row.dice for row in result.rows] == pytest.approx([2 / 3] * 2)
    assert [row.missed for row in result.rows] == [1, 1]
    assert result.case_dice["blob_2"] == 0


def test_cases_without_prediction_are_left_out_when_asked_for_and_told(cohort: Path, settings: Settings) -> None:
    (cohort / "out" / "blob_2.nii.gz").unlink()
    options = EvaluationOptions(choice=CaseChoice(only_predicted=True))
    result = evaluate(cohort / "data" / "labelsTr", cohort / "out", options=options, settings=settings)
    assert [row.dice for row in result.rows] == [1, 1]
    assert result.remarks == ("1 reference without prediction left out: blob_2.",)


def test_of_a_dataset_the_predicted_cases_count(cohort: Path, settings: Settings) -> None:
    (cohort / "out" / "blob_2.nii.gz").unlink()
    result = evaluate(cohort / "data", cohort / "out", settings=settings)
    assert (result.cases, result.failures) == (2, {})
    assert "left out: blob_2" in result.remarks[0]


def test_cases_that_were_meant_count_all(cohort: Path, settings: Settings) -> None:
    (cohort / "out" / "blob_2.nii.gz").unlink()
    options = EvaluationOptions(choice=CaseChoice(("blob_1", "blob_2")))
    result = evaluate(cohort / "data", cohort / "out", options=options, settings=settings)
    assert list(result.case_dice) == ["blob_1", "blob_2"]
    assert list(result.failures) == ["blob_2"]
    assert "1 prediction of other cases" in result.remarks[0]


def test_a_prediction_on_another_grid_is_a_failure(cohort: Path, settings: Settings) -> None:
    formats.write_segmentation(cohort / "out" / "blob_1.nii.gz", blob_case(1, shape=(18, 16, 12))[1])
    result = evaluate(cohort / "data", cohort / "out", settings=settings)
    assert "blob_1.nii.gz" in result.failures["blob_1"]
    assert "--resample" in result.failures["blob_1"]
    assert [row.dice for row in result.rows] == pytest.approx([2 / 3] * 2)


def test_a_prediction_of_another_grid_is_resampled_when_asked_for(cohort: Path, settings: Settings) -> None:
    truth = blob_case(1)[1]
    finer = respace_grid(truth.grid, [mm / 2 for mm in truth.grid.spacing_mm])
    array = resample_labels(truth.array, truth.grid, finer, interpolation=Interpolation.NEAREST)
    formats.write_segmentation(cohort / "out" / "blob_1.nii.gz", replace(truth, array=array, grid=finer))
    result = evaluate(cohort / "data", cohort / "out", options=EvaluationOptions(resample=True), settings=settings)
    assert result.failures == {}
    assert result.remarks == ("blob_1: resampled onto the reference's grid.",)
    assert [row.dice for row in result.rows] == [1, 1]


def test_a_prediction_that_cannot_be_read_or_has_other_labels_is_a_failure(cohort: Path, settings: Settings) -> None:
    (cohort / "out" / "blob_0.nii.gz").write_bytes(b"no image")
    truth = blob_case(1)[1]
    other = Segmentation(np.full_like(truth.array, 9), truth.grid, label_set({9: "bone"}))
    formats.write_segmentation(cohort / "out" / "blob_1.nii.gz", other)
    result = evaluate(cohort / "data", cohort / "out", settings=settings)
    assert list(result.failures) == ["blob_0", "blob_1"]
    assert "values that have no label" in result.failures["blob_1"]


def test_a_reference_that_cannot_be_read_is_a_problem_and_no_failure(cohort: Path, settings: Settings) -> None:
    (cohort / "data" / "labelsTr" / "blob_0.nii.gz").write_bytes(b"no image")
    result = evaluate(cohort / "data", cohort / "out", settings=settings)
    assert (result.cases, result.failures) == (2, {})
    assert result.problems[0].startswith("blob_0: its reference cannot be used")


def test_two_files_for_one_case_are_refused(cohort: Path) -> None:
    shutil.copy(cohort / "out" / "blob_0.nii.gz", cohort / "out" / "blob_0.nii")
    with pytest.raises(InputError, match=r"two files for one case: got blob_0\.nii and blob_0\.nii\.gz"):
        label_maps(cohort / "out")


def test_a_folder_without_any_case_is_refused_with_what_was_looked_for(cohort: Path, settings: Settings) -> None:
    with pytest.raises(InputError, match=r"no case could be scored.*3 references, e\.g\. blob_0, got no label map"):
        pair_up(cohort / "data" / "labelsTr", cohort / "data")


def test_no_usable_prediction_at_all_is_an_error_with_the_reasons(cohort: Path, settings: Settings) -> None:
    for file in (cohort / "out").iterdir():
        file.write_bytes(b"no image")
    with pytest.raises(InputError, match=r"no case could be scored: got blob_0: .*; blob_1: "):
        evaluate(cohort / "data", cohort / "out", settings=settings)


def test_a_prediction_without_reference_is_a_problem(cohort: Path, settings: Settings) -> None:
    shutil.copy(cohort / "out" / "blob_0.nii.gz", cohort / "out" / "stranger.nii.gz")
    result = evaluate(cohort / "data", cohort / "out", settings=settings)
    assert result.problems == ("stranger: there is no reference of this name",)
    assert result.cases == 3


def test_structures_are_compared_by_name_where_values_mean_others(tmp_path: Path, settings: Settings) -> None:
    write_blobs(tmp_path / "data", 1)
    truth = blob_case(0)[1]
    swapped = np.array([0, 2, 1, 3], dtype=np.uint8)[np.where(truth.array, truth.array, 3)]
    other = label_set({2: "core", 1: "rim", 3: "bone"})
    target = tmp_path / "out" / "blob_0.nii.gz"
    formats.write_segmentation(target, Segmentation(swapped, truth.grid, other))
    named = {"core": 2, "rim": 1, "bone": 3}
    write_record(target, ResultRecord(case="a", labels=named, volumes_ml={}, model="m", series_uid=None, seconds=1))
    result = evaluate(tmp_path / "data", tmp_path / "out", settings=settings)
    assert [(row.name, row.dice) for row in result.rows] == [("core", 1.0), ("rim", 1.0)]
    write_record(target, ResultRecord(case="a", labels={"x": 3}, volumes_ml={}, model="m", series_uid=None, seconds=1))
    with pytest.raises(InputError, match="no case could be scored"):
        evaluate(tmp_path / "data", tmp_path / "out", settings=settings)


def record_of(path: Path, labels: dict[str, int], regions: dict[str, list[int]] | None = None) -> None:
    write_record(
        path,
        ResultRecord(
            case=path.name, labels=labels, volumes_ml={}, model="", series_uid=None, seconds=0, regions=regions or {}
        ),
    )


def test_a_missing_prediction_counts_where_structures_overlap(cohort: Path, settings: Settings) -> None:
    for path in label_maps(cohort / "out").values():
        record_of(path, {"all": 1, "core": 2}, {"all": [1, 2], "core": [2]})
    (cohort / "out" / "blob_2.nii.gz").unlink()
    result = evaluate(cohort / "data" / "labelsTr", cohort / "out", settings=settings)
    assert (list(result.failures), result.problems) == (["blob_2"], ())
    assert [(row.name, row.missed) for row in result.rows] == [("all", 1), ("core", 1)]
    assert [row.dice for row in result.rows] == pytest.approx([2 / 3, 2 / 3])


def test_values_that_are_in_no_region_are_structures_that_were_missed(cohort: Path, settings: Settings) -> None:
    for path in label_maps(cohort / "out").values():
        truth = formats.read_segmentation(path, blob_case(0)[1].labels)
        formats.write_segmentation(path, replace(truth, array=np.where(truth.array == 1, 1, 0).astype(np.uint8)))
        record_of(path, {"all": 1}, {"all": [1]})
    result = evaluate(cohort / "data" / "labelsTr", cohort / "out", settings=settings)
    assert [(row.name, row.missed, row.dice) for row in result.rows] == [("all", 0, 1), ("rim", 3, 0)]
    assert "The predictions know no rim: counted as missed." in result.remarks


def write_known(folder: Path, known: dict[str, dict[str, int]]) -> None:
    """References of two structures, and predictions equal to them but for what each does not know."""
    truth = blob_case(0)[1]
    for case, labels in known.items():
        kept = np.where(np.isin(truth.array, list(labels.values())), truth.array, 0)
        formats.write_segmentation(folder / "references" / f"{case}.nii.gz", truth)
        formats.write_segmentation(folder / "out" / f"{case}.nii.gz", replace(truth, array=kept))
        record_of(folder / "out" / f"{case}.nii.gz", labels)


def test_a_structure_that_some_predictions_do_not_know_is_missed_there(tmp_path: Path, settings: Settings) -> None:
    write_known(tmp_path, {"a": {"liver": 1}, "b": {"liver": 1, "spleen": 2}})
    result = evaluate(tmp_path / "references", tmp_path / "out", settings=settings)
    assert [(row.name, row.dice) for row in result.rows] == [("liver", 1), ("spleen", 0.5)]


def test_a_structure_that_no_prediction_knows_is_missed(tmp_path: Path, settings: Settings) -> None:
    write_known(tmp_path, {"a": {"liver": 1}, "b": {"liver": 1}})
    result = evaluate(tmp_path / "references", tmp_path / "out", settings=settings)
    assert [(row.name, row.dice, row.missed) for row in result.rows] == [("liver", 1, 0), ("label_2", 0, 2)]


def test_predictions_that_contradict_each_other_are_refused(cohort: Path, settings: Settings) -> None:
    shutil.copytree(cohort / "data" / "labelsTr", cohort / "references")
    for name, labels in (("blob_0", {"liver": 1, "spleen": 2}), ("blob_1", {"spleen": 1, "liver": 2})):
        record_of(cohort / "out" / f"{name}.nii.gz", labels)
    with pytest.raises(LabelError, match="different names"):
        evaluate(cohort / "references", cohort / "out", settings=settings)


def test_references_without_any_structure_are_refused(tmp_path: Path, settings: Settings) -> None:
    nothing = blob_case(0)[1]
    nothing = replace(nothing, array=np.zeros_like(nothing.array))
    for folder in ("references", "out"):
        formats.write_segmentation(tmp_path / folder / "a.nii.gz", nothing)
    with pytest.raises(InputError, match="hold no structure"):
        evaluate(tmp_path / "references", tmp_path / "out", settings=settings)


def test_the_cases_that_a_training_set_aside_are_those_that_count(cohort: Path) -> None:
    split = Split(("blob_0",), (), "digest", "the last two set aside", held_out=("blob_1", "blob_2"))
    write_text(cohort / "model" / "training" / "split.json", split_to_json(split))
    (cohort / "out" / "blob_2.nii.gz").unlink()
    assert cases_set_aside(cohort / "model") == ("blob_1", "blob_2")
    result = call(cohort / "data", cohort / "out", "--set-aside-by", cohort / "model")
    assert result.exit_code == 1
    assert "Scores of 2 cases" in result.output
    assert "With 2 patients the intervals say little." in result.output
    write_text(cohort / "split.json", split_to_json(replace(split, held_out=())))
    with pytest.raises(InputError, match="set no case aside: got the last two set aside"):
        cases_set_aside(cohort / "split.json")
    with pytest.raises(InputError, match="no record of how the cases were divided"):
        cases_set_aside(cohort / "out")


def test_lesions_tubes_and_the_worst_cases_are_in_the_scores(cohort: Path) -> None:
    truth = blob_case(1)[1]
    without = np.array([0, 2, 2], np.uint8)[truth.array]
    formats.write_segmentation(cohort / "out" / "blob_1.nii.gz", replace(truth, array=without))
    result = call(cohort / "data", cohort / "out", "--lesions", "core", "--tubes", "rim", "--worst", 2)
    assert result.exit_code == 0, result.output
    scores = json.loads((cohort / "out" / "scores.json").read_text())
    assert scores["structures"]["core"]["lesions"]["missed"] >= 1
    assert scores["structures"]["core"]["metrics"]["lesion_f1"]["mean"] == pytest.approx(2 / 3)
    assert "cldice" in scores["structures"]["rim"]["metrics"]
    assert "cldice" not in scores["structures"]["core"]["metrics"]
    assert scores["structures"]["core"]["advice"]["trusted"]
    assert [one["case"] for one in scores["worst"]] == ["blob_1", "blob_0"]
    assert scores["worst"][0]["reasons"][0]["structure"] == "core"
    for words in ("Lesion by lesion", "Centre lines", "Worst cases first", "core taken for another structure"):
        assert words in result.output


def test_an_unknown_lesion_is_refused(cohort: Path, settings: Settings) -> None:
    with pytest.raises(LabelError, match=r"lesions of structures that are not there.*got \['cyst'\]"):
        evaluate(cohort / "data", cohort / "out", options=EvaluationOptions(lesions=("cyst",)), settings=settings)


def test_label_maps_beside_a_dataset_json_are_a_folder_and_not_a_dataset(cohort: Path, settings: Settings) -> None:
    references = cohort / "data" / "labelsTr"
    write_text(
        references / "dataset.json", '{"channel_names": {"0": "MR"}, "labels": {"background": 0, "a": 1, "b": 2}}'
    )
    (cohort / "out" / "blob_2.nii.gz").unlink()
    result = evaluate(references, cohort / "out", settings=settings)
    assert [row.name for row in result.rows] == ["a", "b"]
    assert list(result.failures) == ["blob_2"]


def test_so_many_cases_at_once_as_threads_and_memory_allow(cohort: Path, settings: Settings) -> None:
    pairs = pair_up(cohort / "data", cohort / "out").pairs
    voxels = blob_case(0)[1].array.size
    assert cases_at_once(pairs, replace(settings, threads=8)) == 3
    assert cases_at_once(pairs, replace(settings, threads=8, memory_bytes=40 * voxels)) == 2
    assert cases_at_once(pairs, replace(settings, threads=8, memory_bytes=1)) == 1


def test_an_interrupted_evaluation_begins_no_further_case(cohort: Path) -> None:
    pairs, begun = pair_up(cohort / "data", cohort / "out").pairs * 20, []

    def watch(stage: str, done: float, total: float, note: str) -> None:
        raise KeyboardInterrupt

    def slowly(pair: Pair) -> None:
        begun.append(pair)
        time.sleep(0.02)

    with pytest.raises(KeyboardInterrupt):
        work_through(slowly, pairs, at_once=1, stage="Scoring", watch=watch)
    assert len(begun) < len(pairs) / 2


def test_tolerances_are_by_structure(cohort: Path, settings: Settings) -> None:
    options = EvaluationOptions(tolerance_mm=1, tolerances_mm={"rim": 4})
    result = evaluate(cohort / "data", cohort / "out", options=options, settings=settings)
    assert result.evaluation.cases[0].tolerance_mm == {"core": 1, "rim": 4}
    with pytest.raises(LabelError, match=r"tolerance for structures that are not there.*got \['liver'\]"):
        evaluate(
            cohort / "data", cohort / "out", options=EvaluationOptions(tolerances_mm={"liver": 3}), settings=settings
        )


def test_patients_and_groups_come_from_the_dataset(cohort: Path, settings: Settings) -> None:
    rows = [("case", "patient_id", "site", "phase"), ("blob_0", "p", "Ulm", "late"), ("blob_1", "p", "Ulm", "")]
    with (cohort / "data" / "cases.csv").open("w", newline="") as stream:
        csv.writer(stream).writerows(rows)
    result = evaluate(cohort / "data" / "labelsTr", cohort / "out", settings=settings)
    assert [case.groups for case in result.evaluation.cases[:2]] == [{"site": "Ulm", "phase": "late"}, {"site": "Ulm"}]
    assert result.evaluation.patients == 2


def test_the_command_shows_scores_failures_and_exits_with_1(cohort: Path) -> None:
    (cohort / "out" / "blob_2.nii.gz").unlink()
    words = (cohort / "data" / "labelsTr", cohort / "out", "-o", cohort / "scores", "--tolerance", "rim=3,core=1.5")
    result = call(*words)
    assert result.exit_code == 1
    assert "blob_2: counted as missed, because there is no prediction" in result.output
    assert any(line.split()[1:5] == ["core", "3", "0.667", "0.00–1.00"] for line in result.output.splitlines())
    scores = json.loads((cohort / "scores" / "scores.json").read_text())
    assert scores["failures"] == {"blob_2": "there is no prediction"}
    assert scores["structures"]["rim"]["tolerance_mm"] == 3


@pytest.mark.parametrize(
    ("text", "message"),
    [("liver", "expected a name and millimetres"), ("liver=-1", "expected a name"), ("=3", "expected a name")],
)
def test_a_tolerance_that_is_none_is_a_usage_error(cohort: Path, text: str, message: str) -> None:
    result = call(cohort / "data", cohort / "out", "--tolerance", text)
    assert result.exit_code == 2
    assert message in result.output


def test_tolerances_are_read_from_a_file(cohort: Path) -> None:
    (cohort / "mm.json").write_text('{"core": 1.5}')
    assert call(cohort / "data", cohort / "out", "--tolerances", cohort / "mm.json").exit_code == 0
    assert json.loads((cohort / "out" / "scores.json").read_text())["structures"]["core"]["tolerance_mm"] == 1.5
    (cohort / "mm.json").write_text('{"core": "wide"}')
    result = call(cohort / "data", cohort / "out", "--tolerances", cohort / "mm.json")
    assert result.exit_code == 2
    assert "not a file of tolerances" in result.output
