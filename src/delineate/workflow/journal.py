"""What a batch is doing, on disk: should the run be killed, the next one can say what it was busy with."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

import msgspec

from delineate.files import leftovers, temporary_name
from delineate.workflow.batches import Phase

_NAME = "cases.journal"


@dataclass(frozen=True, slots=True)
class Journal:
    """Where cases are on their way; any thread may note it."""

    _stream: BinaryIO
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def note(self, case: str, phase: Phase) -> None:
        with self._lock:
            self._stream.write(msgspec.json.encode((case, phase)) + b"\n")


@contextmanager
def open_journal(folder: Path) -> Iterator[Journal]:
    """A journal in a folder, under a name that `files.sweep` removes should this process be killed."""
    path = temporary_name(folder / _NAME)
    try:
        with path.open("wb", buffering=0) as stream:
            yield Journal(stream)
    finally:
        with suppress(OSError):
            path.unlink()


def cut_off(folder: Path) -> dict[str, Phase]:
    """The cases that runs which were killed were busy with in a folder, and with what."""
    busy: dict[str, Phase] = {}
    for left in leftovers(folder):
        if left.name == _NAME:
            busy |= _busy(left.path)
    return busy


def _busy(path: Path) -> dict[str, Phase]:
    phases: dict[str, Phase] = {}
    with suppress(OSError):
        for line in path.read_bytes().splitlines():
            with suppress(msgspec.DecodeError):  # the last one may be half a line
                case, phase = msgspec.json.decode(line, type=tuple[str, Phase])
                phases[case] = phase
    return {case: phase for case, phase in phases.items() if not phase.is_end}
