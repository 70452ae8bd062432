"""How a server's memory is shared out, and kept from growing beyond that."""

from __future__ import annotations

import ctypes
import sys
from dataclasses import dataclass

PROGRAM_BYTES = 300_000_000
"""What a server takes that has opened nothing; see benchmarks/review.py memory."""

_TRIM_THRESHOLD = -1  # M_TRIM_THRESHOLD and M_MMAP_THRESHOLD of glibc's malloc.h
_MMAP_THRESHOLD = -3
_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class Shares:
    """Bytes for the `labels` of cases, for `scans` that have to be read whole, and for `answers` that are kept."""

    labels: int
    scans: int
    answers: int


def shares_of(memory_bytes: int) -> Shares:
    """The shares of what a server may take; half of it at least, where the program itself leaves less."""
    voxels = max(memory_bytes - PROGRAM_BYTES, memory_bytes // 2)
    return Shares(voxels // 2, voxels // 4, voxels // 4)


def return_freed_memory() -> bool:
    """Let this process give large blocks back to the system as soon as they are free; whether the system let us.

    Otherwise glibc keeps them between blocks that are still used: with many slices of many cases coming and going that
    becomes half as much again as is used. Other systems (macOS, Windows, musl) are left as they are.
    """
    if not sys.platform.startswith("linux"):
        return False
    try:
        set_option = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError):
        return False
    return all(bool(set_option(option, _BYTES)) for option in (_MMAP_THRESHOLD, _TRIM_THRESHOLD))
