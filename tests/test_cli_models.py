import json
from pathlib import Path

import nnunet_models
import numpy as np
import pytest
from anatomy import blob_case
from click.testing import CliRunner, Result
from test_exchange_writing import model_of, network_plan, plan_of

from delineate import formats
from delineate.cli import main
from delineate.files import write_text
from delineate.inference import segment
from delineate.model import load_model, save_model
from delineate.planning import Preparation


def call(*words: object) -> Result:
    return CliRunner().invoke(main, [str(word) for word in words], catch_exceptions=False)


@pytest.fixture
def trained(tmp_path: Path) -> Path:
    """A model as nnU-Net leaves one, of two folds."""
    folds = {name: nnunet_models.checkpoint(nnunet_models.Network().state_dict()) for name in ("0", "1")}
    return nnunet_models.write_trained(tmp_path / "trained", folds=folds)


@pytest.fixture
def own(tmp_path: Path) -> Path:
    save_model(tmp_path / "own", model_of(plan_of(network_plan())))
    return tmp_path / "own"


@pytest.mark.parametrize("command", ["import-model", "export-model"])
def test_the_commands_explain_themselves_with_an_example(command: str) -> None:
    result = call(command, "--help")
    assert result.exit_code == 0
    assert f"Example: delineate {command}" in result.output


def test_an_imported_model_is_described(trained: Path, tmp_path: Path) -> None:
    result = call("import-model", trained, tmp_path / "model")
    assert result.exit_code == 0, result.output
    for words in (
        "2 structures: core, rim",
        "Input: MRI; axes as stored in the file; 0.8 x 0.9 x 5 mm",
        "Network: nnunet, 3D, patch 12 x 8 x 4, 2 folds, averaged",
        "Mirroring in prediction: axes 1, 2 (4 passes)",
        f"Next: delineate predict {tmp_path / 'model'} SCANS RESULTS",
    ):
        assert words in result.output
    assert len(load_model(tmp_path / "model").folds) == 2


def test_one_fold_can_be_taken(trained: Path, tmp_path: Path) -> None:
    result = call("import-model", trained, tmp_path / "model", "--fold", 1, "--orientation", "RAS")
    assert "1 fold\n" in result.output
    assert "axes turned to RAS" in result.output
    assert load_model(tmp_path / "model").plan.orientation == "RAS"


def test_parts_make_one_model_with_the_values_of_a_table(trained: Path, tmp_path: Path) -> None:
    write_text(tmp_path / "values.json", json.dumps({"7": "core", "3": "rim", "4": "edge"}))
    other = nnunet_models.write_trained(
        tmp_path / "other", dataset_json=nnunet_models.dataset(labels={"background": 0, "edge": 1, "core": 2})
    )
    result = call("import-model", trained, other, tmp_path / "model", "--values", tmp_path / "values.json")
    assert result.exit_code == 0, result.output
    assert "Stage overlay_1: edge, core" in result.output
    labels = load_model(tmp_path / "model").labels
    assert {label.name: label.value for label in labels} == {"core": 7, "rim": 3, "edge": 4}


def test_a_model_can_run_within_what_another_finds(trained: Path, own: Path, tmp_path: Path) -> None:
    words = ("import-model", trained, tmp_path / "model", "--within", own, "--structures", "rim", "--margin-mm", 5)
    result = call(*words)
    assert result.exit_code == 0, result.output
    locator = load_model(tmp_path / "model").locator
    assert locator is not None
    assert (locator.structures, locator.margin_mm) == (("rim",), 5.0)


@pytest.mark.parametrize(
    ("words", "problem"),
    [
        (("--fold", "4"), "no such checkpoint"),
        (("--configuration", "2d"), "2d"),
        (("--orientation", "RAX"), "RAX"),
        (("--within", "{own}", "--structures", "liver"), "liver"),
        (("--structures", "rim"), "no model that finds them"),
        (("--values", "{trained}/plans.json"), "the table of values cannot be read"),
    ],
)
def test_a_mistake_is_one_line_and_leaves_nothing(
    trained: Path, own: Path, tmp_path: Path, words: tuple[str, ...], problem: str
) -> None:
    given = (word.format(own=own, trained=trained) for word in words)
    result = call("import-model", trained, tmp_path / "model", *given)
    assert result.exit_code == 2
    assert result.stderr.count("\n") == 1
    assert problem in result.stderr
    assert {path.name for path in tmp_path.iterdir()} == {"trained", "own"}


def test_an_import_replaces_an_import_if_asked_and_nothing_else(trained: Path, own: Path, tmp_path: Path) -> None:
    call("import-model", trained, tmp_path / "model", "--fold", 0)
    assert "there already" in call("import-model", trained, tmp_path / "model").stderr
    assert call("import-model", trained, tmp_path / "model", "--again").exit_code == 0
    assert len(load_model(tmp_path / "model").folds) == 2
    (own / "training").mkdir()
    assert "holds a training run" in call("import-model", trained, own, "--again").stderr
    assert call("import-model", trained, trained, "--again").exit_code == 2
    assert (trained / "plans.json").exists()


def test_an_imported_model_segments_through_the_command_line(trained: Path, tmp_path: Path) -> None:
    volume, _ = blob_case(0)
    formats.write_volume(tmp_path / "scan.nii.gz", volume)
    call("import-model", trained, tmp_path / "model")
    result = call(
        "predict", tmp_path / "model", tmp_path / "scan.nii.gz", tmp_path / "results", "--device", "cpu",
        "--threads", 1, "--cache", tmp_path / "cache",
    )  # fmt: skip
    assert result.exit_code == 0, result.output
    model = load_model(tmp_path / "model")
    found = formats.read_segmentation(tmp_path / "results" / "scan.nii.gz", model.labels)
    expected = segment(model, formats.read_volume(tmp_path / "scan.nii.gz")).segmentation
    assert set(np.unique(expected.array)) == {0, 1, 2}
    assert (found.array == expected.array).mean() > 0.999


@pytest.mark.parametrize(("to", "file"), [("nnunet", "plans.json"), ("torchscript", "network.ts")])
def test_a_model_is_exported_and_described(own: Path, tmp_path: Path, to: str, file: str) -> None:
    result = call("export-model", own, tmp_path / "out", "--to", to)
    assert result.exit_code == 0, result.output
    assert f"Written to {tmp_path / 'out'}" in result.output
    assert (tmp_path / "out" / file).is_file()
    assert "blobs: core, rim" in (tmp_path / "out" / "README.md").read_text()
    assert json.loads((tmp_path / "out" / "export.json").read_text())["model"] == load_model(own).digest


def test_differences_are_printed_and_kept_beside_the_export(tmp_path: Path) -> None:
    save_model(tmp_path / "own", model_of(plan_of(network_plan(), preparation=Preparation())))
    printed = call("export-model", tmp_path / "own", tmp_path / "out", "--to", "nnunet").output
    assert "nnU-Net will find other voxels than delineate:" in printed
    said = [line for line in printed.splitlines() if line.startswith("- ")]
    assert any("crops to what is not 0" in line for line in said)
    assert "--like nnunet" in said[-1]
    assert all(line in (tmp_path / "out" / "README.md").read_text() for line in said)


def test_an_export_replaces_an_export_if_asked_and_nothing_else(own: Path, tmp_path: Path) -> None:
    words = ("export-model", own, tmp_path / "out", "--to", "nnunet")
    assert call(*words).exit_code == 0
    assert "there already" in call(*words).stderr
    assert call(*words, "--again").exit_code == 0
    refused = call("export-model", own, own, "--to", "nnunet", "--again")
    assert (refused.exit_code, "is no export" in refused.stderr) == (2, True)
    assert (own / "plan.json").exists()


def test_what_cannot_be_exported_names_the_model_and_leaves_nothing(own: Path, tmp_path: Path) -> None:
    result = call("export-model", own, tmp_path / "out", "--to", "monai")
    assert result.exit_code == 2
    assert result.stderr.count("\n") == 1
    assert "MONAI has no such network" in result.stderr
    assert str(own) in result.stderr
    assert {path.name for path in tmp_path.iterdir()} == {"own"}
