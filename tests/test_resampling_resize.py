"""Resizing as scikit-image and torch do it, checked against them."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.ndimage import map_coordinates
from skimage.transform import resize

from delineate.geometry import Triple
from delineate.resampling import (
    AxisMatrices,
    Interpolation,
    apply_matrices,
    argmax_matrices,
    blend_slices,
    blend_windows,
    resize_matrices,
    vote_matrices,
)

NEAREST, LINEAR, CUBIC = Interpolation.NEAREST, Interpolation.LINEAR, Interpolation.CUBIC
ORDERS = {NEAREST: 0, LINEAR: 1, CUBIC: 3}
SHAPE: Triple = (11, 7, 30)
SHAPES = [(11, 7, 30), (17, 7, 45), (6, 4, 9), (29, 3, 31), (5, 20, 30), (1, 9, 2)]


def noise(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(0, 100, shape).astype(np.float32)


def by_skimage(image: np.ndarray, shape: tuple[int, ...], order: int) -> np.ndarray:
    resized: np.ndarray = resize(image.astype(float), shape, order, mode="edge", anti_aliasing=False)  # type: ignore[no-untyped-call]
    return resized


def blended(image: np.ndarray, matrices: AxisMatrices) -> np.ndarray:
    """By windows, clipped to the image's range."""
    out = np.empty(tuple(m.rows for m in matrices), np.float32)
    limits = (float(image.min()), float(image.max()))
    blend_windows(lambda window: np.ascontiguousarray(image[window]), matrices, out, limits=limits)
    return out


@pytest.mark.parametrize("interpolation", ORDERS)
@pytest.mark.parametrize("shape", SHAPES)
def test_it_is_what_skimage_computes(shape: Triple, interpolation: Interpolation) -> None:
    image = noise(*SHAPE)
    got = blended(image, resize_matrices(SHAPE, shape, [interpolation] * 3))
    np.testing.assert_allclose(got, by_skimage(image, shape, ORDERS[interpolation]), atol=2e-4)


@settings(max_examples=60, deadline=None)
@given(size=st.integers(1, 40), rows=st.integers(1, 60))
def test_borders_and_steps_of_any_size(size: int, rows: int) -> None:
    image = noise(size, 1, 1, seed=size)
    got = blended(image, resize_matrices(image.shape, (rows, 1, 1), [CUBIC] * 3))
    np.testing.assert_allclose(got, by_skimage(image, (rows, 1, 1), 3), atol=2e-4)


def test_the_spline_reaches_beyond_the_border_unclipped() -> None:
    image = np.zeros((6, 1, 1), np.float32)
    image[0] = 1
    matrices = resize_matrices((6, 1, 1), (18, 1, 1), [CUBIC] * 3)
    assert apply_matrices(image, matrices).max() > 1.02
    assert blended(image, matrices).max() == 1


def test_the_nearest_breaks_ties_as_map_coordinates() -> None:
    for size, rows in [(n, m) for n in range(1, 40) for m in range(1, 40)]:
        at = float(size) / rows * (np.arange(rows) + 0.5) - 0.5
        expected = map_coordinates(np.arange(size, dtype=float), [at], order=0, mode="nearest")
        matrix = resize_matrices((size, 1, 1), (rows, 1, 1), [NEAREST] * 3)[0]
        np.testing.assert_array_equal(matrix.first, expected)


def test_the_nearest_breaks_ties_as_torch() -> None:
    for size, rows in [(n, m) for n in range(1, 24) for m in (*range(1, 24), 41, 83, 109, 123)]:
        source = torch.arange(size, dtype=torch.float32)[None, None]
        expected = torch.nn.functional.interpolate(source, rows, mode="nearest-exact")[0, 0].numpy()
        matrix = resize_matrices((size, 1, 1), (rows, 1, 1), [NEAREST] * 3, single_precision=True)[0]
        np.testing.assert_array_equal(matrix.first, expected)


@pytest.mark.parametrize("shape", SHAPES)
def test_linear_is_what_torch_computes(shape: Triple) -> None:
    image = noise(*SHAPE)
    expected = torch.nn.functional.interpolate(torch.from_numpy(image)[None, None], shape, mode="trilinear")[0, 0]
    got = apply_matrices(image, resize_matrices(SHAPE, shape, [LINEAR] * 3))
    np.testing.assert_allclose(got, expected.numpy(), atol=2e-3)  # torch rounds positions to float32


@pytest.mark.parametrize("axis", [0, 1, 2])
@pytest.mark.parametrize("rows", [4, 7, 11, 40])
def test_slices_are_resized_one_by_one(axis: int, rows: int) -> None:
    image = np.moveaxis(noise(10, 9, 14), 0, axis)
    flat = np.stack([by_skimage(part, (13, 8), 3) for part in np.moveaxis(image, axis, 0)])
    at = 10 / rows * (np.arange(rows) + 0.5) - 0.5
    expected = np.moveaxis(flat[np.floor(at + 0.5).astype(int)], 0, axis)
    interpolations = [NEAREST if n == axis else CUBIC for n in range(3)]
    matrices = resize_matrices(image.shape, expected.shape, interpolations)
    got = np.empty(expected.shape, np.float32)
    blend_slices(lambda window: np.ascontiguousarray(image[window]), matrices, got, axis=axis, clip=True)
    np.testing.assert_allclose(got, expected, atol=2e-4)


def test_part_of_the_target_is_part_of_the_result() -> None:
    image = noise(*SHAPE)
    matrices = resize_matrices(SHAPE, (29, 9, 41), [CUBIC] * 3)
    i, j, k = (m.part(rows) for m, rows in zip(matrices, (slice(4, 19), slice(2, 8), slice(30, 41)), strict=True))
    np.testing.assert_array_equal(blended(image, (i, j, k)), blended(image, matrices)[4:19, 2:8, 30:])


def votes(labels: np.ndarray, shape: Triple) -> np.ndarray:
    """Slowly: the largest share, at a tie the closest voxel's label, or the lowest."""
    shares = np.stack([by_skimage(labels == value, shape, 1) for value in range(labels.max() + 1)])
    level = shares >= shares.max(0) - 1e-6
    closest = by_skimage(labels, shape, 0).astype(int)
    tied = np.take_along_axis(level, closest[None], 0)[0]
    return np.where(tied, closest, level.argmax(0))


@pytest.mark.parametrize("shape", [*SHAPES, (22, 14, 60), (33, 5, 15)])
def test_labels_are_voted_for(shape: Triple) -> None:
    labels = np.random.default_rng(5).integers(0, 4, SHAPE).astype(np.uint8)
    matrices, nearest = (resize_matrices(SHAPE, shape, [how] * 3) for how in (LINEAR, NEAREST))
    np.testing.assert_array_equal(vote_matrices(labels, matrices, nearest), votes(labels, shape))


def test_a_strided_label_map_gives_what_a_contiguous_one_does() -> None:
    labels = np.random.default_rng(6).integers(0, 3, SHAPE[::-1]).astype(np.uint8).T
    matrices, nearest = (resize_matrices(SHAPE, (9, 14, 31), [how] * 3) for how in (LINEAR, NEAREST))
    expected = vote_matrices(np.ascontiguousarray(labels), matrices, nearest)
    np.testing.assert_array_equal(vote_matrices(labels, matrices, nearest), expected)


def test_the_likeliest_class_is_that_of_interpolated_logits() -> None:
    logits = noise(4, *SHAPE)
    expected = np.stack([by_skimage(channel, (17, 5, 41), 1) for channel in logits]).argmax(0)
    got = argmax_matrices(logits, resize_matrices(SHAPE, (17, 5, 41), [LINEAR] * 3))
    assert (got == expected).mean() > 0.9999


def test_all_matrices_rise() -> None:
    for interpolation in ORDERS:
        for matrix in resize_matrices((30, 5, 12), (13, 20, 12), [interpolation] * 3):
            assert all(a <= b for a, b in pairwise(matrix.first))
            np.testing.assert_allclose(matrix.weights.sum(1), 1, atol=1e-6)
