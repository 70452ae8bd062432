"""Contours to voxels and back: exact borders, holes, planes between slices, every orientation."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis.extra import numpy as arrays

from delineate.errors import GeometryMismatch
from delineate.formats.dicom_results.contour_tracing import mask_polygons
from delineate.formats.dicom_results.contours import Contour, ContourMask, contour_mask
from delineate.geometry import ORIENTATIONS, Grid, axis_change, change_axes, compose_affine, index_to_world
from delineate.volume import change_array_axes

C, S = np.cos(0.3), np.sin(0.3)
TILTED = np.array([[C, -S, 0], [S, C, 0], [0, 0, 1]]) @ np.array([[1, 0, 0], [0, C, -S], [0, S, C]])
GRID = Grid((11, 9, 7), compose_affine(TILTED @ np.diag([0.9, 0.8, 2.5]), (-40.5, 12.25, 130.0)), "1.2.3")
PLAIN = Grid((12, 10, 8), compose_affine(np.diag([1.0, 1.0, 2.0]), (0.0, 0.0, 0.0)))

Points = list[tuple[float, float]]
SQUARE: Points = [(1.5, 1.5), (8.5, 1.5), (8.5, 7.5), (1.5, 7.5)]
INNER: Points = [(3.5, 3.5), (5.5, 3.5), (5.5, 5.5), (3.5, 5.5)]


def contour(points: Points, k: float, grid: Grid = PLAIN) -> Contour:
    index = np.column_stack([np.array(points, dtype=float), np.full(len(points), k)])
    return Contour(index_to_world(grid, index))


def filled(*contours: Contour, grid: Grid = PLAIN) -> ContourMask:
    return contour_mask(contours, grid)


def areas(found: ContourMask) -> list[int]:
    return [int(n) for n in found.mask.sum(axis=(0, 1))]


def drawn(mask: np.ndarray, grid: Grid) -> list[Contour]:
    return [
        contour(polygon.tolist(), k, grid) for k in range(mask.shape[2]) for polygon in mask_polygons(mask[:, :, k])
    ]


@pytest.mark.parametrize(
    ("spacing_mm", "slices"), [(None, [0, 1, 2, 3, 4, 5]), (4.0, [0, 1, 2, 3, 4, 5]), (2.0, [1, 3, 5])]
)
def test_a_plane_left_out_is_a_gap_where_the_planes_are_known(spacing_mm: float | None, slices: list[int]) -> None:
    found = contour_mask([contour(SQUARE, k) for k in (1, 3, 5)], PLAIN, plane_spacing_mm=spacing_mm)
    assert np.flatnonzero(areas(found)).tolist() == slices
    assert found.gaps_mm == ((4.0, 4.0) if spacing_mm == 2.0 else ())


def test_known_planes_are_joined_on_thinner_slices() -> None:
    thin = Grid((12, 10, 24), compose_affine(np.diag([1.0, 1.0, 0.5]), (0.0, 0.0, 0.0)))
    contours = [contour(SQUARE, k) for k in (1, 2, 5)]
    found = contour_mask(contours, thin, plane_spacing_mm=2.0)
    assert np.flatnonzero(found.mask.any(axis=(0, 1))).tolist() == [2, 3, 4, 5, 6, 7, 8, 9, 18, 19, 20, 21]


def some_mask() -> np.ndarray:
    """Asymmetric, with a hole, an island in it, and pixels that touch at corners."""
    mask = np.zeros(GRID.shape, dtype=bool)
    mask[1:9, 1:8, 1:6] = True
    mask[3:7, 2:7, 2:5] = False
    mask[4, 4, 3] = True
    mask[9, 0, 2] = mask[10, 1, 2] = mask[0, 8, 5] = True
    return mask


@given(arrays.arrays(bool, arrays.array_shapes(min_dims=2, max_dims=2, max_side=9)))
@settings(max_examples=300, deadline=None)
def test_any_mask_comes_back_from_its_borders(mask: np.ndarray) -> None:
    padded = np.pad(mask, 2)[:, :, np.newaxis]
    grid = Grid((*padded.shape[:2], 3), GRID.affine)
    found = contour_mask(drawn(np.repeat(padded, 3, axis=2), grid), grid)
    assert np.array_equal(found.mask, np.repeat(padded, 3, axis=2))
    assert (found.duplicates, found.gaps_mm, found.interpolated) == (0, (), 0)


@given(arrays.arrays(bool, arrays.array_shapes(min_dims=2, max_dims=2, max_side=9)))
@settings(max_examples=200, deadline=None)
def test_one_polygon_for_each_region_and_every_vertex_is_a_turn(mask: np.ndarray) -> None:
    from scipy.ndimage import label

    polygons = mask_polygons(mask)
    assert len(polygons) == label(mask)[1]
    for polygon in polygons:
        steps = np.roll(polygon, -1, axis=0) - polygon
        assert ((steps != 0).sum(axis=1) == 1).all()
        assert not (np.sign(steps) == np.sign(np.roll(steps, -1, axis=0))).all(axis=1).any()
    assert sum(area(polygon) for polygon in polygons) == mask.sum()


def area(polygon: np.ndarray) -> float:
    u, v = polygon.T
    return float(u @ np.roll(v, -1) - v @ np.roll(u, -1)) / 2


def test_borders_run_between_pixels() -> None:
    mask = np.zeros((4, 5), dtype=bool)
    mask[1:3, 2] = True
    (polygon,) = mask_polygons(mask)
    assert sorted(polygon.tolist()) == [[0.5, 1.5], [0.5, 2.5], [2.5, 1.5], [2.5, 2.5]]


def test_a_hole_is_a_keyhole_within_the_region() -> None:
    mask = np.ones((5, 5), dtype=bool)
    mask[2, 3] = False
    (polygon,) = mask_polygons(mask)
    visits = [tuple(point) for point in polygon.tolist()]
    assert (visits.count((-0.5, 2.5)), len(visits)) == (2, 10)  # four corners, four of the hole, the shore twice


@pytest.mark.parametrize("orientation", ORIENTATIONS)
def test_every_orientation_of_a_grid_gets_the_same_voxels(orientation: str) -> None:
    mask = some_mask()
    change = axis_change(GRID.orientation, orientation)
    found = contour_mask(drawn(mask, GRID), change_axes(GRID, change))
    assert np.array_equal(found.mask, change_array_axes(mask, change))
    assert found.outside == 0.0


@pytest.mark.parametrize("orientation", ["RPI", "SAL", "PIR", "ILA"])
def test_ties_and_interpolated_planes_do_not_depend_on_the_axes(orientation: str) -> None:
    through_centres: Points = [(2, 1), (7, 1), (9, 6), (2, 6)]
    contours = [contour(through_centres, k) for k in (0.5, 2.5, 4.5)]
    change = axis_change(PLAIN.orientation, orientation)
    found = contour_mask(contours, change_axes(PLAIN, change))
    assert np.array_equal(found.mask, change_array_axes(filled(*contours).mask, change))


def test_a_pixel_counts_by_its_centre() -> None:
    triangle: Points = [(0.2, 0.2), (4.3, 0.2), (0.2, 4.3)]
    i, j = np.meshgrid(np.arange(12), np.arange(10), indexing="ij")
    inside = (i > 0.2) & (j > 0.2) & (i + j < 4.5)
    assert np.array_equal(filled(contour(triangle, 3)).mask[:, :, 3], inside)


def test_structures_that_share_an_edge_through_centres_neither_overlap_nor_leave_a_gap() -> None:
    left: Points = [(1, 1), (4, 1), (6, 8), (1, 8)]
    right: Points = [(4, 1), (9, 1), (9, 8), (6, 8)]
    whole: Points = [(1, 1), (9, 1), (9, 8), (1, 8)]
    first, second = filled(contour(left, 2)).mask, filled(contour(right, 2)).mask
    assert not (first & second).any()
    assert np.array_equal(first | second, filled(contour(whole, 2)).mask)


def test_noise_of_the_arithmetic_decides_no_tie() -> None:
    turned = Grid(PLAIN.shape, compose_affine(TILTED @ np.diag([1.0, 1.0, 2.0]), (-77.7, 123.4, 1000.1)))
    through_centres: Points = [(1, 1), (4, 1), (4, 3), (9, 3), (9, 8), (1, 8)]
    found = filled(contour(through_centres, 2, turned), grid=turned)
    assert np.array_equal(found.mask, filled(contour(through_centres, 2)).mask)


@pytest.mark.parametrize("direction", [1, -1])
def test_an_inner_contour_is_a_hole(direction: int) -> None:
    found = filled(contour(SQUARE, 2), contour(INNER[::direction], 2))
    assert areas(found)[2] == 7 * 6 - 4
    assert not found.mask[4:6, 4:6].any()


def test_an_island_in_a_hole_is_inside() -> None:
    wide: Points = [(2.5, 2.5), (7.5, 2.5), (7.5, 6.5), (2.5, 6.5)]
    found = filled(contour(INNER, 2), contour(wide, 2), contour(SQUARE, 2))
    assert areas(found)[2] == 42 - 20 + 4


@pytest.mark.parametrize("height", [3.5, 3.0, 3.25])
def test_a_keyhole_is_a_hole_wherever_its_bridge_runs(height: float) -> None:
    keyhole = [(1.5, height), (3.5, height), (3.5, 5.5), (5.5, 5.5), (5.5, 2.5), (3.5, 2.5), (3.5, height)]
    outer = [(1.5, height), (1.5, 7.5), (8.5, 7.5), (8.5, 1.5), (1.5, 1.5)]
    found = filled(contour(keyhole + outer, 2))
    assert areas(found)[2] == 42 - 6


def test_a_contour_given_twice_does_not_cancel_out() -> None:
    again = [*SQUARE[2:], *SQUARE[:2]][::-1]
    found = filled(contour(SQUARE, 2), contour(again, 2), contour(SQUARE, 2))
    assert (areas(found)[2], found.duplicates) == (42, 2)


def test_contours_that_overlap_in_part_are_told() -> None:
    moved = [(i + 3, j + 2) for i, j in SQUARE]
    beside = [(i + 7, j) for i, j in SQUARE]
    assert filled(contour(SQUARE, 2), contour(moved, 2)).crossings == 1
    assert filled(contour(SQUARE, 2), contour(INNER, 2), contour(beside, 2)).crossings == 0


def test_contours_on_every_second_slice_fill_the_slices_between() -> None:
    small: Points = [(3.5, 2.5), (6.5, 2.5), (6.5, 6.5), (3.5, 6.5)]
    found = filled(contour(SQUARE, 1), contour(small, 3), contour(small, 5))
    # Between: two pixels off left and right become one, one off top and bottom none (a tie), the four corners go.
    assert areas(found) == [42, 42, 5 * 6 - 4, 12, 12, 12, 0, 0]
    assert found.interpolated == 2


def test_the_nearer_plane_has_the_greater_say() -> None:
    wide, narrow = [(0.5, 1.5), (9.5, 1.5), (9.5, 7.5), (0.5, 7.5)], [(0.5, 1.5), (3.5, 1.5), (3.5, 7.5), (0.5, 7.5)]
    found = filled(contour(wide, 1), contour(narrow, 4))
    widths = found.mask.any(axis=1).sum(axis=0).tolist()
    assert widths[1:5] == [9, 7, 4, 3]


def test_a_plane_close_to_a_slice_keeps_its_shape() -> None:
    shapes = [[(0.5, 1.5), (i, 1.5), (i, 7.5), (0.5, 7.5)] for i in (1.5, 9.5, 1.5)]
    found = filled(*(contour(shape, k + 0.09) for k, shape in enumerate(shapes, start=2)))
    assert (areas(found)[2:5], found.interpolated) == ([6, 54, 6], 0)


def test_distances_between_planes_are_in_millimetres() -> None:
    stretched = Grid((12, 10, 5), compose_affine(np.diag([1.0, 4.0, 2.0]), (0.0, 0.0, 0.0)))
    across, along = [(1.5, 3.5), (9.5, 3.5), (9.5, 4.5), (1.5, 4.5)], [(4.5, 2.5), (6.5, 2.5), (6.5, 5.5), (4.5, 5.5)]
    found = filled(contour(across, 1, stretched), contour(along, 3, stretched), grid=stretched)
    # Pixel (3, 4): 2 mm inside the one and beside the other, a tie, and taken; counted in pixels it is 1 against 2.
    assert np.flatnonzero(found.mask[:, 4, 2]).tolist() == [3, 4, 5, 6, 7, 8]


def test_contours_between_slices_reach_half_a_spacing_outwards() -> None:
    found = filled(*(contour(SQUARE, k) for k in (2.5, 3.5, 4.5)))
    assert [k for k, n in enumerate(areas(found)) if n] == [2, 3, 4]


def test_contours_of_thick_slices_on_thinner_ones_keep_their_volume() -> None:
    thin = Grid((12, 10, 40), compose_affine(np.diag([1.0, 1.0, 0.5]), (0.0, 0.0, 0.0)))
    found = filled(*(contour(SQUARE, k) for k in (2, 3, 4)), grid=thin)  # 3 planes, 2 mm apart
    assert found.mask.sum() * thin.voxel_volume_ml * 1000 == 42 * 3 * 2.0
    planes = np.flatnonzero(found.mask.any(axis=(0, 1)))
    assert (planes[0], planes[-1]) == (6, 17)


def test_contours_of_thin_slices_on_thicker_ones_are_sampled() -> None:
    thick = Grid((12, 10, 4), compose_affine(np.diag([1.0, 1.0, 6.0]), (0.0, 0.0, 1.0)))
    found = filled(*(contour(SQUARE, k) for k in range(8)), grid=thick)
    assert areas(found) == [42, 42, 42, 0]


def test_a_wide_gap_is_left_open_and_told() -> None:
    found = filled(*(contour(SQUARE, k) for k in (0, 1, 2, 5, 6)))
    assert [n > 0 for n in areas(found)] == [True, True, True, False, False, True, True, False]
    assert found.gaps_mm == (6.0,)


def test_two_planes_far_apart_are_not_joined() -> None:
    found = filled(contour(SQUARE, 1), contour(SQUARE, 6.9))
    assert areas(found) == [0, 42, 0, 0, 0, 0, 0, 42]
    assert found.gaps_mm == pytest.approx((11.8,))


def test_a_single_plane_between_slices_goes_to_one_slice() -> None:
    assert [k for k, n in enumerate(areas(filled(contour(SQUARE, 3.4)))) if n] == [3]
    assert [k for k, n in enumerate(areas(filled(contour(SQUARE, 3.5)))) if n] == [3]


def test_shapes_that_do_not_overlap_leave_no_slice_empty() -> None:
    beside = [(i + 8, j) for i, j in [(0.5, 1.5), (2.5, 1.5), (2.5, 3.5), (0.5, 3.5)]]
    found = filled(contour([(i - 8, j) for i, j in beside], 1), contour(beside, 4), contour(beside, 7))
    assert min(areas(found)[1:]) > 0


def test_jitter_of_positions_does_not_split_a_plane() -> None:
    found = filled(contour(SQUARE, 2.01), contour(INNER, 1.98))
    assert areas(found)[2] == 42 - 4


def test_what_lies_outside_is_cut_off_and_counted() -> None:
    moved = [(i - 5, j) for i, j in SQUARE]  # from -3.5 to 3.5 of a grid that begins at -0.5
    found = filled(contour(moved, 2), contour(moved, 3))
    assert areas(found)[2:4] == [24, 24]
    assert found.outside == pytest.approx(3 / 7, abs=2e-4)
    assert filled(contour(SQUARE, 2), contour(SQUARE, 9)).outside == pytest.approx(0.5)


@pytest.mark.parametrize("far", [1e3, 1e9, 1e15])
def test_contours_far_away_cost_nothing(far: float) -> None:
    found = filled(contour([(i + far, j) for i, j in SQUARE], 2), contour(SQUARE, far))
    assert not found.patch.any()
    assert found.outside == 1.0


def test_a_contour_around_everything_fills_everything() -> None:
    huge: Points = [(-1e9, -1e9), (1e9, -1e9), (1e9, 1e9), (-1e9, 1e9)]
    assert filled(*(contour(huge, k) for k in range(8))).mask.all()


def test_no_contours_fill_nothing() -> None:
    found = filled()
    assert (found.box, found.outside, found.mask.shape) == (None, 0.0, PLAIN.shape)


def test_contours_oblique_to_the_grid_are_refused() -> None:
    with pytest.raises(GeometryMismatch, match=r"perpendicular to an axis.*degrees.*series that they were drawn on"):
        contour_mask([contour(SQUARE, 2, GRID)], PLAIN)


@pytest.mark.parametrize(
    "points", [[[0, 0, 0], [1, 0, 0]], [[0, 0], [1, 0], [1, 1]], [[0, 0, 0], [1, 0, 0], [1, np.nan, 0]]]
)
def test_what_is_no_polygon_is_refused(points: list[list[float]]) -> None:
    with pytest.raises(GeometryMismatch, match="not a contour"):
        Contour(np.array(points, dtype=float))
