"""Readers' agreement as tables for the terminal. They are returned; the command line prints them."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from delineate.evaluation.cases import nanmean
from delineate.evaluation.observers import MODEL, Against, Place
from delineate.metrics.definitions import Better
from delineate.reports.tables import plain_table, plain_text, show_count, show_number

if TYPE_CHECKING:
    from rich.table import Table

_DIGITS = {"dice": 2, "surface_dice": 2, "hd95_mm": 1}


def places_table(places: Sequence[Place], *, with_model: bool, title: str) -> Table:
    """Dice, surface Dice and HD95 of each structure: the readers against each other, and the model among them."""
    caption = "Readers: each against the others. Rank: of so many readers in a hundred the model is at least as good."
    table = plain_table(title, caption if with_model else None)
    table.collapse_padding = True
    table.add_column("structure", overflow="fold", min_width=14)
    columns = ("readers", "worst to\nbest", *(("model", "differ-\nence", "95 %", "rank") if with_model else ()))
    for column in columns:
        table.add_column(column, justify="right", no_wrap=True)
    shown = [p for p in places if p.against is Against.READERS and p.metric.name in _DIGITS]
    for structure, group in itertools.groupby(shown, key=lambda place: place.structure):
        figures = list(group)
        table.add_row(plain_text(structure, "bold"), _cases(figures[0].cases))
        for place in figures:
            unit = f" {place.metric.unit}" if place.metric.unit else ""
            table.add_row(plain_text(f"  {place.metric.title}{unit}"), *_place_cells(place)[: len(columns)])
        table.add_section()
    return table


def readers_table(places: Sequence[Place], *, read: Mapping[str, int], missing: Mapping[str, int]) -> Table:
    """A line a reader, and the model: cases, and the mean Dice over structures against what it is compared with.

    `read`, `missing`: cases by reader; the model's missing ones count as missed.
    """
    table = plain_table("Dice of each reader, against the others", "Means over the structures.")
    table.add_column("reader", overflow="fold")
    for column in ("cases", "missing", "each of\nthe others", "majority of\nthe others", "STAPLE of\nthe others"):
        table.add_column(column, justify="right", no_wrap=True)
    for reader, cases in read.items():
        means = [show_number(_mean_dice(places, reader, against), 3) for against in Against]
        style = "bold" if reader == MODEL else ""
        table.add_row(plain_text(reader), str(cases), show_count(missing.get(reader, 0)), *means, style=style)
    return table


def _place_cells(place: Place) -> tuple[str, ...]:
    digits = _DIGITS[place.metric.name]
    means = [mean for mean in place.reader_means.values() if not math.isnan(mean)]
    worst_to_best = sorted(means, reverse=place.metric.better is Better.LOWER)
    return (
        show_number(place.readers, digits),
        "–".join(show_number(mean, digits) for mean in (worst_to_best[0], worst_to_best[-1])) if means else "–",
        show_number(place.model, digits),
        _signed(place.difference, digits),
        "" if any(map(math.isnan, place.interval)) else " to ".join(_signed(limit, digits) for limit in place.interval),
        show_number(place.percentile, 0),
    )


def _cases(count: int) -> str:
    return f"{count} case{'' if count == 1 else 's'}"


def _signed(value: float, digits: int) -> str:
    return "–" if math.isnan(value) else f"{value:+.{digits}f}"


def _mean_dice(places: Sequence[Place], who: str, against: Against) -> float:
    shown = [place for place in places if place.against is against and place.metric.name == "dice"]
    return nanmean([place.model if who == MODEL else place.reader_means.get(who, math.nan) for place in shown])
