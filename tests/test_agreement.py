from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

from delineate import formats
from delineate.cli import main
from delineate.errors import InputError
from delineate.evaluation.consensus import Method
from delineate.geometry import Grid, compose_affine
from delineate.labels import label_set
from delineate.settings import Settings, detect
from delineate.volume import Segmentation, reorient
from delineate.workflow.agreement import AgreementOptions, AgreementResult, agree
from delineate.workflow.evaluating import evaluate
from delineate.workflow.results import ResultRecord, write_record

NAMES = {1: "cyst", 3: "duct"}
SHAPE = (12, 10, 7)


def drawn(first: int, last: int, *, spacing: float = 2.5) -> Segmentation:
    array = np.zeros(SHAPE, np.uint8)
    array[first:last, 2:7, 2:5], array[3:9, 8, 4] = 1, 3
    return Segmentation(array, Grid(SHAPE, compose_affine(np.diag([0.8, 1.1, spacing]), (5, 6, 7))), label_set(NAMES))


def put(folder: Path, **cases: Segmentation) -> Path:
    for case, segmentation in cases.items():
        formats.write_segmentation(folder / f"{case}.nii.gz", segmentation)
    return folder


@pytest.fixture
def readers(tmp_path: Path) -> list[Path]:
    """Three readers of two cases; the third has read only one."""
    (tmp_path / "dataset.json").write_text(json.dumps({"labels": {"background": 0, "cyst": 1, "duct": 3}}))
    return [
        put(tmp_path / "anna", one=drawn(1, 8), two=drawn(2, 8)),
        put(tmp_path / "ben", one=drawn(2, 8), two=drawn(2, 7)),
        put(tmp_path / "carla", one=drawn(2, 9)),
    ]


def here() -> Settings:
    return detect("cpu", threads=1)


def run(folders: list[Path], output: Path, predictions: Path | None = None, **options: Any) -> AgreementResult:
    return agree(folders, output, predictions=predictions, options=AgreementOptions(**options), settings=here())


def report(result: AgreementResult) -> Any:
    return json.loads(result.report.read_text())


def dice(result: AgreementResult, structure: str = "cyst") -> Any:
    return report(result)["structures"][structure]["readers"]["dice"]


def test_readers_are_compared_by_case_and_who_lacks_one_is_counted(readers: list[Path], tmp_path: Path) -> None:
    result = run(readers, tmp_path / "out")
    assert result.read == {"anna": 2, "ben": 2, "carla": 1}
    assert result.missing == {"anna": (), "ben": (), "carla": ("two",)}
    one, two = (12 / 13 + 12 / 13 + 12 / 14) / 3, 10 / 11
    assert dice(result)["readers"] == pytest.approx((one + two) / 2)
    assert dice(result, "duct")["readers"] == 1
    assert "1 of 2 cases have two readers" in result.remarks[0]


def test_a_row_a_case_comparison_and_structure(readers: list[Path], tmp_path: Path) -> None:
    rows = list(csv.DictReader(run(readers, tmp_path / "out").table.read_text().splitlines()))
    # One: three pairs and each reader against two consensuses of the others; two: one pair.
    assert len(rows) == 2 * (3 + 3 * 2 + 1)
    first = rows[0]
    assert (first["case"], first["who"], first["others"], first["status"]) == ("one", "ben", "anna", "scored")
    assert float(first["dice"]) == pytest.approx(12 / 13, abs=1e-6)


@pytest.mark.parametrize("method", Method)
def test_the_consensus_serves_as_references(readers: list[Path], tmp_path: Path, method: Method) -> None:
    result = run(readers, tmp_path / "out", consensus=method)
    assert result.consensus is not None
    found = formats.read_segmentation(result.consensus / "one.nii.gz", label_set(NAMES))
    assert (found.array == drawn(2, 8).array).all()
    scores = evaluate(result.consensus, readers[0], output=tmp_path / "scores", settings=here())
    assert scores.evaluation.structures["duct"].metrics["dice"].mean == 1


def test_no_consensus_is_written_unless_asked_for(readers: list[Path], tmp_path: Path) -> None:
    assert run(readers, tmp_path / "out", consensus=None).consensus is None
    assert not (tmp_path / "out" / "consensus").exists()


def test_a_case_without_prediction_counts_as_missed(readers: list[Path], tmp_path: Path) -> None:
    whole = put(tmp_path / "whole", one=drawn(2, 8), two=drawn(2, 8))
    part = put(tmp_path / "part", one=drawn(2, 8), other=drawn(2, 8))
    before, after = (run(readers, folder / "out", folder) for folder in (whole, part))
    assert dice(after)["model"] == pytest.approx((2 * dice(before)["model"] - (1 + 10 / 11) / 2) / 2)
    assert after.failures == {"two": "there is no prediction"}
    assert after.missed_by_model == {"model": 1}
    assert "1 predictions of cases that nobody read left out." in after.remarks


def test_predictions_are_read_by_the_names_that_predict_wrote_down(readers: list[Path], tmp_path: Path) -> None:
    results = tmp_path / "results"
    for case in ("one", "two"):
        array = drawn(2, 8).array
        turned = np.select([array == 1, array == 3], [3, 1]).astype(np.uint8)
        put(results, **{case: Segmentation(turned, drawn(2, 8).grid, label_set({1: "duct", 3: "cyst"}))})
        labels = {"duct": 1, "cyst": 3}
        record = ResultRecord(case=case, labels=labels, volumes_ml={}, model="m", series_uid=None, seconds=1)
        write_record(results / f"{case}.nii.gz", record)
    result = run(readers, tmp_path / "out", results)
    assert dice(result, "duct")["model"] == 1
    assert dice(result)["percentile"] > 50


def write_regions(path: Path) -> None:
    labels, regions = {"cyst": 1, "all of it": 2}, {"cyst": [1], "all of it": [1, 3]}
    record = ResultRecord(
        case="one", labels=labels, volumes_ml={}, model="m", series_uid=None, seconds=1, regions=regions
    )
    write_record(path, record)


def test_overlapping_structures_get_a_mask_each(tmp_path: Path) -> None:
    folders = [put(tmp_path / reader, one=drawn(first, 8)) for reader, first in (("a", 1), ("b", 2), ("c", 2))]
    results = put(tmp_path / "results", one=drawn(2, 8))
    write_regions(results / "one.nii.gz")
    result = run(folders, tmp_path / "out", results)
    assert result.consensus is not None
    found, _ = formats.read_label_values(result.consensus / "one_all_of_it.nii.gz")
    assert (found == (drawn(2, 8).array > 0)).all()
    assert dice(result, "all of it")["within_readers"]


def test_a_missing_prediction_counts_where_structures_overlap(tmp_path: Path) -> None:
    folders = [put(tmp_path / reader, one=drawn(1, 8), two=drawn(2, 8)) for reader in ("a", "b")]
    results = put(tmp_path / "results", one=drawn(1, 8))
    write_regions(results / "one.nii.gz")
    result = run(folders, tmp_path / "out", results)
    assert (len(result.cases), list(result.failures), result.problems) == (2, ["two"], ())
    assert dice(result, "all of it")["model"] == 0.5


def test_other_orders_of_axes_are_no_other_place(readers: list[Path], tmp_path: Path) -> None:
    straight = dice(run(readers, tmp_path / "out"))
    put(readers[1], one=reorient(drawn(2, 8), "SAR"))
    assert dice(run(readers, tmp_path / "turned")) == straight


def test_another_grid_is_left_out_unless_resampling_is_asked_for(readers: list[Path], tmp_path: Path) -> None:
    put(readers[1], one=drawn(2, 8, spacing=2.6))
    result = run(readers, tmp_path / "out")
    assert result.read["ben"] == 1
    assert "ben left out of one: not on the first reader's grid" in result.problems[0]
    resampled = run(readers, tmp_path / "out", resample=True)
    assert (resampled.read["ben"], resampled.problems) == (2, ())


def test_a_damaged_file_costs_its_reader_the_case(readers: list[Path], tmp_path: Path) -> None:
    (readers[0] / "two.nii.gz").write_bytes(b"damaged")
    result = run(readers, tmp_path / "out")
    assert result.missing["anna"] == ("two",)
    assert any("two: left out, only ben has" in problem for problem in result.problems)


def test_readers_are_told_apart_by_their_paths(readers: list[Path], tmp_path: Path) -> None:
    twice = [put(tmp_path / site / "labels", one=drawn(1, 8)) for site in ("north", "south")]
    assert list(run(twice, tmp_path / "out").read) == ["north/labels", "south/labels"]
    named_model = put(tmp_path / "east" / "model", one=drawn(2, 8))
    assert "east/model" in run([readers[0], named_model], tmp_path / "out").read


def test_what_is_no_set_of_readers_is_refused(readers: list[Path], tmp_path: Path) -> None:
    with pytest.raises(InputError, match="all different"):
        run([readers[0], readers[0]], tmp_path / "out")
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="no label map"):
        run([readers[0], tmp_path / "empty"], tmp_path / "out")
    with pytest.raises(InputError, match="no case could be compared"):
        run([readers[2], put(tmp_path / "else", other=drawn(1, 8))], tmp_path / "out")


def test_the_command_says_who_stands_where(readers: list[Path], tmp_path: Path) -> None:
    results = put(tmp_path / "results", one=drawn(2, 8), two=drawn(2, 8))
    arguments = ["agreement", *map(str, readers), "--prediction", str(results), "-o", str(tmp_path / "out")]
    told = CliRunner().invoke(main, arguments)
    assert told.exit_code == 0, told.output
    for words in ("Agreement of 3 readers over 2 cases", "cyst", "carla has no label map", "model"):
        assert words in told.output
    assert CliRunner().invoke(main, ["agreement", str(readers[0]), "-o", str(tmp_path)]).exit_code == 2
