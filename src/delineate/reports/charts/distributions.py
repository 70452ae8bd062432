"""How numbers of many cases are spread, and which cases stand apart; how long stages took."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from delineate.reports.charts.axes import PLATE, plain_ticks
from delineate.reports.charts.words import count, listed, number
from delineate.reports.display import PALETTE
from delineate.reports.drawing import INK, QUIET, Chart, draw_chart, short

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_STRIP_INCHES = 0.72
_MOST_NAMED = 4


@dataclass(frozen=True, slots=True)
class Strip:
    """One quantity of many cases. `values`: case -> number, NaN where there is none; `outliers`: cases to be named.

    `log`: a logarithmic axis, for values above 0.
    """

    name: str
    values: Mapping[str, float]
    unit: str = ""
    outliers: Collection[str] = ()
    log: bool = False


def histogram_strips(strips: Sequence[Strip]) -> Chart:
    """A row for each quantity: its histogram, a tick for each case, and triangles with names for what stands apart."""

    def draw(figure: Figure) -> None:
        panes = figure.subplots(max(len(strips), 1), 1, squeeze=False)[:, 0]
        for pane, strip in zip(panes, strips, strict=False):
            _draw_strip(pane, strip)

    words = listed([_strip_words(strip) for strip in strips]) or "there is nothing to show"
    return draw_chart(
        draw, height=0.3 + _STRIP_INCHES * max(len(strips), 1), title="Distributions", alt=f"Histograms. {words}."
    )


def _draw_strip(pane: Axes, strip: Strip) -> None:
    values = _known(strip)
    numbers = np.asarray(list(values.values()))
    pane.set_ylabel(_titled(strip), rotation=0, ha="right", va="center", color=INK)
    pane.set_yticks([])
    pane.grid(visible=False)
    pane.spines["left"].set_visible(False)
    pane.margins(x=0.03)
    if not numbers.size or numbers.min() == numbers.max():
        said = f"all {count(numbers.size, 'case')}: {number(numbers[0])} {strip.unit}" if numbers.size else "no values"
        pane.text(0.5, 0.3, said, ha="center", va="center", color=QUIET, transform=pane.transAxes)
        pane.set_xticks([])
        return
    if strip.log:
        pane.set_xscale("log")
    counts, edges = np.histogram(np.log(numbers) if strip.log else numbers, bins=_bins(numbers))
    edges = np.exp(edges) if strip.log else edges
    pane.stairs(counts, edges, fill=True, color="#bcd7ea")
    pane.set_ylim(-0.18 * counts.max(), 1.12 * counts.max())
    pane.plot(numbers, np.full(numbers.size, -0.09 * counts.max()), "|", color=PALETTE[0], markersize=4, alpha=0.6)
    _name_outliers(pane, strip, values, float(counts.max()))
    pane.set_xlim(pane.get_xlim())
    plain_ticks(pane)
    pane.set_yticks([])


def _name_outliers(pane: Axes, strip: Strip, values: Mapping[str, float], top: float) -> None:
    apart = sorted((case for case in strip.outliers if case in values), key=lambda case: values[case])
    middle = float(np.median(list(values.values())))
    for n, case in enumerate(apart):
        pane.plot(
            [values[case]], [0.1 * top], marker="v", markersize=7, color=PALETTE[1], markeredgecolor="white", zorder=4
        )
        if n < _MOST_NAMED - 1 or n >= len(apart) - 1:
            pane.annotate(
                short(case, 18), (values[case], 0.2 * top), xytext=(0, 4 + 9 * (n % 3)), textcoords="offset points",
                ha="right" if values[case] > middle else "left", fontsize=7.5, color="#8a3a00",
                bbox=PLATE,
            )  # fmt: skip


def _bins(numbers: np.ndarray[tuple[int], np.dtype[np.float64]]) -> int:
    return int(min(40, max(8, round(2 * math.sqrt(numbers.size)))))


def _known(strip: Strip) -> dict[str, float]:
    return {case: v for case, v in strip.values.items() if math.isfinite(v) and (v > 0 or not strip.log)}


def _titled(strip: Strip) -> str:
    return short(strip.name, 26) + (f"\n({strip.unit})" if strip.unit else "")


def _strip_words(strip: Strip) -> str:
    values = _known(strip)
    if not values:
        return f"{short(strip.name)}: no values"
    low, middle, high = (f"{number(float(v))}" for v in np.percentile(list(values.values()), (0, 50, 100)))
    said = (
        f"{short(strip.name)}: median {middle}, from {low} to {high} {strip.unit}".rstrip()
        + f", {count(len(values), 'case')}"
    )
    apart = [f"{short(case)} ({number(values[case])})" for case in strip.outliers if case in values]
    return (
        said
        + (f", standing apart: {', '.join(apart[:_MOST_NAMED])}" if apart else "")
        + (f" and {len(apart) - _MOST_NAMED} more" if len(apart) > _MOST_NAMED else "")
    )


def time_bars(seconds: Mapping[str, float]) -> Chart:
    """A bar for each stage as long as it took, with its time and share. Stages without a time are left out."""
    known = {name: value for name, value in seconds.items() if math.isfinite(value) and value >= 0}
    total = sum(known.values())

    def draw(figure: Figure) -> None:
        pane = figure.subplots()
        places = range(len(known))
        pane.barh(places, list(known.values()), height=0.62, color="#9cc6e2", edgecolor=PALETTE[0])
        pane.set_yticks(places, [short(name) for name in known])
        pane.invert_yaxis()
        for place, value in zip(places, known.values(), strict=True):
            pane.annotate(
                _share(value, total),
                (value, place),
                xytext=(5, 0),
                textcoords="offset points",
                va="center",
                fontsize=8.5,
            )
        pane.set(xticks=[], xlim=(0, 1.35 * max(known.values(), default=0) or 1))
        pane.tick_params(axis="y", length=0, labelcolor=INK)
        pane.grid(visible=False)
        pane.spines["bottom"].set_visible(False)

    said = (
        listed([f"{short(name)} {_share(value, total)}" for name, value in known.items()]) or "no times were recorded"
    )
    return draw_chart(draw, height=0.4 + 0.3 * max(len(known), 1), title="Time by stage", alt=f"Time by stage: {said}.")


def _share(value: float, total: float) -> str:
    if total <= 0:
        return duration(value)
    percent = 100 * value / total
    return f"{duration(value)}, {'<1' if 0 < percent < 0.5 else f'{percent:.0f}'} %"


def duration(seconds: float) -> str:
    """For people: 0.42 s, 12 s, 3 min 5 s, 2 h 7 min."""
    if seconds < 10:
        return f"{number(seconds, 2)} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    minutes, rest = divmod(whole, 60)
    if minutes < 60:
        return f"{minutes} min {rest} s" if rest else f"{minutes} min"
    return f"{minutes // 60} h {minutes % 60} min"
