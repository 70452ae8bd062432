"""nnU-Net's plans.json and dataset.json, made of our plans.

Everything is turned into nnU-Net's order of axes, which is ours reversed: its arrays are (z, y, x).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

from delineate.model import Model
from delineate.networks.blocks import SLOPE
from delineate.networks.nnunet import decoder_convolutions, encoder_convolutions
from delineate.planning import ClipZScore, NetworkPlan, Normalisation, Plan, Preparation, Rescale, Window, ZScore

NETWORK_CLASSES = {
    "nnunet": "dynamic_network_architectures.architectures.unet.PlainConvUNet",
    "nnunet_res": "dynamic_network_architectures.architectures.unet.ResidualEncoderUNet",
}
PLANS_NAME = "nnUNetPlans"
LOW_RESOLUTION, CASCADE = "3d_lowres", "3d_cascade_fullres"
_FORCE_SLICE_WISE = {"never": False, "auto": None, "always": True}

Json = dict[str, Any]
Item = TypeVar("Item")


def dataset_of(model: Model) -> Json:
    """nnU-Net's dataset.json."""
    plan, cases = model.plan, model.provenance
    if plan.regions:
        values: Json = {r.name: r.values[0] if len(r.values) == 1 else list(r.values) for r in plan.regions}
    else:
        values = {name: index for index, name in enumerate(plan.labels, start=1)}
    made: Json = {
        "channel_names": {str(n): name for n, name in enumerate(plan.channels)},
        "labels": {"background": 0} | values,
        "numTraining": len(cases.training_cases) + len(cases.validation_cases),
        "file_ending": ".nii.gz",
    }
    return made | ({"regions_class_order": [region.paints for region in plan.regions]} if plan.regions else {})


def plans_of(stages: Mapping[str, Model]) -> Json:
    """nnU-Net's plans.json for the stages of a model, by their configurations' names."""
    plan = list(stages.values())[-1].plan
    forward = nnunet_transposition(plan)
    configurations = {name: configuration_of(stage.plan, name) for name, stage in stages.items()}
    if CASCADE in configurations:
        configurations[LOW_RESOLUTION]["next_stage"] = CASCADE
        configurations[CASCADE]["previous_stage"] = LOW_RESOLUTION
    return {
        "dataset_name": plan.dataset,
        "plans_name": PLANS_NAME,
        # Only nnU-Net's planning and training look at these two, and delineate does not keep them.
        "original_median_spacing_after_transp": _turned(plan.spacing_mm),
        "original_median_shape_after_transp": _turned(plan.patch_size),
        "image_reader_writer": "NibabelIOWithReorient" if plan.orientation == "RAS" else "SimpleITKIO",
        "transpose_forward": forward,
        "transpose_backward": [forward.index(axis) for axis in range(3)],
        "configurations": configurations,
        "experiment_planner_used": "ExperimentPlanner",
        "label_manager": "LabelManager",
        "foreground_intensity_properties_per_channel": {
            str(n): _intensities(how) for n, how in enumerate(plan.normalisation)
        },
    }


def configuration_of(plan: Plan, name: str) -> Json:
    """One configuration of nnU-Net's plans."""
    schemes = [_scheme(how) for how in plan.normalisation]
    flat = plan.dimensions == 2
    return {
        "data_identifier": f"{PLANS_NAME}_{name}",
        "preprocessor_name": "DefaultPreprocessor",
        "batch_size": plan.training.batch_size,
        "patch_size": _turned(plan.patch_size)[flat:],
        "median_image_size_in_voxels": _turned(plan.patch_size)[flat:],
        "spacing": _turned(plan.spacing_mm)[flat:],
        "normalization_schemes": schemes,
        "use_mask_for_norm": [isinstance(how, ZScore) and how.masked for how in plan.normalisation],
        **_resampling(plan.preparation),
        "architecture": architecture_of(plan.network),
        "batch_dice": flat,
    }


def architecture_of(network: NetworkPlan) -> Json:
    """The "architecture" of one of nnU-Net's configurations."""
    dimensions = len(network.strides[0])
    blocks = "n_blocks_per_stage" if network.architecture == "nnunet_res" else "n_conv_per_stage"
    norm = "torch.nn.modules." + ("batchnorm.BatchNorm" if network.norm == "batch" else "instancenorm.InstanceNorm")
    return {
        "network_class_name": NETWORK_CLASSES[network.architecture],
        "arch_kwargs": {
            "n_stages": len(network.features),
            "features_per_stage": list(network.features),
            "conv_op": f"torch.nn.modules.conv.Conv{dimensions}d",
            "kernel_sizes": [_turned(kernel) for kernel in network.kernels],
            "strides": [_turned(stride) for stride in network.strides],
            blocks: list(encoder_convolutions(network)),
            "n_conv_per_stage_decoder": list(reversed(decoder_convolutions(network))),
            "conv_bias": True,
            "norm_op": f"{norm}{dimensions}d",
            "norm_op_kwargs": {"eps": network.eps, "affine": True},
            "dropout_op": None,  # which matters in training only
            "dropout_op_kwargs": None,
            **_activation(SLOPE if network.slope is None else network.slope),
        },
        "_kw_requires_import": ["conv_op", "norm_op", "dropout_op", "nonlin"],
    }


def _activation(slope: float) -> Json:
    if slope == 0:
        return {"nonlin": "torch.nn.ReLU", "nonlin_kwargs": {"inplace": True}}
    kwargs = {"inplace": True} | ({} if slope == SLOPE else {"negative_slope": slope})
    return {"nonlin": "torch.nn.LeakyReLU", "nonlin_kwargs": kwargs}


def nnunet_transposition(plan: Plan) -> list[int]:
    """`transpose_forward`: which of the file's axes (z, y, x) each of nnU-Net's prepared axes is."""
    return [2 - axis for axis in reversed(plan.preparation.axes)]


def nnunet_mirror_axes(plan: Plan) -> tuple[int, ...]:
    """The axes mirrored in prediction, as nnU-Net numbers those of its patches."""
    return tuple(sorted(plan.dimensions - 1 - axis for axis in plan.tiling.mirror_axes if axis < plan.dimensions))


def _turned(values: Sequence[Item]) -> list[Item]:
    return list(reversed(values))


def _scheme(how: Normalisation) -> str:
    if isinstance(how, Window) and _is_rgb(how):
        return "RGBTo01Normalization"
    if isinstance(how, ClipZScore | Window):
        return "CTNormalization"
    if isinstance(how, ZScore):
        return "ZScoreNormalization"
    return "RescaleTo01Normalization" if isinstance(how, Rescale) else "NoNormalization"


def _is_rgb(how: Window) -> bool:
    return (how.lower, how.upper, how.to_lower, how.to_upper) == (0, 255, 0, 1)


def _intensities(how: Normalisation) -> Json:
    """What CTNormalization clips to and scales by; a window is the same with other numbers."""
    if isinstance(how, Window):
        std = (how.upper - how.lower) / (how.to_upper - how.to_lower)
        how = ClipZScore(lower=how.lower, upper=how.upper, mean=how.lower - how.to_lower * std, std=std)
    if not isinstance(how, ClipZScore):
        return {}
    clip = {"percentile_00_5": how.lower, "percentile_99_5": how.upper, "min": how.lower, "max": how.upper}
    return {"mean": how.mean, "median": how.mean, "std": how.std} | clip


def _resampling(preparation: Preparation) -> Json:
    made: Json = {}
    for what, order in (("data", preparation.image_order), ("seg", 1), ("probabilities", preparation.logits_order)):
        made[f"resampling_fn_{what}"], made[f"resampling_fn_{what}_kwargs"] = _resampler(
            preparation, order, is_labels=what == "seg"
        )
    return made


def _resampler(preparation: Preparation, order: int, *, is_labels: bool) -> tuple[str, Json]:
    kwargs: Json = {"is_seg": is_labels, "force_separate_z": _FORCE_SLICE_WISE[preparation.slice_wise]}
    if preparation.anisotropy != Preparation().anisotropy:
        kwargs["separate_z_anisotropy_threshold"] = preparation.anisotropy
    if preparation.resampling == "nnunet_torch":
        return "resample_torch_fornnunet", kwargs
    return "resample_data_or_seg_to_shape", kwargs | {"order": order, "order_z": 0}
