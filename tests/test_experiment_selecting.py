"""Which candidate is used, which rules it gets, and how good that is."""

import math
from dataclasses import fields

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from delineate.evaluation import CaseScores
from delineate.evaluation.rule_finding import Parts, dice_after, find_rules, take_apart
from delineate.evaluation.selecting import Candidate, OutOfFold, choose, estimate
from delineate.geometry import Grid
from delineate.labels import label_set
from delineate.metrics import Status, StructureScores
from delineate.postprocessing import Rule, apply_rules
from delineate.volume import Segmentation

RULES = [
    Rule(label="a"),
    Rule(label="a", largest_only=True),
    Rule(label="a", smallest_ml=0.006),
    Rule(label="a", fill_holes=True),
    Rule(label="a", largest_only=True, fill_holes=True),
]
GRID = Grid((7, 6, 5), np.diag([1.0, 0.8, 2.5, 1.0]))  # 0.002 mL a voxel


def rng() -> np.random.Generator:
    return np.random.default_rng(0)


def parts(hits: int, *, speck: int = 0, reference: int = 100) -> Parts:
    """100 voxels in one piece, so many of them right, and a wrong speck."""
    specks = ((speck, 1, 0),) if speck else ()
    return Parts(
        reference=reference,
        voxel_ml=0.01,
        sizes=(*specks, (100, 1, hits)),
        largest=(100, hits),
        holes=(0, 0),
        largest_holes=(0, 0),
    )


def scores(case: int, dice: float) -> CaseScores:
    figures = {field.name: math.nan for field in fields(StructureScores)}
    figures |= {"dice": dice, "reference_ml": 1.0, "prediction_ml": 1.0}
    one = StructureScores(**figures | {"status": Status.SCORED})  # type: ignore[arg-type]
    return CaseScores(f"c{case}", f"p{case}", {"a": one}, {"a": 2.0}, diagonal_mm=100.0)


def result(name: str, hits: list[int], *, work: float = 1.0, speck: int = 0) -> OutOfFold:
    of_cases = tuple(parts(n, speck=speck) for n in hits)
    cases = tuple(scores(n, dice_after(one)) for n, one in enumerate(of_cases))
    return OutOfFold(Candidate(name, tuple(name.split("+")), work), cases, {"a": of_cases})


@settings(deadline=None, max_examples=40)
@given(st.integers(0, 10_000))
def test_dice_from_parts_is_the_dice_of_the_mask_after_the_rule(seed: int) -> None:
    draws = np.random.default_rng(seed)
    reference = draws.random(GRID.shape) < 0.3
    array = draws.choice([0, 1, 2], GRID.shape, p=[0.6, 0.3, 0.1]).astype(np.uint8)
    found = Segmentation(array, GRID, label_set({1: "a", 2: "b"}))
    apart = take_apart(reference, found.mask("a"), array == 0, voxel_ml=GRID.voxel_volume_ml)
    for rule in RULES:
        mask = apply_rules(found, [rule]).mask("a")
        assert dice_after(apart, rule) == pytest.approx(2 * (mask & reference).sum() / (mask.sum() + reference.sum()))


def test_an_empty_mask_has_no_parts() -> None:
    empty = np.zeros(GRID.shape, dtype=bool)
    assert math.isnan(dice_after(take_apart(empty, empty, ~empty, voxel_ml=0.1)))
    assert dice_after(take_apart(~empty, empty, ~empty, voxel_ml=0.1), RULES[4]) == 0


def test_a_rule_that_helps_every_patient_is_found() -> None:
    of_cases = [parts(80 + n, speck=30) for n in range(10)]
    (found,) = find_rules({"a": of_cases}, [f"p{n}" for n in range(10)], rng())
    assert found.rule == Rule(label="a", largest_only=True)
    assert found.before == pytest.approx(np.mean([2 * (80 + n) / 230 for n in range(10)]))
    assert found.after == pytest.approx(0.845)
    assert found.changed == 10


def test_rules_are_corrected_for_all_that_were_tried() -> None:
    of_cases = [parts(80 + n, speck=30) for n in range(6)]  # for one rule alone p were 2/64
    assert not find_rules({"a": of_cases}, [f"p{n}" for n in range(6)], rng())


def test_a_rule_that_helps_few_patients_may_be_chance() -> None:
    of_cases = [parts(80, speck=30 if n < 3 else 0) for n in range(10)]
    assert not find_rules({"a": of_cases}, [f"p{n}" for n in range(10)], rng())


def test_many_cases_of_one_patient_count_once() -> None:
    of_cases = [parts(80, speck=30) for n in range(10)]
    assert not find_rules({"a": of_cases}, ["p"] * 10, rng())


def test_taking_away_what_nobody_drew_is_perfect_and_unknown_structures_are_left_out() -> None:
    false = Parts(reference=0, voxel_ml=0.01, sizes=((3, 1, 0),), largest=(3, 0), holes=(0, 0), largest_holes=(0, 0))
    of_cases = [None if n > 9 else parts(90, reference=100) if n > 7 else false for n in range(14)]
    (found,) = find_rules({"a": of_cases}, [f"p{n}" for n in range(14)], rng())
    assert found.rule.smallest_ml == pytest.approx(0.1)
    assert found.after == pytest.approx((8 + 2 * 0.9) / 10)


def test_the_best_is_chosen_where_the_others_are_worse_beyond_chance() -> None:
    hits = [80, 83, 85, 88, 90, 92, 94, 95]
    choice = choose([result("cheap", [n - 9 for n in hits]), result("dear", hits, work=5)], rng())
    assert (choice.chosen, choice.best, choice.equals) == ("dear", "dear", ())
    assert "beyond chance" in choice.words
    assert choice.against[0].interval == pytest.approx((0.09, 0.09))


def test_the_cheaper_is_chosen_where_the_difference_may_be_chance() -> None:
    hits = [80, 83, 85, 88, 90, 92, 94, 95]
    other = [n + (1, -1)[k % 2] for k, n in enumerate(hits)]
    other[0] += 1
    results = [result("cheap", hits), result("cheap+dear", other, work=2), result("dear", [n - 20 for n in hits])]
    choice = choose(results, rng())
    assert (choice.chosen, choice.best) == ("cheap", "cheap+dear")
    assert "may be chance" in choice.words


def test_of_two_that_are_equal_the_one_with_less_work_is_chosen() -> None:
    choice = choose([result("dear", [80, 90, 85], work=5), result("cheap", [80, 90, 85])], rng())
    assert (choice.chosen, choice.best) == ("cheap", "dear")


def test_candidates_are_corrected_for_their_number() -> None:
    hits = [80, 83, 85, 88, 90, 92]
    several = [result(name, [n - lost for n in hits]) for name, lost in (("a", 0), ("b", 5), ("c", 20))]
    assert [one.p_holm for one in choose(several, rng()).against] == pytest.approx([2 * 2 / 64] * 2)


def test_few_patients_never_make_a_much_worse_candidate_the_choice() -> None:
    choice = choose([result("cheap", [60, 70, 65]), result("dear", [80, 90, 85], work=5)], rng())
    assert choice.chosen == "dear"
    assert choice.against[0].p_holm >= 0.05


def test_the_nested_estimate_scores_each_fold_by_what_the_others_chose() -> None:
    first, second = [90] * 6 + [50] * 6, [50] * 6 + [90] * 6
    folds = [[f"c{n}" for n in range(6)], [f"c{n}" for n in range(6, 12)]]
    nested = estimate([result("x", first), result("y", second)], folds, rng())
    assert nested.chosen == ("y", "x")
    assert nested.dice == pytest.approx(0.5)
    assert choose([result("x", first), result("y", second)], rng()).against[0].means[0] == pytest.approx(0.7)


def test_rules_of_the_nested_estimate_are_found_on_the_other_folds() -> None:
    folds = [[f"c{n}" for n in range(8)], [f"c{n}" for n in range(8, 16)]]
    mixed = OutOfFold(
        Candidate("x", ("x",), 1.0),
        tuple(scores(n, 0.8) for n in range(16)),
        {"a": tuple(parts(80, speck=30 if n < 8 else 0) for n in range(16))},
    )
    nested = estimate([mixed], folds, rng())
    assert nested.dice == pytest.approx((160 / 230 + 0.8) / 2)
    with pytest.raises(ValueError, match="each case in one"):
        estimate([mixed], folds[:1] * 2, rng())
