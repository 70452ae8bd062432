"""A run that is killed again and again ends where a run left alone ends."""

import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import msgspec
import pytest
from anatomy import tiny_plan, write_blobs
from safetensors.torch import load_file

from delineate.planning import plan_to_json

KILLS = 10


@pytest.mark.slow
def test_ten_kills_at_random_moments_change_no_weight(tmp_path: Path) -> None:
    write_blobs(tmp_path / "data", 3)
    plan = tiny_plan(training=msgspec.structs.replace(tiny_plan().training, steps=1000, precision="bfloat16"))
    (tmp_path / "plan.json").write_text(plan_to_json(plan))
    _train(tmp_path, "alone").wait()
    moments = random.Random(7)
    interrupted = 0
    for _ in range(KILLS):
        process = _train(tmp_path, "killed")
        _wait_for_training(process, tmp_path / "killed" / "training", seconds=moments.uniform(0, 0.4))
        process.send_signal(signal.SIGKILL)
        interrupted += process.wait() == -signal.SIGKILL
    assert interrupted >= KILLS // 2
    assert _train(tmp_path, "killed").wait() == 0
    alone, killed = (load_file(tmp_path / name / "weights.safetensors") for name in ("alone", "killed"))
    assert alone.keys() == killed.keys()
    assert all((alone[name] == killed[name]).all() for name in alone)


def _train(folder: Path, name: str) -> subprocess.Popen[bytes]:
    words = ["train", "data", name, "--plan", "plan.json", "--hold-out", "1", "--save-every", "0.2"]
    code = "from delineate.cli import main; main()"
    machine = ["--device", "cpu", "--threads", "1", "--cache", "cache"]
    return subprocess.Popen([sys.executable, "-c", code, *words, *machine], cwd=folder, stdout=subprocess.DEVNULL)


def _wait_for_training(process: subprocess.Popen[bytes], folder: Path, *, seconds: float) -> None:
    """Until this process has saved something, and a random time longer."""
    state = folder / "state.safetensors"
    before = state.stat().st_mtime_ns if state.exists() else 0
    while process.poll() is None and not (state.exists() and state.stat().st_mtime_ns != before):
        time.sleep(0.02)
    time.sleep(seconds)
