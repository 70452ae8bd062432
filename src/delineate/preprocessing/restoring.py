"""`restore_...` put what the network says back into the scan, exactly there."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from delineate.planning import Plan
from delineate.preprocessing.intensities import FloatImage
from delineate.preprocessing.traces import Trace, logit_matrices, uncrop
from delineate.resampling import AxisMatrices, apply_matrices, argmax_matrices, resample_labels, resample_slabs

Labels = npt.NDArray[np.unsignedinteger]


def restore_labels(labels: Labels, trace: Trace) -> Labels:
    """A prepared label map (I, J, K) back in the scan's own grid, by nearest neighbour; 0 outside the crop box."""
    return uncrop(resample_labels(labels, trace.prepared, trace.restored), trace)


def restore_logits(logits: FloatImage, trace: Trace, plan: Plan) -> Labels:
    """The likeliest class (I, J, K) in the scan's own grid, of prepared logits (C, I, J, K).

    For a plan with regions: what they paint, in their order, where their logits are above 0.
    Logits are interpolated and reduced slab by slab: memory does not grow with the classes.
    """
    matrices = logit_matrices(trace, plan)
    if plan.regions:
        return uncrop(_paint(logits, matrices, plan), trace)
    return uncrop(argmax_matrices(logits, matrices), trace)


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


def _paint(logits: FloatImage, matrices: AxisMatrices, plan: Plan) -> Labels:
    most = max(region.paints for region in plan.regions)
    out = np.zeros(tuple(matrix.rows for matrix in matrices), dtype=np.uint8 if most < 256 else np.uint16)
    for region, logit in zip(plan.regions, logits, strict=True):
        for rows, values in resample_slabs(logit, matrices):
            out[rows][values > 0] = region.paints
    return out
