"""A batch that is killed again and again: see benchmarks/interruptions.py, which kills more often."""

import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parent.parent / "benchmarks" / "interruptions.py"


@pytest.mark.slow
def test_killed_batches_end_with_every_result_once_and_whole(tmp_path: Path) -> None:
    words = ["--cases", "6", "--kills", "2", "--keep", str(tmp_path)]
    run = subprocess.run([sys.executable, str(SCRIPT), *words], capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stdout + run.stderr
    assert "when the last run was cut off" in run.stdout
    assert "2 kills, 6 cases: every result there, once, whole; nothing left over" in run.stdout
