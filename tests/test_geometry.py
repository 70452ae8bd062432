"""Grids: indices, worlds, orientations, boxes and new spacings."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from delineate.errors import GeometryMismatch
from delineate.geometry import (
    ORIENTATIONS,
    Box,
    FloatArray,
    Grid,
    axis_change,
    change_axes,
    compose_affine,
    crop_grid,
    foreground_box,
    index_to_world,
    largest_distance_mm,
    reshape_grid,
    respace_grid,
    same_space,
    world_to_index,
)

angles = st.floats(-math.pi, math.pi)
spacings = st.floats(0.1, 10)
places = st.floats(-1000, 1000)
shapes = st.integers(1, 40)


def rotation(a: float, b: float, c: float) -> FloatArray:
    about_x = np.array([[1, 0, 0], [0, np.cos(a), -np.sin(a)], [0, np.sin(a), np.cos(a)]])
    about_y = np.array([[np.cos(b), 0, np.sin(b)], [0, 1, 0], [-np.sin(b), 0, np.cos(b)]])
    about_z = np.array([[np.cos(c), -np.sin(c), 0], [np.sin(c), np.cos(c), 0], [0, 0, 1]])
    turned: FloatArray = about_z @ about_y @ about_x
    return turned


@st.composite
def grids(draw: st.DrawFn) -> Grid:
    linear = rotation(*(draw(angles) for _ in range(3))) @ np.diag([draw(spacings) for _ in range(3)])
    shape = (draw(shapes), draw(shapes), draw(shapes))
    return Grid(shape, compose_affine(linear, [draw(places) for _ in range(3)]), "1.2.3")


def plain(shape: tuple[int, int, int] = (3, 4, 5)) -> Grid:
    return Grid(shape, compose_affine(np.diag([0.9, 0.8, 2.5]), (10, -20, 30)))


@given(grids(), st.tuples(places, places, places))
def test_index_to_world_and_back(grid: Grid, index: tuple[float, float, float]) -> None:
    np.testing.assert_allclose(world_to_index(grid, index_to_world(grid, index)), np.array(index), atol=1e-6)


def test_world_of_a_hand_worked_index() -> None:
    expected = np.array([[10.0, -20.0, 30.0], [10.9, -18.4, 37.5]])
    np.testing.assert_allclose(index_to_world(plain(), [[0, 0, 0], [1, 2, 3]]), expected)


def test_world_to_index_of_an_empty_list_is_empty() -> None:
    assert world_to_index(plain(), np.zeros((0, 3))).shape == (0, 3)


@given(grids(), st.sampled_from(ORIENTATIONS))
def test_change_axes_moves_no_voxel(grid: Grid, code: str) -> None:
    turned = change_axes(grid, axis_change(grid.orientation, code))
    assert turned.orientation == code
    assert sorted(turned.shape) == sorted(grid.shape)
    corners = [{tuple(np.round(p, 6) + 0.0) for p in index_to_world(g, box_corners(g))} for g in (grid, turned)]
    assert corners[0] == corners[1] or largest_pairing_mm(*corners) < 1e-5


def box_corners(grid: Grid) -> FloatArray:
    ends = [(0, n - 1) for n in grid.shape]
    return np.array([(i, j, k) for i in ends[0] for j in ends[1] for k in ends[2]], dtype=np.float64)


def largest_pairing_mm(first: set[tuple[float, ...]], second: set[tuple[float, ...]]) -> float:
    return max(min(math.dist(a, b) for b in second) for a in first)


@given(grids(), st.sampled_from(ORIENTATIONS))
def test_change_axes_and_back_is_the_same_grid(grid: Grid, code: str) -> None:
    change = axis_change(grid.orientation, code)
    back = change_axes(change_axes(grid, change), change.inverse)
    assert largest_distance_mm(back, grid) < 1e-9


def test_there_are_48_orientations_and_each_names_its_own_axes() -> None:
    assert len(set(ORIENTATIONS)) == 48
    for code in ORIENTATIONS:
        assert change_axes(plain(), axis_change("LPS", code)).orientation == code


def test_orientation_of_a_plain_lps_grid() -> None:
    assert plain().orientation == "LPS"
    assert Grid((2, 2, 2), np.diag([-1.0, -1, 1, 1])).orientation == "RAS"
    assert Grid((2, 2, 2), [[0, 0, 1, 0], [-1, 0, 0, 0], [0, -1, 0, 0], [0, 0, 0, 1]]).orientation == "AIL"  # type: ignore[arg-type]


def test_axis_change_refuses_unknown_codes() -> None:
    with pytest.raises(ValueError, match="unknown orientation 'LLS'"):
        axis_change("LPS", "LLS")


@pytest.mark.parametrize(
    ("affine", "match"),
    [
        (np.diag([1.0, 1, 0, 1]), "cannot be inverted"),
        (np.diag([1.0, 1, np.nan, 1]), "not a finite 4x4"),
        (np.eye(3), "not a finite 4x4"),
        (np.diag([1.0, 1, 1, 2]), "last row"),
        ([[1, 2, 0, 0], [1, 2, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]], "cannot be inverted"),
    ],
)
def test_grid_refuses_what_is_no_affine(affine: FloatArray, match: str) -> None:
    with pytest.raises(GeometryMismatch, match=match):
        Grid((2, 2, 2), affine)


def test_grid_refuses_a_shape_without_voxels() -> None:
    with pytest.raises(GeometryMismatch, match="three axes with voxels"):
        Grid((2, 0, 2), np.eye(4))


def test_grid_is_a_value() -> None:
    affine = np.eye(4)
    grid = Grid((2, 3, 4), affine)
    affine[0, 3] = 5
    assert grid.origin_mm == pytest.approx((0, 0, 0))
    assert grid == Grid((2, 3, 4), np.eye(4))
    assert len({grid, Grid((2, 3, 4), np.eye(4)), plain()}) == 2
    with pytest.raises(ValueError, match="read-only"):
        grid.affine[0, 0] = 2


def test_measures_of_a_grid() -> None:
    grid = plain()
    assert grid.voxel_volume_ml == pytest.approx(0.9 * 0.8 * 2.5 / 1000)
    assert grid.extent_mm == pytest.approx((2.7, 3.2, 12.5))
    np.testing.assert_allclose(grid.direction, np.eye(3))


@given(grids(), spacings, spacings, spacings)
def test_respaced_grid_keeps_centre_axes_and_extent(grid: Grid, i: float, j: float, k: float) -> None:
    new = respace_grid(grid, (i, j, k))
    middles = [index_to_world(g, (np.array(g.shape) - 1) / 2) for g in (grid, new)]
    np.testing.assert_allclose(middles[0], middles[1], atol=1e-9)
    np.testing.assert_allclose(new.direction, grid.direction, atol=1e-9)
    np.testing.assert_allclose(new.spacing_mm, (i, j, k))
    for before, after, spacing, n in zip(grid.extent_mm, new.extent_mm, (i, j, k), new.shape, strict=True):
        assert abs(after - before) <= spacing / 2 + 1e-6 or (n == 1 and before < spacing)


def test_respace_keeps_an_axis_of_the_same_spacing() -> None:
    assert respace_grid(plain(), (0.9, 0.4, 2.5)).shape == (3, 8, 5)


def test_respace_refuses_negative_spacing() -> None:
    with pytest.raises(ValueError, match="must be positive"):
        respace_grid(plain(), (1, 1, -1))


@given(grids(), st.tuples(shapes, shapes, shapes))
def test_reshaped_grid_covers_the_same_extent(grid: Grid, shape: tuple[int, int, int]) -> None:
    new = reshape_grid(grid, shape)
    assert new.shape == shape
    for corner in (0, 1):
        outer = [np.array([-0.5] * 3) if corner == 0 else np.array(g.shape) - 0.5 for g in (grid, new)]
        np.testing.assert_allclose(index_to_world(grid, outer[0]), index_to_world(new, outer[1]), atol=1e-8)


def test_cropped_grid_keeps_voxels_in_place_also_outside() -> None:
    part = crop_grid(plain(), Box((-1, 1, 2), (2, 5, 4)))
    assert part.shape == (3, 4, 2)
    np.testing.assert_allclose(index_to_world(part, (2, 1, 1)), index_to_world(plain(), (1, 2, 3)))


def test_box_refuses_to_be_empty_and_to_slice_outside() -> None:
    with pytest.raises(ValueError, match="empty box"):
        Box((1, 1, 1), (2, 1, 2))
    with pytest.raises(ValueError, match="starts outside"):
        assert Box((-1, 0, 0), (2, 2, 2)).slices


def test_largest_distance_is_found_at_the_far_corner() -> None:
    other = Grid((3, 4, 5), compose_affine(np.diag([0.9, 0.8, 2.6]), (10, -20, 30)))
    assert largest_distance_mm(plain(), other) == pytest.approx(0.4)
    assert same_space(plain(), other, 0.41)
    assert not same_space(plain(), other)
    assert largest_distance_mm(plain(), plain((3, 4, 6))) == math.inf


def test_foreground_box_is_tight() -> None:
    mask = np.zeros((5, 6, 7), dtype=bool)
    mask[1, 4, 2] = mask[3, 2, 6] = True
    assert foreground_box(mask) == Box((1, 2, 2), (4, 5, 7))


def test_foreground_box_of_nothing_is_none() -> None:
    assert foreground_box(np.zeros((2, 3, 4), dtype=bool)) is None
