"""Reliability: how often a probability turns out true."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from delineate.reports.charts.axes import plain_ticks
from delineate.reports.charts.words import count, listed, number
from delineate.reports.display import PALETTE
from delineate.reports.drawing import QUIET, Chart, draw_chart, short

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_MARKERS = ("o", "s", "^", "D", "v", "P")
_STYLES = ("-", "--", "-.", ":", (0, (5, 1, 1, 1, 1, 1)), (0, (8, 2)))


@dataclass(frozen=True, slots=True)
class Reliability:
    """Bins of probability: the mean probability in each, how often it was true, and of how many voxels.

    `error`: the expected calibration error, or NaN. Bins without voxels have NaN and a count of 0.
    """

    confidence: Sequence[float]
    frequency: Sequence[float]
    counts: Sequence[float]
    error: float = math.nan


def reliability_curve(curves: Mapping[str, Reliability]) -> Chart:
    """How often voxels of a probability belong to the structure, and how many such voxels there are, below.

    On the dashed diagonal probabilities mean what they say; below it the model is too sure. At most six curves
    can be told apart: of more, those with the largest errors are drawn, and the words say so.
    """
    ranked = sorted(curves.items(), key=lambda item: -item[1].error if math.isfinite(item[1].error) else 0.0)
    shown = dict(ranked[: len(_STYLES)]) if len(curves) > len(_STYLES) else dict(curves)

    def draw(figure: Figure) -> None:
        upper, lower = figure.subplots(2, 1, height_ratios=(3.2, 1), sharex=True)
        upper.plot([0, 1], [0, 1], color=QUIET, linestyle="--", linewidth=1, zorder=1)
        for n, (name, curve) in enumerate(shown.items()):
            _draw(upper, lower, name, curve, n)
        upper.set(ylabel="how often true", xlim=(-0.02, 1.02), ylim=(-0.02, 1.02))
        lower.set(xlabel="probability that the model gives", ylabel="voxels", yscale="log")
        upper.text(0.03, 0.95, "too careful", color=QUIET, fontsize=8, transform=upper.transAxes, va="top")
        upper.text(0.97, 0.05, "too sure", color=QUIET, fontsize=8, transform=upper.transAxes, ha="right")
        plain_ticks(lower, most=4)
        if shown:
            figure.legend(*upper.get_legend_handles_labels(), loc="outside right upper", fontsize=8)

    return draw_chart(draw, height=4.4, title="Reliability curve", alt=_words(shown, len(curves)))


def _draw(upper: Axes, lower: Axes, name: str, curve: Reliability, n: int) -> None:
    bins = zip(curve.confidence, curve.frequency, curve.counts, strict=True)
    known = [(p, f, c) for p, f, c in bins if c > 0 and math.isfinite(p) and math.isfinite(f)]
    error = "" if math.isnan(curve.error) else f", ECE {number(curve.error, 2)}"
    for pane, values, label in (
        (upper, [f for _, f, _ in known], f"{short(name)}{error}"),
        (lower, [c for *_, c in known], None),
    ):
        pane.plot(
            [p for p, _, _ in known], values, color=PALETTE[n], linestyle=_STYLES[n], marker=_MARKERS[n],
            markersize=4.5, linewidth=1.5, label=label, zorder=3,
        )  # fmt: skip


def _words(curves: Mapping[str, Reliability], all_of_them: int) -> str:
    if not curves:
        return "Reliability curve: there are no probabilities to show."
    phrases = []
    for name, curve in curves.items():
        total = sum(c for c in curve.counts if math.isfinite(c))
        error = "" if math.isnan(curve.error) else f"expected calibration error {number(curve.error, 2)}, "
        gaps = [(f - p) * c for p, f, c in zip(curve.confidence, curve.frequency, curve.counts, strict=True) if c > 0]
        lean = sum(gaps) / total if total else math.nan
        side = (
            ""
            if math.isnan(lean)
            else f", probabilities on average {number(abs(lean), 2)} too {'low' if lean > 0 else 'high'}"
        )
        phrases.append(f"{short(name)}: {error}{count(int(total), 'voxel')}{side}")
    more = (
        f" The {len(curves)} with the largest errors of {all_of_them} are shown." if all_of_them > len(curves) else ""
    )
    return f"Reliability curve. {listed(phrases)}.{more}"
