"""How a server's memory is shared out, and kept from growing beyond that."""

from __future__ import annotations

from dataclasses import dataclass

from delineate.allocator import keep_freed_below

PROGRAM_BYTES = 300_000_000
"""What a server takes that has opened nothing; see benchmarks/review.py memory."""

_LARGE_BYTES = 1 << 20


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
    becomes half as much again as is used.
    """
    return keep_freed_below(_LARGE_BYTES)
