"""`delineate tune` in several processes, each killed once: the small form of benchmarks/tuning.py."""

from dataclasses import replace
from pathlib import Path

import psutil
import pytest
from anatomy import write_blobs
from test_tuning import POOR, search

from delineate.settings import detect
from delineate.workflow.tuning import Effort


@pytest.mark.slow
def test_killed_processes_lose_nothing(tmp_path: Path) -> None:
    data = write_blobs(tmp_path / "data", 8)
    settings = replace(detect("cpu", threads=2, memory_gb=4, cache=tmp_path / "cache"), save_seconds=0.0)
    killed: set[int] = set()
    said: list[str] = []

    def kill(stage: str, done: float, total: float, note: str) -> None:
        said.append(f"{stage}: {note}")
        if stage.startswith("Process") and note.startswith("Training") and done >= 7 and not killed:
            for child in psutil.Process().children():
                if "spawn_main" in " ".join(child.cmdline()):
                    killed.add(child.pid)
                    child.kill()

    apart = search(data, tmp_path / "apart", settings, Effort(trials=2, processes=2, confirm=0), watch=kill)
    assert len(killed) == 2
    assert sum("Begun again: process" in line and "was killed" in line for line in said) == 2
    assert apart.finished
    alone = replace(settings, threads=1, memory_bytes=2 * 10**9)
    together = search(data, tmp_path / "together", alone, Effort(trials=2, confirm=0))
    assert apart.trials[0].told.values["learning_rate"] == POOR.training.learning_rate
    assert [trial.dice for trial in apart.trials] == [trial.dice for trial in together.trials]
