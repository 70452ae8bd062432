from dataclasses import replace
from itertools import islice

import msgspec
import numpy as np
import pytest
import torch
from anatomy import blob_case, tiny_plan

from delineate.augmentation import no_augmentation
from delineate.errors import DatasetError, TrainingError
from delineate.planning import AugmentationPlan, Plan, TrainingPlan
from delineate.preprocessing import prepare
from delineate.sampling import TrainingCase, cut_patch, index_case, iterate_batches, make_batch, steps_per_epoch

PLAN = tiny_plan()


def case(seed: int = 0, plan: Plan = PLAN) -> TrainingCase:
    return index_case(prepare(f"blob_{seed}", *blob_case(seed), plan), seed=0)


def test_a_batch_depends_on_its_step_alone() -> None:
    cases = [case(0), case(1), case(2)]
    first, again = make_batch(cases, PLAN, 7), make_batch(cases, PLAN, 7)
    torch.testing.assert_close(first.images, again.images, rtol=0, atol=0)
    assert not torch.equal(first.images, make_batch(cases, PLAN, 8).images)


def test_workers_give_the_batches_in_order() -> None:
    cases = [case(0), case(1)]
    ahead = list(islice(iterate_batches(cases, PLAN, 3, workers=3), 4))
    for step, batch in enumerate(ahead, start=3):
        torch.testing.assert_close(batch.images, make_batch(cases, PLAN, step).images, rtol=0, atol=0)


def test_every_case_is_seen_once_a_round() -> None:
    cases = [case(seed) for seed in range(4)]
    seen = [name for step in range(2) for name in make_batch(cases, PLAN, step).cases]
    assert sorted(seen) == [f"blob_{seed}" for seed in range(4)]


def test_image_and_target_are_cut_at_the_same_place() -> None:
    sharp = tiny_plan(
        augmentation=AugmentationPlan(
            spatial_probability=1, elastic_probability=1, gamma_probability=0, noise_probability=0,
            blur_probability=0, brightness_probability=0, contrast_probability=0, low_resolution_probability=0,
            flip_axes=(0, 1, 2),
        )
    )  # fmt: skip
    labelled = case()
    assert labelled.case.target is not None
    shown = replace(labelled.case, image=(labelled.case.target[None] > 0).astype(np.float32))
    batch = make_batch([index_case(shown, seed=0)], sharp, 2)
    from_image, from_target = batch.images[:, 0] > 0.5, batch.targets > 0
    assert float(2 * (from_image & from_target).sum() / (from_image.sum() + from_target.sum())) > 0.9
    assert batch.targets.amax() == 2


def test_positive_patches_hold_a_structure() -> None:
    always = msgspec.structs.replace(PLAN.training, positive_fraction=1.0)
    still = AugmentationPlan(spatial_probability=0, elastic_probability=0, shift_mm=0)
    plan = tiny_plan(training=always, augmentation=still, patch_size=(4, 4, 4))
    for step in range(10):
        assert (make_batch([case()], plan, step).targets.flatten(1).amax(1) > 0).all()


def test_around_a_case_can_be_zeros() -> None:
    chosen = index_case(case().case, seed=0, padding="zero")
    turned = replace(no_augmentation(), matrix=np.eye(3) * 1.5)
    for augmentation in (no_augmentation(), turned):
        image, _ = cut_patch(chosen, np.array([0.0, 0.0, 0.0]), (9, 9, 9), augmentation)
        assert float(image[0, 0, 0, 0]) == 0 != float(chosen.case.image.min())


def test_outside_the_case_is_its_lowest_value_and_background() -> None:
    chosen = case()
    image, target = cut_patch(chosen, np.array([0.0, 0.0, 0.0]), (9, 9, 9), no_augmentation())
    assert float(image[0, 0, 0, 0]) == pytest.approx(float(chosen.outside[0]))
    assert int(target[0, 0, 0]) == 0
    assert float(image[0, 4, 4, 4]) == pytest.approx(float(chosen.case.image[0, 0, 0, 0]))


def test_a_turned_patch_agrees_with_a_plain_one_where_nothing_turns() -> None:
    chosen = case()
    nudged = replace(no_augmentation(), displacement=np.zeros((3, 5, 5, 5), dtype=np.float32))
    centre = np.array([6.5, 7.5, 5.5])
    plain, turned = (cut_patch(chosen, centre, (8, 8, 4), how) for how in (no_augmentation(), nudged))
    torch.testing.assert_close(plain[0], turned[0], atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(plain[1], turned[1])


def test_a_failing_worker_names_the_case() -> None:
    broken = replace(case(1), locations=(np.zeros((1, 7), dtype=np.int32),))
    with pytest.raises(TrainingError, match=r"making a batch failed.*case blob_1"):
        list(islice(iterate_batches([broken], msgspec.structs.replace(PLAN, training=_positive()), 0), 3))


def _positive() -> TrainingPlan:
    return msgspec.structs.replace(PLAN.training, positive_fraction=1.0)


def test_a_case_without_reference_cannot_be_trained_on() -> None:
    image, _ = blob_case(0)
    with pytest.raises(DatasetError, match=r"no reference.*case a"):
        index_case(prepare("a", image, None, PLAN), seed=0)


def test_what_a_reference_lacks_is_unknown_only_if_the_plan_says_so() -> None:
    unknown = tiny_plan(training=msgspec.structs.replace(PLAN.training, missing_labels="unknown"))
    volume, reference = blob_case(0)
    without_rim = replace(reference, array=np.where(reference.array == 2, 0, reference.array).astype(np.uint8))
    partial = index_case(prepare("a", volume, without_rim, PLAN), seed=0)
    assert make_batch([partial], PLAN, 0).annotated is None
    annotated = make_batch([partial], unknown, 0).annotated
    assert annotated is not None
    assert annotated.tolist() == [[True, True, False]] * 2


def test_an_epoch_takes_so_many_patches_from_each_image() -> None:
    plan = tiny_plan(training=TrainingPlan(batch_size=3, steps=1, samples_per_image=4))
    assert steps_per_epoch(10, plan) == 14
