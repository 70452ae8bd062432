"""Several processes that train one network: as one process would, and what becomes of the others when one ends."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import msgspec
import psutil
import pytest
import together_work as work
import torch
from anatomy import tiny_plan, write_blobs
from safetensors.torch import load_file

from delineate.errors import PlanError, ResourceError
from delineate.executors.companions import run_companions
from delineate.groups import ALONE, Group
from delineate.planning import Plan, plan_to_json
from delineate.settings import detect
from delineate.training import Objective
from delineate.training.together import check_shares, of_one, share_batch
from delineate.workspace import RunFolder

HERE = Path(__file__).parent


def start(what: str, folder: Path, said: list[str] | None = None) -> int:
    """Two processes of tests/together_work.py; gives the exit code."""
    words = [sys.executable, str(HERE / "together_work.py"), what, str(folder)]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "TORCH_CPP_LOG_LEVEL": "ERROR"}
    return run_companions(words, 2, say=(said if said is not None else []).append, environment=environment)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What two processes have made: curves, and a run that was stopped in its midst."""
    made = tmp_path_factory.mktemp("together")
    write_blobs(made / "data", 4)
    assert start("curves", made) == 0
    return made


@pytest.mark.parametrize(("name", "plan", "objective"), list(work.plans()), ids=[name for name, _, _ in work.plans()])
def test_two_processes_learn_what_one_learns_of_the_whole_batch(
    folder: Path, name: str, plan: Plan, objective: Objective
) -> None:
    losses, weights = work.curve(plan, objective)
    together = msgspec.json.decode((folder / f"{name}.json").read_bytes())
    assert together == pytest.approx(losses, rel=1e-5)
    first, second = (load_file(folder / f"{name} {rank}.safetensors") for rank in (0, 1))
    assert first.keys() == weights.keys()
    for key, tensor in first.items():
        assert torch.equal(tensor, second[key]), key
        if key.startswith(("network.", "average.")):
            torch.testing.assert_close(tensor, weights[key], rtol=1e-4, atol=1e-4)


def test_a_run_of_two_processes_goes_on_in_one(folder: Path) -> None:
    facts = RunFolder(folder / "resumed").facts()
    assert facts is not None
    assert facts.step == 6  # stopped by the one that leads, at its first validation
    work.run(folder, "resumed", work.course(stops=False))
    work.run(folder, "alone", work.course(stops=False))
    resumed, alone = (RunFolder(folder / name).facts() for name in ("resumed", "alone"))
    assert resumed is not None
    assert alone is not None
    assert [row.loss for row in resumed.history] == pytest.approx([row.loss for row in alone.history], rel=1e-3)
    assert resumed.step == alone.step == 12


def test_two_processes_pretrain_learn_prompts_and_distil_as_one_does(folder: Path) -> None:
    assert start("others", folder) == 0
    first, second = (msgspec.json.decode((folder / f"others {rank}.json").read_bytes()) for rank in (0, 1))
    assert first == second
    # Dice, of a student under Adam among others, which makes much of rounding.
    assert first == pytest.approx(work.other_runs(folder, "by one"), abs=0.05)
    for run in ("pretrained", "prompts", "student"):
        facts = RunFolder(folder / "by two" / run).facts()
        assert facts is not None
        assert facts.step == 12


@pytest.mark.slow
def test_one_that_is_killed_ends_the_others_and_all_go_on_from_the_checkpoint(folder: Path) -> None:
    said: list[str] = []
    assert start("killed", folder, said) == 0
    assert said == ["Process 2 of 2 was killed, most likely for lack of memory; all are started again."]
    text = (folder / "killed said").read_text()
    assert text.startswith("0: another process of this run is gone")
    assert "goes on from the last checkpoint" in text
    facts = RunFolder(folder / "killed").facts()
    assert facts is not None
    assert [row.step for row in facts.history] == list(range(1, 13))


def test_the_error_of_one_ends_all_and_is_said_once(folder: Path) -> None:
    began = time.monotonic()
    assert start("failed", folder) == 2
    assert time.monotonic() - began < 60
    assert (folder / "failed said").read_text() == "1: this case cannot be used (case blob_1)\n"
    facts = RunFolder(folder / "failed").facts()
    assert facts is not None
    assert facts.step == 7


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="needs signals")
def test_torchrun_starts_again_what_was_killed(tmp_path: Path) -> None:
    write_blobs(tmp_path / "data", 4)
    plan = work.changed(work.shared(tiny_plan()), steps=150)
    (tmp_path / "plan.json").write_text(plan_to_json(plan))
    launcher = "torch.distributed.run --standalone --nproc-per-node 2 --max-restarts 1 -m delineate train data model"
    options = "--plan plan.json --hold-out 2 --device cpu --threads 1 --save-every 0.2 --cache cache"
    words = [sys.executable, "-m", *launcher.split(), *options.split()]
    with (tmp_path / "log").open("wb") as log:
        process = subprocess.Popen(words, cwd=tmp_path, stdout=log, stderr=log)
    while process.poll() is None and not (tmp_path / "model" / "training" / "state.safetensors").exists():
        time.sleep(0.05)
    workers = [p for p in psutil.Process(process.pid).children(recursive=True) if "train" in p.cmdline()]
    workers[-1].send_signal(signal.SIGKILL)
    try:
        assert process.wait(600) == 0, (tmp_path / "log").read_text()
    finally:
        process.kill()
        process.wait()
    facts = RunFolder(tmp_path / "model").facts()
    assert facts is not None
    assert (facts.step, len(facts.history)) == (150, 150)


def test_processes_that_die_again_and_again_are_an_error() -> None:
    said: list[str] = []
    words = [sys.executable, "-c", "import os, signal; os.kill(os.getpid(), signal.SIGKILL)"]
    with pytest.raises(ResourceError, match=r"process \d of 2 was killed.*the last of 4 times.*smaller batch"):
        run_companions(words, 2, say=said.append)
    assert len(said) == 3


def test_shares_are_all_of_a_batch_and_one_that_has_none_is_refused() -> None:
    assert [n for rank in range(3) for n in Group(rank, 3).share(10)] == list(range(10))
    plan = work.changed(tiny_plan(), batch_size=5)
    with pytest.raises(
        PlanError, match=r"among 2 processes: expected a multiple of 2, got a batch of 5. Give --batch 6"
    ):
        check_shares(plan, Group(0, 2))
    larger = share_batch(plan, Group(0, 2))
    assert larger.training.batch_size == 6
    assert larger.reasons[-1] == "batch of 6 instead of 5, to be divided among 2 processes"
    assert of_one(larger, Group(1, 2)).training.batch_size == 3
    assert share_batch(plan, ALONE) == plan


def test_processes_of_one_machine_share_its_threads_and_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    alone = detect("cpu", threads=6, memory_gb=8)
    for name, value in {"RANK": 5, "WORLD_SIZE": 6, "LOCAL_RANK": 1, "LOCAL_WORLD_SIZE": 2}.items():
        monkeypatch.setenv(name, str(value))
    assert detect("cpu", threads=6, memory_gb=8) == alone  # nobody said where the others are
    monkeypatch.setenv("MASTER_ADDR", "127.0.0.1")
    one = detect("cpu", threads=6, memory_gb=8)
    assert (one.threads, one.memory_bytes) == (3, 4_000_000_000)
