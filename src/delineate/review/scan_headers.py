"""What the headers of scans say, read once: those of a series of hundreds of files take a second."""

from __future__ import annotations

import threading
from functools import lru_cache
from pathlib import Path

from delineate import formats
from delineate.formats import Stack
from delineate.formats.nifti import is_nifti_name
from delineate.geometry import Grid
from delineate.review.seen import file_marks

_KEPT = 16  # series: some kilobytes a slice
_reading: dict[Path, threading.Lock] = {}


def stack_of(path: Path) -> Stack:
    """As `formats.stack_at`; its files are read again only when their names, sizes or times change.

    Of several threads that ask for one series at once, one reads it.
    """
    whole = path.absolute()
    with _reading.setdefault(whole, threading.Lock()):
        return _stack(whole, file_marks(path))


def grid_of(path: Path) -> Grid:
    """As `formats.read_grid`, read again only when files change."""
    return formats.read_grid(path) if is_nifti_name(path) else stack_of(path).grid


@lru_cache(maxsize=_KEPT)
def _stack(path: Path, marks: tuple[tuple[str, int, int], ...]) -> Stack:
    return formats.stack_at(path)
