"""Timing and a small table, shared by the benchmarks."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence


def median_seconds(run: Callable[[], object], *, repeats: int = 5, warmup: int = 1) -> float:
    """The median wall time of `repeats` calls of `run`, after `warmup` calls that do not count."""
    for _ in range(warmup):
        run()
    return statistics.median(_seconds(run) for _ in range(repeats))


def _seconds(run: Callable[[], object]) -> float:
    start = time.perf_counter()
    run()
    return time.perf_counter() - start


def print_table(title: str, rows: Sequence[tuple[str, float]], *, reference: str) -> None:
    """Print a row's seconds, and how many times those of the row named `reference` they are (over 1: slower than it).

    Raises `KeyError` if no row is named `reference`.
    """
    base = dict(rows)[reference]
    width = max(len(name) for name, _ in rows)
    print(f"\n{title}")
    for name, seconds in rows:
        print(f"  {name:<{width}}  {seconds:10.3f} s  {seconds / base:8.2f} x")
