import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from anatomy import tiny_plan, write_blobs

from delineate.dataset import Case, Dataset, Split
from delineate.errors import ModelError
from delineate.labels import label_set
from delineate.model import load_model, read_provenance
from delineate.reports.charts.learning import LearningCurves
from delineate.reports.training_pages import TrainingPage, courses, find_doubts
from delineate.settings import detect
from delineate.workflow.run_records import populations
from delineate.workflow.training import Budget, Division, train
from delineate.workflow.training_reports import report_training
from delineate.workspace import RunFolder


def page(
    core: Sequence[float], rim: Sequence[float], *, best: int, losses: Sequence[float] = (2.0, 1.0), step: int = 0
) -> TrainingPage:
    """A finished run of 100 steps a validation, with 9 patients to validate on."""
    steps = [100 * (n + 1) for n in range(len(core))]
    mean = [(a + b) / 2 for a, b in zip(core, rim, strict=True)]
    curves = LearningCurves(
        steps=[1, 2],
        losses=losses,
        validation_steps=steps,
        validation_dice=mean,
        best_step=best,
        by_structure={"core": core, "rim": rim},
    )
    last = steps[-1] if steps else 100
    return TrainingPage(
        title="run",
        curves=curves,
        structures=("core", "rim"),
        step=step or last,
        last_step=last,
        seconds=60,
        stage_seconds={},
        cases={"training": 20, "validation": 9},
        populations={},
        split="",
        choices=(),
        environment=(),
        provenance=(),
    )


STEADY = page([0.5, 0.7, 0.8, 0.801, 0.802, 0.803], [0.4, 0.6, 0.7, 0.7, 0.7, 0.7], best=600)


def test_a_run_that_came_to_rest_gives_no_reason_for_doubt() -> None:
    assert find_doubts(STEADY) == []


def test_a_rise_up_to_the_end_is_said() -> None:
    (doubt,) = find_doubts(page([0.1, 0.2, 0.3, 0.4, 0.5, 0.6], [0.1, 0.2, 0.3, 0.4, 0.5, 0.6], best=600))
    assert "still rising at the end, from 0.400 to 0.600" in doubt


def test_a_fall_after_the_best_step_is_said() -> None:
    doubts = find_doubts(page([0.5, 0.8, 0.78, 0.76], [0.5, 0.8, 0.78, 0.76], best=200))
    assert doubts[0].startswith("Validation Dice fell from 0.800 at step 200 to 0.760")


def test_a_structure_that_was_never_found_or_never_there_is_named() -> None:
    nan = math.nan
    lost = replace(STEADY, curves=replace(STEADY.curves, by_structure={"core": [0.0] * 6, "rim": [nan] * 6}))
    doubts = find_doubts(lost)
    assert any("Never found in a validation case: core." in doubt for doubt in doubts)
    assert any("In no validation case: rim." in doubt for doubt in doubts)


def test_a_structure_that_other_weights_knew_better_is_named() -> None:
    doubts = find_doubts(page([0.9, 0.7, 0.7, 0.7], [0.2, 0.7, 0.7, 0.7], best=400))
    assert doubts == ["core was better at step 100 (0.900) than in the weights that were kept (0.700)."]


def test_few_validation_patients_and_an_unfinished_run_are_said() -> None:
    doubts = find_doubts(replace(STEADY, cases={"training": 20, "validation": 2}, last_step=900))
    assert doubts[0].startswith("The run is not finished: 600 of 900 steps")
    assert doubts[1].startswith("The weights were chosen on 2 patients")


def test_a_model_that_learned_nothing_in_one_validation_is_not_praised() -> None:
    doubts = find_doubts(page([0.008], [0.0], best=100))
    assert doubts[0].startswith("All but nothing was learned: the best validation Dice is 0.004")
    assert doubts[1].startswith("There was one validation only")
    assert doubts[2] == "Never found in a validation case: rim."


def test_a_loss_that_is_no_number_is_said() -> None:
    odd = replace(STEADY, curves=replace(STEADY.curves, losses=[2.0, math.nan]))
    assert "not finite" in find_doubts(odd)[0]


def test_the_course_of_a_structure_is_read_at_the_step_that_was_kept() -> None:
    core, rim = courses(page([0.9, 0.7, 0.6], [math.nan, 0.8, 0.7], best=200))
    assert (core.kept, core.last, core.highest, core.highest_step) == (0.7, 0.6, 0.9, 100)
    assert (rim.kept, rim.highest_step) == (0.8, 200)


def test_populations_count_patients_and_keep_what_is_unknown() -> None:
    cases = tuple(
        Case(f"c{n}", f"p{n // 2}", (Path("x"),), None, site="A" if n < 3 else None, groups=(("phase", "arterial"),))
        for n in range(5)
    )
    dataset = Dataset("d", ("CT",), label_set({1: "a"}), cases)
    found = populations(dataset, Split(("c0", "c1", "c2", "c3"), ("c4",), "", ""))
    assert (found["training"].cases, found["training"].patients) == (4, 2)
    assert found["training"].sites == {"A": 3, "not recorded": 1}
    assert found["validation"].groups == {"phase": {"arterial": 1}}
    assert "held_out" not in found


def test_a_real_run_is_recorded_and_reported(tmp_path: Path) -> None:
    model = tmp_path / "model"
    settings = detect("cpu", threads=2, cache=tmp_path / "cache")
    dataset = write_blobs(tmp_path / "data", 4)
    train(dataset, model, budget=Budget(steps=3), division=Division(hold_out=1), settings=settings, plan=tiny_plan())
    provenance, digest = read_provenance(model)
    assert digest == load_model(model).digest
    assert provenance.populations["training"].patients == 3
    assert provenance.environment["device"] == "cpu"
    html = report_training(model, tmp_path / "report.html").html.read_text()
    assert "planning and preparing" in html
    assert digest in html
    facts = RunFolder(model).facts()
    assert facts is not None
    assert facts.seconds >= sum(facts.stage_seconds.values())
    (model / "training" / "state.safetensors").unlink()
    again = report_training(model, tmp_path / "again.html").html.read_text()
    assert "Not recorded: the run is older than this record, or its checkpoint" in again
    assert provenance.environment["processor"] in again


def test_a_folder_without_a_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="no training run"):
        report_training(tmp_path, tmp_path / "report.html")
