"""A plan as JSON that people edit: written, read, and checked for what contradicts itself."""

from __future__ import annotations

import math
from collections.abc import Mapping

import msgspec

from delineate.errors import PlanError
from delineate.geometry import ORIENTATIONS
from delineate.planning.plan import SCHEMA_VERSION, STORED, ClipZScore, Normalisation, Plan, Window, ZScore


def plan_to_json(plan: Plan) -> str:
    """Readable JSON: nested, indented, in the order of the fields."""
    return msgspec.json.format(msgspec.json.encode(plan), indent=2).decode() + "\n"


def plan_from_json(text: str | bytes) -> Plan:
    """Raises `PlanError` for a newer schema, unknown or missing fields, wrong types, inconsistent choices."""
    try:
        version = msgspec.json.decode(text, type=dict[str, msgspec.Raw]).get("schema_version")
        number = msgspec.json.decode(version, type=int) if version is not None else SCHEMA_VERSION
        if number > SCHEMA_VERSION:
            raise PlanError(
                "the plan was written by a newer delineate",
                expected=f"schema version {SCHEMA_VERSION} or older",
                got=number,
                remedy="Update delineate: pip install --upgrade delineate.",
            )
        plan = msgspec.json.decode(text, type=Plan)
    except msgspec.DecodeError as error:
        raise PlanError("the plan cannot be read", got=str(error), remedy="Correct that entry of plan.json.") from error
    check_plan(plan)
    return plan


def check_plan(plan: Plan) -> None:
    """Raises `PlanError` if parts of a (hand-edited) plan contradict each other."""
    strides, kernels = plan.network.strides, plan.network.kernels
    ranks = {len(sizes) for sizes in (*strides, *kernels)}
    if ranks not in ({2}, {3}) or min(sum(strides, ()), default=0) < 1:
        raise PlanError("strides and kernels have two positive numbers a level, or three", got=(strides, kernels))
    facts = {
        **_preparing_facts(plan),
        **_network_facts(plan),
        **_training_facts(plan),
        **_changing_facts(plan),
        **_learning_facts(plan),
    }
    for rule, holds in facts.items():
        if not holds:
            raise PlanError(f"the plan contradicts itself: {rule}", remedy="Correct plan.json or plan anew.")


def _preparing_facts(plan: Plan) -> Mapping[str, bool]:
    return {
        f'orientation must be three of R/L, A/P, I/S, or "{STORED}"': plan.orientation in (*ORIENTATIONS, STORED),
        "preparation.axes must be an order of 0, 1, 2": sorted(plan.preparation.axes) == [0, 1, 2],
        "regions must be the labels, in their order": not plan.regions
        or tuple(region.name for region in plan.regions) == plan.labels,
        "spacing_mm must be positive": min(plan.spacing_mm) > 0,
        "resize_to must be positive": plan.resize_to is None or min(plan.resize_to) > 0,
        "one normalisation a channel": len(plan.normalisation) == len(plan.channels) == len(plan.kinds),
        "a normalisation needs a positive std, and lower below upper": all(map(_makes_sense, plan.normalisation)),
    }


def _makes_sense(how: Normalisation) -> bool:
    if isinstance(how, ClipZScore):
        return how.std > 0 and how.lower <= how.upper
    if isinstance(how, Window):
        return how.lower < how.upper
    return not isinstance(how, ZScore) or 0 <= how.lower_percentile < how.upper_percentile <= 100


def _network_facts(plan: Plan) -> Mapping[str, bool]:
    network, patch = plan.network, plan.patch_size
    factors = [math.prod(s[axis] for s in network.strides) for axis in range(plan.dimensions)]
    return {
        "features, strides and kernels need one entry a level": len(network.features)
        == len(network.strides)
        == len(network.kernels),
        "features must be positive": min(network.features, default=0) > 0,
        "patch_size must be positive": min(patch) > 0,
        "a 2D plan needs a patch of one slice": plan.dimensions == 3 or patch[2] == 1,
        f"patch_size must be a multiple of the strides' product {factors}": all(
            n % f == 0 for n, f in zip(patch, factors, strict=False)
        ),
        "overlap must be from 0 to below 1": 0 <= plan.tiling.overlap < 1,
        "tiling.batch_size must be positive": plan.tiling.batch_size > 0,
        "tiling.mirror_axes must be some of 0, 1, 2": _are_axes(plan.tiling.mirror_axes),
    }


def _training_facts(plan: Plan) -> Mapping[str, bool]:
    how = plan.training
    counts = (how.batch_size, how.steps, how.samples_per_image, how.validations)
    shares = (how.warmup_fraction, how.ema_decay, how.momentum)
    return {
        "batch_size, steps, samples_per_image and validations must be positive": min(counts) > 0,
        "positive_fraction must be from 0 to 1": 0 <= how.positive_fraction <= 1,
        "balance and off_centre must be from 0 to 1": 0 <= how.balance <= 1 and 0 <= how.off_centre <= 1,
        "learning_rate and gradient_clip must be positive": min(how.learning_rate, how.gradient_clip) > 0,
        "weight_decay must not be negative": how.weight_decay >= 0,
        "warmup_fraction, ema_decay and momentum must be from 0 to below 1": all(0 <= one < 1 for one in shares),
        "coarse_share must be from 0 to below 1, and coarse_factor 1 or more": 0 <= how.coarse_share < 1
        and how.coarse_factor >= 1,
    }


def _changing_facts(plan: Plan) -> Mapping[str, bool]:
    changes = plan.augmentation
    names = [name for name in changes.__struct_fields__ if name.endswith("_probability")]
    return {
        "augmentation.slice_axis must be 0, 1 or 2": changes.slice_axis in (None, 0, 1, 2),
        "augmentation.flip_axes must be some of 0, 1, 2": _are_axes(changes.flip_axes),
        "augmentation's probabilities must be from 0 to 1": all(0 <= getattr(changes, name) <= 1 for name in names),
        "augmentation.scale must be positive": min(changes.scale) > 0,
        "augmentation.coarser must be positive": min(changes.coarser) > 0,
        "channel_dropout must be from 0 to below 1": 0 <= changes.channel_dropout < 1,
    }


def _are_axes(axes: tuple[int, ...]) -> bool:
    return len(set(axes)) == len(axes) and set(axes) <= {0, 1, 2}


def _learning_facts(plan: Plan) -> Mapping[str, bool]:
    transfer, pretraining, distillation = plan.training.transfer, plan.pretraining, plan.training.distillation
    facts: dict[str, bool] = {}
    if transfer is not None:
        facts["freeze_fraction must be from 0 to 1"] = 0 <= transfer.freeze_fraction <= 1
        facts["backbone_rate must be above 0, and 1 at most"] = 0 < transfer.backbone_rate <= 1
    if pretraining is not None:
        facts["masked_fraction must be between 0 and 1"] = 0 < pretraining.masked_fraction < 1
        facts["block must be positive"] = min(pretraining.block) > 0
        facts["block must be smaller than the patch"] = any(
            block < size for block, size in zip(pretraining.block, plan.patch_size, strict=True)
        )
        facts["a plan of pretraining has no labels"] = not plan.labels and not plan.regions and not plan.previous
    if plan.prompting is not None:
        facts["sigma_mm must be positive, and corrections not negative"] = (
            plan.prompting.sigma_mm > 0 and plan.prompting.corrections >= 0
        )
        facts["a plan of prompts learns from nothing else, and has no regions"] = not (
            plan.regions or plan.previous or pretraining or transfer or distillation
        )
        facts["a plan of prompts knows nothing of missing labels"] = plan.training.missing_labels == "absent"
    if distillation is not None:
        facts["temperature must be positive"] = distillation.temperature > 0
        facts["the teacher's weight must be above 0, and 1 at most"] = 0 < distillation.weight <= 1
    return facts
