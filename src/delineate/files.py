"""Files that are there whole or not at all: written under a temporary name, then renamed."""

from __future__ import annotations

import errno
import os
import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from delineate.errors import ResourceError


@contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """A temporary path beside `path`, to write a file or a folder at; it takes `path`'s name if nothing failed.

    The temporary name keeps `path`'s suffixes, because writers choose their format by them. A file
    replaces an existing one; an existing folder is set aside, replaced, and only then removed. Whatever
    fails, nothing half-written stays. Raises `ResourceError` if the disk is full or cannot be written.
    """
    temporary = path.with_name(f".{uuid.uuid4().hex[:8]}.partial.{path.name}")
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
    finally:
        if temporary.is_dir():
            shutil.rmtree(temporary, ignore_errors=True)
        else:
            temporary.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Write a text file atomically, in UTF-8."""
    with atomic_path(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_bytes(path: Path, data: bytes) -> None:
    """Write a binary file atomically."""
    with atomic_path(path) as temporary:
        temporary.write_bytes(data)


def _flush(path: Path) -> None:
    # Without it a power cut after the rename can leave an empty file under the good name.
    with path.open("rb") as stream:
        os.fsync(stream.fileno())


def _replace_folder(temporary: Path, path: Path) -> None:
    aside = path.with_name(f"{temporary.name}.old")
    if path.exists():
        path.replace(aside)
    try:
        temporary.replace(path)
    except OSError:
        if aside.exists():
            aside.replace(path)
        raise
    shutil.rmtree(aside, ignore_errors=True)


def _explained(error: OSError, path: Path) -> ResourceError | None:
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return ResourceError("the disk is full", path=path, remedy="Free some space and run again.")
    if error.errno in (errno.EACCES, errno.EROFS, errno.EPERM):
        return ResourceError("cannot be written", path=path, got=error.strerror, remedy="Choose another folder.")
    return None
