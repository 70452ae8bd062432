"""The page of a comparison: which model is better, by how much, and whether that may be chance."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from delineate.evaluation.comparing import LEVEL, MEAN, Difference
from delineate.evaluation.comparison_output import DEFINITIONS
from delineate.evaluation.ranking import Ranking
from delineate.metrics.definitions import Metric
from delineate.reports.charts import Chart, ForestRow, forest_plot
from delineate.reports.charts.words import count, listed
from delineate.reports.comparison_tables import (
    difference_cells,
    figure_digits,
    figure_title,
    show_p,
    signed,
    signed_interval,
)
from delineate.reports.evaluation_figures import Row, Sheet, words_of
from delineate.reports.html import render_template
from delineate.reports.pages import Pairs
from delineate.reports.score_tables import show_interval
from delineate.reports.tables import show_number

_DEFINED = ("counted", "lacking", "interval", "p", "p_holm", "wins", "ranking", "stability")


@dataclass(frozen=True, slots=True)
class ComparisonView:
    """What the page shows. `failures`: by model and case, why there is no usable prediction; `note`: what so few
    patients can show at best, or None; `sources`: of each model, where its results lie and what made them."""

    models: tuple[str, ...]
    cases: int
    patients: int
    differences: tuple[Difference, ...]
    rankings: tuple[Ranking, ...]
    failures: Mapping[str, Mapping[str, str]]
    note: str | None
    remarks: tuple[str, ...]
    sources: Mapping[str, Pairs]


def render_comparison(view: ComparisonView) -> str:
    """One self-contained HTML file."""
    metrics = list(dict.fromkeys(one.metric for one in view.differences))
    return render_template(
        "comparison.html",
        view=view,
        title=" against ".join(view.models) if len(view.models) == 2 else f"{len(view.models)} models compared",
        tiles=(
            ("models", str(len(view.models))),
            (f"cases of {count(view.patients, 'patient')}", str(view.cases)),
            ("without usable prediction", str(sum(map(len, view.failures.values()))), any(view.failures.values())),
        ),
        failed=tuple(_failed(view.failures)),
        figures=[
            (
                figure_title(metric),
                verdict(view.differences, metric),
                _charts(view.differences, metric),
                _sheets(view.differences, metric),
            )
            for metric in metrics
        ],
        ranks=[_rank_sheet(ranking) for ranking in view.rankings if ranking.structure == MEAN],
        definitions=[(name.replace("_", " "), str(DEFINITIONS[name])) for name in _DEFINED],
        level=f"p below {LEVEL:g}",
    )


def verdict(differences: Sequence[Difference], metric: Metric) -> Iterator[str]:
    """A sentence for each two models: who is better in the mean over structures, and in which ones."""
    for (first, second), rows in _pairs(differences, metric):
        yield _sentence(first, second, metric, rows)


def _pairs(differences: Sequence[Difference], metric: Metric) -> Iterator[tuple[tuple[str, str], list[Difference]]]:
    found: dict[tuple[str, str], list[Difference]] = {}
    for one in differences:
        if one.metric == metric:
            found.setdefault((one.first, one.second), []).append(one)
    yield from found.items()


def _sentence(first: str, second: str, metric: Metric, rows: Sequence[Difference]) -> str:
    mean = next((row for row in rows if row.structure == MEAN), rows[0])
    digits = figure_digits(metric)
    means = [show_number(value, digits) for value in mean.means]
    said = f"{figure_title(metric)}: {first} {means[0]}, {second} {means[1]}"
    interval = signed_interval(mean.interval, digits)
    by = f"{signed(mean.difference, digits)}" + (f", 95 % {interval}" if interval else "")
    if not mean.better:
        told = "; equal."
    elif mean.is_shown:
        told = f"; {mean.better} is better ({by}; p {show_p(mean.p_holm)})."
    else:
        told = f"; the difference ({by}) may be chance (p {show_p(mean.p_holm)})."
    shown = [f"{words_of(row.structure)} ({row.better})" for row in rows if row.structure and row.is_shown]
    return said + told + (f" Structures that differ, with who is better: {listed(shown)}." if shown else "")


def _charts(differences: Sequence[Difference], metric: Metric) -> Iterator[tuple[str, Chart]]:
    """A forest plot of each two models: a row a structure."""
    for (first, second), group in _pairs(differences, metric):
        rows = [
            ForestRow(
                words_of(one.structure) if one.structure else "mean over structures",
                one.difference,
                *one.interval,
                count=one.patients,
            )
            for one in group
        ]
        better = "to the right" if metric.better.name == "HIGHER" else "to the left"
        axis = f"{figure_title(metric)}: {first} minus {second}"
        yield (
            f"{first} is better {better} of the line",
            forest_plot(rows, axis=axis, reference=0, reference_name="no difference"),
        )


def _sheets(differences: Sequence[Difference], metric: Metric) -> list[Sheet]:
    sheets = []
    for (first, second), group in _pairs(differences, metric):
        rows = tuple(_row(one) for one in group)
        columns = ("Structure", "Cases", first, second, "Difference", "95 %", "Better, equal, worse", "p")
        sheets.append(Sheet(f"{figure_title(metric)}, {first} against {second}", columns, rows))
    return sheets


def _row(one: Difference) -> Row:
    name = words_of(one.structure) if one.structure else "mean over structures"
    return (f"{name} *" if one.is_shown else name, *difference_cells(one))


def _rank_sheet(ranking: Ranking) -> Sheet:
    digits = figure_digits(ranking.metric) if ranking.by.value == "means" else 2
    rows = tuple(
        (
            place.model,
            show_number(place.value, digits),
            str(place.rank or "–"),
            show_interval(place.interval, 0),
            show_number(100 * place.first, 0),
        )
        for place in ranking.places
    )
    columns = ("Model", "Mean" if ranking.by.value == "means" else "Mean rank", "Rank", "Ranks of the draws", "Best, %")
    note = f"Kendall's tau between this ranking and those of the draws: {show_number(ranking.stability, 2)}."
    return Sheet(f"{figure_title(ranking.metric)}, by {ranking.by.value}", columns, rows, note=note)


def _failed(failures: Mapping[str, Mapping[str, str]]) -> Iterator[str]:
    for model, cases in failures.items():
        for case, why in cases.items():
            yield f"{model}, {case}: counted as missed, because {why}."
