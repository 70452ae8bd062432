"""What an experiment leaves for people: a page, a table, the choice as JSON, lines in the ledger."""

from __future__ import annotations

import math

import msgspec
import numpy as np

from delineate.evaluation import Evaluation, summarise
from delineate.evaluation.comparing import Difference
from delineate.files import write_csv, write_text
from delineate.model import Model
from delineate.postprocessing import Rule
from delineate.reports.charts.experiments import RunCurves
from delineate.reports.charts.learning import learning_curves
from delineate.reports.experiment_pages import CandidateLine, ExperimentPage, RuleLine, RunLine, render_experiment
from delineate.reports.pages import Pairs
from delineate.settings import Settings
from delineate.workflow.evaluating import SEED
from delineate.workflow.experiment_choosing import CandidateResult, Conclusion
from delineate.workflow.experiment_folder import ExperimentFolder, Setup, plan_digest
from delineate.workflow.experiment_records import case_scores
from delineate.workflow.experiment_runs import machine_words
from delineate.workflow.ledger import Entry, add, read

_FIGURES = ("dice", "surface_dice", "hd95_mm")


class ChoiceRecord(msgspec.Struct, frozen=True, kw_only=True):
    """choice.json: what was chosen and why, for other programs.

    `validation_dice`: the nested estimate, with its 95 % interval; `chosen_without`: what would have been chosen
    without each fold.
    """

    schema_version: int = 1
    chosen: str
    best: str
    as_good: tuple[str, ...]
    words: str
    model: str
    rules: tuple[Rule, ...]
    validation_dice: float | None
    interval: tuple[float | None, float | None]
    chosen_without: tuple[str, ...]


def write_run_entry(
    folder: ExperimentFolder, which: tuple[str, int], model: Model, setup: Setup, settings: Settings
) -> None:
    """A finished run's line in the ledger, with its scores on the fold it was not trained on."""
    name, fold = which
    if any(
        (one.what, one.name, one.fold, one.key) == ("run", name, fold, model.digest[:12]) for one in read(folder.path)
    ):
        return
    records = [folder.record(case) for case in setup.folds[fold]]
    scores = [case_scores(record, name) for record in records if record is not None]
    scored = _scored(summarise(scores, generator=np.random.default_rng(SEED)))
    entry = Entry(
        what="run",
        name=name,
        fold=fold,
        key=model.digest[:12],
        plan=plan_digest(folder.plan(name)),
        steps=model.provenance.step,
        seconds=model.provenance.seconds,
        machine=machine_words(settings),
    )
    add(folder.path, msgspec.structs.replace(entry, **scored))


def write_reports(
    folder: ExperimentFolder, setup: Setup, conclusion: Conclusion, model: Model, settings: Settings
) -> None:
    """Write experiment.html, candidates.csv, choice.json, and what the ledger does not have yet."""
    _note_candidates(folder, setup, conclusion, model, settings)
    write_csv(folder.path / "candidates.csv", _rows(conclusion))
    nested, choice = conclusion.nested, conclusion.choice
    low, high = nested.interval
    record = ChoiceRecord(
        chosen=choice.chosen,
        best=choice.best,
        as_good=choice.equals,
        words=choice.words,
        model=model.digest,
        rules=conclusion.rules,
        validation_dice=_or_none(nested.dice),
        interval=(_or_none(low), _or_none(high)),
        chosen_without=nested.chosen,
    )
    folder.write_json("choice.json", record)
    write_text(folder.page, render_experiment(_page(folder, setup, conclusion, settings)))


def _note_candidates(
    folder: ExperimentFolder, setup: Setup, conclusion: Conclusion, model: Model, settings: Settings
) -> None:
    """A candidate is known by the networks of all its runs."""
    runs = {(one.name, one.fold): one for one in read(folder.path) if one.what == "run"}
    for result in conclusion.candidates:
        members = result.candidate.members
        own = [runs[name, fold] for name in members for fold in range(len(setup.folds)) if (name, fold) in runs]
        seconds = sum(one.seconds or 0.0 for one in own)
        entry = Entry(
            what="candidate",
            name=result.candidate.name,
            key="-".join(one.key[:6] for one in own),
            plan="+".join(plan_digest(folder.plan(name)) for name in members),
            steps=max((one.steps or 0 for one in own), default=0),
            seconds=round(seconds, 1),
            machine=machine_words(settings),
        )
        add(folder.path, msgspec.structs.replace(entry, **_scored(result.evaluation)))
    chosen = conclusion.choice
    words = chosen.words + "".join(f" {found.rule.label}: {found.rule.words}." for found in chosen.rules)
    add(
        folder.path,
        Entry(
            what="choice",
            name=chosen.chosen,
            key=model.digest[:12],
            dice=_or_none(conclusion.nested.dice),
            interval=_interval(conclusion.nested.interval),
            cases=len(setup.cases),
            words=words,
        ),
    )


def _scored(evaluation: Evaluation) -> dict[str, object]:
    """The fields of a ledger's entry that scores fill."""
    return {
        "dice": _or_none(evaluation.mean["dice"]),
        "interval": _interval(evaluation.intervals["dice"]),
        "nsd": _or_none(evaluation.mean["surface_dice"]),
        "cases": len(evaluation.cases),
        "patients": evaluation.patients,
    }


def _interval(limits: tuple[float, float]) -> tuple[float, float] | None:
    return None if math.isnan(limits[0]) else limits


def _or_none(value: float) -> float | None:
    return None if math.isnan(value) else float(value)


def _rows(conclusion: Conclusion) -> list[list[object]]:
    """A line a candidate and structure, after its mean over structures."""
    rows: list[list[object]] = [["candidate", "structure", "cases", *_FIGURES, "dice_low", "dice_high"]]
    for one in conclusion.candidates:
        evaluation = one.evaluation
        means = [_shown(evaluation.mean[figure]) for figure in _FIGURES]
        limits = [_shown(limit) for limit in evaluation.intervals["dice"]]
        rows.append([one.candidate.name, "", len(evaluation.cases), *means, *limits])
        for name, structure in evaluation.structures.items():
            summary = structure.metrics["dice"]
            means = [_shown(structure.metrics[figure].mean) for figure in _FIGURES]
            rows.append([one.candidate.name, name, summary.count, *means, *map(_shown, summary.interval or ())])
    return rows


def _shown(value: float) -> str:
    return "" if math.isnan(value) else f"{value:.6g}"


def _page(folder: ExperimentFolder, setup: Setup, conclusion: Conclusion, settings: Settings) -> ExperimentPage:
    choice, nested = conclusion.choice, conclusion.nested
    lines, curves = _runs(folder, setup, conclusion)
    return ExperimentPage(
        title=folder.path.resolve().name,
        chosen=choice.chosen,
        words=choice.words,
        candidates=candidate_lines(conclusion),
        nested=nested.dice,
        nested_interval=nested.interval,
        nested_structures=nested.structures,
        nested_chosen=nested.chosen,
        rules=tuple(
            RuleLine(one.rule.label, one.rule.words, one.before, one.after, one.p, one.changed) for one in choice.rules
        ),
        runs=lines,
        curves=curves,
        cases=len(setup.cases),
        patients=conclusion.candidates[0].evaluation.patients,
        test=len(setup.test),
        tolerance_mm=setup.tolerance_mm,
        facts=_facts(folder, setup, settings),
    )


def candidate_lines(conclusion: Conclusion) -> tuple[CandidateLine, ...]:
    """What tables say of each candidate."""
    behind = {one.second: one for one in conclusion.choice.against}
    return tuple(_line(one, behind.get(one.candidate.name)) for one in conclusion.candidates)


def _line(result: CandidateResult, behind: Difference | None) -> CandidateLine:
    evaluation = result.evaluation
    compared = {}
    if behind is not None:
        compared = {"behind": behind.difference, "behind_interval": behind.interval, "p": behind.p_holm}
    return CandidateLine(
        name=result.candidate.name,
        dice=evaluation.mean["dice"],
        interval=evaluation.intervals["dice"],
        nsd=evaluation.mean["surface_dice"],
        nsd_interval=evaluation.intervals["surface_dice"],
        seconds=result.seconds,
        structures={name: one.metrics["dice"].mean for name, one in evaluation.structures.items()},
        **compared,  # type: ignore[arg-type]
    )


def _runs(
    folder: ExperimentFolder, setup: Setup, conclusion: Conclusion
) -> tuple[tuple[RunLine, ...], tuple[RunCurves, ...]]:
    of_cases = {
        one.candidate.name: {case.case_id: case for case in one.evaluation.cases} for one in conclusion.candidates
    }
    lines, curves = [], []
    for name, fold in setup.runs:
        run = folder.run(name, fold)
        facts = run.facts()
        if facts is None:
            continue
        inside = [of_cases[name][case] for case in setup.folds[fold]]
        dice = summarise(inside).mean["dice"]
        lines.append(RunLine(name, fold, facts.step, facts.seconds, dice))
        curves.append(RunCurves(name, fold, learning_curves(facts.history, run.plan().labels)))
    return tuple(lines), tuple(curves)


def _facts(folder: ExperimentFolder, setup: Setup, settings: Settings) -> Pairs:
    plans = [(f"Plan of {name}", plan_digest(folder.plan(name))) for name in setup.configurations]
    return (
        ("Dataset", setup.dataset),
        ("Dataset digest", setup.dataset_digest[:12]),
        ("Folds", setup.how),
        ("Begun", setup.created),
        *plans,
        ("Weights", "of the last step of each run"),
        ("Intensities and sizes", "planned from all cases but those set aside, as one plan for all folds"),
        ("Machine", machine_words(settings)),
    )
