"""How much memory a stage takes, before it takes any; and how to stay within what there is."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from dataclasses import dataclass, fields, replace

import psutil

from delineate.engines import EngineChoice
from delineate.errors import ResourceError
from delineate.geometry import Triple
from delineate.inference.streaming import Streaming, batch_size
from delineate.inference.windows import layout, mirrors
from delineate.planning import Plan
from delineate.preprocessing import Trace, logit_matrices
from delineate.resampling.streams import shared_planes

SLAB_BYTES = 256 * 2**20
THICKNESSES = (32, 16, 8, 4, 2)  # of slabs, in planes
NEARLY_LEAST = 1.1  # along the first axis logits are written and read fastest: others must save more than this

LIBRARIES = 300 * 2**20  # pages of shared libraries: what other mapped files there are can be dropped at any time

WORKSPACE = 64 * 2**20  # of PyTorch's convolutions

# Between its convolutions a network in int8 computes in bfloat16.
_BYTES = {"float32": 4, "bfloat16": 2, "float16": 2, "int8": 2}
_FIRST_LEVEL_HALVED = ("residual_unet",)


@dataclass(frozen=True, slots=True)
class Demand:
    """What a stage is to do, as far as memory is concerned; bytes are those that are not in `held_bytes` yet.

    `scan` and `prepared`: shapes in the scan's own and the prepared image's axes. `shared`: planes that slabs have in
    common, along each axis. `folds`: networks; `passes`: of them over a window, folds times mirrors. `held_bytes`: what
    the process uses now. `volume_bytes`: the scan, if it is still to be read (0 if it is mapped from a file).
    `preparation_bytes`: what preparing needs beside the scan, the prepared image included. `postprocessing_bytes`: what
    is needed beside the label map when the network is done. `other_bytes`: what other cases need that are read or
    written meanwhile.
    `device`: whether network and sums live on a GPU, not in this process.
    """

    scan: Triple
    prepared: Triple
    held_bytes: int
    folds: int = 1
    passes: int = 1
    engine: str = "torch"
    precision: str = "float32"
    device: bool = False
    shared: Triple = (1, 1, 1)
    volume_bytes: int = 0
    prepared_bytes: int = 0
    preparation_bytes: int = 0
    weights_bytes: int = 0
    labels_bytes: int = 0
    postprocessing_bytes: int = 0
    probabilities: bool = False
    other_bytes: int = 0


def stage_demand(trace: Trace, plan: Plan, choice: EngineChoice, *, folds: int) -> Demand:
    """What a plan's networks do on the prepared image of a trace; nothing is held yet, and no bytes are counted."""
    i, j, k = (shared_planes(matrix) for matrix in logit_matrices(trace, plan))
    return Demand(
        scan=trace.original.shape,
        prepared=trace.prepared.shape,
        held_bytes=0,
        folds=folds,
        passes=folds * len(list(mirrors(plan.tiling))),
        engine=choice.engine,
        precision=choice.precision,
        device=choice.device != "cpu",
        shared=(i, j, k),
    )


@dataclass(frozen=True, slots=True)
class MemoryEstimate:
    """Bytes of each part, and of all at the moment when most is held.

    `process`: interpreter, libraries, weights and whatever is held already. `network`: activations and the logits of
    a batch of windows. `sums`: the logits of unfinished planes. `slab`: logits of finished planes.
    """

    process: int
    volume: int
    preparation: int
    prepared: int
    weights: int
    network: int
    sums: int
    slab: int
    labels: int
    probabilities: int
    postprocessing: int
    other: int

    @property
    def total(self) -> int:
        """Of the three phases the one that takes most."""
        always = self.process + self.volume + self.weights + self.other
        running = self.prepared + self.network + self.sums + self.slab + self.labels + self.probabilities
        after = self.prepared + self.labels + self.postprocessing
        return always + max(self.preparation, running, after)

    def __str__(self) -> str:
        parts = sorted(((getattr(self, f.name), f.name) for f in fields(self)), reverse=True)
        shown = ", ".join(f"{name} {size / 1e9:.1f}" for size, name in parts if size >= 5e7)
        return f"{self.total / 1e9:.1f} GB ({shown})"


def process_bytes() -> int:
    """What this process holds and cannot give back. Pages of mapped files are not counted, but for libraries."""
    from delineate.resampling import kernels  # noqa: F401 - the compiler takes memory, too: it is to be there already

    memory = psutil.Process().memory_info()
    mapped = getattr(memory, "shared", 0)
    return int(memory.rss - max(0, mapped - LIBRARIES))


def estimate(demand: Demand, plan: Plan, how: Streaming) -> MemoryEstimate:
    """The memory that a stage takes if it is run as `how` says. Allocates nothing; depends on its arguments only.

    On a GPU it is the device's: the network, the sums, and a slab.
    """
    here = MemoryEstimate(
        process=demand.held_bytes,
        volume=demand.volume_bytes,
        preparation=demand.preparation_bytes,
        prepared=demand.prepared_bytes,
        weights=demand.weights_bytes,
        network=network_bytes(plan, demand, how.batch),
        sums=_sum_bytes(demand, plan, how),
        slab=_slab_bytes(demand, plan, how),
        labels=demand.labels_bytes,
        probabilities=_probability_bytes(demand, plan),
        postprocessing=demand.postprocessing_bytes,
        other=demand.other_bytes,
    )
    if not demand.device:
        return here
    nothing = MemoryEstimate(*(0,) * len(fields(here)))
    return replace(nothing, weights=here.weights, network=here.network, sums=here.sums, slab=here.slab)


def fit(demand: Demand, plan: Plan, memory_bytes: int | None = None) -> tuple[Streaming, MemoryEstimate]:
    """How to run a stage within `memory_bytes`, the fastest way first, and what it then takes.

    What is given up in turn: thick slabs, large batches, sums in float32. Raises `ResourceError`, saying what would
    do, if nothing fits.
    """
    least: MemoryEstimate | None = None
    for how in _ways(demand, plan):
        needed = estimate(demand, plan, how)
        if memory_bytes is None or needed.total <= memory_bytes:
            return how, needed
        least = needed if least is None or needed.total < least.total else least
    assert least is not None
    assert memory_bytes is not None
    raise ResourceError(
        "the scan needs more memory than may be used",
        expected=f"at most {memory_bytes / 1e9:.1f} GB",
        got=f"at least {least}",
        remedy=_remedy(least, demand),
    )


def _ways(demand: Demand, plan: Plan) -> Iterator[Streaming]:
    most = batch_size(plan)
    batches = sorted({max(1, most >> n) for n in range(most.bit_length())}, reverse=True)
    as_nnunet = plan.tiling.sums == "nnunet"
    for half, batch in itertools.product((True,) if as_nnunet else (False, True), batches):
        thicknesses = [n for n in THICKNESSES if n == min(THICKNESSES) or not _is_thick(demand, plan, n)]
        for planes in thicknesses:
            how = Streaming(batch=batch, half=half, planes=planes)
            # nnU-Net goes along its first axis, which is our last.
            yield _along(demand, how, 2) if as_nnunet else _best_axis(demand, plan, how)


def _is_thick(demand: Demand, plan: Plan, planes: int) -> bool:
    """Whether slabs are larger than need be, across whichever axis."""
    smallest = min(math.prod(demand.prepared) // n for n in demand.prepared)
    return 4 * plan.classes * planes * smallest > SLAB_BYTES and planes > 8


def _best_axis(demand: Demand, plan: Plan, how: Streaming) -> Streaming:
    """The same along the axis that takes least, or one before it that takes hardly more."""
    along = [_along(demand, how, axis) for axis in range(3)]
    costs = [_sum_bytes(demand, plan, way) + _slab_bytes(demand, plan, way) for way in along]
    return next(way for way, cost in zip(along, costs, strict=True) if cost <= NEARLY_LEAST * min(costs))


def _along(demand: Demand, how: Streaming, axis: int) -> Streaming:
    return replace(how, axis=axis, shared=demand.shared[axis])


def _sum_bytes(demand: Demand, plan: Plan, how: Streaming) -> int:
    padded = layout(demand.prepared, plan).padded
    across = math.prod(padded) // padded[how.axis]
    extent = how.extent(plan.patch_size)
    if plan.tiling.sums == "nnunet":
        return 2 * across * extent * (demand.folds * plan.classes + 1)
    weights = 4 * plan.patch_size[how.axis]
    return across * (extent * plan.classes * (2 if how.half else 4) + weights)


def _slab_bytes(demand: Demand, plan: Plan, how: Streaming) -> int:
    """A slab of logits, and what of the result belongs to it."""
    size = demand.prepared[how.axis]
    planes = min(size, how.planes + how.shared)
    logits = 4 * plan.classes * planes * (math.prod(demand.prepared) // size)
    labels = math.prod(demand.scan) * planes // size
    return logits + (0 if demand.device else 2 * labels)


def _probability_bytes(demand: Demand, plan: Plan) -> int:
    """Of the prepared grid and, afterwards, of the scan's own, twice."""
    return 4 * plan.classes * (math.prod(demand.prepared) + 2 * math.prod(demand.scan)) if demand.probabilities else 0


def network_bytes(plan: Plan, demand: Demand, batch: int) -> int:
    """Of a batch of windows: activations at the moment when most are held, and the logits that outlive the network.

    Measured for each engine (benchmarks/memory.py): everything happens at the first level, where features and voxels
    together are most. PyTorch holds the skip, the joined features (twice as many), the results of two convolutions and
    the library's own copies: seven times the first level's features. ONNX Runtime keeps what it had, and takes nine
    times; OpenVINO plans its memory, takes four times, and one window at a time. Where there are many classes, logits
    are the most: once inside, and once for those who read them. For GPUs the rule of PyTorch on the CPU is taken.
    """
    voxels = batch * math.prod(plan.patch_size)
    size = _BYTES[demand.precision]
    first = plan.network.features[0] * voxels * size // (8 if plan.network.architecture in _FIRST_LEVEL_HALVED else 1)
    logits = plan.classes * voxels * 4
    windows = 3 * plan.inputs * voxels * 4
    if demand.engine == "torch":
        inside = WORKSPACE + max(7 * first, 3 * first + logits + (logits // 2 if size < 4 else 0))
    elif demand.engine == "onnxruntime":
        inside = 9 * first + logits
    else:
        inside = (4 * first + logits) // batch + logits
    kept = demand.folds + (demand.folds > 1) if plan.tiling.sums == "nnunet" else 1
    return inside + windows + (kept * logits if demand.passes > 1 else 0)


def _remedy(least: MemoryEstimate, demand: Demand) -> str:
    allow = f"Allow {math.ceil(least.total / 1e8) / 10:.1f} GB (--memory-gb)"
    if demand.device:
        return f"{allow}, or run it on the CPU (--device cpu)."
    ways = [allow]
    if least.network > least.total // 4 and demand.precision == "float32":
        ways.append("compute in bfloat16 (--precision bfloat16)")
    if demand.probabilities:
        ways.append("do without probabilities")
    if least.volume > least.total // 4:
        ways.append("give the scan as an uncompressed .nii, which is read in pieces")
    ways.append("segment a part of the scan only (--locate)")
    return f"{', or '.join(ways)}."
