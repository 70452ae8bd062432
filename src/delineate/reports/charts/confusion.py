"""What was called what: a heat map of confusions between structures."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from delineate.reports.charts.words import count, listed, number
from delineate.reports.drawing import INK, Chart, draw_chart, short

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_MOST_NUMBERED = 16  # columns with numbers in their cells
_MOST_SAID = 6


def confusion_map(
    counts: npt.ArrayLike, references: Sequence[str], predictions: Sequence[str] | None = None, *, unit: str = "voxel"
) -> Chart:
    """Each row shows what became of one structure of the reference, in percent of its voxels.

    `counts`: (references, predictions) numbers; `predictions` are the same names if none are given. Where a name
    stands in both, its cell is what was right. A row without voxels stays empty and is said.
    Raises `ValueError` for counts of another shape, negative ones or such that are not finite.
    """
    columns = list(references if predictions is None else predictions)
    numbers = np.asarray(counts, dtype=np.float64)
    if numbers.shape != (len(references), len(columns)) or not np.isfinite(numbers).all() or (numbers < 0).any():
        raise ValueError(f"expected {len(references)} x {len(columns)} counts from 0, got shape {numbers.shape}")
    totals = numbers.sum(axis=1, keepdims=True)
    shares = np.divide(numbers, totals, out=np.zeros_like(numbers), where=totals > 0)

    def draw(figure: Figure) -> None:
        pane = figure.subplots()
        pane.pcolormesh(100 * shares, cmap="Blues", vmin=0, vmax=100, edgecolor="white", linewidth=1)
        pane.invert_yaxis()
        _name_axes(pane, references, columns)
        if len(columns) <= _MOST_NUMBERED:
            _write_numbers(pane, shares, totals[:, 0])

    height = 1.6 + 0.28 * len(references)
    return draw_chart(
        draw, height=height, title="Confusion between structures", alt=_words(numbers, references, columns, unit)
    )


def _name_axes(pane: Axes, references: Sequence[str], columns: Sequence[str]) -> None:
    pane.set_xticks(
        np.arange(len(columns)) + 0.5,
        [short(name, 24) for name in columns],
        rotation=45,
        ha="right",
        rotation_mode="anchor",
    )
    pane.set_yticks(np.arange(len(references)) + 0.5, [short(name) for name in references])
    pane.tick_params(length=0, labelcolor=INK)
    pane.grid(visible=False)
    pane.spines[:].set_visible(False)
    pane.set(xlabel="prediction", ylabel="reference")


def _write_numbers(pane: Axes, shares: npt.NDArray[np.float64], totals: npt.NDArray[np.float64]) -> None:
    for row, column in np.argwhere(shares > 0):
        share = 100 * shares[row, column]
        shown = "<0.1" if share < 0.1 else f"{share:.1f}" if share < 10 else f"{share:.0f}"
        dark = share > 55
        pane.text(column + 0.5, row + 0.5, shown, ha="center", va="center", fontsize=8, color="white" if dark else INK)
    for row in np.flatnonzero(totals == 0):
        pane.text(0.1, row + 0.5, "not in the reference", va="center", fontsize=8, color=INK)


def _words(numbers: npt.NDArray[np.float64], references: Sequence[str], columns: Sequence[str], unit: str) -> str:
    totals = numbers.sum(axis=1)
    wrong = [
        (numbers[row, column] / totals[row], name, called, numbers[row, column], totals[row])
        for row, name in enumerate(references)
        for column, called in enumerate(columns)
        if totals[row] > 0 and numbers[row, column] > 0 and name != called
    ]
    wrong.sort(key=lambda item: -item[0])
    phrases = [
        f"{number(100 * share, 2)} % of {short(name)} was called {short(called)}"
        f" ({number(some, 4)} of {count(round(total), unit)})"
        for share, name, called, some, total in wrong
    ]
    said = listed(phrases, most=_MOST_SAID) or "nothing was called by another name"
    empty = [short(name) for name, total in zip(references, totals, strict=True) if total == 0]
    none = f" Not in the reference: {listed(empty)}." if empty else ""
    return f"Confusion between {count(len(references), 'structure')}. The largest: {said}.{none}"
