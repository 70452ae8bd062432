"""An experiment's runs side by side, and what models reach against what they took."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from delineate.reports.charts.axes import PLATE, plain_ticks
from delineate.reports.charts.distributions import duration
from delineate.reports.charts.learning import LearningCurves
from delineate.reports.charts.words import count, fixed, listed, number
from delineate.reports.display import PALETTE
from delineate.reports.drawing import INK, QUIET, Chart, draw_chart, heading, png_drawing, short

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_ROW_INCHES = 1.9
_MARKERS = ("o", "s", "^", "D", "v", "P", "X")
_STYLES = ("-", "--", ":", "-.")


@dataclass(frozen=True, slots=True)
class RunCurves:
    """The learning curves of one run: of a configuration, validated on a fold (from 0)."""

    configuration: str
    fold: int
    curves: LearningCurves


def runs_chart(runs: Sequence[RunCurves]) -> Chart:
    """A row for each configuration: the training loss and the validation Dice of all its folds, on equal axes."""
    names = list(dict.fromkeys(run.configuration for run in runs))

    def draw(figure: Figure) -> None:
        panes = figure.subplots(max(len(names), 1), 2, squeeze=False, sharex="col", sharey="col")
        for (loss, dice), name in zip(panes, names, strict=False):
            _draw_row(loss, dice, name, [run for run in runs if run.configuration == name])
        for pane in panes[-1]:
            pane.set_xlabel("step")
        panes[0, 1].set_ylim(0, 1.02)
        handles, folds = panes[0, 0].get_legend_handles_labels()
        if len(folds) > 1:
            figure.legend(handles, folds, loc="outside lower center", ncols=6, fontsize=8)

    words = listed([_run_words(run) for run in runs], most=60) or "no run has begun"
    height = 0.5 + _ROW_INCHES * max(len(names), 1)
    return draw_chart(draw, height=height, title="Learning curves of all runs", alt=f"Learning curves: {words}.")


def _draw_row(loss: Axes, dice: Axes, name: str, runs: Sequence[RunCurves]) -> None:
    loss.set_title(f"{short(name, 24)}: training loss")
    dice.set_title(f"{short(name, 24)}: validation Dice")
    for run in runs:
        colour, style = PALETTE[run.fold % len(PALETTE)], _STYLES[run.fold // len(PALETTE) % len(_STYLES)]
        curves, label = run.curves, f"fold {run.fold + 1}"
        loss.plot(curves.steps, _smooth(curves.losses), color=colour, linestyle=style, linewidth=1.3, label=label)
        dice.plot(
            curves.validation_steps,
            curves.validation_dice,
            color=colour,
            linestyle=style,
            linewidth=1.3,
            marker="o",
            markersize=3,
        )
    if not any(run.curves.validation_steps for run in runs):
        dice.text(0.5, 0.5, "no validation", ha="center", va="center", color=QUIET, transform=dice.transAxes)
    for pane in (loss, dice):
        pane.margins(x=0.02)
        plain_ticks(pane)


def _smooth(losses: Sequence[float]) -> Sequence[float]:
    """Means of a twenty-fifth of the run, so that several can be told apart."""
    width = max(1, len(losses) // 25)
    if width == 1:
        return losses
    padded = np.pad(np.asarray(losses, dtype=np.float64), (width // 2, width - 1 - width // 2), mode="edge")
    means: list[float] = np.convolve(padded, np.full(width, 1 / width), mode="valid").tolist()
    return means


def _run_words(run: RunCurves) -> str:
    curves, name = run.curves, f"{short(run.configuration, 24)}, fold {run.fold + 1}"
    if not curves.losses:
        return f"{name}: nothing recorded"
    dice = f", Dice {number(curves.validation_dice[-1])}" if curves.validation_dice else ""
    return f"{name}: loss {number(curves.losses[0])} to {number(curves.losses[-1])}{dice}"


@dataclass(frozen=True, slots=True)
class Attainment:
    """What something reached, and the seconds it took. `group`: by colour and mark, e.g. the experiment."""

    name: str
    group: str
    seconds: float
    dice: float
    low: float = math.nan
    high: float = math.nan


def attainment_chart(found: Sequence[Attainment]) -> Chart:
    """Dice with its interval against the seconds of training, a mark each, with its name."""
    return draw_chart(
        lambda figure: _draw_attainments(figure, _known(found)),
        height=3.8,
        title="Dice against seconds",
        alt=_attainment_words(_known(found)),
    )


def attainment_figure(found: Sequence[Attainment], *, title: str = "") -> bytes:
    """The same as PNG."""
    with png_drawing(width=7.1, height=4.2) as (figure, png):
        _draw_attainments(figure, _known(found))
        heading(figure, title)
    return png.getvalue()


def _known(found: Sequence[Attainment]) -> list[Attainment]:
    return [one for one in found if math.isfinite(one.dice) and one.seconds > 0]


def _draw_attainments(figure: Figure, found: Sequence[Attainment]) -> None:
    pane = figure.subplots()
    pane.set(xlabel="seconds of training (all folds)", ylabel="mean Dice, out of fold")
    if not found:
        pane.text(0.5, 0.5, "no scores yet", ha="center", va="center", color=QUIET, transform=pane.transAxes)
        return
    groups = list(dict.fromkeys(one.group for one in found))
    pane.set_xscale("log")
    for one in found:
        n = groups.index(one.group)
        colour, marker = PALETTE[n % len(PALETTE)], _MARKERS[n % len(_MARKERS)]
        if math.isfinite(one.low) and math.isfinite(one.high):
            pane.plot([one.seconds] * 2, [one.low, one.high], color=colour, linewidth=1.4, alpha=0.7)
        pane.plot([one.seconds], [one.dice], marker=marker, color=colour, markersize=7, linestyle="none", zorder=3)
        pane.annotate(
            short(one.name, 28), (one.seconds, one.dice), xytext=(7, 4), textcoords="offset points", fontsize=8,
            color=INK, bbox=PLATE,
        )  # fmt: skip
    pane.margins(x=0.16, y=0.12)
    low, high = pane.get_xlim()
    if high / low < 2:
        pane.set_xlim(low / 1.5, high * 1.5)
    for n, group in enumerate(groups if len(groups) > 1 else []):
        colour, marker = PALETTE[n % len(PALETTE)], _MARKERS[n % len(_MARKERS)]
        pane.plot([], [], marker=marker, color=colour, linestyle="none", label=short(group, 28))
    if len(groups) > 1:
        figure.legend(loc="outside lower center", ncols=4, fontsize=8)
    plain_ticks(pane)


def _attainment_words(found: Sequence[Attainment]) -> str:
    def said(one: Attainment) -> str:
        interval = "" if math.isnan(one.low) else f" [{fixed(one.low, 3)} to {fixed(one.high, 3)}]"
        return f"{short(one.name, 28)}: Dice {fixed(one.dice, 3)}{interval} in {duration(one.seconds)}"

    return f"{count(len(found), 'candidate')}. {listed([said(one) for one in found])}." if found else "No scores yet."
