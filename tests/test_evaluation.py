from __future__ import annotations

import dataclasses
import json
import math
from typing import Any

import numpy as np
import pytest

from delineate.errors import GeometryMismatch, LabelError
from delineate.evaluation import (
    CaseScores,
    confusion,
    counted,
    csv_rows,
    left_right_confusion,
    mean_of_case,
    score_case,
    score_failure,
    summarise,
    to_json,
)
from delineate.geometry import Grid, compose_affine
from delineate.labels import label_set
from delineate.metrics import Status, StructureScores, score_masks
from delineate.metrics.definitions import METRICS, Metric, Miss
from delineate.volume import Segmentation

SHAPE = (8, 9, 10)
NAMES = {1: "left_kidney", 2: "right_kidney", 5: "spleen"}
DIAGONAL_MM = 50.0


def grid(shift_mm: float = 0) -> Grid:
    turned = np.array([[0.8, -0.3, 0], [0.3, 1.1, 0], [0, 0, 2.5]])
    return Grid(SHAPE, compose_affine(turned, (shift_mm, 4, 5)))


def kidneys() -> Any:
    array = np.zeros(SHAPE, np.uint8)
    array[1:3, 2:5, 3:8], array[5:7, 2:6, 3:8], array[1:3, 6:8, 1:4] = 1, 2, 5
    return array


def segmentation(array: Any = None, names: dict[int, str] | None = None, *, shift_mm: float = 0) -> Segmentation:
    return Segmentation(kidneys() if array is None else array, grid(shift_mm), label_set(names or NAMES))


def scores(dice: float, status: Status = Status.SCORED) -> StructureScores:
    mm = 2 * dice if status is Status.SCORED else math.nan
    overlaps = dict.fromkeys(
        ("dice", "iou", "precision", "recall", "volume_similarity", "surface_dice", "boundary_iou"), dice
    )
    distances = dict.fromkeys(
        ("hd95_mm", "hd_mm", "mean_surface_distance_mm", "masd_mm", "centroid_distance_mm", "volume_error_percent"), mm
    )
    return StructureScores(
        **overlaps, **distances, volume_error_ml=0.5, reference_ml=3, prediction_ml=3.5, status=status
    )


def case(case_id: str, *, patient: str | None = None, **structures: StructureScores) -> CaseScores:
    return CaseScores(case_id, patient or case_id, structures, dict.fromkeys(structures, 2.0), diagonal_mm=DIAGONAL_MM)


MISSED = scores(0, Status.MISSED)
SPURIOUS = scores(0, Status.SPURIOUS)
ABSENT = scores(math.nan, Status.ABSENT)


def test_a_case_is_scored_by_name() -> None:
    predicted = kidneys()
    predicted[1] = 0
    case_scores = score_case("a", segmentation(), segmentation(predicted), tolerance_mm=1.5)
    assert (case_scores.case_id, case_scores.patient_id) == ("a", "a")
    expected = score_masks(kidneys() == 1, predicted == 1, grid().spacing_mm, tolerance_mm=1.5)
    assert case_scores.scores["left_kidney"] == expected
    assert case_scores.scores["right_kidney"].dice == 1


def test_names_count_and_not_values() -> None:
    other = segmentation(
        np.array([0, 7, 1, 0, 0, 2], np.uint8)[kidneys()], {1: "right_kidney", 2: "spleen", 7: "left_kidney"}
    )
    case_scores = score_case("a", segmentation(), other)
    assert [score.dice for score in case_scores.scores.values()] == [1, 1, 1]


def test_overlapping_masks_score_as_label_maps() -> None:
    predicted = np.roll(kidneys(), 1, axis=1)
    masks = np.stack([predicted == value for value in NAMES])
    overlapping = Segmentation(masks, grid(), label_set(NAMES, overlaps=True))
    apart = score_case("a", segmentation(), segmentation(predicted))
    assert score_case("a", segmentation(), overlapping, threads=2) == apart


def test_each_name_has_its_own_tolerance() -> None:
    moved = segmentation(np.roll(kidneys(), 1, axis=2))
    tolerance_mm = {"spleen": 0.0, "left_kidney": 2.5, "right_kidney": 0.0}
    case_scores = score_case("a", segmentation(), moved, tolerance_mm=tolerance_mm).scores
    assert case_scores["left_kidney"].surface_dice == 1
    assert case_scores["right_kidney"].surface_dice < 1


def test_a_name_without_tolerance_is_refused() -> None:
    with pytest.raises(LabelError, match="without a tolerance"):
        score_case("a", segmentation(), segmentation(), tolerance_mm={"spleen": 1.0})


def test_a_prediction_a_little_off_its_place_is_scored() -> None:
    assert score_case("a", segmentation(), segmentation(shift_mm=0.08)).scores["spleen"].dice == 1


def test_a_prediction_in_another_place_is_refused() -> None:
    with pytest.raises(GeometryMismatch, match=r"same place.*0\.1 mm apart.*case a"):
        score_case("a", segmentation(), segmentation(shift_mm=0.1))


def test_different_names_are_refused() -> None:
    other = segmentation(names={1: "left_kidney", 2: "right_kidney", 5: "liver"})
    with pytest.raises(LabelError, match="different structures"):
        score_case("a", segmentation(), other)


def test_missed_and_spurious_count_as_zero_and_absent_not_at_all() -> None:
    structures = [scores(0.8), MISSED, SPURIOUS, ABSENT]
    summary = summarise([case(f"c{n}", liver=score) for n, score in enumerate(structures)]).structures["liver"]
    assert summary.metrics["dice"].mean == pytest.approx(0.8 / 3)
    assert summary.metrics["dice"].count == 3
    assert (summary.cases, summary.scored, summary.missed, summary.spurious, summary.absent) == (4, 1, 1, 1, 1)


def test_a_missed_structure_is_as_far_away_as_the_scan_is_large() -> None:
    evaluation = summarise([case("a", liver=scores(0.8)), case("b", liver=scores(0.4)), case("c", liver=MISSED)])
    summary = evaluation.structures["liver"]
    assert summary.metrics["hd95_mm"].mean == pytest.approx((1.6 + 0.8 + DIAGONAL_MM) / 3)
    assert summary.metrics["hd95_mm"].median == pytest.approx(1.6)
    assert (summary.metrics["hd95_mm"].count, summary.missed) == (3, 1)


@pytest.mark.parametrize("metric", METRICS, ids=lambda metric: metric.name)
def test_what_counts_is_the_worst_where_one_mask_is_empty(metric: Metric) -> None:
    found = case("a", hit=scores(0.5), missed=MISSED, spurious=SPURIOUS, absent=ABSENT)
    assert counted(found, "hit", metric) == getattr(scores(0.5), metric.name)
    assert math.isnan(counted(found, "absent", metric))
    worst = {Miss.ZERO: 0, Miss.SCAN: DIAGONAL_MM, Miss.LEFT_OUT: getattr(MISSED, metric.name)}[metric.miss]
    assert [counted(found, name, metric) for name in ("missed", "spurious")] == pytest.approx([worst] * 2, nan_ok=True)


def test_the_scan_is_as_large_as_its_outer_edges() -> None:
    assert score_case("a", segmentation(), segmentation()).diagonal_mm == pytest.approx(
        math.dist((0, 0, 0), grid().extent_mm)
    )


def test_a_case_without_prediction_is_one_in_which_nothing_was_found() -> None:
    part = np.where(kidneys() == 5, 0, kidneys())
    failed = score_failure("a", segmentation(part), "it is not there", patient_id="p")
    assert (failed.failed, failed.patient_id) == ("it is not there", "p")
    assert [score.status for score in failed.scores.values()] == [Status.MISSED, Status.MISSED, Status.ABSENT]
    assert mean_of_case(failed, METRICS[0]) == 0
    assert summarise([failed]).structures["left_kidney"].failed == 1
    assert summarise([failed]).failures == (failed,)


def test_summaries_hold_the_spread() -> None:
    dice = [0.1, 0.5, 0.6, 0.8, 0.9]
    summary = summarise([case(f"c{d}", liver=scores(d)) for d in dice]).structures["liver"].metrics["dice"]
    assert (summary.minimum, summary.median, summary.maximum) == (0.1, 0.6, 0.9)
    assert summary.std == pytest.approx(np.std(dice))
    assert summary.percentiles == pytest.approx(np.percentile(dice, (5, 25, 75, 95)))


def test_the_mean_weighs_structures_alike() -> None:
    cases = [case("a", liver=scores(0.9), cyst=scores(0.2)), case("b", liver=scores(0.7), cyst=ABSENT)]
    assert summarise(cases).mean["dice"] == pytest.approx((0.8 + 0.2) / 2)


def test_a_structure_that_is_nowhere_has_no_mean() -> None:
    evaluation = summarise([case("a", liver=scores(0.9), cyst=ABSENT)])
    assert math.isnan(evaluation.structures["cyst"].metrics["dice"].mean)
    assert evaluation.mean["dice"] == 0.9


def test_intervals_hold_the_mean_and_follow_the_generator() -> None:
    dice = np.random.default_rng(1).uniform(0.5, 1, 30)
    cases = [case(f"c{n}", liver=scores(float(d))) for n, d in enumerate(dice)]
    low, high = summarise(cases, generator=np.random.default_rng(2)).intervals["dice"]
    error = dice.std() / math.sqrt(30)
    assert (low, high) == pytest.approx((dice.mean() - 1.96 * error, dice.mean() + 1.96 * error), abs=0.3 * error)
    assert summarise(cases, generator=np.random.default_rng(2)).intervals["dice"] == (low, high)


def test_intervals_draw_patients_and_not_cases() -> None:
    cases = [case(f"c{n}", patient="one" if n < 5 else "two", liver=scores(n / 10)) for n in range(10)]
    evaluation = summarise(cases, generator=np.random.default_rng(0))
    assert evaluation.intervals["dice"] == pytest.approx((0.2, 0.7))


def test_one_patient_gives_no_interval() -> None:
    only = case("c0", patient="one", liver=scores(0.9), tumour=scores(0.5))
    other = case("c1", patient="two", liver=scores(0.8), tumour=ABSENT)
    evaluation = summarise([only, other], generator=np.random.default_rng(0))
    assert evaluation.structures["liver"].metrics["dice"].interval == pytest.approx((0.8, 0.9))
    assert evaluation.structures["tumour"].metrics["dice"].interval == pytest.approx((np.nan, np.nan), nan_ok=True)
    assert np.isnan(summarise([only], generator=np.random.default_rng(0)).intervals["dice"]).all()


def test_no_generator_no_intervals() -> None:
    assert summarise([case("a", liver=scores(0.5))]).intervals == {}


def test_what_cannot_be_summed_up_is_refused() -> None:
    with pytest.raises(ValueError, match="no cases"):
        summarise([])
    with pytest.raises(ValueError, match=r"given twice: \['a'\]"):
        summarise([case("a", liver=scores(1)), case("a", liver=scores(1))])
    with pytest.raises(LabelError, match=r"differ.*case b"):
        summarise([case("a", liver=scores(1)), case("b", cyst=scores(1))])
    with pytest.raises(LabelError, match="tolerances"):
        summarise([case("a", liver=scores(1)), dataclasses.replace(case("b", liver=MISSED), tolerance_mm={"liver": 1})])


def test_json_has_means_structures_cases_and_definitions() -> None:
    cases = [case("a", liver=scores(0.8)), case("b", liver=MISSED)]
    written = json.loads(json.dumps(to_json(summarise(cases, generator=np.random.default_rng(0))), allow_nan=False))
    liver, missed = written["structures"]["liver"], written["cases"]["b"]["structures"]["liver"]
    assert written["schema_version"] == 2
    assert set(written["mean"]) == set(written["definitions"]["metrics"]) == {metric.name for metric in METRICS}
    assert written["mean"]["dice"] == liver["metrics"]["dice"]["mean"] == pytest.approx(0.4)
    assert (liver["missed"], liver["few_patients"], liver["tolerance_mm"]) == (1, True, 2.0)
    assert liver["metrics"]["dice"]["interval"] == written["mean_interval"]["dice"] == [0, 0.8]
    assert (missed["status"], missed["hd95_mm"], missed["counted"]["hd95_mm"]) == ("missed", None, DIAGONAL_MM)
    assert written["cases"]["b"]["mean"]["dice"] == 0
    assert written["definitions"]["metrics"]["hd95_mm"]["miss"] == "the scan's diagonal"


def test_failures_and_groups_are_written() -> None:
    failed = dataclasses.replace(case("a", liver=MISSED), failed="no file", groups={"site": "A"})
    evaluation = summarise([failed, case("b", liver=scores(0.5))])
    assert to_json(evaluation)["failures"] == {"a": "no file"}
    header, first, second = csv_rows(evaluation)
    assert header[-2:] == ["failed", "site"]
    assert (first[-2:], second[-2:]) == (["no file", "A"], ["", ""])


def test_csv_has_a_row_for_each_case_and_structure() -> None:
    header, first, second = csv_rows(summarise([case("a", patient="p", liver=scores(0.8), cyst=MISSED)]))
    row = dict(zip(header, second, strict=True))
    assert first[:5] == ["a", "p", "liver", "scored", "0.8"]
    assert (row["structure"], row["status"], row["dice"], row["hd95_mm"]) == ("cyst", "missed", "0", "")


def test_confusion_is_by_name_and_by_row_of_the_reference() -> None:
    predicted = kidneys()
    predicted[1, 2:5, 3:8] = 2  # 15 voxels of the left kidney
    other = segmentation(
        np.array([0, 2, 9, 0, 0, 1], np.uint8)[predicted], {1: "spleen", 2: "left_kidney", 9: "right_kidney"}
    )
    counts = confusion(segmentation(), other)
    assert counts.shape == (4, 4)
    assert (counts[1, 1], counts[1, 2], counts[2, 1], counts[3, 3]) == (15, 15, 0, 12)


def test_left_and_right_that_changed_places_are_counted() -> None:
    predicted = kidneys()
    predicted[1, 2:5, 3:8], predicted[5, 2, 3:8] = 2, 1
    (pair,) = left_right_confusion(segmentation(), segmentation(predicted))
    assert (pair.left, pair.right) == ("left_kidney", "right_kidney")
    assert (pair.left_as_right, pair.right_as_left) == (15, 5)


def test_confusions_of_all_cases_are_added_up() -> None:
    predicted = kidneys()
    predicted[1, 2:5, 3:8] = 2
    cases = [score_case(name, segmentation(), segmentation(predicted)) for name in ("a", "b")]
    total = summarise(cases).confusion
    assert total is not None
    assert (total[1, 2], total.sum()) == (30, 2 * math.prod(SHAPE))


def test_confusion_of_overlapping_structures_is_refused() -> None:
    masks = np.stack([kidneys() == value for value in NAMES])
    with pytest.raises(LabelError, match="needs label maps"):
        confusion(segmentation(), Segmentation(masks, grid(), label_set(NAMES, overlaps=True)))
