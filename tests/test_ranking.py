from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from test_comparing import DICE, HD95, case, model

from delineate.evaluation.comparing import MEAN
from delineate.evaluation.ranking import By, Place, Ranking, rank_models
from delineate.evaluation.rivals import line_up
from delineate.metrics.definitions import METRICS, Metric


def ranking(
    models: Mapping[str, Sequence[float]], structure: str = "liver", metric: Metric = DICE, by: By = By.MEANS
) -> Ranking:
    rivals = line_up({name: model(dice) for name, dice in models.items()})
    found = rank_models(rivals, np.random.default_rng(0), metrics=[metric], by=by)
    return next(one for one in found if one.structure == structure)


def place(found: Ranking, name: str) -> Place:
    return next(one for one in found.places if one.model == name)


CLEAR = {"b": [0.8, 0.7, 0.75, 0.6], "c": [0.5, 0.4, 0.5, 0.3], "a": [0.9, 0.8, 0.85, 0.7]}


@pytest.mark.parametrize("by", list(By))
@pytest.mark.parametrize("metric", [DICE, HD95])
def test_a_clear_order_is_certain(metric: Metric, by: By) -> None:
    found = ranking(CLEAR, metric=metric, by=by)
    assert [(one.model, one.rank, one.interval) for one in found.places] == [
        ("a", 1, (1, 1)),
        ("b", 2, (2, 2)),
        ("c", 3, (3, 3)),
    ]
    assert found.places[0].first == found.stability == 1


def test_values_are_those_that_are_ranked() -> None:
    assert place(ranking(CLEAR), "a").value == pytest.approx(0.8125)
    assert place(ranking(CLEAR, by=By.RANKS), "c").value == 3
    assert place(ranking(CLEAR, metric=HD95), "a").value == pytest.approx(20 * 0.1875)


def test_one_bad_case_weighs_in_means_and_not_in_ranks() -> None:
    models = {"steady": [0.8, 0.8, 0.8], "often better": [0.85, 0.85, -1]}
    assert ranking(models).places[0].model == "steady"
    assert ranking(models, by=By.RANKS).places[0].model == "often better"


def test_chances_of_two_cases_by_hand() -> None:
    # Draws: twice the first (1/4, a wins), twice the second (1/4, b wins), each once (1/2, a by its larger lead).
    found = ranking({"a": [0.9, 0.5], "b": [0.6, 0.6]})
    assert place(found, "a").first == pytest.approx(3 / 4, abs=0.03)
    assert place(found, "b").shares == pytest.approx((1 / 4, 3 / 4), abs=0.03)
    assert place(found, "a").interval == (1, 2)
    assert found.stability == pytest.approx(1 / 2, abs=0.06)


def test_equal_models_share_their_ranks() -> None:
    found = ranking({"a": [0.9, 0.5], "b": [0.9, 0.5], "c": [0.1, 0.1]})
    assert [one.rank for one in found.places] == [1, 1, 3]
    assert place(found, "a").shares == pytest.approx((0.5, 0.5, 0))
    assert place(found, "a").interval == (1, 2)


def test_all_equal_have_no_stability() -> None:
    assert math.isnan(ranking({"a": [0.9, 0.5], "b": [0.9, 0.5]}).stability)


def test_who_lacks_a_case_is_last_in_it() -> None:
    found = ranking({"a": [0.9, 0.9, 0.9], "b": [0.8, 0.8], "c": [0.1, 0.1, 0.1]}, by=By.RANKS)
    assert place(found, "b").value == pytest.approx((2 + 2 + 3) / 3)


def test_the_mean_is_over_structures() -> None:
    def build(liver: float, cyst: float) -> list:  # type: ignore[type-arg]
        rest = {"liver": liver, "cyst": math.nan}
        return [case("c0", {"liver": liver, "cyst": cyst}), case("c1", rest), case("c2", rest)]

    rivals = line_up({"a": build(0.9, 0.2), "b": build(0.8, 0.8)})
    found = rank_models(rivals, np.random.default_rng(0), metrics=[DICE])
    assert [(one.structure, one.cases, one.places[0].model) for one in found] == [
        (MEAN, 3, "b"),
        ("liver", 3, "a"),
        ("cyst", 1, "b"),
    ]


def test_a_figure_that_describes_is_refused() -> None:
    with pytest.raises(ValueError, match="only describes"):
        ranking(CLEAR, metric=next(metric for metric in METRICS if metric.name == "volume_error_ml"))


@settings(max_examples=40, deadline=None)
@given(st.lists(st.lists(st.floats(0.05, 1), min_size=4, max_size=4), min_size=3, max_size=3), st.integers(0, 3))
@pytest.mark.parametrize("by", list(By))
def test_a_miss_never_improves_a_rank(by: By, dice: list[list[float]], missed: int) -> None:
    names = ("a", "b", "c")
    before = place(ranking(dict(zip(names, dice, strict=True)), by=by), "a")
    dice[0][missed] = -1
    after = place(ranking(dict(zip(names, dice, strict=True)), by=by), "a")
    assert after.rank >= before.rank
    assert after.first <= before.first + 1e-12
    assert all(new >= old for new, old in zip(after.interval, before.interval, strict=True))
    assert sum(after.shares) == pytest.approx(1)
