"""`make_plan`: the rules, in their order, that make a plan of a fingerprint, a machine and a person's wishes."""

from __future__ import annotations

import math
from collections.abc import Callable

import msgspec

from delineate.errors import PlanError
from delineate.fingerprint import Fingerprint
from delineate.geometry import Triple, TripleMM
from delineate.planning.balance import balance_training
from delineate.planning.changes import choose_changes, for_the_length
from delineate.planning.coarse import COARSE_SHARE, coarse_start
from delineate.planning.effort import Effort, choose_effort, minutes_of
from delineate.planning.grids import (
    choose_orientation,
    choose_patch,
    choose_spacing,
    median_shape,
    smaller_patch,
    thick_axis,
)
from delineate.planning.intensities import choose_normalisation
from delineate.planning.levels import choose_network
from delineate.planning.memory import training_bytes
from delineate.planning.options import Machine, PlanOptions, check_options
from delineate.planning.plan import Plan, Preparation, Tiling, TrainingPlan
from delineate.planning.plan_json import check_plan

_WEIGHT_DECAYS = {"adam": 0.0, "adamw": 5e-2, "sgd": 3e-5}
_LEARNING_RATES = {"adam": 1e-3, "adamw": 2e-3, "sgd": 1e-2}
_LEAST_PATCH_VOXELS = 12**3


def make_plan(fingerprint: Fingerprint, machine: Machine, options: PlanOptions | None = None) -> Plan:
    """Plan for a dataset on a machine: a pure function, equal inputs give equal plans.

    Each of the plan's reasons begins with what it is the reason of. Raises `PlanError` if nothing fits the memory or an
    option is impossible.
    """
    options = options or PlanOptions()
    check_options(options, fingerprint)

    def fitting(effort: Effort) -> Plan:
        return _fit_memory(lambda changed: _plan(fingerprint, machine, effort, changed), options, machine=machine)

    effort, time = choose_effort(machine, options, fitting)
    plan = fitting(effort)
    if minutes_of(options) is not None:
        wanted = options.resize_to or median_shape(fingerprint, plan.orientation, plan.spacing_mm)
        plan = for_the_length(plan, fingerprint, wanted)
    check_plan(plan)
    coarse = coarse_start(plan)
    begins = () if coarse is None else (_on_coarse_start(plan, coarse),)
    return msgspec.structs.replace(plan, reasons=(*plan.reasons, *begins, time))


def _on_coarse_start(plan: Plan, coarse: Plan) -> str:
    how = plan.training
    times = coarse.training.batch_size // how.batch_size
    return (
        f"coarse start: for {100 * how.coarse_share:.0f} % of the run patches are {how.coarse_factor:g} times as "
        f"coarse, {_by(coarse.patch_size)}, and a step, which takes no longer, sees {times} times as many"
    )


def _plan(fingerprint: Fingerprint, machine: Machine, effort: Effort, options: PlanOptions) -> Plan:
    """The plan of an effort, whatever memory it takes."""
    reasons: list[str] = []
    orientation = choose_orientation(fingerprint, options, reasons)
    spacing = choose_spacing(fingerprint, orientation, effort, options, reasons)
    wanted = options.resize_to or median_shape(fingerprint, orientation, spacing)
    patch = choose_patch(wanted, spacing, effort, options)
    if options.patch_size is None:
        seen = options.dimensions
        covered = math.prod(min(1.0, n / w) for n, w in zip(patch[:seen], wanted[:seen], strict=True))
        whole = "scan's patient part" if seen == 3 else "slice of the patient"
        reasons.append(f"patch: {_by(patch)}, {100 * covered:.0f} % of the median {whole}")
    batch = options.batch_size or max(effort.least_batch, min(16, effort.step_voxels // math.prod(patch)))
    if options.batch_size is None:
        reasons.append(f"batch: {batch * math.prod(patch):,} voxels a step, of about {effort.step_voxels:,}")
    changes = choose_changes(fingerprint, orientation, spacing, options, reasons)
    training = _choose_training(batch, machine, effort, options)
    if fingerprint.regions:
        named = ", ".join(f"{one.name} ({', '.join(map(str, one.values))})" for one in fingerprint.regions)
        reasons.append(f"regions: {named}; they overlap, so that each has a sigmoid of its own")
    return Plan(
        dataset=fingerprint.dataset,
        channels=fingerprint.channels,
        kinds=fingerprint.kinds,
        labels=tuple(region.name for region in fingerprint.regions) or fingerprint.labels,
        regions=fingerprint.regions,
        orientation=orientation,
        spacing_mm=spacing,
        resize_to=options.resize_to,
        crop_foreground=options.crop_foreground,
        normalisation=choose_normalisation(fingerprint, options, reasons),
        patch_size=patch,
        network=choose_network(patch, spacing, effort, options=options, reasons=reasons),
        training=balance_training(training, fingerprint, patch, spacing, options=options, reasons=reasons),
        augmentation=changes,
        tiling=_choose_tiling(changes.flip_axes, options),
        preparation=_choose_preparation(spacing, options, reasons),
        reasons=tuple(reasons),
    )


def _by(patch: Triple) -> str:
    return " x ".join(str(n) for n in patch)


def _choose_tiling(flips: tuple[int, ...], options: PlanOptions) -> Tiling:
    mirror_axes = flips if options.mirror else ()
    if options.conventions == "nnunet":
        return Tiling(mirror_axes=mirror_axes, centre="nnunet", padding="zero")
    return Tiling(mirror_axes=mirror_axes)


def _choose_preparation(spacing: TripleMM, options: PlanOptions, reasons: list[str]) -> Preparation:
    flat = options.dimensions == 2
    if options.conventions == "nnunet":
        return Preparation(
            crop_to="nonzero",
            normalise_first=True,
            keep_slices=flat,
            resampling="nnunet",
            slice_wise="auto",
        )
    if options.resize_to is not None:
        return Preparation()
    if flat:
        reasons.append("resampling: within slices only, each scan keeps its own distance between them")
        return Preparation(keep_slices=True)
    if thick_axis(spacing) is None:
        return Preparation()
    reasons.append("resampling: within slices; across them the closest slice is taken, nothing is blended")
    return Preparation(slice_wise="auto")


def _choose_training(batch: int, machine: Machine, effort: Effort, options: PlanOptions) -> TrainingPlan:
    return TrainingPlan(
        batch_size=batch,
        steps=effort.steps,
        samples_per_image=options.samples_per_image,
        positive_fraction=0.5 if options.positive_fraction is None else options.positive_fraction,
        annotators=options.annotators,
        missing_labels=options.missing_labels,
        loss=options.loss,
        optimiser=options.optimiser,
        learning_rate=options.learning_rate or _LEARNING_RATES[options.optimiser],
        weight_decay=_WEIGHT_DECAYS[options.optimiser],
        decay="poly" if options.optimiser == "sgd" else "cosine",
        coarse_share=0.0 if minutes_of(options) is None else COARSE_SHARE,
        precision=options.precision or machine.precision,
        validations=options.validations,
        seed=options.seed,
    )


def _fit_memory(plan_with: Callable[[PlanOptions], Plan], options: PlanOptions, *, machine: Machine) -> Plan:
    """Halve the batch, then take smaller patches, until a step fits. Raises `PlanError` if not even a small one does.

    A patch that a person chose stays as it is.
    """
    wanted = plan = plan_with(options)
    least = 2 if plan.network.norm == "batch" and options.batch_size is None else 1
    while training_bytes(plan) > machine.memory_bytes:
        batch, patch = plan.training.batch_size, plan.patch_size
        if batch > least:
            smaller = msgspec.structs.replace(options, patch_size=patch, batch_size=batch // 2)
        else:
            fewer = None if options.patch_size is not None else smaller_patch(patch, plan.spacing_mm)
            if fewer is None or math.prod(fewer) < _LEAST_PATCH_VOXELS:
                raise _too_large(plan, machine)
            smaller = msgspec.structs.replace(options, patch_size=fewer, batch_size=batch)
        plan = plan_with(smaller)
    if plan is wanted:
        return plan
    changed = []
    if plan.patch_size != wanted.patch_size:
        changed.append(f"patch: {_by(plan.patch_size)} instead")
    if plan.training.batch_size != wanted.training.batch_size:
        changed.append(f"batch: {plan.training.batch_size} instead of {wanted.training.batch_size}")
    fits = f", to fit the {machine.memory_bytes / 1e9:.1f} GB of memory there are"
    return msgspec.structs.replace(plan, reasons=(*wanted.reasons, *(words + fits for words in changed)))


def _too_large(plan: Plan, machine: Machine) -> PlanError:
    return PlanError(
        "one training step does not fit the memory",
        expected=f"at most {machine.memory_bytes / 1e9:.2f} GB",
        got=f"{training_bytes(plan) / 1e9:.2f} GB for {plan.training.batch_size} patch of {_by(plan.patch_size)}",
        remedy="Give a smaller --patch, fewer --features, or more --memory-gb.",
    )
