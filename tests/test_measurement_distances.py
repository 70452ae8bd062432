from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from delineate.errors import LabelError
from delineate.geometry import Grid, compose_affine, index_to_world
from delineate.labels import LabelSet, label_set
from delineate.measurement.distances import Gap, distance
from delineate.volume import Segmentation, reorient

SPACINGS = ((1.0, 1.0, 1.0), (0.8, 0.8, 2.5), (0.7, 0.7, 5.0))
Mask = npt.NDArray[np.bool_]


def turned_grid(shape: tuple[int, int, int], spacing_mm: tuple[float, ...], generator: np.random.Generator) -> Grid:
    turn, _ = np.linalg.qr(generator.normal(size=(3, 3)))
    return Grid(shape, compose_affine(turn * spacing_mm, generator.uniform(-50, 50, 3)))


def two(first: Mask, second: Mask, grid: Grid) -> Segmentation:
    array = first.astype(np.uint8)
    array[second] = 2
    return Segmentation(array, grid, label_set({1: "first", 2: "second"}))


def measured(segmentation: Segmentation) -> Gap:
    found = distance(segmentation, "first", "second")
    assert found is not None
    return found


def balls_and_tubes(spacing_mm: tuple[float, ...], *, pairs: int, tubes: bool) -> Iterator[tuple[float, float]]:
    """(measured, true) distances of a ball from another one, or from a tube, on grids turned at random."""
    generator = np.random.default_rng(5)
    for _ in range(pairs):
        radii, gap = (generator.uniform(5, 12), generator.uniform(2, 4) if tubes else 12.0), generator.uniform(2, 12)
        towards = generator.normal(size=3)
        towards /= np.linalg.norm(towards)
        along = np.cross(towards, generator.normal(size=3))
        along /= np.linalg.norm(along)
        shape = tuple(int(72 / s) for s in spacing_mm)
        grid = turned_grid((shape[0], shape[1], shape[2]), spacing_mm, generator)
        points = index_to_world(grid, np.moveaxis(np.indices(shape), 0, -1))
        middle = index_to_world(grid, np.array(shape) / 2) + generator.uniform(-1, 1, 3)
        ball = np.linalg.norm(points - (middle - towards * (radii[0] + gap / 2)), axis=-1) < radii[0]
        off = points - (middle + towards * (radii[1] + gap / 2))
        if tubes:
            off = off - (off @ along)[..., np.newaxis] * along
        yield measured(two(ball, np.linalg.norm(off, axis=-1) < radii[1], grid)).value_mm, gap


@pytest.mark.parametrize("spacing_mm", SPACINGS)
@pytest.mark.parametrize("tubes", [False, True])
def test_smooth_bodies_are_apart_by_what_they_are_within_half_a_voxel(
    spacing_mm: tuple[float, ...], tubes: bool
) -> None:
    found = np.array(list(balls_and_tubes(spacing_mm, pairs=12, tubes=tubes)))
    errors = (found[:, 0] - found[:, 1]) / max(spacing_mm)
    assert (np.abs(errors) <= 0.5).mean() >= 0.9
    assert abs(errors.mean()) < 0.2


@given(
    gap=st.integers(0, 6),
    axis=st.integers(0, 2),
    width=st.integers(1, 4),
    spacing=st.tuples(*[st.sampled_from([0.7, 1.0, 2.5, 5.0])] * 3),
    seed=st.integers(0, 100),
)
@settings(max_examples=60, deadline=None)
def test_a_gap_of_n_voxels_between_flat_faces_is_n_spacings(
    gap: int, axis: int, width: int, spacing: tuple[float, float, float], seed: int
) -> None:
    array = np.zeros((14, 9, 9), dtype=bool)
    first, second = array.copy(), array.copy()
    first[1 : 1 + width, 2:8, 1:8] = True
    second[1 + width + gap : 12, 1:7, 2:8] = True
    first, second = (np.moveaxis(mask, 0, axis) for mask in (first, second))
    spacing_mm = tuple(float(s) for s in spacing)
    grid = turned_grid((first.shape[0], first.shape[1], first.shape[2]), spacing_mm, np.random.default_rng(seed))
    assert measured(two(first, second, grid)).value_mm == pytest.approx(gap * spacing_mm[axis], abs=1e-6)


def test_a_single_voxel_has_faces_too() -> None:
    first, second = np.zeros((9, 5, 5), dtype=bool), np.zeros((9, 5, 5), dtype=bool)
    first[1, 2, 2], second[5:, :, :] = True, True
    assert measured(two(first, second, Grid((9, 5, 5), np.diag((2.0, 1, 3, 1))))).value_mm == pytest.approx(6.0)


def one_apart() -> Segmentation:
    generator = np.random.default_rng(0)
    grid = turned_grid((20, 16, 10), (1.0, 1.5, 4.0), generator)
    i, j, k = np.indices(grid.shape)
    ball = (i - 5) ** 2 + (1.5 * (j - 6)) ** 2 + (4 * (k - 4)) ** 2 < 16
    return two(ball, (i > 12) & (j + k > 14), grid)


def test_the_points_are_as_far_apart_as_it_says_and_lie_on_their_own_structures() -> None:
    segmentation = one_apart()
    found = measured(segmentation)
    assert np.linalg.norm(np.subtract(found.start_mm, found.stop_mm)) == pytest.approx(found.value_mm)
    for point_mm, name in ((found.start_mm, "first"), (found.stop_mm, "second")):
        voxels_mm = index_to_world(segmentation.grid, np.argwhere(segmentation.mask(name)))
        assert np.linalg.norm(voxels_mm - point_mm, axis=1).min() <= 4.0


def test_it_is_as_far_there_as_back() -> None:
    there, back = measured(one_apart()), distance(one_apart(), "second", "first")
    assert back == Gap(there.value_mm, there.stop_mm, there.start_mm)


@pytest.mark.parametrize("orientation", ["LPS", "SAR", "PIR"])
def test_the_order_of_axes_does_not_matter(orientation: str) -> None:
    expected, found = measured(one_apart()), measured(reorient(one_apart(), orientation))
    assert found.value_mm == pytest.approx(expected.value_mm)


def test_a_structure_inside_another_one_touches_it() -> None:
    first, second = np.zeros((9, 9, 9), dtype=bool), np.zeros((9, 9, 9), dtype=bool)
    second[1:8, 1:8, 1:8] = True
    first[3:5, 3:6, 3:6] = True
    segmentation = two(first, second & ~first, Grid(first.shape, np.eye(4)))
    assert measured(segmentation).value_mm == 0.0


def test_masks_that_share_voxels_are_0_mm_apart_where_they_do() -> None:
    masks = np.zeros((2, 9, 8, 7), dtype=bool)
    masks[0, :5, 2:5, 2:5] = True
    masks[1, 4:, 3:6, 3:6] = True
    labels = LabelSet(label_set({1: "first", 2: "second"}).labels, overlaps=True)
    found = measured(Segmentation(masks, Grid((9, 8, 7), np.eye(4)), labels))
    assert found.value_mm == 0.0
    assert found.start_mm[0] == 4.0


def test_where_the_scan_ends_is_no_surface() -> None:
    first, second = np.zeros((6, 12, 6), dtype=bool), np.zeros((6, 12, 6), dtype=bool)
    first[:, :3, :], second[:, 9:, :] = True, True
    found = measured(two(first, second, Grid(first.shape, np.diag((1.0, 2, 3, 1)))))
    assert found.value_mm == pytest.approx(12.0)
    assert found.start_mm[1] == pytest.approx(5.0)


def test_nothing_is_as_far_as_nowhere() -> None:
    first = np.zeros((4, 5, 6), dtype=bool)
    first[1, 2, 3] = True
    segmentation = two(first, np.zeros_like(first), Grid(first.shape, np.eye(4)))
    assert distance(segmentation, "first", "second") is None
    with pytest.raises(LabelError, match="no such label"):
        distance(segmentation, "first", "third")
