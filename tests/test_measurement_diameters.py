"""Diameters against solids of known geometry: within a voxel, in any slice direction, with ends that can be drawn."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage
from scipy.spatial.distance import pdist
from solids import around_origin, ellipsoid, solid

from delineate.geometry import Grid, axis_change, change_axes, compose_affine, index_to_world, world_to_index
from delineate.measurement.diameters import AxialDiameters, axial_axis, axial_diameters, diameter_3d, largest_part
from delineate.volume import change_array_axes

SPACINGS = st.tuples(st.floats(0.5, 1.5), st.floats(0.5, 1.5), st.floats(0.5, 4.0))
TURNS = st.tuples(*[st.floats(-25, 25)] * 3)


def measured(mask: Any, grid: Grid) -> tuple[AxialDiameters, float]:
    axial, longest = axial_diameters(mask, grid), diameter_3d(mask, grid)
    assert axial is not None
    assert longest is not None
    return axial, longest.value_mm


@given(st.floats(8, 40), SPACINGS, TURNS, st.floats(-0.5, 0.5))
@settings(max_examples=30, deadline=None)
def test_balls_within_a_voxel(size: float, spacing: Any, turn: Any, shift: float) -> None:
    grid = around_origin((size,) * 3, spacing, turn=turn, shift=shift)
    axial, longest = measured(solid(grid, ellipsoid((size,) * 3)), grid)
    for value in (axial.long.value_mm, axial.short.value_mm, longest):
        assert value == pytest.approx(size, abs=max(spacing))
    assert axial.short.value_mm <= axial.long.value_mm + 1e-6
    assert longest >= axial.long.value_mm - 1e-6


@given(st.integers(0, 2**32 - 1), st.floats(0.1, 0.6), TURNS)
@settings(max_examples=40, deadline=None)
def test_nothing_longer_is_missed(seed: int, share: float, turn: Any) -> None:
    rng = np.random.default_rng(seed)
    grid = around_origin((4, 3, 8), (1.0, 0.8, 2.5), turn=turn)
    mask = rng.random(grid.shape) < share
    steps = 0.25 * np.concatenate([np.eye(3), -np.eye(3)])

    def longest(voxels: Any, steps: Any) -> float:
        points = index_to_world(grid, (voxels[:, np.newaxis] + steps).reshape(-1, 3))
        return float(pdist(points).max())

    naive = 0.0
    for k in range(grid.shape[2]):
        islands, count = ndimage.label(mask[:, :, k], np.ones((3, 3)))
        for n in range(1, count + 1):
            naive = max(naive, longest(np.insert(np.argwhere(islands == n), 2, k, axis=1), steps[[0, 1, 3, 4]]))
    if mask.any():
        axial, size = measured(mask, grid)
        assert axial.long.value_mm == pytest.approx(naive)
        assert size == pytest.approx(longest(np.argwhere(mask), steps))


def test_balls_are_right_on_the_mean() -> None:
    errors = []
    for n in range(24):
        grid = around_origin((20,) * 3, (1, 1, 1), turn=(n, 2 * n, 3 * n), shift=n / 24 - 0.5)
        axial, longest = measured(solid(grid, ellipsoid((20,) * 3)), grid)
        errors.append((axial.long.value_mm - 20, axial.short.value_mm - 20, longest - 20))
    assert np.abs(np.mean(errors, axis=0)).max() < 0.5


def test_the_axes_of_an_ellipsoid_stand_at_right_angles() -> None:
    grid = around_origin((44, 44, 44), (0.8, 0.9, 2.0), shift=0.2)
    axial, longest = measured(solid(grid, ellipsoid((26, 40, 30))), grid)
    long, short = (np.subtract(one.stop_mm, one.start_mm) for one in (axial.long, axial.short))
    assert (axial.long.value_mm, axial.short.value_mm, longest) == pytest.approx((40, 26, 40), abs=0.9)
    assert long @ short == pytest.approx(0, abs=1e-6)
    assert abs(long[1]) / axial.long.value_mm > 0.99


def test_both_ends_lie_in_the_slice_that_is_named() -> None:
    grid = around_origin((30, 30, 30), (1.0, 1.2, 2.5), turn=(15, -10, 20))
    axial, _ = measured(solid(grid, ellipsoid((30, 22, 18))), grid)
    ends = world_to_index(grid, [axial.long.start_mm, axial.long.stop_mm, axial.short.start_mm, axial.short.stop_mm])
    assert axial.long.slice_index == axial.short.slice_index
    assert ends[:, 2] == pytest.approx([axial.long.slice_index] * 4)
    assert np.linalg.norm(np.subtract(axial.long.stop_mm, axial.long.start_mm)) == pytest.approx(axial.long.value_mm)


def test_axial_slices_are_found_whatever_the_array_axes() -> None:
    grid = around_origin((30, 24, 36), (1.0, 1.3, 2.0), turn=(12, -8, 25))
    mask = solid(grid, ellipsoid((30, 24, 36)))
    change = axis_change(grid.orientation, "SRA")
    turned = change_axes(grid, change)
    one, other = measured(mask, grid), measured(change_array_axes(mask, change), turned)
    assert (axial_axis(grid), axial_axis(turned)) == (2, 0)
    assert (one[0].long.value_mm, one[0].short.value_mm, one[1]) == pytest.approx(
        (other[0].long.value_mm, other[0].short.value_mm, other[1])
    )


@pytest.mark.parametrize(
    ("shape", "expected"),
    [((1, 1, 1), (1.0, 1.0, 1.5)), ((5, 1, 1), (4.5, 2.0, 4.5)), ((1, 7, 1), (13.0, 1.0, 13.0))],
)
def test_lines_and_single_voxels(shape: Any, expected: tuple[float, float, float]) -> None:
    grid = Grid(shape, np.diag([1.0, 2.0, 3.0, 1.0]))
    axial, longest = measured(np.ones(shape, dtype=bool), grid)
    assert (axial.long.value_mm, axial.short.value_mm, longest) == pytest.approx(expected, abs=1e-5)


def test_holes_count_as_inside() -> None:
    grid = around_origin((24, 24, 24), (1, 1, 2))
    ball = solid(grid, ellipsoid((24, 24, 24)))
    hollow = ball & ~solid(grid, ellipsoid((16, 16, 16)))
    (full, size), (ring, outer) = measured(ball, grid), measured(hollow, grid)
    assert outer == size
    assert ring.long.value_mm == full.long.value_mm
    assert ring.short.value_mm == pytest.approx(full.short.value_mm, abs=1e-6)


def test_pieces_in_one_slice_are_not_joined() -> None:
    mask = np.zeros((30, 9, 3), dtype=bool)
    mask[1:6, 2:5, 1], mask[20:29, 2:5, 1] = True, True
    axial, longest = measured(mask, Grid(mask.shape, np.eye(4)))
    assert axial.long.value_mm == pytest.approx(np.hypot(8.5, 2), abs=0.1)
    assert longest > 27


def test_the_second_diameter_stays_inside_a_bent_structure() -> None:
    mask = np.zeros((20, 20, 1), dtype=bool)
    mask[2:18, 2:5, 0], mask[2:5, 2:12, 0], mask[15:18, 2:12, 0] = True, True, True
    axial, _ = measured(mask, Grid(mask.shape, np.eye(4)))
    assert axial.long.value_mm > 15
    assert axial.short.value_mm < 11  # the hull is wider


def test_diameters_in_a_sheared_slice_are_true_lengths() -> None:
    grid = Grid((9, 3, 2), compose_affine([[2.0, 1.0, 0], [0, 3.0, 0], [0, 0, 4.0]], (0, 0, 0)))
    mask = np.zeros(grid.shape, dtype=bool)
    mask[0:9, 1, 0] = True
    assert measured(mask, grid)[0].long.value_mm == pytest.approx(8.5 * 2)
    mask[:] = False
    mask[4, 0:3, 0] = True
    assert measured(mask, grid)[0].long.value_mm == pytest.approx(2.5 * np.hypot(1, 3))


def test_the_largest_part_and_nothing() -> None:
    mask = np.zeros((9, 5, 4), dtype=bool)
    assert largest_part(mask) is mask
    assert axial_diameters(mask, Grid(mask.shape, np.eye(4))) is None
    assert diameter_3d(mask, Grid(mask.shape, np.eye(4))) is None
    mask[0, 0, 0], mask[4:6, 0:2, 0] = True, True
    assert np.argwhere(largest_part(mask)).min(axis=0).tolist() == [4, 0, 0]
