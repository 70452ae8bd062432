import os
import signal
from dataclasses import replace
from pathlib import Path

import msgspec
import numpy as np
import pytest
from anatomy import tiny_plan, write_blobs

from delineate.dataset import Dataset
from delineate.errors import InputError, PlanError
from delineate.planning import Normalisation, Plan, TrainingPlan, Window, ZScore, plan_from_json
from delineate.settings import Settings, detect
from delineate.workflow.preparing import prepare_cases
from delineate.workflow.training import Budget
from delineate.workflow.tuning import Effort, SearchOptions, TuningResult, tune
from delineate.workflow.tuning_cases import prepare_by_window
from delineate.workflow.tuning_confirming import _agreed, _mean
from delineate.workflow.tuning_folder import TuningFolder
from delineate.workspace import RunFolder

POOR = tiny_plan(
    training=TrainingPlan(batch_size=2, steps=12, learning_rate=1e-6, precision="float32", validations=1),
)
OPTIONS = SearchOptions(space="learning_rate=3e-2..6e-2", sampler="random", pruner="none", folds=3, test=2)
EFFORT = Effort(trials=3, confirm=0)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    return write_blobs(tmp_path_factory.mktemp("data"), 8)


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return replace(detect("cpu", threads=1, memory_gb=2, cache=tmp_path / "cache"), save_seconds=0.0)


def search(data: Dataset, folder: Path, settings: Settings, effort: Effort = EFFORT, **how: object) -> TuningResult:
    options = replace(OPTIONS, **{k: v for k, v in how.items() if k != "watch"})  # type: ignore[arg-type]
    watch = how.get("watch") or (lambda *progress: None)
    return tune(data, folder, options=options, effort=effort, settings=settings, plan=POOR, watch=watch)  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def undisturbed(data: Dataset, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, TuningResult]:
    folder = tmp_path_factory.mktemp("undisturbed")
    settings = detect("cpu", threads=1, memory_gb=2, cache=folder / "cache")
    return folder, search(data, folder / "tuning", settings, Effort(trials=3, confirm=1))


def dice_of(result: TuningResult) -> list[float]:
    return [trial.dice for trial in result.trials]


def test_a_better_plan_than_a_poor_one_is_found(undisturbed: tuple[Path, TuningResult]) -> None:
    folder, result = undisturbed
    assert result.finished
    assert result.best in (1, 2)
    assert dice_of(result)[result.best] > dice_of(result)[0]
    plan = plan_from_json((folder / "tuning" / "best_plan.json").read_bytes())
    assert plan.training.learning_rate == result.trials[result.best].told.values["learning_rate"]
    assert "the best of 3 trials of 12 steps" in plan.reasons[-1]


def test_the_winner_is_trained_again_on_cases_that_no_trial_validated_on(
    undisturbed: tuple[Path, TuningResult],
) -> None:
    folder, result = undisturbed
    confirmed = result.confirmation
    assert confirmed is not None
    assert (confirmed.fresh, confirmed.cases, confirmed.folds) == (True, 2, (1,))
    assert confirmed.difference == pytest.approx(confirmed.winner - confirmed.default)
    runs = sorted((folder / "tuning" / "confirm").iterdir())
    assert [RunFolder(run).plan().training.seed for run in runs] == [1000, 1000]
    tried = RunFolder(TuningFolder(folder / "tuning").trial(1)).split().validation
    assert not set(tried) & set(RunFolder(runs[0]).split().validation)


def test_test_cases_are_seen_by_nobody(undisturbed: tuple[Path, TuningResult]) -> None:
    for path in undisturbed[0].rglob("split.json"):
        split = RunFolder(path.parent.parent).split()
        assert split.held_out == ("blob_6", "blob_7")
        assert not {"blob_6", "blob_7"} & {*split.training, *split.validation}


def test_of_trials_that_lost_the_curves_stay_and_the_weights_go(undisturbed: tuple[Path, TuningResult]) -> None:
    folder, result = undisturbed
    trials = TuningFolder(folder / "tuning")
    for slot in range(3):
        assert (trials.trial(slot) / "weights.safetensors").exists() is (slot == result.best)
        assert (trials.trial(slot) / "training" / "curves.png").exists()
    assert len(trials.table.read_text().splitlines()) == 4
    assert "Value by value" in trials.page.read_text()


def test_a_stopped_search_goes_on_exactly(
    data: Dataset, tmp_path: Path, settings: Settings, undisturbed: tuple[Path, TuningResult]
) -> None:
    def interrupt(stage: str, done: float, total: float, note: str) -> None:
        if stage == "Training" and note.startswith("trial 1") and done == 8:
            os.kill(os.getpid(), signal.SIGINT)

    stopped = search(data, tmp_path / "tuning", settings, watch=interrupt)
    assert not stopped.finished
    assert [trial.state for trial in stopped.trials] == ["complete", "unfinished", "waiting"]
    assert any("The same command goes on" in doubt for doubt in stopped.doubts)
    assert dice_of(search(data, tmp_path / "tuning", settings)) == dice_of(undisturbed[1])


def test_what_cannot_be_trained_is_rejected_before_it_is(data: Dataset, tmp_path: Path, settings: Settings) -> None:
    small = replace(settings, memory_bytes=400_000_000)
    space = "patch=16x16x8|512x512x128"
    result = search(data, tmp_path / "tuning", small, Effort(trials=9), sampler="grid", space=space)
    assert [trial.state for trial in result.trials] == ["complete", "rejected"]
    assert "does not fit the memory" in result.trials[1].told.notes[0]
    assert not (TuningFolder(tmp_path / "tuning").trial(1) / "training").exists()
    assert result.words == ("None of 1 complete trial beats the plan as it was: keep it.",)


def test_trials_can_validate_on_several_folds(data: Dataset, tmp_path: Path, settings: Settings) -> None:
    result = search(
        data, tmp_path / "tuning", settings, Effort(trials=1, confirm=0), fold=(0, 2), trial=Budget(steps=2)
    )
    assert list(result.trials[0].curve) == [1, 2]
    sides = [RunFolder(tmp_path / "tuning/trials/0000" / f"fold_{n}").split().validation for n in (0, 2)]
    assert not set(sides[0]) & set(sides[1])


def test_another_search_in_the_same_folder_is_refused(
    data: Dataset, undisturbed: tuple[Path, TuningResult], settings: Settings
) -> None:
    folder = undisturbed[0] / "tuning"
    with pytest.raises(
        InputError, match=r"another search: space differs.*learning_rate=0.03..0.06, got dropout=0..0.5"
    ):
        search(data, folder, settings, space="dropout")
    other = msgspec.structs.replace(POOR, patch_size=(16, 16, 16))
    with pytest.raises(InputError, match=r"another search: --plan differs"):
        tune(data, folder, options=OPTIONS, effort=EFFORT, settings=settings, plan=other)


def test_a_search_needs_an_end_and_a_space(data: Dataset, tmp_path: Path, settings: Settings) -> None:
    with pytest.raises(InputError, match=r"no end.*--trials or --minutes"):
        search(data, tmp_path / "tuning", settings, Effort())
    with pytest.raises(PlanError, match=r"cannot be tuned.*got speed"):
        search(data, tmp_path / "tuning", settings, space="speed")


def test_after_the_minutes_no_trial_is_begun(data: Dataset, tmp_path: Path, settings: Settings) -> None:
    result = search(data, tmp_path / "tuning", settings, Effort(minutes=1e-6))
    assert (result.finished, result.trials, result.best) == (True, (), None)
    assert result.words == ("No trial has come to its end yet.",)
    assert not TuningFolder(tmp_path / "tuning").best_plan.exists()


def test_where_only_one_model_found_what_is_not_there_the_other_was_right() -> None:
    table = np.array([[[0.5, np.nan], [0.7, 0.0]], [[0.9, np.nan], [0.9, np.nan]]])  # (cases, 2, labels)
    agreed = _agreed(table)
    assert agreed[0].tolist() == [[0.5, 1.0], [0.7, 0.0]]
    assert np.isnan(agreed[1, :, 1]).all()
    assert _mean(agreed[:, 0]) == pytest.approx((0.7 + 1.0) / 2)
    assert _mean(agreed[:, 0] - agreed[:, 1]) == pytest.approx((-0.1 + 1.0) / 2)


def test_the_plan_kept_is_the_one_that_was_given(undisturbed: tuple[Path, TuningResult]) -> None:
    kept: Plan = TuningFolder(undisturbed[0] / "tuning").plan()
    assert kept == POOR


@pytest.mark.parametrize("how", [Window(lower=60, upper=250), ZScore(lower_percentile=2, upper_percentile=95)])
def test_a_case_for_another_window_is_what_preparing_gives(
    data: Dataset, tmp_path: Path, settings: Settings, how: Normalisation
) -> None:
    plan = msgspec.structs.replace(POOR, normalisation=(how,))
    own, plain = (replace(settings, cache=tmp_path / name) for name in ("own", "plain"))
    cases = data.cases[:2]
    prepare_by_window(cases, data.labels, plan, shared=settings, own=own, watch=lambda *progress: None)
    files = sorted((tmp_path / "own").rglob("*"))
    found = prepare_cases(cases, data.labels, plan, own)
    assert sorted((tmp_path / "own").rglob("*")) == files  # nothing was prepared anew
    for one, other in zip(found, prepare_cases(cases, data.labels, plan, plain), strict=True):
        assert np.array_equal(one.image, other.image)
        assert one.target is not None
        assert other.target is not None
        assert np.array_equal(one.target, other.target)
