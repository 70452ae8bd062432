"""Resampling against SciPy's spline evaluated voxel by voxel, SimpleITK, and what must hold for any grids."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from itertools import product
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage
from scipy.spatial.transform import Rotation

from delineate import resampling
from delineate.errors import GeometryMismatch
from delineate.geometry import (
    Box,
    Grid,
    axis_change,
    change_axes,
    compose_affine,
    crop_grid,
    index_to_world,
    reshape_grid,
    respace_grid,
    world_to_index,
)
from delineate.resampling import (
    Interpolation,
    apply_matrices,
    axis_matrices,
    resample,
    resample_anywhere,
    resample_argmax,
    resample_argmax_torch,
    resample_labels,
    resample_slabs,
    resample_torch,
)

Array = npt.NDArray[Any]

OBLIQUE = Rotation.from_euler("xyz", (12, -25, 40), degrees=True).as_matrix()
SOURCE = Grid((13, 17, 8), compose_affine(OBLIQUE * (0.9, 0.8, 2.5), (-40.0, 15.0, 7.0)))
FINER = respace_grid(SOURCE, (0.7, 0.5, 1.1))
COARSER = respace_grid(SOURCE, (1.6, 2.1, 4.0))
MIXED = respace_grid(SOURCE, (1.7, 0.6, 1.3))
SHIFTED = crop_grid(MIXED, Box((2, -3, 1), (9, 15, 20)))
TARGETS = (FINER, COARSER, MIXED, SHIFTED)
SMOOTH = (Interpolation.LINEAR, Interpolation.CUBIC)
ORDERS = {Interpolation.NEAREST: 0, Interpolation.LINEAR: 1, Interpolation.CUBIC: 3}


def noise(*shape: int, seed: int = 0) -> npt.NDArray[np.float32]:
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def positions_in(source: Grid, target: Grid) -> npt.NDArray[np.float64]:
    """(3, I, J, K): the continuous source index of every target voxel."""
    index = np.stack(np.meshgrid(*(np.arange(n) for n in target.shape), indexing="ij"), axis=-1)
    return np.moveaxis(world_to_index(source, index_to_world(target, index)), -1, 0)


def resample_naively(array: Array, source: Grid, target: Grid, interpolation: Interpolation) -> Array:
    """Every target voxel on its own: position in the world, clamped to the source's centres, SciPy's spline."""
    limits = np.reshape(source.shape, (3, 1, 1, 1)) - 1
    positions = np.clip(positions_in(source, target).round(9), 0, limits)
    if interpolation is Interpolation.NEAREST:
        positions = np.floor(positions + 0.5)
    order = ORDERS[interpolation]
    return np.asarray(ndimage.map_coordinates(array.astype(np.float64), positions, order=order, mode="mirror"))


def vote_naively(labels: Array, source: Grid, target: Grid) -> tuple[Array, Array]:
    """The label with the largest interpolated mask, and by how much it is the largest."""
    masks = [resample_naively(labels == v, source, target, Interpolation.LINEAR) for v in np.unique(labels)]
    ordered = np.sort(masks, axis=0)
    return np.unique(labels)[np.argmax(masks, axis=0)], ordered[-1] - ordered[-2]


def world_ramp(grid: Grid) -> Array:
    """3 + 2x - y + 0.5z of every voxel's world position in mm."""
    index = np.stack(np.meshgrid(*(np.arange(n) for n in grid.shape), indexing="ij"), axis=-1)
    return np.asarray(3 + index_to_world(grid, index) @ (2.0, -1.0, 0.5))


def patches(shape: tuple[int, int, int], *, values: tuple[int, ...], seed: int = 0) -> npt.NDArray[np.uint8]:
    coarse = np.random.default_rng(seed).choice(values, size=tuple((n + 2) // 3 for n in shape))
    i, j, k = (slice(0, n) for n in shape)
    return np.kron(coarse, np.ones((3, 3, 3))).astype(np.uint8)[i, j, k]


@pytest.mark.parametrize("interpolation", Interpolation)
@pytest.mark.parametrize("target", TARGETS)
def test_agrees_with_every_voxel_on_its_own(target: Grid, interpolation: Interpolation) -> None:
    array = noise(*SOURCE.shape)
    got = resample(array, SOURCE, target, interpolation=interpolation, anti_alias=False)
    assert got.dtype == np.float32
    np.testing.assert_allclose(got, resample_naively(array, SOURCE, target, interpolation), atol=3e-6)


@pytest.mark.parametrize("interpolation", Interpolation)
def test_agrees_with_simpleitk_inside_the_outermost_centres(interpolation: Interpolation) -> None:
    sitk = pytest.importorskip("SimpleITK")
    methods = {"nearest": sitk.sitkNearestNeighbor, "linear": sitk.sitkLinear, "cubic": sitk.sitkBSpline}
    array = noise(*SOURCE.shape)
    images = []
    for grid, values in ((SOURCE, array), (SHIFTED, np.zeros(SHIFTED.shape, np.float32))):
        image = sitk.GetImageFromArray(values.T)
        image.SetSpacing(grid.spacing_mm)
        image.SetOrigin(grid.origin_mm)
        image.SetDirection(grid.direction.ravel().tolist())
        images.append(image)
    theirs = sitk.GetArrayFromImage(sitk.Resample(*images, sitk.Transform(), methods[interpolation.value], 0.0)).T
    positions = positions_in(SOURCE, SHIFTED)
    inside = ((positions >= 0) & (positions <= np.reshape(SOURCE.shape, (3, 1, 1, 1)) - 1)).all(axis=0)
    if interpolation is Interpolation.NEAREST:  # at a tie, rounding errors decide in ITK
        inside &= (np.abs(positions % 1 - 0.5) > 1e-6).all(axis=0)
    ours = resample(array, SOURCE, SHIFTED, interpolation=interpolation, anti_alias=False)
    assert inside.sum() > 500
    np.testing.assert_allclose(ours[inside], theirs[inside], atol=2e-5)


@pytest.mark.parametrize("interpolation", Interpolation)
def test_the_same_grid_gives_equal_values(interpolation: Interpolation) -> None:
    array = noise(2, *SOURCE.shape)
    assert np.array_equal(resample(array, SOURCE, SOURCE, interpolation=interpolation), array)


@pytest.mark.parametrize("interpolation", Interpolation)
def test_a_crop_of_the_same_voxels_gives_equal_values(interpolation: Interpolation) -> None:
    array, box = noise(*SOURCE.shape), Box((2, 3, 1), (11, 9, 7))
    got = resample(array, SOURCE, crop_grid(SOURCE, box), interpolation=interpolation)
    assert np.array_equal(got, array[box.slices])


@pytest.mark.parametrize("interpolation", Interpolation)
@pytest.mark.parametrize("target", TARGETS)
def test_a_constant_stays(target: Grid, interpolation: Interpolation) -> None:
    got = resample(np.full(SOURCE.shape, -1000, np.int16), SOURCE, target, interpolation=interpolation)
    np.testing.assert_allclose(got, -1000, rtol=1e-6)


LONG = Grid((70, 60, 80), SOURCE.affine)


@pytest.mark.parametrize("interpolation", SMOOTH)
@pytest.mark.parametrize("anti_alias", [False, True])
@pytest.mark.parametrize("target", [respace_grid(LONG, (1.3, 0.7, 3.1)), reshape_grid(LONG, (48, 70, 65))])
def test_a_ramp_in_world_millimetres_stays(target: Grid, interpolation: Interpolation, anti_alias: bool) -> None:
    got = resample(world_ramp(LONG), LONG, target, interpolation=interpolation, anti_alias=anti_alias)
    reach = 20 if interpolation is Interpolation.CUBIC else 2
    positions = positions_in(LONG, target)
    ends = np.reshape(LONG.shape, (3, 1, 1, 1)) - 1
    deep = (np.minimum(positions, ends - positions) > reach).all(axis=0)
    assert deep.any()
    np.testing.assert_allclose(got[deep], world_ramp(target)[deep], atol=1e-3)


@pytest.mark.parametrize("interpolation", SMOOTH)
def test_outside_the_extent_is_the_edge_or_the_fill(interpolation: Interpolation) -> None:
    array = noise(*SOURCE.shape)
    target = crop_grid(SOURCE, Box((-2, 0, 0), SOURCE.shape))
    edge = resample(array, SOURCE, target, interpolation=interpolation)
    filled = resample(array, SOURCE, target, interpolation=interpolation, fill=-7)
    assert np.array_equal(edge[:2], np.broadcast_to(array[0], (2, *array.shape[1:])))
    assert (filled[:2] == -7).all()
    assert np.array_equal(filled[2:], array)


def test_a_target_wholly_outside_is_filled() -> None:
    target = crop_grid(SOURCE, Box((40, 0, 0), (45, 6, 3)))
    assert (resample(noise(*SOURCE.shape), SOURCE, target, fill=5) == 5).all()
    assert (resample_argmax(noise(3, *SOURCE.shape), SOURCE, target, fill=2) == 2).all()


def test_fill_changes_nothing_inside_the_extent() -> None:
    array = noise(*SOURCE.shape)
    plain, filled = (resample(array, SOURCE, SHIFTED, fill=fill) for fill in (None, np.nan))
    inside = np.isfinite(filled)
    limits = np.reshape(SOURCE.shape, (3, 1, 1, 1)) - 0.5
    positions = positions_in(SOURCE, SHIFTED)
    assert np.array_equal(inside, ((positions >= -0.5) & (positions <= limits)).all(axis=0))
    assert np.array_equal(plain[inside], filled[inside])


@pytest.mark.parametrize("interpolation", SMOOTH)
def test_a_shrunk_checkerboard_turns_grey(interpolation: Interpolation) -> None:
    board = np.indices((48, 40, 36)).sum(axis=0) % 2 * 2.0 - 1.0
    source = Grid(board.shape, SOURCE.affine)
    target = respace_grid(source, tuple(1.7 * s for s in source.spacing_mm))
    plain, fine = (resample(board, source, target, interpolation=interpolation, anti_alias=a) for a in (False, True))
    middle = np.s_[3:-3, 3:-3, 3:-3]
    assert np.abs(plain[middle]).max() > 0.2
    assert np.abs(fine[middle]).max() < 0.01


@pytest.mark.parametrize("interpolation", SMOOTH)
@pytest.mark.parametrize("excess", [1e-15, 1e-9, 1e-5])
def test_a_spacing_hardly_larger_changes_hardly_anything(excess: float, interpolation: Interpolation) -> None:
    target = Grid(SOURCE.shape, SOURCE.affine @ np.diag((1 + excess, 1 + excess, 1 + excess, 1)))
    array = noise(*SOURCE.shape)
    np.testing.assert_allclose(resample(array, SOURCE, target, interpolation=interpolation), array, atol=3e-3)


@pytest.mark.parametrize("interpolation", SMOOTH)
def test_anti_aliasing_leaves_axes_that_do_not_shrink_alone(interpolation: Interpolation) -> None:
    plain, fine = (axis_matrices(SOURCE, MIXED, interpolation=interpolation, anti_alias=a) for a in (False, True))
    assert [np.array_equal(a.dense(), b.dense()) for a, b in zip(plain, fine, strict=True)] == [False, True, True]


def test_the_bands_are_the_whole_matrices() -> None:
    array = noise(*SOURCE.shape)
    matrices = axis_matrices(SOURCE, SHIFTED, interpolation=Interpolation.CUBIC)
    whole = np.einsum("ai,bj,ck,ijk->abc", *(m.dense() for m in matrices), array)
    np.testing.assert_allclose(apply_matrices(array, matrices), whole, atol=1e-5)


def test_a_cubic_row_on_a_voxel_does_not_cut_its_neighbours_short() -> None:
    source = Grid((40, 5, 4), np.eye(4))
    target = Grid((70, 5, 4), compose_affine(np.diag((0.5, 1, 1)), (2.0, 0, 0)))
    array = noise(*source.shape)
    got = resample(array, source, target, interpolation=Interpolation.CUBIC)
    np.testing.assert_allclose(got, resample_naively(array, source, target, Interpolation.CUBIC), atol=3e-6)
    assert np.array_equal(got[::2], array[2:37])


@pytest.mark.parametrize("dtype", [np.int16, np.float64, ">f4", np.float16, bool])
@pytest.mark.parametrize("order", ["C", "F"])
def test_any_type_and_memory_order_will_do(dtype: str, order: Any) -> None:
    array = (100 * noise(*SOURCE.shape)).astype(dtype, order=order)
    expected = resample(np.ascontiguousarray(array, np.float32), SOURCE, MIXED)
    assert np.array_equal(resample(array, SOURCE, MIXED), expected)


def test_leading_axes_are_resampled_one_by_one() -> None:
    array = noise(2, 3, *SOURCE.shape)
    got = resample(array, SOURCE, MIXED)
    assert got.shape == (2, 3, *MIXED.shape)
    assert np.array_equal(got[1, 2], resample(array[1, 2], SOURCE, MIXED))


def test_arguments_are_not_changed() -> None:
    array = noise(*SOURCE.shape)
    before = array.copy()
    resample(array, SOURCE, SOURCE)[...] = 0
    assert np.array_equal(array, before)
    assert array.flags.writeable


shapes = st.tuples(*(st.integers(1, 12) for _ in range(3)))
spacings = st.tuples(*(st.floats(0.4, 4.0) for _ in range(3)))


@settings(max_examples=30, deadline=None)
@given(shapes, spacings, spacings, st.sampled_from(Interpolation), st.integers(0, 2), st.integers(1, 7))
def test_slabs_joined_are_exactly_the_whole(
    shape: Any, spacing: Any, wanted: Any, interpolation: Interpolation, axis: int, planes: int
) -> None:
    source = Grid(shape, compose_affine(OBLIQUE * spacing, (1, 2, 3)))
    matrices = axis_matrices(source, respace_grid(source, wanted), interpolation=interpolation)
    array = noise(2, *shape)
    slabs = list(resample_slabs(array, matrices, axis=axis, planes=planes))
    joined = np.concatenate([slab for _, slab in slabs], axis=1 + axis)
    assert np.array_equal(joined, apply_matrices(array, matrices))
    assert [n for rows, _ in slabs for n in range(rows.start, rows.stop)] == list(range(matrices[axis].rows))


@settings(max_examples=40, deadline=None)
@given(shapes, spacings, spacings, st.sampled_from(Interpolation))
def test_any_grids_agree_with_every_voxel_on_its_own(
    shape: Any, spacing: Any, wanted: Any, interpolation: Interpolation
) -> None:
    source = Grid(shape, compose_affine(OBLIQUE * spacing, (1, 2, 3)))
    target, array = respace_grid(source, wanted), noise(*shape)
    got = resample(array, source, target, interpolation=interpolation, anti_alias=False)
    np.testing.assert_allclose(got, resample_naively(array, source, target, interpolation), atol=1e-5)


@pytest.mark.parametrize("threads", [1, 2])
def test_the_number_of_threads_changes_nothing(threads: int, monkeypatch: pytest.MonkeyPatch) -> None:
    source = Grid((40, 9, 7), SOURCE.affine)
    target = respace_grid(source, (0.5, 1.1, 1.0))
    expected = resample_naively(noise(*source.shape), source, target, Interpolation.LINEAR)
    monkeypatch.setattr(resampling.arrays, "_threads", 0)
    resampling.set_threads(threads)
    np.testing.assert_allclose(resample(noise(*source.shape), source, target, anti_alias=False), expected, atol=3e-6)


def test_a_negative_number_of_threads_is_refused() -> None:
    with pytest.raises(ValueError, match="cannot be negative: -1"):
        resampling.set_threads(-1)


def test_grids_at_an_angle_are_refused() -> None:
    turned = replace(
        SOURCE, affine=compose_affine(Rotation.from_euler("z", 0.001).as_matrix(), (0, 0, 0)) @ SOURCE.affine
    )
    with pytest.raises(GeometryMismatch, match=r"not parallel.*Reorient"):
        axis_matrices(SOURCE, turned)


def test_reversed_axes_are_refused() -> None:
    flipped = replace(SOURCE, affine=SOURCE.affine @ np.diag((-1.0, 1, 1, 1)))
    with pytest.raises(GeometryMismatch, match="not parallel"):
        resample(noise(*SOURCE.shape), SOURCE, flipped)


def test_rounding_errors_of_a_header_are_no_angle() -> None:
    rounded = replace(SOURCE, affine=SOURCE.affine.astype(np.float32).astype(np.float64))
    array = noise(*SOURCE.shape)
    np.testing.assert_allclose(resample(array, SOURCE, rounded), array, atol=1e-4)


def test_an_array_that_does_not_fit_its_grid_is_refused() -> None:
    for function in (resample, resample_labels, resample_argmax):
        array = np.zeros((2, 8, 17, 13), np.uint8)
        with pytest.raises(GeometryMismatch, match=r"does not fit its grid.*\(13, 17, 8\)"):
            function(array, SOURCE, MIXED)


def test_matrices_of_other_arrays_are_refused() -> None:
    with pytest.raises(ValueError, match=r"for arrays \(..., I, J, K\) of \(13, 17, 8\)"):
        apply_matrices(noise(13, 8, 17), axis_matrices(SOURCE, MIXED))


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.int32, ">u2"])
@pytest.mark.parametrize("interpolation", [Interpolation.NEAREST, Interpolation.LINEAR])
@pytest.mark.parametrize("target", TARGETS)
def test_labels_keep_their_type_and_invent_no_value(target: Grid, interpolation: Interpolation, dtype: str) -> None:
    labels = patches(SOURCE.shape, values=(0, 3, 7, 200)).astype(dtype)
    got = resample_labels(labels, SOURCE, target, interpolation=interpolation)
    assert got.dtype == np.dtype(dtype).newbyteorder("=")
    assert set(np.unique(got)) <= {0, 3, 7, 200}


@pytest.mark.parametrize("target", TARGETS)
def test_nearest_labels_are_the_closest_voxels(target: Grid) -> None:
    labels = patches(SOURCE.shape, values=(0, 3, 7))
    expected = resample_naively(labels, SOURCE, target, Interpolation.NEAREST)
    assert np.array_equal(resample_labels(labels, SOURCE, target), expected)


@pytest.mark.parametrize("target", TARGETS)
def test_linear_labels_are_the_largest_of_the_interpolated_masks(target: Grid) -> None:
    labels = patches(SOURCE.shape, values=(0, 3, 7, 9))
    expected, lead = vote_naively(labels, SOURCE, target)
    got = resample_labels(labels, SOURCE, target, interpolation=Interpolation.LINEAR)
    assert np.array_equal(got[lead > 1e-5], expected[lead > 1e-5])
    assert (lead > 1e-5).mean() > 0.9


def test_linear_labels_that_tie_go_to_the_lower_value() -> None:
    source = Grid((2, 1, 1), np.eye(4))
    between = Grid((1, 1, 1), compose_affine(np.eye(3), (0.5, 0, 0)))
    for values in ((4, 9), (9, 4)):
        labels = np.array(values, np.uint8).reshape(2, 1, 1)
        assert resample_labels(labels, source, between, interpolation=Interpolation.LINEAR).item() == 4


def test_masks_are_cut_at_a_half() -> None:
    masks = np.stack([patches(SOURCE.shape, values=(0, 1), seed=seed).astype(bool) for seed in (1, 2)])
    got = resample_labels(masks, SOURCE, MIXED, interpolation=Interpolation.LINEAR)
    values = resample(masks, SOURCE, MIXED, anti_alias=False)
    clear = np.abs(values - 0.5) > 1e-5
    assert got.dtype == bool
    assert np.array_equal(got[clear], values[clear] > 0.5)


def test_labels_outside_are_filled() -> None:
    labels = patches(SOURCE.shape, values=(2, 5))
    target = crop_grid(SOURCE, Box((0, 0, -2), SOURCE.shape))
    for interpolation in (Interpolation.NEAREST, Interpolation.LINEAR):
        got = resample_labels(labels, SOURCE, target, interpolation=interpolation, fill=0)
        assert (got[..., :2] == 0).all()
        assert np.array_equal(got[..., 2:], labels)


def test_cubic_labels_are_refused() -> None:
    with pytest.raises(ValueError, match="NEAREST or LINEAR, not CUBIC"):
        resample_labels(np.zeros(SOURCE.shape, np.uint8), SOURCE, MIXED, interpolation=Interpolation.CUBIC)


def test_labels_that_are_no_integers_are_refused() -> None:
    with pytest.raises(TypeError, match="integers or bools, not float32"):
        resample_labels(noise(*SOURCE.shape), SOURCE, MIXED)


@pytest.mark.parametrize("dtype", [np.float32, np.float16, np.float64])
@pytest.mark.parametrize("target", TARGETS)
def test_argmax_is_that_of_the_resampled_logits(target: Grid, dtype: type) -> None:
    logits = ndimage.gaussian_filter(noise(5, *SOURCE.shape), (0, 1, 1, 1)).astype(dtype)
    whole = resample(logits, SOURCE, target, anti_alias=False)
    ordered = np.sort(whole, axis=0)
    clear = ordered[-1] - ordered[-2] > 1e-5
    got = resample_argmax(logits, SOURCE, target)
    assert got.dtype == np.uint8
    assert np.array_equal(got[clear], whole.argmax(axis=0)[clear])
    assert clear.mean() > 0.99


def test_argmax_in_slabs_of_one_plane_is_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    logits = noise(4, *SOURCE.shape)
    expected = resample_argmax(logits, SOURCE, SHIFTED)
    monkeypatch.setattr(resampling.streams, "SLAB_BYTES", 1)
    assert np.array_equal(resample_argmax(logits.astype(np.float64), SOURCE, SHIFTED), expected)


def test_argmax_finds_a_class_that_is_nowhere_the_largest() -> None:
    source = Grid((2, 1, 1), np.eye(4))
    between = Grid((1, 1, 1), compose_affine(np.eye(3), (0.5, 0, 0)))
    logits = np.array([[5, -5], [-5, 5], [4, 4]], np.float32).reshape(3, 2, 1, 1)
    assert resample_argmax(logits, source, between).item() == 2


def test_argmax_of_equal_logits_is_the_lowest_class() -> None:
    assert (resample_argmax(np.ones((3, *SOURCE.shape), np.float32), SOURCE, MIXED) == 0).all()


def test_argmax_counts_beyond_256_classes() -> None:
    logits = np.zeros((300, 3, 2, 4), np.float32)
    logits[299] = 1
    source = Grid((3, 2, 4), np.eye(4))
    got = resample_argmax(logits, source, reshape_grid(source, (5, 3, 4)))
    assert got.dtype == np.uint16
    assert (got == 299).all()


def test_logits_without_classes_are_refused() -> None:
    with pytest.raises(ValueError, match=r"\(C, I, J, K\) with at least one class"):
        resample_argmax(noise(*SOURCE.shape), SOURCE, MIXED)


@pytest.mark.parametrize("interpolation", Interpolation)
@pytest.mark.parametrize("fill", [None, 3.0])
def test_torch_gives_the_same_numbers(interpolation: Interpolation, fill: float | None) -> None:
    torch = pytest.importorskip("torch")
    array = noise(2, *SOURCE.shape)
    expected = resample(array, SOURCE, SHIFTED, interpolation=interpolation, fill=fill)
    got = resample_torch(torch.from_numpy(array), SOURCE, SHIFTED, interpolation=interpolation, fill=fill)
    np.testing.assert_allclose(got.numpy(), expected, atol=1e-5)


@pytest.mark.parametrize(("fill", "slab_bytes"), list(product([None, 2], [1, 2**28])))
def test_torch_gives_the_same_argmax(fill: int | None, slab_bytes: int, monkeypatch: pytest.MonkeyPatch) -> None:
    torch = pytest.importorskip("torch")
    monkeypatch.setattr(resampling.tensors, "SLAB_BYTES", slab_bytes)
    logits = noise(4, *SOURCE.shape)
    got = resample_argmax_torch(torch.from_numpy(logits), SOURCE, SHIFTED, fill=fill)
    assert got.dtype == torch.uint8
    assert np.array_equal(got.numpy(), resample_argmax(logits, SOURCE, SHIFTED, fill=fill))


@pytest.mark.gpu
def test_a_gpu_gives_the_same_numbers() -> None:
    torch = pytest.importorskip("torch")
    if not torch.cuda.is_available():
        pytest.skip("no GPU")
    array = noise(4, *SOURCE.shape)
    expected = resample(array, SOURCE, MIXED, interpolation=Interpolation.CUBIC)
    tensor = torch.from_numpy(array).cuda()
    got = resample_torch(tensor, SOURCE, MIXED, interpolation=Interpolation.CUBIC)
    np.testing.assert_allclose(got.cpu().numpy(), expected, atol=1e-5)
    labels = resample_argmax_torch(tensor, SOURCE, MIXED).cpu().numpy()
    assert np.array_equal(labels, resample_argmax(array, SOURCE, MIXED))


def test_importing_it_imports_neither_torch_nor_numba() -> None:
    code = "import sys, delineate.resampling; sys.exit('torch' in sys.modules or 'numba' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def ramp(grid: Grid) -> npt.NDArray[np.float32]:
    """Three different slopes along the world's axes: any wrong place shows."""
    index = np.stack(np.meshgrid(*(np.arange(n) for n in grid.shape), indexing="ij"), axis=-1)
    return np.asarray(index_to_world(grid, index) @ [1.0, -2.0, 0.5], dtype=np.float32)


def turned_grid(degrees: float, shape: tuple[int, int, int], spacing: tuple[float, float, float]) -> Grid:
    c, s = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    return Grid(shape, compose_affine(np.array([[c, 0, s], [0, 1, 0], [-s, 0, c]]) * spacing, (-6.0, -5.0, -4.0)))


@pytest.mark.parametrize("orientation", ["LPS", "SAR", "PIL"])
def test_a_ramp_stays_a_ramp_on_a_rotated_grid(orientation: str) -> None:
    source = turned_grid(25, (40, 30, 36), (0.8, 1.1, 0.9))
    middle = index_to_world(source, (19.5, 14.5, 17.5))
    target = Grid((6, 7, 5), compose_affine(np.diag([1.0, 1.2, 1.5]), middle - (2.5, 3.6, 3.0)))
    target = change_axes(target, axis_change(target.orientation, orientation))
    found = resample_anywhere(ramp(source), source, target, fill=-99.0)
    np.testing.assert_allclose(found, ramp(target), atol=2e-4)


def test_what_the_rotated_source_does_not_reach_is_filled() -> None:
    source = turned_grid(25, (10, 10, 10), (1.0, 1.0, 1.0))
    target = Grid((60, 60, 60), compose_affine(np.eye(3), (-30.0, -30.0, -30.0)))
    found = resample_anywhere(np.ones(source.shape, dtype=np.float32), source, target, fill=-99.0)
    assert set(np.unique(found).tolist()) <= {-99.0, 1.0}
    assert np.count_nonzero(found == 1.0) == pytest.approx(1000, rel=0.02)


def test_parallel_grids_go_axis_by_axis() -> None:
    source, target = turned_grid(0, (12, 14, 10), (1.0, 1.0, 2.0)), turned_grid(0, (6, 7, 10), (2.0, 2.0, 2.0))
    turned = change_axes(source, axis_change("LPS", "RAI"))
    image = ramp(turned)
    expected = resample(ramp(source), source, target, fill=0.0)
    np.testing.assert_allclose(resample_anywhere(image, turned, target, fill=0.0), expected, atol=1e-5)
