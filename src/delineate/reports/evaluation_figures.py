"""Numbers of an evaluation's page that know which way is better, so that two pages can be compared."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

import numpy as np

from delineate.evaluation.cases import LESION_FIGURES
from delineate.metrics.definitions import METRICS, Better, Metric
from delineate.metrics.tubes import TUBE_METRICS
from delineate.reports.score_parts import Values
from delineate.reports.score_records import CaseRecord, MetricRecord, ScoresRecord, number
from delineate.reports.tables import show_number

FIGURES: dict[str, Metric] = {metric.name: metric for metric in (*METRICS, *TUBE_METRICS, *LESION_FIGURES)}


@dataclass(frozen=True, slots=True)
class Figure:
    """What a cell shows. `values`: the numbers in it, the main one first; `better`: of them.

    `bad`: it should not be overlooked.
    """

    text: str
    values: tuple[float, ...] = ()
    better: Better = Better.NEITHER
    bad: bool = False

    def __str__(self) -> str:
        return self.text

    def __html__(self) -> str:
        shown = escape(self.text)
        return f"<b>{shown}</b>" if self.bad else shown


Cell = Figure | str
Row = tuple[Cell, ...]


@dataclass(frozen=True, slots=True)
class Sheet:
    """A table of a page: `columns` and as many cells in each of `rows` and in `foot`. The first column names the row.

    `words`: cells hold sentences.
    """

    caption: str
    columns: tuple[str, ...]
    rows: tuple[Row, ...]
    foot: Row = ()
    note: str = ""
    words: bool = False


@dataclass(frozen=True, slots=True)
class Spread:
    """One structure's values of a figure in all cases that have it: as measured, and how many have none."""

    name: str
    values: tuple[float, ...]
    missed: int
    spurious: int


def count_of(value: int, better: Better = Better.LOWER) -> Figure:
    """A number of things, bad from 1 where fewer is better."""
    return Figure(str(value), (value,), better, bad=better is Better.LOWER and value > 0)


def mean_of(metric: str, record: MetricRecord | None, digits: int) -> Figure:
    """A mean with its interval."""
    if record is None or record.mean is None:
        return Figure("–")
    low, high = (number(limit) for limit in record.interval or (None, None))
    return with_interval(metric, record.mean, low, high, digits)


def with_interval(metric: str, mean: float, low: float, high: float, digits: int) -> Figure:
    """`mean (low–high)`; without interval the mean alone."""
    better = FIGURES[metric].better
    if math.isnan(low) or math.isnan(high):
        return Figure(show_number(mean, digits), (mean,), better)
    # A digit less, for tables as narrow as a page; the JSON has them all.
    limits = f"{show_number(low, digits - 1)}–\N{WORD JOINER}{show_number(high, digits - 1)}"
    return Figure(f"{show_number(mean, digits)} ({limits})", (mean, low, high), better)


def plain(metric: str, value: float | None, digits: int) -> Figure:
    """One number of a figure."""
    return Figure(show_number(number(value), digits), (number(value),), FIGURES[metric].better)


def ranked_median(values: Sequence[float], lost: int) -> float:
    """The median, where what is lost ranks worst; infinite if it falls on a lost one, NaN without any."""
    ranked = np.sort(np.abs(np.asarray([value for value in values if not math.isnan(value)], dtype=np.float64)))
    ranked = np.concatenate([ranked, np.full(lost, math.inf)])
    if not ranked.size:
        return math.nan
    below, above = ranked[(ranked.size - 1) // 2], ranked[ranked.size // 2]
    return math.inf if math.isinf(above) else float((below + above) / 2)


def counted(values: Values, metric: str) -> float:
    """A figure of one structure in one case as it enters means: a miss counts as its worst value."""
    instead = values.get("counted") or {}
    return number(instead.get(metric, values.get(metric)))


def spread(scores: ScoresRecord, metric: str) -> tuple[Spread, ...]:
    """A figure's values by structure."""
    return tuple(_spread(name, scores, metric) for name in scores.structures)


def _spread(name: str, scores: ScoresRecord, metric: str) -> Spread:
    found = [case.structures[name] for case in scores.cases.values() if name in case.structures]
    measured = [number(values.get(metric)) for values in found if values.get("status") == "scored"]
    statuses = [values.get("status") for values in found]
    return Spread(name, tuple(measured), statuses.count("missed"), statuses.count("spurious"))


def worst_first(scores: ScoresRecord) -> list[tuple[str, CaseRecord]]:
    """Cases by their mean Dice, those without usable prediction first, those that have no structure last."""

    def place(item: tuple[str, CaseRecord]) -> tuple[bool, bool, float, str]:
        dice = number(item[1].mean.get("dice"))
        return not item[1].failed, math.isnan(dice), dice if not math.isnan(dice) else 0.0, item[0]

    return sorted(scores.cases.items(), key=place)


def words_of(name: str) -> str:
    """A structure's name as words."""
    return name.replace("_", " ")
