"""Progress bars on the terminal; plain lines elsewhere. Both go to the error stream, apart from results."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console, RenderableType
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn, TimeRemainingColumn

LINE_SECONDS = 20.0  # between plain lines of one stage


class Terminal:
    """Shows how far each stage is: call it as `watch(stage, done, total, note)`."""

    def __init__(self, results: Console, console: Console, progress: Progress | None) -> None:
        self._results, self._console, self._progress = results, console, progress
        self._tasks: dict[str, TaskID] = {}
        self._said: dict[str, float] = {}
        self._last = ""

    def __call__(self, stage: str, done: float, total: float, note: str) -> None:
        if self._progress is None:
            self._say(stage, done, total, note)
            return
        if stage not in self._tasks:
            self._tasks[stage] = self._progress.add_task(stage, total=total, note="")
        self._progress.update(self._tasks[stage], completed=done, total=total, note=note)

    def print(self, what: RenderableType) -> None:
        """Print a table or text among the results, without disturbing the bars."""
        # On one terminal the console that shows the bars has to know.
        (self._console if self._progress is not None and self._results.is_terminal else self._results).print(what)

    def remark(self, text: str) -> None:
        """A line among what is said of the progress, above the bars."""
        self._console.print(text, markup=False, highlight=False, soft_wrap=True)

    def _say(self, stage: str, done: float, total: float, note: str) -> None:
        now = time.monotonic()
        line = f"{stage}: {done:.0f} of {total:.0f}  {note}".rstrip()
        due = done >= total or now - self._said.get(stage, -LINE_SECONDS) >= LINE_SECONDS
        if due and line != self._last:
            self._said[stage], self._last = now, line
            self._console.print(line, markup=False, highlight=False, soft_wrap=True)


@contextmanager
def watching() -> Iterator[Terminal]:
    """Bars while the context lasts; on what is no terminal, a line now and then."""
    results, console = Console(), Console(stderr=True)
    if not console.is_terminal:
        yield Terminal(results, console, None)
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
        yield Terminal(results, console, progress)
