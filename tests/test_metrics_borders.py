"""Boundary layers, centroids and voxel borders, against naive versions made of scipy alone."""

from __future__ import annotations

import importlib
import math
import warnings
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy import ndimage

from delineate.metrics import score_label_maps, score_masks
from delineate.metrics.boundaries import border, boundary_layer, centroid_distance_mm
from delineate.metrics.voxel_borders import score_voxel_borders

Mask = npt.NDArray[np.bool_]
Spacing = tuple[float, float, float]

SPACINGS: list[Spacing] = [(1.0, 1.0, 1.0), (0.7, 1.3, 3.0), (5.0, 0.4, 0.9)]
SHAPES = st.tuples(st.integers(1, 9), st.integers(1, 7), st.integers(1, 8))
MASKS = SHAPES.flatmap(lambda shape: hnp.arrays(bool, shape, fill=st.just(True)))
PAIRS = SHAPES.flatmap(lambda shape: st.tuples(hnp.arrays(bool, shape), hnp.arrays(bool, shape)))


def naive_border(mask: Mask) -> Mask:
    return np.asarray(mask & ~ndimage.binary_erosion(mask))


def naive_layer(mask: Mask, spacing_mm: Spacing, width_mm: float) -> Mask:
    distances = ndimage.distance_transform_edt(~naive_border(mask), sampling=spacing_mm)
    return np.asarray(mask & (distances <= width_mm * (1 + 1e-9)))


def naive_distances(start: Mask, target: Mask, spacing_mm: Spacing) -> npt.NDArray[np.float64]:
    distances = ndimage.distance_transform_edt(~naive_border(target), sampling=spacing_mm)
    return np.asarray(distances[naive_border(start)])


def block(start: tuple[int, int, int], stop: tuple[int, int, int]) -> Mask:
    mask = np.zeros((14, 12, 13), dtype=bool)
    mask[tuple(slice(a, b) for a, b in zip(start, stop, strict=True))] = True
    return mask


@settings(max_examples=60, deadline=None)
@given(mask=MASKS, spacing_mm=st.sampled_from(SPACINGS), width_mm=st.floats(0, 12))
def test_a_layer_is_what_lies_within_the_width_of_the_border(mask: Mask, spacing_mm: Spacing, width_mm: float) -> None:
    assert np.array_equal(border(mask), naive_border(mask))
    if mask.any():
        layer = boundary_layer(mask, spacing_mm, width_mm=width_mm)
        assert np.array_equal(layer, naive_layer(mask, spacing_mm, width_mm))


def test_a_layer_as_wide_as_the_voxels_is_two_of_them() -> None:
    cube = block((2, 2, 2), (11, 11, 11))  # 9 voxels wide; 5 are left within two layers
    assert boundary_layer(cube, (0.7, 0.7, 0.7), width_mm=0.7).sum() == 9**3 - 5**3
    assert boundary_layer(cube, (0.7, 0.7, 0.7), width_mm=0.69).sum() == 9**3 - 7**3


def test_an_empty_mask_has_no_layer() -> None:
    assert not boundary_layer(block((0, 0, 0), (0, 0, 0)), (1, 2, 3), width_mm=5).any()


def test_boundary_iou_of_a_hand_worked_pair() -> None:
    reference, prediction = block((2, 2, 2), (9, 9, 9)), block((2, 2, 3), (9, 9, 10))
    # Shells of 7 x 7 x 7 voxels, one voxel apart: four sides of 24 x 6 voxels are shared, and each one's end wall of
    # 7 x 7 voxels meets the other's ring of 24 as well.
    scores = score_masks(reference, prediction, (1.0, 1.0, 1.0), tolerance_mm=0)
    shell, shared = 7**3 - 5**3, 24 * 6
    assert scores.boundary_iou == pytest.approx(shared / (2 * shell - shared))
    assert scores.boundary_iou < scores.iou


def test_boundary_iou_with_a_wide_layer_is_iou() -> None:
    reference, prediction = block((2, 2, 2), (9, 9, 9)), block((3, 2, 2), (10, 8, 9))
    scores = score_masks(reference, prediction, (0.7, 1.3, 3.0), tolerance_mm=40)
    assert scores.boundary_iou == scores.iou


@settings(max_examples=40, deadline=None)
@given(pair=PAIRS, spacing_mm=st.sampled_from(SPACINGS), tolerance_mm=st.floats(0, 8))
def test_boundary_iou_equals_that_of_the_naive_layers(
    pair: tuple[Mask, Mask], spacing_mm: Spacing, tolerance_mm: float
) -> None:
    if pair[0].any() and pair[1].any():
        first, second = (naive_layer(mask, spacing_mm, tolerance_mm) for mask in pair)
        expected = (first & second).sum() / (first | second).sum()
        assert score_masks(*pair, spacing_mm, tolerance_mm=tolerance_mm).boundary_iou == pytest.approx(expected)


@settings(max_examples=30, deadline=None)
@given(pair=PAIRS, spacing_mm=st.sampled_from(SPACINGS))
def test_centroids_are_the_centres_of_mass(pair: tuple[Mask, Mask], spacing_mm: Spacing) -> None:
    if pair[0].any() and pair[1].any():
        steps = np.subtract(*(ndimage.center_of_mass(mask) for mask in pair)) * spacing_mm
        scores = score_masks(*pair, spacing_mm, tolerance_mm=1)
        assert scores.centroid_distance_mm == pytest.approx(float(np.linalg.norm(steps)))


def test_the_centroid_of_nothing_is_nowhere() -> None:
    assert math.isnan(centroid_distance_mm(block((0, 0, 0), (0, 0, 0)), block((1, 1, 1), (2, 2, 2)), (1, 1, 1)))


def test_overlaps_of_a_hand_worked_pair() -> None:
    reference, prediction = block((2, 2, 2), (4, 6, 7)), block((3, 2, 2), (5, 6, 8))  # 40, 48 and 20 voxels
    scores = score_masks(reference, prediction, (2.0, 0.5, 3.0), tolerance_mm=1)
    assert (scores.precision, scores.recall) == pytest.approx((20 / 48, 20 / 40))
    assert scores.volume_similarity == pytest.approx(1 - 8 / 88)
    assert scores.centroid_distance_mm == pytest.approx(math.hypot(1 * 2.0, 0.5 * 3.0))


def test_masd_is_the_mean_of_both_ways_and_assd_of_all_the_surface() -> None:
    # A speck in the middle of a large block: the large surface is far from it, the speck's near to that of no one.
    reference, prediction = block((1, 1, 1), (12, 10, 11)), block((6, 5, 5), (7, 6, 6))
    scores = score_masks(reference, prediction, (1.0, 1.0, 1.0), tolerance_mm=1)
    assert scores.mean_surface_distance_mm > scores.masd_mm > 0.5 * scores.mean_surface_distance_mm


@settings(max_examples=40, deadline=None)
@given(pair=PAIRS, spacing_mm=st.sampled_from(SPACINGS))
def test_voxel_borders_equal_the_naive_version(pair: tuple[Mask, Mask], spacing_mm: Spacing) -> None:
    if not (pair[0].any() and pair[1].any()):
        return
    scores = score_voxel_borders(*pair, spacing_mm, tolerance_mm=1.05)
    there, back = naive_distances(*pair, spacing_mm), naive_distances(*pair[::-1], spacing_mm)
    both = np.concatenate([there, back])
    expected: list[Any] = [both.max(), max(np.percentile(there, 95), np.percentile(back, 95)), np.percentile(both, 95)]
    expected += [both.mean(), (there.mean() + back.mean()) / 2, np.mean(both <= 1.05)]
    found = [scores.hd_mm, scores.hd95_mm, scores.hd95_pooled_mm, scores.assd_mm, scores.masd_mm, scores.nsd]
    assert found == pytest.approx(expected)


@pytest.mark.parametrize("spacing_mm", SPACINGS)
def test_voxel_borders_equal_monai(spacing_mm: Spacing) -> None:
    with warnings.catch_warnings(action="ignore"):
        import torch

        monai: Any = importlib.import_module("monai.metrics")
    generator = np.random.default_rng(3)
    fields = ndimage.gaussian_filter(generator.normal(size=(2, 13, 11, 15)), (0, 1.5, 1.5, 1.5))
    reference, prediction = fields > 0.1
    pair = [torch.from_numpy(mask)[None, None] for mask in (prediction, reference)]
    options = {"include_background": True, "spacing": list(spacing_mm)}
    scores = score_voxel_borders(reference, prediction, spacing_mm, tolerance_mm=1.37)
    with warnings.catch_warnings(action="ignore"):
        hd95_mm = monai.compute_hausdorff_distance(*pair, percentile=95, **options)
        assd_mm = monai.compute_average_surface_distance(*pair, symmetric=True, **options)
        nsd = monai.compute_surface_dice(*pair, [1.37], **options)
    found = [scores.hd95_mm, scores.assd_mm, scores.nsd]
    assert found == pytest.approx([float(hd95_mm), float(assd_mm), float(nsd)], rel=1e-5)


def test_voxel_borders_of_empty_masks() -> None:
    nothing, something = block((0, 0, 0), (0, 0, 0)), block((2, 3, 4), (5, 6, 7))
    missed = score_voxel_borders(something, nothing, (1, 1, 2), tolerance_mm=1)
    assert missed.nsd == 0
    assert math.isnan(missed.hd95_mm)
    assert math.isnan(score_voxel_borders(nothing, nothing, (1, 1, 2), tolerance_mm=1).nsd)


def test_voxel_borders_need_masks_and_a_tolerance() -> None:
    mask = block((2, 3, 4), (5, 6, 7))
    with pytest.raises(TypeError, match="bool arrays"):
        score_voxel_borders(mask.astype(np.uint8), mask, (1, 1, 1), tolerance_mm=1)
    with pytest.raises(ValueError, match="tolerance"):
        score_voxel_borders(mask, mask, (1, 1, 1), tolerance_mm=-1)


def test_finding_less_never_raises_a_score() -> None:
    reference = block((2, 2, 2), (9, 9, 9)).astype(np.uint8)
    found = score_label_maps(reference, reference, (1, 1, 2), (1,), tolerance_mm=1)[1]
    missed = score_label_maps(reference, np.zeros_like(reference), (1, 1, 2), (1,), tolerance_mm=1)[1]
    for name in ("dice", "iou", "recall", "volume_similarity", "surface_dice", "boundary_iou"):
        assert (getattr(found, name), getattr(missed, name)) == (1, 0)
    assert math.isnan(missed.precision)
