"""The next cases to annotate: unsure ones that differ from what is there, said in words; and what is compared."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from anatomy import blob_case
from hypothesis import given
from hypothesis import strategies as st
from reviewed_cases import new_case

from delineate.errors import InputError
from delineate.review.records import Role, Verdict
from delineate.review.store import open_store
from delineate.review.suggesting import Candidate, coverage, standardised, suggest
from delineate.review.suggestions import Suggestions, candidates, scan_features
from delineate.volume import reorient


def at(key: str, x: float, y: float = 0.0, *, uncertainty: float | None = None) -> Candidate:
    return Candidate(key, (("x", x), ("y", y)), uncertainty)


CLUSTERS = [at("a1", 0), at("a2", 0.1), at("a3", 0.2), at("b1", 10), at("b2", 10.1), at("c1", 0, 30), at("c2", 0.1, 30)]


def test_one_of_each_kind_comes_first() -> None:
    chosen = [one.key for one in suggest(CLUSTERS, 3)]
    assert {key[0] for key in chosen} == {"a", "b", "c"}


def test_what_is_like_annotated_cases_comes_last() -> None:
    annotated = [at("b0", 10.05), at("c0", 0.05, 30)]
    chosen = [one.key for one in suggest(CLUSTERS, 7, annotated=annotated)]
    assert chosen[0][0] == "a"
    assert suggest(CLUSTERS, 1, annotated=[*annotated, at("a0", 0.1)])[0].score < 0.1


def test_of_cases_alike_the_one_is_chosen_that_the_model_is_unsure_of() -> None:
    same = [at("sure", 5, uncertainty=0.01), at("unsure", 5, uncertainty=0.4), at("known", 4, uncertainty=0.1)]
    first = suggest(same, 1, annotated=[at("old", 0), at("other", 1)])[0]
    assert first.key == "unsure"
    assert first.reason.startswith("The model is less sure of it than of most others, and differs from")


def test_words_say_what_is_unlike() -> None:
    rows = [at("near", 1.0), at("far", 20.0, 1.0)]
    found = suggest(rows, 1, annotated=[at("one", 0.0), at("two", 0.5, 1.0), at("three", 1.0)])[0]
    assert (found.key, found.unlike) == ("far", ("x",))
    assert found.reason == "Differs from what was annotated or is suggested before it in x."


def test_cases_that_are_all_the_same_go_by_uncertainty() -> None:
    rows = [at("a", 1, uncertainty=0.1), at("b", 1, uncertainty=0.9), at("c", 1, uncertainty=0.5)]
    assert [one.key for one in suggest(rows, 3)] == ["b", "c", "a"]


@given(
    st.lists(st.tuples(st.floats(-50, 50), st.floats(-50, 50), st.none() | st.floats(0, 1)), min_size=1, max_size=12),
    st.integers(1, 15),
    st.randoms(use_true_random=False),
)
def test_each_case_once_in_whatever_order_they_come(
    rows: list[tuple[float, float, float | None]], count: int, random: object
) -> None:
    cases = [at(f"{n:02d}", x, y, uncertainty=u) for n, (x, y, u) in enumerate(rows)]
    found = suggest(cases, count)
    assert len({one.key for one in found}) == min(count, len(rows))
    mixed = list(cases)
    random.shuffle(mixed)  # type: ignore[attr-defined]
    assert suggest(mixed, count) == found


def test_units_do_not_matter() -> None:
    metres = [replace(one, features=tuple((name, value / 1000) for name, value in one.features)) for one in CLUSTERS]
    assert [one.key for one in suggest(metres, 4)] == [one.key for one in suggest(CLUSTERS, 4)]


def test_standardised_by_hand() -> None:
    table = np.array(
        [[0.0, 7.0, np.nan], [1.0, 7.0, 2.0], [2.0, 7.0, np.nan], [3.0, 7.0, np.nan], [400.0, 7.0, np.nan]]
    )
    low, high = np.quantile(table[:, 0], (0.16, 0.84))
    unit = (high - low) / 2
    np.testing.assert_allclose(standardised(table)[:, 0], [-2 / unit, -1 / unit, 0, 1 / unit, min(398 / unit, 4)])
    np.testing.assert_array_equal(standardised(table)[:, 1:], 0)


def test_coverage_by_hand() -> None:
    rows = np.array([[0.0], [1.0], [5.0]])
    assert coverage(rows, [0]) == pytest.approx(2.0)
    assert coverage(rows, [0, 2]) == pytest.approx(1 / 3)
    with pytest.raises(ValueError, match="chosen"):
        coverage(rows, [])


def test_what_makes_no_sense_is_refused() -> None:
    assert suggest([], 3) == ()
    with pytest.raises(InputError, match="expected 1 or more"):
        suggest(CLUSTERS, 0)
    with pytest.raises(InputError, match="twice"):
        suggest(CLUSTERS, 1, annotated=[at("a1", 3)])
    with pytest.raises(InputError, match="other features"):
        suggest([*CLUSTERS, Candidate("z", (("x", 1.0),))], 1)


def test_features_are_the_same_in_any_orientation() -> None:
    volume, _ = blob_case(1)
    found = scan_features(volume)
    assert found.spacing_mm == pytest.approx((0.9, 1.2, 2.5))
    assert found.extent_mm == pytest.approx((18, 19.2, 30))
    turned = scan_features(reorient(volume, "SAR"))
    assert turned.spacing_mm == pytest.approx(found.spacing_mm)
    assert turned.percentiles == pytest.approx(found.percentiles)


def test_a_store_suggests_what_nobody_has_looked_at(tmp_path: Path) -> None:
    store = open_store(f"sqlite:///{tmp_path}/review.sqlite")
    new = [new_case(tmp_path, key=f"p{n}", seed=n, dicom=False)[0] for n in range(4)]
    unsure = replace(new[2], structures=tuple(replace(part, agreement=0.2) for part in new[2].structures))
    store.add_cases([new[0], new[1], unsure, new[3]], by="test")
    admin = store.add_person("weiss", "Anna Weiss", Role.ADMIN, None, by="test")
    done = store.case("p0")
    assert done is not None
    store.decide(done.id, admin, Verdict.APPROVE, revision=0, seen="0" * 64, signature="Anna Weiss")
    found = Suggestions(store, tmp_path / "cache").next(admin, 10)
    assert {one.key for one in found} == {"p1", "p2", "p3"}
    assert len(list((tmp_path / "cache" / "features").iterdir())) == 4
    again = Suggestions(store, tmp_path / "cache", budget_seconds=-1).next(admin, 10)
    assert again == found


def test_a_case_without_its_scan_is_compared_by_the_rest(tmp_path: Path) -> None:
    store = open_store(f"sqlite:///{tmp_path}/review.sqlite")
    new, _ = new_case(tmp_path, dicom=False)
    store.add_cases([new, replace(new, key="lost", scan=tmp_path / "gone.nii.gz")], by="test")
    found = candidates(store.cases(), [None, None])
    assert {name for name, _ in found[0].features} >= {"volume of core", "voxel size up-down"}
    assert [one.uncertainty for one in found] == [0.0, 0.0]
