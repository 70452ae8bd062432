"""How a search for a better plan went: trial by trial, value by value, and each trial's own course."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import TYPE_CHECKING

from delineate.reports.charts.axes import log_ticks
from delineate.reports.charts.words import count, listed, number
from delineate.reports.display import PALETTE
from delineate.reports.drawing import INK, Chart, draw_chart, short

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_BEST, _DEFAULT, _OTHER, _GIVEN_UP = PALETTE[4], PALETTE[1], PALETTE[0], "#9aa5b0"
_COLUMNS = 3
_PANE_INCHES = 1.9


@dataclass(frozen=True, slots=True)
class TrialPoint:
    """One trial. `dice`: its score, or of one that was given up the last that was validated.

    `curve`: Dice by the number of the validation. `values`: of what was tuned.
    """

    number: int
    dice: float
    is_complete: bool
    curve: Mapping[int, float]
    values: Mapping[str, float | int | str]


def search_history(trials: Sequence[TrialPoint]) -> Chart:
    """Dice of each trial, the best so far as a line, the default's as a dashed one."""
    complete = [trial for trial in trials if trial.is_complete]
    best, default = _best(trials), _default(trials)

    def draw(figure: Figure) -> None:
        pane = figure.subplots()
        _scatter(pane, [(trial.number, trial) for trial in trials], best=best, default=default)
        highest = list(accumulate((trial.dice for trial in complete), max))
        if complete:
            ends = [*(trial.number for trial in complete), max(trial.number for trial in trials)]
            pane.step(ends, [*highest, highest[-1]], where="post", color=_OTHER, linewidth=1.2, label="best so far")
        if default is not None:
            pane.axhline(default.dice, color=_DEFAULT, linestyle="--", linewidth=1, zorder=1)
        pane.set(xlabel="trial", ylabel="validation Dice")
        pane.margins(x=0.03, y=0.08)
        pane.xaxis.get_major_locator().set_params(integer=True)  # type: ignore[call-arg]
        handles, labels = pane.get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside lower center", ncols=5, fontsize=8)

    return draw_chart(draw, height=3.2, title="Dice of each trial", alt=_history_words(trials, best, default))


def search_slices(trials: Sequence[TrialPoint], *, log: Sequence[str] = ()) -> Chart:
    """Dice against each value that was tuned, a pane each; `log`: names with a logarithmic axis."""
    names = list(dict.fromkeys(name for trial in trials for name in trial.values))
    columns = max(1, min(_COLUMNS, len(names)))
    rows = max(1, -(-len(names) // columns))
    best, default = _best(trials), _default(trials)

    def draw(figure: Figure) -> None:
        panes = figure.subplots(rows, columns, squeeze=False, sharey=True).ravel()
        for pane, name in zip(panes, names, strict=False):
            _draw_slice(pane, name, trials, log=name in log, best=best, default=default)
        for pane in panes[len(names) :]:
            pane.set_axis_off()
        for pane in panes[::columns]:
            pane.set_ylabel("validation Dice")

    said = listed([_slice_words(name, best, default) for name in names]) or "nothing was tuned"
    alt = f"Dice against each value that was tuned. {said}."
    return draw_chart(draw, height=0.3 + _PANE_INCHES * rows, title="Dice against values", alt=alt)


def search_curves(trials: Sequence[TrialPoint]) -> Chart:
    """Validation Dice of every trial on its way; those that were given up end with a cross."""
    best, default = _best(trials), _default(trials)

    def draw(figure: Figure) -> None:
        pane = figure.subplots()
        for trial in trials:
            if not trial.curve:
                continue
            colour, width = _colour(trial, best, default), 2.2 if trial in (best, default) else 0.9
            steps, dice = list(trial.curve), list(trial.curve.values())
            order = 3 if trial in (best, default) else 2
            pane.plot(steps, dice, color=colour, linewidth=width, zorder=order, label=_name(trial, best, default))
            pane.plot(
                steps[-1:], dice[-1:], "o" if trial.is_complete else "x", color=colour, markersize=4, zorder=order
            )
        highest = max((dice for trial in trials for dice in trial.curve.values()), default=1.0)
        pane.set(xlabel="validation", ylabel="Dice", ylim=(0, min(1.02, 1.1 * highest) or 1.0))
        pane.xaxis.get_major_locator().set_params(integer=True)  # type: ignore[call-arg]
        handles, labels = pane.get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside lower center", ncols=2, fontsize=8)

    given_up = sum(not trial.is_complete for trial in trials)
    alt = f"Validation Dice of {count(len(trials), 'trial')} on their way; {given_up} were given up before their end."
    return draw_chart(draw, height=3.2, title="Validation Dice of every trial", alt=alt)


def importance_bars(shares: Mapping[str, float]) -> Chart:
    """A bar for each value that was tuned, as long as its share."""

    def draw(figure: Figure) -> None:
        pane = figure.subplots()
        places = range(len(shares))
        pane.barh(places, list(shares.values()), height=0.62, color="#9cc6e2", edgecolor=_OTHER)
        pane.set_yticks(places, [short(name) for name in shares])
        pane.invert_yaxis()
        for place, share in zip(places, shares.values(), strict=True):
            pane.annotate(
                f"{100 * share:.0f} %", (share, place), xytext=(5, 0), textcoords="offset points", va="center"
            )
        pane.set(xticks=[], xlim=(0, 1.15 * max(shares.values(), default=1.0) or 1.0))
        pane.tick_params(axis="y", length=0, labelcolor=INK)
        pane.grid(visible=False)
        pane.spines["bottom"].set_visible(False)

    said = listed([f"{short(name)} {100 * share:.0f} %" for name, share in shares.items()])
    return draw_chart(
        draw, height=0.4 + 0.3 * max(len(shares), 1), title="What it depended on", alt=f"Importance: {said}."
    )


def _draw_slice(
    pane: Axes,
    name: str,
    trials: Sequence[TrialPoint],
    *,
    log: bool,
    best: TrialPoint | None,
    default: TrialPoint | None,
) -> None:
    known = [trial for trial in trials if name in trial.values]
    words = sorted({str(t.values[name]) for t in known if isinstance(t.values[name], str)}, key=_by_numbers)
    if words:
        points = [(float(words.index(str(trial.values[name]))), trial) for trial in known]
        pane.set_xticks(range(len(words)), words, rotation=25, ha="right", fontsize=7.5)
        pane.set_xlim(-0.5, len(words) - 0.5)
    else:
        points = [(float(trial.values[name]), trial) for trial in known]
        if log and all(x > 0 for x, _ in points):
            pane.set_xscale("log")
    _scatter(pane, points, best=best, default=default)
    pane.set_title(short(name, 26))
    if not words:
        _plain_ticks(pane)


def _by_numbers(word: str) -> tuple[list[int], str]:
    """8x8x4 comes before 16x16x8."""
    return [int(part) for part in re.findall(r"\d+", word)], word


def _plain_ticks(pane: Axes) -> None:
    limits = pane.get_xlim()
    if pane.get_xscale() == "log":
        pane.set_xticks(log_ticks(*limits, most=5))
        pane.set_xticks([], minor=True)
        pane.set_xlim(*limits)
    else:
        pane.xaxis.get_major_locator().set_params(nbins=5)  # type: ignore[call-arg]
    pane.xaxis.set_major_formatter(lambda value, _: number(value, 3))


def _scatter(
    pane: Axes,
    points: Sequence[tuple[float, TrialPoint]],
    *,
    best: TrialPoint | None,
    default: TrialPoint | None,
) -> None:
    plain = [(x, trial) for x, trial in points if trial not in (best, default)]
    for shown, marker, colour, label in (
        ([(x, t) for x, t in plain if t.is_complete], "o", _OTHER, "complete"),
        ([(x, t) for x, t in plain if not t.is_complete], "x", _GIVEN_UP, "given up"),
        ([(x, t) for x, t in points if t is default], "D", _DEFAULT, "the plan as it was"),
        ([(x, t) for x, t in points if t is best], "*", _BEST, "best"),
    ):
        if shown:
            pane.plot(
                [x for x, _ in shown], [t.dice for _, t in shown], marker, color=colour, label=label,
                markersize=13 if marker == "*" else 5.5, zorder=4 if marker in "D*" else 3,
                markeredgecolor=colour if marker == "x" else INK if marker in "D*" else "white", markeredgewidth=0.8,
            )  # fmt: skip


def _best(trials: Sequence[TrialPoint]) -> TrialPoint | None:
    return max((t for t in trials if t.is_complete), key=lambda t: (t.dice, -t.number), default=None)


def _default(trials: Sequence[TrialPoint]) -> TrialPoint | None:
    return next((trial for trial in trials if trial.number == 0 and not math.isnan(trial.dice)), None)


def _colour(trial: TrialPoint, best: TrialPoint | None, default: TrialPoint | None) -> str:
    if trial is best:
        return _BEST
    if trial is default:
        return _DEFAULT
    return _OTHER if trial.is_complete else _GIVEN_UP


def _name(trial: TrialPoint, best: TrialPoint | None, default: TrialPoint | None) -> str:
    if trial is best:
        return f"best, trial {trial.number}"
    return "the plan as it was" if trial is default else ""


def _history_words(trials: Sequence[TrialPoint], best: TrialPoint | None, default: TrialPoint | None) -> str:
    complete = sum(trial.is_complete for trial in trials)
    said = f"{count(len(trials), 'trial')}, {complete} complete"
    if default is not None:
        said += f"; the plan as it was has Dice {number(default.dice)}"
    if best is not None:
        said += f"; the best is trial {best.number} with {number(best.dice)}"
    return said + "."


def _slice_words(name: str, best: TrialPoint | None, default: TrialPoint | None) -> str:
    parts = [
        f"{who} {value if isinstance(value, str) else number(float(value))}"
        for who, trial in (("best", best), ("as it was", default))
        if trial is not None and (value := trial.values.get(name)) is not None
    ]
    return f"{short(name)}: {', '.join(parts) or 'no value'}"
