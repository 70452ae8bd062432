"""Progress bars on the terminal; plain lines where it is no terminal."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console, RenderableType
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn, TimeRemainingColumn

LINE_SECONDS = 20.0  # between plain lines of one stage


class Terminal:
    """Shows how far each stage is: call it as `watch(stage, done, total, note)`."""

    def __init__(self, console: Console, progress: Progress | None) -> None:
        self._console, self._progress = console, progress
        self._tasks: dict[str, TaskID] = {}
        self._said: dict[str, float] = {}

    def __call__(self, stage: str, done: float, total: float, note: str) -> None:
        if self._progress is None:
            self._say(stage, done, total, note)
            return
        if stage not in self._tasks:
            self._tasks[stage] = self._progress.add_task(stage, total=total, note="")
        self._progress.update(self._tasks[stage], completed=done, total=total, note=note)

    def print(self, what: RenderableType) -> None:
        """Print a table or text without disturbing the bars."""
        self._console.print(what)

    def _say(self, stage: str, done: float, total: float, note: str) -> None:
        now = time.monotonic()
        if done >= total or now - self._said.get(stage, -LINE_SECONDS) >= LINE_SECONDS:
            self._said[stage] = now
            self._console.print(f"{stage}: {done:.0f} of {total:.0f}  {note}", markup=False, highlight=False)


@contextmanager
def watching() -> Iterator[Terminal]:
    """Bars while the context lasts; on what is no terminal, a line now and then."""
    console = Console()
    if not console.is_terminal:
        yield Terminal(console, None)
        return
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.completed:.0f}/{task.total:.0f}"),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        TextColumn("[dim]{task.fields[note]}"),
    )
    with Progress(*columns, console=console) as progress:
        yield Terminal(console, progress)
