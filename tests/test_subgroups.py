from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
from test_comparing import case

from delineate.evaluation.bands import NOT_RECORDED, band, banded, in_order, terciles
from delineate.evaluation.cases import CaseScores
from delineate.evaluation.subgroups import (
    MEAN,
    SIZE,
    GroupScore,
    groupings_of,
    score_groups,
    size_grouping,
    ungrouped,
)
from delineate.metrics.definitions import METRICS

DICE = METRICS[0]


def cohort(dice: Sequence[float], sites: Sequence[str], patients: str = "") -> list[CaseScores]:
    return [
        replace(
            case(f"c{n}", {"liver": one, "spleen": one / 2}, patients[n : n + 1]), groups={"site": site} if site else {}
        )
        for n, (one, site) in enumerate(zip(dice, sites, strict=True))
    ]


def scored(cases: list[CaseScores], structure: str = "liver") -> dict[str, GroupScore]:
    (grouping,) = groupings_of(cases)
    found = score_groups(cases, grouping, np.random.default_rng(0), metrics=[DICE])
    return {one.group: one for one in found if one.structure == structure}


def test_a_group_against_all_other_cases() -> None:
    found = scored(cohort([0.9, 0.8, 0.6, 0.4, 0.5], "AABBC"))
    assert found["A"].mean == pytest.approx(0.85)
    assert found["A"].rest == pytest.approx(0.5)
    assert found["A"].gap == pytest.approx(0.35)
    assert found["A"].p == pytest.approx(2 / 10)
    assert list(found) == ["A", "B", "C"]


def test_a_group_of_one_is_shown_small_and_without_interval() -> None:
    found = scored(cohort([0.9, 0.8, 0.6, 0.4, 0.5], "AABBC"))["C"]
    assert found.small
    assert found.mean == 0.5
    assert all(map(math.isnan, (*found.interval, *found.gap_interval)))
    assert found.p == pytest.approx(4 / 5)


def test_a_gap_has_an_interval_that_a_large_one_leaves_above_0() -> None:
    generator = np.random.default_rng(1)
    dice = [*generator.normal(0.9, 0.02, 12), *generator.normal(0.7, 0.02, 14)]
    found = scored(cohort(dice, "A" * 12 + "B" * 14))
    low, high = found["A"].gap_interval
    assert 0.17 < low < found["A"].gap < high < 0.23
    assert not found["A"].small
    assert found["A"].p_holm < 0.01


def test_two_groups_are_one_test() -> None:
    found = scored(cohort([0.9, 0.8, 0.6, 0.4], "AABB"), MEAN)
    assert found["A"].p == found["B"].p == found["A"].p_holm == found["B"].p_holm == pytest.approx(2 / 6)
    assert found["A"].gap == -found["B"].gap


def test_holm_goes_over_groups_and_structures() -> None:
    generator = np.random.default_rng(1)
    dice = [*generator.normal(0.9, 0.02, 6), *generator.normal(0.7, 0.02, 12)]
    found = scored(cohort(dice, "A" * 6 + "B" * 6 + "C" * 6))["A"]
    # Two structures in three groups, and both structures stand apart by the same.
    assert found.p_holm == pytest.approx(6 * found.p)


def test_cases_of_one_patient_are_one_unit() -> None:
    found = scored(cohort([0.9, 0.9, 0.9, 0.5, 0.5, 0.5], "AAABBB", "xxyzzw"))
    assert found["A"].patients == 2
    assert found["A"].p == pytest.approx(2 / 6)


def test_cases_without_a_value_are_a_group_and_come_last() -> None:
    assert list(scored(cohort([0.9, 0.8, 0.7], ["A", "", "Z"]))) == ["A", "Z", NOT_RECORDED]


def test_a_miss_lowers_its_group_and_is_counted() -> None:
    before, after = (scored(cohort([one, 0.8, 0.6, 0.7], "AABB"))["A"] for one in (0.9, -1))
    assert (before.missed, after.missed) == (0, 1)
    assert after.mean == pytest.approx(0.4)
    assert (after.cases, after.patients) == (2, 2)


def test_a_structure_that_a_group_lacks_has_no_figures_there_but_a_row() -> None:
    cases = cohort([0.9, math.nan, math.nan, 0.7], "ABBC")
    found = scored(cases)["B"]
    assert found.cases == found.patients == 0
    assert math.isnan(found.mean)
    assert found.small


def test_one_group_for_all_parts_nothing_and_one_for_each_of_many_names_cases() -> None:
    assert groupings_of(cohort([0.9, 0.8], "AA")) == ()
    many = cohort([0.9] * 20, [f"s{n}" for n in range(20)])
    assert groupings_of(many) == ()
    assert ungrouped(many) == ("site",)


def with_volumes(volumes: Sequence[float]) -> list[CaseScores]:
    cases = []
    for n, ml in enumerate(volumes):
        one = case(f"c{n}", {"tumour": 0.1 * n if ml else math.nan})
        cases.append(replace(one, scores={"tumour": replace(one.scores["tumour"], reference_ml=ml)}))
    return cases


def test_sizes_are_thirds_of_the_references() -> None:
    grouping = size_grouping(with_volumes([1, 2, 30, 40, 500, 600, 0]))
    assert grouping.groups == ("small", "middle", "large", "not in the reference")
    assert list(grouping.by_structure["tumour"].values()) == [
        "small", "small", "middle", "middle", "large", "large", "not in the reference",
    ]  # fmt: skip


def test_sizes_have_no_mean_over_structures() -> None:
    cases = with_volumes([1, 2, 30, 40, 500, 600])
    found = score_groups(cases, size_grouping(cases), np.random.default_rng(0), metrics=[DICE])
    assert [(one.grouping, one.group, one.structure) for one in found] == [
        (SIZE, group, "tumour") for group in ("small", "middle", "large")
    ]
    assert found[0].mean == pytest.approx(0.05)


def test_sizes_by_given_bands() -> None:
    grouping = size_grouping(with_volumes([1, 5, 20]), edges=(5, 10))
    assert list(grouping.by_structure["tumour"].values()) == ["below 5 ml", "5 to 10 ml", "10 ml and over"]
    assert grouping.groups == ("below 5 ml", "5 to 10 ml", "10 ml and over")


def test_structures_of_one_size_are_not_parted() -> None:
    assert size_grouping(with_volumes([3, 3, 3])).groups == ("of one size",)


def test_ages_are_banded_also_dicoms() -> None:
    cells = {"a": "017Y", "b": "18", "c": "59.5", "d": "103", "e": "018M", "f": "", "g": "unknown"}
    assert banded("Age", cells) == {
        "a": "below 18", "b": "18–39", "c": "40–59", "d": "80 and over", "e": "below 18", "g": "unknown",
    }  # fmt: skip


def test_few_numbers_are_groups_and_many_are_thirds() -> None:
    assert banded("tesla", {"a": "1.50", "b": "3"}) == {"a": "1.5", "b": "3"}
    thirds = banded("dose", {str(n): str(n) for n in range(1, 13)})
    assert thirds["4"] == "below 4.67"
    assert thirds["5"] == "4.67 to 8.33"
    assert in_order(thirds.values()) == ("below 4.67", "4.67 to 8.33", "8.33 and over")


def test_words_with_age_in_them_are_no_ages() -> None:
    assert banded("stage", {"a": "2", "b": "3"}) == {"a": "2", "b": "3"}


def test_edges_must_rise() -> None:
    with pytest.raises(ValueError, match="must rise"):
        band(3, (5, 5))


def test_terciles_of_the_same_number_part_nothing() -> None:
    assert terciles([2.0, 2.0]) is None
    assert terciles([]) is None
