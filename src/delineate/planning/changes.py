"""Which random changes of training patches are possible patients."""

from __future__ import annotations

from delineate.errors import PlanError
from delineate.fingerprint import Fingerprint
from delineate.planning.options import PlanOptions
from delineate.volume import Kind


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
        return ()
    reasons.append("flips: left and right only: a mirrored patient is a possible one, one upside down is not")
    return (side,)
