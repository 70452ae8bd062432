from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from click.testing import CliRunner
from scipy import ndimage

from delineate import formats
from delineate.cli.leakage import leakage
from delineate.errors import DatasetError, InputError
from delineate.evaluation.leakage import Tie
from delineate.geometry import Grid
from delineate.model import Provenance
from delineate.settings import detect
from delineate.volume import Kind, Volume
from delineate.workflow.leakage import LeakageResult, check_leakage, leakage_to_csv, leakage_to_json

SHAPE, SPACING = (36, 48, 24), (1.0, 0.8, 2.0)


def pattern(seed: int) -> npt.NDArray[np.float32]:
    noise: npt.NDArray[np.float32] = ndimage.gaussian_filter(np.random.default_rng(seed).normal(size=SHAPE), 2)
    return (1000 * noise).astype(np.float32)


def write(path: Path, array: npt.NDArray[np.float32]) -> None:
    grid = Grid(array.shape, np.diag([*SPACING, 1.0]))
    path.parent.mkdir(parents=True, exist_ok=True)
    formats.nifti.write_volume(path, Volume(array[None], grid, Kind.MR))


def dataset(folder: Path, images: dict[str, npt.NDArray[np.float32]], *, table: str = "") -> Path:
    for name, array in images.items():
        write(folder / "imagesTr" / f"{name}_0000.nii.gz", array)
    content = {"channel_names": {"0": "MR"}, "labels": {"background": 0, "core": 1}, "file_ending": ".nii.gz"}
    (folder / "dataset.json").write_text(json.dumps(content))
    if table:
        (folder / "cases.csv").write_text(table)
    return folder


def check(training: Path, test: Path | None = None, *, look: bool = True) -> LeakageResult:
    return check_leakage(training, test, look=look, settings=detect("cpu", threads=2))


@pytest.fixture
def training(tmp_path: Path) -> Path:
    table = "case,patient_id\na,anna\nb,ben\n"
    return dataset(tmp_path / "train", {"a": pattern(0), "b": pattern(1)}, table=table)


def test_a_cut_image_under_another_name_is_found_in_a_folder_of_scans(training: Path, tmp_path: Path) -> None:
    write(tmp_path / "scans" / "x.nii.gz", pattern(1)[:, :, 2:])
    write(tmp_path / "scans" / "y.nii.gz", pattern(5))
    result = check(training, tmp_path / "scans")
    assert [(leak.training, leak.test, leak.ties) for leak in result.leaks] == [("b", "x", (Tie.IMAGE,))]
    assert (result.training, result.test) == (2, 2)
    assert any("patient_id" in remark for remark in result.remarks)


def test_a_patient_is_found_by_a_table_and_a_copy_by_its_bytes(training: Path, tmp_path: Path) -> None:
    test = dataset(tmp_path / "test", {"c": pattern(3), "d": pattern(0)}, table="case,patient_id\nc,ben\nd,dora\n")
    result = check(training, test, look=False)
    assert [(leak.test, leak.ties) for leak in result.leaks] == [("c", (Tie.PATIENT,)), ("d", (Tie.FILE,))]
    assert any("not compared" in remark for remark in result.remarks)


def test_a_dataset_alone_is_searched_for_repeats(tmp_path: Path) -> None:
    images = {"a": pattern(0), "b": pattern(1), "c": pattern(0)[::-1]}
    result = check(dataset(tmp_path / "one", images))
    (leak,) = result.leaks
    assert (leak.training, leak.test, leak.flipped) == ("a", "c", (0,))
    assert result.test == 0
    assert "1 pair" in result.summary


def test_an_import_says_which_series_a_case_came_from(training: Path, tmp_path: Path) -> None:
    test = dataset(tmp_path / "test", {"c": pattern(3)})
    for folder, case in ((training, "a"), (test, "c")):
        record = {
            "version": 2, "recipe": "r", "case": case, "patient": f"P-{case}", "site": None, "series": ["1.2.3"],
            "notes": [], "acquired_affine": [], "affine": [], "labels_from": [], "names": {}, "unmapped": [],
            "voxels": {},
        }  # fmt: skip
        (folder / "imports").mkdir()
        (folder / "imports" / f"{case}.json").write_text(json.dumps(record))
    assert [leak.ties for leak in check(training, test, look=False).leaks] == [(Tie.SERIES,)]


def test_a_damaged_image_is_a_problem_and_the_others_are_compared(training: Path, tmp_path: Path) -> None:
    test = dataset(tmp_path / "test", {"c": pattern(0), "d": pattern(4)})
    (test / "imagesTr" / "d_0000.nii.gz").write_bytes(b"nothing")
    result = check(training, test)
    assert [leak.test for leak in result.leaks] == ["c"]
    assert len(result.problems) == 1
    assert "case d" in result.problems[0]


def model_that_saw(*cases: str, validation: tuple[str, ...] = ()) -> Provenance:
    return Provenance(
        dataset="d", dataset_digest="", training_cases=cases, validation_cases=validation, held_out_cases=(), step=1,
        seconds=1.0, validation_dice=None, created="", delineate="", torch="",
    )  # fmt: skip


def test_of_a_models_dataset_what_it_did_not_see_is_the_test(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    images = {"a": pattern(0), "b": pattern(1), "c": pattern(0)[:, :, 2:], "d": pattern(1), "e": pattern(2)}
    folder = dataset(tmp_path / "one", images)
    provenance = model_that_saw("a", "gone", validation=("b",))
    monkeypatch.setattr("delineate.model.read_provenance", lambda model: (provenance, "digest"))
    result = check_leakage(folder, model=tmp_path, settings=detect("cpu", threads=2))
    assert [(leak.training, leak.test) for leak in result.leaks] == [("a", "c"), ("b", "d")]
    assert (result.training, result.test) == (2, 3)
    assert any("1 of the model's 3 cases are not in" in remark for remark in result.remarks)


def test_a_model_that_saw_everything_needs_another_test(training: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("delineate.model.read_provenance", lambda model: (model_that_saw("a", "b"), "digest"))
    with pytest.raises(InputError, match="seen all cases"):
        check_leakage(training, model=training, settings=detect("cpu"))


def test_json_and_csv_say_what_was_found(training: Path, tmp_path: Path) -> None:
    test = dataset(tmp_path / "test", {"c": pattern(0)[:, ::-1]})
    result = check(training, test)
    content = json.loads(leakage_to_json(result, training, test))
    assert content["leaks"][0]["mirrored"] == ["front-back"]
    assert content["leaks"][0]["correlation"] > 0.99
    assert leakage_to_csv(result).splitlines()[1].startswith("a,c,image,")


def test_the_command_ends_with_one_where_something_is_found(training: Path, tmp_path: Path) -> None:
    write(tmp_path / "scans" / "x.nii.gz", pattern(1))
    write(tmp_path / "other" / "x.nii.gz", pattern(7))
    found = CliRunner().invoke(leakage, [str(training), str(tmp_path / "scans"), "-o", str(tmp_path / "out")])
    clean = CliRunner().invoke(leakage, [str(training), str(tmp_path / "other")])
    assert (found.exit_code, clean.exit_code) == (1, 0), found.output + clean.output
    assert "1 of 1 test case was found in training (2 cases)" in found.output
    assert "None of 1 test case was found" in clean.output
    assert (tmp_path / "out" / "leakage.csv").is_file()


def test_a_folder_without_scans_is_refused(training: Path, tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="neither a dataset nor"):
        check(training, tmp_path)
