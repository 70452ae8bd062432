from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from statsmodels.stats.multitest import multipletests

from delineate.errors import InputError, LabelError
from delineate.evaluation.cases import CaseScores
from delineate.evaluation.comparing import MEAN, Difference, compare_models
from delineate.evaluation.permutation import flip_tests, holm, relabel_test
from delineate.evaluation.rivals import MAIN, Rivals, line_up, value_table
from delineate.metrics import Status, StructureScores
from delineate.metrics.definitions import METRICS, Metric

DICE = METRICS[0]
HD95 = next(metric for metric in METRICS if metric.name == "hd95_mm")
DIAGONAL_MM = 70.0


def scores(dice: float) -> StructureScores:
    """Dice -1: missed; -2: spurious; NaN: absent."""
    status = {-1.0: Status.MISSED, -2.0: Status.SPURIOUS}.get(dice, Status.SCORED)
    status = Status.ABSENT if math.isnan(dice) else status
    mm = 20 * (1 - dice) if status is Status.SCORED else math.nan
    overlap = max(dice, 0.0)
    there = status in (Status.SCORED, Status.MISSED)
    return StructureScores(
        overlap, overlap, overlap, overlap, overlap, overlap, overlap, mm, mm, mm, mm, mm,
        volume_error_ml=0.0, volume_error_percent=0.0, reference_ml=3.0 * there, prediction_ml=2.0, status=status,
    )  # fmt: skip


def case(name: str, dice: dict[str, float], patient: str = "") -> CaseScores:
    found = {structure: scores(value) for structure, value in dice.items()}
    return CaseScores(name, patient or name, found, dict.fromkeys(dice, 2.0), DIAGONAL_MM)


def model(dice: Sequence[float], structure: str = "liver", patients: str = "") -> list[CaseScores]:
    return [case(f"c{n}", {structure: one}, patients[n : n + 1]) for n, one in enumerate(dice)]


def compared(rivals: Rivals, structure: str = "liver", metric: Metric = DICE) -> Difference:
    found = compare_models(rivals, np.random.default_rng(0), metrics=[metric])
    return next(one for one in found if one.structure == structure)


def test_of_three_patients_a_quarter_is_the_smallest_p() -> None:
    found = compared(line_up({"a": model([0.9, 0.8, 0.7]), "b": model([0.8, 0.6, 0.6])}))
    assert found.p == found.smallest_p == 0.25
    assert found.exact
    assert found.difference == pytest.approx((0.1 + 0.2 + 0.1) / 3)
    assert (found.wins, found.ties, found.losses) == (3, 0, 0)
    assert found.better == "a"


def test_signs_are_turned_by_patient_and_not_by_case() -> None:
    better, worse = [0.9] * 12, [0.8] * 12
    apart = compared(line_up({"a": model(better), "b": model(worse)}))
    together = compared(
        line_up({"a": model(better, patients="xxxxyyyyzzzz"), "b": model(worse, patients="xxxxyyyyzzzz")})
    )
    assert apart.p == 2 / 2**12
    assert together.p == 2 / 2**3
    assert (together.cases, together.patients) == (12, 3)


def test_exact_p_by_hand() -> None:
    # Sums of signed 3, 2, 1 units: 8 patterns; of these 6 and 4 are at least 4, and as many at most -4.
    found = flip_tests(np.array([[0.3, 0.2, -0.1], [0.1, 0.1, 0.1]]), np.random.default_rng(0))
    assert [one.p for one in found] == pytest.approx([2 * 2 / 8, 2 / 8])


def test_many_patients_are_drawn_in_batches_that_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    parts = np.random.default_rng(2).normal(0.03, 0.1, (3, 20))
    whole = flip_tests(parts, np.random.default_rng(0))
    monkeypatch.setattr("delineate.evaluation.permutation._AT_ONCE", 60 * 999)
    pieces = flip_tests(parts, np.random.default_rng(0))
    assert [one.p for one in pieces] == pytest.approx([one.p for one in whole], abs=0.02)
    assert not whole[0].exact


def test_of_one_patient_nothing_is_shown_and_of_none_there_is_no_p() -> None:
    assert flip_tests(np.array([[0.4]]), np.random.default_rng(0))[0].p == 1
    assert math.isnan(flip_tests(np.empty((1, 0)), np.random.default_rng(0))[0].p)


def test_a_lone_patient_against_the_rest_by_hand() -> None:
    values, inside = np.array([0.1, 0.8, 0.9, 0.7, 0.85]), np.arange(5) == 0
    found = relabel_test(values, np.ones(5), inside, np.random.default_rng(0))
    assert found.p == found.smallest == pytest.approx(2 / 5)
    swapped = relabel_test(values, np.ones(5), ~inside, np.random.default_rng(0))
    assert swapped.p == found.p


def test_two_against_two_by_hand() -> None:
    # Of 6 ways to choose two, one gives a gap this low and one as high.
    found = relabel_test(np.array([1.0, 2, 7, 9]), np.ones(4), np.array([1, 1, 0, 0], bool), np.random.default_rng(0))
    assert found.p == pytest.approx(2 / 6)


def test_holm_by_hand() -> None:
    assert holm([0.01, math.nan, 0.04, 0.03]) == pytest.approx((0.03, math.nan, 0.06, 0.06), nan_ok=True)


def test_holm_is_that_of_statsmodels() -> None:
    p_values = np.random.default_rng(0).uniform(0, 0.2, 40).round(2).tolist()
    assert holm(p_values) == pytest.approx(multipletests(p_values, method="holm")[1])


def test_holm_goes_over_structures_and_pairs_but_not_the_mean() -> None:
    first = [case(f"c{n}", {"liver": 0.9, "spleen": 0.8}) for n in range(8)]
    second = [case(f"c{n}", {"liver": 0.8, "spleen": 0.8}) for n in range(8)]
    third = [case(f"c{n}", {"liver": 0.7, "spleen": 0.8}) for n in range(8)]
    rivals = line_up({"a": first, "b": second, "c": third})
    p = 2 / 2**8
    assert compared(rivals).p_holm == pytest.approx(6 * p)
    assert compared(rivals, MEAN).p_holm == pytest.approx(3 * p)
    assert compared(rivals, "spleen").p == 1


def test_a_case_that_only_one_model_has_is_a_failure_of_the_other() -> None:
    rivals = line_up({"a": model([0.6, 0.5, 0.7]), "b": model([0.9, 0.9])})
    assert rivals.lacking == {"a": (), "b": ("c2",)}
    assert rivals.failures == {"a": 0, "b": 1}
    assert value_table(rivals, DICE)[1, :, 0].tolist() == [0.9, 0.9, 0]
    assert value_table(rivals, HD95)[1, 2, 0] == DIAGONAL_MM


def test_who_finds_nothing_where_there_is_nothing_is_perfect_beside_who_does() -> None:
    rivals = line_up({"a": model([math.nan, math.nan]), "b": model([-2, math.nan])})
    assert value_table(rivals, DICE)[:, :, 0] == pytest.approx(np.array([[1, math.nan], [0, math.nan]]), nan_ok=True)
    assert value_table(rivals, HD95)[:, 0, 0].tolist() == [0, DIAGONAL_MM]


def test_in_distances_the_lower_mean_is_better() -> None:
    found = compared(line_up({"a": model([0.9, 0.8]), "b": model([0.95, 0.9])}), metric=HD95)
    assert found.difference == pytest.approx(20 * 0.075)
    assert (found.better, found.wins, found.losses) == ("b", 0, 2)


def test_the_mean_is_over_structures_so_that_rare_ones_weigh_as_much() -> None:
    def build(liver: Sequence[float], cyst: float) -> list[CaseScores]:
        return [case(f"c{n}", {"liver": one, "cyst": cyst if n == 2 else math.nan}) for n, one in enumerate(liver)]

    found = compared(line_up({"a": build([0.9, 0.8, 0.7], 0.5), "b": build([0.8, 0.8, 0.8], 0.9)}), MEAN)
    assert found.difference == pytest.approx((0 + -0.4) / 2)
    assert found.means == pytest.approx(((0.8 + 0.5) / 2, (0.8 + 0.9) / 2))


def test_effect_is_the_mean_over_the_spread() -> None:
    found = compared(line_up({"a": model([0.9, 0.9, 0.9]), "b": model([0.8, 0.7, 0.6])}))
    assert found.effect == pytest.approx(0.2 / 0.1)
    assert math.isnan(compared(line_up({"a": model([0.9, 0.9]), "b": model([0.8, 0.8])})).effect)


def test_an_interval_holds_the_difference() -> None:
    generator = np.random.default_rng(3)
    first = generator.uniform(0.7, 0.9, 30)
    found = compared(
        line_up({"a": model(first.tolist()), "b": model((first - generator.normal(0.05, 0.02, 30)).tolist())})
    )
    assert found.interval[0] < 0.05 < found.interval[1]
    assert found.is_shown
    assert not found.exact


def test_figures_that_nobody_asked_for_are_not_compared() -> None:
    found = compare_models(line_up({"a": model([0.9, 0.8]), "b": model([0.8, 0.8])}), np.random.default_rng(0))
    assert {one.metric.name for one in found} == {"dice", "surface_dice", "hd95_mm"}
    assert "lesion_f1" in {metric.name for metric in MAIN}


@pytest.mark.parametrize(
    ("other", "error", "words"),
    [
        ([case("c0", {"spleen": 0.5})], LabelError, "structures or tolerances differ"),
        ([case("c0", {"liver": 0.5}, "somebody")], InputError, "not scored on the same case"),
        ([replace(case("c0", {"liver": 0.5}), diagonal_mm=8)], InputError, "8.0 mm, of b"),
        ([case("c0", {"liver": 0.5})] * 2, InputError, "b has a case twice"),
    ],
)
def test_models_that_cannot_be_compared_are_refused(other: list[CaseScores], error: type, words: str) -> None:
    with pytest.raises(error, match=words):
        line_up({"a": model([0.9]), "b": other})


def test_one_model_is_no_comparison() -> None:
    with pytest.raises(InputError, match="between models"):
        line_up({"a": model([0.9])})


@settings(max_examples=40, deadline=None)
@given(st.lists(st.tuples(st.floats(0.05, 1), st.floats(0.05, 1)), min_size=2, max_size=9), st.data())
def test_a_miss_never_helps(dice: list[tuple[float, float]], data: st.DataObject) -> None:
    first, second = [list(column) for column in zip(*dice, strict=True)]
    before = compared(line_up({"a": model(first), "b": model(second)}))
    first[data.draw(st.integers(0, len(first) - 1))] = -1
    after = compared(line_up({"a": model(first), "b": model(second)}))
    assert after.difference < before.difference
    assert after.wins <= before.wins
    assert all(new <= old + 1e-12 for new, old in zip(after.interval, before.interval, strict=True))
    assert after.cases == before.cases
