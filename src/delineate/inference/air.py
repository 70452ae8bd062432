"""Windows that hold nothing but air need not be run: there is nothing in them to segment."""

from __future__ import annotations

import math
from dataclasses import dataclass

from delineate.planning import ClipZScore, Normalisation, Plan, Window
from delineate.preprocessing import FloatImage
from delineate.volume import Kind

AIR_HU = -900.0
SMALLEST_MM = 80.0

BACKGROUND_LOGIT = 20.0
REGION_LOGIT = -10.0


@dataclass(frozen=True, slots=True)
class Air:
    """`highest`: of each channel, the normalised intensity up to which a voxel is air. `logits`: what air gets."""

    highest: tuple[float, ...]
    logits: tuple[float, ...]

    def fills(self, window: FloatImage) -> bool:
        """Whether every voxel of a window (C, I, J, K) is air."""
        return all(float(channel.max()) <= top for channel, top in zip(window, self.highest, strict=True))


def find_air(plan: Plan) -> Air | None:
    """How to tell windows of air, and what they get; None where nothing may be left out.

    Why it does no harm to leave out a window in which no voxel is above -900 HU:
    - Only in CT is it known what air is: every channel must be CT, with the same normalisation for every scan. Masks
      of a cascade's stage before must be empty in the window.
    - Tissue is above -900 HU: lung has about -850 HU, with vessels far above everywhere. What is below in the body is
      gas in airways, bowel, bullae or a pneumothorax, which does not fill a box of 80 mm by 80 mm by 80 mm; plans with
      smaller windows (in 2D: smaller within the slice) leave nothing out.
    - Where a plan clips at more than -900 HU, windows at the clip's lower bound are constant: the network sees
      nothing in them. A plan's `ClipZScore` has that bound from the intensities inside the structures, so that none
      of them lies wholly below. A `Window` may have been set by hand to anything, and leaves nothing out then.
    - Noise that rises above the threshold anywhere in a window only means that it is run.
    What remains is a model whose structure is the air around the patient: it must be run everywhere.
    A window left out counts with the same weight as one that is run and finds background, with the confidence that a
    trained network has (a logit of 20 above the others, or of -10 for regions). So what the windows beside it see at
    their borders is blended as always.
    """
    extent_mm = [n * spacing for n, spacing in zip(plan.patch_size, plan.spacing_mm, strict=True)]
    if min(extent_mm[: plan.dimensions]) < SMALLEST_MM or any(kind is not Kind.CT for kind in plan.kinds):
        return None
    highest = [_highest(how) for how in plan.normalisation]
    if any(math.isnan(value) for value in highest) or plan.resize_to is not None:
        return None
    logits = (REGION_LOGIT,) * plan.classes if plan.regions else (BACKGROUND_LOGIT, *(0.0,) * (plan.classes - 1))
    return Air((*highest, *(0.0,) * len(plan.previous)), logits)


def _highest(how: Normalisation) -> float:
    """The normalised intensity of air, with room for rounding; NaN where it is not known."""
    if isinstance(how, ClipZScore):
        value = (max(AIR_HU, how.lower) - how.mean) / how.std
    elif isinstance(how, Window) and how.lower <= AIR_HU < how.upper and how.to_lower < how.to_upper:
        share = (AIR_HU - how.lower) / (how.upper - how.lower)
        value = share * (how.to_upper - how.to_lower) + how.to_lower
    else:
        return math.nan
    return value + 1e-5 * max(1.0, abs(value))
