from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from delineate.metrics.tubes import TUBE_METRICS, centre_line, score_tubes

SPACING = (0.5, 1.0, 3.0)
Mask = Any


def tube(*, first: int = 2, last: int = 18, wide: int = 3) -> Mask:
    """Along the thick slices."""
    mask = np.zeros((12, 9, 22), bool)
    mask[3 : 3 + wide, 2 : 2 + wide, first:last] = True
    return mask


def elbow() -> Mask:
    """One voxel wide: 6 steps of 0.5 mm, then 5 of 3 mm, with a step of half a voxel's diagonal between."""
    mask = np.zeros((12, 9, 22), bool)
    mask[2:9, 4, 3], mask[9, 4, 4:10] = True, True
    return mask


def test_a_line_is_as_long_as_its_steps() -> None:
    line = centre_line(elbow(), SPACING)
    assert line.total_mm == pytest.approx(6 * 0.5 + math.hypot(0.5, 3) + 5 * 3)
    assert len(line.points) == 13


def test_voxels_count_with_the_length_that_they_stand_for() -> None:
    prediction = elbow()
    prediction[:, :, 4:] = False  # of 13 voxels 7 are left, but only 3 mm and half a step
    scores = score_tubes(elbow(), prediction, SPACING)
    diagonal = math.hypot(0.5, 3)
    assert scores.topology_sensitivity == pytest.approx((3 + diagonal / 2) / (3 + diagonal + 15))
    assert scores.topology_precision == 1


def test_equal_spacings_and_straight_tubes_give_the_paper_s_counts() -> None:
    from skimage.morphology import skeletonize

    reference, prediction = tube(), tube(first=5, last=21, wide=4)
    scores = score_tubes(reference, prediction, (1, 1, 1))
    shares = [
        (skeletonize(a, method="lee") > 0)[b].sum() / (skeletonize(a, method="lee") > 0).sum()  # type: ignore[no-untyped-call]
        for a, b in ((tube(wide=3), prediction), (tube(first=5, last=21, wide=5), reference))
    ]
    assert [scores.topology_sensitivity, scores.topology_precision] == pytest.approx(shares, abs=0.05)


def test_a_tube_against_itself_is_perfect() -> None:
    scores = score_tubes(tube(), tube(), SPACING)
    assert (scores.cldice, scores.topology_precision, scores.topology_sensitivity) == (1, 1, 1)


def test_a_broken_vessel_is_in_two_pieces_and_loses_the_gap_only() -> None:
    broken = tube()
    broken[:, :, 9:12] = False
    scores = score_tubes(tube(), broken, SPACING)
    assert (scores.reference_pieces, scores.prediction_pieces) == (1, 2)
    assert scores.topology_precision == 1
    assert scores.topology_sensitivity == pytest.approx(1 - 9 / 42, abs=0.04)


def test_what_is_too_thick_is_still_a_tube() -> None:
    """clDice is about the line, not about the calibre."""
    assert score_tubes(tube(wide=3), tube(wide=5), SPACING).topology_sensitivity == 1


@given(wide=st.tuples(*[st.integers(1, 6)] * 2), order=st.permutations(range(3)), flip=st.booleans())
@settings(deadline=None)
def test_no_tube_is_lost_for_its_width(wide: tuple[int, int], order: list[int], flip: bool) -> None:
    mask = np.zeros((10, 11, 32), bool)
    mask[1 : 1 + wide[0], 2 : 2 + wide[1], 3:28] = True
    line = centre_line(mask.transpose(order)[:: -1 if flip else 1], [SPACING[n] for n in order])
    assert 3 * (24 - 2 * max(wide)) <= line.total_mm <= 3 * 24 + 8
    assert line.pieces == 1


@given(seed=st.integers(0, 2**32 - 1))
@settings(deadline=None, max_examples=60)
def test_every_piece_has_a_line_inside_it(seed: int) -> None:
    import cc3d

    generator = np.random.default_rng(seed)
    mask = generator.random(generator.integers(1, 9, 3)) < generator.uniform(0.05, 0.95)
    line = centre_line(mask, SPACING)
    pieces = cc3d.connected_components(mask.astype(np.uint8), connectivity=26)
    assert mask[tuple(line.points.T)].all()
    assert len(set(pieces[tuple(line.points.T)].tolist())) == line.pieces == pieces.max()


@given(seed=st.integers(0, 2**32 - 1))
@settings(deadline=None, max_examples=30)
def test_taking_away_never_finds_more(seed: int) -> None:
    prediction = tube(wide=4)
    less = prediction & (np.random.default_rng(seed).random(prediction.shape) < 0.6)
    scores = [score_tubes(tube(), mask, SPACING).topology_sensitivity for mask in (prediction, less)]
    assert scores[1] <= scores[0]


@pytest.mark.parametrize(
    ("reference", "prediction", "expected"),
    [
        (tube(), tube() & False, [0, 0, math.nan]),
        (tube() & False, tube(), [0, math.nan, 0]),
        (tube() & False, tube() & False, [math.nan] * 3),
        (tube(last=6), tube(first=10), [0, 0, 0]),
    ],
)
def test_masks_without_voxels_and_without_overlap(reference: Mask, prediction: Mask, expected: list[float]) -> None:
    scores = score_tubes(reference, prediction, SPACING)
    assert [getattr(scores, metric.name) for metric in TUBE_METRICS] == pytest.approx(expected, nan_ok=True)


def test_the_order_in_memory_does_not_matter() -> None:
    pair = tube(wide=4), tube(first=5, last=21)
    assert score_tubes(np.asfortranarray(pair[0]), np.asfortranarray(pair[1]), SPACING) == score_tubes(*pair, SPACING)


def test_wrong_arguments_are_named() -> None:
    with pytest.raises(TypeError, match="bool arrays"):
        centre_line(tube().astype(np.uint8), SPACING)
    with pytest.raises(ValueError, match="three positive numbers"):
        centre_line(tube(), (1, 1))
    with pytest.raises(ValueError, match="one shape"):
        score_tubes(tube(), tube()[1:], SPACING)
