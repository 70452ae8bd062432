"""Pictures for people, as PNG: what goes into training, how it went, and what came out."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from delineate.geometry import Box, foreground_box
from delineate.reports.display import (
    AXIS,
    PALETTE,
    PLANES,
    View,
    display_window,
    foreground,
    largest_slices,
    sample,
    structures,
    turn,
    turn_box,
    whole,
    zoom,
)
from delineate.reports.drawing import INK, QUIET, heading, png_drawing
from delineate.reports.slices import fill, height_mm, legend, meets, outline, outline_box, show_slice, width_mm
from delineate.volume import Segmentation, Volume

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from delineate.training import HistoryRow


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


def preview_figure(
    volume: Volume,
    segmentation: Segmentation | None = None,
    *,
    title: str = "",
    channels: Sequence[str] = (),
    crop_box: Box | None = None,
    prepared: npt.NDArray[np.floating[Any]] | None = None,
) -> bytes:
    """PNG of a case as the network will meet it: axial slices, reference, overlay, intensity histograms.

    The slice is the one with most of the reference, the middle one without. `crop_box`: the part that is
    kept, in the volume's own indices, drawn dashed. `prepared`: (C, I, J, K) normalised intensities for the
    second histogram; without it the display window's effect is shown. `channels`: their names.
    """
    image, (seg,) = turn(volume, segmentation)
    view = View("axial", largest_slices(foreground(seg), image.grid.shape)[2], whole(image.grid))
    names = list(channels) if len(channels) == image.channels else [f"channel {n}" for n in range(image.channels)]
    shown = min(image.channels, 3)
    columns = shown + (0 if seg is None else 2)
    with png_drawing(width=max(2.9 * columns, 7.5), height=5.6) as (figure, png):
        halves: Any = figure.subfigures(2, 1, height_ratios=(1.75, 1))
        upper, lower = halves
        panes = upper.subplots(1, columns, squeeze=False)[0]
        for n in range(shown):
            show_slice(panes[n], view, image, channel=n)
            panes[n].set_title(
                f"{names[n]}, axial slice {view.index + 1} of {image.grid.shape[2]}" if n == 0 else names[n]
            )
        if crop_box is not None:
            outline_box(panes[0], turn_box(crop_box, volume.grid))
        if seg is not None:
            show_slice(panes[-2], view, None, like=image.grid)
            fill(panes[-2], seg, view, alpha=1.0)
            panes[-2].set_title("Reference")
            show_slice(panes[-1], view, image)
            fill(panes[-1], seg, view, alpha=0.4)
            outline(panes[-1], seg, view)
            panes[-1].set_title("Both")
            legend(upper, [label for label, _ in structures(seg, view)])
        _histograms(lower, image, names, prepared)
        heading(figure, title)
    return png.getvalue()


def comparison_figure(
    volume: Volume,
    prediction: Segmentation,
    *,
    reference: Segmentation | None = None,
    title: str = "",
    channel: int = 0,
) -> bytes:
    """PNG of a prediction (filled) and its reference (outlined) in three planes, close up.

    Each plane lies where it meets most of the reference, or of the prediction if there is none or it is empty.
    """
    image, (predicted, drawn) = turn(volume, prediction, reference)
    drawn_mask, predicted_mask = foreground(drawn), foreground(predicted)
    main = drawn_mask if drawn_mask is not None and drawn_mask.any() else predicted_mask
    either = (
        drawn_mask if predicted_mask is None else predicted_mask if drawn_mask is None else drawn_mask | predicted_mask
    )
    box = zoom(None if either is None else foreground_box(either), image.grid)
    most = largest_slices(main, image.grid.shape)
    views = [View(plane, most[AXIS[plane]], box) for plane in PLANES]
    widths = [width_mm(view, image.grid) / height_mm(view, image.grid) for view in views]
    labels = [
        label
        for label in prediction.labels
        if any(meets(seg, view, label) for seg in (predicted, drawn) for view in views)
    ]
    with png_drawing(width=10.5, height=min(max(10.0 / sum(widths), 2.4), 5.5) + 0.9) as (figure, png):
        panes = figure.subplots(1, 3, width_ratios=widths)
        for pane, view in zip(panes, views, strict=True):
            show_slice(pane, view, image, channel=channel)
            if predicted is not None:
                fill(pane, predicted, view, alpha=0.45)
            outline(pane, drawn if drawn is not None else predicted, view)
            pane.set_title(f"{view.plane.capitalize()} {view.index + 1}")
        legend(figure, labels, note="filled: prediction" + ("" if reference is None else ", line: reference"))
        heading(figure, title)
    return png.getvalue()


def learning_curves_figure(curves: LearningCurves, *, title: str = "") -> bytes:
    """PNG of loss, validation Dice (the best marked with a star) and learning rate against steps."""
    with png_drawing(width=10.5, height=3.3) as (figure, png):
        draw_learning_curves(figure, curves)
        heading(figure, title)
    return png.getvalue()


def draw_learning_curves(figure: Figure, curves: LearningCurves) -> None:
    """Loss, validation Dice and learning rate side by side on a figure."""
    loss, dice, rate = figure.subplots(1, 3, width_ratios=(2, 2.4, 1.1))
    _plot_loss(loss, curves)
    _plot_dice(dice, curves)
    rate.set_title("Learning rate")
    if len(curves.learning_rates):
        rate.plot(curves.steps, curves.learning_rates, color=PALETTE[2], linewidth=1.6)
        rate.yaxis.set_major_formatter(lambda value, _: f"{value:g}")
        rate.set_ylim(bottom=0)
    for pane in (loss, dice, rate):
        pane.set_xlabel("step")
        pane.margins(x=0.02)


def _histograms(figure: Any, image: Volume, names: Sequence[str], prepared: npt.NDArray[Any] | None) -> None:
    before, after = figure.subplots(1, 2)
    for n, name in enumerate(names):
        colour = PALETTE[n % len(PALETTE)]
        low, high = display_window(image, n)
        windowed = (np.clip(sample(image.array[n]), low, high) - low) / (high - low)
        _histogram(before, sample(image.array[n]), name, colour)
        _histogram(after, windowed if prepared is None else sample(prepared[n]), name, colour)
        if prepared is None:
            before.axvspan(low, high, color=colour, alpha=0.08, linewidth=0)
    before.set_title("Intensities as stored")
    after.set_title("In the display window" if prepared is None else "After normalisation")
    before.set_ylabel("voxels, log scale")
    for pane in (before, after):
        pane.set_yscale("symlog", linthresh=1)
        pane.set_yticks([])
        pane.minorticks_off()
    if len(names) > 1:
        before.legend()


def _histogram(pane: Axes, values: npt.NDArray[np.float64], name: str, colour: str) -> None:
    counts, edges = np.histogram(values, bins=100)
    pane.stairs(counts, edges, color=colour, fill=True, alpha=0.25)
    pane.stairs(counts, edges, color=colour, linewidth=1.2, label=name)


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
    for n, (name, values) in enumerate(curves.by_structure.items()):
        colour = PALETTE[(n + 1) % len(PALETTE)]
        pane.plot(curves.validation_steps, values, color=colour, linewidth=1, label=name.replace("_", " "))
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
    if curves.by_structure:
        pane.legend(fontsize=8, loc="lower right")


def _mark_best(pane: Axes, curves: LearningCurves, step: float) -> None:
    nearest = int(np.abs(np.asarray(curves.validation_steps, dtype=np.float64) - step).argmin())
    at, value = curves.validation_steps[nearest], curves.validation_dice[nearest]
    pane.plot(
        [at], [value], marker="*", markersize=15, color=PALETTE[4], markeredgecolor=INK, linestyle="none", zorder=5
    )
    late = at > np.mean(curves.validation_steps)
    pane.annotate(
        f"best {value:.3f} at step {at:,.0f}",
        (at, value),
        xytext=(-10 if late else 10, -16),
        textcoords="offset points",
        ha="right" if late else "left",
        va="top",
        fontweight="bold",
        bbox={"facecolor": "white", "alpha": 0.8, "linewidth": 0, "pad": 1},
    )
