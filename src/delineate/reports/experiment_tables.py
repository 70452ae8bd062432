"""Experiments and ledgers as tables for the terminal. They are returned; the command line prints them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import TYPE_CHECKING

from delineate.reports.comparison_tables import show_p
from delineate.reports.experiment_pages import CandidateLine
from delineate.reports.tables import plain_table, plain_text, show_number

if TYPE_CHECKING:
    from rich.table import Table

NO_ENERGY = "–"
LEDGER_COLUMNS = ("experiment", "candidate", "", "when", "Dice", "95 %", "NSD", "steps", "time", "energy", "plan")


@dataclass(frozen=True, slots=True)
class LedgerLine:
    """One line of a ledger's table. NaN: there is no value."""

    experiment: str
    name: str
    kind: str
    when: str
    plan: str
    dice: float
    interval: tuple[float, float]
    nsd: float
    steps: int | None
    time: str
    energy: str


def candidates_table(lines: Sequence[CandidateLine], *, chosen: str, cases: int) -> Table:
    """A line a candidate; the one that was chosen stands bold."""
    table = plain_table(
        f"Candidates, {cases} cases out of fold",
        "Mean over structures. Behind: the best one's Dice minus its own. p: corrected by Holm.",
    )
    table.collapse_padding = True
    table.add_column("candidate", overflow="fold", min_width=12)
    for column in ("Dice", "95 %", "NSD", "behind", "95 %", "p", "s/scan"):
        table.add_column(column, justify="right", no_wrap=True)
    for line in lines:
        best = math.isnan(line.behind)
        table.add_row(
            plain_text(line.name),
            show_number(line.dice, 3),
            _interval(line.interval),
            show_number(line.nsd, 3),
            "best" if best else show_number(line.behind, 3),
            _interval(line.behind_interval),
            "" if best else show_p(line.p),
            f"{line.seconds:.2g}",
            style="bold" if line.name == chosen else "",
        )
    return table


def ledger_table(lines: Sequence[LedgerLine]) -> Table:
    """Choices, candidates, runs of several experiments, one under the other, each below the experiment's name.

    To stay narrow it has no date and plan, and no energy where none is known.
    """
    table = plain_table(
        "Ledger",
        "Mean over cases that the networks were not trained on. Nested: of what is chosen, on cases it was not chosen "
        "on. Date and plan: -o FILE.html.",
    )
    table.collapse_padding = True
    left_out = {"experiment", "when", "plan", *(() if any(line.energy != NO_ENERGY for line in lines) else ("energy",))}
    shown = [n for n, column in enumerate(LEDGER_COLUMNS) if column not in left_out]
    for n in shown:
        words = n < 3  # names and what they are of
        table.add_column(LEDGER_COLUMNS[n], justify="left" if words else "right", overflow="fold", no_wrap=not words)
    for experiment, several in groupby(lines, key=lambda line: line.experiment):
        table.add_section()
        table.add_row(plain_text(experiment, "bold"))
        for line in several:
            cells = line_cells(line)
            table.add_row(*(plain_text(cells[n]) for n in shown))
    return table


def line_cells(line: LedgerLine) -> tuple[str, ...]:
    """The cells of `LEDGER_COLUMNS`."""
    return (
        line.experiment,
        line.name,
        line.kind,
        line.when,
        show_number(line.dice, 3),
        _interval(line.interval),
        show_number(line.nsd, 3),
        "–" if line.steps is None else f"{line.steps:,}",
        line.time,
        line.energy,
        line.plan,
    )


def _interval(interval: tuple[float, float]) -> str:
    low, high = interval
    return "" if math.isnan(low) else f"{low:.3f}–{high:.3f}"
