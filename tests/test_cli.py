import json
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from anatomy import blob_case, tiny_plan, write_blobs
from click.testing import CliRunner, Result

from delineate import formats
from delineate.cli import main
from delineate.formats.deidentification.pseudonyms import Patient, load_or_make_key
from delineate.formats.dicom_results.rtstruct_writing import write_rtstruct
from delineate.labels import label_set
from delineate.planning import plan_to_json
from delineate.volume import Kind, Segmentation, align
from delineate.workflow import supervising
from delineate.workflow.exporting import files_of

COMMANDS = ["demo", "phantom", "convert", "check", "plan", "train", "predict", "export", "evaluate"]
COMMANDS += ["scan", "import", "group", "ungroup", "deidentify"]


def call(*words: object) -> Result:
    return CliRunner().invoke(main, [str(word) for word in words], catch_exceptions=False)


@pytest.fixture(autouse=True)
def _predict_here(monkeypatch: pytest.MonkeyPatch) -> None:
    """No processes of their own, which take seconds to start: tests/test_predicting.py starts some."""
    monkeypatch.setattr(supervising, "predict_apart", supervising.predict_here)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a dataset, a model trained for a few steps, and what training printed."""
    folder = tmp_path_factory.mktemp("trained")
    write_blobs(folder / "data", 6)
    (folder / "plan.json").write_text(plan_to_json(tiny_plan()))
    result = call(
        "train", folder / "data", folder / "model", "--plan", folder / "plan.json", "--test", 2, "--hold-out", 1,
        "--device", "cpu", "--cache", folder / "cache",
    )  # fmt: skip
    assert result.exit_code == 0, result.output
    (folder / "output.txt").write_text(result.output)
    return folder


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_explains_itself_with_an_example(command: str) -> None:
    result = call(command, "--help")
    assert result.exit_code == 0
    assert f"Example: delineate {command}" in result.output


def test_help_imports_nothing_heavy() -> None:
    code = (
        "import sys; from delineate.cli import main; print([m for m in ('torch', 'numpy', 'rich') if m in sys.modules])"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"


def test_training_leaves_a_model_its_split_and_its_curves(trained: Path) -> None:
    names = {path.name for path in (trained / "model").rglob("*") if path.is_file()}
    assert {"plan.json", "labels.json", "weights.safetensors", "model.json"} <= names
    assert {"state.safetensors", "split.json", "history.csv", "curves.png"} <= names
    split = json.loads((trained / "model" / "training" / "split.json").read_text())
    assert split["held_out"] == ["blob_4", "blob_5"]
    assert split["validation"] == ["blob_3"]
    assert "validation Dice" in (trained / "output.txt").read_text()


def test_a_finished_run_is_extended_by_more_steps(trained: Path) -> None:
    words = ("train", trained / "data", trained / "model", "--device", "cpu", "--cache", trained / "cache", "--steps")
    assert call(*words, 9).exit_code == 0
    history = (trained / "model" / "training" / "history.csv").read_text().splitlines()
    assert history[-1].startswith("9,")


def test_prediction_and_evaluation_follow(trained: Path, tmp_path: Path) -> None:
    result = call(
        "predict", trained / "model", trained / "data" / "imagesTr", tmp_path / "out", "--figures", "--device", "cpu"
    )
    assert result.exit_code == 0, result.output
    assert {"blob_0.nii.gz", "blob_0.json", "blob_0.png"} <= {path.name for path in (tmp_path / "out").iterdir()}
    result = call("evaluate", trained / "data", tmp_path / "out")
    assert result.exit_code == 0, result.output
    scores = json.loads((tmp_path / "out" / "scores.json").read_text())
    assert set(scores["structures"]) == {"core", "rim"}
    assert "missed" in scores["structures"]["core"]
    assert 0 <= scores["cases"]["blob_5"]["structures"]["rim"]["dice"] <= 1


def test_a_stopped_batch_goes_on_where_it_was(trained: Path, tmp_path: Path) -> None:
    source, out = trained / "data" / "imagesTr", tmp_path / "out"
    call("predict", trained / "model", source, out, "--device", "cpu")
    before = (out / "blob_1.nii.gz").stat().st_mtime_ns
    (out / "blob_2.nii.gz").unlink()
    result = call("predict", trained / "model", source, out, "--device", "cpu")
    assert "1 segmented" in result.output
    assert "5 were there already" in result.output
    assert (out / "blob_1.nii.gz").stat().st_mtime_ns == before


def test_one_bad_case_does_not_end_the_batch(trained: Path, tmp_path: Path) -> None:
    scans = tmp_path / "scans"
    formats.write_volume(scans / "good_0000.nii.gz", blob_case(8)[0])
    (scans / "bad_0000.nii.gz").write_bytes(b"not an image at all")
    result = call("predict", trained / "model", scans, tmp_path / "out", "--device", "cpu")
    assert result.exit_code == 1
    assert "case bad" in result.output
    assert (tmp_path / "out" / "good.nii.gz").exists()


def test_a_dicom_series_is_segmented_into_its_own_grid(trained: Path, tmp_path: Path) -> None:
    volume, _ = blob_case(9)
    formats.write_dicom_series(tmp_path / "archive" / "patient" / "mr", volume)
    result = call("predict", trained / "model", tmp_path / "archive", tmp_path / "out", "--device", "cpu")
    assert result.exit_code == 0, result.output
    written = formats.read_grid(tmp_path / "out" / "patient_mr.nii.gz")
    np.testing.assert_allclose(written.affine, volume.grid.affine, atol=1e-3)


def test_one_scan_can_go_to_a_file_with_probabilities(trained: Path, tmp_path: Path) -> None:
    source = trained / "data" / "imagesTr" / "blob_0_0000.nii.gz"
    result = call("predict", trained / "model", source, tmp_path / "a.nii.gz", "--probabilities", "--device", "cpu")
    assert result.exit_code == 0, result.output
    assert {path.name for path in tmp_path.iterdir()} == {
        "a.nii.gz",
        "a.json",
        "a_probability_core.nii.gz",
        "a_probability_rim.nii.gz",
    }


def test_a_result_is_made_anew_when_its_scan_or_options_change(trained: Path, tmp_path: Path) -> None:
    shutil.copytree(trained / "data" / "imagesTr", tmp_path / "scans")
    words = ("predict", trained / "model", tmp_path / "scans", tmp_path / "out", "--device", "cpu")
    assert "6 segmented" in call(*words).output
    shutil.copy(tmp_path / "scans" / "blob_1_0000.nii.gz", tmp_path / "scans" / "blob_0_0000.nii.gz")
    assert "1 segmented" in call(*words).output
    assert "6 segmented" in call(*words, "--largest", "core").output


def test_prediction_writes_over_nothing_that_is_no_result(trained: Path, tmp_path: Path) -> None:
    shutil.copytree(trained / "data", tmp_path / "data")
    labels = tmp_path / "data" / "labelsTr"
    before = {path: path.read_bytes() for path in labels.iterdir()}
    words = ("predict", trained / "model", tmp_path / "data" / "imagesTr", labels, "--device", "cpu")
    result = call(*words)
    assert result.exit_code == 2
    assert "taken by something that is no result" in result.output
    assert {path: path.read_bytes() for path in labels.iterdir()} == before


def test_exports_are_made_of_results_that_are_there(trained: Path, tmp_path: Path) -> None:
    volume, _ = blob_case(9)
    formats.write_dicom_series(tmp_path / "tree" / "p", volume, patient_id="SECRET-7")
    words = ("predict", trained / "model", tmp_path / "tree", tmp_path / "out", "--device", "cpu")
    assert "1 segmented" in call(*words).output
    assert "0 segmented" in call(*words, "--export", "seg").output
    seg = tmp_path / "out" / "p.seg.dcm"
    assert b"SECRET-7" in seg.read_bytes()


def test_results_with_a_key_are_called_as_imported_cases(trained: Path, tmp_path: Path) -> None:
    volume, _ = blob_case(9)
    formats.write_dicom_series(tmp_path / "tree" / "SECRET", volume, patient_id="SECRET-7")
    words = ("predict", trained / "model", tmp_path / "tree", tmp_path / "out", "--device", "cpu", "--export", "seg")
    assert call(*words, "--deidentify", tmp_path / "key.json").exit_code == 0
    key = load_or_make_key(tmp_path / "key.json")
    names = {path.name for path in (tmp_path / "out").iterdir()}
    stem = key.pseudonym(Patient("SECRET-7"))
    assert names == {f"{stem}{suffix}" for suffix in (".nii.gz", ".json", ".seg.dcm", ".proof.json")}
    assert not any(b"SECRET" in path.read_bytes() for path in (tmp_path / "out").iterdir())


def test_one_damaged_file_does_not_keep_a_tree_from_being_segmented(trained: Path, tmp_path: Path) -> None:
    formats.write_dicom_series(tmp_path / "tree" / "good", blob_case(9)[0])
    broken = formats.write_dicom_series(tmp_path / "tree" / "bad", blob_case(8)[0])[3]
    broken.write_bytes(broken.read_bytes()[:700])
    result = call("predict", trained / "model", tmp_path / "tree", tmp_path / "out", "--device", "cpu")
    assert result.exit_code == 1, result.output
    assert broken.name in result.output
    assert (tmp_path / "out" / "good.nii.gz").exists()
    assert not (tmp_path / "out" / "bad.nii.gz").exists()


def test_check_lists_problems_and_draws(trained: Path, tmp_path: Path) -> None:
    good = call("check", trained / "data", "--previews", tmp_path / "previews", "--most", 2, "--device", "cpu")
    assert good.exit_code == 0, good.output
    assert len(list((tmp_path / "previews").glob("*.png"))) == 2
    write_blobs(tmp_path / "broken", 3)
    (tmp_path / "broken" / "labelsTr" / "blob_1.nii.gz").unlink()
    (tmp_path / "broken" / "imagesTr" / "blob_2_0000.nii.gz").write_bytes(b"")
    bad = call("check", tmp_path / "broken", "--device", "cpu")
    assert bad.exit_code == 1
    assert "blob_1" in bad.output
    assert "blob_2" in bad.output


def test_plan_says_what_a_step_takes(trained: Path, tmp_path: Path) -> None:
    words = ("plan", trained / "data", "-o", tmp_path / "plan.json", "--device", "cpu", "--cache", trained / "cache")
    result = call(*words, "--spacing", "1.5,1.5,2", "--patch", "16x16x8", "--window", "-57,164,0,1")
    assert result.exit_code == 0, result.output
    assert "One step on this machine: about" in result.output
    plan = json.loads((tmp_path / "plan.json").read_text())
    assert plan["spacing_mm"] == [1.5, 1.5, 2.0]
    assert plan["normalisation"] == [
        {"type": "window", "lower": -57.0, "upper": 164.0, "to_lower": 0.0, "to_upper": 1.0}
    ]


def test_convert_goes_both_ways(tmp_path: Path) -> None:
    volume, _ = blob_case(0)
    formats.write_volume(tmp_path / "mr.nii.gz", volume)
    assert call("convert", tmp_path / "mr.nii.gz", tmp_path / "series").exit_code == 0
    assert call("convert", tmp_path / "series", tmp_path / "back.nii.gz").exit_code == 0
    np.testing.assert_allclose(formats.read_volume(tmp_path / "back.nii.gz").array, volume.array, atol=0.01)


def test_phantom_writes_a_dataset_with_its_series(tmp_path: Path) -> None:
    result = call("phantom", tmp_path / "cohort", "--patients", 1)
    assert result.exit_code == 0, result.output
    assert len(list((tmp_path / "cohort" / "dicom").rglob("*.dcm"))) > 20
    assert call("check", tmp_path / "cohort", "--device", "cpu").exit_code == 0


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("train", "{data}", "{tmp}/m", "--folds", "9"), "too few patients"),
        (("train", "{data}", "{tmp}/m", "--steps", "5", "--minutes", "1"), "how long to train once"),
        (("train", "{tmp}", "{tmp}/m"), "dataset.json"),
        (("predict", "{data}", "{data}/imagesTr", "{tmp}/o"), "lacks model.json"),
        (("predict", "{model}", "{tmp}", "{tmp}/o"), "nothing to segment"),
        (("predict", "{model}", "{data}/imagesTr", "{tmp}/one.nii.gz"), "several scans cannot go into one file"),
        (("predict", "{model}", "{data}/imagesTr", "{tmp}/o", "--largest", "spleen"), "no such label"),
        (("convert", "{data}/dataset.json", "{tmp}/x.nii.gz"), "not an image"),
        (("plan", "{data}", "--patch", "8x8"), "expected 3 numbers"),
        (("evaluate", "{data}/labelsTr", "{tmp}"), "no case could be scored"),
    ],
)
def test_users_mistakes_are_one_line_and_exit_code_2(
    trained: Path, tmp_path: Path, words: tuple[str, ...], message: str
) -> None:
    places = {"data": trained / "data", "model": trained / "model", "tmp": tmp_path}
    result = call(*(word.format(**places) for word in words))
    assert result.exit_code == 2
    assert message in result.output
    assert "Traceback" not in result.output


def test_scan_lists_volumes_and_exits_by_what_is_wrong(tmp_path: Path) -> None:
    volume, _ = blob_case(0)
    formats.write_dicom_series(tmp_path / "tree" / "mr", volume, patient_id="P7")
    words = ("scan", tmp_path / "tree", "--index", tmp_path / "index", "--json", tmp_path / "out.json")
    good = call(*words)
    assert good.exit_code == 0, good.output
    assert "P7" in good.output
    assert "1 volume(s) can be read" in good.output
    assert json.loads((tmp_path / "out.json").read_text())["files"]["read"] == volume.array.shape[3]
    (tmp_path / "tree" / "mr" / "slice_0003.dcm").unlink()
    bad = call(*words)
    assert bad.exit_code == 1
    assert "1 slice(s) missing" in " ".join(bad.output.split())


def test_scan_does_not_overwrite_what_is_no_index(tmp_path: Path) -> None:
    (tmp_path / "precious.txt").write_text("mine")
    result = call("scan", tmp_path, "--index", tmp_path / "precious.txt")
    assert result.exit_code == 2
    assert "not an index of scans" in result.output
    assert (tmp_path / "precious.txt").read_text() == "mine"


def write_patient(folder: Path) -> formats.Stack:
    """A CT of "SECRET-7" with its structure set."""
    volume, blobs = blob_case(3)
    formats.write_dicom_series(folder / "ct", replace(volume, kind=Kind.CT), patient_id="SECRET-7", seed="p")
    stack = formats.stack_at(folder / "ct")
    write_rtstruct(folder / "labels.dcm", align(blobs, stack.grid), files_of(stack))
    return stack


def test_import_says_what_it_made_and_what_to_do_next(tmp_path: Path) -> None:
    write_patient(tmp_path / "tree")
    words = ("import", tmp_path / "tree", tmp_path / "data", "--cache", tmp_path / "cache")
    result = call(*words, "--label", "core")
    assert result.exit_code == 0, result.output
    for line in ("1 cases with labels, 0 without", "labels: 1 core", "not mapped onto a label: rim (1 case(s))"):
        assert line in result.stdout
    assert "--names" in result.stdout
    assert result.stdout.endswith(f"Next: delineate check {tmp_path / 'data'}\n")
    assert "SECRET" not in result.output.replace(str(tmp_path), "")
    (tmp_path / "tree" / "labels.dcm").unlink()
    result = call(*words, "--label", "core")
    assert result.stdout.endswith(f"Next: delineate predict MODEL {tmp_path / 'data' / 'imagesTs'} RESULTS\n")


def test_nothing_imported_is_exit_code_2_without_advice(tmp_path: Path) -> None:
    write_patient(tmp_path / "tree")
    words = ("import", tmp_path / "tree", tmp_path / "data", "--cache", tmp_path / "cache")
    result = call(*words, "--label", "liver")
    assert result.exit_code == 2
    assert "no region of any case is mapped onto a label" in result.stderr
    assert "Next:" not in result.output


def test_groups_go_out_and_come_back(tmp_path: Path) -> None:
    stack = write_patient(tmp_path / "tree")
    result = call("group", tmp_path / "tree" / "ct", tmp_path / "groups", "--slices", 5)
    assert "12 slices in 3 groups of 5" in result.stdout
    for name in ("01", "02", "03"):
        grid = formats.read_grid(tmp_path / "groups" / name)
        empty = Segmentation(np.zeros(grid.shape, np.uint8), grid, label_set({1: "a"}))
        formats.write_segmentation(tmp_path / "found" / f"{name}.nii.gz", empty)
    result = call("ungroup", tmp_path / "groups", tmp_path / "found", tmp_path / "whole.nii.gz")
    assert "disagree on 0 voxels" in result.stdout
    assert formats.read_grid(tmp_path / "whole.nii.gz").shape == stack.grid.shape


def test_deidentify_counts_and_names_what_it_left_out(tmp_path: Path) -> None:
    stack = write_patient(tmp_path / "tree")
    stack.files[0].write_bytes(stack.files[0].read_bytes()[:500])
    result = call("deidentify", tmp_path / "tree", tmp_path / "out", "--key", tmp_path / "key.json")
    assert result.exit_code == 1
    assert "12 objects of 1 patients written, 1 left out" in result.stdout
    assert "left out: ct/slice_0001.dcm" in result.stderr


def test_names_from_files_cannot_act_on_a_terminal(tmp_path: Path) -> None:
    folder = tmp_path / "bad\x1b[2J\nname"
    volume, _ = blob_case(0)
    formats.write_dicom_series(folder / "mr", volume)[3].unlink()
    result = call("convert", folder / "mr", tmp_path / "x.nii.gz")
    assert result.exit_code == 2
    assert "\x1b[2J" not in result.output
    assert len(result.stderr.splitlines()) == 1


def test_progress_is_apart_from_results(tmp_path: Path) -> None:
    write_patient(tmp_path / "tree")
    result = call("convert", tmp_path / "tree", tmp_path / "out", "--cache", tmp_path / "cache")
    assert "Converting: 1 of 1" in result.stderr
    assert "Converting" not in result.stdout
    assert len(result.stdout.splitlines()) == 2
