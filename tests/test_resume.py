"""A run that is killed again and again ends where a run left alone ends."""

import multiprocessing
import os
import random
import signal
import threading
from dataclasses import replace
from pathlib import Path

import msgspec
import pytest
from anatomy import tiny_plan, write_blobs
from safetensors.torch import load_file

from delineate.dataset import open_dataset
from delineate.settings import detect
from delineate.workflow import training
from delineate.workflow.training import Budget, Division
from delineate.workspace import RunFolder

STEPS, KILLS = 80, 10
MOST_SECONDS = 0.05  # from a step to the kill: about as long as a step and what is written after it
SLOW_TO_IMPORT = ("torch._dynamo", "torch.utils.tensorboard", "matplotlib.backends.backend_agg")
DROPOUT = msgspec.structs.replace(tiny_plan().network, dropout=0.2)
PLAN = tiny_plan(network=DROPOUT, training=msgspec.structs.replace(tiny_plan().training, steps=STEPS, validations=8))


@pytest.mark.slow
def test_ten_kills_at_random_moments_change_no_weight(tmp_path: Path) -> None:
    write_blobs(tmp_path / "data", 3)
    moments, killed = random.Random(7), 0
    for _ in range(KILLS):
        facts = RunFolder(tmp_path / "killed").facts()
        step = (0 if facts is None else facts.step) + moments.randint(1, STEPS // KILLS)
        killed += run(tmp_path, "killed", step, moments.uniform(0, MOST_SECONDS)) == -signal.SIGKILL
    assert killed >= KILLS // 2  # the last kills may come too late
    assert run(tmp_path, "killed") == run(tmp_path, "alone") == 0
    alone, resumed = (load_file(tmp_path / name / "weights.safetensors") for name in ("alone", "killed"))
    assert alone.keys() == resumed.keys()
    assert all((alone[name] == resumed[name]).all() for name in alone)


def run(*arguments: Path | str | float) -> int | None:
    """The exit code of a process of its own, which has imported everything already."""
    processes = multiprocessing.get_context("forkserver")
    processes.set_forkserver_preload([__name__, *SLOW_TO_IMPORT])
    process = processes.Process(target=train, args=arguments)
    process.start()
    process.join()
    return process.exitcode


def train(folder: Path, name: str, step: int = 0, seconds: float = 0.0) -> None:
    """Train, and save after every step; killed so many seconds after a step (never after 0), whatever is done then."""

    def watch(stage: str, done: float, total: float, note: str) -> None:
        if stage == "Training" and done == step:
            threading.Timer(seconds, os.kill, (os.getpid(), signal.SIGKILL)).start()

    machine = replace(detect("cpu", threads=1, cache=folder / "cache"), save_seconds=0)
    division, data = Division(hold_out=1), open_dataset(folder / "data")
    training.train(data, folder / name, budget=Budget(), division=division, settings=machine, plan=PLAN, watch=watch)
