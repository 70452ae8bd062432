"""An experiment that is killed again and again comes to the model of one that was left alone."""

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
from delineate.settings import Settings
from delineate.workflow.experimenting import ExperimentOptions, experiment
from delineate.workflow.training_run import Budget

MOMENTS = ("runs/plan/fold_0/training/state.safetensors", "scores/*.json")


@pytest.mark.slow
def test_kills_in_training_and_in_segmenting_change_no_model(tmp_path: Path) -> None:
    dataset = write_blobs(tmp_path / "data", 4)
    training = msgspec.structs.replace(tiny_plan().training, validations=1)
    (tmp_path / "plan.json").write_text(plan_to_json(tiny_plan(training=training)))
    options = ExperimentOptions(Budget(steps=12), folds=2, plans=(tmp_path / "plan.json",))
    settings = Settings("cpu", 1, 6 * 10**9, tmp_path / "cache")
    assert experiment(dataset, tmp_path / "alone", options=options, settings=settings) is not None
    for moment in MOMENTS:
        process = _start(tmp_path)
        while process.poll() is None and not list((tmp_path / "killed").glob(moment)):
            time.sleep(0.01)
        process.send_signal(signal.SIGKILL)
        assert process.wait() == -signal.SIGKILL
    assert _start(tmp_path).wait() == 0
    alone, again = (load_model(tmp_path / name / "model") for name in ("alone", "killed"))
    assert (alone.digest, alone.postprocessing) == (again.digest, again.postprocessing)
    assert alone.provenance.validation_dice == again.provenance.validation_dice
    results = _results(tmp_path / "alone")
    assert len(results) == 8
    assert results == _results(tmp_path / "killed")


def _start(folder: Path) -> subprocess.Popen[bytes]:
    words = ["experiment", "data", "killed", "--plans", "plan.json", "--folds", "2", "--steps", "12"]
    code = "from delineate.cli import main; main()"
    machine = ["--save-every", "0", "--device", "cpu", "--threads", "1", "--cache", "cache"]
    return subprocess.Popen([sys.executable, "-c", code, *words, *machine], cwd=folder, stdout=subprocess.DEVNULL)


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
