"""How a training went."""

from __future__ import annotations

import math

import numpy as np

from delineate.reports.charts.words import number
from delineate.reports.drawing import Chart, draw_chart
from delineate.reports.figures import LearningCurves, draw_learning_curves

_MOST_LOSSES = 2000
_WIDTH = 10.5


def learning_chart(curves: LearningCurves) -> Chart:
    """Loss, validation Dice and learning rate against steps. Of very long trainings the losses are means of a few."""
    return draw_chart(
        lambda figure: draw_learning_curves(figure, _fewer(curves)),
        height=3.3,
        width=_WIDTH,
        title="Loss, validation Dice and learning rate against steps",
        alt=_words(curves),
    )


def _fewer(curves: LearningCurves) -> LearningCurves:
    size = -(-len(curves.losses) // _MOST_LOSSES)
    if size <= 1:
        return curves
    parts = range(0, len(curves.losses), size)
    return LearningCurves(
        steps=[curves.steps[min(n + size, len(curves.losses)) - 1] for n in parts],
        losses=[float(np.mean(curves.losses[n : n + size])) for n in parts],
        learning_rates=[curves.learning_rates[n] for n in parts] if curves.learning_rates else (),
        validation_steps=curves.validation_steps,
        validation_dice=curves.validation_dice,
        best_step=curves.best_step,
        by_structure=curves.by_structure,
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
    return f"Training loss {ends}. {dice}{best}."
