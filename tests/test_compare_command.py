from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner, Result

from delineate import formats
from delineate.cli import main
from delineate.geometry import Grid, compose_affine
from delineate.labels import label_set
from delineate.volume import Segmentation

NAMES = {1: "liver", 3: "cyst"}
SHAPE = (12, 10, 7)


def drawn(first: int = 2, *, cyst: bool = True) -> Segmentation:
    array = np.zeros(SHAPE, np.uint8)
    array[first : first + 6, 2:7, 2:5] = 1
    array[3:9, 8, 4] = 3 * cyst
    return Segmentation(array, Grid(SHAPE, compose_affine(np.diag([0.8, 1.1, 2.5]), (5, 6, 7))), label_set(NAMES))


def put(folder: Path, cases: dict[str, Segmentation]) -> Path:
    for case, segmentation in cases.items():
        formats.write_segmentation(folder / f"{case}.nii.gz", segmentation)
    return folder


@pytest.fixture
def work(tmp_path: Path) -> Path:
    """Three cases; model a is exact, b is off and misses a cyst, c lacks a case."""
    labels = {"labels": {"background": 0, "liver": 1, "cyst": 3}}
    (tmp_path / "dataset.json").write_text(json.dumps(labels))
    put(tmp_path / "references", {case: drawn() for case in ("one", "two", "six")})
    put(tmp_path / "a", {case: drawn() for case in ("one", "two", "six")})
    put(tmp_path / "b", {"one": drawn(3), "two": drawn(cyst=False), "six": drawn(3)})
    put(tmp_path / "c", {"one": drawn(), "two": drawn(3)})
    return tmp_path


def run(work: Path, *models: str, options: tuple[str, ...] = ()) -> Result:
    folders = [str(work / model) for model in models]
    out = ["-o", str(work / "out"), "--threads", "1"]
    return CliRunner().invoke(main, ["compare", str(work / "references"), *folders, *out, *options])


def report(work: Path) -> Any:
    return json.loads((work / "out" / "comparison.json").read_text())


def difference(work: Path, first: str, second: str, structure: str | None, metric: str = "dice") -> Any:
    found = report(work)["differences"]
    wanted = [first, second, structure, metric]
    return next(one for one in found if [one[key] for key in ("first", "second", "structure", "metric")] == wanted)


def test_two_models_are_compared_case_by_case(work: Path) -> None:
    result = run(work, "a", "b")
    assert result.exit_code == 0, result.output
    assert "a against b, 3 cases" in result.output
    assert "p cannot be below 0.25" in " ".join(result.output.split())
    liver, cyst = (difference(work, "a", "b", name) for name in ("liver", "cyst"))
    assert liver["difference"] == pytest.approx(2 / 18)
    assert (liver["wins"], liver["ties"], liver["losses"], liver["better"]) == (2, 1, 0, "a")
    assert cyst["difference"] == pytest.approx(1 / 3)
    assert difference(work, "a", "b", None)["difference"] == pytest.approx((2 / 18 + 1 / 3) / 2)
    assert report(work)["rankings"] == []


def test_a_case_that_a_model_lacks_counts_as_missed_and_is_said(work: Path) -> None:
    result = run(work, "a", "c")
    assert result.exit_code == 1
    assert "c: six: counted as missed, because there is no prediction" in result.output
    assert report(work)["models"]["c"]["failures"] == {"six": "there is no prediction"}
    assert difference(work, "a", "c", "cyst")["means"] == pytest.approx([1, 2 / 3])


def test_three_models_are_ranked(work: Path) -> None:
    result = run(work, "b", "c", "a")
    assert "Each two of 3 models, 3 cases" in result.output
    ranking = next(one for one in report(work)["rankings"] if one["structure"] is None and one["by"] == "means")
    assert ranking["places"][0]["model"] == "a"
    assert sum(ranking["places"][1]["shares"]) == pytest.approx(1)
    assert len(report(work)["differences"]) == 3 * 3 * 3


def test_a_row_a_case_and_structure_as_it_counts(work: Path) -> None:
    run(work, "a", "c", options=("--metrics", "dice,hd95_mm"))
    rows = list(csv.DictReader((work / "out" / "comparison.csv").read_text().splitlines()))
    assert len(rows) == 3 * 2
    six = next(row for row in rows if (row["case"], row["structure"]) == ("six", "cyst"))
    assert (six["dice a"], six["dice c"], six["failed"]) == ("1", "0", "c")
    assert float(six["hd95_mm c"]) == pytest.approx(np.hypot.reduce([12 * 0.8, 10 * 1.1, 7 * 2.5]), rel=1e-3)


def test_of_a_dataset_those_cases_count_that_any_model_has(work: Path) -> None:
    cases = ("one", "two", "six", "ten")
    (work / "dataset.json").write_text(
        json.dumps(
            {
                "channel_names": {"0": "CT"},
                "labels": {"background": 0, "liver": 1, "cyst": 3},
                "training": [
                    {"image": f"x/{case}.nii.gz", "label": f"references/{case}.nii.gz", "patient_id": "p" + case[0]}
                    for case in cases
                ],
            }
        )
    )
    arguments = [str(work), str(work / "a"), str(work / "c"), "-o", str(work / "out"), "--threads", "1"]
    result = CliRunner().invoke(main, ["compare", *arguments])
    assert "Cases that no model has a prediction of left out: 1." in result.output
    assert report(work)["cases"] == 3
    assert list(report(work)["models"]["c"]["failures"]) == ["six"]


@pytest.mark.parametrize(
    ("models", "options", "words"),
    [
        (("a",), (), "two folders or more"),
        (("a", "a"), (), "two folders or more, all different"),
        (("a", "b"), ("--metrics", "volume_error_ml"), "figures that models are not compared by"),
        (("a", "b/one.nii.gz"), (), "by the folder"),
    ],
)
def test_what_cannot_be_compared_is_refused(
    work: Path, models: tuple[str, ...], options: tuple[str, ...], words: str
) -> None:
    result = run(work, *models, options=options)
    assert result.exit_code == 2
    assert words in result.output


def test_results_of_other_cases_are_refused(work: Path) -> None:
    put(work / "d", {"other": drawn()})
    result = run(work, "a", "d")
    assert result.exit_code == 2
    assert "no case could be scored" in result.output


def test_folders_of_one_name_are_told_apart(work: Path) -> None:
    for model in ("x", "y"):
        put(work / model / "results", {case: drawn() for case in ("one", "two", "six")})
    run(work, "x/results", "y/results")
    assert list(report(work)["models"]) == ["x/results", "y/results"]


def test_groups_of_an_evaluation(work: Path) -> None:
    (work / "groups.csv").write_text("case,scanner\none,GE\ntwo,Siemens\nsix,Siemens\n")
    arguments = [str(work / "references"), str(work / "b"), "-o", str(work / "out"), "--threads", "1", "--no-report"]
    options = ["--groups", str(work / "groups.csv"), "--by", "size", "--bands", "size=0.05,1"]
    result = CliRunner().invoke(main, ["evaluate", *arguments, *options])
    assert "Dice by group" in result.output, result.output
    scores = json.loads((work / "out" / "scores.json").read_text())
    assert scores["cases"]["two"]["groups"] == {"scanner": "Siemens"}
    found = scores["subgroups"]["scores"]
    wanted = ("scanner", "GE", "cyst", "dice")
    cyst = next(one for one in found if tuple(one[key] for key in ("by", "group", "structure", "metric")) == wanted)
    assert cyst["gap"] == pytest.approx(0.5)
    assert cyst["small"]
    rows = list(csv.DictReader((work / "out" / "subgroups.csv").read_text().splitlines()))
    assert len(rows) == len(found)
    assert {row["group"] for row in rows if row["by"] == "size"} == {"below 0.05 ml", "0.05 to 1 ml"}


def test_the_page_says_who_is_better_and_whom_a_case_lacks(work: Path) -> None:
    run(work, "a", "b", "c")
    page = (work / "out" / "comparison.html").read_text()
    assert "Dice: a 1.000, b 0.778; the difference (+0.222" in page
    assert "c, six: counted as missed, because there is no prediction." in page
    assert "p cannot be below 0.25" in page
    assert "Dice, by ranks" in page
    assert "http" not in page.replace("http://www.w3.org", "")
