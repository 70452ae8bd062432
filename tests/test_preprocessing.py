from dataclasses import replace

import numpy as np
import pytest
from anatomy import blob_case, oblique_grid, tiny_plan
from hypothesis import given, settings
from hypothesis import strategies as st

from delineate.errors import GeometryMismatch, InputError, PlanError
from delineate.geometry import ORIENTATIONS, Grid, index_to_world
from delineate.planning import ClipZScore, Rescale, Window, ZScore
from delineate.preprocessing import normalise, prepare, restore_labels, restore_logits, restore_probabilities
from delineate.resampling import Interpolation, resample
from delineate.volume import Kind, Segmentation, Volume, reorient

SAME_SPACING = tiny_plan(spacing_mm=(0.9, 1.2, 2.5))


def turned_case(seed: int, orientation: str) -> tuple[Volume, Segmentation]:
    volume, reference = blob_case(seed)
    return reorient(volume, orientation), reorient(reference, orientation)


@pytest.mark.parametrize("orientation", ORIENTATIONS)
def test_a_mask_comes_back_bit_exact_from_every_orientation(orientation: str) -> None:
    volume, reference = turned_case(3, orientation)
    spacing = reorient(volume, "RAS").grid.spacing_mm
    prepared = prepare("a", volume, reference, tiny_plan(spacing_mm=spacing))
    assert prepared.target is not None
    np.testing.assert_array_equal(restore_labels(prepared.target, prepared.trace), reference.array)


@settings(max_examples=25, deadline=None)
@given(spacing=st.tuples(*[st.floats(0.7, 1.2)] * 3), orientation=st.sampled_from(ORIENTATIONS))
def test_a_resampled_mask_comes_back_in_place(spacing: tuple[float, float, float], orientation: str) -> None:
    volume, reference = turned_case(4, orientation)
    prepared = prepare("a", volume, reference, tiny_plan(spacing_mm=spacing))
    assert prepared.target is not None
    restored = restore_labels(prepared.target, prepared.trace)
    for value in (1, 2):
        before, after = (np.argwhere(array == value).mean(0) for array in (reference.array, restored))
        shift = index_to_world(volume.grid, before) - index_to_world(volume.grid, after)
        assert np.linalg.norm(shift) < 0.6


def test_the_crop_keeps_the_foreground_and_the_way_back() -> None:
    volume, reference = blob_case(5)
    array = np.array(volume.array)
    array[:, :4], array[:, :, 13:] = 0, 0
    prepared = prepare("a", Volume(array, volume.grid, Kind.MR), reference, SAME_SPACING)
    assert prepared.image.shape == (1, 16, 13, 12)
    assert restore_labels(prepared.target, prepared.trace).shape == volume.grid.shape  # type: ignore[arg-type]


def test_logits_are_restored_to_the_likeliest_class() -> None:
    volume, reference = blob_case(6)
    prepared = prepare("a", volume, reference, SAME_SPACING)
    logits = np.stack([(prepared.target == c) * 8.0 for c in range(3)]).astype(np.float32)
    np.testing.assert_array_equal(restore_logits(logits, prepared.trace, SAME_SPACING), reference.array)


def test_probabilities_outside_the_crop_are_background() -> None:
    volume, reference = blob_case(7)
    array = np.array(volume.array)
    array[:, :5] = 0
    prepared = prepare("a", Volume(array, volume.grid, Kind.MR), reference, tiny_plan())
    shares = np.full((3, *prepared.image.shape[1:]), 1 / 3, dtype=np.float32)
    restored = restore_probabilities(shares, prepared.trace, tiny_plan())
    np.testing.assert_allclose(restored.sum(0), 1, atol=1e-5)
    np.testing.assert_array_equal(restored[0, :5], 1)


def test_labels_are_numbered_in_the_plans_order() -> None:
    volume, reference = blob_case(8)
    swapped = tiny_plan(labels=("rim", "core"), spacing_mm=(0.9, 1.2, 2.5))
    target = prepare("a", volume, reference, swapped).target
    assert target is not None
    assert (target == 1).sum() == reference.mask("rim").sum()


def test_resize_to_gives_every_case_one_shape() -> None:
    prepared = prepare("a", *blob_case(9), tiny_plan(resize_to=(16, 24, 8)))
    assert prepared.image.shape == (1, 16, 24, 8)
    np.testing.assert_allclose(prepared.trace.prepared.extent_mm, (18, 19.2, 30))


def test_a_window_maps_hounsfield_units_as_tutorials_do() -> None:
    values = np.array([-500.0, -57.0, 53.5, 164.0, 900.0], dtype=np.float32).reshape(1, 1, 5)
    window = Window(lower=-57, upper=164)
    np.testing.assert_allclose(normalise(values, window).ravel(), [0, 0, 0.5, 1, 1], atol=1e-6)


def test_clip_zscore_uses_the_datasets_numbers() -> None:
    values = np.array([-999.0, 90.0, 130.0], dtype=np.float32).reshape(1, 1, 3)
    how = ClipZScore(lower=-50, upper=210, mean=90, std=40)
    np.testing.assert_allclose(normalise(values, how).ravel(), [-3.5, 0, 1])


def test_zscore_uses_the_cases_own_and_survives_a_constant() -> None:
    values = np.random.default_rng(0).normal(500, 20, (4, 5, 6)).astype(np.float32)
    scored = normalise(values, ZScore())
    assert abs(float(scored.mean())) < 1e-4
    assert float(scored.std()) == pytest.approx(1, abs=1e-4)
    assert not normalise(np.full((2, 2, 2), 7, np.float32), ZScore()).any()


@pytest.mark.parametrize("how", [ZScore(), ZScore(upper_percentile=99), Rescale(), Window(lower=60, upper=200)])
@pytest.mark.parametrize("orientation", ["LPS", "PIR"])
def test_preparing_in_slabs_changes_no_bit(orientation: str, how: ZScore | Rescale | Window) -> None:
    volume, _ = blob_case(10, shape=(130, 110, 90))
    prepared = prepare("a", volume, None, tiny_plan(normalisation=(how,), orientation=orientation))
    turned, grid = reorient(volume, orientation), prepared.trace.prepared
    whole = resample(turned.array[0], turned.grid, grid, interpolation=Interpolation.CUBIC)
    if isinstance(how, ZScore):
        clipped = np.clip(whole, *np.percentile(whole, [0, how.upper_percentile])) if how != ZScore() else whole
        expected = (clipped - clipped.mean(dtype=np.float64)) / clipped.std(dtype=np.float64)
    else:
        expected = normalise(whole, how)
    np.testing.assert_array_equal(prepared.image[0], expected.astype(np.float32))


def test_another_number_of_channels_is_refused() -> None:
    volume, _ = blob_case(0)
    two = Volume(np.concatenate([volume.array] * 2), volume.grid, Kind.MR)
    with pytest.raises(PlanError, match=r"other channels.*expected 1 \(MR\), got 2.*case a"):
        prepare("a", two, None, tiny_plan())


def test_a_ct_is_not_taken_for_an_mr() -> None:
    volume, _ = blob_case(0)
    with pytest.raises(InputError, match=r"another kind.*expected MR, got CT"):
        prepare("a", Volume(volume.array, volume.grid, Kind.CT), None, tiny_plan())


def test_nan_is_refused_with_the_number_of_voxels() -> None:
    array = np.ones((1, 20, 16, 12), dtype=np.float32)
    array[0, 3, 4, 5] = np.nan
    with pytest.raises(InputError, match=r"not numbers.*got 1 NaN"):
        prepare("a", Volume(array, oblique_grid(), Kind.MR), None, tiny_plan())


def test_air_alone_is_kept_whole() -> None:
    empty = Volume(np.zeros((1, 20, 16, 12), dtype=np.float32), oblique_grid(), Kind.MR)
    prepared = prepare("a", empty, None, SAME_SPACING)
    assert prepared.trace.box.shape == (20, 16, 12)


def test_a_reference_beside_its_image_is_refused() -> None:
    volume, reference = blob_case(0)
    moved = volume.grid.affine.copy()
    moved[0, 3] += 5
    elsewhere = replace(reference, grid=Grid(reference.grid.shape, moved))
    with pytest.raises(GeometryMismatch, match=r"do not lie in the same place.*up to 5 mm apart"):
        prepare("a", volume, elsewhere, tiny_plan())


def test_a_reference_stored_in_another_orientation_is_turned() -> None:
    volume, reference = blob_case(0)
    plain, turned = (prepare("a", volume, r, tiny_plan()).target for r in (reference, reorient(reference, "SRA")))
    assert plain is not None
    np.testing.assert_array_equal(plain, turned)


def test_a_target_does_not_hold_more_than_254_structures() -> None:
    volume, reference = blob_case(1)
    plan = tiny_plan(labels=tuple(f"s{n}" for n in range(255)))
    with pytest.raises(PlanError, match="at most 254, got 255"):
        prepare("a", volume, reference, plan)
