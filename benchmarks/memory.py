"""Peak memory of segmenting one scan, against what was foreseen; each size in a process of its own.

    python benchmarks/memory.py            all sizes
    python benchmarks/memory.py SIZE ...   some of them, by name

The scan is a CT of layers of air, soft tissue and bone, in memory or mapped from a file, the label map in memory.
Where an engine is named, it runs the real network, with random weights. Otherwise a stand-in gives logits of the right
size at once, so that the largest sizes can be measured in minutes.
"""

from __future__ import annotations

import math
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from threading import Event, Thread

import numpy as np
import torch
from torch import Tensor

from delineate.engines import EngineChoice, Runner, open_runner
from delineate.geometry import Grid, Triple, TripleMM
from delineate.inference import InferenceOptions, predict_stage
from delineate.inference.foreseeing import scan_demand
from delineate.inference.memory import MemoryEstimate, fit, process_bytes
from delineate.inference.streaming import Streaming
from delineate.networks import build_network
from delineate.planning import ClipZScore, NetworkPlan, Plan, Tiling, TrainingPlan
from delineate.preprocessing import prepare
from delineate.volume import Kind, Volume


@dataclass(frozen=True)
class Size:
    """`engine`: "" for the stand-in; `memory_gb`: the limit that is set."""

    name: str
    shape: Triple
    classes: int
    patch: int = 128
    engine: str = ""
    precision: str = "float32"
    spacing_mm: TripleMM = (0.75, 0.75, 1.0)
    mapped: bool = False
    mirrors: tuple[int, ...] = ()
    memory_gb: float | None = None
    architecture: str = "nnunet"


SIZES = [
    Size("64-2-torch", (64, 64, 64), 2, patch=64, engine="torch", spacing_mm=(1.5, 1.5, 1.5)),
    Size("64-117", (64, 64, 64), 117, patch=64, spacing_mm=(1.5, 1.5, 1.5)),
    Size("128-3-torch", (128, 128, 128), 3, patch=96, engine="torch", spacing_mm=(1.5, 1.5, 1.5)),
    Size("128-3-bf16", (128, 128, 128), 3, patch=96, engine="torch", precision="bfloat16", spacing_mm=(1.5, 1.5, 1.5)),
    Size("128-117-torch", (128, 128, 128), 117, patch=96, engine="torch", spacing_mm=(1.5, 1.5, 1.5)),
    Size("128-3-openvino", (128, 128, 128), 3, patch=96, engine="openvino", spacing_mm=(1.5, 1.5, 1.5)),
    Size("128-25-openvino", (128, 128, 128), 25, patch=96, engine="openvino", spacing_mm=(1.5, 1.5, 1.5)),
    Size("128-117-openvino", (128, 128, 128), 117, patch=96, engine="openvino", spacing_mm=(1.5, 1.5, 1.5)),
    Size("128-117-onnx", (128, 128, 128), 117, patch=96, engine="onnxruntime", spacing_mm=(1.5, 1.5, 1.5)),
    Size("128-3-onnx", (128, 128, 128), 3, patch=96, engine="onnxruntime", spacing_mm=(1.5, 1.5, 1.5)),
    Size("256-25-torch", (256, 256, 160), 25, patch=96, engine="torch", mirrors=(0,)),
    Size("256-25-residual", (256, 256, 160), 25, patch=96, engine="torch", architecture="nnunet_res"),
    Size("512x200-2", (512, 512, 200), 2),
    Size("512x200-25", (512, 512, 200), 25),
    Size("512x400-25", (512, 512, 400), 25),
    Size("512x400-117", (512, 512, 400), 117, memory_gb=4.0),
    Size("512x800-2", (512, 512, 800), 2),
    Size("512x800-2-mapped", (512, 512, 800), 2, mapped=True),
    Size("512x800-25", (512, 512, 800), 25),
    Size("512x800-117-mapped", (512, 512, 800), 117, mapped=True, memory_gb=4.0),
]


@dataclass(frozen=True)
class StandIn:
    """Logits at once: a class for every range of intensities."""

    classes: int
    choice: EngineChoice

    def __call__(self, windows: Tensor) -> Tensor:
        logits = torch.empty((len(windows), self.classes, *windows.shape[2:]))
        for label in range(self.classes):
            torch.sub(windows[:, 0], 2.0 * label / self.classes - 1, out=logits[:, label])
            logits[:, label].square_().neg_()
        return logits


def plan_of(size: Size) -> Plan:
    features = (32, 64, 128, 256, 320) if size.engine else (1, 2)
    levels = len(features)
    network = NetworkPlan(
        architecture=size.architecture,
        features=features,
        strides=((1, 1, 1), *((2, 2, 2),) * (levels - 1)),
        kernels=((3, 3, 3),) * levels,
    )
    return Plan(
        dataset="noise",
        channels=("CT",),
        kinds=(Kind.CT,),
        labels=tuple(f"structure {n}" for n in range(1, size.classes)),
        spacing_mm=(1.5, 1.5, 1.5),
        crop_foreground=False,
        normalisation=(ClipZScore(lower=-1000, upper=1000, mean=0, std=500),),
        patch_size=(size.patch,) * 3,
        network=network,
        training=TrainingPlan(batch_size=1, steps=1),
        tiling=Tiling(
            mirror_axes=size.mirrors, overlap=0.5 if size.engine else 0.0
        ),  # the sums are as large either way
    )


def grid_of(size: Size) -> Grid:
    return Grid(size.shape, np.diag([-size.spacing_mm[0], -size.spacing_mm[1], size.spacing_mm[2], 1.0]))


def volume_of(size: Size, folder: Path) -> Volume:
    path = folder / "scan"
    array = (
        np.memmap(path, np.int16, "w+", shape=size.shape, order="F")
        if size.mapped
        else np.empty(size.shape, np.int16, order="F")
    )
    rng = np.random.default_rng(0)
    for k in range(size.shape[2]):
        tissue = (-1000, 40, 100, 700)[k // 24 % 4]
        array[:, :, k] = rng.normal(tissue, 1, size.shape[:2])
    if isinstance(array, np.memmap):
        array.flush()
        array = np.memmap(path, np.int16, "r", shape=size.shape, order="F")
    return Volume(array[None], grid_of(size), Kind.CT)


def runner_of(size: Size, plan: Plan) -> Runner:
    if not size.engine:
        return StandIn(size.classes, EngineChoice())
    network = build_network(plan.network, in_channels=1, out_channels=plan.classes)
    return open_runner(network, plan, EngineChoice(size.engine, size.precision))


@contextmanager
def peak_bytes(found: list[int]) -> Iterator[None]:
    """The most that the process holds meanwhile, sampled; without pages of mapped files, as `process_bytes`."""
    done = Event()

    def sample() -> None:
        while not done.wait(0.003):
            found[0] = max(found[0], process_bytes())

    thread = Thread(target=sample)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()


@dataclass(frozen=True)
class Measurement:
    estimate: MemoryEstimate
    measured: int
    how: Streaming


def measure(size: Size) -> Measurement:
    plan = plan_of(size)
    runner = runner_of(size, plan)
    options = InferenceOptions(memory_bytes=None if size.memory_gb is None else int(size.memory_gb * 1e9))
    demand = scan_demand(grid_of(size), plan, runner.choice, folds=1, options=options)
    in_memory = 0 if size.mapped else 2 * math.prod(size.shape)
    demand = replace(demand, held_bytes=process_bytes(), volume_bytes=in_memory)
    how, estimate = fit(demand, plan, options.memory_bytes)
    found = [0]
    with tempfile.TemporaryDirectory() as name, peak_bytes(found):
        prepared = prepare("", volume_of(size, Path(name)), None, plan)
        predict_stage(prepared, plan, [runner], options=options)
    return Measurement(estimate, found[0], how)


def main(names: list[str]) -> None:
    print(f"{'size':<20} {'estimate':>9} {'measured':>9} {'ratio':>6}  GB; axis, sums, planes of a slab; parts")
    ratios = []
    for size in SIZES:
        if names and size.name not in names:
            continue
        # In a process of its own: memory that was held once is not always given back.
        done = subprocess.run([sys.executable, __file__, "--one", size.name], capture_output=True, text=True)
        print(f"{size.name:<20} {done.stdout.strip() or done.stderr.strip().splitlines()[-1]}", flush=True)
        if done.returncode == 0:
            ratios.append(float(done.stdout.split()[2]))
    print(f"measured / estimate: {min(ratios):.2f} to {max(ratios):.2f}")


def one(name: str) -> None:
    torch.set_num_threads(2)
    found = measure(next(size for size in SIZES if size.name == name))
    total, how = found.estimate.total, found.how
    sums = "float16" if how.half else "float32"
    print(
        f"{total / 1e9:9.2f} {found.measured / 1e9:9.2f} {found.measured / total:6.2f}  "
        f"{how.axis}, {sums}, {how.planes}; {found.estimate}"
    )


if __name__ == "__main__":
    if sys.argv[1:2] == ["--one"]:
        one(sys.argv[2])
    else:
        main(sys.argv[1:])
