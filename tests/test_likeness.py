from __future__ import annotations

from functools import cache

import numpy as np
import numpy.typing as npt
import pytest
from scipy import ndimage

from delineate.evaluation.descriptors import describe_image, describe_volume
from delineate.evaluation.likeness import THRESHOLD, coarse_likeness, find_near_duplicates, likeness
from delineate.geometry import Grid
from delineate.volume import Volume

SHAPE, SPACING = (58, 70, 44), (1.5, 1.2, 2.5)
Array = npt.NDArray[np.float32]


@cache
def head(seed: int) -> Array:
    """An ellipsoid in air, which all have in common, and what is in it, which is each one's own."""
    generator = np.random.default_rng(seed)
    i, j, k = np.meshgrid(*(np.linspace(-1, 1, n) for n in SHAPE), indexing="ij")
    texture = sum(ndimage.gaussian_filter(generator.normal(size=SHAPE), s) * s**1.5 for s in (2, 4, 6))
    inside = (i / 0.8) ** 2 + (j / 0.9) ** 2 + (k / 0.95) ** 2 < 1
    scan: Array = np.where(inside, 100 + 300 * texture, -1000).astype(np.float32)
    return scan


def alike(array: npt.NDArray[np.generic], spacing: tuple[float, ...] = SPACING) -> float:
    return likeness(describe_image(head(0), SPACING), describe_image(array, spacing)).correlation


def test_other_heads_are_not_alike_although_their_outline_is() -> None:
    assert max(alike(head(seed)) for seed in range(1, 5)) < 0.8


def test_a_copy_is_entirely_alike() -> None:
    assert alike(head(0)) == pytest.approx(1, abs=1e-5)


@pytest.mark.parametrize("factors", [(0.6, 0.6, 0.5), (1.0, 1.0, 2.0), (0.5, 1.3, 0.8)])
def test_a_resampled_image_is_known_again(factors: tuple[float, ...]) -> None:
    small = ndimage.zoom(head(0), factors, order=1, grid_mode=True, mode="nearest")
    spacing = tuple(s * n / m for s, n, m in zip(SPACING, SHAPE, small.shape, strict=True))
    assert alike(small, spacing) > THRESHOLD


def test_eight_bits_of_a_window_with_another_contrast_are_known_again() -> None:
    window = np.clip((head(0) + 900) / 1500, 0, 1) ** 0.8
    assert alike((window * 255).astype(np.uint8)) > THRESHOLD


def test_an_image_without_its_last_slices_is_known_again() -> None:
    assert alike(head(0)[:, :, :-7]) > THRESHOLD


def test_a_mirror_image_is_known_again_and_named() -> None:
    found = likeness(describe_image(head(0), SPACING), describe_image(head(0)[::-1, :, ::-1], SPACING))
    assert found.correlation > 0.99
    assert found.flipped == (0, 2)


def test_a_scan_stored_along_other_axes_is_known_again() -> None:
    first = Volume(head(0)[None], Grid(SHAPE, np.diag([*SPACING, 1.0])))
    turned = np.diag([*SPACING, 1.0])[:, [2, 0, 1, 3]]
    second = Volume(head(0).transpose(2, 0, 1)[None], Grid((44, 58, 70), turned))
    assert likeness(describe_volume(first), describe_volume(second)).correlation == pytest.approx(1, abs=1e-5)


def test_images_of_other_sizes_cannot_be_compared() -> None:
    assert alike(head(0), (4.0, 4.0, 8.0)) == -1


@pytest.mark.parametrize("empty", [np.full(SHAPE, 7.0), np.full(SHAPE, np.nan), np.arange(8.0).reshape(2, 2, 2)])
def test_an_image_without_structure_is_like_no_other_and_not_like_itself(empty: npt.NDArray[np.float64]) -> None:
    descriptor = describe_image(empty, (1.0, 1.0, 1.0))
    assert likeness(descriptor, descriptor).correlation < THRESHOLD
    assert coarse_likeness(descriptor, [descriptor])[0] < THRESHOLD


def test_voxels_that_are_no_numbers_do_no_harm() -> None:
    damaged = head(0).copy()
    damaged[3:5, 4:9, 2] = np.nan
    assert alike(damaged) > 0.98


def test_pairs_are_found_among_many_the_most_alike_first() -> None:
    scans = {f"case{seed}": head(seed) for seed in range(5)}
    scans |= {"copy": head(3), "cut": head(1)[:, :, 4:], "flat": np.zeros(SHAPE, np.float32)}
    found = find_near_duplicates({name: describe_image(scan, SPACING) for name, scan in scans.items()})
    assert [(pair.first, pair.second) for pair in found] == [("case3", "copy"), ("case1", "cut")]


def test_two_sets_are_compared_with_each_other_and_not_within() -> None:
    known = {"a": describe_image(head(0), SPACING), "b": describe_image(head(0), SPACING)}
    other = {"c": describe_image(head(1), SPACING), "d": describe_image(head(0), SPACING)}
    assert {(pair.first, pair.second) for pair in find_near_duplicates(known, others=other)} == {("a", "d"), ("b", "d")}


def test_only_three_axes_are_described() -> None:
    with pytest.raises(ValueError, match="three axes"):
        describe_image(np.zeros((4, 5)), (1.0, 1.0))
