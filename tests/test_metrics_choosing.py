from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest

from delineate.metrics.choosing import (
    Advice,
    Doubt,
    advise,
    advise_for_all,
    describe_shape,
    describe_shapes,
)
from delineate.metrics.definitions import METRICS

Mask = npt.NDArray[np.bool_]
Spacing = tuple[float, float, float]

SPACINGS: list[Spacing] = [(1.0, 1.0, 1.0), (0.7, 1.3, 3.0), (2.0, 0.8, 0.6)]


def inside(half_mm: Spacing, spacing_mm: Spacing, *, power: float = 2) -> Mask:
    """An ellipsoid of the given half axes, or nearly a box for a high power."""
    axes = [np.arange(-int(h / s) - 2, int(h / s) + 3) * s / h for h, s in zip(half_mm, spacing_mm, strict=True)]
    i, j, k = np.meshgrid(*axes, indexing="ij")
    return np.asarray(np.abs(i) ** power + np.abs(j) ** power + np.abs(k) ** power <= 1)


def tube(radius_mm: float, length_mm: float, spacing_mm: Spacing, axis: int) -> Mask:
    positions = np.indices([70, 72, 90])
    offsets = [(p - n // 2) * s for p, n, s in zip(positions, (70, 72, 90), spacing_mm, strict=True)]
    across_mm2 = sum(o**2 for n, o in enumerate(offsets) if n != axis)
    return np.asarray((across_mm2 <= radius_mm**2) & (np.abs(offsets[axis]) <= length_mm / 2))


def doubts(advice: Advice) -> set[Doubt]:
    return {reason.doubt for reason in advice.reasons}


def test_a_block_is_counted_and_measured() -> None:
    mask = np.zeros((20, 9, 30), dtype=bool)
    mask[3:10, 2:7, 4:20] = True  # 7 x 5 x 16 voxels, of which 5 x 3 x 14 are not at the border
    shape = describe_shape(mask, (2.0, 5.0, 1.5))
    assert (shape.voxels, shape.extent_voxels, shape.pieces) == (560, (7, 5, 16), 1)
    assert shape.volume_ml == pytest.approx(0.56 * 15)
    assert shape.border_share == pytest.approx(1 - 210 / 560)
    assert shape.dice_one_voxel_off == pytest.approx(2 * 210 / (560 + 210))
    assert shape.radius_mm == pytest.approx(3.5 * 2.0)  # the middle of 7 voxels


@pytest.mark.parametrize("spacing_mm", SPACINGS)
def test_the_largest_sphere_within_is_found_to_half_a_voxel(spacing_mm: Spacing) -> None:
    radius_mm = describe_shape(inside((9.0, 12.0, 15.0), spacing_mm), spacing_mm).radius_mm
    assert abs(radius_mm - 9.0) <= max(spacing_mm) / 2 + 0.1


@pytest.mark.parametrize("axis", [0, 1, 2])
@pytest.mark.parametrize("spacing_mm", SPACINGS)
def test_tubes_are_tubes_along_every_axis(spacing_mm: Spacing, axis: int) -> None:
    shape = describe_shape(tube(2.5, 46, spacing_mm, axis), spacing_mm)
    assert shape.tubular
    assert shape.length_mm == pytest.approx(46, abs=2 * max(spacing_mm) + 1)
    assert shape.tube_width_mm == pytest.approx(5, abs=1.2)


def test_a_branched_vessel_is_a_tube() -> None:
    tree = np.zeros((40, 60, 80), dtype=bool)
    tree[18:22, 28:32, 2:78] = True
    tree[18:20, 4:30, 30:32] = True
    tree[20:38, 30:32, 50:52] = True
    assert describe_shape(tree, (1.0, 0.8, 1.2)).tubular


@pytest.mark.parametrize("spacing_mm", SPACINGS)
def test_balls_plates_and_shells_are_no_tubes(spacing_mm: Spacing) -> None:
    ball = inside((15.0, 15.0, 15.0), spacing_mm)
    shell = ball & ~np.pad(inside((11.0, 11.0, 11.0), spacing_mm), 20)[tuple(_middle(ball, spacing_mm))]
    for mask in (ball, shell, inside((30.0, 30.0, 4.0), spacing_mm), inside((4.0, 30.0, 25.0), spacing_mm, power=8)):
        assert not describe_shape(mask, spacing_mm).tubular


def _middle(ball: Mask, spacing_mm: Spacing) -> list[slice]:
    core = [n + 40 for n in inside((11.0, 11.0, 11.0), spacing_mm).shape]
    return [slice((c - n) // 2, (c - n) // 2 + n) for c, n in zip(core, ball.shape, strict=True)]


def test_many_small_balls_are_pieces_and_no_tube() -> None:
    mask = np.zeros((30, 30, 90), dtype=bool)
    ball = inside((2.5, 2.5, 2.5), (1.0, 1.0, 1.0))
    for start in range(0, 80, 10):
        mask[5 : 5 + ball.shape[0], 5 : 5 + ball.shape[1], start : start + ball.shape[2]] = ball
    shape = describe_shape(mask, (1.0, 1.0, 1.0))
    assert (shape.pieces, shape.tubular) == (8, False)
    assert shape.largest_piece == pytest.approx(1 / 8)
    advice = advise(shape)
    assert Doubt.PIECES in doubts(advice)
    assert {"lesion_sensitivity", "lesion_f1"} <= set(advice.trusted)


def test_all_structures_of_a_label_map_are_described_as_their_masks() -> None:
    label_map = np.zeros((30, 24, 40), dtype=np.uint8)
    label_map[3:9, 4:7, 5:35] = 4
    label_map[12:28, 8:20, 10:18] = 1
    spacing_mm = (0.7, 1.3, 3.0)
    turned = np.asfortranarray(label_map)
    shapes = describe_shapes(turned, spacing_mm, (4, 1, 9), threads=2)
    assert list(shapes) == [4, 1, 9]
    assert [shapes[value] for value in (4, 1)] == [describe_shape(label_map == v, spacing_mm) for v in (4, 1)]
    assert shapes[9].voxels == 0


def test_dice_is_not_trusted_for_a_few_voxels() -> None:
    mask = np.zeros((8, 9, 10), dtype=bool)
    mask[2:4, 3:5, 4:7] = True
    advice = advise(describe_shape(mask, (1.0, 1.0, 2.0)))
    assert advice.reasons[0].words.startswith("12 voxels: one voxel changes Dice by 0.043")
    assert {"dice", "iou", "surface_dice", "boundary_iou"} <= set(advice.distrusted)
    assert {"centroid_distance_mm", "lesion_f1"} <= set(advice.trusted)


def test_cldice_is_trusted_for_a_tube_and_dice_is_not() -> None:
    advice = advise(describe_shape(tube(2.5, 46, (1.0, 1.0, 1.0), 1), (1.0, 1.0, 1.0)))
    assert "cldice" in advice.trusted
    assert "dice" in advice.distrusted
    assert "mm wide" in advice.reasons[0].words


def test_a_thick_tube_keeps_dice_and_gets_cldice() -> None:
    advice = advise(describe_shape(tube(9.0, 120, (0.6, 0.6, 2.0), 2), (0.6, 0.6, 2.0)))
    assert "cldice" in advice.trusted
    assert "dice" in advice.trusted


def test_a_large_organ_keeps_dice_but_is_told_where_errors_show() -> None:
    advice = advise(describe_shape(inside((25.0, 30.0, 28.0), (1.0, 1.0, 1.0)), (1.0, 1.0, 1.0)), tolerance_mm=2.0)
    assert doubts(advice) == {Doubt.BULKY}
    assert advice.distrusted == ()
    assert "one voxel too small all round" in advice.reasons[0].words


def test_a_tolerance_finer_than_the_voxels_or_wider_than_the_structure_is_said() -> None:
    shape = describe_shape(inside((9.0, 9.0, 9.0), (1.0, 1.0, 1.0)), (1.0, 1.0, 1.0))
    assert advise(shape, tolerance_mm=0.5).distrusted == ("surface_dice",)
    assert advise(shape, tolerance_mm=2.0).distrusted == ()
    assert advise(shape, tolerance_mm=12.0).distrusted == ("surface_dice", "boundary_iou")


def test_thick_slices_make_the_largest_distance_a_count_of_slices() -> None:
    spacing_mm = (0.7, 0.7, 5.0)
    advice = advise(describe_shape(inside((20.0, 20.0, 14.0), spacing_mm), spacing_mm))
    assert {"hd_mm", "hd95_mm"} <= set(advice.distrusted)
    assert any("5 slices, 5 mm apart" in reason.words for reason in advice.reasons)
    tall = advise(describe_shape(inside((20.0, 20.0, 60.0), spacing_mm), spacing_mm))
    assert "hd95_mm" in tall.trusted


def test_nothing_is_trusted_where_the_reference_is_empty() -> None:
    shape = describe_shape(np.zeros((3, 4, 5), dtype=bool), (1.0, 1.0, 1.0))
    assert (shape.voxels, shape.tubular) == (0, False)
    assert advise(shape).trusted == advise_for_all([]).trusted == ()
    assert advise(shape).distrusted == tuple(metric.name for metric in METRICS)


def test_advice_over_cases_counts_those_that_a_doubt_holds_for() -> None:
    spacing_mm = (1.0, 1.0, 1.0)
    small, large = inside((2.0, 2.0, 2.0), spacing_mm), inside((12.0, 12.0, 12.0), spacing_mm)
    many = [describe_shape(mask, spacing_mm) for mask in (small, large, large, small, large)]
    advice = advise_for_all(many)
    assert advice.reasons[0].words.startswith("in 2 of 5 cases: 33 voxels")
    assert "dice" in advice.distrusted
    rare = advise_for_all([*many[:1], *[many[1]] * 4])
    assert "dice" in rare.trusted


def test_every_figure_is_either_trusted_or_not() -> None:
    for mask in (inside((2.0, 2.0, 2.0), SPACINGS[0]), tube(2.5, 46, SPACINGS[0], 0)):
        advice = advise(describe_shape(mask, SPACINGS[0]), tolerance_mm=1.0)
        names = {metric.name for metric in METRICS}
        assert names <= {*advice.trusted, *advice.distrusted}
        assert not set(advice.trusted) & set(advice.distrusted)


def test_masks_that_are_none_are_refused() -> None:
    with pytest.raises(TypeError, match="bool array"):
        describe_shape(np.zeros((3, 3, 3), np.uint8), (1, 1, 1))
    with pytest.raises(ValueError, match="three axes"):
        describe_shape(np.zeros((3, 3), dtype=bool), (1, 1, 1))
    with pytest.raises(ValueError, match="three positive numbers"):
        describe_shape(np.zeros((3, 3, 3), dtype=bool), (1, 0, 1))
