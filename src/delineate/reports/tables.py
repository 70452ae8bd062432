"""Tables for the terminal: problems, scores, cases. They are returned; the command line prints them."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from delineate.dataset import Dataset, Problem, Severity
from delineate.evaluation import SideConfusion
from delineate.labels import Colour

if TYPE_CHECKING:
    from rich.table import Table
    from rich.text import Text

SEVERITIES: tuple[Severity, ...] = ("error", "warning", "information")
_STYLES: dict[Severity, str] = {"error": "bold red", "warning": "yellow", "information": "dim"}


@dataclass(frozen=True, slots=True)
class ScoreRow:
    """One structure's scores over the `cases` cases in which reference or prediction has it; NaN: no value.

    `dice` and `surface_dice`: means, 0..1; a missed or spurious structure counts as 0. `hd95_mm`: the median
    where both have it. `missed`: cases in which only the reference has it; `spurious`: only the prediction.
    """

    name: str
    cases: int
    dice: float
    surface_dice: float = math.nan
    hd95_mm: float = math.nan
    missed: int = 0
    spurious: int = 0
    colour: Colour | None = None


def problems_table(problems: Sequence[Problem]) -> Table:
    """All problems, errors first, then by case; the caption counts them."""
    table = _table("Problems", caption=count_problems(problems))
    for column in ("", "case", "problem", "file", "what to do"):
        table.add_column(column, overflow="fold")
    for problem in sorted(problems, key=lambda p: (SEVERITIES.index(p.severity), p.case or "")):
        table.add_row(
            _plain(problem.severity, _STYLES[problem.severity]),
            _plain(problem.case or "all"),
            _plain(problem.what),
            _plain("" if problem.file is None else problem.file.name),
            _plain(problem.remedy),
        )
    return table


def count_problems(problems: Iterable[Problem]) -> str:
    """In words, e.g. "2 errors, 1 warning", or "no problems found"."""
    counts = Counter(problem.severity for problem in problems)
    shown = [
        f"{counts[severity]} {severity}{'s' if counts[severity] != 1 and severity != 'information' else ''}"
        for severity in SEVERITIES
        if counts[severity]
    ]
    return ", ".join(shown) or "no problems found"


def scores_table(rows: Sequence[ScoreRow], *, title: str = "Scores") -> Table:
    """A line a structure, and the mean over structures where there are several."""
    table = _table(title)
    table.add_column("structure")
    for column in ("cases", "Dice", "surface Dice", "HD95 mm", "missed", "spurious"):
        table.add_column(column, justify="right")
    for row in rows:
        name = _plain(("■ " if row.colour else "") + row.name)
        if row.colour is not None:
            name.stylize("rgb({},{},{})".format(*row.colour), 0, 1)
        table.add_row(name, str(row.cases), *_numbers(row), _count(row.missed), _count(row.spurious))
    if len(rows) > 1:
        total = mean_row(rows)
        table.add_section()
        table.add_row(total.name, "", *_numbers(total), _count(total.missed), _count(total.spurious), style="bold")
    return table


def mean_row(rows: Sequence[ScoreRow]) -> ScoreRow:
    """The mean over structures that have a value, and the sums of missed and spurious ones."""
    return ScoreRow(
        "mean",
        max((row.cases for row in rows), default=0),
        _mean([row.dice for row in rows]),
        surface_dice=_mean([row.surface_dice for row in rows]),
        hd95_mm=_mean([row.hd95_mm for row in rows]),
        missed=sum(row.missed for row in rows),
        spurious=sum(row.spurious for row in rows),
    )


def cases_table(dataset: Dataset) -> Table:
    """A line a case, with its patient, site and files."""
    table = _table(f"{dataset.name}: {len(dataset.cases)} cases")
    for column in ("case", "patient", "site", "images", "reference"):
        table.add_column(column, overflow="fold")
    for case in dataset.cases:
        images = ", ".join(path.name for path in case.images)
        reference = "none" if case.reference is None else case.reference.name
        table.add_row(*map(_plain, (case.id, case.patient_id, case.site or "", images, reference)))
    return table


def sides_table(pairs: Sequence[SideConfusion]) -> Table:
    """A line a left/right pair, with the voxels that got the other side's label."""
    table = _table("Left and right")
    for column in ("left", "right", "left labelled right", "right labelled left"):
        table.add_column(column, justify="right" if "labelled" in column else "left")
    for pair in pairs:
        table.add_row(
            _plain(pair.left), _plain(pair.right), f"{pair.left_as_right} voxels", f"{pair.right_as_left} voxels"
        )
    return table


def show_number(value: float, digits: int) -> str:
    """Rounded, with a dash for NaN, which means that there is no value."""
    return "–" if math.isnan(value) else f"{value:.{digits}f}"


def _mean(values: Iterable[float]) -> float:
    known = [value for value in values if not math.isnan(value)]
    return sum(known) / len(known) if known else math.nan


def _numbers(row: ScoreRow) -> tuple[str, str, str]:
    return show_number(row.dice, 3), show_number(row.surface_dice, 3), show_number(row.hd95_mm, 1)


def _count(count: int) -> str:
    return str(count) if count else "–"


def _table(title: str, caption: str | None = None) -> Table:
    from rich import box
    from rich.table import Table

    return Table(title=title, caption=caption, box=box.SIMPLE_HEAD, title_justify="left", caption_justify="left")


def _plain(text: str, style: str = "") -> Text:
    # File names may contain square brackets, which rich would take for markup.
    from rich.text import Text

    return Text(text, style=style)
