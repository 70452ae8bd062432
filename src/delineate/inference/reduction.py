"""Streamed logits, reduced to a label map as they come."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np
import numpy.typing as npt
from scipy.special import expit, softmax

from delineate.inference.streaming import Slab
from delineate.planning import Plan
from delineate.preprocessing import FloatImage
from delineate.resampling import AxisMatrices
from delineate.resampling.streams import reduce_to_classes, reduce_to_regions
from delineate.volume import Array


def label_type(plan: Plan) -> npt.DTypeLike:
    """Of a label map of class indices, or of the values that regions are painted with."""
    highest = max((region.paints for region in plan.regions), default=plan.classes - 1)
    return np.uint8 if highest < 256 else np.uint16


def reduce_slabs(slabs: Iterable[Slab], matrices: AxisMatrices, plan: Plan, *, axis: int, out: Array) -> None:
    """Write the label map of streamed logits to `out` (I, J, K), on the grid that the matrices lead to.

    It holds the class with the largest logit; or, where the plan has regions, what each of them paints where its
    logit is above 0, in their order. Equal to reducing the whole logits at once, to rounding of equal logits.
    """
    if plan.regions:
        reduce_to_regions(slabs, matrices, [region.paints for region in plan.regions], axis=axis, out=out)
    else:
        reduce_to_classes(slabs, matrices, axis=axis, out=out)


def keep_probabilities(slabs: Iterable[Slab], plan: Plan, *, axis: int, out: FloatImage) -> Iterator[Slab]:
    """The same slabs; their probabilities (softmax, or sigmoid for regions) are written to `out` (C, I, J, K)."""
    for planes, logits in slabs:
        probabilities = expit(logits) if plan.regions else softmax(logits, axis=0)
        np.moveaxis(out, 1 + axis, 0)[planes] = np.moveaxis(probabilities, 1 + axis, 0)
        yield planes, logits
