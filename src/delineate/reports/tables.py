"""Tables for the terminal: problems, cases, series. They are returned; the command line prints them."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from delineate.dataset import Problem, Severity

if TYPE_CHECKING:
    from rich.console import Console, ConsoleOptions, RenderableType
    from rich.table import Table
    from rich.text import Text

SEVERITIES: tuple[Severity, ...] = ("error", "warning", "information")
_STYLES: dict[Severity, str] = {"error": "bold red", "warning": "yellow", "information": "dim"}
_ACTION_STYLES = {"read": "green", "straighten": "cyan", "interpolate": "cyan", "skip": "dim", "refuse": "bold red"}
_WIDE = 150  # columns of a terminal on which a series' facts have a column each
_MOST_REMARKS = 3


@dataclass(frozen=True, slots=True)
class Reference:
    """A series that an object (segmentation, structure set, report) refers to, and whether it was found."""

    series_uid: str
    found: bool


@dataclass(frozen=True, slots=True)
class SeriesRow:
    """A volume of a series, or files of it that were set aside, and what becomes of them.

    `volume`: what tells it from others of its series. `size`: columns, rows. `spacing_mm`: along I, J, K. `action`:
    read, straighten, interpolate, skip or refuse; `problem`: what is wrong, or why it is set aside. `files`: relative
    to the tree; a file with several volumes is in several rows. `copies`: files of the series that are there twice.
    """

    patient_id: str
    study_uid: str
    study_date: str
    series_uid: str
    series_number: int | None
    modality: str
    description: str
    volume: str
    action: str
    problem: str
    notes: tuple[str, ...]
    files: tuple[str, ...]
    copies: tuple[str, ...] = ()
    refers_to: tuple[Reference, ...] = ()
    slices: int = 0
    size: tuple[int, int] | None = None
    spacing_mm: tuple[float, float, float] | None = None
    orientation: str = ""
    tilt_degrees: float = 0.0


@dataclass(frozen=True, slots=True)
class _ByWidth:
    """One table for wide terminals, another for narrow ones."""

    wide: Table
    narrow: Table

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> Iterator[Table]:
        yield self.wide if options.max_width >= _WIDE else self.narrow


def problems_table(problems: Sequence[Problem]) -> Table:
    """All problems, errors first, then by case; the caption counts them."""
    table = plain_table("Problems", caption=count_problems(problems))
    for column in ("", "case", "problem", "file", "what to do"):
        table.add_column(column, overflow="fold")
    for problem in sorted(problems, key=lambda p: (SEVERITIES.index(p.severity), p.case or "")):
        table.add_row(
            plain_text(problem.severity, _STYLES[problem.severity]),
            plain_text(problem.case or "all"),
            plain_text(problem.what),
            plain_text("" if problem.file is None else problem.file.name),
            plain_text(problem.remedy),
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


def series_table(rows: Sequence[SeriesRow], *, title: str = "Series") -> RenderableType:
    """A line a volume, by patient and study; on narrow terminals the facts of a volume share a column."""
    return _ByWidth(_wide_series(rows, title), _narrow_series(rows, title))


def _wide_series(rows: Sequence[SeriesRow], title: str) -> Table:
    table = plain_table(title)
    table.add_column("patient", overflow="fold", max_width=18)
    for column in ("date", "modality"):
        table.add_column(column, no_wrap=True)
    table.add_column("no.", justify="right")
    table.add_column("description", overflow="fold", max_width=32)
    for column in ("slices", "size", "spacing mm", "axes", "tilt"):
        table.add_column(column, justify="right", no_wrap=True)
    table.add_column("what becomes of it", overflow="fold", ratio=1)
    for row in rows:
        table.add_row(
            *map(_safe, (row.patient_id or "–", _date(row), row.modality or "–", _number_of(row), _name_of(row))),
            *map(_safe, (show_count(row.slices), _size(row), _spacing(row), row.orientation or "–", _tilt(row))),
            _fate(row),
        )
    return table


def _narrow_series(rows: Sequence[SeriesRow], title: str) -> Table:
    table = plain_table(title)
    table.add_column("series", overflow="fold", ratio=3)
    table.add_column("volume", overflow="fold", ratio=2)
    table.add_column("what becomes of it", overflow="fold", ratio=4)
    study = None
    for row in rows:
        if study != (row.patient_id, row.study_uid):
            study = (row.patient_id, row.study_uid)
            table.add_section()
            table.add_row(_safe(f"{row.patient_id or 'no patient ID'} {_date(row)}", "bold"))
        number = "" if row.series_number is None else f" {row.series_number}"
        facts = [f"{row.slices} x {_size(row)}" if row.slices else "", _spacing(row), row.orientation, _tilt(row)]
        table.add_row(
            _safe(f"{row.modality or 'no modality'}{number} {_name_of(row)}"),
            _safe(" ".join(fact for fact in facts if fact not in ("", "–"))),
            _fate(row),
        )
    return table


def _date(row: SeriesRow) -> str:
    date = row.study_date
    return f"{date[:4]}-{date[4:6]}-{date[6:]}" if len(date) == 8 and date.isdigit() else date or "–"


def _number_of(row: SeriesRow) -> str:
    return "–" if row.series_number is None else str(row.series_number)


def _name_of(row: SeriesRow) -> str:
    return ", ".join(part for part in (row.description, row.volume) if part)


def _size(row: SeriesRow) -> str:
    return "–" if row.size is None else f"{row.size[0]}x{row.size[1]}"


def _spacing(row: SeriesRow) -> str:
    return "–" if row.spacing_mm is None else "x".join(f"{mm:.4g}" for mm in row.spacing_mm)


def _tilt(row: SeriesRow) -> str:
    return f"{row.tilt_degrees:.1f}°" if row.tilt_degrees else "–"


def _fate(row: SeriesRow) -> Text:
    """The action, then the reason or the decisions taken, then what an object refers to."""
    remarks = [row.problem] if row.problem else []
    remarks += row.notes[:_MOST_REMARKS]
    remarks += [f"and {len(row.notes) - _MOST_REMARKS} more remarks"] if len(row.notes) > _MOST_REMARKS else []
    for found, where in ((True, "here"), (False, "not here")):
        count = sum(reference.found is found for reference in row.refers_to)
        remarks += [f"refers to {count} series, {where}"] if count else []
    text = _safe(row.action, _ACTION_STYLES.get(row.action, ""))
    return text.append_text(_safe(": " + "; ".join(remarks))) if remarks else text


def printable(text: str) -> str:
    """What a file says, without the control characters that would act on a terminal."""
    return "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in text)


def _safe(text: str, style: str = "") -> Text:
    return plain_text(printable(text), style)


def show_number(value: float, digits: int) -> str:
    """Rounded, with a dash for NaN, which means that there is no value."""
    return "–" if math.isnan(value) else f"{value:.{digits}f}"


def show_count(count: int) -> str:
    """The number, with a dash for none, so that what is there stands out."""
    return str(count) if count else "–"


def plain_table(title: str, caption: str | None = None) -> Table:
    from rich import box
    from rich.table import Table

    return Table(title=title, caption=caption, box=box.SIMPLE_HEAD, title_justify="left", caption_justify="left")


def plain_text(text: str, style: str = "") -> Text:
    # File names may contain square brackets, which rich would take for markup.
    from rich.text import Text

    return Text(text, style=style)
