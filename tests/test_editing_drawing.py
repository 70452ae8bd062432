"""Tests of the brush, the lasso and the threshold: centres within the radius in mm, even-odd, naive versions."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from delineate.editing.boxes import Mask, voxel_at
from delineate.editing.changes import changed, erased, painted
from delineate.editing.drawing import (
    Region,
    box_region,
    lasso,
    stroke,
    threshold,
    threshold_out,
)
from delineate.errors import InputError
from delineate.geometry import Box

SPACING = (0.7, 1.3, 2.5)
SHAPE = (13, 9, 7)
PLACES = st.tuples(st.floats(-2, 14), st.floats(0, 8), st.floats(0, 6))


def _whole(region: Region) -> Mask:
    mask = np.zeros(SHAPE, np.bool_)
    mask[region.box.slices] = region.mask
    return mask


def _segment_mm(at: np.ndarray[tuple[int], np.dtype[np.float64]], ends: tuple[tuple[float, ...], ...]) -> float:
    """From a voxel to a line, at the nearest of many points of it."""
    start, stop = (np.array(end) for end in ends)
    points = start + np.linspace(0, 1, 401)[:, None] * (stop - start)
    return float(np.linalg.norm((points - at) * SPACING, axis=1).min())


@settings(max_examples=40, deadline=None)
@given(st.lists(PLACES, min_size=1, max_size=3), st.floats(0.3, 4))
def test_a_stroke_covers_the_centres_within_its_radius_of_the_way(
    path: list[tuple[float, float, float]], radius: float
) -> None:
    under = {tuple(voxel_at(place).tolist()) for place in path}
    try:
        mask = _whole(stroke(path, radius_mm=radius, spacing_mm=SPACING, shape=SHAPE))
    except InputError:
        assert all(not 0 <= place[0] <= SHAPE[0] - 1 for place in under)
        return
    for at in np.argwhere(np.ones(SHAPE, np.bool_))[::11]:
        away = min(_segment_mm(at, ends) for ends in (list(pairwise(path)) or [(path[0], path[0])]))
        if abs(away - radius) > 0.03:
            assert mask[tuple(at)] == (away <= radius or tuple(at.tolist()) in under)


def test_a_ball_and_a_disc_are_round_in_mm() -> None:
    ball = {(i, 0, 0) for i in range(-2, 3)} | {(0, 1, 0), (0, -1, 0)}
    for axis in (None, 2):
        region = stroke([(6, 4, 3)], radius_mm=1.4, spacing_mm=SPACING, shape=SHAPE, axis=axis)
        assert {tuple(step) for step in (np.argwhere(_whole(region)) - (6, 4, 3)).tolist()} == ball
    sizes = [
        _whole(stroke([(6, 4, 3)], radius_mm=2.5, spacing_mm=SPACING, shape=SHAPE, axis=axis)) for axis in (None, 2)
    ]
    assert sizes[0].sum() - sizes[1].sum() == 2


def test_a_disc_stays_in_its_slice_and_a_small_brush_paints_the_voxel_under_it() -> None:
    disc = _whole(stroke([(6, 4, 3.4)], radius_mm=4, spacing_mm=SPACING, shape=SHAPE, axis=2))
    assert set(np.argwhere(disc)[:, 2].tolist()) == {3}
    point = _whole(stroke([(6.4, 4.4, 3.4)], radius_mm=0.01, spacing_mm=SPACING, shape=SHAPE))
    assert np.argwhere(point).tolist() == [[6, 4, 3]]


def test_a_lasso_is_even_odd_and_holds_the_centres_on_its_line() -> None:
    square = _whole(lasso([(2, 1), (6, 1), (6, 5), (2, 5)], axis=2, number=4, shape=SHAPE))
    assert np.argwhere(square).min(axis=0).tolist() == [2, 1, 4]
    assert square.sum() == 5 * 5
    bow = _whole(lasso([(2, 1), (10, 7), (2, 7), (10, 1)], axis=2, number=4, shape=SHAPE))
    assert (bow[6, 2, 4], bow[3, 4, 4], bow[6, 6, 4]) == (1, 0, 1)


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_a_lasso_turns_with_the_axes_and_flips(axis: int) -> None:
    rng = np.random.default_rng(axis)
    sides = np.array([size for other, size in enumerate(SHAPE) if other != axis])
    line = rng.uniform(-1, sides, (7, 2))
    mask = _whole(lasso(line.tolist(), axis=axis, number=3, shape=SHAPE))
    flipped = _whole(lasso((sides - 1 - line).tolist(), axis=axis, number=3, shape=SHAPE))
    others = tuple(other for other in range(3) if other != axis)
    assert mask.any()
    assert np.array_equal(np.flip(flipped, others), mask)


def test_painting_and_erasing_leave_other_structures_alone() -> None:
    labels = np.zeros(SHAPE, np.uint8)
    labels[5], labels[7] = 2, 1
    region = box_region(Box((4, 2, 1), (9, 5, 3)))
    filled = changed(labels, painted(labels, region.box, region.mask, value=1))
    assert filled[4:9, 3, 2].tolist() == [1, 2, 1, 1, 1]
    assert changed(labels, erased(labels, region.box, region.mask, value=1))[4:9, 3, 2].tolist() == [0, 2, 0, 0, 0]
    assert changed(labels, painted(labels, region.box, region.mask, value=1, over="all"))[4:9, 3, 2].tolist() == [1] * 5


def test_a_threshold_paints_what_is_in_the_window_and_in_the_structures_named() -> None:
    labels = np.zeros(SHAPE, np.uint8)
    labels[5] = 2
    image = np.broadcast_to(np.arange(SHAPE[0], dtype=np.float32)[:, None, None], SHAPE)
    region = box_region(Box((3, 0, 0), (9, 9, 7)))
    plain = changed(labels, threshold(labels, image, region, value=1, window=(4, 7)))
    assert plain[2:10, 0, 0].tolist() == [0, 0, 1, 2, 1, 1, 0, 0]
    inside = changed(labels, threshold(labels, image, region, value=1, window=(4, 7), inside=(2,)))
    assert inside[2:10, 0, 0].tolist() == [0, 0, 0, 1, 0, 0, 0, 0]
    out = changed(plain, threshold_out(plain, image, region, value=1, window=(5, 6)))
    assert out[2:10, 0, 0].tolist() == [0, 0, 0, 2, 1, 0, 0, 0]


def test_what_cannot_be_drawn_is_refused() -> None:
    labels = np.zeros(SHAPE, np.uint8)
    with pytest.raises(InputError, match="lies outside the volume"):
        stroke([(40, 4, 3)], radius_mm=2, spacing_mm=SPACING, shape=SHAPE)
    with pytest.raises(InputError, match="a list of points"):
        stroke([], radius_mm=2, spacing_mm=SPACING, shape=SHAPE)
    with pytest.raises(InputError, match="needs a closed line"):
        lasso([(1, 1), (2, 2)], axis=0, number=1, shape=SHAPE)
    with pytest.raises(InputError, match="holds no voxel"):
        lasso([(1, 1), (2, 2), (1, 3)], axis=0, number=13, shape=SHAPE)
    with pytest.raises(InputError, match="lower end"):
        threshold(labels, labels, box_region(Box((0, 0, 0), (2, 2, 2))), value=1, window=(3, 1))
