"""Stacks of slices onto even grids: a slice keeps its numbers and its place, and nothing is made up outside."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from delineate.geometry import ORIENTATIONS, FloatArray, index_to_world
from delineate.resampling import StackPositions, even_grid, even_stack

SHAPE = (5, 7, 6)
SPACING = (0.8, 1.3)
STRAIGHT = np.eye(3)


def axes_of(code: str) -> FloatArray:
    """Unit vectors I, J and I x J, slightly oblique."""
    columns = {"R": -0, "L": 0, "A": -1, "P": 1, "I": -2, "S": 2}
    axes = np.zeros((3, 3))
    for n, letter in enumerate(code[:2]):
        axes[abs(columns[letter]), n] = -1.0 if letter in "RAI" else 1.0
    turn = np.array([[0.96, -0.28, 0], [0.28, 0.96, 0], [0, 0, 1]]) @ [[1, 0, 0], [0, 0.8, -0.6], [0, 0.6, 0.8]]
    axes[:, 2] = np.cross(axes[:, 0], axes[:, 1])
    return np.asarray(turn @ axes)


def stack_of(offsets_mm: object, axes: FloatArray = STRAIGHT) -> StackPositions:
    """Slices at (K, 3) offsets along I, J and the normal."""
    positions = np.array([12.5, -31.0, 7.25]) + np.asarray(offsets_mm, dtype=float) @ axes.T
    return StackPositions(
        shape=(*SHAPE[:2], len(positions)),
        positions_mm=tuple((float(x), float(y), float(z)) for x, y, z in positions),
        directions=(tuple(axes[:, 0].tolist()), tuple(axes[:, 1].tolist())),
        spacing_mm=SPACING,
        frame_of_reference_uid="1.2",
    )


def heights(*values: float) -> FloatArray:
    return np.column_stack([np.zeros((len(values), 2)), values])


def linear_world(points_mm: FloatArray) -> FloatArray:
    """Linear, so that linear interpolation is exact."""
    return np.asarray(points_mm @ (3.0, -7.0, 11.0) + 250)


def sampled(stack: StackPositions) -> FloatArray:
    i, j = np.meshgrid(*(np.arange(n) * mm for n, mm in zip(SHAPE[:2], SPACING, strict=True)), indexing="ij")
    first, second = np.array(stack.directions)
    plane = i[..., None] * first + j[..., None] * second
    return np.stack([linear_world(plane + position) for position in np.array(stack.positions_mm)], axis=-1)


def grid_points(stack: StackPositions) -> FloatArray:
    grid = even_grid(stack)
    return index_to_world(grid, np.stack(np.meshgrid(*map(np.arange, grid.shape), indexing="ij"), axis=-1))


def test_an_even_stack_stays_what_it_is() -> None:
    stack = stack_of(heights(0, 2.5, 5, 7.5, 10, 12.5), axes_of("PIR"))
    array = np.random.default_rng(0).integers(-1000, 1000, SHAPE, dtype=np.int16)
    assert np.array_equal(even_stack(array, stack, fill=-1024), array)
    assert even_grid(stack).spacing_mm == pytest.approx((0.8, 1.3, 2.5))
    assert even_grid(stack).frame_of_reference_uid == "1.2"


@pytest.mark.parametrize("code", ORIENTATIONS)
def test_a_sheared_and_uneven_stack_is_the_world_in_all_orientations(code: str) -> None:
    offsets = [(0, 0, 0), (0.3, -0.9, 2), (0.6, -1.9, 4.3), (1.1, -2.2, 6), (1.4, -3.6, 10), (1.2, -4.0, 12)]
    stack = stack_of(offsets, axes_of(code))
    found = even_stack(sampled(stack), stack, fill=np.nan)
    inside = np.isfinite(found)
    distance = np.abs(found - linear_world(grid_points(stack)))[inside]
    assert inside.mean() > 0.4
    # Edge pixels reach half a pixel out; all others are exact.
    assert (distance < 1e-3).mean() > 0.6
    assert distance.max() < (3.0 + 7.0 + 11.0) * 1.3 / 2


@settings(deadline=None)
@given(st.lists(st.tuples(st.floats(-2, 2), st.floats(-2, 2), st.floats(0.3, 4)), min_size=3, max_size=8))
def test_no_slice_is_cut_off_and_both_ends_are_planes(steps: list[tuple[float, float, float]]) -> None:
    offsets = np.cumsum(steps, axis=0)
    stack = stack_of(offsets, axes_of("LIA"))
    grid, points = even_grid(stack), np.array(stack.positions_mm)
    corners = [points + np.array(stack.directions).T @ (i * 4 * 0.8, j * 6 * 1.3) for i in (0, 1) for j in (0, 1)]
    index = np.linalg.solve(grid.affine[:3, :3], (np.concatenate(corners) - grid.affine[:3, 3]).T).T
    assert (index[:, :2] > -1.1e-3).all()
    assert (index[:, :2] < np.array(grid.shape[:2]) - 1 + 1.1e-3).all()
    assert index[0, 2] == pytest.approx(0, abs=1e-9)
    assert index[len(points) - 1, 2] == pytest.approx(grid.shape[2] - 1)


def test_whole_pixels_are_moved_bit_by_bit() -> None:
    stack = stack_of([(0.8 * n, -1.3 * 2 * n, 3.0 * n) for n in range(6)])
    array = np.random.default_rng(1).integers(-1000, 1000, SHAPE, dtype=np.int16)
    found = even_stack(array, stack, fill=-1024)
    assert found.shape == (10, 17, 6)
    for n in range(6):
        assert np.array_equal(found[n : n + 5, 10 - 2 * n : 17 - 2 * n, n], array[:, :, n])
    assert (found == -1024).sum() == found.size - array.size


def test_of_half_covered_border_pixels_none_is_mixed_with_the_fill() -> None:
    stack = stack_of([(0.8 * share, 0.0, 3.0 * n) for n, share in enumerate((0.0, 0.45, 0.55))])
    found = even_stack(np.full((*SHAPE[:2], 3), 40, dtype=np.int16), stack, fill=-1024)
    assert set(np.unique(found)) == {-1024, 40}
    assert [(found[:, 0, k] == 40).sum() for k in range(3)] == [5, 5, 5]
    assert found[0, 0, 1] == 40  # its centre is 0.45 of a pixel out
    assert found[0, 0, 2] == -1024  # 0.55 of a pixel out


def test_planes_that_are_there_keep_their_numbers() -> None:
    stack = stack_of(heights(0, 2, 4, 8, 10, 12))
    array = np.random.default_rng(2).integers(0, 1000, SHAPE, dtype=np.uint16)
    found = even_stack(array, stack, fill=0)
    assert np.array_equal(found[:, :, [0, 1, 2, 4, 5, 6]], array)
    assert np.array_equal(found[:, :, 3], np.rint(array[:, :, 2] / 2 + array[:, :, 3] / 2))


def test_headers_rounded_to_a_tenth_do_not_blur() -> None:
    stack = stack_of(heights(0, 1.3, 2.5, 3.8, 5.0, 6.3))  # 1.25 mm
    array = np.random.default_rng(3).integers(0, 1000, SHAPE, dtype=np.uint16)
    assert np.array_equal(even_stack(array, stack, fill=0), array)


def test_between_an_image_and_nothing_there_is_nothing() -> None:
    stack = stack_of([(0, 0, 0), (0, 0, 2), (1.6, 0, 6), (1.6, 0, 8)])
    found = even_stack(np.full((*SHAPE[:2], 4), 40, dtype=np.int16), stack, fill=-1024)
    assert found[:, 0, 2].tolist() == [-1024, -1024, 40, 40, 40, -1024, -1024]


def test_another_shape_is_a_programmers_mistake() -> None:
    with pytest.raises(ValueError, match=r"an array of \(1, 2, 3\) for a stack of \(5, 7, 3\)"):
        even_stack(np.zeros((1, 2, 3)), stack_of(heights(0, 1, 2)), fill=0)
