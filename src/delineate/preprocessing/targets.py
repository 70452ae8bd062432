"""What a network is to learn of a reference: a label map of small numbers."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from delineate.errors import LabelError, PlanError
from delineate.labels import LabelSet
from delineate.planning import Plan
from delineate.volume import Array

IGNORE = 255
"""Of a target: voxels that the reference says nothing about. They are neither learned from nor scored."""

MOST_LABELS = IGNORE - 1
_MOST_MASKS = 62  # bits of a code

Target = npt.NDArray[np.uint8]


def encode(array: Array, labels: LabelSet, plan: Plan) -> Target:
    """The target (I, J, K) of a reference's array: 0 is background, then the plan's labels, or its regions' parts.

    `array`: a label map (I, J, K) of the labels' values, or masks (len(labels), I, J, K) where they overlap. Raises
    `PlanError` for more than 254 labels or parts; `LabelError` if the reference lacks one, or if its masks overlap as
    no value of the regions says.
    """
    count = len(plan.parts or plan.labels)
    if count > MOST_LABELS:
        raise PlanError("too many structures to learn", expected=f"at most {MOST_LABELS}", got=count)
    if labels.overlaps:
        return _of_masks(array, labels, plan)
    table = np.zeros(max(labels.values, default=0) + 1, dtype=np.uint8)
    if plan.regions:
        missing = sorted(set(plan.parts) - set(labels.values))
        if missing:
            raise LabelError(
                "regions of values that are no label's", expected=f"among {list(labels.values)}", got=missing
            )
        table[list(plan.parts)] = range(1, count + 1)
    else:
        table[[labels.named(name).value for name in plan.labels]] = range(1, count + 1)
    found: Target = table[array]
    return found


def _of_masks(masks: Array, labels: LabelSet, plan: Plan) -> Target:
    """Each part by the regions that hold it; parts that the same regions hold are one."""
    if not plan.regions or len(plan.regions) > _MOST_MASKS:
        raise LabelError(
            "overlapping structures are learned as regions",
            expected=f"a plan with up to {_MOST_MASKS} regions",
            got=f"{len(plan.regions)} regions",
            remedy="Plan the dataset anew.",
        )
    codes = np.zeros(masks.shape[1:], dtype=np.int64)
    for bit, region in enumerate(plan.regions):
        labels.named(region.name)
        codes |= masks[labels.names.index(region.name)].astype(np.int64) << bit
    meaning = {0: 0}
    for number, part in enumerate(plan.parts, start=1):
        held = sum(1 << bit for bit, region in enumerate(plan.regions) if part in region.values)
        meaning.setdefault(held, number)
    known = np.array(sorted(meaning))
    where = np.minimum(np.searchsorted(known, codes), len(known) - 1)
    strange = known[where] != codes
    if strange.any():
        code = int(codes[strange][0])
        together = [region.name for bit, region in enumerate(plan.regions) if code >> bit & 1]
        raise LabelError(
            "structures overlap as none of their values says",
            got=f"{np.count_nonzero(strange)} voxels, the first in {' and '.join(together)} alone",
            remedy="Correct the reference, or the values of the regions.",
        )
    found: Target = np.array([meaning[int(code)] for code in known], dtype=np.uint8)[where]
    return found
