from __future__ import annotations

import itertools
import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from delineate.errors import GeometryMismatch, InputError, LabelError
from delineate.evaluation.consensus import Method, consensus, majority, staple
from delineate.evaluation.observers import MODEL, Against, CaseAgreement, Place, compare_readers, places
from delineate.geometry import Grid, compose_affine
from delineate.labels import label_set
from delineate.metrics.definitions import Better
from delineate.volume import Segmentation

SHAPE = (13, 11, 8)
NAMES = {2: "cyst", 5: "duct"}


def grid(shift_mm: float = 0) -> Grid:
    return Grid(SHAPE, compose_affine(np.array([[0.8, 0, 0], [0, 1.1, 0], [0, 0, 2.5]]), (shift_mm, 0, 0)))


def drawn(first: int, last: int, *, duct: bool = True, names: dict[int, str] | None = None) -> Segmentation:
    """A cyst from one position to another; the duct is the same for all."""
    array = np.zeros(SHAPE, np.uint8)
    values = {name: value for value, name in (names or NAMES).items()}
    array[first:last, 2:7, 2:6] = values["cyst"]
    if duct:
        array[2:10, 9, 4] = values["duct"]
    return Segmentation(array, grid(), label_set(names or NAMES))


def votes(readers: int, seed: int) -> list[Any]:
    generator = np.random.default_rng(seed)
    truth = np.zeros(SHAPE, bool)
    truth[3:9, 2:8, 2:6] = True
    return [truth ^ (generator.random(SHAPE) < generator.uniform(0.01, 0.2)) for _ in range(readers)]


def place_of(found: tuple[Place, ...], structure: str = "cyst", metric: str = "dice") -> Place:
    return next(place for place in found if (place.structure, place.metric.name) == (structure, metric))


def place(cases: list[CaseAgreement], against: Against = Against.READERS, **which: str) -> Place:
    return place_of(places(cases, np.random.default_rng(0), against=against), **which)


READERS = {"a": drawn(1, 8), "b": drawn(2, 8), "c": drawn(2, 9)}


def test_half_of_the_votes_is_no_majority() -> None:
    first, second, third = (np.array([[[bool(n & bit)]] for n in range(8)]) for bit in (1, 2, 4))
    assert majority([first, second]).ravel().tolist() == [n & 3 == 3 for n in range(8)]
    assert majority([first, second, third]).ravel().tolist() == [n.bit_count() >= 2 for n in range(8)]


@pytest.mark.parametrize("readers", [3, 4, 7])
def test_staple_is_as_simpleitk_s(readers: int) -> None:
    import SimpleITK

    masks = votes(readers, seed=readers)
    itk: Any = SimpleITK
    witness = itk.STAPLEImageFilter()
    witness.SetForegroundValue(1)
    expected = witness.Execute([itk.GetImageFromArray(mask.astype(np.uint8)) for mask in masks])
    found = staple(masks)
    assert found.converged
    assert found.probability == pytest.approx(itk.GetArrayFromImage(expected), abs=2e-5)
    assert found.sensitivity == pytest.approx(witness.GetSensitivity(), abs=1e-5)
    assert found.specificity == pytest.approx(witness.GetSpecificity(), abs=1e-5)


def test_a_reader_who_errs_often_weighs_less() -> None:
    good, other, poor = votes(3, seed=1)
    poor = poor ^ (np.random.default_rng(5).random(SHAPE) < 0.4)
    found = staple([good, other, poor])
    assert found.sensitivity[2] < found.sensitivity[:2].min()
    assert ((found.probability >= 0.5) == good).mean() > (majority([good, other, poor]) == good).mean()


@pytest.mark.parametrize("inside", [True, False])
def test_readers_who_agree_are_believed(inside: bool) -> None:
    mask = np.zeros(SHAPE, bool)
    mask[2:5, 3:6, 1:4] = inside
    assert ((staple([mask] * 3).probability >= 0.5) == mask).all()
    assert (staple([mask ^ mask, mask ^ mask, mask ^ mask]).probability == 0).all()


def test_too_many_readers_and_none_are_refused() -> None:
    with pytest.raises(InputError, match="at most 16, got 17"):
        staple([np.ones(SHAPE, bool)] * 17)
    for make in (staple, majority):
        with pytest.raises(ValueError, match="one reader or more"):
            make([])


@pytest.mark.parametrize("method", Method)
def test_a_consensus_has_the_first_reader_s_values(method: Method) -> None:
    others = [drawn(2, 8, names={7: "cyst", 1: "duct"}), drawn(2, 9)]
    found = consensus([drawn(1, 8), *others], method)
    assert (found.array == drawn(2, 8).array).all()
    assert found.labels == label_set(NAMES)


@pytest.mark.parametrize("method", Method)
def test_the_consensus_does_not_depend_on_empty_space_around(method: Method) -> None:
    def padded(segmentation: Segmentation, by: int) -> Segmentation:
        array = np.pad(segmentation.array, by)
        return Segmentation(array, Grid(array.shape, grid().affine), segmentation.labels)

    found = [consensus([padded(reader, by) for reader in READERS.values()], method).array for by in (10, 30)]
    assert (found[1][20:-20, 20:-20, 20:-20] == found[0]).all()


@pytest.mark.parametrize("method", Method)
def test_overlapping_structures_have_a_consensus_each(method: Method) -> None:
    def masks(*values: int) -> Segmentation:
        array = np.stack([READERS["b"].array == 2, np.isin(READERS["b"].array, values)])
        return Segmentation(array, grid(), label_set({1: "cyst", 2: "all"}, overlaps=True))

    found = consensus([masks(2, 5), masks(2, 5), masks(5)], method)
    assert (found.mask("all") == (READERS["b"].array > 0)).all()
    assert (found.mask("cyst") == (READERS["b"].array == 2)).all()


def test_readers_against_each_other_by_hand() -> None:
    found = place([compare_readers("1", READERS)])
    # Cysts of 7, 6 and 7 slices; b is within both others.
    ab, bc, ac = 12 / 13, 12 / 13, 12 / 14
    assert found.reader_means == pytest.approx({"a": (ab + ac) / 2, "b": (ab + bc) / 2, "c": (ac + bc) / 2})
    assert found.readers == pytest.approx((ab + bc + ac) / 3)
    assert math.isnan(found.model)
    assert found.within_readers is None


def test_a_reader_is_no_part_of_the_consensus_it_is_compared_with() -> None:
    compared = [c for c in compare_readers("1", READERS, drawn(2, 8)).comparisons if c.against is not Against.READERS]
    assert {c.who for c in compared} == {"a", "b", "c", MODEL}
    assert all(c.who not in c.others and len(c.others) == 2 for c in compared)


def test_two_readers_have_no_consensus_of_the_others() -> None:
    two = compare_readers("1", {"a": drawn(1, 8), "b": drawn(2, 8)})
    assert [c.against for c in two.comparisons] == [Against.READERS]
    assert places([two], np.random.default_rng(0), against=Against.MAJORITY) == ()


@pytest.mark.parametrize("against", Against)
def test_a_model_that_draws_as_a_reader_does_stands_where_this_reader_stands(against: Against) -> None:
    middle = place([compare_readers("1", READERS, READERS["b"])], against)
    assert middle.within_readers
    assert middle.percentile > 50
    worst = place([compare_readers("1", READERS, drawn(6, 12))], against)
    assert not worst.within_readers
    assert (worst.difference < 0, worst.percentile) == (True, 0)


@pytest.mark.parametrize("against", Against)
def test_a_model_that_misses_a_structure_is_behind_in_every_figure(against: Against) -> None:
    cases = [[compare_readers("1", READERS, drawn(3, 8, duct=duct))] for duct in (True, False)]
    found, missed = (places(case, np.random.default_rng(0), against=against) for case in cases)
    for before, after in zip(found, missed, strict=True):
        sign = 1 if before.metric.better is Better.HIGHER else -1
        assert sign * (after.model - before.model) <= 0
        assert sign * (after.difference - before.difference) <= 0
    assert place_of(missed, "duct", "hd95_mm").model == pytest.approx(math.hypot(13 * 0.8, 11 * 1.1, 8 * 2.5))


def test_who_agrees_that_nothing_is_there_agrees_perfectly() -> None:
    readers = {"a": drawn(1, 8, duct=False), "b": drawn(1, 8, duct=False), "c": drawn(1, 8)}
    duct = place([compare_readers("1", readers, drawn(1, 8, duct=False))], structure="duct")
    assert duct.reader_means == {"a": 0.5, "b": 0.5, "c": 0}
    assert duct.model == pytest.approx(2 / 3)


def test_cases_in_which_nobody_has_the_structure_are_left_out() -> None:
    without = {name: drawn(1, 8, duct=False) for name in READERS}
    cases = [compare_readers("1", READERS, READERS["a"]), compare_readers("2", without, drawn(1, 8, duct=False))]
    assert [place(cases, structure=name).cases for name in NAMES.values()] == [2, 1]
    assert place([cases[0], compare_readers("2", without, READERS["a"])], structure="duct").model == pytest.approx(
        1 / 2
    )


def test_intervals_draw_patients() -> None:
    models = [drawn(2, 8), drawn(3, 9), drawn(1, 9), drawn(4, 9)]
    many = [compare_readers(str(n), READERS, model, patient_id=f"p{n}") for n, model in enumerate(models)]
    found = place(many)
    assert found.interval[0] < found.difference < found.interval[1]
    one_patient = place([compare_readers(str(n), READERS, model, patient_id="p") for n, model in enumerate(models)])
    assert np.isnan(one_patient.interval).all()
    assert (found.patients, one_patient.patients) == (4, 1)


@given(bounds=st.lists(st.tuples(st.integers(0, 5), st.integers(6, 12)), min_size=4, max_size=4))
@settings(deadline=None, max_examples=15)
def test_the_difference_is_that_of_the_means(bounds: list[tuple[int, int]]) -> None:
    readers = {name: drawn(*bound) for name, bound in zip("abc", bounds, strict=False)}
    found = place([compare_readers("1", readers, drawn(*bounds[3]))])
    assert found.difference == pytest.approx(found.model - found.readers)
    pairs = [2 * (min(q, s) - max(p, r)) / (q - p + s - r) for (p, q), (r, s) in itertools.combinations(bounds[:3], 2)]
    assert found.readers == pytest.approx(np.mean(pairs))


def test_what_cannot_be_compared_is_refused() -> None:
    with pytest.raises(InputError, match="between readers: expected two or more"):
        compare_readers("1", {"a": drawn(1, 8)})
    elsewhere = Segmentation(drawn(1, 8).array, grid(5), label_set(NAMES))
    with pytest.raises(GeometryMismatch, match="same place"):
        compare_readers("1", {"a": drawn(1, 8), "b": elsewhere})
    with pytest.raises(LabelError, match="different structures"):
        consensus([drawn(1, 8), drawn(1, 8, names={2: "cyst", 3: "duct", 4: "stone"})], Method.MAJORITY)
