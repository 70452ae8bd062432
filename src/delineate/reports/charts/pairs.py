"""Points of two numbers each: Bland-Altman of volumes, and size against score."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from delineate.reports.charts.axes import PLATE, plain_ticks
from delineate.reports.charts.words import count, listed, number
from delineate.reports.display import PALETTE
from delineate.reports.drawing import INK, QUIET, Chart, draw_chart, short

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_MARKERS = ("o", "s", "^", "D", "v", "P", "X", "<", ">", "h")
_COLOURS = PALETTE[:6]
_MOST_POINTS = 1500  # drawn; of more, evenly chosen ones by height
_MOST_FAR = 3  # points that get their names

Numbers = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Point:
    """A case with two numbers. `group`: e.g. the structure, by colour and mark; `lost`: it was missed, a cross."""

    x: float
    y: float
    name: str = ""
    group: str = ""
    lost: bool = False


@dataclass(frozen=True, slots=True)
class _Points:
    x: Numbers
    y: Numbers
    names: Sequence[str]
    groups: Sequence[str]


def bland_altman(
    reference: Sequence[float],
    prediction: Sequence[float],
    *,
    names: Sequence[str] = (),
    groups: Sequence[str] = (),
    unit: str = "ml",
    ratio: bool = False,
) -> Chart:
    """Differences of volumes against their means, with the bias and the limits between which 95 % of cases lie.

    `reference`, `prediction`: one volume a case, 0 where there is none: a missed one (cross) differs by its whole
    volume, a spurious one is a plus. Both count for bias and limits. `ratio`: prediction / reference on a
    logarithmic axis, for sizes of several magnitudes; missed and spurious ones have no ratio, stand at the edge, and
    are said. `names`: of the cases; the farthest are named. `groups`: e.g. the structure, by colour and mark.
    Bias and limits: mean and mean -/+ 1.96 standard deviations (Bland, Altman, Lancet 1986), of logarithms for
    ratios. Cases where either is NaN or both are 0 are left out. Raises `ValueError` for unequal numbers.
    """
    given = _with_a_volume(reference, prediction, names, groups)
    first, second = given.x, given.y
    missed, spurious = (second == 0) & (first > 0), (first == 0) & (second > 0)
    both = ~(missed | spurious)
    differences = np.full(len(first), np.nan)
    if ratio:
        differences[both] = np.log(second[both] / first[both])
    else:
        differences = second - first
    bias, low, high = _limits(differences[np.isfinite(differences)])
    lines = [math.exp(at) for at in (bias, low, high)] if ratio else [bias, low, high]
    y = np.exp(differences) if ratio else differences
    points = replace(given, x=(first + second) / 2, y=y)

    def draw(figure: Figure) -> None:
        pane = figure.subplots()
        places = _on_ratio_axis(pane, points, lines, missed=missed, spurious=spurious) if ratio else points.y
        _draw_groups(pane, points, both)
        for which, marker in ((missed, "x"), (spurious, "+")):
            _draw_lost(pane, points.x[which], places[which], marker)
        _draw_limits(pane, lines, unit="" if ratio else unit)
        _name_farthest(
            pane, replace(points, y=places), np.where(both | (not ratio), np.abs(differences - bias), np.inf)
        )
        _axes(pane, unit=unit, ratio=ratio)

    words = _bland_altman_words(lines, len(first), int(missed.sum()), int(spurious.sum()), unit="" if ratio else unit)
    return draw_chart(draw, height=3.6, title="Bland-Altman of volumes", alt=words)


def _with_a_volume(
    reference: Sequence[float], prediction: Sequence[float], names: Sequence[str], groups: Sequence[str]
) -> _Points:
    first, second = (np.asarray(list(volumes), dtype=np.float64) for volumes in (reference, prediction))
    sizes = {len(first), len(second), *(len(other) for other in (names, groups) if len(other))}
    if len(sizes) > 1:
        raise ValueError(f"a chart needs one number of each kind a case: got {sorted(sizes)}")
    kept = np.isfinite(first) & np.isfinite(second) & (first + second > 0)
    named = [name for name, keep in zip(names, kept, strict=False) if keep]
    grouped = [group for group, keep in zip(groups, kept, strict=False) if keep]
    return _Points(first[kept], second[kept], named, grouped)


def scatter(
    points: Sequence[Point],
    *,
    x_axis: str,
    y_axis: str,
    log_x: bool = False,
    y_limits: tuple[float, float] | None = None,
) -> Chart:
    """Two numbers a case, e.g. the size of a structure against its Dice; the lowest are named.

    Points where either is NaN, or x is not above 0 with `log_x`, are left out and counted.
    """
    kept = [one for one in points if math.isfinite(one.x) and math.isfinite(one.y) and (one.x > 0 or not log_x)]
    missed = np.array([one.lost for one in kept], dtype=bool)
    drawn = _Points(
        np.array([one.x for one in kept], dtype=np.float64),
        np.array([one.y for one in kept], dtype=np.float64),
        [one.name for one in kept] if any(one.name for one in kept) else (),
        [one.group for one in kept],
    )

    def draw(figure: Figure) -> None:
        pane = figure.subplots()
        if log_x:
            pane.set_xscale("log")
        _draw_groups(pane, drawn, ~missed)
        _draw_lost(pane, drawn.x[missed], drawn.y[missed], "x")
        pane.set(xlabel=x_axis, ylabel=y_axis)
        if y_limits is not None:
            room = 0.03 * (y_limits[1] - y_limits[0])
            pane.set_ylim(y_limits[0] - room, y_limits[1] + room)
        _name_farthest(pane, drawn, -drawn.y)
        plain_ticks(pane)

    words = _scatter_words(drawn, f"{y_axis} against {x_axis}", missed=int(missed.sum()), left=len(points) - len(kept))
    return draw_chart(draw, height=3.6, title=f"{y_axis} against {x_axis}", alt=words)


def _limits(differences: Numbers) -> tuple[float, float, float]:
    """Bias, lower and upper limit; NaN where there are too few."""
    if not differences.size:
        return math.nan, math.nan, math.nan
    bias = float(differences.mean())
    spread = 1.96 * float(differences.std(ddof=1)) if differences.size > 1 else math.nan
    return bias, bias - spread, bias + spread


def _draw_groups(pane: Axes, points: _Points, which: npt.NDArray[np.bool_]) -> None:
    names = list(dict.fromkeys(points.groups)) or [""]
    which = _thinned(points, which)
    for n, name in enumerate(names):
        mine = which & (np.asarray(points.groups, dtype=object) == name) if points.groups else which
        pane.scatter(
            points.x[mine], points.y[mine], s=20, marker=_MARKERS[n % len(_MARKERS)], alpha=0.75,
            color=_COLOURS[n % len(_COLOURS)], edgecolor="white", linewidth=0.4, zorder=3,
            label=short(name) or None,
        )  # fmt: skip
    if len(names) > 1:
        columns = 1 if len(names) <= 24 else 2
        pane.figure.legend(loc="outside right upper", fontsize=8, ncols=columns)


def _thinned(points: _Points, which: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
    """Of very many points evenly chosen ones by height, the lowest and the highest among them."""
    ranked = np.flatnonzero(which)[np.argsort(points.y[which], kind="stable")]
    if len(ranked) <= _MOST_POINTS:
        return which
    kept = np.zeros(len(which), dtype=bool)
    kept[ranked[np.linspace(0, len(ranked) - 1, _MOST_POINTS).round().astype(int)]] = True
    return kept


def _some_drawn(points: int) -> str:
    return f"; {_MOST_POINTS:,} of them are drawn" if points > _MOST_POINTS else ""


def _draw_lost(pane: Axes, x: Numbers, y: Numbers, marker: str) -> None:
    pane.plot(
        x, y, marker=marker, markersize=7, markeredgewidth=1.8, color=PALETTE[1], linestyle="none", zorder=4,
        clip_on=False,
    )  # fmt: skip


def _on_ratio_axis(
    pane: Axes,
    points: _Points,
    lines: Sequence[float],
    *,
    missed: npt.NDArray[np.bool_],
    spurious: npt.NDArray[np.bool_],
) -> Numbers:
    """A logarithmic axis, and where points stand on it: the missed, which have no place there, below all others, and
    the spurious above.
    """
    known = [at for at in (*points.y[np.isfinite(points.y)], *lines, 1.0) if math.isfinite(at)]
    low, high = min(known), max(known)
    room = max((high / low) ** 0.12, 1.05)
    pane.set_yscale("log")
    pane.set_ylim(low / room**2, high * room**2)
    return np.select([missed, spurious], [low / room, high * room], default=points.y)


def _draw_limits(pane: Axes, lines: Sequence[float], *, unit: str) -> None:
    for at, style, what in zip(lines, ("-", "--", "--"), ("bias", "lower limit", "upper limit"), strict=True):
        if math.isfinite(at):
            pane.axhline(at, color=INK, linestyle=style, linewidth=1, zorder=2)
            shown = f"{what}\n{number(at)} {unit}".rstrip()
            pane.annotate(
                shown, (1, at), xycoords=("axes fraction", "data"), xytext=(5, 0), textcoords="offset points",
                ha="left", va="center", fontsize=8, color=INK,
            )  # fmt: skip


def _name_farthest(pane: Axes, points: _Points, distance: Numbers) -> None:
    if not points.names:
        return
    known = np.flatnonzero(~np.isnan(distance))
    for rank, n in enumerate(known[np.argsort(-distance[known], kind="stable")][:_MOST_FAR]):
        left = points.x[n] > np.nanmedian(points.x)
        pane.annotate(
            short(points.names[n], 24), (points.x[n], points.y[n]), xytext=(-12 if left else 12, 12 * rank),
            textcoords="offset points", ha="right" if left else "left", va="center", fontsize=7.5, color=QUIET,
            bbox=PLATE, zorder=2, arrowprops={"arrowstyle": "-", "color": QUIET, "linewidth": 0.5},
        )  # fmt: skip


def _axes(pane: Axes, *, unit: str, ratio: bool) -> None:
    pane.set_xlabel(f"mean of reference and prediction ({unit})")
    pane.set_ylabel("prediction / reference" if ratio else f"prediction minus reference ({unit})")
    if ratio:
        pane.set_xscale("log")
    else:
        pane.axhline(0, color=QUIET, linewidth=0.8, linestyle=":", zorder=1)
    plain_ticks(pane)


def _bland_altman_words(lines: Sequence[float], cases: int, missed: int, spurious: int, *, unit: str) -> str:
    if not cases:
        return "Bland-Altman of volumes: there are no cases with a volume."
    bias, low, high = (f"{number(at)} {unit}".strip() if math.isfinite(at) else "unknown" for at in lines)
    what = "difference of prediction and reference" if unit else "ratio of prediction to reference"
    lost = [f"{missed} missed (crosses)"] * bool(missed) + [f"{spurious} spurious (pluses)"] * bool(spurious)
    said = f"; {', '.join(lost)}" + (", without a ratio" if not unit else "") if lost else ""
    said += _some_drawn(cases)
    return f"Bland-Altman of {count(cases, 'volume')}: mean {what} {bias}, limits of agreement {low} to {high}{said}."


def _scatter_words(points: _Points, what: str, *, missed: int, left: int) -> str:
    if not len(points.x):
        return f"{what}: there are no points to show."
    ranges = [f"{number(float(v.min()))} to {number(float(v.max()))}" for v in (points.y, points.x)]
    said = f"{what}: {count(len(points.x), 'point')}, {ranges[0]} against {ranges[1]}"
    said += _some_drawn(len(points.x) - missed)
    said += f"; {missed} missed (crosses)" if missed else ""
    said += f"; {left} without a value are left out" if left else ""
    lowest = [points.names[n] for n in np.argsort(points.y, kind="stable")[:_MOST_FAR]] if points.names else []
    return f"{said}. Lowest: {listed([short(name) for name in lowest])}." if lowest else f"{said}."
