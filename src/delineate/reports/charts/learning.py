"""How a training went: loss, validation Dice and learning rate against steps."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from delineate.reports.charts.words import number
from delineate.reports.display import PALETTE
from delineate.reports.drawing import INK, QUIET, Chart, draw_chart, heading, png_drawing, short

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from delineate.training import HistoryRow

_INCHES = 10.5
_MOST_LOSSES = 2000
_MOST_CURVES, _CURVES_A_LINE = 17, 6
_STYLES = ("-", "--", ":")


@dataclass(frozen=True, slots=True)
class LearningCurves:
    """A training's history. `losses` and `learning_rates` belong to `steps`, all Dice to `validation_steps`.

    `validation_dice`: the mean over structures, 0..1. `by_structure`: the same for each, NaN where a structure
    was in no validation case. `best_step`: the step whose weights were kept, or None.
    """

    steps: Sequence[float]
    losses: Sequence[float]
    learning_rates: Sequence[float] = ()
    validation_steps: Sequence[float] = ()
    validation_dice: Sequence[float] = ()
    best_step: float | None = None
    by_structure: Mapping[str, Sequence[float]] = field(default_factory=dict)


def learning_curves(
    history: Iterable[HistoryRow], structures: Sequence[str] = (), *, best_step: float | None = None
) -> LearningCurves:
    """A training's rows as curves; rows without a loss or a validation are left out of that curve.

    The mean Dice is over the structures that have one. `structures`: names in the order of the rows' Dice;
    with one structure, or none named, only the mean is drawn.
    """
    rows = list(history)
    trained = [(row.step, row.loss, row.learning_rate) for row in rows if row.loss is not None]
    validated = [
        (row.step, [math.nan if dice is None else dice for dice in row.validation_dice])
        for row in rows
        if row.validation_dice is not None
    ]
    return LearningCurves(
        steps=[step for step, _, _ in trained],
        losses=[loss for _, loss, _ in trained],
        learning_rates=[rate for _, _, rate in trained],
        validation_steps=[step for step, _ in validated],
        validation_dice=[_mean(dice) for _, dice in validated],
        best_step=best_step,
        by_structure={name: [dice[n] for _, dice in validated] for n, name in enumerate(structures)}
        if len(structures) > 1
        else {},
    )


def _mean(values: Sequence[float]) -> float:
    known = [value for value in values if not math.isnan(value)]
    return sum(known) / len(known) if known else math.nan


def learning_chart(curves: LearningCurves) -> Chart:
    """Loss, validation Dice and learning rate against steps. Of very long trainings the losses are means of a few."""
    return draw_chart(
        lambda figure: _draw(figure, _fewer(curves)),
        height=_height(curves),
        width=_INCHES,
        title="Loss, validation Dice and learning rate against steps",
        alt=_words(curves),
    )


def _fewer(curves: LearningCurves) -> LearningCurves:
    size = -(-len(curves.losses) // _MOST_LOSSES)
    if size <= 1:
        return curves
    parts = range(0, len(curves.losses), size)
    return replace(
        curves,
        steps=[curves.steps[min(n + size, len(curves.losses)) - 1] for n in parts],
        losses=[float(np.mean(curves.losses[n : n + size])) for n in parts],
        learning_rates=[curves.learning_rates[n] for n in parts] if curves.learning_rates else (),
    )


def _words(curves: LearningCurves) -> str:
    if not curves.losses:
        return "Learning curves: no step was recorded."
    ends = f"from {number(curves.losses[0])} to {number(curves.losses[-1])} in {number(curves.steps[-1], 9)} steps"
    known = [dice for dice in curves.validation_dice if not math.isnan(dice)]
    if not known:
        return f"Training loss {ends}. No validation."
    dice = f"Validation Dice: {number(known[0])} at first, {number(known[-1])} at last, at best {number(max(known))}"
    best = "" if curves.best_step is None else f" (kept: step {number(curves.best_step, 9)})"
    many = len(curves.by_structure)
    left = f" Of {many} structures the {_MOST_CURVES} with the lowest Dice are drawn." if many > _MOST_CURVES else ""
    return f"Training loss {ends}. {dice}{best}.{left}"


def learning_curves_figure(curves: LearningCurves, *, title: str = "") -> bytes:
    """PNG of loss, validation Dice (the best marked with a star) and learning rate against steps."""
    with png_drawing(width=_INCHES, height=_height(curves)) as (figure, png):
        _draw(figure, curves)
        heading(figure, title)
    return png.getvalue()


def _height(curves: LearningCurves) -> float:
    """Inches, with room for the names of the structures below."""
    return 3.3 + 0.19 * math.ceil(min(len(curves.by_structure) + 1, _MOST_CURVES + 1) / _CURVES_A_LINE)


def _draw(figure: Figure, curves: LearningCurves) -> None:
    """Loss, validation Dice and learning rate side by side on a figure.

    Of more structures than can be told apart those with the lowest Dice at the end are drawn.
    """
    from matplotlib.ticker import MaxNLocator

    loss, dice, rate = figure.subplots(1, 3, width_ratios=(2, 2.4, 1.4), sharex=True)
    _plot_loss(loss, curves)
    _plot_dice(dice, curves)
    rate.set_title("Learning rate")
    if len(curves.learning_rates):
        rate.plot(curves.steps, curves.learning_rates, color=PALETTE[2], linewidth=1.6)
        rate.yaxis.set_major_formatter(lambda value, _: number(value))
        rate.set_ylim(bottom=0)
    for pane in (loss, dice, rate):
        pane.set_xlabel("step")
        pane.margins(x=0.02)
        pane.xaxis.set_major_locator(MaxNLocator(5, steps=(1, 2, 5, 10), integer=True))
    if len(curves.by_structure):
        handles, names = dice.get_legend_handles_labels()
        figure.legend(handles, names, loc="outside lower center", ncols=_CURVES_A_LINE, fontsize=8)


def _plot_loss(pane: Axes, curves: LearningCurves) -> None:
    losses = np.asarray(curves.losses, dtype=np.float64)
    pane.set_title("Training loss")
    if losses.size == 0:
        return
    width = max(1, losses.size // 25)
    pane.plot(curves.steps, losses, color=PALETTE[0], alpha=0.3 if width > 1 else 1, linewidth=1)
    if width > 1:
        pane.plot(curves.steps, _running_mean(losses, width), color=PALETTE[0], linewidth=1.8)


def _running_mean(values: npt.NDArray[np.float64], width: int) -> npt.NDArray[np.float64]:
    """The mean of about `width` values around each, of fewer at both ends."""
    here, sums = np.arange(values.size), np.cumsum(np.insert(values, 0, 0.0))
    start, stop = np.maximum(here - width // 2, 0), np.minimum(here + width // 2 + 1, values.size)
    means: npt.NDArray[np.float64] = (sums[stop] - sums[start]) / (stop - start)
    return means


def _plot_dice(pane: Axes, curves: LearningCurves) -> None:
    pane.set_title("Validation Dice")
    pane.set_ylim(0, 1.02)
    if len(curves.validation_dice) == 0:
        pane.text(0.5, 0.5, "no validation", ha="center", va="center", color=QUIET, transform=pane.transAxes)
        return
    colours = PALETTE[1:]  # the first one is the mean's
    for n, (name, values) in enumerate(_fewest_found(curves.by_structure)):
        pane.plot(
            curves.validation_steps, values, color=colours[n % len(colours)], linewidth=1.1, marker=".", markersize=3,
            linestyle=_STYLES[n // len(colours) % len(_STYLES)], label=short(name, 24),
        )  # fmt: skip
    pane.plot(
        curves.validation_steps,
        curves.validation_dice,
        color=PALETTE[0],
        linewidth=2,
        marker="o",
        markersize=3.5,
        label="mean",
    )
    if curves.best_step is not None:
        _mark_best(pane, curves, curves.best_step)


def _fewest_found(by_structure: Mapping[str, Sequence[float]]) -> list[tuple[str, Sequence[float]]]:
    """In their order; of many those with the lowest Dice at the end."""
    if len(by_structure) <= _MOST_CURVES:
        return list(by_structure.items())
    last = {name: -1.0 if math.isnan(values[-1]) else values[-1] for name, values in by_structure.items()}
    ranked = sorted(last, key=lambda name: last[name])
    return [(name, values) for name, values in by_structure.items() if name in ranked[:_MOST_CURVES]]


def _mark_best(pane: Axes, curves: LearningCurves, step: float) -> None:
    nearest = int(np.abs(np.asarray(curves.validation_steps, dtype=np.float64) - step).argmin())
    at, value = curves.validation_steps[nearest], curves.validation_dice[nearest]
    pane.plot(
        [at], [value], marker="*", markersize=15, color=PALETTE[4], markeredgecolor=INK, linestyle="none", zorder=5
    )
    late, low = at >= np.mean(curves.validation_steps), value < 0.5
    pane.annotate(
        f"best {value:.3f} at step {at:,.0f}",
        (at, value),
        xytext=(-10 if late else 10, 12 if low else -12),
        textcoords="offset points",
        ha="right" if late else "left",
        va="bottom" if low else "top",
        fontweight="bold",
        bbox={"facecolor": "white", "alpha": 0.8, "linewidth": 0, "pad": 1},
    )
