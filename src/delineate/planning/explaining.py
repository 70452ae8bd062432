"""A plan in words: what was chosen, why, and what would change it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from delineate.planning.coarse import coarse_start
from delineate.planning.memory import training_bytes
from delineate.planning.plan import ClipZScore, Normalisation, Plan, Rescale, Unchanged, Window, ZScore
from delineate.planning.work import parameter_count

_BY_HAND = "set by hand"


@dataclass(frozen=True, slots=True)
class Choice:
    """One choice of a plan. `change`: the option, or the entry of plan.json, that makes it another."""

    what: str
    value: str
    why: str
    change: str


def explain(plan: Plan, *, step_seconds: float | None = None) -> tuple[Choice, ...]:
    """Every choice of a plan, in the order in which a scan meets them. `step_seconds`: as measured, if it was.

    Why is read from the plan's reasons, which begin with what they are the reason of; a plan edited by hand or made
    elsewhere may lack some.
    """
    return (*_preparing(plan), *_seeing(plan), *_training(plan), *_varying(plan), *_costing(plan, step_seconds))


def _why(plan: Plan, topic: str, otherwise: str = _BY_HAND) -> str:
    found = [reason.partition(": ") for reason in plan.reasons]
    words = [text for head, _, text in found if head.lower() == topic.lower()]
    return "; ".join(words) or otherwise


def _by(numbers: Sequence[float]) -> str:
    return " x ".join(f"{n:g}" for n in numbers)


def _preparing(plan: Plan) -> list[Choice]:
    how = plan.preparation
    turned = "axes point right, front, up" if plan.orientation == "RAS" else "where the array's axes point to"
    grid = f"{_by(plan.spacing_mm[:2])} mm, slices as they are" if how.keep_slices else f"{_by(plan.spacing_mm)} mm"
    found = [
        Choice("orientation", plan.orientation, _why(plan, "orientation", turned), "--orientation"),
        Choice("spacing", grid, _why(plan, "spacing"), "--spacing")
        if plan.resize_to is None
        else Choice("size", _by(plan.resize_to), "every scan is resized to it", "--resize-to, --spacing"),
        Choice(
            "crop",
            {"foreground": "to the patient", "nonzero": "to what is not 0"}[how.crop_to]
            if plan.crop_foreground
            else "none",
            "air has nothing to learn from" if plan.crop_foreground else _BY_HAND,
            "--no-crop" if plan.crop_foreground else "--crop",
        ),
        Choice("resampling", _resampling(plan), _why(plan, "resampling", _usual_resampling(plan)), "preparation"),
    ]
    for channel, normalisation in zip(plan.channels, plan.normalisation, strict=True):
        why = _why(plan, f"normalisation of {channel}")
        found.append(Choice(f"{channel} values", _in_words(normalisation), why, "--window, normalisation"))
    return found


def _resampling(plan: Plan) -> str:
    order = {0: "closest", 1: "linear", 3: "cubic"}[plan.preparation.image_order]
    slices = {"never": "", "auto": ", slice by slice if thick", "always": ", slice by slice"}
    return f"{order}{slices[plan.preparation.slice_wise]}"


def _usual_resampling(plan: Plan) -> str:
    if plan.preparation.resampling == "delineate":
        return "details too fine for the grid fade instead of turning into others"
    return "as nnU-Net does it (--like nnunet)"


def _in_words(how: Normalisation) -> str:
    if isinstance(how, ClipZScore):
        return f"{how.lower:g} to {how.upper:g}, less {how.mean:.4g}, over {how.std:.4g}"
    if isinstance(how, Window):
        return f"{how.lower:g} to {how.upper:g} onto {how.to_lower:g} to {how.to_upper:g}"
    if isinstance(how, ZScore):
        clipped = (how.lower_percentile, how.upper_percentile) != (0, 100)
        return "mean 0, deviation 1" + (f", above {how.upper_percentile:g} % clipped" if clipped else "")
    return {Rescale: "lowest to highest onto 0 to 1", Unchanged: "as they are"}[type(how)]


def _seeing(plan: Plan) -> list[Choice]:
    network, kernels = plan.network, sorted(set(plan.network.kernels))
    strides = [_by(stride) for stride in network.strides[1:]]
    halved = strides[0] if len(set(strides)) == 1 else ", ".join(strides)
    width = "from first to last level; more of them learn finer distinctions, and take longer"
    overlapping = Choice("regions", ", ".join(plan.labels), _why(plan, "regions", "they overlap"), "--region")
    return [
        *((overlapping,) if plan.regions else ()),
        Choice("patch", _by(plan.patch_size), _why(plan, "patch"), "--patch, --minutes, --memory-gb"),
        Choice(
            "batch",
            f"{plan.training.batch_size} patch{'es' if plan.training.batch_size > 1 else ''}",
            _why(plan, "batch"),
            "--batch, --minutes",
        ),
        Choice(
            "network",
            f"{network.architecture}, {plan.dimensions}D, {_millions(parameter_count(plan))} weights",
            _why(plan, "network", "a U-Net: sees detail and surroundings at once"),
            "--architecture, --dimensions",
        ),
        Choice("features", " ".join(str(n) for n in network.features), _why(plan, "width", width), "--features"),
        Choice(
            "levels",
            f"{len(network.features)}, strides {halved}",
            "each axis is halved while 4 voxels are left; one over twice as coarse waits for the others",
            "--patch, network.strides",
        ),
        Choice(
            "kernels",
            ", ".join(_by(kernel) for kernel in kernels),
            "3 along each axis; 1 across slices that are over twice as thick as the pixels of their level",
            "network.kernels",
        ),
        *_looking(plan),
    ]


def _looking(plan: Plan) -> list[Choice]:
    tiling = plan.tiling
    mirrored = f", mirrored along {_axes(tiling.mirror_axes)}" if tiling.mirror_axes else ""
    why = "windows overlap, and count most in their middle" + (
        "; mirrored ones are averaged, as training has seen them" if mirrored else ""
    )
    return [Choice("tiling", f"{100 * tiling.overlap:.0f} % overlap{mirrored}", why, "--no-mirror, tiling")]


def _training(plan: Plan) -> list[Choice]:
    how = plan.training
    losses = {
        "dice": "overlap alone, whatever a structure's size",
        "dice_ce": "overlap, and each voxel by itself: steadier than either",
    }
    decay = {"cosine": "along a cosine", "poly": "almost linearly"}[how.decay]
    optimisers = {
        "adamw": "learns most in few steps; its decay of weights keeps it general",
        "adam": "as many tutorials have it",
        "sgd": "as nnU-Net has it: slower at first, for long runs",
    }
    return [
        Choice("loss", how.loss.replace("_", " + "), losses.get(how.loss, "for tiny or rare structures"), "--loss"),
        Choice(
            "optimiser",
            f"{how.optimiser}, rate {how.learning_rate:g}, decay {how.weight_decay:g}",
            optimisers[how.optimiser],
            "--optimiser, --learning-rate",
        ),
        Choice(
            "schedule",
            f"{100 * how.warmup_fraction:.0f} % rise, then down to 0",
            f"the rate rises, then falls {decay}, to be 0 when the steps, or the time, are over",
            "training.decay, warmup_fraction",
        ),
        Choice("steps", f"{how.steps:,}", _why(plan, "time"), "--minutes, --preset, --steps"),
        *_coarse_start(plan),
        _sampling(plan),
        Choice(
            "not drawn is",
            how.missing_labels,
            "a structure missing from a reference is "
            + ("not in the patient" if how.missing_labels == "absent" else "not known there, for or against"),
            "--missing-labels",
        ),
    ]


def _coarse_start(plan: Plan) -> list[Choice]:
    how, coarse = plan.training, coarse_start(plan)
    if coarse is None:
        return []
    value = f"{100 * how.coarse_share:.0f} % of the run, {how.coarse_factor:g} times as coarse"
    return [Choice("coarse start", value, _why(plan, "coarse start"), "training.coarse_share, coarse_factor")]


def _sampling(plan: Plan) -> Choice:
    how = plan.training
    value = f"{100 * how.positive_fraction:.0f} % on a structure"
    why = ["the others anywhere, so that what is no structure is learnt as well"]
    for topic, chosen in (("balance", how.balance), ("off centre", how.off_centre)):
        if chosen:
            value += f", {topic} {chosen:g}"
            why.append(_why(plan, topic, f"{topic} {_BY_HAND}"))
    return Choice("sampling", value, "; ".join(why), "--positive, --balance, --off-centre")


def _varying(plan: Plan) -> list[Choice]:
    changes = plan.augmentation
    turned = "within slices" if changes.slice_axis is not None or plan.dimensions == 2 else "in space"
    return [
        Choice(
            "augmentation",
            f"turned by {max(changes.rotation_degrees):g} degrees, {changes.scale[0]:g} to {changes.scale[1]:g} times "
            f"as large, {turned}; noise, blur, contrast",
            _why(plan, "augmentation", "what another patient, position or scanner might give"),
            "augmentation",
        ),
        Choice("flips", _axes(changes.flip_axes) or "none", _why(plan, "flips"), "augmentation.flip_axes"),
    ]


def _costing(plan: Plan, seconds: float | None) -> list[Choice]:
    how = plan.training
    found = [
        Choice("precision", how.precision, "what this device computes fastest in", "--precision"),
        Choice(
            "memory",
            f"about {training_bytes(plan) / 1e9:.2g} GB a step",
            "most of it what each convolution gave, kept for the way back",
            "--patch, --batch, --features",
        ),
    ]
    if seconds is not None:
        minutes = how.steps * seconds / 60
        total = f"{minutes:.0f} minutes" if minutes < 180 else f"{minutes / 60:.0f} hours"
        voxels = how.batch_size * math.prod(plan.patch_size)
        why = f"measured here just now, on {voxels:,} voxels; {how.steps:,} of them: {total}"
        found.append(Choice("a step takes", f"{seconds:.2g} s", why, "--patch, --batch, --features"))
    return found


def _axes(axes: Sequence[int]) -> str:
    return ", ".join(("first", "second", "third")[axis] for axis in axes) + (" axis" if axes else "")


def _millions(count: int) -> str:
    return f"{count / 1e6:.1f} million" if count >= 1e6 else f"{count:,}"
