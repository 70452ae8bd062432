"""Pieces of work in a shared folder, each done by one process at a time, on this machine or another.

A claim is a file `claim-N` in the folder of the work, with the name of the process that made it, touched while the work
goes on. Who takes over from a process that is gone makes `claim-N+1`: of several that try only one succeeds, and none
takes from a process that works.
"""

from __future__ import annotations

import os
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from delineate.errors import ResourceError
from delineate.files import check_writable, is_running, temporary_name, this_process

SILENT_SECONDS = 120.0
"""After so long without a sign a process on another machine counts as gone."""

_TOUCH_SECONDS = 10.0
_NAME = re.compile(r"claim-(\d{6})")
_FREE = 0.0  # the time at which a claim was last touched that was given back


@dataclass(frozen=True, slots=True)
class Claim:
    """What this process holds of a folder."""

    folder: Path
    number: int

    @property
    def is_lost(self) -> bool:
        """Whether another process took over, because this one seemed gone (a machine that slept)."""
        return _newest(self.folder) > self.number

    @property
    def path(self) -> Path:
        return self.folder / f"claim-{self.number:06}"


@contextmanager
def claimed(folder: Path) -> Iterator[Claim | None]:
    """A folder's work, for this process alone while the context lasts; None if another process is at it.

    It ends with the process, however that ends: at once for processes of this machine, after `SILENT_SECONDS` for
    others. Raises `ResourceError` if the folder cannot be written.
    """
    check_writable(folder)
    claim = _take(folder)
    if claim is None:
        yield None
        return
    over = threading.Event()
    thread = threading.Thread(target=_keep, args=(claim.path, over), daemon=True)
    thread.start()
    try:
        yield claim
    finally:
        over.set()
        thread.join()
        with suppress(FileNotFoundError):  # another process has taken over
            os.utime(claim.path, (_FREE, _FREE))


def is_claimed(folder: Path) -> bool:
    """Whether a process, this one or another, is at the work of a folder."""
    number = _newest(folder)
    return number > 0 and not _is_free(Claim(folder, number).path)


def _take(folder: Path) -> Claim | None:
    number = _newest(folder)
    if number and not _is_free(Claim(folder, number).path):
        return None
    claim = Claim(folder, number + 1)
    try:
        with claim.path.open("x", encoding="utf-8") as stream:
            stream.write(this_process())
    except FileExistsError:
        return None
    except OSError as error:
        raise ResourceError("cannot be written", path=claim.path, got=error.strerror) from error
    if claim.is_lost:  # others took over, and swept away, between the two looks
        claim.path.unlink(missing_ok=True)
        return None
    for old in range(max(1, number - 1), claim.number):
        Claim(folder, old).path.unlink(missing_ok=True)
    return claim


def _keep(path: Path, over: threading.Event) -> None:
    while not over.wait(_TOUCH_SECONDS):
        with suppress(OSError):
            os.utime(path)


def _newest(folder: Path) -> int:
    """The number of the claim that counts; 0 if there is none."""
    found = (_NAME.fullmatch(path.name) for path in folder.iterdir())
    return max((int(match[1]) for match in found if match), default=0)


def _is_free(path: Path) -> bool:
    try:
        touched, process = path.stat().st_mtime, path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return False  # somebody has just taken over
    if touched == _FREE:
        return True
    runs = is_running(process)
    if runs is not None:
        return not runs
    return _now(path.parent) - touched > SILENT_SECONDS


def _now(folder: Path) -> float:
    """The time by the clock of the folder's file system: those of two machines may differ."""
    path = temporary_name(folder / "clock")
    try:
        path.touch()
        return path.stat().st_mtime
    finally:
        path.unlink(missing_ok=True)
