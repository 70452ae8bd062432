"""Run a command by itself and see what it takes: wall seconds, and the most memory it and its children held at once."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import psutil

SAMPLE_SECONDS = 0.1


@dataclass(frozen=True, slots=True)
class Taken:
    """`peak_gb` (GiB): memory of the command and its children at one moment, shared pages counted once. `report`: what
    the command printed in its last line as JSON; None if it failed, and `words` says how."""

    seconds: float
    peak_gb: float
    report: Mapping[str, Any] | None
    words: str


def run_alone(
    command: Sequence[str], *, environment: Mapping[str, str] | None = None, sample_seconds: float = SAMPLE_SECONDS
) -> Taken:
    """Start the command, wait for its end, look at its memory every `sample_seconds`.

    A look at a large process takes some 20 ms of a core and of the process itself: where seconds count and memory does
    not, look seldom.
    """
    with tempfile.TemporaryFile("w+") as output:
        began = time.perf_counter()
        process = subprocess.Popen(
            command, stdout=output, stderr=subprocess.STDOUT, env=os.environ | dict(environment or {})
        )
        peak = 0
        while process.poll() is None:
            peak = max(peak, _held(process.pid))
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(sample_seconds)
        seconds = time.perf_counter() - began
        output.seek(0)
        lines = output.read().strip().splitlines()
    failed = process.returncode != 0
    return Taken(seconds, peak / 2**30, None if failed else _report(lines), "\n".join(lines[-3:]) if failed else "")


def _held(pid: int) -> int:
    """Bytes of a process and all its descendants; each page shared by several is divided among them."""
    total = 0
    with contextlib.suppress(psutil.NoSuchProcess):
        root = psutil.Process(pid)
        for process in (root, *root.children(recursive=True)):
            with contextlib.suppress(psutil.NoSuchProcess, psutil.AccessDenied):  # it ended while we looked
                total += process.memory_full_info().pss
    return total


def _report(lines: Sequence[str]) -> dict[str, Any]:
    for line in reversed(lines):
        if line.startswith("{"):
            found: dict[str, Any] = json.loads(line)
            return found
    return {}
