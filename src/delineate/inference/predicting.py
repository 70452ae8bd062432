"""One stage of a model over one prepared scan: from windows to a label map in the scan's own grid."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
from scipy.special import expit, softmax

from delineate.engines import Runner
from delineate.inference.air import find_air
from delineate.inference.focusing import layout_within
from delineate.inference.memory import fit, process_bytes, stage_demand
from delineate.inference.streaming import Slab, WindowCount, stream_logits
from delineate.inference.windows import Progress
from delineate.planning import Plan
from delineate.preprocessing import (
    FloatImage,
    PreparedCase,
    label_type,
    logit_matrices,
    reduce_slabs,
    restore_probabilities,
    restored_view,
)
from delineate.volume import Allocate, Array, read_only


@dataclass(frozen=True, slots=True)
class InferenceOptions:
    """How a stage is run, whatever the model.

    `memory_bytes`: what this process (or, on a GPU, the device) may use in all; None for no limit. `skip_air`: leave
    out windows of air where that is known to be harmless. `allocate`: makes arrays of the scan's size; those of
    `mapped_from` bytes or more it maps to a file.
    """

    memory_bytes: int | None = None
    skip_air: bool = True
    with_probabilities: bool = False
    allocate: Allocate = np.empty
    mapped_from: int | None = None

    def held(self, size: int) -> int:
        """What an array of `size` bytes takes of the memory: nothing if it is mapped."""
        return size if self.mapped_from is None or size < self.mapped_from else 0


@dataclass(frozen=True, slots=True, eq=False)
class StageResult:
    """`labels`: (I, J, K) in the scan's own grid, uint8 or uint16: indices 0..len(plan.labels), or what the plan's
    regions paint. `probabilities`: (C, I, J, K) there too, if they were asked for. `windows`: run and left out."""

    labels: Array
    probabilities: FloatImage | None
    windows: WindowCount


def predict_stage(
    prepared: PreparedCase,
    plan: Plan,
    runners: Sequence[Runner],
    *,
    options: InferenceOptions = InferenceOptions(),
    progress: Progress | None = None,
) -> StageResult:
    """Run a plan's networks (one runner a fold) over a prepared scan.

    Logits exist for a slab of the scan at a time. Raises `ResourceError`, before anything is computed, if the memory
    does not suffice.
    """
    trace = prepared.trace
    matrices = logit_matrices(trace, plan)
    # Memory is taken when it is written to: until then the label map is only promised.
    labels = options.allocate(trace.original.shape, label_type(plan))
    demand = replace(
        stage_demand(trace, plan, runners[0].choice, folds=len(runners)),
        held_bytes=0 if options.memory_bytes is None else process_bytes(),
        labels_bytes=0 if isinstance(labels, np.memmap) else labels.nbytes,
        probabilities=options.with_probabilities,
    )
    windows = layout_within(trace.whole.shape, trace.part, plan)
    how = replace(fit(demand, plan, options.memory_bytes)[0], windows=windows)
    counts = [WindowCount(0, 0, windows.count)]

    def watch(count: WindowCount) -> None:
        counts.append(count)
        if progress is not None:
            progress(count.share)

    air = find_air(plan) if options.skip_air else None
    slabs = stream_logits(prepared.image, plan, runners, how=how, air=air, watch=watch)
    probabilities = None
    if options.with_probabilities:
        probabilities = np.empty((plan.classes, *trace.prepared.shape), dtype=np.float32)
        slabs = keep_probabilities(slabs, plan, axis=how.axis, out=probabilities)
    labels[...] = 0
    reduce_slabs(slabs, matrices, plan, axis=how.axis, out=restored_view(labels, trace))
    if probabilities is not None:
        probabilities = restore_probabilities(probabilities, trace, plan)
    return StageResult(read_only(labels), probabilities, counts[-1])


def keep_probabilities(slabs: Iterable[Slab], plan: Plan, *, axis: int, out: FloatImage) -> Iterator[Slab]:
    """The same slabs; their probabilities (softmax, or sigmoid for regions) are written to `out` (C, I, J, K)."""
    for planes, logits in slabs:
        probabilities = expit(logits) if plan.regions else softmax(logits, axis=0)
        np.moveaxis(out, 1 + axis, 0)[planes] = np.moveaxis(probabilities, 1 + axis, 0)
        yield planes, logits
