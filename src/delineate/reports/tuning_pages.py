"""The page of a search for a better plan: what was found, whether it may be luck, and all trials."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from delineate.evaluation.intervals import FEW_PATIENTS
from delineate.reports.charts.distributions import duration
from delineate.reports.charts.tuning import (
    TrialPoint,
    importance_bars,
    search_curves,
    search_history,
    search_slices,
)
from delineate.reports.charts.words import count, fixed
from delineate.reports.html import render_template
from delineate.reports.pages import Pairs

FALLEN = 0.05
"""Dice that a winner may lose when it is trained again before it is said."""


@dataclass(frozen=True, slots=True)
class TrialLine:
    """One trial. `state`: complete, pruned, rejected, unfinished or waiting; `values`: (what, value) in words."""

    point: TrialPoint
    state: str
    values: Pairs
    notes: tuple[str, ...]
    seconds: float


@dataclass(frozen=True, slots=True)
class Again:
    """Winner and default trained again: their means, the difference with its 95 % interval; `where`: on which cases."""

    winner: float
    default: float
    difference: float
    interval: tuple[float, float]
    where: str
    patients: int
    fresh: bool

    @property
    def is_better(self) -> bool:
        """Whether the winner is better, by an interval of enough patients that leaves out 0."""
        return self.patients >= FEW_PATIENTS and self.interval[0] > 0


@dataclass(frozen=True, slots=True)
class TuningPage:
    """What the page says. `best`: the number of the best trial, None if none is complete. `log`: names of what has a
    logarithmic axis; `importances`: shares by name; `choices`: what was searched, and how."""

    title: str
    lines: tuple[TrialLine, ...]
    best: int | None
    again: Again | None
    importances: Mapping[str, float]
    log: tuple[str, ...]
    choices: Pairs


def render_tuning(page: TuningPage) -> str:
    """One self-contained HTML file."""
    scored = [line.point for line in page.lines if line.point.curve and not math.isnan(line.point.dice)]
    best = _line(page, page.best)
    names = [name for name, _ in page.lines[0].values] if page.lines else []
    noted = any(line.notes for line in page.lines)
    return render_template(
        "tune.html",
        page=page,
        best=best,
        default=_line(page, 0),
        words=conclusion(page),
        good=page.again is not None and page.again.is_better,
        doubts=find_doubts(page),
        history=search_history(scored) if scored else None,
        slices=search_slices(scored, log=page.log) if scored else None,
        curves=search_curves(scored) if scored else None,
        importances=importance_bars(page.importances) if page.importances else None,
        columns=["Trial", "State", "Dice", *names, "Time", *(["Remarks"] if noted else [])],
        rows=[_row(line, page.best)[: None if noted else -1] for line in page.lines if line.state != "waiting"],
        states=[(name, str(_count(page, state))) for name, state in _STATES if _count(page, state)],
    )


_STATES = (
    ("complete", "complete"),
    ("given up early", "pruned"),
    ("could not be trained", "rejected"),
    ("unfinished", "unfinished"),
    ("waiting", "waiting"),
)


def conclusion(page: TuningPage) -> tuple[str, ...]:
    """What came of the search, in sentences."""
    best, default = _line(page, page.best), _line(page, 0)
    if best is None:
        return ("No trial has come to its end yet.",)
    if default is best:
        return (f"None of {count(_count(page, 'complete'), 'complete trial')} beats the plan as it was: keep it.",)
    beaten = "" if default is None or default.state != "complete" else f", the plan as it was {_dice(default)}"
    said = [f"The best validation Dice is {_dice(best)}, of trial {best.point.number}{beaten}."]
    if page.again is not None:
        again = page.again
        low, high = (fixed(end, 3) for end in again.interval)
        said.append(
            f"Trained again with another seed and scored on {again.where}: {fixed(again.winner, 3)} against "
            f"{fixed(again.default, 3)}, a difference of {fixed(again.difference, 3)} (95 % interval {low} to {high})."
        )
        if again.patients < FEW_PATIENTS:
            said.append(f"Of {count(again.patients, 'patient')} that says little.")
        elif again.is_better:
            said.append("The tuned plan is better than the plan as it was, whichever of such patients are scored.")
        elif again.interval[1] < 0:
            said.append("The tuned plan is worse than the plan as it was: keep that one.")
        else:
            said.append("The difference may be chance: which patients are scored decides.")
    return tuple(said)


def find_doubts(page: TuningPage) -> list[str]:
    """What gives reason to doubt the winner, in sentences; [] if nothing does."""
    best, doubts = _line(page, page.best), []
    trials = _count(page, "complete") + _count(page, "pruned")
    if best is not None and best.point.number != 0:
        if page.again is None:
            doubts.append(
                f"The best of {trials} owes a part of its score to luck, and the winner was not trained again: its "
                "Dice on other cases is likely lower. Run again with --confirm 1."
            )
        elif not page.again.fresh:
            doubts.append("The winner was confirmed on the cases that it was chosen on: only the seed is new.")
        if page.again is not None and best.point.dice - page.again.winner > FALLEN:
            doubts.append(
                f"The winner fell from {_dice(best)} to {fixed(page.again.winner, 3)} when it was trained again: its "
                "score was partly luck, or other cases are harder. The interval draws patients, not runs: see how runs "
                "differ with --confirm 3, make trials longer, or tune on several folds (--fold 0,1)."
            )
    if 0 < trials < 10:
        doubts.append(f"{count(trials, 'trial')} say little about what the values do.")
    if page.lines and page.lines[0].state in ("pruned", "rejected"):
        doubts.append("The plan as it was did not come to its end, so there is nothing to compare with.")
    open_ends = _count(page, "unfinished") + _count(page, "waiting")
    if open_ends:
        doubts.append(f"{count(open_ends, 'trial')} not finished yet. The same command goes on.")
    return doubts


def _line(page: TuningPage, number: int | None) -> TrialLine | None:
    return next((line for line in page.lines if line.point.number == number), None)


def _count(page: TuningPage, state: str) -> int:
    return sum(line.state == state for line in page.lines)


def _dice(line: TrialLine) -> str:
    return fixed(line.point.dice, 3)


def _row(line: TrialLine, best: int | None) -> Sequence[str]:
    number = line.point.number
    name = f"{number} (as it was)" if number == 0 else f"{number} (best)" if number == best else str(number)
    state = {"pruned": "given up", "rejected": "not trained"}.get(line.state, line.state)
    dice = "" if math.isnan(line.point.dice) else _dice(line)
    time = duration(line.seconds) if line.seconds else ""
    return (name, state, dice, *(value for _, value in line.values), time, "; ".join(line.notes))
