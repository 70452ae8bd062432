"""Steps of delineate's training loop with a network and a batch that nnU-Net planned, waiting for patches included."""

from __future__ import annotations

import time
from collections.abc import Mapping
from itertools import islice
from statistics import median
from typing import Any

import msgspec

from delineate import settings as machine
from delineate import training
from delineate.dataset import Dataset
from delineate.networks.memory import keep_freed_memory
from delineate.planning import NetworkPlan, Plan
from delineate.sampling import index_case
from delineate.workflow.preparing import plan_dataset, prepare_cases, use_threads

CASES, STEPS = 12, 10


def seconds_of_ours(dataset: Dataset, report: Mapping[str, Any], *, precision: str) -> float:
    """The median of a few steps. `report`: network, patch and batch; nnU-Net's last axis is our first."""
    settings = machine.detect("cpu")
    use_threads(settings)
    keep_freed_memory()
    chosen = dataset.cases[:CASES]
    plan = _with_their_network(plan_dataset(dataset, settings), report, precision)
    prepared = prepare_cases(chosen, dataset.labels, plan, settings)
    cases = [index_case(case, seed=0) for case in prepared]
    state = training.start(plan)
    seconds, before = [], time.perf_counter()
    for _ in islice(training.train(state, cases, plan), STEPS):
        now = time.perf_counter()
        seconds.append(now - before)
        before = now
    return median(seconds[2:])


def _with_their_network(plan: Plan, report: Mapping[str, Any], precision: str) -> Plan:
    network = NetworkPlan(
        architecture="nnunet",
        features=tuple(report["features_per_stage"]),
        strides=tuple(tuple(stride[::-1]) for stride in report["strides"]),
        kernels=tuple(tuple(kernel[::-1]) for kernel in report["kernel_sizes"]),
        convolutions=_repeated(report["n_conv_per_stage"], len(report["strides"])),
        decoder_convolutions=_repeated(report["n_conv_per_stage_decoder"], len(report["strides"]) - 1),
    )
    schedule = msgspec.structs.replace(plan.training, batch_size=report["batch"], precision=precision, optimiser="sgd")
    return msgspec.structs.replace(plan, network=network, patch_size=tuple(report["patch"][::-1]), training=schedule)


def _repeated(value: int | list[int], levels: int) -> tuple[int, ...]:
    return (value,) * levels if isinstance(value, int) else tuple(value)
