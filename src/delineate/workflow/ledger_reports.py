"""Ledgers as tables and pictures."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

from delineate.errors import InputError
from delineate.files import write_bytes, write_text
from delineate.reports.charts.distributions import duration
from delineate.reports.charts.experiments import Attainment, attainment_chart, attainment_figure
from delineate.reports.experiment_tables import LEDGER_COLUMNS, NO_ENERGY, LedgerLine, line_cells
from delineate.reports.html import render_template
from delineate.workflow.ledger import LedgerRow

_WHOLE = 0.95  # of the seconds, from which energy that was measured is all of it


def shown_rows(rows: Sequence[LedgerRow], *, runs: bool = False) -> list[LedgerLine]:
    """Choices and candidates, and with `runs` the run of every fold."""
    return [_line(row) for row in rows if runs or row.entry.what != "run"]


def _line(row: LedgerRow) -> LedgerLine:
    entry = row.entry
    kind = {"run": f"fold {(entry.fold or 0) + 1}", "choice": "nested"}.get(entry.what, "all folds")
    return LedgerLine(
        experiment=row.experiment,
        name=entry.name,
        kind=kind,
        when=entry.when[:10],
        plan="+".join(digest[:7] for digest in entry.plan.split("+")),
        dice=math.nan if entry.dice is None else entry.dice,
        interval=entry.interval or (math.nan, math.nan),
        nsd=math.nan if entry.nsd is None else entry.nsd,
        steps=entry.steps,
        time="–" if entry.seconds is None else duration(entry.seconds),
        energy=_energy(row),
    )


def _energy(row: LedgerRow) -> str:
    """In kJ; at least so much where parts of the time were not measured."""
    if row.joules is None or row.entry.what == "choice":
        return NO_ENERGY
    whole = row.measured_seconds >= _WHOLE * (row.entry.seconds or 0.0)
    return f"{'' if whole else '≥ '}{row.joules / 1000:.3g} kJ"


def draw_ledger(rows: Sequence[LedgerRow], output: Path) -> None:
    """Dice of every candidate against its seconds of training, as .png or, with the table, as .html.

    Raises `InputError` for another kind of file.
    """
    found = [
        Attainment(
            name=row.name,
            group=row.experiment,
            seconds=row.entry.seconds or 0.0,
            dice=math.nan if row.entry.dice is None else row.entry.dice,
            low=(row.entry.interval or (math.nan, math.nan))[0],
            high=(row.entry.interval or (math.nan, math.nan))[1],
        )
        for row in rows
        if row.entry.what == "candidate"
    ]
    if output.suffix == ".png":
        write_bytes(output, attainment_figure(found, title="Dice against seconds of training"))
    elif output.suffix == ".html":
        lines = [line_cells(line) for line in shown_rows(rows, runs=True)]
        chart = attainment_chart(found)
        write_text(output, render_template("ledger.html", chart=chart, columns=LEDGER_COLUMNS, lines=lines))
    else:
        raise InputError("no such kind of picture", expected="a name that ends with .png or .html", got=output.name)
