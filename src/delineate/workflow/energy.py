"""The energy that work takes, where the machine tells: Intel's and AMD's RAPL counters, and NVIDIA's power."""

from __future__ import annotations

import shutil
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

POWERCAP = Path("/sys/class/powercap")
SECONDS = 10.0  # between readings: counters start again at 0 after some minutes to hours
_QUERY = ("nvidia-smi", "--query-gpu=power.draw", "--format=csv,noheader,nounits")


@dataclass(slots=True)
class Energy:
    """Joules so far of processors and GPUs of the whole machine, whoever uses it; None where nothing tells."""

    joules: float | None = None


@dataclass(slots=True)
class Counters:
    """RAPL's counters of a machine's packages, which are read again and again."""

    folders: Sequence[Path]
    last: dict[Path, int] = field(default_factory=dict)

    def spent(self) -> float | None:
        """Joules since the call before, 0 at the first; None if no counter can be read."""
        total: float | None = None
        for folder in self.folders:
            with suppress(OSError, ValueError):
                now = int((folder / "energy_uj").read_text())
                before = self.last.get(folder, now)
                if now < before:  # it has started again
                    before -= int((folder / "max_energy_range_uj").read_text())
                self.last[folder] = now
                total = (total or 0.0) + (now - before) / 1e6
        return total


def packages(folder: Path = POWERCAP) -> Counters:
    """The counters of the machine's processors: intel-rapl:0, intel-rapl:1, ..., without the parts they count again."""
    return Counters(sorted(path for path in folder.glob("intel-rapl:*") if path.name.count(":") == 1))


@dataclass(slots=True)
class Power:
    """The power of all NVIDIA GPUs, taken to have been the same since the reading before."""

    last: float | None = None
    clock: Callable[[], float] = time.monotonic

    def spent(self) -> float | None:
        """Joules since the call before, 0 at the first; None if nothing tells."""
        watts = _watts()
        if watts is None:
            return None
        now = self.clock()
        before, self.last = self.last, now
        return 0.0 if before is None else watts * (now - before)


def _watts() -> float | None:
    if shutil.which(_QUERY[0]) is None:
        return None
    with suppress(OSError, subprocess.SubprocessError, ValueError):
        found = subprocess.run(_QUERY, capture_output=True, text=True, timeout=5, check=True)
        return sum(float(line) for line in found.stdout.split())
    return None


@contextmanager
def metered(device: str) -> Iterator[Energy]:
    """The energy that the machine takes while the context lasts; GPUs count where `device` is one."""
    meters: list[Counters | Power] = [packages(), *([Power()] if device.startswith("cuda") else [])]
    energy, over = Energy(), threading.Event()

    def read() -> None:
        known = [joules for joules in (meter.spent() for meter in meters) if joules is not None]
        if known:
            energy.joules = (energy.joules or 0.0) + sum(known)

    def keep_reading() -> None:
        while not over.wait(SECONDS):
            read()

    read()
    if energy.joules is None:
        yield energy
        return
    thread = threading.Thread(target=keep_reading, daemon=True)
    thread.start()
    try:
        yield energy
    finally:
        over.set()
        thread.join()
        read()
