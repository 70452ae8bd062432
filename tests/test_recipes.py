"""Recipes: each makes the plan it says, and goes the whole way on synthetic data of its kind."""

from __future__ import annotations

import csv
import re
from dataclasses import dataclass
from pathlib import Path

import msgspec
import pytest
import torch
from click.testing import CliRunner, Result

from delineate import formats
from delineate.cli import main
from delineate.dataset import Dataset, open_dataset, unite_labels
from delineate.errors import PlanError
from delineate.fingerprint import Fingerprint
from delineate.networks import build_network
from delineate.phantom import KINDS
from delineate.planning import (
    Machine,
    Plan,
    PlanOptions,
    Speed,
    Window,
    check_plan,
    make_plan,
    plan_from_json,
    plan_to_json,
    training_bytes,
)
from delineate.recipes import Recipe, load_recipe, recipe_names
from delineate.settings import detect
from delineate.workflow import speed, supervising, training_records
from delineate.workflow.phantoms import Cohort, write_synthetic
from delineate.workflow.preparing import measure
from delineate.workspace import RunFolder

PATIENTS = 5
DOCS = Path(__file__).parent.parent / "docs" / "recipes"


@dataclass(frozen=True)
class Small:
    """How a recipe is made small enough for a test: coarser data, and options over the recipe's."""

    coarse: float
    options: tuple[str, ...]
    seed: int = 0


SMALL = {
    "spleen": Small(2.4, ("--spacing", "6,6,9", "--patch", "24x24x16")),
    "liver": Small(2.4, ("--resize-to", "32x32x16", "--patch", "32x32x16", "--batch", "2")),
    "multi_organ": Small(2.4, ("--spacing", "6,6,9", "--patch", "24x24x16")),
    "heart": Small(2.0, ("--spacing", "6,6,6.6", "--patch", "32x24x16")),
    "brain_tumour": Small(2.0, ("--spacing", "5,5,5", "--patch", "24x24x24"), seed=5),
    "prostate": Small(1.6, ("--spacing", "3.2,3.2,5", "--patch", "24x24x8")),
    "lung": Small(2.4, ("--spacing", "6,6,8", "--patch", "24x24x16")),
    "hippocampus": Small(1.5, ("--spacing", "1.5,1.5,1.5", "--patch", "24x32x24")),
}
SHORT = ("--features", "8,16", "--learning-rate", "0.005", "--validations", "1", "--batch", "2", "--folds", "4")
STEPS = 8


def call(*words: object) -> Result:
    return CliRunner().invoke(main, [str(word) for word in words], catch_exceptions=False)


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """What other tests are about: predictions in a process of their own, and curves, drawn for a second or two."""
    monkeypatch.setattr(supervising, "predict_apart", supervising.predict_here)
    monkeypatch.setattr(training_records, "learning_curves_figure", lambda *_, **__: b"")


@pytest.fixture(scope="module")
def cohorts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a dataset for every recipe."""
    folder = tmp_path_factory.mktemp("cohorts")
    for name in recipe_names():
        small = SMALL[name]
        cohort = Cohort(load_recipe(name).phantom, patients=PATIENTS, seed=small.seed, coarse=small.coarse)
        write_synthetic(folder / name, cohort, processes=1)
    return folder


def fingerprint_of(dataset: Dataset, recipe: Recipe) -> Fingerprint:
    return measure(unite_labels(dataset, recipe.plan_options.regions), detect("cpu", threads=1))


@pytest.mark.parametrize("name", recipe_names())
def test_a_recipe_checks_trains_predicts_and_is_scored(name: str, cohorts: Path, tmp_path: Path) -> None:
    data, model, results = cohorts / name, tmp_path / "model", tmp_path / "results"
    machine = ("--threads", 1, "--device", "cpu", "--cache", tmp_path / "cache")

    checked = call("check", data, *machine)
    assert checked.exit_code == 0, checked.output
    trained = call("train", data, model, "--recipe", name, *SMALL[name].options, *SHORT, "--steps", STEPS, *machine)
    assert trained.exit_code == 0, trained.output

    split, losses = RunFolder(model).split(), read_losses(model)
    assert len(split.held_out) == 1
    assert len(losses) == STEPS
    assert sum(losses[-3:]) < sum(losses[:3])
    (case,) = split.held_out
    scan = tmp_path / "scan"
    scan.mkdir()
    for image in open_dataset(data).case(case).images:
        (scan / image.name).symlink_to(image)
    predicted = call("predict", model, scan, results, *machine)
    assert predicted.exit_code == 0, predicted.output
    assert formats.read_label_values(results / f"{case}.nii.gz")[1] == formats.read_volume(next(scan.iterdir())).grid
    scored = call("evaluate", data, results, "--set-aside-by", model, "--no-report", "--threads", 1)
    assert scored.exit_code == 0, scored.output
    with (results / "scores.csv").open() as file:
        rows = [(row["case"], row["structure"]) for row in csv.DictReader(file)]
    assert rows == [(case, structure) for structure in RunFolder(model).plan().labels]


def read_losses(model: Path) -> list[float]:
    with (RunFolder(model).folder / "history.csv").open() as file:
        return [float(row["loss"]) for row in csv.DictReader(file) if row["loss"]]


@pytest.mark.parametrize("name", recipe_names())
@pytest.mark.parametrize(("device", "memory_gb"), [("cpu", 64), ("cuda", 80)])
def test_the_full_plan_of_a_recipe_is_sound(name: str, device: str, memory_gb: int, cohorts: Path) -> None:
    recipe = load_recipe(name)
    machine = Machine(device, memory_gb * 10**9, "float32")
    plan = make_plan(fingerprint_of(open_dataset(cohorts / name), recipe), machine, recipe.plan_options)
    check_plan(plan)
    assert plan_from_json(plan_to_json(plan)) == plan
    assert training_bytes(plan) < machine.memory_bytes
    with torch.device("meta"):
        network = build_network(plan.network, in_channels=plan.inputs, out_channels=plan.classes)
    assert sum(weights.numel() for weights in network.parameters()) > 100_000
    keeps_what_was_chosen(plan, recipe.plan_options)


def keeps_what_was_chosen(plan: Plan, options: PlanOptions) -> None:
    assert plan.network.architecture == options.architecture
    assert plan.training.loss == options.loss
    assert plan.training.learning_rate == options.learning_rate
    assert plan.training.batch_size == options.batch_size
    assert options.spacing_mm in (None, plan.spacing_mm)
    assert options.patch_size in (None, plan.patch_size)
    assert plan.resize_to == options.resize_to
    assert options.features in (None, plan.network.features)
    assert tuple(f"{r.name}={','.join(map(str, r.values))}" for r in plan.regions) == options.regions
    if options.window is not None:
        low, high, to_low, to_high = options.window
        assert plan.normalisation == (Window(lower=low, upper=high, to_lower=to_low, to_upper=to_high),)


def test_the_spleen_recipe_is_the_tutorial() -> None:
    options = load_recipe("spleen").plan_options
    assert options.features == (16, 32, 64, 128, 256)
    assert (options.window, options.spacing_mm, options.patch_size) == ((-57, 164, 0, 1), (1.5, 1.5, 2), (96, 96, 96))
    assert (options.samples_per_image, options.optimiser, options.learning_rate) == (4, "adam", 1e-4)
    # 500 epochs, validated every second one; of 41 cases the last 9 are the tutorial's validation.
    recipe = load_recipe("spleen")
    assert (recipe.epochs, options.validations, recipe.test_cases(41)) == (500, 250, 9)


def test_two_cases_are_left_to_train_and_validate_on() -> None:
    recipe = load_recipe("spleen")
    assert [recipe.test_cases(count) for count in (1, 2, 3, 5, 100)] == [0, 0, 1, 1, 22]
    most = msgspec.structs.replace(recipe, test_share=0.9)
    assert [most.test_cases(count) for count in (1, 2, 3, 5, 100)] == [0, 0, 1, 3, 90]


def test_an_unknown_recipe_and_a_wrong_option_are_refused() -> None:
    with pytest.raises(PlanError, match=r"no such recipe: expected one of brain_tumour, .*, got liver_and_more"):
        load_recipe("liver_and_more")
    wrong = msgspec.structs.replace(load_recipe("liver"), options={"lerning_rate": 1e-4})
    with pytest.raises(PlanError, match=r"the recipe 'liver' has a wrong option: .*lerning_rate"):
        _ = wrong.plan_options


def planned(folder: Path, cohorts: Path, *words: object) -> Plan:
    machine = ("--threads", 1, "--device", "cpu", "--cache", folder / "cache")
    result = call(
        "plan", cohorts / "hippocampus", "--recipe", "hippocampus", *words, "-o", folder / "plan.json", *machine
    )
    assert result.exit_code == 0, result.output
    return plan_from_json((folder / "plan.json").read_bytes())


def test_options_on_the_command_line_come_before_the_recipe(cohorts: Path, tmp_path: Path) -> None:
    plan = planned(tmp_path, cohorts, "--optimiser", "sgd", "--patch", "16x16x16", "--features", "8,16", "--batch", 4)
    assert (plan.training.optimiser, plan.patch_size) == ("sgd", (16, 16, 16))
    assert (plan.training.learning_rate, plan.training.validations) == (2e-3, 1)
    # 16 epochs of 4 patches from each of 3 cases: one of 5 is set aside, one validates.
    assert plan.training.steps == 16 * 3


def test_a_preset_comes_before_the_recipes_epochs(
    cohorts: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(speed, "measure_speed", lambda _: Speed(1e-9, 2e-11))
    reasons = planned(tmp_path, cohorts, "--preset", "quick", "--features", "4,8", "--patch", "16x16x16").reasons
    assert [one for one in reasons if one.startswith("time:") and "quick" in one]


def test_plan_and_train_make_the_same_plan_of_a_recipe(cohorts: Path, tmp_path: Path) -> None:
    words = ("--features", "8,16", "--patch", "16x16x16")
    plan, model = planned(tmp_path, cohorts, *words), tmp_path / "model"
    machine = ("--threads", 1, "--device", "cpu", "--cache", tmp_path / "cache")
    trained = call(
        "train", cohorts / "hippocampus", model, "--recipe", "hippocampus", *words, "--folds", 4, "--steps", 1, *machine
    )
    assert trained.exit_code == 0, trained.output

    def apart_from_time(plan: Plan) -> Plan:
        training = msgspec.structs.replace(plan.training, steps=1)
        reasons = tuple(one for one in plan.reasons if not one.startswith("time:"))
        return msgspec.structs.replace(plan, training=training, reasons=reasons)

    assert apart_from_time(RunFolder(model).plan()) == apart_from_time(plan)


def test_recipes_are_listed_and_explained() -> None:
    listed, shown = call("recipes").output, call("recipes", "show", "brain_tumour").output
    assert all(name in listed for name in recipe_names())
    assert "whole_tumour=1,2,3" in shown
    assert "delineate train    Task01_BrainTumour MODEL --recipe brain_tumour" in shown
    assert call("recipes", "show", "nothing").exit_code == 2


@pytest.mark.parametrize("name", recipe_names())
def test_a_recipe_has_a_page_that_says_what_it_says(name: str) -> None:
    recipe, page = load_recipe(name), (DOCS / f"{name}.md").read_text()
    assert recipe.phantom in KINDS
    assert f"--recipe {name}" in page
    assert recipe.url in page
    assert recipe.licence in page
    assert f"{round(recipe.steps, -2):,} steps" in page
    for published in recipe.published:
        numbers = re.findall(r"0\.\d+", published.figure)
        assert all(number in page for number in numbers), numbers
