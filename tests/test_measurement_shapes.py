"""Volumes, surfaces and extents: against solids of known geometry, scikit-image's meshes and IBSI's phantom."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from skimage import measure
from solids import around_origin, ellipsoid, solid

from delineate.geometry import Box, Grid, axis_change, change_axes, compose_affine
from delineate.measurement.shapes import cut_sides, measure_shape, mesh_volume_and_area, part_sizes
from delineate.volume import change_array_axes

SPACINGS = st.tuples(st.floats(0.5, 1.5), st.floats(0.5, 1.5), st.floats(0.5, 3.0))
TURNS = st.tuples(*[st.floats(-40, 40)] * 3)


def test_the_phantom_of_ibsi() -> None:
    mask = np.ones((5, 4, 4), dtype=bool)
    mask[0, 2, 1], mask[2, 2, 2], mask[3:, 0, 2:] = False, False, False
    shape = measure_shape(mask, Grid(mask.shape, np.diag([2.0, 2.0, 2.0, 1.0])))
    assert shape is not None
    # Reference values of the manual: RNU0 556 mm³, YEKZ 592 mm³, C0JK 388 mm², QCFX 0.843.
    assert (shape.voxels, round(shape.volume_ml * 1000)) == (74, 592)
    assert round(shape.mesh_volume_ml * 1000) == 556
    assert round(shape.surface_cm2 * 100) == 388
    assert round(shape.sphericity, 3) == 0.843


@given(st.integers(0, 2**32 - 1), st.floats(0.05, 0.95))
@settings(max_examples=25, deadline=None)
def test_the_sums_are_those_of_scikit_images_mesh(seed: int, share: float) -> None:
    rng = np.random.default_rng(seed)
    mask, linear = rng.random((6, 4, 5)) < share, rng.normal(size=(3, 3)) + 2 * np.eye(3)
    if not mask.any():
        return
    marching_cubes: Any = measure.marching_cubes
    points, faces, _, _ = marching_cubes(np.pad(mask, 1).astype(np.float32), 0.5)
    a, b, c = (points[faces[:, n]].astype(np.float64) for n in range(3))
    volume = abs(np.einsum("ij,ij->i", a, np.cross(b, c)).sum()) / 6
    area = np.linalg.norm(np.cross((b - a) @ linear.T, (c - a) @ linear.T), axis=1).sum() / 2
    assert mesh_volume_and_area(mask, linear) == pytest.approx((volume, area), rel=1e-5)


@given(SPACINGS, TURNS, st.floats(-0.5, 0.5))
@settings(max_examples=15, deadline=None)
def test_volumes_of_ellipsoids_within_a_percent(spacing: Any, turn: Any, shift: float) -> None:
    diameters = (44.0, 60.0, 52.0)
    grid = around_origin((60, 60, 60), spacing, turn=turn, shift=shift)
    shape = measure_shape(solid(grid, ellipsoid(diameters)), grid)
    assert shape is not None
    assert shape.volume_ml == pytest.approx(math.pi / 6 * math.prod(diameters) / 1000, rel=0.01)
    assert shape.mesh_volume_ml == pytest.approx(shape.volume_ml, rel=0.01)
    assert np.abs(np.subtract(shape.extent_mm, diameters)).max() <= max(spacing)


def test_a_box_along_the_grid_is_exact() -> None:
    mask = np.zeros((9, 12, 8), dtype=bool)
    mask[2:6, 3:10, 4:6] = True
    grid = Grid(mask.shape, compose_affine([[0, 2.0, 0], [-0.5, 0, 0], [0, 0, 5.0]], (7, 8, 9)))
    shape = measure_shape(mask, grid)
    assert shape is not None
    assert shape.volume_ml == pytest.approx(4 * 7 * 2 * 0.005)
    assert shape.extent_mm == pytest.approx((14.0, 2.0, 10.0))


def test_the_surface_of_balls_is_known_to_be_too_large() -> None:
    areas = []
    for spacing in ((1.0, 1.0, 1.0), (0.7, 0.7, 3.0)):
        grid = around_origin((40, 40, 40), spacing)
        shape = measure_shape(solid(grid, ellipsoid((40, 40, 40))), grid)
        assert shape is not None
        areas.append(shape.surface_cm2 * 100 / (math.pi * 40**2))
    assert areas == pytest.approx([1.09, 1.19], abs=0.015)


def test_array_axes_do_not_matter() -> None:
    rng = np.random.default_rng(4)
    grid = around_origin((6, 9, 12), (0.8, 1.1, 2.5), turn=(20, 10, 30))
    mask = np.pad(rng.random([n - 4 for n in grid.shape]) < 0.5, 2)
    change = axis_change(grid.orientation, "SAR")
    one, other = measure_shape(mask, grid), measure_shape(change_array_axes(mask, change), change_axes(grid, change))
    assert one is not None
    assert other is not None
    assert one.parts == other.parts
    assert one.volume_ml == pytest.approx(other.volume_ml)
    assert one.extent_mm == pytest.approx(other.extent_mm)
    assert one.mesh_volume_ml == pytest.approx(other.mesh_volume_ml, rel=0.03)  # of ambiguous cubes


def test_nothing_has_no_shape() -> None:
    empty = np.zeros((3, 4, 5), dtype=bool)
    assert measure_shape(empty, Grid(empty.shape, np.eye(4))) is None
    assert mesh_volume_and_area(empty, np.eye(3)) == (0.0, 0.0)
    assert part_sizes(empty) == ()


def test_parts_touch_at_corners_and_the_largest_is_first() -> None:
    mask = np.zeros((9, 5, 4), dtype=bool)
    mask[0, 0, 0], mask[4:6, 0:2, 0], mask[6, 2, 1] = True, True, True
    assert part_sizes(mask) == (5, 1)


def test_a_structure_at_the_border_is_cut() -> None:
    grid = Grid(
        (10, 8, 1), compose_affine(np.array([[0, 0, 3.0], [-1, 0, 0], [0, 2.0, 0]]), (0, 0, 0))
    )  # axes to front, head
    assert grid.orientation == "ASL"
    assert cut_sides(Box((1, 1, 0), (9, 7, 1)), grid) == ()
    assert cut_sides(Box((0, 1, 0), (9, 8, 1)), grid) == ("back", "head")
