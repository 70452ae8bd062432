"""A real server of a review, in a process of its own, as `delineate review` starts it."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil


@dataclass(frozen=True)
class Server:
    """`base`: its address; `entrance`: the address that lets in once; `pid`: of its process."""

    base: str
    entrance: str
    pid: int

    def peak_bytes(self) -> int:
        """The most memory that it has had so far, file pages that it maps included (Linux)."""
        status = Path(f"/proc/{self.pid}/status").read_text()
        found = re.search(r"VmHWM:\s+(\d+) kB", status)
        assert found is not None
        return int(found[1]) * 1024

    def memory_bytes(self) -> int:
        """What it has now."""
        return int(psutil.Process(self.pid).memory_info().rss)


@contextmanager
def server(folder: Path, *, database: str | None = None, more: Sequence[str] = ()) -> Iterator[Server]:
    """A server of FOLDER/scans and FOLDER/results; the review is kept in FOLDER/results/review. Killed at the end."""
    command = [sys.executable, "-m", "delineate", "review", str(folder / "scans"), str(folder / "results")]
    command += ["--no-browser", "--port", "0", *more, *(() if database is None else ("--database", database))]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as process:
        try:
            yield _listening(process)
        finally:
            process.kill()


def _listening(process: subprocess.Popen[str]) -> Server:
    assert process.stdout is not None
    said = []
    for line in process.stdout:
        said.append(line)
        found = re.search(r"Listening on (\S+)", line)
        if found is not None:
            return Server(found[1].partition("/?")[0], found[1], process.pid)
    raise RuntimeError("".join(said))
