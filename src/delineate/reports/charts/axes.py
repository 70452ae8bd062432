"""Axes that say their numbers as people write them."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from delineate.reports.charts.words import number

if TYPE_CHECKING:
    from matplotlib.axes import Axes

PLATE = {"facecolor": "white", "alpha": 0.75, "linewidth": 0, "pad": 1.0}
"""Under a word that may come to lie on a line."""

_FEW = 8.0  # a logarithmic axis over a smaller factor has ticks as a linear one


def plain_ticks(pane: Axes, *, most: int = 8) -> None:
    """Numbers at both axes as people write them; about `most` where an axis is logarithmic. Limits do not move."""
    for axis, low_high in ((pane.xaxis, pane.get_xlim()), (pane.yaxis, pane.get_ylim())):
        if axis.get_scale() == "log":
            axis.set_ticks(log_ticks(*low_high, most=most))
            axis.set_ticks([], minor=True)
        axis.set_major_formatter(lambda value, _: number(value, 4))


def log_ticks(low: float, high: float, *, most: int = 8) -> list[float]:
    """Where numbers stand between two limits above 0: at 1, 2, 5, 10, ... or at powers of ten, or evenly."""
    from matplotlib.ticker import MaxNLocator

    if high / low < _FEW:
        return [tick for tick in map(float, MaxNLocator(most - 2).tick_values(low, high)) if low <= tick <= high]
    first, last = math.floor(math.log10(low)), math.ceil(math.log10(high))
    found: list[float] = []
    for parts in ((1, 2, 5), (1, 3), (1,)):
        found = [part * 10.0**n for n in range(first, last + 1) for part in parts if low <= part * 10.0**n <= high]
        if len(found) <= most:
            return found
    return found[:: -(-len(found) // most)]
