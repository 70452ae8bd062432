"""Files that are there whole or not at all: written under a temporary name, then renamed."""

from __future__ import annotations

import csv
import errno
import functools
import hashlib
import io
import os
import platform
import re
import shutil
import tempfile
import time
import uuid
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import psutil

from delineate.errors import DelineateError, ResourceError

_TEMPORARY = re.compile(r"\.[0-9a-f]{8}(?:\.([0-9a-f]{6})-(\d+)-(\d+))?\.partial\.(.+)")
_ASIDE = ".old"
_ABANDONED_SECONDS = 3600.0
_CLOCK_SECONDS = 10.0  # by which a clock that is set right moves the time at which a process began


@contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """A temporary path beside `path`, to write a file or a folder at; it takes `path`'s name if nothing failed.

    The temporary name keeps `path`'s suffixes, because writers choose their format by them. A file
    replaces an existing one; an existing folder is set aside, replaced, and only then removed. Of several
    processes that write one folder at once, one's is there in the end. Whatever fails, nothing half-written
    stays. Raises `ResourceError` if the disk is full or cannot be written.
    """
    temporary = temporary_name(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield temporary
        if temporary.is_dir():
            _replace_folder(temporary, path)
        else:
            _flush(temporary)
            temporary.replace(path)
    except OSError as error:
        explained = _explained(error, path)
        if explained is None:
            raise
        raise explained from error
    except DelineateError as error:
        # Nobody knows the temporary name.
        if error.path is None or temporary.name not in str(error.path):
            raise
        raise error.at(path) from error
    finally:
        with suppress(OSError):
            shutil.rmtree(temporary, ignore_errors=True) if temporary.is_dir() else temporary.unlink()


def write_text(path: Path, text: str) -> None:
    """Write a text file atomically, in UTF-8."""
    with atomic_path(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_csv(path: Path, rows: Iterable[Iterable[object]]) -> None:
    """Write rows as comma-separated values, atomically."""
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows)
    write_text(path, text.getvalue())


def write_bytes(path: Path, data: bytes) -> None:
    """Write a binary file atomically."""
    with atomic_path(path) as temporary:
        temporary.write_bytes(data)


def write_once(path: Path, data: bytes, *, mode: int = 0o666) -> None:
    """Write a binary file atomically unless there is one: of several at once one succeeds, and the others see its file.

    `mode`: its permissions. Raises `ResourceError` as `atomic_path` does.
    """
    temporary = temporary_name(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
        with os.fdopen(descriptor, "wb") as stream:
            stream.write(data)
        _flush(temporary)
        _link(temporary, path)
    except OSError as error:
        raise _explained(error, path) or _cannot_write(error, path) from error
    finally:
        with suppress(OSError):
            temporary.unlink()


def _link(temporary: Path, path: Path) -> None:
    try:
        path.hardlink_to(temporary)
    except FileExistsError:
        return
    except OSError:
        temporary.replace(path)  # a file system without links


def temporary_name(path: Path) -> Path:
    """A hidden name beside `path` that says which process made it, so that others know when nobody needs it."""
    return path.with_name(f".{uuid.uuid4().hex[:8]}.{this_process()}.partial.{path.name}")


def this_process() -> str:
    """A name that no other process has, on this machine or another."""
    return f"{_place()}-{_process(os.getpid())}"


def is_running(process: str) -> bool | None:
    """Whether a process runs, by its name of `this_process`; None for one of another machine, or a name that is none.

    There it may run or not.
    """
    parts = process.split("-")
    if len(parts) != 3 or parts[0] != _place() or not (parts[1].isdecimal() and parts[2].isdecimal()):
        return None
    return _is_running(int(parts[1]), float(parts[2]))


@functools.cache
def _place() -> str:
    """Six digits for the machine, or the container on it: beyond it the numbers of processes mean nothing."""
    namespace = Path("/proc/self/ns/pid")
    parts = (platform.node(), namespace.stat().st_ino if namespace.exists() else 0)
    return hashlib.sha256(repr(parts).encode()).hexdigest()[:6]


@functools.cache
def _process(number: int) -> str:
    # Numbers of processes are given again, the second in which one began is not.
    return f"{number}-{int(psutil.Process(number).create_time())}"


def system_error(error: BaseException) -> OSError | None:
    """The system's own error, with its number, that an exception is or was raised from; None where there is none.

    Libraries wrap it into errors of their own, some of its very type.
    """
    found: BaseException | None = error
    while found is not None and not (isinstance(found, OSError) and found.errno is not None):
        found = found.__cause__
    return found


def check_writable(folder: Path) -> None:
    """Make a folder. Raises `ResourceError` if files cannot be written in it, before work is done for nothing."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=folder).close()
    except OSError as error:
        raise _explained(error, folder) or _cannot_write(error, folder) from error


def remove(path: Path) -> None:
    """Remove a file if it is there. Raises `ResourceError` if it cannot be."""
    try:
        path.unlink(missing_ok=True)
    except OSError as error:
        raise _explained(error, path) or _cannot_write(error, path) from error


@contextmanager
def exclusive(folder: Path) -> Iterator[None]:
    """A folder, made where there is none, for one run alone: others of this program that ask for the same are refused.

    The lock ends with the process, however that ends. Raises `ResourceError` if another run has it. File systems
    without locks let everybody in.
    """
    check_writable(folder)
    descriptor = _locked(folder)
    try:
        yield
    finally:
        if descriptor is not None:
            os.close(descriptor)


def _locked(folder: Path) -> int | None:
    try:
        import fcntl

        descriptor = os.open(folder, os.O_RDONLY)
    except (ImportError, OSError):
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        os.close(descriptor)
        raise ResourceError("another run is writing here", path=folder, remedy="Wait for it.") from error
    except OSError:
        os.close(descriptor)
        return None
    return descriptor


@dataclass(frozen=True, slots=True)
class Leftover:
    """What a process that is gone left under a temporary name: where, and the name it was to get."""

    path: Path
    name: str


def leftovers(folder: Path) -> tuple[Leftover, ...]:
    """What dead processes left in a folder under names of `temporary_name`, in alphabetical order.

    A process of another machine, of which nothing is known, counts as dead after an hour.
    """
    found = []
    for path in sorted(folder.iterdir()) if folder.is_dir() else ():
        left = _TEMPORARY.fullmatch(path.name)
        if left is not None and _is_abandoned(path, left):
            found.append(Leftover(path, left.group(4)))
    return tuple(found)


def sweep(folder: Path) -> None:
    """Remove what `atomic_path` left in a folder when its process was killed; see `leftovers`."""
    for left in leftovers(folder):
        # What was set aside may be all there is.
        aside = left.name.endswith(_ASIDE)
        if not aside or left.path.with_name(left.name.removesuffix(_ASIDE)).exists():
            shutil.rmtree(left.path, ignore_errors=True) if left.path.is_dir() else remove(left.path)


def _is_abandoned(path: Path, left: re.Match[str]) -> bool:
    place, number, began = left.group(1, 2, 3)
    if place == _place():
        return not _is_running(int(number), float(began))
    try:
        return time.time() - path.stat().st_mtime > _ABANDONED_SECONDS
    except OSError:
        return False


def _is_running(number: int, began: float) -> bool:
    try:
        process = psutil.Process(number)
        same = abs(process.create_time() - began) < _CLOCK_SECONDS
        return bool(same and process.status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False
    except psutil.Error:
        return True


def check_space(folder: Path, needed: int, *, what: str) -> None:
    """Raises `ResourceError` if fewer bytes are free where a folder is, or is to be, than `what` will take."""
    there = next(path for path in (folder, *folder.absolute().parents) if path.exists())
    free = shutil.disk_usage(there).free
    if free < needed:
        raise ResourceError(
            f"the disk has no room for {what}",
            expected=f"{needed / 1e9:.2f} GB",
            got=f"{free / 1e9:.2f} GB free",
            path=folder,
            remedy="Free some space, or choose a folder on another disk.",
        )


@contextmanager
def scratch_file(folder: Path, size: int) -> Iterator[BinaryIO]:
    """An open file of `size` bytes that has no name, and so is gone with its last user, however that ends.

    The disk's blocks are taken at once: who writes to memory that is mapped to a file that has none left is killed.
    Raises `ResourceError` if the disk has no room for it, or cannot be written.
    """
    check_writable(folder)
    check_space(folder, size, what="voxels that do not fit into memory")
    with tempfile.TemporaryFile(dir=folder) as stream:
        try:
            stream.truncate(size)
            if hasattr(os, "posix_fallocate"):
                os.posix_fallocate(stream.fileno(), 0, size)
        except OSError as error:
            raise _explained(error, folder) or _cannot_write(error, folder) from error
        yield stream


def _flush(path: Path) -> None:
    # Without it a power cut after the rename can leave an empty file under the good name.
    with path.open("rb") as stream:
        os.fsync(stream.fileno())


def _replace_folder(temporary: Path, path: Path) -> None:
    aside = path.with_name(f"{temporary.name}{_ASIDE}")
    if path.exists():
        with suppress(FileNotFoundError):  # another process may be replacing it, too
            path.replace(aside)
    try:
        temporary.replace(path)
    except OSError as error:
        # Another process was faster: its folder is as whole as this one.
        if not (error.errno in (errno.ENOTEMPTY, errno.EEXIST) and path.is_dir()):
            if aside.exists():
                aside.replace(path)
            raise
    shutil.rmtree(aside, ignore_errors=True)


def _explained(failed: OSError, path: Path) -> ResourceError | None:
    error = system_error(failed) or failed
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return ResourceError("the disk is full", path=path, remedy="Free some space and run again.")
    if error.errno == errno.ENAMETOOLONG:
        return ResourceError("the name is too long", path=path, remedy="Choose a shorter one.")
    if error.errno in (errno.EACCES, errno.EROFS, errno.EPERM, errno.ENOTDIR, errno.EISDIR, errno.EEXIST):
        return _cannot_write(error, path)
    return None


def _cannot_write(error: OSError, path: Path) -> ResourceError:
    return ResourceError("cannot be written", path=path, got=error.strerror, remedy="Choose another folder.")
