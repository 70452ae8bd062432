"""Which random changes of training patches are possible patients."""

from __future__ import annotations

from delineate.errors import PlanError
from delineate.fingerprint import Fingerprint
from delineate.geometry import TripleMM
from delineate.planning.grids import thick_axis
from delineate.planning.options import PlanOptions
from delineate.planning.plan import AugmentationPlan
from delineate.volume import Kind


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
