import math

import msgspec
import pytest
from anatomy import tiny_plan
from fingerprints import POOLED, fingerprint, fingerprint_of
from hypothesis import given
from hypothesis import strategies as st

from delineate.errors import PlanError
from delineate.planning import (
    AugmentationPlan,
    ClipZScore,
    Machine,
    NetworkPlan,
    PlanOptions,
    Preparation,
    Tiling,
    TrainingPlan,
    Window,
    ZScore,
    choose_strides,
    make_plan,
    plan_from_json,
    plan_to_json,
    training_bytes,
)
from delineate.planning.grids import thick_axis
from delineate.volume import Kind

CPU = Machine("cpu", 8 * 10**9)


def test_equal_inputs_give_equal_plans() -> None:
    assert plan_to_json(make_plan(fingerprint(), CPU)) == plan_to_json(make_plan(fingerprint(), CPU))


def test_json_brings_back_the_same_plan() -> None:
    plan = make_plan(fingerprint(Kind.CT), CPU, PlanOptions(window=(-57, 164, 0, 1)))
    assert plan_from_json(plan_to_json(plan)) == plan


def test_small_scans_fit_one_patch_whose_sides_the_strides_divide() -> None:
    plan = make_plan(fingerprint(), CPU)
    assert plan.patch_size == (40, 56, 40)
    assert plan.network.strides == ((1, 1, 1), (2, 2, 2), (2, 2, 2), (2, 2, 2))
    assert plan.network.features == (16, 32, 64, 128)


def test_ct_is_clipped_to_the_datasets_percentiles_and_mr_scored_by_case() -> None:
    expected = ClipZScore(lower=-50.0, upper=210.0, mean=90.0, std=40.0)
    assert make_plan(fingerprint(Kind.CT), CPU).normalisation == (expected,)
    assert make_plan(fingerprint(Kind.MR), CPU).normalisation == (ZScore(),)


def test_what_the_spleen_tutorial_sets_by_hand_can_be_set() -> None:
    options = PlanOptions(
        spacing_mm=(1.5, 1.5, 2.0),
        patch_size=(96, 96, 96),
        window=(-57, 164, 0, 1),
        architecture="residual_unet",
        batch_size=1,
        positive_fraction=0.5,
        loss="dice",
        optimiser="adam",
        learning_rate=1e-4,
    )
    plan = make_plan(fingerprint(Kind.CT, shape=(512, 512, 100), spacing_mm=(0.8, 0.8, 5.0)), CPU, options)
    assert plan.network.features == (16, 32, 64, 128, 256)
    assert (plan.spacing_mm, plan.patch_size) == ((1.5, 1.5, 2.0), (96, 96, 96))
    assert plan.normalisation == (Window(lower=-57, upper=164),)
    assert (plan.network.norm, len(plan.network.strides)) == ("batch", 5)
    assert (plan.training.loss, plan.training.learning_rate) == ("dice", 1e-4)


def test_orientation_moves_the_spacing_with_its_axis() -> None:
    plan = make_plan(fingerprint(spacing_mm=(1.0, 2.0, 3.0)), CPU, PlanOptions(orientation="SAR"))
    assert plan.spacing_mm == (3.0, 2.0, 1.0)


def test_large_scans_are_coarsened_on_a_cpu_and_say_so() -> None:
    plan = make_plan(fingerprint(Kind.CT, shape=(512, 512, 400), spacing_mm=(0.7, 0.7, 1.0)), CPU)
    assert min(plan.spacing_mm) > 2
    assert any("coarsened" in reason for reason in plan.reasons)
    assert math.prod(plan.patch_size) * plan.training.batch_size <= 420_000


def test_left_right_pairs_switch_flips_off() -> None:
    plan = make_plan(fingerprint(pairs=(("left_kidney", "right_kidney"),)), CPU, PlanOptions(mirror=True))
    assert plan.augmentation.flip_axes == plan.tiling.mirror_axes == ()


def test_left_right_flips_of_pairs_are_refused() -> None:
    with pytest.raises(PlanError, match="swap paired structures"):
        make_plan(fingerprint(pairs=(("left_kidney", "right_kidney"),)), CPU, PlanOptions(flip_axes=(0,)))


def test_a_plan_trains_in_what_the_machine_is_fast_in() -> None:
    plan = make_plan(fingerprint(), Machine("cpu", 8 * 10**9, "float32"))
    assert plan.training.precision == "float32"
    assert make_plan(fingerprint(), CPU).training.precision == "bfloat16"


def test_batch_shrinks_to_the_memory() -> None:
    whole = make_plan(fingerprint(), CPU)
    tight = make_plan(fingerprint(), Machine("cpu", training_bytes(whole) - 1))
    assert tight.training.batch_size == whole.training.batch_size // 2


def test_a_patch_shrinks_to_the_memory_and_says_so() -> None:
    shape = (120, 96, 80)
    whole = make_plan(fingerprint(shape=shape), CPU)
    tight = make_plan(fingerprint(shape=shape), Machine("cpu", training_bytes(whole) // 4))
    assert training_bytes(tight) <= training_bytes(whole) // 4
    assert math.prod(tight.patch_size) < math.prod(whole.patch_size)
    assert any(reason.startswith("patch:") and "to fit the" in reason for reason in tight.reasons)


def test_a_batch_that_is_normalised_together_keeps_two_patches() -> None:
    options = PlanOptions(architecture="residual_unet")
    whole = make_plan(fingerprint(), CPU, options)
    tight = make_plan(fingerprint(), Machine("cpu", training_bytes(whole) - 1), options)
    assert (whole.training.batch_size, tight.training.batch_size) == (2, 2)
    assert math.prod(tight.patch_size) < math.prod(whole.patch_size)


def test_a_patch_set_by_hand_does_not_shrink() -> None:
    machine = Machine("cpu", 150 * 10**6)
    with pytest.raises(PlanError, match="smaller --patch"):
        make_plan(fingerprint(), machine, PlanOptions(patch_size=(96, 96, 96)))


def test_memory_too_small_for_one_patch_is_refused() -> None:
    with pytest.raises(PlanError, match=r"does not fit the memory.*smaller --patch"):
        make_plan(fingerprint(), Machine("cpu", 10**6))


def test_two_dimensional_plans_take_slices() -> None:
    plan = make_plan(fingerprint(), CPU, PlanOptions(dimensions=2))
    assert plan.patch_size[2] == 1
    assert plan.dimensions == 2
    assert all(len(stride) == 2 for stride in plan.network.strides)


def test_thick_slices_are_halved_later_than_fine_pixels() -> None:
    strides, kernels = choose_strides((64, 64, 16), (0.8, 0.8, 5.0))
    assert strides[1] == (2, 2, 1)
    assert kernels[0] == (3, 3, 1)


def test_an_axis_over_twice_as_coarse_waits_to_be_halved() -> None:
    assert choose_strides((64, 64, 16), (1.0, 1.0, 2.1))[0][1] == (2, 2, 1)
    assert choose_strides((64, 64, 16), (1.0, 1.0, 1.9))[0][1] == (2, 2, 2)


@pytest.mark.parametrize(("slices", "axis"), [(5.9, None), (6.1, 1)])
def test_slices_are_thick_over_three_times_the_longer_side_of_a_pixel(slices: float, axis: int | None) -> None:
    assert thick_axis((2.0, slices, 0.8)) == axis


def test_prediction_is_mirrored_where_training_flips_unless_it_is_not_to() -> None:
    assert make_plan(fingerprint(), CPU).tiling.mirror_axes == (0,)
    without = make_plan(fingerprint(), CPU, PlanOptions(mirror=False))
    assert (without.tiling.mirror_axes, without.augmentation.flip_axes) == ((), (0,))


@given(
    patch=st.tuples(*[st.integers(1, 20).map(lambda n: 8 * n)] * 3),
    spacing=st.tuples(*[st.floats(0.3, 8)] * 3),
)
def test_strides_always_divide_the_patch(patch: tuple[int, ...], spacing: tuple[float, ...]) -> None:
    strides, _ = choose_strides(patch, spacing)
    for axis, n in enumerate(patch):
        factor = math.prod(stride[axis] for stride in strides)
        assert n % factor == 0
        assert n // factor >= 4


def test_a_newer_schema_is_refused() -> None:
    text = plan_to_json(tiny_plan()).replace('"schema_version": 1', '"schema_version": 99')
    with pytest.raises(PlanError, match=r"newer delineate.*got 99"):
        plan_from_json(text)


def test_a_misspelt_entry_is_named() -> None:
    text = plan_to_json(tiny_plan()).replace("learning_rate", "learning_speed")
    with pytest.raises(PlanError, match="learning_speed"):
        plan_from_json(text)


def network_of(**changes: object) -> NetworkPlan:
    return msgspec.structs.replace(tiny_plan().network, **changes)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"patch_size": (15, 16, 8)}, "multiple of the strides"),
        ({"orientation": "XYZ"}, "orientation"),
        ({"spacing_mm": (1.0, -1.0, 1.0)}, "spacing_mm"),
        ({"normalisation": ()}, "one normalisation a channel"),
        ({"normalisation": (ClipZScore(lower=0, upper=1, mean=0, std=0),)}, "positive std"),
        ({"normalisation": (Window(lower=1, upper=1),)}, "lower below upper"),
        ({"patch_size": (0, 16, 8)}, "patch_size must be positive"),
        ({"resize_to": (16, 0, 8)}, "resize_to must be positive"),
        ({"network": network_of(features=())}, "one entry a level"),
        ({"network": network_of(features=(8, 0))}, "features must be positive"),
        ({"training": TrainingPlan(batch_size=1, steps=1, learning_rate=-1e-3)}, "learning_rate"),
        ({"training": TrainingPlan(batch_size=1, steps=1, samples_per_image=0)}, "samples_per_image"),
        ({"training": TrainingPlan(batch_size=1, steps=1, ema_decay=1.0)}, "ema_decay"),
        ({"training": TrainingPlan(batch_size=1, steps=1, weight_decay=-1.0)}, "weight_decay"),
        ({"augmentation": AugmentationPlan(flip_axes=(3,))}, "flip_axes"),
        ({"augmentation": AugmentationPlan(noise_probability=15.0)}, "probabilities"),
        ({"augmentation": AugmentationPlan(scale=(0.0, 1.0))}, "scale must be positive"),
        ({"tiling": Tiling(mirror_axes=(0, 0))}, "mirror_axes"),
        ({"network": network_of(strides=())}, "two positive numbers a level"),
        ({"network": network_of(strides=((1, 1, 1), (2, 2)))}, "two positive numbers a level"),
        ({"network": network_of(strides=((1, 1, 1), (2, 0, 2)))}, "two positive numbers a level"),
    ],
)
def test_a_plan_that_contradicts_itself_is_refused(changes: dict[str, object], message: str) -> None:
    with pytest.raises(PlanError, match=message):
        plan_from_json(plan_to_json(msgspec.structs.replace(tiny_plan(), **changes)))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (PlanOptions(orientation="RAX"), "orientation"),
        (PlanOptions(window=(100, -100, 0, 1)), "window is empty"),
        (PlanOptions(patch_size=(0, 8, 8)), "patch_size must be positive"),
        (PlanOptions(learning_rate=-1e-3), "learning rate must be above 0"),
    ],
)
def test_impossible_options_are_refused(options: PlanOptions, message: str) -> None:
    with pytest.raises(PlanError, match=message):
        make_plan(fingerprint(), CPU, options)


def test_plans_can_follow_the_conventions_of_nnunet() -> None:
    plan = make_plan(fingerprint(), CPU, PlanOptions(conventions="nnunet", dimensions=2))
    own = plan.preparation
    assert (own.crop_to, own.normalise_first, own.resampling, own.slice_wise) == ("nonzero", True, "nnunet", "auto")
    assert own.keep_slices
    assert (plan.tiling.centre, plan.tiling.padding, plan.orientation) == ("nnunet", "zero", "RAS")
    assert make_plan(fingerprint(), CPU).preparation == Preparation()


def test_what_nnunet_cannot_do_is_not_planned_in_its_name() -> None:
    with pytest.raises(PlanError, match="nnU-Net crops scans and resamples them to a spacing"):
        make_plan(fingerprint(), CPU, PlanOptions(conventions="nnunet", resize_to=(32, 32, 32)))


def test_features_for_more_levels_than_a_patch_has_are_left_out_and_said() -> None:
    plan = make_plan(fingerprint(), CPU, PlanOptions(patch_size=(16, 16, 16), features=(8, 16, 32, 64, 128)))
    assert plan.network.features == (8, 16, 32)
    assert "width: the first 3 of 8 16 32 64 128, because a patch is halved only 2 times" in plan.reasons


def test_a_choice_by_hand_is_not_given_a_reason_of_the_planners() -> None:
    options = PlanOptions(batch_size=3, patch_size=(16, 16, 16), spacing_mm=(1.0, 1.0, 1.0), flip_axes=())
    heads = [reason.partition(":")[0] for reason in make_plan(fingerprint(), CPU, options).reasons]
    assert not {"batch", "patch", "spacing", "flips"} & set(heads)


THICK = [(0.8, 0.8, 10.0), (0.8, 0.8, 8.0), (0.8, 0.8, 5.0)]


def test_across_thick_slices_the_target_is_as_thin_as_the_thinner_scans() -> None:
    plan = make_plan(fingerprint_of(THICK, shape=(160, 160, 10)), CPU)
    assert plan.spacing_mm == (0.8, 0.8, 5.6)  # the tenth percentile of 5, 8, 10
    assert plan.preparation.slice_wise == "auto"


def test_a_few_thick_slices_are_a_patch_of_as_few() -> None:
    plan = make_plan(fingerprint(shape=(120, 120, 10), spacing_mm=(1.2, 1.2, 10.0)), CPU)
    assert plan.patch_size[2] == 12
    assert plan.augmentation.slice_axis == 2
    assert plan.network.kernels[0] == (3, 3, 1)


def test_cubes_are_prepared_and_changed_as_ever() -> None:
    plan = make_plan(fingerprint(), CPU)
    assert plan.preparation == Preparation()
    assert plan.augmentation.slice_axis is None


def test_slices_in_two_dimensions_lie_across_the_thick_axis() -> None:
    plan = make_plan(fingerprint(spacing_mm=(5.0, 0.9, 1.1)), CPU, PlanOptions(dimensions=2))
    assert (plan.orientation, plan.spacing_mm) == ("ASR", (0.9, 1.1, 5.0))
    assert plan.preparation.keep_slices
    assert plan.augmentation.flip_axes == ()  # left and right are not within these slices
    assert any(reason.startswith("flips: none") for reason in plan.reasons)


def test_scans_with_a_few_huge_voxels_are_clipped() -> None:
    assert make_plan(fingerprint(peaks=(80.0,)), CPU).normalisation == (ZScore(upper_percentile=99.9),)
    assert make_plan(fingerprint(peaks=(4.0,)), CPU).normalisation == (ZScore(),)


def test_pet_keeps_its_unit_and_a_window_is_for_ct() -> None:
    both = fingerprint_of([(2.0, 2.0, 3.0)], kinds=(Kind.CT, Kind.PET))
    ct, pet = make_plan(both, CPU, PlanOptions(window=(-160, 240, 0, 1))).normalisation
    assert ct == Window(lower=-160, upper=240)
    assert pet == ZScore()  # 210 is no uptake in SUV


def test_uptake_is_clipped_at_zero() -> None:
    suv = msgspec.structs.replace(POOLED, percentile_00_5=-0.2, percentile_99_5=14.0, mean=5.0, std=3.0)
    seen = msgspec.structs.replace(fingerprint(Kind.PET), intensities=(suv,))
    assert make_plan(seen, CPU).normalisation == (ClipZScore(lower=0.0, upper=14.0, mean=5.0, std=3.0),)
