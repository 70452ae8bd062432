"""Peak memory of training steps, against `training_bytes`; each network in a process of its own.

    python benchmarks/training_memory.py [NAME ...] [--threads 1] [--write FILE.json]

Measured: what the process holds at most during five steps of delineate's own loop on random patches, less what it held
with everything imported and nothing built. `training_bytes` promises that, and what is planned from it must not run
out of memory, nor leave half of it unused: the ratio should lie between about 0.8 and 1.3.
"""

from __future__ import annotations

import argparse
import gc
import json
import math
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from threading import Event, Thread

import psutil
import torch

from delineate import training
from delineate.geometry import Triple
from delineate.networks.memory import keep_freed_memory
from delineate.planning import NetworkPlan, Plan, TrainingPlan, ZScore, training_bytes
from delineate.sampling import Batch
from delineate.training.loop import time_step
from delineate.volume import Kind

STEPS = 5


@dataclass(frozen=True)
class Size:
    """`features` of the highest level, doubled at each of `levels` up to 320."""

    architecture: str
    patch: Triple
    batch: int
    features: int = 16
    levels: int = 4
    classes: int = 3
    channels: int = 1
    precision: str = "float32"

    @property
    def name(self) -> str:
        patch = "x".join(str(n) for n in self.patch)
        ends = f"in{self.channels}-out{self.classes}"
        return f"{self.architecture}-{patch}-b{self.batch}-f{self.features}-{ends}-{self.precision}"


_ALL = ("nnunet", "nnunet_res", "unet", "residual_unet", "vnet")
SIZES = [
    *(Size(name, (40, 56, 40), 2, precision=how) for name in _ALL for how in ("float32", "bfloat16")),
    *(Size(name, (64, 64, 64), 2, precision=how) for name in _ALL for how in ("float32", "bfloat16")),
    *(Size(name, (192, 160, 1), 12, levels=5, precision="float32") for name in _ALL),
    Size("nnunet", (192, 160, 1), 12, levels=5, precision="bfloat16"),
    Size("nnunet", (64, 64, 64), 2, classes=25),
    Size("nnunet", (64, 64, 64), 2, classes=25, precision="bfloat16"),
    Size("unet", (64, 64, 64), 2, classes=25),
    Size("nnunet", (96, 96, 96), 2, features=32, levels=5),
    Size("nnunet", (16, 16, 16), 2, features=32, levels=3),
    Size("nnunet", (32, 32, 32), 2, features=64, levels=4),
    Size("nnunet", (64, 64, 64), 2, channels=4),
]


def plan_of(size: Size) -> Plan:
    axes = 2 if size.patch[2] == 1 else 3
    features = tuple(min(320, size.features * 2**n) for n in range(size.levels))
    network = NetworkPlan(
        architecture=size.architecture,
        features=features,
        strides=((1,) * axes, *((2,) * axes,) * (size.levels - 1)),
        kernels=((3,) * axes,) * size.levels,
        deep_supervision=size.architecture in ("nnunet", "nnunet_res"),
        norm="batch" if size.architecture in ("residual_unet", "vnet") else "instance",
    )
    names = tuple(f"channel {n}" for n in range(size.channels))
    return Plan(
        dataset="noise",
        channels=names,
        kinds=(Kind.MR,) * len(names),
        labels=tuple(f"structure {n}" for n in range(1, size.classes)),
        spacing_mm=(1.0, 1.0, 1.0),
        normalisation=(ZScore(),) * len(names),
        patch_size=size.patch,
        network=network,
        training=TrainingPlan(batch_size=size.batch, steps=1, precision=size.precision),  # type: ignore[arg-type]
    )


def measure(size: Size) -> tuple[int, int, int]:
    """(estimate, measured, parameters). The peak is sampled every 2 ms beside the steps."""
    plan = plan_of(size)
    keep_freed_memory()
    _warm_up()
    images = torch.randn(size.batch, size.channels, *size.patch)
    targets = torch.randint(0, size.classes, (size.batch, *size.patch))
    batch = Batch(images, targets, None, ())
    before = _held_bytes()
    peak = [before]
    for _ in _sampled(peak):
        time_step(plan, [batch] * STEPS)
    parameters = sum(p.numel() for p in training.start(plan).network.parameters())
    return training_bytes(plan), peak[0] - before, parameters


def _warm_up() -> None:
    """What a process pays once: libraries' own buffers, threads, imports."""
    small = Size("nnunet", (8, 8, 8), 1, features=2, levels=2)
    time_step(plan_of(small), [Batch(torch.randn(1, 1, 8, 8, 8), torch.zeros(1, 8, 8, 8, dtype=torch.long), None, ())])
    import monai.networks.nets  # noqa: F401

    gc.collect()


def _held_bytes() -> int:
    return int(psutil.Process().memory_info().rss)


def _sampled(peak: list[int]) -> Iterator[None]:
    done = Event()

    def sample() -> None:
        while not done.wait(0.002):
            peak[0] = max(peak[0], _held_bytes())

    thread = Thread(target=sample)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("names", nargs="*")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--one", type=int)
    parser.add_argument("--write", type=Path)
    arguments = parser.parse_args()
    if arguments.one is not None:
        torch.set_num_threads(arguments.threads)
        print(json.dumps(measure(SIZES[arguments.one])))
        return
    print(f"{'network':<50} {'estimate':>8} {'measured':>8} {'ratio':>6}  MB; parameters")
    rows = []
    for number, size in enumerate(SIZES):
        if arguments.names and not any(name in size.name for name in arguments.names):
            continue
        command = [sys.executable, __file__, "--one", str(number), "--threads", str(arguments.threads)]
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode != 0:
            print(f"{size.name:<50} {done.stderr.strip().splitlines()[-1]}", flush=True)
            continue
        estimate, measured, parameters = json.loads(done.stdout.splitlines()[-1])
        rows.append({"name": size.name, "estimate": estimate, "measured": measured, "parameters": parameters})
        ratio = measured / estimate
        print(f"{size.name:<50} {estimate / 1e6:8.0f} {measured / 1e6:8.0f} {ratio:6.2f}  {parameters:,}", flush=True)
    if arguments.write is not None:
        arguments.write.write_text(json.dumps(rows, indent=1))
    ratios = [row["measured"] / row["estimate"] for row in rows]
    if ratios:
        print(f"measured / estimate: {min(ratios):.2f} to {max(ratios):.2f}, geometric mean {_mean(ratios):.2f}")


def _mean(ratios: list[float]) -> float:
    return math.exp(sum(math.log(ratio) for ratio in ratios) / len(ratios))


if __name__ == "__main__":
    main()
