"""nnU-Net's plans in words of ours: axes, preparation, normalisation, labels; what is refused, and by which name."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import nnunet_models as made
import pytest

from delineate.errors import ModelError
from delineate.exchange.nnunet_json import DatasetFile, PlansFile, configuration
from delineate.exchange.nnunet_labels import structures_of
from delineate.exchange.nnunet_network import network_plan
from delineate.exchange.nnunet_plans import Trained, make_plan
from delineate.labels import LabelSet
from delineate.planning import (
    ClipZScore,
    NetworkPlan,
    Plan,
    Region,
    Rescale,
    Unchanged,
    Window,
    ZScore,
    plan_from_json,
    plan_to_json,
)
from delineate.volume import Kind

HERE = Path("model")
RESAMPLING = {"is_seg": False, "order": 3, "order_z": 0, "force_separate_z": None}
OLD_NETWORK = {
    "UNet_class_name": "PlainConvUNet",
    "UNet_base_num_features": 4,
    "unet_max_num_features": 10,
    "n_conv_per_stage_encoder": [2, 1, 3],
    "n_conv_per_stage_decoder": [1, 2],
    "num_pool_per_axis": [1, 2, 2],
    "pool_op_kernel_sizes": made.STRIDES,
    "conv_kernel_sizes": made.KERNELS,
}


def read_plan(
    *,
    top: dict[str, Any] | None = None,
    config: dict[str, Any] | None = None,
    data: dict[str, Any] | None = None,
    mirror: tuple[int, ...] = (0, 1),
    orientation: str | None = None,
    trainer: str = "nnUNetTrainer",
) -> Plan:
    described = made.plans(**{"configurations": {"3d_fullres": made.configuration(**(config or {}))}, **(top or {})})
    plans = msgspec.convert(described, PlansFile)
    chosen = configuration(plans, "3d_fullres", HERE)
    plan = make_plan(
        plans,
        chosen,
        msgspec.convert(made.dataset(**(data or {})), DatasetFile),
        network=network_plan(chosen, HERE, batch_normalised=False),
        trained=Trained(HERE, "3d_fullres", trainer, mirror, 4),
        orientation=orientation,
    )
    assert plan_from_json(plan_to_json(plan)) == plan
    return plan


def read_network(**changes: Any) -> NetworkPlan:
    return read_plan(config={"architecture": made.architecture(**changes)}).network


def read_labels(**data: Any) -> LabelSet:
    return structures_of(msgspec.convert(made.dataset(**data), DatasetFile), HERE).labels


def test_axes_are_those_of_nnunet_reversed() -> None:
    plan = read_plan()
    assert plan.spacing_mm == (0.8, 0.9, 5.0)
    assert plan.patch_size == (12, 8, 4)
    assert plan.network.strides == ((1, 1, 1), (2, 2, 1), (1, 2, 2))
    assert plan.network.kernels == ((3, 3, 1), (3, 3, 3), (5, 3, 3))
    assert plan.tiling.mirror_axes == plan.augmentation.flip_axes == (1, 2)


@pytest.mark.parametrize(
    ("forward", "axes"),
    [([0, 1, 2], (0, 1, 2)), ([2, 0, 1], (1, 2, 0)), ([1, 0, 2], (0, 2, 1)), ([2, 1, 0], (2, 1, 0))],
)
def test_transposition_is_an_order_of_our_axes(forward: list[int], axes: tuple[int, int, int]) -> None:
    # nnU-Net's prepared axis n is axis forward[n] of (z, y, x), and z is axis 2 of the stored scan.
    stored = {0: 2, 1: 1, 2: 0}
    assert read_plan(top={"transpose_forward": forward}).preparation.axes == axes
    assert tuple(stored[axis] for axis in reversed(forward)) == axes


def test_preparation_and_tiling_are_nnunets() -> None:
    plan = read_plan(config={"resampling_fn_probabilities_kwargs": RESAMPLING | {"order": 0}})
    own = plan.preparation
    assert (own.crop_to, own.normalise_first, own.resampling, own.keep_slices) == ("nonzero", True, "nnunet", False)
    assert (own.image_order, own.logits_order, own.slice_wise, own.anisotropy) == (3, 0, "auto", 3.0)
    assert (plan.tiling.centre, plan.tiling.padding, plan.tiling.overlap) == ("nnunet", "zero", 0.5)
    assert plan.orientation == "stored"


@pytest.mark.parametrize(("forced", "expected"), [(True, "always"), (False, "never"), (None, "auto")])
def test_slices_are_resampled_apart_as_the_plans_say(forced: bool | None, expected: str) -> None:
    both = RESAMPLING | {"order": 1, "force_separate_z": forced, "separate_z_anisotropy_threshold": 4}
    plan = read_plan(config={"resampling_fn_data_kwargs": both, "resampling_fn_probabilities_kwargs": both})
    assert (plan.preparation.slice_wise, plan.preparation.anisotropy) == (expected, 4)


def test_torchs_resampling_is_linear() -> None:
    name, kwargs = "resample_torch_fornnunet", {"is_seg": False, "force_separate_z": False, "num_threads": 8}
    plan = read_plan(
        config={"resampling_fn_data": name, "resampling_fn_probabilities": name}
        | {"resampling_fn_data_kwargs": kwargs, "resampling_fn_probabilities_kwargs": kwargs}
    )
    own = plan.preparation
    assert (own.resampling, own.image_order, own.logits_order) == ("nnunet_torch", 1, 1)


@pytest.mark.parametrize(("name", "expected"), [("torch_fornnunet", "auto"), ("data_or_seg_to_shape", "never")])
def test_what_the_plans_leave_out_is_the_functions_default(name: str, expected: str) -> None:
    functions = {f"resampling_fn_{what}": f"resample_{name}" for what in ("data", "probabilities")}
    kwargs = {f"{function}_kwargs": {"is_seg": False, "order": 1} for function in functions}
    assert read_plan(config=functions | kwargs).preparation.slice_wise == expected


@pytest.mark.parametrize(
    ("masks", "message"),
    [
        ({"order": 0}, "not supported: order"),
        ({"force_separate_z": True}, "different axes"),
        ({"is_seg": False}, "is_seg"),
    ],
)
def test_cascades_that_resample_masks_in_another_way_are_refused(masks: dict[str, Any], message: str) -> None:
    usual = RESAMPLING | {"is_seg": True, "order": 1}
    config = {"previous_stage": "3d_lowres", "resampling_fn_seg": "resample_data_or_seg_to_shape"}
    assert read_plan(config=config | {"resampling_fn_seg_kwargs": usual}).previous == ("core", "rim")
    with pytest.raises(ModelError, match=message):
        read_plan(config=config | {"resampling_fn_seg_kwargs": usual | masks})


@pytest.mark.parametrize(
    "trainer",
    [
        "nnUNetTrainer_4000epochs_NoMirroring",
        "nnUNetTrainerDA5Segord0",
        "nnUNetTrainer_DASegOrd0",
        "nnUNetTrainerBN",
        "nnUNetTrainerTopk10LossLS01",
        "nnUNetTrainer_probabilisticOversampling_010",
        "nnUNetTrainer_onlyMirror01_1500ep",
    ],
)
def test_nnunets_own_trainers_leave_no_doubt(trainer: str) -> None:
    assert read_plan(trainer=trainer).reasons == read_plan().reasons


@pytest.mark.parametrize("trainer", ["nnUNetTrainerGELU", "MyTrainer", "nnUNetTrainer" + "Loss_" * 60 + "!"])
def test_what_another_trainer_may_have_changed_is_told(trainer: str) -> None:
    assert f"the trainer {trainer} is none of nnU-Net's own" in read_plan(trainer=trainer).reasons[-1]


@pytest.mark.parametrize(
    ("scheme", "expected"),
    [
        ("CTNormalization", ClipZScore(lower=-950.0, upper=700.0, mean=40.0, std=90.0)),
        ("ZScoreNormalization", ZScore(masked=True)),
        ("NoNormalization", Unchanged()),
        ("RescaleTo01Normalization", Rescale()),
        ("RGBTo01Normalization", Window(lower=0, upper=255)),
    ],
)
def test_normalisations(scheme: str, expected: object) -> None:
    plan = read_plan(config={"normalization_schemes": [scheme], "use_mask_for_norm": [True]})
    assert plan.normalisation == (expected,)


def test_channels_are_in_the_order_of_their_numbers_and_have_kinds() -> None:
    names = {"10": "SUV", **{str(n): f"T{n}" for n in (2, 1, 3, 4, 5, 6, 7, 8, 9)}, "0": "CT"}
    plan = read_plan(
        config={"normalization_schemes": ["NoNormalization"] * 11, "use_mask_for_norm": [False] * 11},
        data={"channel_names": None, "modality": names},
    )
    assert plan.channels == ("CT", *(f"T{n}" for n in range(1, 10)), "SUV")
    assert (plan.kinds[0], plan.kinds[1], plan.kinds[10]) == (Kind.CT, Kind.MR, Kind.PET)


def test_plans_of_the_old_format_describe_the_same_network() -> None:
    old = {**made.configuration(architecture=None), **OLD_NETWORK}
    network = read_plan(top={"configurations": {"3d_fullres": old}}).network
    expected = read_network(features_per_stage=[4, 8, 10], norm_op_kwargs={"affine": True}, nonlin_kwargs=None)
    assert network == expected


def test_intensities_of_the_oldest_plans_are_found() -> None:
    statistics = made.plans()["foreground_intensity_properties_per_channel"]
    plan = read_plan(
        top={"foreground_intensity_properties_per_channel": None}
        | {"foreground_intensity_properties_by_modality": statistics},
        config={"normalization_schemes": ["CTNormalization"]},
    )
    assert plan.normalisation == (ClipZScore(lower=-950.0, upper=700.0, mean=40.0, std=90.0),)


def test_configurations_inherit() -> None:
    child = {"inherits_from": "parent", "spacing": [3.0, 2.0, 1.0]}
    grandchild = {"inherits_from": "child", "batch_size": 9}
    tree = {"parent": made.configuration(), "child": child, "3d_fullres": grandchild}
    plan = read_plan(top={"configurations": tree})
    assert (plan.spacing_mm, plan.training.batch_size, plan.patch_size) == ((1.0, 2.0, 3.0), 9, (12, 8, 4))


def test_a_ring_of_configurations_is_refused() -> None:
    ring = {"3d_fullres": {"inherits_from": "b"}, "b": {"inherits_from": "3d_fullres"}}
    with pytest.raises(ModelError, match="inherit in a ring"):
        read_plan(top={"configurations": ring})


def test_activation_epsilon_and_decoder_are_kept() -> None:
    network = read_network(nonlin="torch.nn.ReLU", nonlin_kwargs=None)
    assert (network.slope, network.eps) == (0.0, made.EPS)
    assert network.decoder_convolutions == (2, 1)
    assert read_network().slope == made.SLOPE


def test_one_number_may_stand_for_all_levels_and_axes() -> None:
    network = read_network(kernel_sizes=3, n_conv_per_stage=2, n_conv_per_stage_decoder=1, features_per_stage=8)
    assert network.kernels == ((3, 3, 3),) * 3
    assert (network.convolutions, network.decoder_convolutions, network.features) == ((2,) * 3, (1, 1), (8,) * 3)


@pytest.mark.parametrize(
    "changes",
    [
        {"nonlin": "torch.nn.GELU"},
        {"nonlin": None},
        {"norm_op": None},
        {"norm_op": "torch.nn.GroupNorm"},
        {"norm_op_kwargs": {"eps": 1e-5}},
        {"norm_op_kwargs": {"affine": True, "track_running_stats": True}},
        {"nonlin_first": True},
        {"conv_op": "torch.nn.Conv2d"},
        {"block": "dynamic_network_architectures.building_blocks.residual.BottleneckD"},
        {"bottleneck_channels": 8},
        {"stem_channels": 16},
    ],
)
def test_networks_that_are_not_ours_are_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(ModelError, match=r"(?:network's|activation).* is not supported"):
        read_network(**changes)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"squeeze_excitation": True}, "unknown field `squeeze_excitation`"),
        ({"strides": [[2, 2, 2]] * 3}, "the first level keeps the resolution"),
        ({"kernel_sizes": 2}, "kernels must be odd"),
        ({"features_per_stage": [4, 8]}, "one entry a level"),
        ({"n_stages": "three"}, "arch_kwargs"),
    ],
)
def test_arguments_that_make_no_network_of_ours_are_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ModelError, match=message):
        read_network(**changes)


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"normalization_schemes": ["MyNorm"]}, "normalisation is not supported.*got MyNorm"),
        ({"resampling_fn_data": "no_resampling_hack"}, "resampling that is not supported"),
        ({"resampling_fn_data_kwargs": RESAMPLING | {"order_z": 1}}, "not supported: order_z"),
        ({"resampling_fn_data_kwargs": RESAMPLING | {"order": 2}}, "not supported: order"),
        ({"resampling_fn_probabilities_kwargs": RESAMPLING}, "not supported: order.*expected order 0 or 1"),
        ({"resampling_fn_data_kwargs": RESAMPLING | {"force_separate_z": True}}, "along different axes"),
        ({"resampling_fn_data_kwargs": RESAMPLING | {"fancy": 1}}, "unknown field `fancy`"),
        ({"preprocessor_name": "MyPreprocessor"}, "preprocessor of its own.*got MyPreprocessor"),
        ({"normalization_schemes": ["ZScoreNormalization"] * 2}, "different numbers of channels"),
        ({"spacing": [1.0, 0.0, 1.0]}, "spacing must be positive"),
        ({"spacing": [1.0, 1.0]}, "two or three axes"),
        ({"patch_size": "large"}, "format that is not known"),
        ({"architecture": {"network_class_name": "my.UNet", "arch_kwargs": {}}}, "class is not supported.*my.UNet"),
        ({"architecture": None}, "describes no network"),
    ],
)
def test_configurations_that_are_not_ours_are_refused(config: dict[str, Any], message: str) -> None:
    with pytest.raises(ModelError, match=message):
        read_plan(config=config)


@pytest.mark.parametrize(
    ("top", "message"),
    [
        ({"label_manager": "MyLabels"}, "label manager of its own"),
        ({"image_reader_writer": "MyReader"}, "reader of its own"),
        ({"transpose_forward": [0, 0, 2]}, "no order of axes"),
        ({"configurations": {"2d": {}}}, "no such configuration.*one of 2d"),
    ],
)
def test_plans_that_are_not_ours_are_refused(top: dict[str, Any], message: str) -> None:
    with pytest.raises(ModelError, match=message):
        read_plan(top=top)


def test_labels_are_in_the_order_of_their_values_and_ignore_is_none() -> None:
    plan = read_plan(data={"labels": {"rim": 2, "background": 0, "ignore": 3, "core": 1}})
    assert plan.labels == ("core", "rim")
    assert plan.classes == 3


def test_regions_are_in_the_order_of_the_file() -> None:
    labels = {"background": 0, "whole": [1, 2, 3], "core": [2, 3], "rim": 3, "ignore": 4}
    plan = read_plan(data={"labels": labels, "regions_class_order": [1, 2, 3]})
    assert plan.regions == (
        Region(name="whole", values=(1, 2, 3), paints=1),
        Region(name="core", values=(2, 3), paints=2),
        Region(name="rim", values=(3,), paints=3),
    )
    assert plan.classes == 3
    assert read_labels(labels=labels, regions_class_order=[1, 2, 3]).overlaps


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        ({"core": 1}, "no background label"),
        ({"background": 1}, "no background label"),
        ({"background": 0}, "no labels besides background"),
        ({"background": 0, "core": 2}, "must be 1, 2, 3"),
        ({"background": 0, "core": 1, "rim": 1}, "must be 1, 2, 3"),
        ({"background": 0, "two\nlines": 1}, "a label that is none"),
        ({"background": 0, "core": [0, 1]}, "a label that is none"),
        ({"background": 0, "core": [1, 2]}, "needs a regions_class_order"),
    ],
)
def test_labels_that_nnunet_would_not_train_are_refused(labels: dict[str, Any], message: str) -> None:
    with pytest.raises(ModelError, match=message):
        read_labels(labels=labels)


@pytest.mark.parametrize(
    ("reader", "wanted", "expected"),
    [
        ("NibabelIO", None, "stored"),
        ("NibabelIOWithReorient", None, "RAS"),
        ("SimpleITKIO", "LPS", "LPS"),
        ("MyReader", "stored", "stored"),
    ],
)
def test_orientation_is_the_readers_or_the_users(reader: str, wanted: str | None, expected: str) -> None:
    assert read_plan(top={"image_reader_writer": reader}, orientation=wanted).orientation == expected


@pytest.mark.parametrize(
    "name",
    ["Dataset297_TotalSegmentator_total_3mm_1559subj", "Dataset258_lung_vessels_248subj", "Dataset850_TotalSegMRI"],
)
def test_totalsegmentators_models_want_ras_and_no_mirroring(name: str) -> None:
    plan = read_plan(top={"dataset_name": name})
    assert (plan.orientation, plan.tiling.mirror_axes, plan.augmentation.flip_axes) == ("RAS", (), (1, 2))
    assert any("TotalSegmentator" in reason for reason in plan.reasons)


def test_mirroring_of_sides_is_kept_and_told() -> None:
    labels = {"background": 0, "left_lung": 1, "right_lung": 2}
    told = read_plan(data={"labels": labels}, mirror=(0, 1, 2))
    assert told.tiling.mirror_axes == (0, 1, 2)
    assert "left_lung from right_lung" in told.reasons[-1]
    assert len(read_plan(data={"labels": labels}, mirror=(0, 1)).reasons) == 1
    assert len(read_plan(mirror=(0, 1, 2)).reasons) == 1


def test_mirroring_of_sides_is_found_on_transposed_axes() -> None:
    labels = {"background": 0, "left_lung": 1, "right_lung": 2}
    for axis, is_told in ((0, True), (2, False)):  # x comes first in nnU-Net's order
        plan = read_plan(top={"transpose_forward": [2, 0, 1]}, data={"labels": labels}, mirror=(axis,))
        assert ("left_lung" in plan.reasons[-1]) is is_told


def test_cascades_of_regions_are_refused() -> None:
    data = {"labels": {"background": 0, "whole": [1, 2], "core": 2}, "regions_class_order": [1, 2]}
    with pytest.raises(ModelError, match="cascades of regions"):
        read_plan(data=data, config={"previous_stage": "3d_lowres"})
