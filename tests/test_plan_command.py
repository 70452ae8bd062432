"""`delineate plan` makes the plan that `delineate train` would make."""

from pathlib import Path

import pytest
from anatomy import tiny_plan, write_blobs
from click.testing import CliRunner

from delineate.cli import main
from delineate.dataset import Dataset
from delineate.errors import DelineateError
from delineate.planning import PlanOptions, plan_to_json
from delineate.sampling import steps_per_epoch
from delineate.settings import Settings, detect
from delineate.workflow.planning import plan_training
from delineate.workflow.training import Division, divide


@pytest.fixture(scope="module")
def blobs(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    return write_blobs(tmp_path_factory.mktemp("blobs"), 7)


@pytest.fixture(scope="module")
def settings() -> Settings:
    return detect("cpu", threads=1)


def test_cases_that_are_set_aside_are_not_looked_at(tmp_path: Path, settings: Settings) -> None:
    dataset = write_blobs(tmp_path, 3)
    dataset.cases[-1].images[0].write_bytes(b"no scan")
    with pytest.raises(DelineateError, match="blob_2"):
        plan_training(dataset, settings)
    assert plan_training(dataset, settings, test=1).labels == dataset.labels.names


def test_epochs_are_steps_of_the_cases_that_train_learns_from(blobs: Dataset, settings: Settings) -> None:
    plan = plan_training(blobs, settings, PlanOptions(samples_per_image=3, batch_size=2), test=1, epochs=10)
    # Of 7 cases one is set aside, and two of five folds hold the sixth: 4 cases of 3 patches in steps of 2.
    assert plan.training.steps == 10 * 6
    learnt_from = divide(blobs, Division(test=1)).training
    assert plan.training.steps == 10 * steps_per_epoch(len(learnt_from), plan)
    assert [reason for reason in plan.reasons if reason.startswith("time:")] == [plan.reasons[-1]]
    assert "10 epochs of 6 steps" in plan.reasons[-1]


def test_without_epochs_the_planners_steps_stay(blobs: Dataset, settings: Settings) -> None:
    assert plan_training(blobs, settings).training.steps == 2000


def test_fewer_patients_than_folds_can_be_planned(tmp_path: Path, settings: Settings) -> None:
    options = PlanOptions(samples_per_image=4, batch_size=2)
    counts = [plan_training(write_blobs(tmp_path / str(n), n), settings, options, epochs=1) for n in (1, 3)]
    assert [plan.training.steps for plan in counts] == [2, 4]


@pytest.mark.parametrize("command", ["train", "pretrain", "tune"])
def test_options_beside_a_plan_that_they_would_not_change_are_refused(command: str, tmp_path: Path) -> None:
    (tmp_path / "plan.json").write_text(plan_to_json(tiny_plan()))
    words = [command, str(tmp_path), str(tmp_path / "model"), "--plan", str(tmp_path / "plan.json")]
    result = CliRunner().invoke(main, [*words, "--spacing", "1,1,2", "--no-crop"])
    assert result.exit_code == 2
    assert "--spacing, --crop would change nothing" in " ".join(result.output.split())
