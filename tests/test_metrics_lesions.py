from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from delineate.metrics.definitions import Better
from delineate.metrics.lesions import LESION_METRICS, LesionScores, Matching, pool_lesions, score_lesions
from delineate.metrics.pairing import best_partners, pair_pieces
from delineate.metrics.panoptic import panoptic

SHAPE = (20, 14, 9)
SPACING = (0.5, 1.0, 4.0)  # a voxel has 2 mm³
Mask = Any


def mask(*boxes: tuple[slice, slice, slice]) -> Mask:
    array = np.zeros(SHAPE, bool)
    for box in boxes:
        array[box] = True
    return array


def cube(i: int, j: int, k: int, size: int = 3) -> tuple[slice, slice, slice]:
    return slice(i, i + size), slice(j, j + size), slice(k, k + size)


LARGE, SMALL, FAR = cube(1, 1, 1, 4), cube(8, 2, 2, 2), cube(14, 8, 5, 3)


def score(reference: Mask, prediction: Mask, **options: Any) -> LesionScores:
    return score_lesions(reference, prediction, SPACING, **options)


def figures(scores: LesionScores) -> list[float]:
    return [getattr(scores, metric.name) for metric in LESION_METRICS if metric.better is Better.HIGHER]


def test_lesions_found_missed_and_made_up() -> None:
    scores = score(mask(LARGE, SMALL), mask(LARGE, FAR))
    assert (scores.found, scores.missed, scores.false_positives) == (1, 1, 1)
    assert figures(scores) == pytest.approx([1 / 2, 1 / 2, 1 / 2, 1 / 2, 1 / 3])
    assert [lesion.volume_ml for lesion in scores.lesions] == pytest.approx([0.128, 0.016])
    assert scores.wrong[0].volume_ml == pytest.approx(0.054)


def test_boxes_are_in_the_whole_array() -> None:
    scores = score(mask(LARGE, SMALL), mask(FAR))
    assert [mask(lesion.box.slices).sum() for lesion in scores.lesions] == [64, 8]
    assert (mask(*(lesion.box.slices for lesion in scores.lesions)) == mask(LARGE, SMALL)).all()
    assert (mask(scores.wrong[0].box.slices) == mask(FAR)).all()


def test_lesions_that_touch_by_a_corner_are_one() -> None:
    assert len(score(mask(cube(1, 1, 1, 2), cube(3, 3, 3, 2)), mask()).lesions) == 1


def test_of_a_lesion_in_pieces_one_matches_and_the_others_are_no_false_positives() -> None:
    whole = (slice(1, 8), slice(1, 3), slice(1, 3))
    scores = score(mask(whole), mask((slice(1, 5), *whole[1:]), (slice(6, 8), *whole[1:])))
    assert (scores.found, scores.fragments, scores.false_positives) == (1, 1, 0)
    assert scores.mean_dice == pytest.approx(2 * 4 / (7 + 4))


def test_a_speck_inside_a_lesion_is_no_false_positive() -> None:
    pieces = mask((slice(1, 3), *LARGE[1:]))
    pieces[4, 4, 4] = True  # an IoU of 1/64
    scores = score(mask(LARGE), pieces)
    assert (scores.found, scores.fragments, scores.false_positives) == (1, 1, 0)


def test_of_two_lesions_under_one_only_one_is_found() -> None:
    long = (slice(1, 10), slice(1, 3), slice(1, 3))
    scores = score(mask((slice(1, 6), *long[1:]), (slice(7, 10), *long[1:])), mask(long))
    assert [(lesion.found, lesion.merged) for lesion in scores.lesions] == [(True, False), (False, True)]
    any_overlap = score(
        mask((slice(1, 6), *long[1:]), (slice(7, 10), *long[1:])), mask(long), matching=Matching.ANY_OVERLAP
    )
    assert any_overlap.found == 2


def test_a_touch_is_found_only_if_any_overlap_is_asked_for() -> None:
    touching = mask(cube(4, 4, 4, 5))
    assert score(mask(LARGE), touching).false_positives == 1
    scores = score(mask(LARGE), touching, matching=Matching.ANY_OVERLAP)
    assert (scores.found, scores.false_positives) == (1, 0)
    assert scores.mean_dice == pytest.approx(2 * 1 / (64 + 125))


def test_small_lesions_are_counted_neither_for_nor_against() -> None:
    reference, prediction = mask(LARGE, SMALL), mask(LARGE, cube(14, 8, 5, 2))
    scores = score(reference, prediction, smallest_mm3=16.1)
    assert figures(scores) == [1, 1, 1, 1, 1]
    assert (scores.ignored_references, scores.ignored_predictions) == (1, 1)
    assert figures(score(reference, prediction, smallest_mm3=16)) != [1, 1, 1, 1, 1]


@pytest.mark.parametrize(
    ("reference", "prediction", "expected"),
    [
        (mask(LARGE), mask(), [0, 0, 0, 0, 0]),
        (mask(), mask(LARGE), [math.nan, 0, 0, math.nan, 0]),
        (mask(), mask(), [math.nan] * 5),
    ],
)
def test_masks_without_lesions(reference: Mask, prediction: Mask, expected: list[float]) -> None:
    assert figures(score(reference, prediction)) == pytest.approx(expected, nan_ok=True)


def test_pooled_lesions_weigh_the_same() -> None:
    pooled = pool_lesions([score(mask(LARGE), mask()), score(mask(LARGE, SMALL, FAR), mask(LARGE, SMALL))])
    assert pooled.sensitivity == 2 / 4
    assert pool_lesions([]).lesions == ()


def test_other_axes_and_orders_in_memory_give_the_same() -> None:
    reference, prediction = mask(LARGE, SMALL, FAR), mask(LARGE, cube(9, 2, 2, 2))
    first, second = (np.asfortranarray(m.transpose(2, 0, 1)[::-1]) for m in (reference, prediction))
    assert figures(score_lesions(first, second, (4.0, 0.5, 1.0))) == figures(score(reference, prediction))


@settings(max_examples=150, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), matching=st.sampled_from(Matching), minimum_iou=st.sampled_from([0.0, 0.1, 0.4]))
def test_a_lesion_that_is_missed_improves_no_figure(seed: int, matching: Matching, minimum_iou: float) -> None:
    """Whatever is predicted: without what lies on one of the lesions, and is no false positive, nothing is better."""
    import cc3d

    generator = np.random.default_rng(seed)
    reference, prediction = _specks(generator), _specks(generator)
    options: dict[str, Any] = {"matching": matching, "minimum_iou": minimum_iou}
    before = score(reference, prediction, **options)
    pieces = cc3d.connected_components(prediction.astype(np.uint8), connectivity=26)
    wrong = mask(*(false.box.slices for false in before.wrong))
    for lesion in before.lesions:
        touching = set(np.unique(pieces[mask(lesion.box.slices) & reference & prediction]))
        left = prediction & ~np.isin(pieces, [n for n in touching if not wrong[pieces == n].all()])
        after = score(reference, left, **options)
        for metric, was, now in zip(LESION_METRICS, figures(before), figures(after), strict=False):
            assert now <= was + 1e-12, metric.name


def _specks(generator: np.random.Generator) -> Mask:
    array = np.zeros(SHAPE, bool)
    for _ in range(generator.integers(1, 9)):
        start = generator.integers(0, np.array(SHAPE) - 3)
        size = generator.integers(1, (8, 5, 4))
        array[tuple(slice(a, a + n) for a, n in zip(start, size, strict=True))] = True
    return array


@given(seed=st.integers(0, 2**32 - 1))
def test_partners_are_as_in_the_whole_table(seed: int) -> None:
    from scipy.optimize import linear_sum_assignment

    generator = np.random.default_rng(seed)
    pairs = pair_pieces(generator.integers(0, 7, 60), generator.integers(0, 9, 60))
    weights = generator.random(len(pairs.both)) * (generator.random(len(pairs.both)) < 0.5)
    table = np.zeros((6, 8))
    table[pairs.first, pairs.second] = weights
    chosen = best_partners(pairs, weights)
    assert weights[chosen].sum() == pytest.approx(table[linear_sum_assignment(table, maximize=True)].sum(), abs=1e-6)
    assert len({*pairs.first[chosen]}) == len({*pairs.second[chosen]}) == len(chosen)


@pytest.mark.parametrize(
    ("kind", "problem", "change"),
    [
        (TypeError, "bool arrays", {"reference": mask().astype(int)}),
        (ValueError, "one shape", {"prediction": mask()[1:]}),
        (ValueError, "three positive", {"spacing_mm": (1, 1, 0)}),
        (ValueError, "out of range", {"minimum_iou": 1}),
    ],
)
def test_wrong_arguments_are_named(kind: type[Exception], problem: str, change: dict[str, Any]) -> None:
    with pytest.raises(kind, match=problem):
        score_lesions(**{"reference": mask(), "prediction": mask(), "spacing_mm": SPACING, **change})


def test_panoptic_quality_by_hand() -> None:
    reference, prediction = np.zeros(SHAPE, np.int16), np.zeros(SHAPE, np.uint32)
    reference[LARGE], reference[SMALL], reference[FAR] = 7, 3, 300
    prediction[LARGE], prediction[8:10, 2:4, 2], prediction[FAR] = 1, 2, 9
    scores = panoptic(
        reference,
        prediction,
        reference_classes={7: "cyst", 3: "cyst", 300: "stone"},
        prediction_classes={1: "cyst", 2: "cyst", 9: "cyst"},
    )
    # The second cyst has an IoU of just one half, which is no match; the stone was taken for a cyst.
    assert scores["cyst"].panoptic_quality == pytest.approx(1 / (1 + 1 / 2 + 2 / 2))
    assert scores["stone"].panoptic_quality == scores["stone"].recognition_quality == 0


def test_instances_against_nothing_and_nothing_against_nothing() -> None:
    some, none = mask(LARGE).astype(np.uint8), np.zeros(SHAPE, np.uint8)
    assert panoptic(some, none)["instance"].panoptic_quality == 0
    assert panoptic(none, none) == {}
    empty = panoptic(none, none, reference_classes={1: "cyst"})["cyst"]
    assert math.isnan(empty.panoptic_quality)


def test_an_instance_without_a_class_is_refused() -> None:
    with pytest.raises(ValueError, match=r"without a class: \[1\]"):
        panoptic(mask(LARGE).astype(np.uint8), mask().astype(np.uint8), reference_classes={2: "cyst"})
