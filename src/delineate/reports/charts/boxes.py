"""Box plots that cannot hide a miss: a missed structure has the worst rank in its box, and a mark at the edge."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from delineate.reports.charts.words import count, listed, number
from delineate.reports.display import PALETTE
from delineate.reports.drawing import INK, Chart, draw_chart, short

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_ROW_INCHES = 0.46
_BAND = 0.09  # of the axis, for what has no value
MOST_POINTS = 400  # a row; beyond, evenly chosen ones by rank stand for all


@dataclass(frozen=True, slots=True)
class _Row:
    name: str
    values: npt.NDArray[np.float64]  # sorted, finite; without what was missed
    missed: int
    spurious: int
    worst: float  # infinite, at the bad end

    @property
    def cases(self) -> int:
        return len(self.values) + self.missed + self.spurious

    def quartile(self, share: float) -> float:
        """The value at a share of all cases; those without a value rank worst. NaN without cases."""
        without = np.full(self.missed + self.spurious, self.worst)
        ranked = np.sort(np.concatenate([self.values, without]))
        if not self.cases:
            return math.nan
        place = share * (len(ranked) - 1)
        below, above = ranked[math.floor(place)], ranked[math.ceil(place)]
        if np.isinf(below) or np.isinf(above):  # between a value and none there is nothing to interpolate
            return self.worst
        return float(below + (above - below) * (place - math.floor(place)))

    @property
    def lost(self) -> str:
        said = [f"{self.missed} missed"] if self.missed else []
        said += [f"{self.spurious} spurious"] if self.spurious else []
        return ", ".join(said)


def box_plot(
    values: Mapping[str, Sequence[float]],
    *,
    axis: str,
    missed: Mapping[str, int] | None = None,
    spurious: Mapping[str, int] | None = None,
    higher_is_better: bool = True,
    limits: tuple[float, float] | None = None,
    most_points: int = MOST_POINTS,
) -> Chart:
    """A row for each name with its box (quartiles, median) and every case as a point.

    `values`: of the cases where both have the structure; NaN is left out. `missed`, `spurious`: how many cases
    have no value since only the reference, or only the prediction, has it: they rank worst in the box, and
    stand as crosses and pluses in a band at the bad end. `axis`: what is shown, e.g. "Dice" or "HD95 (mm)".
    `limits`: of the axis, e.g. (0, 1). `most_points`: drawn in a row. Whiskers reach the farthest values within 1.5
    quartile distances (Tukey, "Exploratory Data Analysis", 1977). Without names: an empty chart that says so.
    """
    rows = []
    for name, given in values.items():
        found = np.asarray(list(given), dtype=np.float64)
        lost = (missed or {}).get(name, 0), (spurious or {}).get(name, 0)
        rows.append(_Row(name, np.sort(found[np.isfinite(found)]), *lost, -math.inf if higher_is_better else math.inf))
    low, high = limits or _range([row.values for row in rows])

    def draw(figure: Figure) -> None:
        pane = figure.subplots()
        band = _band(pane, low, high, higher_is_better=higher_is_better, lost=any(row.lost for row in rows))
        for place, row in enumerate(reversed(rows)):
            _draw_row(pane, row, place, band=band, most_points=most_points)
        pane.set(xlabel=axis, ylim=(-0.6, max(len(rows), 1) - 0.4))
        pane.set_yticks(range(len(rows)), [_tick(row) for row in reversed(rows)])
        pane.tick_params(axis="y", length=0, labelcolor=INK)
        pane.grid(visible=False, axis="y")

    return draw_chart(
        draw, height=0.75 + _ROW_INCHES * max(len(rows), 1), title=f"{axis} by structure", alt=_words(rows, axis)
    )


def _range(values: Sequence[npt.NDArray[np.float64]]) -> tuple[float, float]:
    known = np.concatenate([*values, np.zeros(0)])
    low, high = (float(known.min()), float(known.max())) if known.size else (0.0, 1.0)
    room = 0.04 * (high - low) or 0.5
    return (0.0 if 0 <= low < 0.5 * high else low - room), high + room


def _band(pane: Axes, low: float, high: float, *, higher_is_better: bool, lost: bool) -> float:
    """Where on the axis cases without a value stand; a band for them is drawn if there are any."""
    pane.xaxis.set_major_formatter(lambda value, _: number(value, 4))
    # Room for points on the border.
    edge = 0.012 * (high - low)
    if not lost:
        pane.set_xlim(low - edge, high + edge)
        return low if higher_is_better else high
    width = _BAND * (high - low)
    start = low - edge - width if higher_is_better else high + edge
    pane.axvspan(start, start + width, color="#f6eae2", linewidth=0, zorder=0)
    pane.text(
        start + width / 2, 1.0, "no value", transform=pane.get_xaxis_transform(), ha="center", va="bottom",
        color="#8a3a00", fontsize=8,
    )  # fmt: skip
    pane.set_xlim(min(low - edge, start), max(high + edge, start + width))
    ticks = [tick for tick in pane.get_xticks() if low <= tick <= high]
    pane.set_xticks(ticks)
    return start + width / 2


def _draw_row(pane: Axes, row: _Row, place: int, *, band: float, most_points: int) -> None:
    if not row.cases:
        return
    places = [band if math.isinf(at) else at for at in map(row.quartile, (0.25, 0.5, 0.75))]
    low, middle, high = places
    pane.barh(place, high - low, left=low, height=0.52, color="#cfe3f1", edgecolor=PALETTE[0], linewidth=1, zorder=2)
    near = row.values[(row.values >= low - 1.5 * (high - low)) & (row.values <= high + 1.5 * (high - low))]
    for start, end in ((near.min(), low), (high, near.max())) if near.size else ():
        if end > start:
            pane.plot([start, end], [place, place], color=PALETTE[0], linewidth=1, zorder=2)
    dots = row.values
    if len(dots) > most_points:
        dots = dots[np.linspace(0, len(dots) - 1, most_points).round().astype(int)]
    pane.plot(
        dots, place + _spread(len(dots)), linestyle="none", marker="o", markersize=3.2, color=INK, alpha=0.55,
        markeredgewidth=0, zorder=3,
    )  # fmt: skip
    pane.plot([middle, middle], [place - 0.26, place + 0.26], color="#003f66", linewidth=2.4, zorder=4)
    for marker, lost, shift in (("x", row.missed, 0.13), ("+", row.spurious, -0.13)):
        if lost:
            pane.plot(
                [band], [place + (shift if row.missed and row.spurious else 0)], marker=marker, markersize=7,
                markeredgewidth=2, color=PALETTE[1], linestyle="none", zorder=5,
            )  # fmt: skip


def _spread(points: int) -> npt.NDArray[np.float64]:
    """Heights that keep neighbouring points apart; the same every time."""
    return np.asarray(((np.arange(points) * 0.618034) % 1.0 - 0.5) * 0.4)


def _tick(row: _Row) -> str:
    return f"{short(row.name)}\n{count(row.cases, 'case')}{', ' + row.lost if row.lost else ''}"


def _words(rows: Sequence[_Row], axis: str) -> str:
    if not rows:
        return f"{axis}: there are no structures to show."
    return f"Box plot of {axis}; what was missed ranks worst. {listed([_phrase(row) for row in rows])}."


def _phrase(row: _Row) -> str:
    if not row.cases:
        return f"{short(row.name)}: no cases"
    low, middle, high = ("missed" if math.isinf(at) else number(at) for at in map(row.quartile, (0.25, 0.5, 0.75)))
    lost = f", {row.lost}" if row.lost else ""
    return f"{short(row.name)}: median {middle}, quartiles {low} to {high}, {count(row.cases, 'case')}{lost}"
