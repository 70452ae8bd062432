"""What speaks against a result, and which comes first."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from delineate.review.priorities import ResultFacts, StructureFacts, assess, is_control, priority_of, robust_z


def liver(volume_ml: float = 1500, **more: object) -> StructureFacts:
    return replace(StructureFacts("liver", volume_ml, centre_mm=(-50, 0, 0)), **more)  # type: ignore[arg-type]


def result(*structures: StructureFacts, key: str = "a", **more: object) -> ResultFacts:
    return replace(ResultFacts(key, "m", structures), **more)  # type: ignore[arg-type]


def others(*volumes: float) -> list[ResultFacts]:
    return [result(liver(volume), key=f"other {n}") for n, volume in enumerate(volumes)]


USUAL = (1400, 1450, 1500, 1520, 1600, 1700)


def quiet_key() -> str:
    return next(f"k{n}" for n in range(100) if not is_control(f"k{n}"))


def test_a_result_like_the_others_has_nothing_against_it() -> None:
    found = assess([result(liver(1480), key=quiet_key()), *others(*USUAL)])[0]
    assert (found.warnings, found.priority, found.reasons) == ((), 0.0, ())


def test_robust_z_by_hand() -> None:
    # Logarithms of 1, e, e^2, e^3, e^4: median 2, median deviation 1.
    assert robust_z(2.718281828**7, [2.718281828**n for n in range(5)]) == pytest.approx(5 / 1.4826)


def test_an_unusual_volume_is_said_with_both_numbers() -> None:
    (warning,) = assess([result(liver(300)), *others(*USUAL)])[0].warnings
    assert warning == "liver is unusually small: 300 ml, 1.51e+03 ml in other results"


def test_references_count_more_than_results_that_may_all_be_wrong() -> None:
    found = assess([result(liver(300)), *others(290, 300, 310, 305, 295)], {"liver": USUAL})[0]
    assert "in references" in found.warnings[0]


def test_few_others_say_nothing_of_a_volume() -> None:
    assert not assess([result(liver(300)), *others(1400, 1500)])[0].warnings


def test_what_others_have_is_missed() -> None:
    found = assess([result(liver(0, parts=0), StructureFacts("spleen", 200)), *others(*USUAL)])[0]
    assert found.warnings == ("liver is missing; others have it",)


def test_what_was_not_found_is_said_also_where_there_is_little_to_compare_with() -> None:
    spleen = StructureFacts("spleen", 120.0)
    (found, *_) = assess([result(spleen, liver(0.0), key=quiet_key()), *others(1500)])
    assert found.warnings == ("liver was not found, and there are too few others to say whether they have it",)
    assert found.priority == 30.0


def test_what_a_model_always_misses_is_missing_if_people_find_it() -> None:
    spleen = StructureFacts("spleen", 120.0)
    results = [result(spleen, liver(0.0), key=f"k{n}") for n in range(8)]
    assert all(not one.warnings for one in assess(results))
    assert assess(results, {"liver": USUAL})[0].warnings == ("liver is missing; people find it in others",)


def test_a_lesion_may_be_missing_or_of_any_size() -> None:
    cases = [replace(one, lesions=frozenset({"liver"})) for one in others(*USUAL)]
    odd = result(liver(0), StructureFacts("spleen", 200), lesions=frozenset({"liver"}))
    assert not assess([odd, *cases])[0].warnings


def test_nothing_at_all_is_almost_certainly_wrong() -> None:
    assert assess([result(liver(0))])[0].priority >= 90


def test_swapped_sides_are_seen_by_where_the_patients_left_is() -> None:
    left, right = StructureFacts("left_kidney", 150, centre_mm=(-60, 0, 0)), StructureFacts("right_kidney", 150)
    wrong = assess([result(left, replace(right, centre_mm=(60, 0, 0)))])[0]
    sound = assess([result(replace(left, centre_mm=(60, 0, 0)), replace(right, centre_mm=(-60, 0, 0)))])[0]
    assert wrong.warnings == ("left_kidney lies further right than right_kidney: the sides may be swapped",)
    assert not sound.warnings


def test_disagreement_weighs_by_how_much() -> None:
    good, poor, bad = (assess([result(liver(agreement=dice), key=quiet_key())])[0] for dice in (0.9, 0.75, 0.4))
    assert good.priority == 0.0
    assert poor.priority == pytest.approx(15.0)
    assert bad.priority == pytest.approx(67.5)


def test_pieces_count_where_others_are_whole() -> None:
    lungs = StructureFacts("lungs", 4000, parts=2, largest_share=0.52)
    usual = [result(lungs, key=f"other {n}") for n in range(6)]
    odd = result(replace(lungs, parts=5, largest_share=0.3))
    assert not assess(usual)[0].warnings
    assert assess([odd, *usual])[0].warnings == ("lungs is in 5 pieces, 30 % of it in the largest",)


def crumbly(small_parts: int, small_share: float) -> StructureFacts:
    return liver(small_parts=small_parts, small_share=small_share, parts=1 + small_parts, largest_share=1 - small_share)


def test_many_small_parts_count_however_large_the_largest_is() -> None:
    found = assess([result(crumbly(28, 0.0118)), *others(*USUAL)])[0]
    assert found.warnings == ("liver is in 29 pieces, 1.2 % of it in 28 small ones",)
    assert assess([result(crumbly(3, 0.06))])[0].warnings == ("liver is in 4 pieces, 6 % of it in 3 small ones",)


def test_specks_and_few_parts_are_no_warning() -> None:
    assert not any(one.warnings for one in assess([result(crumbly(30, 0.003)), result(crumbly(6, 0.03), key="b")]))


def test_what_is_in_small_parts_in_nearly_all_results_is_so_by_nature() -> None:
    assert not any(one.warnings for one in assess([result(crumbly(20, 0.02), key=f"k{n}") for n in range(9)]))


def test_a_border_counts_where_others_do_not_touch_it() -> None:
    usual = [result(liver(borders=("head",)), key=f"other {n}") for n in range(6)]
    odd = assess([result(liver(borders=("head", "foot"))), *usual])[0]
    assert odd.warnings == ("liver touches the scan's border (foot): it may go on outside",)


def test_doubts_come_along_and_the_weightiest_reason_is_first() -> None:
    found = assess([result(liver(agreement=0.8), doubts=("slices are missing",))])[0]
    assert found.reasons[0] == found.warnings[0] == "slices are missing"


def test_models_are_not_compared_with_each_other() -> None:
    strangers = [replace(one, model="other") for one in others(*USUAL)]
    assert not assess([result(liver(300)), *strangers])[0].warnings


def test_one_in_twenty_is_a_control_and_always_the_same() -> None:
    drawn = [n for n in range(4000) if is_control(f"case {n}")]
    assert 150 < len(drawn) < 250
    assert assess([result(liver(), key=f"case {drawn[0]}")])[0].reasons[0].startswith("drawn as a control")


def test_controls_come_after_the_least_of_warnings_and_are_not_raised_among_them() -> None:
    drawn = next(f"k{n}" for n in range(1000) if is_control(f"k{n}"))
    control, note = result(liver(), key=drawn), result(liver(), key=quiet_key(), notes=("resampled",))
    doubtful = [result(liver(agreement=0.849), key=key) for key in (drawn, quiet_key())]
    found = [one.priority for one in assess([control, note, *doubtful])]
    assert 0 < found[0] < found[1] == found[2] == found[3]
    assert [reason.split()[0] for reason in assess(doubtful)[0].reasons] == ["liver:", "drawn"]


@given(st.lists(st.floats(0, 1)), st.floats(0, 1))
def test_every_observation_raises_the_priority(weights: list[float], more: float) -> None:
    assert 0 <= priority_of(weights) <= priority_of([*weights, more]) <= 100
