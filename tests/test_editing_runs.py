"""Tests of edits as runs: differences, putting them, taking them back, and their bytes."""

from __future__ import annotations

import struct
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from delineate.editing import runs as module
from delineate.editing.runs import (
    EditConflict,
    Runs,
    difference,
    inverse,
    pack,
    put_runs,
    unpack,
    wire_view,
)
from delineate.errors import InputError
from delineate.geometry import Box

Labels = npt.NDArray[Any]
SHAPES = st.tuples(st.integers(1, 5), st.integers(1, 4), st.integers(1, 6))


@st.composite
def _pairs(draw: st.DrawFn) -> tuple[Labels, Labels]:
    arrays = hnp.arrays(np.uint8, draw(SHAPES), elements=st.integers(0, 2))
    before = draw(arrays)
    return before, draw(hnp.arrays(np.uint8, before.shape, elements=st.integers(0, 2)))


def _live(array: Labels) -> Labels:
    return np.ascontiguousarray(wire_view(array)).copy()


def test_wire_order_has_i_fastest_and_runs_end_where_values_change() -> None:
    before, after = np.zeros((4, 3, 2), np.uint8), np.zeros((4, 3, 2), np.uint8)
    before[1, 2, 1] = 7
    after[1:3, 2, 1] = 5
    runs = difference(before, after)
    offset = 1 + 4 * (2 + 3 * 1)
    assert runs.offsets.tolist() == [offset, offset + 1]
    assert (runs.before.tolist(), runs.after.tolist(), runs.lengths.tolist()) == ([7, 0], [5, 5], [1, 1])


@given(_pairs())
def test_put_makes_the_new_array_and_its_inverse_the_old_one(pair: tuple[Labels, Labels]) -> None:
    before, after = pair
    live, runs = _live(before), difference(before, after)
    put_runs(live, runs)
    assert np.array_equal(wire_view(live), after)
    put_runs(live, inverse(runs))
    assert np.array_equal(wire_view(live), before)


@given(_pairs())
def test_bytes_come_back_as_they_went(pair: tuple[Labels, Labels]) -> None:
    before, after = pair
    runs = difference(before, after)
    back = unpack(pack(runs), before.size)
    assert pack(back) == pack(runs)
    assert len(pack(runs)) == 12 * len(runs)
    assert back.lengths.sum() == (before != after).sum()


def test_a_difference_in_a_box_passes_over_the_rest() -> None:
    before, after = np.zeros((4, 3, 5), np.uint8), np.ones((4, 3, 5), np.uint8)
    box = Box((1, 2, 4), (3, 3, 5))
    runs = difference(before, after, box=box)
    assert runs.offsets.tolist() == [1 + 4 * (2 + 3 * 4)]
    assert runs.lengths.tolist() == [2]


@pytest.mark.parametrize("at_once", [5, 1 << 22])
def test_long_and_short_runs_are_put_in_pieces(at_once: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_AT_ONCE", at_once)
    monkeypatch.setattr(module, "_LONG", 8)
    before, after = np.zeros((13, 3, 2), np.uint8), np.zeros((13, 3, 2), np.uint8)
    after[:, 0, 0] = 3
    after[::2, 1:, 1] = 2
    live = _live(before)
    put_runs(live, difference(before, after))
    assert np.array_equal(wire_view(live), after)


def test_a_conflict_names_itself_and_leaves_the_array_alone() -> None:
    before, after = np.zeros((3, 2, 2), np.uint8), np.ones((3, 2, 2), np.uint8)
    live = _live(before)
    live[1, 1, 2] = 9
    kept = live.copy()
    with pytest.raises(EditConflict, match="not what this edit changes"):
        put_runs(live, difference(before, after))
    assert np.array_equal(live, kept)


def _record(offset: int, length: int, before: int = 0, after: int = 1) -> bytes:
    return struct.pack("<IIHH", offset, length, before, after)


@pytest.mark.parametrize(
    ("data", "match"),
    [
        (_record(0, 1)[:-1], "cut off"),
        (_record(3, 0), "no voxels"),
        (_record(3, 2) + _record(4, 1), "ascend"),
        (_record(5, 1) + _record(2, 1), "ascend"),
        (_record(9, 2), "outside"),
        (_record(4294967295, 4294967295), "outside"),
        (_record(1, 1, 4, 4), "changes nothing"),
    ],
)
def test_bytes_that_are_no_edit_are_refused(data: bytes, match: str) -> None:
    with pytest.raises(InputError, match=match):
        unpack(data, 10)


def test_values_that_do_not_fit_are_refused() -> None:
    small, wide = np.zeros((2, 2, 2), np.int32), np.full((2, 2, 2), 300, np.int32)
    with pytest.raises(InputError, match="does not fit"):
        put_runs(np.zeros((2, 2, 2), np.uint8), difference(small, wide))
    with pytest.raises(InputError, match="out of range"):
        difference(small, wide * 1000)


def test_arrays_of_another_layout_are_a_mistake() -> None:
    runs = Runs(np.zeros(1, np.uint32), np.ones(1, np.uint32), np.zeros(1, np.uint16), np.ones(1, np.uint16))
    with pytest.raises(ValueError, match="C-contiguous"):
        put_runs(np.zeros((2, 3, 4), np.uint8).T, runs)
