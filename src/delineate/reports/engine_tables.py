"""The table of engines: how fast each is, and whether it finds the same."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from delineate.engines.deciding import Trial
from delineate.reports.tables import plain_table, plain_text

if TYPE_CHECKING:
    from rich.table import Table


def engines_table(trials: Sequence[Trial], *, chosen: tuple[str, str] | None, title: str) -> Table:
    """A line a trial, the fastest first; those that were not tried last. `Dice`: of the worst structure."""
    exact = next((trial.window_seconds for trial in trials if trial.key == ("torch", "float32")), 0.0)
    table = plain_table(title, caption="In seconds. Dice: of the worst structure, with torch float32")
    table.add_column("engine", no_wrap=True)
    for column in ("opens", "window", "faster", "equal %", "Dice"):
        table.add_column(column, justify="right", no_wrap=True)
    table.add_column("", min_width=9)
    for trial in sorted(trials, key=lambda trial: trial.window_seconds or float("inf")):
        note, style = _note(trial, is_chosen=trial.key == chosen)
        table.add_row(" ".join(trial.key), *_numbers(trial, exact), plain_text(note, style))
    return table


def _numbers(trial: Trial, exact: float) -> tuple[str, ...]:
    if not trial.window_seconds:
        return ("–",) * 5
    faster = f"{exact / trial.window_seconds:.1f}x" if exact else "–"
    times = (f"{trial.open_seconds:.1f}", f"{trial.window_seconds:.3f}", faster)
    agreement = trial.agreement
    if agreement is None:
        return (*times, "–", "–")
    # Rounded down: 1.0000 is only what is no less.
    least = "–" if not agreement.dice else f"{int(min(agreement.dice.values()) * 1e4) / 1e4:.4f}"
    return (*times, f"{int(agreement.equal * 1e6) / 1e4:.4f}", least)


def _note(trial: Trial, *, is_chosen: bool) -> tuple[str, str]:
    if trial.problem:
        return trial.problem, "red"
    if is_chosen:
        return "chosen", "green"
    if not trial.window_seconds:
        return "not tried", "dim"
    if trial.is_faithful:
        return "", ""
    return ("not compared" if trial.agreement is None else "inexact"), "yellow"
