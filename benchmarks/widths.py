"""Which network for how much time: Dice of several widths and batches at equal processor time.

    python benchmarks/widths.py hippocampus --seconds 120 360 --features 8 16 24 --batch 2 --write FILE.jsonl

Each network trains in one thread for as many steps as it takes in the given processor time (its own step is measured
first, patches included), on folds 2 to 5 of five, and is scored on fold 1 with its last weights. Processor time does
not depend on what else the machine does. A line of JSON a run; those that FILE has are not run again.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from collections.abc import Sequence
from dataclasses import replace
from itertools import islice, product
from pathlib import Path

import msgspec
import numpy as np
import torch

from delineate import settings as machine
from delineate import training
from delineate.dataset import Dataset, Split, k_folds, open_dataset
from delineate.networks.memory import keep_freed_memory
from delineate.planning import Plan, PlanOptions
from delineate.preprocessing import PreparedCase
from delineate.sampling import TrainingCase, index_case
from delineate.workflow.preparing import plan_dataset, prepare_cases

SHARED = Path(__file__).resolve().parents[2] / "shared" / "data"


def main() -> None:
    arguments = _parser().parse_args()
    torch.set_num_threads(1)
    keep_freed_memory()
    settings = machine.detect("cpu", threads=1, cache=arguments.cache)
    dataset = open_dataset(SHARED / arguments.data)
    split = k_folds(dataset, 5, seed=0)[0]
    seen = replace(dataset, cases=tuple(case for case in dataset.cases if case.id in split.training))
    base = plan_dataset(seen, settings, PlanOptions(missing_labels=arguments.missing_labels))
    cases, scored = _cases(dataset, split, base, settings)
    known = arguments.write.read_text().splitlines() if arguments.write.exists() else []
    choices = product(arguments.seconds, arguments.features, arguments.batch, arguments.flips)
    for seconds, width, batch, flips in choices:
        key = {"data": arguments.data, "cpu_seconds": seconds, "width": width, "batch": batch}
        key |= {"flips": flips, "rate": arguments.rate, "seed": arguments.seed}
        if any(json.loads(line).items() >= key.items() for line in known):
            continue
        row = key | run(_plan(base, width, batch, flips, arguments), cases, scored, seconds)
        with arguments.write.open("a") as file:
            file.write(json.dumps(row) + "\n")
        print(row, flush=True)


def _plan(base: Plan, width: int, batch: int, flips: str, arguments: argparse.Namespace) -> Plan:
    features = tuple(min(8 * width, width * 2**n) for n in range(len(base.network.features)))
    axes = {"plan": base.augmentation.flip_axes, "all": (0, 1, 2), "none": ()}[flips]
    schedule = msgspec.structs.replace(
        base.training, batch_size=batch, learning_rate=arguments.rate, seed=arguments.seed
    )
    return msgspec.structs.replace(
        base,
        network=msgspec.structs.replace(base.network, features=features),
        training=schedule,
        augmentation=msgspec.structs.replace(base.augmentation, flip_axes=axes),
        tiling=msgspec.structs.replace(base.tiling, mirror_axes=()),
    )


def _cases(
    dataset: Dataset, split: Split, plan: Plan, settings: machine.Settings
) -> tuple[list[TrainingCase], Sequence[PreparedCase]]:
    prepared = prepare_cases(
        [dataset.case(name) for name in (*split.training, *split.validation)], dataset.labels, plan, settings
    )
    count = len(split.training)
    return [index_case(case, seed=0) for case in prepared[:count]], prepared[count:]


def run(plan: Plan, cases: Sequence[TrainingCase], scored: Sequence[PreparedCase], seconds: float) -> dict[str, object]:
    """Train for `seconds` of processor time, score the last weights."""
    began = time.process_time()
    for _ in islice(training.train(training.start(plan), cases, plan), 9):
        pass
    steps = round(seconds / ((time.process_time() - began) / 9))
    plan = msgspec.structs.replace(plan, training=msgspec.structs.replace(plan.training, steps=steps))
    state, began, wall = training.start(plan), time.process_time(), time.perf_counter()
    for _ in training.train(state, cases, plan):
        state.recent_losses.clear()
    spent, wall = time.process_time() - began, time.perf_counter() - wall
    dice = training.validate(state, scored, plan)
    parameters = sum(p.numel() for p in state.network.parameters())
    return {
        "steps": steps,
        "spent": round(spent, 1),
        "wall": round(wall, 1),
        "parameters": parameters,
        "dice": [round(float(d or 0), 4) for d in dice],
        "mean": round(float(np.mean([d or 0 for d in dice])), 4),
    }


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser()
    parser.add_argument("data", choices=["hippocampus", "headneck"])
    parser.add_argument("--seconds", type=float, nargs="+", default=[120.0])
    parser.add_argument("--features", type=int, nargs="+", default=[16])
    parser.add_argument("--batch", type=int, nargs="+", default=[2])
    parser.add_argument("--flips", nargs="+", choices=["plan", "all", "none"], default=["plan"])
    parser.add_argument("--rate", type=float, default=2e-3)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--missing-labels", choices=["absent", "unknown"], default="absent")
    parser.add_argument("--cache", type=Path, default=Path(os.environ.get("TMPDIR", "/tmp")) / "delineate-widths")
    parser.add_argument("--write", type=Path, required=True)
    return parser


if __name__ == "__main__":
    main()
