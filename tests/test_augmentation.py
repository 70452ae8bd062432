from dataclasses import replace

import numpy as np
import pytest
import torch

from delineate.augmentation import (
    Augmentation,
    change_intensities,
    no_augmentation,
    reach_voxels,
    sample_at,
    sample_augmentation,
    source_positions,
)
from delineate.planning import AugmentationPlan

ALWAYS = AugmentationPlan(spatial_probability=1, elastic_probability=1)
SPACING = (1.0, 1.5, 3.0)


def draw(plan: AugmentationPlan = ALWAYS, seed: int = 0, patch: tuple[int, int, int] = (12, 10, 8)) -> Augmentation:
    return sample_augmentation(plan, SPACING, patch, np.random.default_rng(seed))


def test_the_same_generator_gives_the_same_parameters() -> None:
    first, second = draw(seed=3), draw(seed=3)
    np.testing.assert_array_equal(first.matrix, second.matrix)
    assert (first.gamma, first.noise_seed, first.flips) == (second.gamma, second.noise_seed, second.flips)


def test_rotation_is_one_of_millimetres_not_of_voxels() -> None:
    rigid = AugmentationPlan(spatial_probability=1, scale=(1.0, 1.0), shear=0, elastic_probability=0)
    spacing = np.asarray(SPACING)
    in_mm = draw(rigid).matrix * spacing[:, None] / spacing[None, :]
    # What is left beside the rotation is the zoom of each axis, at most 10 %.
    np.testing.assert_allclose(in_mm.T @ in_mm, np.diag(np.diag(in_mm.T @ in_mm)), atol=1e-9)
    assert np.abs(np.log(np.diag(in_mm.T @ in_mm))).max() <= 0.2 + 1e-9


def test_only_allowed_axes_are_flipped() -> None:
    plan = AugmentationPlan(flip_axes=(1, 2))
    flips = np.array([draw(plan, seed).flips for seed in range(60)])
    assert flips.any(axis=0).tolist() == [False, True, True]


def test_a_flat_patch_is_changed_within_its_plane() -> None:
    flat = draw(patch=(12, 10, 1))
    np.testing.assert_array_equal(flat.matrix[2], [0, 0, 1])
    np.testing.assert_array_equal(flat.matrix[:, 2], [0, 0, 1])
    assert flat.shift[2] == 0
    assert flat.displacement is not None
    assert not flat.displacement[2].any()


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_thick_slices_are_changed_within_themselves_and_moved_by_whole_ones(axis: int) -> None:
    plan = AugmentationPlan(spatial_probability=1, elastic_probability=1, shift_mm=12, slice_axis=axis)
    spacing = tuple(5.0 if n == axis else 0.9 for n in range(3))
    sampled = sample_augmentation(plan, (spacing[0], spacing[1], spacing[2]), (12, 16, 20), np.random.default_rng(4))
    others = [n for n in range(3) if n != axis]
    assert sampled.displacement is not None
    assert np.all(sampled.displacement[axis] == 0)
    assert np.any(sampled.displacement[others] != 0)
    assert sampled.matrix[axis, axis] == 1
    assert np.all(sampled.matrix[axis, others] == 0)
    assert np.all(sampled.matrix[others, axis] == 0)
    assert sampled.shift[axis] == round(sampled.shift[axis])


def test_positions_stay_within_reach() -> None:
    for seed in range(10):
        augmentation = draw(seed=seed)
        furthest = source_positions((12, 10, 8), augmentation).abs().amax((0, 1, 2)).numpy()
        assert (furthest <= reach_voxels((12, 10, 8), augmentation) + 1e-4).all()


def test_sampling_at_voxel_centres_gives_their_values() -> None:
    array = torch.rand((2, 5, 4, 3), generator=torch.Generator().manual_seed(0))
    index = torch.stack(torch.meshgrid(*(torch.arange(n) for n in (5, 4, 3)), indexing="ij"), dim=-1).float()
    torch.testing.assert_close(sample_at(array, index, mode="bilinear"), array)
    torch.testing.assert_close(sample_at(array, index, mode="nearest"), array)


def test_sampling_works_in_a_slice() -> None:
    array = torch.rand((1, 5, 4, 1), generator=torch.Generator().manual_seed(0))
    index = torch.stack(torch.meshgrid(*(torch.arange(n) for n in (5, 4, 1)), indexing="ij"), dim=-1).float()
    torch.testing.assert_close(sample_at(array, index, mode="bilinear"), array)


def test_nothing_sampled_changes_nothing() -> None:
    image = torch.rand((1, 6, 6, 6))
    assert change_intensities(image, no_augmentation()) is image


@pytest.mark.parametrize(
    "plan",
    [
        AugmentationPlan(noise_probability=1, noise_std=(0.1, 0.1)),
        AugmentationPlan(blur_probability=1, blur_voxels=(0.8, 0.8)),
        AugmentationPlan(brightness_probability=1, brightness=(1.2, 1.2)),
        AugmentationPlan(contrast_probability=1, contrast=(0.7, 0.7)),
        AugmentationPlan(gamma_probability=1, gamma=(1.4, 1.4)),
        AugmentationPlan(low_resolution_probability=1, low_resolution=(0.5, 0.5)),
    ],
)
def test_every_change_of_intensity_is_repeatable_and_keeps_the_shape(plan: AugmentationPlan) -> None:
    image = torch.rand((2, 9, 8, 7), generator=torch.Generator().manual_seed(1))
    augmentation = draw(plan, seed=5)
    first, second = change_intensities(image, augmentation), change_intensities(image, augmentation)
    assert first.shape == image.shape
    torch.testing.assert_close(first, second, rtol=0, atol=0)
    assert not torch.equal(first, image)


def test_gamma_keeps_mean_and_spread() -> None:
    image = torch.randn((1, 9, 8, 7), generator=torch.Generator().manual_seed(2))
    changed = change_intensities(image, draw(AugmentationPlan(gamma_probability=1, gamma=(1.5, 1.5)), seed=1))
    assert float(changed.mean()) == pytest.approx(float(image.mean()), abs=0.05)
    assert float(changed.std()) == pytest.approx(float(image.std()), rel=0.1)


def test_each_channel_is_changed_by_what_it_holds_itself() -> None:
    one = torch.randn(6, 5, 4, generator=torch.Generator().manual_seed(0))
    plan = AugmentationPlan(contrast_probability=1, gamma_probability=1, blur_probability=0, noise_probability=0)
    augmentation = replace(draw(plan, seed=2), noise_std=0.0, blur_voxels=0.0, low_resolution=1.0)
    alone = change_intensities(one[None], augmentation)
    beside = change_intensities(torch.stack((one, 1000 * one + 500)), augmentation)
    torch.testing.assert_close(beside[0], alone[0])
    torch.testing.assert_close(beside[1], change_intensities((1000 * one + 500)[None], augmentation)[0])
