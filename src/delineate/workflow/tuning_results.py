"""What a tuning leaves for people: the best plan, a table of trials, a page."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec

from delineate.files import write_csv, write_text
from delineate.planning import Plan, plan_to_json
from delineate.planning.spaces import show
from delineate.planning.tunables import Range
from delineate.reports.charts.tuning import TrialPoint
from delineate.reports.tuning_pages import Again, TrialLine, TuningPage, conclusion, find_doubts, render_tuning
from delineate.workflow.tuning_confirming import Confirmation, confirmation
from delineate.workflow.tuning_folder import Search
from delineate.workflow.tuning_study import DEFAULT, TrialRecord, importances
from delineate.workflow.tuning_trials import Workplace, best_of

_SAMPLERS = {
    "tpe": "drawn where earlier trials were good (TPE, Bergstra et al. 2011)",
    "random": "at random",
    "grid": "on a grid",
}
_PRUNERS = {
    "median": "when below the median of complete trials at the same validation",
    "hyperband": "by Hyperband (Li et al. 2018)",
    "none": "never",
}


@dataclass(frozen=True, slots=True)
class TuningResult:
    """What a tuning came to. `best`: the best trial's slot, `plan` its plan; None if no trial is complete.

    `words`: the conclusion in sentences, `doubts` what speaks against it; `finished`: whether there is nothing to do.
    """

    best: int | None
    plan: Plan | None
    trials: tuple[TrialRecord, ...]
    confirmation: Confirmation | None
    words: tuple[str, ...]
    doubts: tuple[str, ...]
    page: Path
    finished: bool


def write_results(at: Workplace, *, repeats: int, finished: bool) -> TuningResult:
    """Write best_plan.json, trials.csv and tune.html from the journal as it is now."""
    records = at.book.records()
    best = best_of(records)
    again = None if best is None else confirmation(best, repeats, at)
    plan = None if best is None else best_plan(best, records, again, at)
    if plan is not None:
        write_text(at.folder.best_plan, plan_to_json(plan))
    _write_table(at, records)
    page = _page(at, records, best, again)
    write_text(at.folder.page, render_tuning(page))
    slot = None if best is None else best.slot
    return TuningResult(
        slot, plan, records, again, conclusion(page), tuple(find_doubts(page)), at.folder.page, finished=finished
    )


def best_plan(best: TrialRecord, records: Sequence[TrialRecord], again: Confirmation | None, at: Workplace) -> Plan:
    """The plan of the best trial, with the search among its reasons."""
    plan = at.candidate(best.slot, best.told.values).plan
    default = records[DEFAULT]
    reason = f"the best of {len(records)} trials of {_length(at.book.search, plan)}: validation Dice {best.dice:.3f}"
    if default.state == "complete" and best.slot != DEFAULT:
        reason += f", before {default.dice:.3f}"
    if again is not None:
        reason += f"; trained again {again.winner:.3f}, before {again.default:.3f}"
    return msgspec.structs.replace(plan, reasons=(*plan.reasons, reason))


def _length(search: Search, plan: Plan) -> str:
    if search.minutes is not None:
        return f"{search.minutes:g} minutes"
    if search.epochs is not None:
        return f"{search.epochs} epochs"
    return f"{plan.training.steps if search.steps is None else search.steps:,} steps"


def _write_table(at: Workplace, records: Sequence[TrialRecord]) -> None:
    names = [dimension.name for dimension in at.book.search.space]
    rows = (
        (
            record.slot,
            record.state,
            "" if math.isnan(record.dice) else f"{record.dice:.6f}",
            f"{record.told.seconds:.1f}" if record.told.seconds else "",
            *(record.told.values.get(name, "") for name in names),
            "; ".join(record.told.notes),
        )
        for record in records
    )
    write_csv(at.folder.table, [("trial", "state", "validation_dice", "seconds", *names, "notes"), *rows])


def _page(
    at: Workplace, records: Sequence[TrialRecord], best: TrialRecord | None, again: Confirmation | None
) -> TuningPage:
    search = at.book.search
    return TuningPage(
        title=at.dataset.name,
        lines=tuple(_line(record, search) for record in records),
        best=None if best is None else best.slot,
        again=None if again is None else _again(again, search),
        importances=importances(search, records),
        log=tuple(d.name for d in search.space if isinstance(d, Range) and d.log),
        choices=_choices(search, at),
    )


def _line(record: TrialRecord, search: Search) -> TrialLine:
    dice = [math.nan, *record.curve.values()][-1] if math.isnan(record.dice) else record.dice
    values = record.told.values
    point = TrialPoint(record.slot, dice, record.state == "complete", record.curve, values)
    shown = tuple((d.name.replace("_", " "), show(values[d.name]) if d.name in values else "") for d in search.space)
    return TrialLine(point, record.state, shown, record.told.notes, record.told.seconds)


def _again(found: Confirmation, search: Search) -> Again:
    numbers = ", ".join(str(fold) for fold in found.folds)
    chose = "which no trial validated on" if found.fresh else "which trials validated on, too"
    times = f", {found.repeats} runs each" if found.repeats > 1 else ""
    where = f"{found.cases} cases of fold {numbers} of {search.folds}, {chose}{times}"
    return Again(found.winner, found.default, found.difference, found.interval, where, found.patients, found.fresh)


def _choices(search: Search, at: Workplace) -> tuple[tuple[str, str], ...]:
    ranges = [
        (
            d.name.replace("_", " "),
            f"{show(d.low)} to {show(d.high)}{', by factors' if d.log else ''}"
            if isinstance(d, Range)
            else ", ".join(map(show, d.values)),
        )
        for d in search.space
    ]
    folds = ", ".join(str(fold) for fold in search.fold)
    aside = f"; the last {search.test} cases were set aside, and seen by nobody" if search.test else ""
    return (
        *ranges,
        ("Values", _SAMPLERS[search.sampler]),
        ("Trials given up", _PRUNERS[search.pruner]),
        ("One trial", _length(search, at.book.plan)),
        ("Validated on", f"fold {folds} of {search.folds}{aside}"),
        ("Seed", str(search.seed)),
        ("Dataset", search.dataset_digest[:16]),
        ("Folder", at.folder.path.name),
    )
