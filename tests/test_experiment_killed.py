"""An experiment that is killed again and again comes to the model of one that was left alone."""

import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import msgspec
import pytest
from anatomy import tiny_plan, write_blobs

from delineate.model import load_model
from delineate.planning import plan_to_json

KILLS = 4


@pytest.mark.slow
def test_kills_at_random_moments_change_no_model(tmp_path: Path) -> None:
    write_blobs(tmp_path / "data", 4)
    training = msgspec.structs.replace(tiny_plan().training, steps=30)
    for name, seed in ("first", 0), ("second", 1):
        plan = tiny_plan(training=msgspec.structs.replace(training, seed=seed))
        (tmp_path / f"{name}.json").write_text(plan_to_json(plan))
    assert _start(tmp_path, "alone").wait() == 0
    moments, killed = random.Random(3), 0
    for _ in range(KILLS):
        process = _start(tmp_path, "killed")
        _wait_for_progress(process, tmp_path / "killed", seconds=moments.uniform(0, 2))
        process.send_signal(signal.SIGKILL)
        killed += process.wait() == -signal.SIGKILL
    assert killed >= KILLS // 2
    assert _start(tmp_path, "killed").wait() == 0
    alone, again = (load_model(tmp_path / name / "model") for name in ("alone", "killed"))
    assert (alone.digest, alone.postprocessing) == (again.digest, again.postprocessing)
    assert alone.provenance.validation_dice == again.provenance.validation_dice
    assert _results(tmp_path / "alone") == _results(tmp_path / "killed")


def _start(folder: Path, name: str) -> subprocess.Popen[bytes]:
    words = ["experiment", "data", name, "--plans", "first.json,second.json", "--folds", "2", "--steps", "30"]
    code = "from delineate.cli import main; main()"
    machine = ["--save-every", "0.2", "--device", "cpu", "--threads", "1", "--cache", "cache"]
    return subprocess.Popen([sys.executable, "-c", code, *words, *machine], cwd=folder, stdout=subprocess.DEVNULL)


def _wait_for_progress(process: subprocess.Popen[bytes], folder: Path, *, seconds: float) -> None:
    """Until this process has written something that counts, and a random time longer."""
    before = _written(folder)
    while process.poll() is None and _written(folder) == before:
        time.sleep(0.02)
    time.sleep(seconds)


def _written(folder: Path) -> int:
    """When the last checkpoint or scores were written."""
    paths = [*folder.glob("runs/*/*/training/state.safetensors"), *folder.glob("scores/*.json")]
    times = []
    for path in paths:
        try:
            times.append(path.stat().st_mtime_ns)
        except FileNotFoundError:  # replaced at this moment
            continue
    return max(times, default=0)


def _results(folder: Path) -> dict[str, bytes]:
    """What was found out of fold: label maps without the compression's time stamps, and figures without seconds."""
    import gzip
    import json

    maps = {str(path.relative_to(folder)): gzip.decompress(path.read_bytes()) for path in folder.rglob("*.nii.gz")}
    scores = {}
    for path in folder.glob("scores/*.json"):
        record = json.loads(path.read_text())
        scores[path.name] = json.dumps({**record, "seconds": 0, "total_seconds": 0}).encode()
    return maps | scores
