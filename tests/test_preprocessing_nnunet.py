"""Preparing and restoring by nnU-Net's conventions, against a slow version of its own steps on scikit-image."""

from __future__ import annotations

import itertools
from dataclasses import replace

import numpy as np
import numpy.typing as npt
import pytest
from anatomy import LABELS, blob_case, oblique_grid, tiny_plan
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.ndimage import binary_fill_holes, map_coordinates
from skimage.transform import resize

from delineate.errors import GeometryMismatch, InputError, LabelError, PlanError
from delineate.geometry import ORIENTATIONS, Box, Grid, Triple, TripleMM, index_to_world
from delineate.labels import label_set
from delineate.planning import ClipZScore, Plan, Preparation, Region, Rescale, Unchanged, ZScore
from delineate.preprocessing import (
    logit_matrices,
    prepare,
    restore_labels,
    restore_logits,
    restore_probabilities,
)
from delineate.preprocessing.traces import slice_axis
from delineate.volume import Kind, Segmentation, Volume, reorient

ORDERS: tuple[Triple, ...] = tuple((i, j, k) for i, j, k in itertools.permutations(range(3)))
NNUNET = Preparation(crop_to="nonzero", normalise_first=True, resampling="nnunet", slice_wise="auto")
GRID = oblique_grid((20, 16, 12), (0.75, 1.25, 2.5))
OTHER_MM = (1.0, 0.875, 2.0)


def nnunet_plan(
    spacing_mm: TripleMM = OTHER_MM,
    *,
    axes: Triple = (0, 1, 2),
    changes: dict[str, object] | None = None,
    **more: object,
) -> Plan:
    preparation = {name: getattr(NNUNET, name) for name in NNUNET.__struct_fields__} | {"axes": axes} | (changes or {})
    values = {"orientation": "stored", "preparation": Preparation(**preparation)} | more
    return tiny_plan(spacing_mm=spacing_mm, **values)


def noisy_scan(seed: int = 0, grid: Grid = GRID, *, channels: int = 1, dtype: npt.DTypeLike = np.float32) -> Volume:
    """Surrounded by zeros, with a corner of zeros and a hole of zeros."""
    array = np.random.default_rng(seed).normal(300, 80, (channels, *grid.shape)).astype(dtype)
    array[:, :3], array[:, :, -2:], array[..., :1] = 0, 0, 0
    array[:, 8:11, 5:8, 4:7], array[:, :6, :5, :4] = 0, 0
    return Volume(array, grid, Kind.MR)


def crop_of(array: np.ndarray) -> tuple[slice, ...]:
    where = np.argwhere((array != 0).any(0))
    return tuple(slice(a, b + 1) for a, b in zip(where.min(0), where.max(0), strict=True))


def by_skimage(image: np.ndarray, shape: tuple[int, ...], order: int) -> np.ndarray:
    resized: np.ndarray = resize(image.astype(float), shape, order, mode="edge", anti_aliasing=False)  # type: ignore[no-untyped-call]
    return resized


def slowly(image: np.ndarray, shape: Triple, *, axis: int | None = None, order: int = 3) -> np.ndarray:
    if image.shape == tuple(shape):
        return image
    if axis is None:
        return by_skimage(image, shape, order)
    flat = tuple(n for a, n in enumerate(shape) if a != axis)
    slices = [by_skimage(part, flat, order) for part in np.moveaxis(image, axis, 0)]
    at = image.shape[axis] / shape[axis] * (np.arange(shape[axis]) + 0.5) - 0.5
    picked = map_coordinates(np.arange(float(len(slices))), [at], order=0, mode="nearest").astype(int)
    return np.moveaxis(np.stack(slices)[picked], 0, axis)


def new_shape(grid: Grid, shape: Triple, spacing_mm: TripleMM) -> Triple:
    old = [float(np.float32(mm)) for mm in np.round(grid.spacing_mm, 6)]
    i, j, k = (round(a / b * n) for a, b, n in zip(old, spacing_mm, shape, strict=True))
    return i, j, k


@pytest.mark.parametrize("orientation", ORIENTATIONS)
def test_labels_come_back_bit_exact_from_every_orientation_and_order(orientation: str) -> None:
    volume, reference = blob_case(3)
    volume, reference = reorient(volume, orientation), reorient(reference, orientation)
    for axes in ORDERS:
        i, j, k = (volume.grid.spacing_mm[axis] for axis in axes)
        plan = nnunet_plan((i, j, k), axes=axes)
        prepared = prepare("a", volume, reference, plan)
        assert prepared.image.shape[1:] == tuple(volume.grid.shape[axis] for axis in axes)
        np.testing.assert_array_equal(restore_labels(prepared.target, prepared.trace), reference.array)  # type: ignore[arg-type]


@settings(max_examples=30, deadline=None)
@given(
    axes=st.sampled_from(ORDERS),
    stored=st.sampled_from(ORIENTATIONS),
    wanted=st.sampled_from((*ORIENTATIONS, "stored")),
)
def test_prepared_voxels_stay_where_they_are_in_the_world(axes: Triple, stored: str, wanted: str) -> None:
    index = np.stack(np.meshgrid(*(np.arange(n) for n in GRID.shape), indexing="ij"), axis=-1)
    world = np.moveaxis(index_to_world(GRID, index), -1, 0)
    volume = reorient(Volume(world.astype(np.float32) + 1000, GRID, Kind.MR), stored)
    plan = nnunet_plan(
        (0.9, 1.1, 1.2),
        axes=axes,
        changes={"slice_wise": "never", "image_order": 1},
        orientation=wanted,
        channels=("x", "y", "z"),
        kinds=(Kind.MR,) * 3,
        normalisation=(Unchanged(),) * 3,
    )
    prepared = prepare("a", volume, None, plan)
    grid = prepared.trace.prepared
    inner = np.stack(np.meshgrid(*(np.arange(4, n - 4) for n in grid.shape), indexing="ij"), axis=-1)
    got = np.moveaxis(prepared.image, 0, -1)[4:-4, 4:-4, 4:-4] - 1000
    np.testing.assert_allclose(got, index_to_world(grid, inner), atol=2e-3)


@pytest.mark.parametrize("dtype", [np.float32, np.int16])
@pytest.mark.parametrize("spacing_mm", [OTHER_MM, (0.75, 1.25, 2.5), (1.5, 0.5, 2.5), (0.5, 3.0, 1.0)])
def test_a_scan_is_cropped_normalised_and_then_resampled(spacing_mm: TripleMM, dtype: npt.DTypeLike) -> None:
    volume = noisy_scan(1, dtype=dtype)
    cropped = volume.array[0][crop_of(volume.array)].astype(np.float32)
    scored = (cropped - cropped.mean(dtype=np.float64)) / cropped.std(dtype=np.float64)
    axis = slice_axis(GRID.spacing_mm, spacing_mm, nnunet_plan(spacing_mm))
    expected = slowly(scored, new_shape(GRID, scored.shape, spacing_mm), axis=axis)
    got = prepare("a", volume, None, nnunet_plan(spacing_mm)).image[0]
    assert got.shape == expected.shape
    np.testing.assert_allclose(got, expected, atol=2e-5)


@pytest.mark.parametrize("how", [Rescale(), ClipZScore(lower=150, upper=420, mean=280, std=60), Unchanged()])
def test_every_normalisation_is_clipped_to_its_own_range(how: Rescale | ClipZScore | Unchanged) -> None:
    volume = noisy_scan(2)
    got = prepare("a", volume, None, nnunet_plan((0.5, 0.7, 1.3), normalisation=(how,))).image
    same = prepare("a", volume, None, nnunet_plan((0.75, 1.25, 2.5), normalisation=(how,))).image
    assert same.min() <= got.min() <= got.max() <= same.max()
    assert got.shape != same.shape


def test_a_masked_zscore_is_taken_inside_the_filled_outline() -> None:
    volume = noisy_scan(3, channels=2)
    array = np.array(volume.array)
    array[1, 10:, :4] = 0  # the other channel fills what is 0 here
    window = crop_of(array)
    inside = binary_fill_holes((array != 0).any(0))[window]
    expected = [
        np.where(inside, (c - c[inside].mean()) / c[inside].std(), 0) for c in (array[n][window] for n in (0, 1))
    ]
    plan = nnunet_plan(
        (0.75, 1.25, 2.5), channels=("a", "b"), kinds=(Kind.MR,) * 2, normalisation=(ZScore(masked=True),) * 2
    )
    got = prepare("a", replace(volume, array=array), None, plan).image
    assert (~inside).any()
    np.testing.assert_allclose(got, expected, atol=1e-4)


def test_a_masked_zscore_needs_the_scans_own_voxels() -> None:
    plan = nnunet_plan(changes={"normalise_first": False}, normalisation=(ZScore(masked=True),))
    with pytest.raises(PlanError, match="masked Z-score"):
        prepare("a", noisy_scan(), None, plan)


def test_a_scan_of_zeros_is_kept_whole() -> None:
    empty = Volume(np.zeros((1, *GRID.shape), np.int16), GRID, Kind.MR)
    for how in (ZScore(masked=True), ZScore(), Rescale()):
        prepared = prepare("a", empty, None, nnunet_plan(normalisation=(how,)))
        assert prepared.trace.box.shape == GRID.shape
        assert not prepared.image.any()


def test_air_below_zero_is_not_cropped_away() -> None:
    array = np.full((1, *GRID.shape), -1000, np.int16)
    array[0, 5:9, 5:9, 5:9] = 40
    prepared = prepare("a", Volume(array, GRID, Kind.CT), None, nnunet_plan(kinds=(Kind.CT,)))
    assert prepared.trace.box.shape == GRID.shape


@pytest.mark.parametrize(
    ("source", "target", "expected"),
    [
        ((1, 1, 3), (1, 1, 1), None),  # three times is not more than three times
        ((1, 1, 3.1), (1, 1, 1), 2),
        ((1, 1, 1), (5, 1, 2), 0),
        ((5, 5, 1), (1, 1, 1), None),  # two coarse axes
        ((5, 5, 1), (1, 1, 9), None),  # the source decides
        ((1, 3.5, 1), (9, 1, 1), 1),
    ],
)
def test_slices_lie_across_the_one_coarse_axis(source: TripleMM, target: TripleMM, expected: int | None) -> None:
    assert slice_axis(source, target, nnunet_plan()) == expected


def test_an_oblique_axis_is_as_long_as_its_header_says() -> None:
    affine = oblique_grid((20, 16, 12), (1.0, 1.0, 3.0), degrees=17).affine.astype(np.float32).astype(float)
    volume = noisy_scan(4, Grid(GRID.shape, affine))
    assert max(volume.grid.spacing_mm) / min(volume.grid.spacing_mm) != 3
    cropped = volume.array[0][crop_of(volume.array)]
    plan = nnunet_plan((0.8, 0.9, 2.0), normalisation=(Unchanged(),))
    np.testing.assert_allclose(
        prepare("a", volume, None, plan).image[0],
        slowly(cropped, new_shape(volume.grid, cropped.shape, (0.8, 0.9, 2.0))),
        atol=5e-3,
    )


def test_two_dimensional_plans_keep_the_slices() -> None:
    volume = noisy_scan(5)
    plan = nnunet_plan((0.5, 0.5, 77.0), axes=(2, 0, 1), changes={"keep_slices": True})
    prepared = prepare("a", volume, None, plan)
    assert prepared.image.shape[3] == prepared.trace.box.shape[2] == 14
    assert prepared.trace.prepared.spacing_mm[2] == pytest.approx(1.25)


def test_the_torch_way_is_linear_and_keeps_slices_apart() -> None:
    torch = pytest.importorskip("torch")
    volume = noisy_scan(6, oblique_grid((20, 16, 12), (0.75, 1.25, 5.0)))
    how = {"resampling": "nnunet_torch", "image_order": 1}
    got = prepare("a", volume, None, nnunet_plan((0.6, 1.0, 3.0), changes=how, normalisation=(Unchanged(),))).image
    cropped = torch.from_numpy(np.array(volume.array[0][crop_of(volume.array)]))
    flat = torch.nn.functional.interpolate(cropped.permute(2, 0, 1)[None], got.shape[1:3], mode="bilinear")[0]
    full = torch.nn.functional.interpolate(flat.permute(1, 2, 0)[None, None], got.shape[1:], mode="nearest-exact")[0]
    np.testing.assert_allclose(got, full.numpy(), atol=1e-3)


@pytest.mark.parametrize("logits_order", [0, 1])
@pytest.mark.parametrize("spacing_mm", [OTHER_MM, (0.75, 4.9, 1.1), (1.5, 0.5, 2.5)])
def test_logits_are_interpolated_as_nnunet_does(spacing_mm: TripleMM, logits_order: int) -> None:
    volume = noisy_scan(7)
    plan = nnunet_plan(spacing_mm, changes={"logits_order": logits_order})
    trace = prepare("a", volume, None, plan).trace
    logits = np.random.default_rng(8).normal(0, 3, (3, *trace.prepared.shape)).astype(np.float32)
    axis = slice_axis(spacing_mm, GRID.spacing_mm, plan)
    classes = np.stack([slowly(c, trace.box.shape, axis=axis, order=logits_order) for c in logits]).argmax(0)
    expected = np.zeros(GRID.shape, np.uint8)
    expected[crop_of(volume.array)] = classes
    assert (restore_logits(logits, trace, plan) == expected).mean() > 0.9995


def test_regions_are_painted_in_their_order() -> None:
    regions = (Region(name="core", values=(1, 2), paints=2), Region(name="rim", values=(1,), paints=1))
    plan = nnunet_plan((0.75, 1.25, 2.5), regions=regions)
    volume = noisy_scan(9)
    trace = prepare("a", volume, None, plan).trace
    logits = np.full((2, *trace.prepared.shape), -1, np.float32)
    logits[0, 2:9], logits[1, 5:] = 1, 1
    painted = restore_logits(logits, trace, plan)[crop_of(volume.array)]
    assert [int(n) for n in np.unique(painted, axis=0)[:, 0, 0]] == [0, 1, 2]
    assert (painted[2:5] == 2).all()
    assert (painted[5:] == 1).all()


def test_no_structure_is_probable_outside_the_crop() -> None:
    regions = tuple(Region(name=name, values=(n,), paints=n) for n, name in enumerate(("core", "rim"), start=1))
    plan, volume = nnunet_plan(regions=regions), noisy_scan(10)
    trace = prepare("a", volume, None, plan).trace
    restored = restore_probabilities(np.ones((2, *trace.prepared.shape), np.float32), trace, plan)
    assert restored[:, :3].max() == 0
    assert restored[(slice(None), *crop_of(volume.array))].min() == 1


def previous_map(volume: Volume) -> Segmentation:
    array = np.random.default_rng(11).integers(0, 3, volume.grid.shape).astype(np.uint8)
    return Segmentation(array, volume.grid, LABELS)


def masks_slowly(labels: np.ndarray, shape: Triple, axis: int | None) -> np.ndarray:
    """Each label's mask linearly; the largest, at a tie the closest voxel's, or the lowest."""
    shares = np.stack([slowly(labels == value, shape, order=1, axis=axis) for value in range(4)])
    level = shares >= shares.max(0) - 1e-6
    closest = slowly(labels, shape, order=0, axis=axis).astype(int)
    winner = np.where(np.take_along_axis(level, closest[None], 0)[0], closest, level.argmax(0))
    return np.stack([winner == 2, winner == 3])


@pytest.mark.parametrize("spacing_mm", [OTHER_MM, (0.375, 1.25, 2.5), (0.75, 2.5, 1.0)])
def test_the_stage_before_comes_as_masks(spacing_mm: TripleMM) -> None:
    volume = noisy_scan(12)
    before = previous_map(volume)
    window = crop_of(volume.array)
    labels = before.array[window] + 1
    labels[(labels == 1) & ~binary_fill_holes((volume.array != 0).any(0))[window]] = 0
    plan = nnunet_plan(spacing_mm, previous=("core", "rim"))
    got = prepare("a", volume, None, plan, previous=before).image
    axis = slice_axis(GRID.spacing_mm, spacing_mm, plan)
    np.testing.assert_array_equal(got[1:], masks_slowly(labels, got.shape[1:], axis))


@pytest.mark.parametrize(("resampling", "is_lowest"), [("nnunet", False), ("nnunet_torch", True)])
def test_at_a_tie_torchs_way_takes_the_lowest_label(resampling: str, is_lowest: bool) -> None:
    volume = Volume(np.ones((1, *GRID.shape), np.float32), GRID, Kind.MR)
    i, j, k = (2 * mm for mm in GRID.spacing_mm)  # every voxel is made of eight, equally
    how = {"resampling": resampling, "image_order": 1, "slice_wise": "never"}
    plan = nnunet_plan((i, j, k), changes=how, previous=("core", "rim"))
    before = previous_map(volume)
    masks = prepare("a", volume, None, plan, previous=before).image[1:]
    eight = np.moveaxis(before.array.reshape(10, 2, 8, 2, 6, 2), (1, 3, 5), (0, 1, 2)).reshape(8, 10, 8, 6)
    lowest = np.stack([(eight == label).sum(0) for label in range(3)]).argmax(0)
    assert np.array_equal(masks[0] + 2 * masks[1], lowest) == is_lowest


def test_what_the_stage_before_found_where_the_scan_is_0_is_inside() -> None:
    array = np.array(noisy_scan(14).array)
    array[:, 6:14, 5:11, 4:] = 0  # open to one side: no hole
    volume = Volume(array, GRID, Kind.MR)
    found = np.zeros(GRID.shape, np.uint8)
    found[7:10, 6:10, 4:8] = 2
    before = Segmentation(found, GRID, LABELS)
    plan = nnunet_plan(GRID.spacing_mm, previous=("core", "rim"), normalisation=(ZScore(masked=True),))
    image = prepare("a", volume, None, plan, previous=before).image[0]
    inside = (binary_fill_holes((array != 0).any(0)) | (found > 0))[crop_of(array)]
    values = array[0][crop_of(array)]
    expected = np.where(inside, (values - values[inside].mean()) / values[inside].std(), values)
    np.testing.assert_allclose(image, expected, atol=1e-4)


def test_masks_follow_the_plans_order_and_orientation() -> None:
    volume, reference = blob_case(13)
    plan = nnunet_plan((2.5, 0.9, 1.2), axes=(2, 0, 1), previous=("rim", "core"))
    masks = prepare("a", volume, None, plan, previous=reorient(reference, "SRA")).image[1:]
    for mask, name in zip(masks, ("rim", "core"), strict=True):
        np.testing.assert_array_equal(mask, reference.mask(name).transpose(2, 0, 1))


def test_a_cascade_needs_its_first_stage() -> None:
    volume, plan = noisy_scan(), nnunet_plan(previous=("core", "rim"))
    with pytest.raises(PlanError, match=r"second stage.*core, rim"):
        prepare("a", volume, None, plan)
    elsewhere = replace(previous_map(volume), grid=oblique_grid(GRID.shape))
    with pytest.raises(GeometryMismatch, match="do not lie in the same place"):
        prepare("a", volume, None, plan, previous=elsewhere)
    other = replace(previous_map(volume), labels=label_set({1: "core", 2: "liver"}))
    with pytest.raises(LabelError, match="no such label"):
        prepare("a", volume, None, plan, previous=other)


REGION = Box((6, 4, 2), (15, 14, 9))
WAYS = [
    nnunet_plan(OTHER_MM, axes=(2, 0, 1)),
    nnunet_plan((0.5, 4.9, 1.1), normalisation=(ZScore(masked=True),)),
    nnunet_plan((1.5, 0.5, 2.5), orientation="SRA", normalisation=(Rescale(),)),
    tiny_plan(spacing_mm=(1.1, 1.7, 2.0), orientation="PIL"),
    tiny_plan(spacing_mm=(0.6, 0.7, 1.3), normalisation=(Rescale(),), orientation="LAS"),
]


@pytest.mark.parametrize("plan", WAYS)
def test_a_region_is_prepared_to_the_values_it_has_in_the_whole(plan: Plan) -> None:
    volume = noisy_scan(14)
    whole, part = (prepare("a", volume, None, plan, region=region) for region in (None, REGION))
    np.testing.assert_array_equal(part.image, whole.image[(slice(None), *part.trace.part.slices)])
    assert part.image.size < 0.7 * whole.image.size
    assert part.trace.prepared.shape == part.image.shape[1:]


@pytest.mark.parametrize("plan", WAYS)
def test_a_region_is_restored_as_in_the_whole(plan: Plan) -> None:
    volume = noisy_scan(15)
    whole, part = (prepare("a", volume, None, plan, region=region).trace for region in (None, REGION))
    logits = np.random.default_rng(16).normal(0, 3, (3, *whole.prepared.shape)).astype(np.float32)
    expected = np.zeros(GRID.shape, np.uint8)
    expected[REGION.slices] = restore_logits(logits, whole, plan)[REGION.slices]
    got = restore_logits(logits[(slice(None), *part.part.slices)], part, plan)
    np.testing.assert_array_equal(got, expected)
    assert got.any()


def test_a_region_without_the_patient_is_refused() -> None:
    with pytest.raises(InputError, match=r"outside the patient.*\(0, 0, 0\) to \(2, 16, 12\)"):
        prepare("a", noisy_scan(), None, nnunet_plan(), region=Box((0, 0, 0), (2, 16, 12)))


def test_the_way_back_takes_only_what_was_prepared() -> None:
    volume, plan = noisy_scan(17), nnunet_plan()
    trace = prepare("a", volume, None, plan, region=REGION).trace
    for matrix, size, rows in zip(logit_matrices(trace, plan), trace.prepared.shape, trace.box.shape, strict=True):
        assert (matrix.size, matrix.rows) == (size, rows)
        assert 0 <= matrix.needed.start < matrix.needed.stop <= size


def test_a_mapped_scan_is_prepared_in_its_order_on_disk(tmp_path) -> None:  # type: ignore[no-untyped-def]
    volume = noisy_scan(18, dtype=np.int16)
    mapped = np.memmap(tmp_path / "scan", np.int16, "w+", shape=volume.array.shape, order="F")
    mapped[:] = volume.array
    made: list[tuple[int, ...]] = []

    def allocate(shape: tuple[int, ...], dtype: npt.DTypeLike) -> np.ndarray:
        made.append(shape)
        return np.empty(shape, dtype)

    plan = nnunet_plan(axes=(1, 2, 0), normalisation=(ZScore(masked=True),))
    got = prepare("a", replace(volume, array=mapped), None, plan, allocate=allocate)
    assert made == [got.image.shape]
    np.testing.assert_allclose(got.image, prepare("a", volume, None, plan).image, atol=1e-5)
