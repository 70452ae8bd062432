"""`delineate report training`: a page from what a run left in its folder, finished or not."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from delineate.errors import ModelError
from delineate.files import check_writable, write_text
from delineate.model import MODEL_FILE, Provenance, read_provenance
from delineate.planning import Plan
from delineate.reports.charts.learning import learning_curves
from delineate.reports.pages import Pairs, describe_plan
from delineate.reports.run_tables import incident_lines
from delineate.reports.training_pages import TrainingPage, find_doubts, render_training
from delineate.training import Facts, HistoryRow, mean_dice
from delineate.workspace import RunFolder


@dataclass(frozen=True, slots=True)
class TrainingReport:
    """The page that was written, and its reasons for doubt."""

    html: Path
    doubts: tuple[str, ...]


def report_training(model: Path, output: Path) -> TrainingReport:
    """Write a page about the run in a model's folder to `output`.

    Raises `ModelError` if the folder holds no run (an imported model has none), or a damaged one.
    """
    run = RunFolder(model)
    if not run.exists:
        raise ModelError(
            "the folder holds no training run",
            path=run.folder,
            remedy="Name a folder that `delineate train` wrote, with its `training` folder. Imported models have none.",
        )
    check_writable(output.parent)
    page = _page(model, run)
    write_text(output, render_training(page))
    return TrainingReport(output, tuple(find_doubts(page)))


def _page(model: Path, run: RunFolder) -> TrainingPage:
    plan, split, facts = run.plan(), run.split(), run.facts()
    known, digest = read_provenance(model) if (model / MODEL_FILE).is_file() else (None, "")
    history = facts.history if facts is not None else _read_history(run, plan)
    best = facts.best_step if facts is not None else _best_step(history)
    curves = learning_curves(history, plan.labels, best_step=best)
    last = history[-1] if history else None
    sides = {"training": split.training, "validation": split.validation, "held_out": split.held_out}
    return TrainingPage(
        title=model.resolve().name,
        curves=curves,
        structures=plan.labels,
        step=facts.step if facts is not None else last.step if last is not None else 0,
        last_step=facts.last_step if facts is not None else last.step if last is not None else plan.training.steps,
        seconds=facts.seconds if facts is not None else last.seconds if last is not None else 0.0,
        stage_seconds={} if facts is None else facts.stage_seconds,
        cases={side: len(cases) for side, cases in sides.items()},
        populations={} if known is None else known.populations,
        split=split.how,
        choices=_choices(plan, facts),
        environment=() if known is None else tuple(known.environment.items()),
        provenance=_provenance(known, digest, split.dataset_digest),
        incidents=() if facts is None else incident_lines(facts.incidents),
    )


def _choices(plan: Plan, facts: Facts | None) -> Pairs:
    """The plan in words, and the run's own length where it was given otherwise."""
    told = describe_plan(plan)
    if facts is None or facts.last_step == plan.training.steps:
        return told
    given = "" if facts.deadline_seconds is None else f", to fit {facts.deadline_seconds / 60:.0f} minutes"
    return (("This run", f"{facts.last_step:,} steps instead of the plan's {plan.training.steps:,}{given}"), *told)


def _read_history(run: RunFolder, plan: Plan) -> tuple[HistoryRow, ...]:
    """The run's history.csv, for folders whose large checkpoint was taken away; () if there is none.

    Raises `ModelError` for a table that is not of this plan.
    """
    path = run.folder / "history.csv"
    if not path.is_file():
        return ()
    try:
        return tuple(_row(row, plan.labels) for row in csv.DictReader(io.StringIO(path.read_text(encoding="utf-8"))))
    except (KeyError, ValueError) as error:
        raise ModelError("the run's history cannot be read", got=str(error), path=path) from error


def _row(row: Mapping[str, str], labels: Sequence[str]) -> HistoryRow:
    dice = tuple(_number(row[f"validation_dice_{name}"]) for name in labels)
    return HistoryRow(
        step=int(row["step"]),
        epoch=float(row["epoch"]),
        seconds=float(row["seconds"]),
        loss=_number(row["loss"]),
        learning_rate=float(row["learning_rate"]),
        validation_dice=None if not row["validation_dice"] else dice,
    )


def _number(text: str) -> float | None:
    return float(text) if text else None


def _best_step(history: Sequence[HistoryRow]) -> int | None:
    """The last of the best, as training chooses it."""
    known = [(mean, row.step) for row in history if (mean := mean_dice(row.validation_dice)) is not None]
    return max(known)[1] if known else None


def _provenance(known: Provenance | None, digest: str, dataset_digest: str) -> Pairs:
    data = ("Dataset digest", dataset_digest)
    if known is None:
        return (data,)
    return (
        ("Dataset", known.dataset),
        data,
        ("Model digest", digest),
        ("Made", known.created),
        ("Made with", f"delineate {known.delineate}, torch {known.torch}"),
    )
