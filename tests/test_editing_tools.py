"""Tests of the tools that change outlines and pieces: by hand, against naive versions, in all orientations."""

from __future__ import annotations

from collections.abc import Callable
from itertools import permutations, product
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from delineate.editing.between import fill_between
from delineate.editing.changes import Change, changed, runs_of
from delineate.editing.pieces import keep_largest, relabel, relabel_component, remove_component, remove_islands
from delineate.editing.runs import put_runs, wire_view
from delineate.editing.shaping import fill_holes, grow, shrink, smooth
from delineate.editing.tools import TOOLS, ToolParameters, ToolUse, use_tool
from delineate.errors import InputError, LabelError

Labels = npt.NDArray[Any]
SPACING = (0.7, 1.3, 2.5)
ORIENTATIONS = list(product(permutations(range(3)), product((1, -1), repeat=3)))


@st.composite
def _labelled(draw: st.DrawFn) -> Labels:
    shape = draw(st.tuples(st.integers(2, 6), st.integers(2, 5), st.integers(2, 7)))
    labels = draw(hnp.arrays(np.uint8, shape, elements=st.sampled_from([0, 0, 0, 1, 2])))
    labels[draw(st.integers(0, shape[0] - 1)), 0, 1] = 1
    return labels


def _distances(mask: npt.NDArray[np.bool_]) -> npt.NDArray[np.float64]:
    """From each voxel to the nearest of the mask, the slow way."""
    every = np.stack(np.meshgrid(*[np.arange(n) for n in mask.shape], indexing="ij"), axis=-1) * SPACING
    if not mask.any():
        return np.full(mask.shape, np.inf)
    away: npt.NDArray[np.float64] = np.linalg.norm(every[..., None, :] - every[mask], axis=-1).min(axis=-1)
    return away


@given(_labelled(), st.sampled_from([0.7, 1.0, 1.4, 2.6, 3.1]))
@settings(deadline=None)
def test_growing_adds_background_within_the_distance_in_mm(labels: Labels, distance: float) -> None:
    near = _distances(labels == 1) <= distance + 1e-6
    expected = np.where(near & (labels == 0), 1, labels)
    assert np.array_equal(changed(labels, grow(labels, 1, distance_mm=distance, spacing_mm=SPACING)), expected)


@given(_labelled(), st.sampled_from([0.7, 1.0, 1.4, 2.6]))
@settings(deadline=None)
def test_shrinking_takes_away_what_is_within_the_distance_of_all_else(labels: Labels, distance: float) -> None:
    near = _distances(labels != 1) <= distance + 1e-6
    expected = np.where(near & (labels == 1), 0, labels)
    assert np.array_equal(changed(labels, shrink(labels, 1, distance_mm=distance, spacing_mm=SPACING)), expected)


def test_growing_paints_over_other_structures_only_when_asked() -> None:
    labels = np.zeros((7, 5, 3), np.uint8)
    labels[2, 2, 1], labels[3, 2, 1] = 1, 2
    assert changed(labels, grow(labels, 1, distance_mm=0.7, spacing_mm=SPACING))[3, 2, 1] == 2
    assert changed(labels, grow(labels, 1, distance_mm=0.7, spacing_mm=SPACING, over="all"))[3, 2, 1] == 1


def _block() -> Labels:
    """An asymmetric thing with a bump, a hole, an island and a neighbour."""
    labels = np.zeros((20, 16, 12), np.uint8)
    labels[3:14, 4:12, 3:9] = 1
    labels[14:18, 6:8, 5] = 1
    labels[7:9, 7, 5:7] = 0
    labels[19, 1:4, 10] = 1
    labels[3:10, 12:15, 3:9] = 2
    return labels


@pytest.mark.parametrize("radius", [2.0, 5.0])
def test_smoothing_keeps_the_volume_and_the_neighbour(radius: float) -> None:
    labels = _block()
    after = changed(labels, smooth(labels, 1, radius_mm=radius, spacing_mm=SPACING))
    assert abs(int((after == 1).sum()) - int((labels == 1).sum())) <= 8
    assert np.array_equal(after == 2, labels == 2)
    assert after[17, 7, 5] == 0  # the bump
    assert after[8, 7, 5] == 1  # the hole


def test_smoothing_a_ball_changes_next_to_nothing() -> None:
    i, j, k = np.ogrid[:41, :31, :21]
    ball = ((i - 20) * 0.7) ** 2 + ((j - 14) * 1.3) ** 2 + ((k - 10) * 2.5) ** 2 <= 11**2
    after = changed(ball.astype(np.uint8), smooth(ball.astype(np.uint8), 1, radius_mm=3, spacing_mm=SPACING))
    assert (after != ball).sum() < 0.03 * ball.sum()


def test_holes_are_filled_in_3d_or_slice_by_slice() -> None:
    labels = np.zeros((6, 6, 6), np.uint8)
    labels[1:5, 1:5, 1:5] = 1
    labels[2, 2, 2] = 0  # enclosed
    labels[3, 3, :] = 0  # a tunnel along k
    labels[3, 2, 3] = 2  # what belongs to another structure
    whole, sliced = changed(labels, fill_holes(labels, 1)), changed(labels, fill_holes(labels, 1, axis=2))
    assert (whole[2, 2, 2], whole[3, 3, 3]) == (1, 0)
    assert (sliced[2, 2, 2], sliced[3, 3, 3], sliced[3, 2, 3]) == (1, 1, 2)


def test_pieces_hang_together_over_corners() -> None:
    labels = np.zeros((6, 5, 4), np.uint8)
    labels[0, 0, 0] = labels[1, 1, 1] = labels[4, 3, 2] = 3
    assert np.argwhere(changed(labels, remove_component(labels, (1, 1, 1)))).tolist() == [[4, 3, 2]]
    assert np.argwhere(changed(labels, keep_largest(labels, 3))).tolist() == [[0, 0, 0], [1, 1, 1]]
    assert changed(labels, relabel_component(labels, (4, 3, 2), to=7))[4, 3, 2] == 7
    assert (changed(labels, relabel(labels, 3, to=2)) == 2).sum() == 3


def test_islands_go_by_volume_in_ml_and_one_of_just_that_volume_stays() -> None:
    labels = np.zeros((9, 5, 4), np.uint8)
    labels[0, 0, :2], labels[3, 3, :3], labels[6:, 4, 3] = 1, 1, 2
    voxel_ml = 0.7 * 1.3 * 2.5 / 1000
    after = changed(labels, remove_islands(labels, 1, smaller_ml=3 * voxel_ml, spacing_mm=SPACING))
    assert [int((after == value).sum()) for value in (1, 2)] == [3, 3]
    with pytest.raises(InputError, match="every piece of the structure is smaller"):
        remove_islands(labels, 1, smaller_ml=4 * voxel_ml, spacing_mm=SPACING)


def _disc(shape: tuple[int, int], centre: tuple[float, float], radius_mm: float) -> npt.NDArray[np.bool_]:
    i, j = np.ogrid[: shape[0], : shape[1]]
    inside: npt.NDArray[np.bool_] = ((i - centre[0]) * 0.7) ** 2 + ((j - centre[1]) * 1.3) ** 2 <= radius_mm**2
    return inside


def test_between_discs_lie_discs_in_between_in_mm() -> None:
    labels = np.zeros((60, 40, 9), np.uint8)
    labels[:, :, 1] = _disc((60, 40), (28, 20), 6)
    labels[:, :, 5] = 5 * _disc((60, 40), (28, 20), 12)
    labels[labels == 1] = 5
    after = changed(labels, fill_between(labels, 5, axis=2, spacing_mm=SPACING)) == 5
    for k, radius in ((2, 7.5), (3, 9.0), (4, 10.5)):
        wrong = (after[:, :, k] ^ _disc((60, 40), (28, 20), radius)).sum()
        assert wrong <= 0.07 * after[:, :, k].sum()
    assert np.array_equal(after[:, :, [1, 5]], labels[:, :, [1, 5]] == 5)
    assert not after[:, :, [0, 6, 7, 8]].any()


def test_an_oblique_vessel_stays_one_though_its_slices_do_not_overlap() -> None:
    labels = np.zeros((60, 40, 7), np.uint8)
    labels[:, :, 0], labels[:, :, 6] = _disc((60, 40), (8, 8), 3), _disc((60, 40), (50, 30), 3)
    after = changed(labels, fill_between(labels, 1, axis=2, spacing_mm=SPACING))
    assert np.argwhere(after[:, :, 3]).mean(axis=0) == pytest.approx([29, 19], abs=0.5)
    assert (after[:, :, 3].sum() - labels[:, :, 0].sum()) / labels[:, :, 0].sum() == pytest.approx(0, abs=0.2)


def test_several_gaps_are_filled_at_once_and_chosen_slices_overrule_those_between() -> None:
    labels = np.zeros((9, 8, 7), np.uint8)
    labels[2:6, 2:6, [0, 3, 6]] = 1
    assert (changed(labels, fill_between(labels, 1, axis=2, spacing_mm=SPACING))[3, 3] == 1).all()
    labels[1:8, 1:7, 3] = 1
    after = changed(labels, fill_between(labels, 1, axis=2, spacing_mm=SPACING, drawn=(0, 6)))
    assert np.array_equal(after[:, :, 3], labels[:, :, 0])


def test_filling_needs_two_slices_that_hold_the_structure() -> None:
    labels = np.zeros((5, 5, 5), np.uint8)
    labels[2, 2, 2] = 1
    with pytest.raises(InputError, match="at least two drawn slices"):
        fill_between(labels, 1, axis=2, spacing_mm=SPACING)
    with pytest.raises(InputError, match="slice 4 of 5"):
        fill_between(labels, 1, axis=2, spacing_mm=SPACING, drawn=(2, 4))


def _turned(array: Labels, order: tuple[int, ...], signs: tuple[int, ...]) -> Labels:
    turned: Labels = array.transpose(order)[tuple(slice(None, None, sign) for sign in signs)]
    return turned


@pytest.mark.parametrize(
    "tool",
    [
        lambda labels, spacing, axis: grow(labels, 1, distance_mm=2.6, spacing_mm=spacing),
        lambda labels, spacing, axis: shrink(labels, 1, distance_mm=1.4, spacing_mm=spacing),
        lambda labels, spacing, axis: smooth(labels, 1, radius_mm=3, spacing_mm=spacing),
        lambda labels, spacing, axis: fill_holes(labels, 1, axis=axis),
        lambda labels, spacing, axis: fill_between(labels, 1, axis=axis, spacing_mm=spacing, drawn=None),
    ],
    ids=["grow", "shrink", "smooth", "fill_holes", "fill_between"],
)
def test_tools_turn_with_the_array(tool: Callable[[Labels, tuple[float, ...], int], Change]) -> None:
    labels = _block()
    labels[:, :, 6] = 0
    labels[:, 5:9, 10] = 2
    expected = changed(labels, tool(labels, SPACING, 2))
    for order, signs in ORIENTATIONS:
        turned = np.ascontiguousarray(_turned(labels, order, signs))
        spacing = tuple(SPACING[axis] for axis in order)
        found = changed(turned, tool(turned, spacing, order.index(2)))
        assert np.array_equal(found, _turned(expected, order, signs)), (order, signs)


@given(_labelled())
@settings(deadline=None)
def test_a_change_as_runs_gives_the_changed_array(labels: Labels) -> None:
    change = grow(labels, 1, distance_mm=1.4, spacing_mm=SPACING)
    live = np.ascontiguousarray(wire_view(labels)).copy()
    put_runs(live, runs_of(labels, change))
    assert np.array_equal(wire_view(live), changed(labels, change))


@pytest.mark.parametrize("given_text", ['{"mm": 1.4}', '{"mm": 1.4, "over": "all"}'])
def test_tools_are_used_by_name_and_never_change_what_they_are_given(given_text: str) -> None:
    labels = _block()
    labels.setflags(write=False)
    parameters = msgspec.json.decode(given_text, type=ToolParameters)
    use = ToolUse(1, SPACING, parameters, lambda: labels)
    after = changed(labels, use_tool("grow", labels, use))
    by_hand = grow(labels, 1, distance_mm=1.4, spacing_mm=SPACING, over=parameters.over)
    assert np.array_equal(after, changed(labels, by_hand))


@pytest.mark.parametrize("name", sorted(TOOLS))
def test_every_tool_says_what_is_missing(name: str) -> None:
    labels = np.zeros((4, 3, 2), np.uint8)
    use = ToolUse(1, SPACING, ToolParameters(), lambda: labels)
    with pytest.raises(InputError, match=r"needs the parameter|nothing of this structure"):
        use_tool(name, labels, use)


def test_what_makes_no_sense_is_refused() -> None:
    labels = _block()
    with pytest.raises(LabelError, match="nothing of this structure"):
        grow(labels, 9, distance_mm=1, spacing_mm=SPACING)
    with pytest.raises(InputError, match="above 0 mm"):
        grow(labels, 1, distance_mm=float("nan"), spacing_mm=SPACING)
    with pytest.raises(InputError, match="no structure at this point"):
        remove_component(labels, (0, 0, 0))
    with pytest.raises(InputError, match="outside the volume"):
        remove_component(labels, (0, 0, 12))
    with pytest.raises(InputError, match="outside the volume"):
        remove_component(labels, (0, 0, 10**400))
    with pytest.raises(LabelError, match="does not fit"):
        relabel(labels, 1, to=300)
    with pytest.raises(InputError, match="no such tool"):
        use_tool("melt", labels, ToolUse(1, SPACING, ToolParameters(), lambda: labels))


def test_a_change_lies_in_memory_as_the_labels_do() -> None:
    labels = wire_view(np.zeros((4, 5, 6), np.uint8))
    labels[2:4, 1:4, 1:3] = 1
    use = ToolUse(1, (1.0, 1.2, 1.4), ToolParameters(mm=1.5), lambda: labels)
    for name in ("grow", "smooth", "fill_holes"):
        assert use_tool(name, labels, use).after.flags.f_contiguous
        plain = use_tool(name, np.ascontiguousarray(labels), use)
        assert np.array_equal(changed(labels, plain), changed(labels, use_tool(name, labels, use)))


def test_smoothing_far_wider_than_the_structure_leaves_nothing_of_it() -> None:
    labels = np.zeros((5, 6, 7), np.uint8)
    labels[2, 3, 4] = 1
    assert not changed(labels, smooth(labels, 1, radius_mm=400, spacing_mm=(1, 1, 1))).any()
