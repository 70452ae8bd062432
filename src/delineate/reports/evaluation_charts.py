"""The charts of an evaluation's page, from what scores.json holds."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from delineate.reports.charts import (
    Chart,
    Point,
    Reliability,
    bland_altman,
    box_plot,
    confusion_map,
    reliability_curve,
    scatter,
)
from delineate.reports.evaluation_figures import FIGURES, Spread, counted, words_of
from delineate.reports.score_records import ScoresRecord, number

BOXES = ("dice", "surface_dice", "hd95_mm")
_ROWS = 14  # of one box plot: more would not fit on a printed page beside its caption
_POINTS = 2000  # of one figure in all box plots, so that the page stays small
_FEWEST_POINTS = 40  # a row
_OF_THEIR_OWN = 4  # structures that have a Bland-Altman each; more share one
_WIDE = 20.0  # largest volume by smallest from which ratios are compared


def box_charts(metric: str, spreads: Sequence[Spread]) -> list[Chart]:
    """Box plots of one figure, some structures each, all on one axis."""
    figure = FIGURES[metric]
    known = [value for one in spreads for value in one.values if not math.isnan(value)]
    limits = (0.0, 1.0) if not figure.unit else (0.0, 1.04 * max(known, default=1.0) or 1.0)
    return [
        box_plot(
            {one.name: one.values for one in part},
            axis=f"{figure.title} ({figure.unit})" if figure.unit else figure.title,
            missed={one.name: one.missed for one in part},
            spurious={one.name: one.spurious for one in part},
            higher_is_better=figure.better.value == "higher",
            limits=limits,
            most_points=max(_FEWEST_POINTS, _POINTS // max(1, len(spreads))),
        )
        for part in (spreads[n : n + _ROWS] for n in range(0, len(spreads), _ROWS))
    ]


def volume_charts(scores: ScoresRecord) -> list[tuple[str, Chart]]:
    """(caption, chart): Bland-Altman of each structure, or of all together as ratios where there are many."""
    names = list(scores.structures)
    if len(names) > _OF_THEIR_OWN:
        return [("All structures, as ratios", _bland_altman(scores, names))]
    return [(words_of(name), _bland_altman(scores, [name])) for name in names]


def _bland_altman(scores: ScoresRecord, names: Sequence[str]) -> Chart:
    found = [
        (case_id, name, number(values.get("reference_ml")), number(values.get("prediction_ml")))
        for case_id, case in scores.cases.items()
        for name in names
        if (values := case.structures.get(name)) is not None
    ]
    volumes = [volume for *_, first, second in found for volume in (first, second) if volume > 0]
    return bland_altman(
        [first for *_, first, _ in found],
        [second for *_, second in found],
        names=[case_id for case_id, *_ in found],
        groups=[words_of(name) for _, name, *_ in found] if len(names) > 1 else (),
        ratio=len(names) > 1 or max(volumes, default=0) > _WIDE * min(volumes, default=0),
    )


def size_chart(scores: ScoresRecord) -> Chart:
    """Dice against the reference's volume; a missed structure has a Dice of 0."""
    several = len(scores.structures) > 1
    points = [
        Point(
            number(values.get("reference_ml")),
            counted(values, "dice"),
            name=case_id,
            group=words_of(name) if several else "",
            lost=values.get("status") == "missed",
        )
        for case_id, case in scores.cases.items()
        for name, values in case.structures.items()
        if values.get("status") in ("scored", "missed")
    ]
    return scatter(points, x_axis="volume of the reference (ml)", y_axis="Dice", log_x=True, y_limits=(0, 1))


def confusion_chart(scores: ScoresRecord) -> Chart | None:
    """What became of each structure's voxels; None where structures overlap or nothing was counted."""
    if scores.confusion is None:
        return None
    counts = np.array(scores.confusion.voxels)[1:]
    names = [words_of(name) for name in scores.confusion.structures[1:]]
    return confusion_map(np.roll(counts, -1, axis=1), names, [*names, "background"])


def calibration_chart(scores: ScoresRecord) -> Chart | None:
    """Reliability curves of the structures that have probabilities."""
    if not scores.calibration:
        return None
    curves = {
        words_of(name): Reliability(
            [number(part.confidence) for part in found.curve],
            [number(part.frequency) for part in found.curve],
            [part.count for part in found.curve],
            error=number(found.expected_error),
        )
        for name, found in scores.calibration.items()
    }
    return reliability_curve(curves)
