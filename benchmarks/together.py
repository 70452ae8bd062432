"""Several processes against one with the same whole batch: the loss of every step of both, and steps a second.

    python benchmarks/together.py [--processes 2] [--batch 2] [--steps 30] [--patch 40 56 40] [--threads 2]

The threads are those of the machine: one process has them all, several share them.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

import msgspec

from delineate import training
from delineate.executors.companions import run_companions
from delineate.networks.memory import keep_freed_memory
from delineate.phantom.hippocampus import make_hippocampus_patient
from delineate.planning import AugmentationPlan, NetworkPlan, Plan, Tiling, TrainingPlan, ZScore
from delineate.preprocessing import prepare
from delineate.sampling import TrainingCase, index_case
from delineate.settings import detect
from delineate.training.together import match
from delineate.volume import Kind
from delineate.workflow.company import company
from delineate.workflow.preparing import use_threads

CASES, UNTIMED = 4, 3


class Result(msgspec.Struct):
    losses: list[float]
    seconds: list[float]


def plan_of(options: argparse.Namespace, labels: tuple[str, ...]) -> Plan:
    return Plan(
        dataset="phantom",
        channels=("MR",),
        kinds=(Kind.MR,),
        labels=labels,
        spacing_mm=(1.0, 1.0, 1.0),
        normalisation=(ZScore(),),
        patch_size=tuple(options.patch),
        network=NetworkPlan(
            architecture="nnunet",
            features=(16, 32, 64, 128),
            strides=((1, 1, 1), (2, 2, 2), (2, 2, 2), (2, 2, 2)),
            kernels=((3, 3, 3),) * 4,
        ),
        training=TrainingPlan(
            batch_size=options.batch, steps=options.steps, learning_rate=1e-3, precision="float32", validations=1
        ),
        augmentation=AugmentationPlan(),
        tiling=Tiling(),
    )


def cases_of(options: argparse.Namespace) -> tuple[Plan, list[TrainingCase]]:
    patients = [make_hippocampus_patient(seed) for seed in range(CASES)]
    plan = plan_of(options, patients[0].reference.labels.names)
    return plan, [index_case(prepare(p.id, p.image, p.reference, plan), seed=0) for p in patients]


def measure(options: argparse.Namespace) -> None:
    """One of the processes; the one that leads writes the result."""
    settings = detect("cpu", threads=options.threads)
    use_threads(settings)
    keep_freed_memory()
    plan, cases = cases_of(options)
    with company("cpu") as together:
        state = match(training.start(plan) if together.leads else None, plan, together.group)
        found, before = Result([], []), time.perf_counter()
        for _ in training.train(state, cases, plan):
            now = time.perf_counter()
            found.losses.append(float(state.recent_losses[-1]))
            found.seconds.append(now - before)
            before = now
        if together.leads:
            Path(options.result).write_bytes(msgspec.json.encode(found))


def run(processes: int) -> Result:
    with tempfile.TemporaryDirectory() as folder:
        result = Path(folder) / "result.json"
        words = [sys.executable, __file__, *sys.argv[1:], "--result", str(result)]
        quiet = os.environ | {"TORCH_CPP_LOG_LEVEL": "ERROR"}
        if run_companions(words, processes, say=print, environment=quiet):
            raise SystemExit(1)
        return msgspec.json.decode(result.read_bytes(), type=Result)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--batch", type=int, default=2)
    parser.add_argument("--steps", type=int, default=30)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--patch", type=int, nargs=3, default=(40, 56, 40))
    parser.add_argument("--result", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.result:
        measure(options)
        os._exit(0)
    one, several = run(1), run(options.processes)
    print(f"step  one process  {options.processes} processes  apart by")
    for step, (a, b) in enumerate(zip(one.losses, several.losses, strict=True)):
        print(f"{step:4}  {a:11.6f}  {b:11.6f}  {abs(a - b) / a:8.1e}")
    for words, result in (("one process", one), (f"{options.processes} processes", several)):
        print(f"{words}: {1 / median(result.seconds[UNTIMED:]):.2f} steps a second")


if __name__ == "__main__":
    main()
