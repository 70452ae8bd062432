"""Charts: what they say in words, what cannot be hidden, and that they stand in a page."""

from __future__ import annotations

import math
import re
import warnings
import xml.etree.ElementTree as ET

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from delineate.reports import charts
from delineate.reports.charts.axes import log_ticks
from delineate.reports.charts.learning import LearningCurves
from delineate.reports.charts.words import listed, number
from delineate.reports.drawing import short

DICE = {"liver": [0.9, 0.95, 0.92], "tumour_$x_1$ <b>": [0.5, math.nan, 0.7]}


def every_chart() -> list[charts.Chart]:
    curve = charts.Reliability([0.1, 0.9], [0.2, 0.8], [900, 100], 0.1)
    return [
        charts.box_plot(DICE, axis="Dice", missed={"liver": 1}),
        charts.forest_plot(
            [charts.ForestRow("Site", heading=True), charts.ForestRow("Ulm", 0.9, 0.8, 0.95, 12)], axis="Dice"
        ),
        charts.bland_altman([10, 20, 30], [11, 0, 29], names=["a", "b", "c"]),
        charts.bland_altman([10, 20, 30], [11, 0, 29], ratio=True),
        charts.scatter(
            [charts.Point(1, 0.1, group="p"), charts.Point(10, 0.5, group="q")], x_axis="ml", y_axis="Dice", log_x=True
        ),
        charts.reliability_curve({"liver": curve}),
        charts.confusion_map([[9, 1], [0, 5]], ["left_kidney", "right_kidney"]),
        charts.histogram_strips([charts.Strip("spacing", {"a": 1.0, "b": 5.0}, "mm", {"b"}, log=True)]),
        charts.time_bars({"training": 125.0, "saving": 0.2}),
        charts.learning_chart(LearningCurves([1, 2], [1.0, 0.5], [0.1, 0.05], [2], [0.8], 2)),
    ]


def empty_charts() -> list[charts.Chart]:
    return [
        charts.box_plot({}, axis="Dice"),
        charts.box_plot({"liver": []}, axis="Dice"),
        charts.forest_plot([], axis="Dice"),
        charts.bland_altman([], []),
        charts.bland_altman([0.0], [0.0], ratio=True),
        charts.scatter([], x_axis="x", y_axis="y", log_x=True),
        charts.reliability_curve({}),
        charts.confusion_map(np.zeros((0, 0)), []),
        charts.histogram_strips([]),
        charts.time_bars({}),
        charts.learning_chart(LearningCurves([], [])),
    ]


def test_charts_are_images_with_words_and_share_no_name_on_a_page() -> None:
    drawn = [*every_chart(), *empty_charts()]
    names: list[str] = []
    for chart in drawn:
        root = ET.fromstring(chart.svg)
        title, description = root[0], root[1]
        assert (root.get("role"), description.text) == ("img", chart.alt)
        assert root.get("aria-labelledby") == f"{title.get('id')} {description.get('id')}"
        assert not re.search(r"<style|<metadata|<script|(?:href|src)=\"(?!#|data:)", chart.svg)
        names += set(re.findall(r' id="([^"]+)"', chart.svg))
    assert len(names) == len(set(names))


def test_the_same_numbers_give_the_same_chart() -> None:
    again = [charts.bland_altman([10, 20], [11, 0], groups=["p", "q"], names=["a", "b"]) for _ in range(2)]
    assert again[0] == again[1]


def test_names_are_text_and_never_markup_or_formulas() -> None:
    chart = charts.box_plot(DICE, axis="Dice")
    assert "tumour $x 1$ &lt;b&gt;" in chart.svg
    assert "<b>" not in chart.svg


def test_names_that_look_like_a_drawing_s_own_stay_words() -> None:
    chart = charts.box_plot({'url(# id="")x)': [0.9]}, axis="Dice")
    assert ET.fromstring(chart.svg).get("role") == "img"


def test_names_in_other_scripts_are_drawn_without_a_warning() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert "肝臓" in charts.box_plot({"肝臓": [0.9]}, axis="Dice").svg


def test_missed_cases_rank_worst_in_a_box_and_are_counted() -> None:
    found = charts.box_plot({"liver": [0.8, 0.9, 1.0]}, axis="Dice")
    missed = charts.box_plot({"liver": [0.8, 0.9, 1.0]}, axis="Dice", missed={"liver": 2}, spurious={"liver": 1})
    assert "median 0.9, quartiles 0.85 to 0.95, 3 cases" in found.alt
    assert "median missed, quartiles missed to 0.875, 6 cases, 2 missed, 1 spurious" in missed.alt


def test_a_missed_distance_is_the_largest() -> None:
    chart = charts.box_plot({"liver": [1.0, 2.0]}, axis="HD95 (mm)", missed={"liver": 3}, higher_is_better=False)
    assert "median missed, quartiles 2 to missed" in chart.alt


@settings(max_examples=30, deadline=None)
@given(st.lists(st.floats(0, 1), min_size=1, max_size=12), st.integers(0, 11))
def test_missing_a_case_never_moves_a_box_to_the_better_side(values: list[float], lost: int) -> None:
    from delineate.reports.charts.boxes import _Row

    lost = min(lost, len(values))
    found = _Row("liver", np.sort(np.asarray(values)), 0, 0, -math.inf)
    missed = _Row("liver", np.sort(np.asarray(values[lost:])), lost, 0, -math.inf)
    assert all(missed.quartile(share) <= found.quartile(share) + 1e-12 for share in (0.25, 0.5, 0.75))


def test_bland_altman_counts_missed_volumes_in_bias_and_limits() -> None:
    chart = charts.bland_altman([10, 10, 10, 0], [12, 8, 0, 4])
    differences = np.array([2, -2, -10, 4])
    limits = differences.mean() + 1.96 * differences.std(ddof=1) * np.array([-1, 1])
    assert f"−1.5 ml, limits of agreement {number(limits[0])} ml to {number(limits[1])} ml" in chart.alt
    assert "4 volumes" in chart.alt
    assert "1 missed (crosses), 1 spurious (pluses)" in chart.alt


def test_ratios_are_those_of_logarithms_and_missed_ones_have_none() -> None:
    chart = charts.bland_altman([10, 10, 10, math.nan], [20, 5, 0, 3], ratio=True)
    assert "of 3 volumes: mean ratio of prediction to reference 1," in chart.alt
    assert "1 missed (crosses), without a ratio" in chart.alt


def test_charts_of_pairs_refuse_unequal_numbers() -> None:
    with pytest.raises(ValueError, match="one number of each kind a case"):
        charts.bland_altman([1, 2], [1])
    with pytest.raises(ValueError, match="one number of each kind a case"):
        charts.bland_altman([1, 2], [1, 2], names=["a"])


def test_scatter_says_what_it_leaves_out_and_what_is_lowest() -> None:
    points = [charts.Point(0, 0.1, "a"), charts.Point(5, 0.2, "b", lost=True), charts.Point(6, 0.9, "c")]
    chart = charts.scatter(points, x_axis="ml", y_axis="Dice", log_x=True)
    assert "2 points" in chart.alt
    assert "1 missed (crosses); 1 without a value are left out. Lowest: b; c." in chart.alt


def test_confusion_names_the_largest_error_first_and_empty_rows() -> None:
    chart = charts.confusion_map([[90, 8, 2], [1, 4, 0], [0, 0, 0]], ["left_kidney", "right_kidney", "spleen"])
    assert chart.alt.index("20 % of right kidney was called left kidney (1 of 5 voxels)") < chart.alt.index(
        "8 % of left"
    )
    assert "Not in the reference: spleen." in chart.alt


@pytest.mark.parametrize("counts", [[[1]], [[1, -1], [0, 1]], [[1, math.nan], [0, 1]]])
def test_confusion_refuses_counts_that_are_none(counts: list[list[float]]) -> None:
    with pytest.raises(ValueError, match="expected 2 x 2 counts"):
        charts.confusion_map(counts, ["a", "b"])


def test_small_groups_are_hollow_and_said_to_be_small() -> None:
    rows = [charts.ForestRow("Ulm", 0.9, 0.85, 0.95, 40), charts.ForestRow("Oslo", 0.7, 0.4, 0.9, 3, small=True)]
    chart = charts.forest_plot(rows, axis="Dice", reference=0.88)
    assert "Oslo: 0.700 [0.400 to 0.900], 3 patients, small" in chart.alt
    assert "Dashed line: all, 0.88. Hollow marks are of small groups." in chart.alt
    assert "fill: #ffffff; stroke: #0072b2" in chart.svg


def test_numbers_beside_each_other_are_equally_exact() -> None:
    rows = [charts.ForestRow("liver", 0.749, 0.727, 0.763, 4), charts.ForestRow("kidney", 0.00148, -0.0002, 0.003, 4)]
    alt = charts.forest_plot(rows, axis="Dice").alt
    assert "kidney: 0.001 [0.000 to 0.003], 4 patients" in alt


def test_the_hardest_of_many_structures_are_drawn_and_the_others_said_to_be_left_out() -> None:
    dice = {f"rib {n}": [n / 24] for n in range(1, 25)}
    chart = charts.learning_chart(
        LearningCurves([1], [1.0], validation_steps=[1], validation_dice=[0.5], by_structure=dice)
    )
    assert "rib 17<" in chart.svg
    assert "rib 18<" not in chart.svg
    assert "Of 24 structures the 17 with the lowest Dice are drawn." in chart.alt


def test_reliability_says_to_which_side_probabilities_err() -> None:
    chart = charts.reliability_curve(
        {"liver": charts.Reliability([0.25, 0.75, math.nan], [0.05, 0.55, math.nan], [10, 30, 0])}
    )
    assert "40 voxels, probabilities on average 0.2 too high" in chart.alt


def test_strips_name_what_stands_apart_and_leave_out_what_has_no_place() -> None:
    strip = charts.Strip(
        "volume", {"a": 10.0, "b": 12.0, "c": 900.0, "d": math.nan, "e": 0.0}, "ml", {"c", "d"}, log=True
    )
    chart = charts.histogram_strips([strip])
    assert "median 12, from 10 to 900 ml, 3 cases, standing apart: c (900)" in chart.alt
    assert ">c<" in re.sub(r"\s", "", chart.svg)


def test_of_very_many_points_some_are_drawn_with_the_extremes_and_it_is_said() -> None:
    values = [float(n) for n in range(20_000)]
    chart = charts.scatter([charts.Point(value, value) for value in values], x_axis="x", y_axis="y")
    assert "20,000 points, 0 to 19,999 against 0 to 19,999; 1,500 of them are drawn" in chart.alt
    assert len(chart.svg) < 400_000


@given(st.floats(1e-6, 1e6), st.floats(1.01, 1e9))
def test_logarithmic_ticks_are_few_and_within_the_limits(low: float, factor: float) -> None:
    ticks = log_ticks(low, low * factor)
    assert len(ticks) <= 9
    assert all(low <= tick <= low * factor for tick in ticks)
    assert ticks or factor < 3


@pytest.mark.parametrize(
    ("value", "words"),
    [(1234.5, "1,234"), (0.012345, "0.0123"), (-2.0, "−2"), (1e-7, "0.0000001"), (math.nan, "no value"), (0.9996, "1")],
)
def test_numbers_are_written_as_people_do(value: float, words: str) -> None:
    assert number(value) == words


def test_long_names_lose_their_middle_and_long_lists_their_end() -> None:
    assert short("a" * 30 + "_left_kidney", 20) == "aaaaaaaaaaaaa…kidney"
    assert listed([str(n) for n in range(5)], most=2) == "0; 1; and 3 more"


@pytest.mark.parametrize(
    ("seconds", "words"), [(0.42, "0.42 s"), (59.6, "1 min"), (185, "3 min 5 s"), (7620, "2 h 7 min")]
)
def test_durations_are_said_in_two_units(seconds: float, words: str) -> None:
    assert charts.duration(seconds) == words
