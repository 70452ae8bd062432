"""Which random changes of training patches are possible patients."""

from __future__ import annotations

import math

import msgspec

from delineate.errors import PlanError
from delineate.fingerprint import Fingerprint
from delineate.geometry import TripleMM
from delineate.planning.coarse import coarse_start
from delineate.planning.grids import thick_axis
from delineate.planning.options import PlanOptions
from delineate.planning.plan import AugmentationPlan, Plan
from delineate.volume import Kind

_SEEN_OFTEN = 500  # times that a patient is seen, from which on changes are worth their price


def choose_changes(
    fingerprint: Fingerprint, orientation: str, spacing: TripleMM, options: PlanOptions, reasons: list[str]
) -> AugmentationPlan:
    """Flips that are possible patients; where slices are thick, turns and bends within slices only."""
    flips = choose_flips(fingerprint, orientation, options, reasons)
    thick = thick_axis(spacing) if options.dimensions == 3 and options.resize_to is None else None
    if thick is None:
        return AugmentationPlan(flip_axes=flips, channel_dropout=options.channel_dropout)
    reasons.append(
        f"augmentation: patches are turned and bent within slices only, because those are {spacing[thick]:.3g} mm thick"
    )
    return AugmentationPlan(flip_axes=flips, channel_dropout=options.channel_dropout, slice_axis=thick)


def for_the_length(plan: Plan, fingerprint: Fingerprint, wanted: TripleMM) -> Plan:
    """The plan with changes as frequent as the run is long: they make it slower to learn from, and pay once a patient
    has been seen many times. Flips stay.

    `wanted`: the median scan's patient part in voxels.
    """
    seen = _times_seen(plan, fingerprint, wanted)
    strength = min(1.0, seen / _SEEN_OFTEN)
    if strength == 1:
        return plan
    usual = plan.augmentation
    names = [name for name in usual.__struct_fields__ if name.endswith("_probability")]
    weaker = {name: float(f"{strength * getattr(usual, name):.2g}") for name in names}
    reason = (
        f"augmentation: {100 * strength:.2g} % as often as usual, because each patient is seen about {seen:.2g} times "
        f"only; from {_SEEN_OFTEN} times on they would come as often"
    )
    changed = msgspec.structs.replace(usual, **weaker)
    return msgspec.structs.replace(plan, augmentation=changed, reasons=(*plan.reasons, reason))


def _times_seen(plan: Plan, fingerprint: Fingerprint, wanted: TripleMM) -> float:
    """How often every part of every patient is seen in a run."""
    how, coarse = plan.training, coarse_start(plan)
    patches = how.steps * how.batch_size * (1 - how.coarse_share)
    patches += how.steps * how.coarse_share * (coarse or plan).training.batch_size
    parts = max(1.0, math.prod(wanted[: plan.dimensions]) / math.prod(plan.patch_size))
    slices = wanted[2] if plan.dimensions == 2 else 1.0
    return patches / (len(fingerprint.cases) * parts * slices)


def choose_flips(
    fingerprint: Fingerprint, orientation: str, options: PlanOptions, reasons: list[str]
) -> tuple[int, ...]:
    """Axes along which patches are mirrored. Raises `PlanError` if that would swap paired structures."""
    side = next(n for n, letter in enumerate(orientation) if letter in "RL")
    if options.flip_axes is not None:
        if fingerprint.pairs and side in options.flip_axes:
            raise PlanError(
                "left/right flips would swap paired structures",
                expected=f"flip axes without {side}",
                got=options.flip_axes,
                remedy=f"Leave axis {side} out: {fingerprint.pairs[0]} differ only in their side.",
            )
        return options.flip_axes
    if fingerprint.pairs:
        reasons.append("flips: none, because the dataset tells left from right")
        return ()
    if Kind.CT in fingerprint.kinds:
        reasons.append("flips: none, because in CT of the trunk or head organs have a side and a way up")
        return ()
    if side >= options.dimensions:
        reasons.append("flips: none, because left and right lie across the slices")
        return ()
    reasons.append("flips: left and right only: a mirrored patient is a possible one, one upside down is not")
    return (side,)
