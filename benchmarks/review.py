"""What `delineate review` has to stand, measured on real servers: its worklist, twenty reviewers, its first picture,
scrolling, memory, and being killed.

    python benchmarks/review.py                          all but the kills: about eight minutes
    python benchmarks/review.py worklist readers         some of it
    python benchmarks/review.py --kills 50               the server killed fifty times while people draw
    python benchmarks/review.py pictures --keep FOLDER   large scans are made once, and kept

The browser draws without a graphics card, by the CPU. PostgreSQL is started in a folder of its own, and waits for the
disk as it does where people work.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))
import postgresql
from review_killing import kill_again_and_again
from reviewing.memory import measure_memory
from reviewing.pictures import make_cases, measure_pictures, measure_scrolling
from reviewing.readers import measure_readers
from reviewing.worklists import measure_worklists


def table(title: str, heads: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """A table as Markdown has it."""
    print(f"\n{title}\n")
    for cells in (heads, ["---"] * len(heads), *rows):
        print(f"| {' | '.join(cells)} |", flush=True)


@contextmanager
def database() -> Iterator[str | None]:
    """The URL of a new PostgreSQL database; None where it is not installed."""
    programs = postgresql.programs()
    if programs is None:
        yield None
        return
    with postgresql.server(programs, waits_for_disk=True) as port, postgresql.database(port) as url:
        yield url


def worklist(folder: Path, arguments: argparse.Namespace) -> None:
    (folder / "sqlite").mkdir()
    found = [measure_worklists(folder / "sqlite", None, cases=arguments.cases)]
    with database() as url:
        if url is not None:
            (folder / "postgresql").mkdir()
            found.append(measure_worklists(folder / "postgresql", url, cases=arguments.cases))
    rows = [(parts[0][0], *(cell for part in parts for cell in part[1:])) for parts in zip(*found, strict=True)]
    heads = [f"{name}, {what}" for name in ("SQLite", "PostgreSQL")[: len(found)] for what in ("median", "95 %")]
    table(f"50 of {arguments.cases} cases over HTTP, ms", ["", *heads], rows)


def readers(folder: Path, arguments: argparse.Namespace) -> None:
    with database() as url:
        outcome = measure_readers(folder, url, seconds=arguments.seconds, cases=arguments.cases)
    name = "SQLite" if url is None else "PostgreSQL"
    heads = ["", "requests", "median", "95 %", "99 %", "longest"]
    table(f"20 reviewers for {arguments.seconds:g} s against {name}, ms", heads, outcome.rows)
    print(f"answers by status: {', '.join(f'{count} of {status}' for status, count in outcome.statuses)}")
    print(
        f"{outcome.strokes} edits acknowledged, {outcome.stale} sent again after another's, {outcome.decisions} signed"
    )
    print(
        f"server's peak {outcome.peak_bytes / 1e6:.0f} MB; the audit trail verified in {outcome.verify_seconds:.1f} s"
    )
    print("nothing lost, nothing failed" if not outcome.wrong else "\n".join(outcome.wrong))


def pictures(folder: Path, arguments: argparse.Namespace) -> None:
    rows = measure_pictures(large(folder, arguments), repeats=arguments.repeats)
    table("Until the first axial picture of 512x512x300", ["", "seen before", "median, s", "slowest, s"], rows)


def scrolling(folder: Path, arguments: argparse.Namespace) -> None:
    rows = measure_scrolling(large(folder, arguments), "nifti-gzip")
    table("Scrolling through slices of 512x512, in software", ["", "slices a second", "95 % within, ms"], rows)


def memory(folder: Path, arguments: argparse.Namespace) -> None:
    copies = folder / "copies"
    copies.mkdir()
    rows = measure_memory(large(folder, arguments), copies, "nifti-gzip", memory_gb=arguments.memory_gb)
    table(f"The server's memory with --memory-gb {arguments.memory_gb:g}", ["", "MB", "most, MB"], rows)


def large(folder: Path, arguments: argparse.Namespace) -> Path:
    """A folder with CTs of 512x512x300, made where there is none."""
    there = arguments.keep or folder.parent / "large"
    if not (there / "results").is_dir():
        there.mkdir(parents=True, exist_ok=True)
        make_cases(there)
    return Path(there)


PARTS: dict[str, Callable[[Path, argparse.Namespace], None]] = {
    "worklist": worklist,
    "readers": readers,
    "pictures": pictures,
    "scrolling": scrolling,
    "memory": memory,
}


def kills(folder: Path, count: int) -> None:
    outcome = kill_again_and_again(folder, kills=count)
    print(f"{count} kills; the server was back after {statistics.median(outcome.starts):.1f} s (median)")
    print(f"{outcome.acknowledged} edits and {outcome.decided} decisions acknowledged, {outcome.kept} edits stored")
    print(f"{outcome.cut_off} requests without an answer")
    print("nothing lost, the audit trail is whole" if not outcome.wrong else "\n".join(outcome.wrong))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="*", choices=[[], *PARTS], help="[default: all]")
    parser.add_argument("--cases", type=int, default=10_000)
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--memory-gb", type=float, default=1)
    parser.add_argument("--kills", type=int, default=0)
    parser.add_argument("--keep", type=Path, help="where large scans are made, or were")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="delineate-review-") as name:
        if arguments.kills:
            (Path(name) / "kills").mkdir()
            kills(Path(name) / "kills", arguments.kills)
        for part in arguments.parts or ([] if arguments.kills else PARTS):
            folder = Path(name) / part
            folder.mkdir()
            PARTS[part](folder, arguments)


if __name__ == "__main__":
    main()
