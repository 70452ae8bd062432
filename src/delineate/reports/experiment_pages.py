"""The page of an experiment: what was tried, how good it is, what was chosen and why."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from delineate.reports.charts import Chart, ForestRow, duration, forest_plot
from delineate.reports.charts.experiments import RunCurves, runs_chart
from delineate.reports.charts.words import count
from delineate.reports.comparison_tables import show_p
from delineate.reports.html import render_template
from delineate.reports.pages import Pairs
from delineate.reports.tables import show_number

Interval = tuple[float, float]

FEW_PATIENTS = 10
_NO_INTERVAL = (math.nan, math.nan)


@dataclass(frozen=True, slots=True)
class CandidateLine:
    """A candidate out of fold, before postprocessing. `behind`: the best one's mean Dice minus its own, with `p` and
    interval, NaN for the best one itself; `seconds`: a scan; `structures`: Dice of each."""

    name: str
    dice: float
    interval: Interval
    nsd: float
    nsd_interval: Interval
    seconds: float
    structures: Mapping[str, float]
    behind: float = math.nan
    behind_interval: Interval = _NO_INTERVAL
    p: float = math.nan


@dataclass(frozen=True, slots=True)
class RuleLine:
    """A postprocessing rule that was kept: of which structure, in words; mean Dice before and after."""

    structure: str
    words: str
    before: float
    after: float
    p: float
    changed: int


@dataclass(frozen=True, slots=True)
class RunLine:
    """One run: of a configuration, fold from 0, with the mean Dice of its own fold."""

    configuration: str
    fold: int
    steps: int
    seconds: float
    dice: float


@dataclass(frozen=True, slots=True)
class ExperimentPage:
    """What the page says. `words`: the choice; `nested`: Dice of what is chosen this way, on cases it was not chosen
    on, over structures and of each; `nested_chosen`: what was chosen without each fold. `facts`: (what, value)."""

    title: str
    chosen: str
    words: str
    candidates: tuple[CandidateLine, ...]
    nested: float
    nested_interval: Interval
    nested_structures: Mapping[str, float]
    nested_chosen: tuple[str, ...]
    rules: tuple[RuleLine, ...]
    runs: tuple[RunLine, ...]
    curves: tuple[RunCurves, ...]
    cases: int
    patients: int
    test: int
    tolerance_mm: float
    facts: Pairs


def render_experiment(page: ExperimentPage) -> str:
    """One self-contained HTML file."""
    seconds = sum(run.seconds for run in page.runs)
    return render_template(
        "experiment.html",
        page=page,
        doubts=find_doubts(page),
        nested=_with_interval(page.nested, page.nested_interval),
        forest=_forest(page),
        candidate_rows=[_candidate_row(one, page) for one in page.candidates],
        structure_columns=["Structure", *(one.name for one in page.candidates), "chosen, nested"],
        structure_rows=[
            (name.replace("_", " "), *(show_number(one.structures[name], 3) for one in page.candidates),
             show_number(nested, 3))
            for name, nested in page.nested_structures.items()
        ],
        rule_rows=[
            (rule.structure.replace("_", " "), rule.words, show_number(rule.before, 3), show_number(rule.after, 3),
             show_p(rule.p), str(rule.changed))
            for rule in page.rules
        ],
        curves=runs_chart(page.curves),
        run_rows=[
            (run.configuration, str(run.fold + 1), f"{run.steps:,}", duration(run.seconds), show_number(run.dice, 3))
            for run in page.runs
        ],
        time=duration(seconds),
        tolerance=f"{page.tolerance_mm:g}",
    )  # fmt: skip


def find_doubts(page: ExperimentPage) -> list[str]:
    """What gives reason to doubt the choice, in sentences; [] if nothing does."""
    doubts = []
    if page.patients < FEW_PATIENTS:
        patients = count(page.patients, "patient")
        doubts.append(f"There are {patients}: intervals are rough, and only large differences can be shown.")
    others = sorted({name for name in page.nested_chosen if name != page.chosen})
    if others:
        times = sum(name != page.chosen for name in page.nested_chosen)
        doubts.append(
            f"Without one fold, {', '.join(others)} would have been chosen {times} of {len(page.nested_chosen)} times: "
            "which candidate is best depends on the patients."
        )
    never = [name for name, dice in page.nested_structures.items() if dice < 0.1]
    if never:
        doubts.append(f"All but nothing was learned of {', '.join(never).replace('_', ' ')}.")
    return doubts


def _forest(page: ExperimentPage) -> Chart:
    rows = [ForestRow(one.name, one.dice, *one.interval, count=page.patients) for one in page.candidates]
    rows.append(ForestRow("what is chosen, nested", page.nested, *page.nested_interval, count=page.patients))
    return forest_plot(rows, axis="mean Dice over structures, out of fold")


def _candidate_row(one: CandidateLine, page: ExperimentPage) -> tuple[str, ...]:
    chosen = " (chosen)" if one.name == page.chosen else ""
    behind = math.isnan(one.behind)
    return (
        f"{one.name}{chosen}",
        _with_interval(one.dice, one.interval),
        _with_interval(one.nsd, one.nsd_interval),
        "the best" if behind else _with_interval(one.behind, one.behind_interval),
        "" if behind else show_p(one.p),
        duration(one.seconds),
    )


def _with_interval(value: float, interval: Sequence[float]) -> str:
    low, high = interval
    return show_number(value, 3) + ("" if math.isnan(low) else f" ({low:.3f} to {high:.3f})")
