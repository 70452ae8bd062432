"""`restore_...` put what the network says back into the scan, exactly there."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from delineate.planning import Plan
from delineate.preprocessing.intensities import FloatImage
from delineate.preprocessing.traces import Trace, logit_matrices, uncrop
from delineate.resampling import AxisMatrices, apply_matrices, resample_labels
from delineate.resampling.streams import Slabs, reduce_to_classes, reduce_to_regions
from delineate.volume import Array

Labels = npt.NDArray[np.unsignedinteger]


def restore_labels(labels: Labels, trace: Trace) -> Labels:
    """A prepared label map (I, J, K) back in the scan's own grid, by nearest neighbour; 0 outside the crop box."""
    return uncrop(resample_labels(labels, trace.prepared, trace.restored), trace)


def restore_logits(logits: FloatImage, trace: Trace, plan: Plan) -> Labels:
    """The label map (I, J, K) in the scan's own grid of prepared logits (C, I, J, K); see `reduce_slabs`."""
    matrices = logit_matrices(trace, plan)
    out = np.zeros(tuple(matrix.rows for matrix in matrices), dtype=label_type(plan))
    reduce_slabs([(slice(0, logits.shape[1]), logits)], matrices, plan, axis=0, out=out)
    return uncrop(out, trace)


def label_type(plan: Plan) -> npt.DTypeLike:
    """Of a label map of class indices, or of the values that regions are painted with."""
    highest = max((region.paints for region in plan.regions), default=plan.classes - 1)
    return np.uint8 if highest < 256 else np.uint16


def reduce_slabs(slabs: Slabs, matrices: AxisMatrices, plan: Plan, *, axis: int, out: Array) -> None:
    """Write the label map of logits that come in slabs along an axis to `out` (I, J, K), where the matrices lead.

    It holds the class with the largest logit; or, where the plan has regions, what each of them paints where its
    logit is above 0, in their order. Memory does not grow with the classes.
    """
    if plan.regions:
        reduce_to_regions(slabs, matrices, [region.paints for region in plan.regions], axis=axis, out=out)
    else:
        # What is resampled, nnU-Net rounds once more.
        half = plan.tiling.sums == "nnunet" and any(matrix.taps > 1 for matrix in matrices)
        reduce_to_classes(slabs, matrices, axis=axis, out=out, half=half)


def restore_probabilities(probabilities: FloatImage, trace: Trace, plan: Plan) -> FloatImage:
    """Prepared probabilities (C, I, J, K) in the scan's own grid; outside the crop box all is background.

    Background is channel 0, or, for a plan with regions, where all channels are 0.
    """
    values = apply_matrices(probabilities, logit_matrices(trace, plan, anti_alias=True))
    np.clip(values, 0, 1, out=values)
    restored = uncrop(values, trace)
    if plan.regions:
        return restored
    background = uncrop(values[:1], trace, fill=1.0)
    return np.concatenate([background, restored[1:]])
