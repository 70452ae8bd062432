"""Comparisons of models, rankings and groups as tables for the terminal. They are returned; the command line prints."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

from delineate.evaluation.comparing import Difference
from delineate.evaluation.ranking import Ranking
from delineate.evaluation.subgroups import SIZE, GroupScore
from delineate.metrics.definitions import Metric
from delineate.reports.score_tables import show_interval
from delineate.reports.tables import plain_table, plain_text, show_count, show_number

if TYPE_CHECKING:
    from rich.table import Table


def differences_table(differences: Sequence[Difference], *, title: str, caption: str | None = None) -> Table:
    """Two models: a block a figure, in it a line a structure after the mean over them; what is shown stands bold."""
    first, second = differences[0].first, differences[0].second
    note = f"Difference: {first} minus {second}. Better: cases in which {first} is. p: corrected by Holm."
    table = _differences_table("structure", (first, second), title, note if caption is None else f"{note} {caption}")
    for metric, group in itertools.groupby(differences, key=lambda one: one.metric):
        rows = list(group)
        table.add_row(plain_text(figure_title(metric), "bold"))
        for row in rows if len(rows) > 2 else [row for row in rows if row.structure]:
            name = plain_text(f"  {row.structure or 'mean'}")
            table.add_row(name, *difference_cells(row), style="bold" if row.is_shown else "")
        table.add_section()
    return table


def pairs_table(differences: Sequence[Difference], *, title: str, caption: str | None = None) -> Table:
    """Several models, in the mean over structures: a block a figure, in it a line each two models."""
    note = "Difference: first minus second. Better: cases in which the first is. p: corrected by Holm."
    table = _differences_table("models", ("first", "second"), title, note if caption is None else f"{note} {caption}")
    means = [one for one in differences if not one.structure]
    for metric, group in itertools.groupby(means, key=lambda one: one.metric):
        table.add_row(plain_text(figure_title(metric), "bold"))
        for row in group:
            name = plain_text(f"  {row.first} – {row.second}")
            table.add_row(name, *difference_cells(row), style="bold" if row.is_shown else "")
        table.add_section()
    return table


def _differences_table(what: str, models: tuple[str, str], title: str, caption: str) -> Table:
    table = plain_table(title, caption)
    table.collapse_padding = True
    table.add_column(what, overflow="fold", min_width=10)
    for column in ("cases", *models):
        table.add_column(plain_text(column), justify="right", overflow="fold")
    for column in ("differ-\nence", "95 %", "better,\nequal,\nworse", "p"):
        table.add_column(column, justify="right", no_wrap=True)
    return table


def ranking_table(rankings: Sequence[Ranking], *, title: str) -> Table:
    """Of the mean over structures: a block a figure and way of ranking, in it a line a model, the best first."""
    table = plain_table(title, "Best: in so many of 100 draws of the patients. Ranks: 95 % of the draws.")
    table.add_column("model", overflow="fold", min_width=14)
    for column in ("mean, or\nmean rank", "rank", "ranks", "best %"):
        table.add_column(column, justify="right", no_wrap=True)
    for ranking in rankings:
        stability = "" if math.isnan(ranking.stability) else f", Kendall's tau of the draws {ranking.stability:.2f}"
        table.add_row(plain_text(f"{figure_title(ranking.metric)}, by {ranking.by.value}{stability}", "bold"))
        digits = figure_digits(ranking.metric) if ranking.by.value == "means" else 2
        for place in ranking.places:
            table.add_row(
                plain_text(f"  {place.model}"),
                show_number(place.value, digits),
                str(place.rank or "–"),
                show_interval(place.interval, 0),
                show_number(100 * place.first, 0),
            )
        table.add_section()
    return table


def groups_table(scores: Sequence[GroupScore], *, title: str) -> Table:
    """Dice of the cases' means, and of each structure by its size: a block a way of grouping, in it a line a group."""
    table = plain_table(title, "Gap: minus all other cases. p: corrected by Holm. Small: what it shows may be chance.")
    table.collapse_padding = True
    table.add_column("group", overflow="fold", min_width=18)
    for column in ("patients", "cases", "mis-\nsed", "mean", "gap", "95 %", "p"):
        table.add_column(column, justify="right", no_wrap=True)
    shown = [one for one in scores if one.metric.name == "dice" and (not one.structure or one.grouping == SIZE)]
    for (name, structure), rows in itertools.groupby(shown, key=lambda one: (one.grouping, one.structure)):
        table.add_row(plain_text(f"{name}, {structure}" if structure else name, "bold"))
        for row in rows:
            table.add_row(plain_text(f"  {row.group}"), *_group_cells(row))
        table.add_section()
    return table


def difference_cells(one: Difference) -> tuple[str, ...]:
    """Cases, both means, their difference with its interval, wins, ties and losses, p."""
    digits = figure_digits(one.metric)
    return (
        str(one.cases),
        *(show_number(mean, digits) for mean in one.means),
        signed(one.difference, digits),
        signed_interval(one.interval, max(1, digits - 1)),
        f"{one.wins}, {one.ties}, {one.losses}",
        show_p(one.p_holm),
    )


def _group_cells(one: GroupScore) -> tuple[str, ...]:
    digits = figure_digits(one.metric)
    return (
        f"{one.patients}{' small' if one.small else ''}",
        str(one.cases),
        show_count(one.missed),
        show_number(one.mean, digits),
        signed(one.gap, digits),
        signed_interval(one.gap_interval, max(1, digits - 1)),
        show_p(one.p_holm),
    )


def show_p(p: float) -> str:
    """Three digits; what is smaller than can be drawn is said to be small."""
    if math.isnan(p):
        return "–"
    return "<0.001" if p < 0.001 else f"{p:.3f}"


def figure_title(metric: Metric) -> str:
    """A figure's name and unit."""
    return f"{metric.title} {metric.unit}".strip()


def figure_digits(metric: Metric) -> int:
    """Behind the point: one of what has a unit, three of shares."""
    return 1 if metric.unit else 3


def signed(value: float, digits: int) -> str:
    """A dash for NaN."""
    return "–" if math.isnan(value) else f"{value:+.{digits}f}"


def signed_interval(interval: tuple[float, float], digits: int) -> str:
    """ "" where a limit is NaN."""
    return "" if any(map(math.isnan, interval)) else " to ".join(signed(limit, digits) for limit in interval)
