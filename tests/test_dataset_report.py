import json
import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from anatomy import LABELS, blob_case, write_blobs
from click.testing import CliRunner

from delineate import formats
from delineate.cli import main
from delineate.dataset import Case, Dataset, write_dataset_json
from delineate.errors import DatasetError
from delineate.fingerprint import measure_case
from delineate.reports.dataset_facts import (
    Quantity,
    describe_case,
    find_missing,
    find_outliers,
    outliers_by_case,
    quantities,
)
from delineate.settings import Settings, detect
from delineate.volume import Kind, Segmentation
from delineate.workflow.dataset_reports import report_dataset

MR = Dataset("blobs", ("MR",), LABELS, ())


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return detect("cpu", threads=2, cache=tmp_path / "cache")


def quantity(values: Sequence[float], *, logarithmic: bool = False, least: float = 0.0) -> Quantity:
    return Quantity("Volume", "mL", {f"c{n}": value for n, value in enumerate(values)}, logarithmic, least, "core")


def test_a_far_value_stands_apart_by_its_robust_z() -> None:
    (found,) = find_outliers(quantity([10, 11, 12, 13, 14, 15, 16, 100]))
    assert found.case == "c7"
    assert found.z == pytest.approx((100 - 13.5) / (1.4826 * 2))
    assert "100 mL" in found.words
    assert found.usual == (11.75, 15.25)


def test_ratios_count_where_values_are_compared_by_logarithms() -> None:
    spread = [1, 2, 4, 8, 16, 32, 64, 128]
    assert find_outliers(quantity(spread, logarithmic=True)) == []
    assert [outlier.case for outlier in find_outliers(quantity(spread))] == ["c7"]


def test_equal_values_do_not_make_a_slight_difference_an_outlier() -> None:
    assert find_outliers(quantity([1.0] * 9 + [1.02], logarithmic=True, least=0.05)) == []
    assert len(find_outliers(quantity([1.0] * 9 + [2.0], logarithmic=True, least=0.05))) == 1


def test_of_few_cases_nothing_is_said() -> None:
    assert find_outliers(quantity([1, 1, 1, 1, 1, 1, 900])) == []


def test_many_cases_apart_on_one_side_are_a_second_group() -> None:
    values = [100.0 + n for n in range(20)] + [9000.0 + n for n in range(6)] + [0.01]
    apart, (group,) = outliers_by_case([], [quantity(values, logarithmic=True)])
    assert list(apart) == ["c26"]
    assert len(group.cases) == 6
    assert group.theirs == pytest.approx((9000, 9005))
    assert "6 of 27 cases (22 %)" in group.words


def test_two_groups_are_each_compared_with_those_of_neither() -> None:
    values = [5.0] * 6 + [100.0, 101, 102, 103, 104, 105, 106, 107, 108, 109] * 3 + [900.0] * 6
    cases, (low, high) = outliers_by_case([], [quantity(values)])
    assert cases == {}
    assert (low.theirs, low.others) == ((5, 5), (100, 109))
    assert (high.theirs, high.others) == ((900, 900), (100, 109))


def test_a_structure_that_nearly_all_have_is_missed_where_it_is_not() -> None:
    volume, reference = blob_case(0)
    facts = [describe_case(case(n), volume, measure_case(f"c{n}", volume, reference, [Kind.MR]), MR) for n in range(10)]
    facts[3] = replace(facts[3], volumes_ml={**facts[3].volumes_ml, "core": 0.0})
    core = next(q for q in quantities(facts, MR.channels, MR.kinds) if q.structure == "core")
    (missing,) = find_missing(core, facts)
    assert missing.case == "c3"
    assert math.isnan(missing.z)
    assert "No core" in missing.words


def case(n: int) -> Case:
    return Case(f"c{n}", f"p{n}", (Path("x.nii.gz"),), None, site="A")


def test_facts_are_in_millimetres_and_millilitres_along_the_body() -> None:
    volume, reference = blob_case(0)
    facts = describe_case(case(0), volume, measure_case("c0", volume, reference, [Kind.MR]), MR)
    assert facts.shape == (20, 16, 12)
    assert facts.spacing_mm == pytest.approx((0.9, 1.2, 2.5))
    assert facts.extent_mm == pytest.approx((18, 19.2, 30))
    assert facts.volumes_ml["core"] == pytest.approx(np.count_nonzero(reference.array == 1) * 0.0027)
    assert facts.intensities["MR"].low < facts.intensities["MR"].median < facts.intensities["MR"].high


def test_the_report_shows_the_odd_case_with_its_picture(tmp_path: Path, settings: Settings) -> None:
    folder = tmp_path / "data"
    write_blobs(folder, 12)
    volume, reference = blob_case(5)
    shrunk = np.where(np.indices(volume.grid.shape).sum(0) % 7 == 0, reference.array, 0).astype(np.uint8)
    formats.write_segmentation(folder / "labelsTr" / "blob_5.nii.gz", Segmentation(shrunk, reference.grid, LABELS))
    made = report_dataset(folder, tmp_path / "out" / "report.html", settings=settings)
    assert [apart.case for apart in made.page.apart] == ["blob_5"]
    html, data = made.html.read_text(), json.loads(made.json.read_text())
    assert html.count("data:image/png") == 2  # the odd case, and a first look at all
    assert "http" not in html.replace("http://www.w3.org", "")
    assert {reason["quantity"] for reason in data["apart"]["blob_5"]} >= {"Volume of core", "Volume of rim"}
    assert len(data["facts"]) == 12


def test_a_case_that_cannot_be_read_is_a_problem_of_the_report(tmp_path: Path, settings: Settings) -> None:
    folder = tmp_path / "data"
    write_blobs(folder, 3)
    (folder / "imagesTr" / "blob_1_0000.nii.gz").write_bytes(b"no image")
    made = report_dataset(folder, tmp_path / "report.html", settings=settings)
    assert made.page.count("error") == 1
    assert [facts.case for facts in made.page.facts] == ["blob_0", "blob_2"]
    assert "blob_1_0000.nii.gz" in made.html.read_text()


def test_names_in_files_cannot_act_on_the_page(tmp_path: Path, settings: Settings) -> None:
    folder = tmp_path / "data"
    dataset = write_blobs(folder, 1)
    odd = replace(dataset, name="<script>alert(1)</script>", cases=(replace(dataset.cases[0], site="<b>A</b>"),))
    write_dataset_json(folder, odd)
    html = report_dataset(folder, tmp_path / "report.html", settings=settings).html.read_text()
    assert "<script>alert" not in html
    assert "<b>A</b>" not in html


def test_no_dataset_is_said(tmp_path: Path, settings: Settings) -> None:
    with pytest.raises(DatasetError, match=r"dataset\.json"):
        report_dataset(tmp_path, tmp_path / "report.html", settings=settings)


def test_the_command_says_what_it_found(tmp_path: Path) -> None:
    write_blobs(tmp_path / "data", 2)
    result = CliRunner().invoke(main, ["report", "dataset", str(tmp_path / "data"), "-o", str(tmp_path / "x.html")])
    assert result.exit_code == 0, result.output
    assert "2 cases: no problems found, 0 stand apart" in result.output
    assert (tmp_path / "x.json").is_file()
