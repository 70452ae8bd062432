"""Forest plots: a value with its interval a row, so that groups can be compared at a glance."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from delineate.reports.charts.words import count, fixed, listed, number
from delineate.reports.display import PALETTE
from delineate.reports.drawing import INK, QUIET, Chart, draw_chart, short

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_ROW_INCHES = 0.3


@dataclass(frozen=True, slots=True)
class ForestRow:
    """A group's value with its interval, from how many (`count`, e.g. patients). NaN: there is none.

    `small`: the group is too small for much to be said; its mark is hollow and its words say so.
    `heading`: the row is a title above those that follow, and has no value.
    """

    name: str
    value: float = math.nan
    low: float = math.nan
    high: float = math.nan
    count: int = 0
    small: bool = False
    heading: bool = False


def forest_plot(
    rows: Sequence[ForestRow],
    *,
    axis: str,
    reference: float | None = None,
    reference_name: str = "all",
    limits: tuple[float, float] | None = None,
    counted: str = "patient",
) -> Chart:
    """Values with intervals, one under the other, numbers at the right.

    `reference`: a value for comparison, e.g. that of all cases, or 0 for differences; a dashed line.
    `counted`: what `ForestRow.count` counts, in the singular. Without rows: an empty chart that says so.
    """

    def draw(figure: Figure) -> None:
        pane = figure.subplots()
        if reference is not None and math.isfinite(reference):
            pane.axvline(reference, color=QUIET, linestyle="--", linewidth=1, zorder=1)
        for place, row in enumerate(reversed(rows)):
            _draw_row(pane, row, place)
        pane.set(xlabel=axis, ylim=(-0.7, max(len(rows), 1) - 0.3))
        if limits is not None:
            pane.set_xlim(*limits)
        _name_rows(pane, rows, counted)

    shown = [row for row in rows if not row.heading]
    height = 0.85 + _ROW_INCHES * max(len(rows), 1)
    words = _words(shown, axis, counted=counted, reference=None if reference is None else (reference_name, reference))
    return draw_chart(draw, height=height, title=axis, alt=words)


def _draw_row(pane: Axes, row: ForestRow, place: int) -> None:
    if row.heading or not math.isfinite(row.value):
        return
    if math.isfinite(row.low) and math.isfinite(row.high):
        pane.plot([row.low, row.high], [place, place], color=PALETTE[0], linewidth=2, zorder=2, solid_capstyle="butt")
        for end in (row.low, row.high):
            pane.plot([end, end], [place - 0.14, place + 0.14], color=PALETTE[0], linewidth=1.2, zorder=2)
    face = "white" if row.small else PALETTE[0]
    pane.plot(
        [row.value], [place], marker="s", markersize=6, color=face, markeredgecolor=PALETTE[0], markeredgewidth=1.4,
        linestyle="none", zorder=3,
    )  # fmt: skip


def _name_rows(pane: Axes, rows: Sequence[ForestRow], counted: str) -> None:
    pane.xaxis.set_major_formatter(lambda value, _: number(value, 4))
    pane.grid(visible=False, axis="y")
    pane.tick_params(axis="y", length=0, labelcolor=INK)
    pane.set_yticks(range(len(rows)), [short(row.name, 40) for row in reversed(rows)])
    right = pane.secondary_yaxis("right")
    places = _decimals(rows)
    numbers = ["" if row.heading else _numbers(row, counted, places) for row in reversed(rows)]
    right.set_yticks(range(len(rows)), numbers)
    right.tick_params(axis="y", length=0, labelcolor=INK)
    right.spines[:].set_visible(False)
    for tick, row in zip(pane.get_yticklabels(), reversed(rows), strict=True):
        tick.set_fontweight("bold" if row.heading else "normal")


def _numbers(row: ForestRow, counted: str, places: int) -> str:
    known = math.isfinite(row.low) and math.isfinite(row.high)
    interval = f" [{fixed(row.low, places)} to {fixed(row.high, places)}]" if known else ""
    small = ", small" if row.small else ""
    return f"{fixed(row.value, places)}{interval}, {count(row.count, counted)}{small}"


def _decimals(rows: Sequence[ForestRow]) -> int:
    """So many that the largest number has three digits: those of all rows are then as exact."""
    largest = max((abs(v) for row in rows for v in (row.value, row.low, row.high) if math.isfinite(v)), default=0.0)
    return min(6, max(0, 2 - math.floor(math.log10(largest)))) if largest else 0


def _words(rows: Sequence[ForestRow], axis: str, *, counted: str, reference: tuple[str, float] | None) -> str:
    if not rows:
        return f"{axis}: there is nothing to compare."
    compared = "" if reference is None else f" Dashed line: {reference[0]}, {number(reference[1])}."
    places = _decimals(rows)
    said = listed([f"{short(row.name, 40)}: {_numbers(row, counted, places)}" for row in rows])
    hollow = " Hollow marks are of small groups." if any(row.small for row in rows) else ""
    return f"Values with their intervals: {axis}. {said}.{compared}{hollow}"
