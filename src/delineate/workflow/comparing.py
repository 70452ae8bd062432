"""`delineate compare`: several models' results on the same references, scored alike and compared case by case."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from delineate.errors import InputError
from delineate.evaluation.cases import CaseScores
from delineate.evaluation.comparing import FEW_PATIENTS, Difference, compare_models
from delineate.evaluation.comparison_output import DEFINITIONS, comparison_rows, difference_json, ranking_json
from delineate.evaluation.ranking import By, Ranking, rank_models
from delineate.evaluation.rivals import COMPARED, MAIN, Rivals, line_up
from delineate.files import write_csv, write_text
from delineate.metrics.definitions import Metric
from delineate.reports.comparison_pages import ComparisonView, render_comparison
from delineate.reports.pages import Pairs
from delineate.settings import Settings
from delineate.workflow.evaluating import SEED, EvaluationOptions
from delineate.workflow.evaluation_records import provenance_json
from delineate.workflow.naming import Names, find_names
from delineate.workflow.pairing import CaseChoice, Pairing, name_folders, pair_up
from delineate.workflow.progress import Watch, nobody
from delineate.workflow.scoring import score_pairs

SCHEMA_VERSION = 1


@dataclass(frozen=True, slots=True)
class ComparisonResult:
    """`differences`: of every pair of models; `rankings`: of three models or more. `scored`: cases that count;
    `failures`: of them, those a model has no usable prediction of, and why, by model and case. `problems`: what could
    not be scored; `remarks`: what was left out or done otherwise; sentences both. `report`, `table`, `page`: the files.
    """

    rivals: Rivals
    differences: tuple[Difference, ...]
    rankings: tuple[Ranking, ...]
    failures: Mapping[str, Mapping[str, str]]
    problems: tuple[str, ...]
    remarks: tuple[str, ...]
    report: Path
    table: Path
    page: Path

    @property
    def cases(self) -> int:
        return len(self.rivals.patients)

    @property
    def note(self) -> str | None:
        """What so few patients can show at best; None if they are enough."""
        patients = len(set(self.rivals.patients))
        if patients >= FEW_PATIENTS:
            return None
        word = "patient" if patients == 1 else "patients"
        return f"With {patients} {word} p cannot be below {2.0 ** (1 - patients):.2g}, whatever they show."


def compare(
    references: Path,
    results: Sequence[Path],
    output: Path,
    *,
    options: EvaluationOptions | None = None,
    metrics: Sequence[str] = (),
    settings: Settings,
    watch: Watch = nobody,
) -> ComparisonResult:
    """Score each folder of results against the references and compare them; write comparison.json, .csv and .html.

    All cases of a folder of references count; of a dataset, those that any of the models has a prediction of, unless
    `options` names them. What a model has no usable prediction of counts as missed by it. `metrics`: names of the
    figures to compare; the main ones if there are none. Raises `InputError` for fewer than two folders, one that is
    given twice, figures that are not known, a folder of which no case can be scored, and what `pair_up` raises.
    """
    figures, options = _figures(metrics), options or EvaluationOptions()
    folders = name_folders(results)
    pairings, remarks = _pair_all(references, folders, options.choice)
    every = tuple(pair for pairing in pairings.values() for pair in pairing.pairs)
    names = find_names(references, Pairing(every, dataset=next(iter(pairings.values())).dataset))
    models = [
        _score(model, folders[model], pairing, names, options, settings=settings, watch=watch)
        for model, pairing in pairings.items()
    ]
    rivals = line_up({model.name: model.scores for model in models})
    watch("Comparing", 0, 1, "")
    generator = np.random.default_rng(SEED)
    result = ComparisonResult(
        rivals=rivals,
        differences=compare_models(rivals, generator, metrics=figures),
        rankings=_rank(rivals, generator, figures) if len(models) > 2 else (),
        failures={model.name: {case.case_id: case.failed for case in model.scores if case.failed} for model in models},
        problems=tuple(dict.fromkeys(problem for model in models for problem in model.problems)),
        remarks=(*remarks, *(remark for model in models for remark in model.remarks)),
        report=output / "comparison.json",
        table=output / "comparison.csv",
        page=output / "comparison.html",
    )
    watch("Comparing", 1, 1, "")
    sources = {
        model: provenance_json(references, folders[model], pairing.pairs, kind=names.kind, resample=options.resample)
        for model, pairing in pairings.items()
    }
    _write(result, figures, sources)
    return result


@dataclass(frozen=True, slots=True)
class _Model:
    """One model's cases that have a usable reference, and what there is to say of them."""

    name: str
    scores: tuple[CaseScores, ...]
    problems: tuple[str, ...]
    remarks: tuple[str, ...]


def _figures(names: Sequence[str]) -> tuple[Metric, ...]:
    known = {metric.name: metric for metric in COMPARED}
    unknown = [name for name in names if name not in known]
    if unknown:
        raise InputError("figures that models are not compared by", expected=f"some of {list(known)}", got=unknown)
    return tuple(known[name] for name in dict.fromkeys(names)) or MAIN


def _pair_all(
    references: Path, folders: Mapping[str, Path], choice: CaseChoice
) -> tuple[dict[str, Pairing], tuple[str, ...]]:
    """Each model's pairs, of the same cases, and remarks. Of a dataset those that any model has a prediction of."""
    pairings = {model: pair_up(references, folder, choice) for model, folder in folders.items()}
    dataset = next(iter(pairings.values())).dataset
    if dataset is None or choice.cases is not None:
        return pairings, tuple(f"{model}: {remark}" for model, one in pairings.items() for remark in one.remarks)
    predicted = {pair.case for one in pairings.values() for pair in one.pairs}
    cases = tuple(case.id for case in dataset.cases if case.id in predicted)
    left_out = sum(case.reference is not None for case in dataset.cases) - len(cases)
    same = {model: pair_up(references, folder, CaseChoice(cases)) for model, folder in folders.items()}
    remarks = (f"Cases that no model has a prediction of left out: {left_out}.",) if left_out else ()
    return {model: replace(one, problems=pairings[model].problems) for model, one in same.items()}, remarks


def _score(
    name: str,
    folder: Path,
    pairing: Pairing,
    names: Names,
    options: EvaluationOptions,
    *,
    settings: Settings,
    watch: Watch,
) -> _Model:
    """Raises `InputError` if none of the model's predictions can be used."""
    outcomes = score_pairs(pairing, names, options.for_labels(names.labels), settings=settings, watch=watch)
    scores = tuple(one.scores for one in outcomes if one.scores is not None)
    problems = (
        *(f"{name}: {problem}" for problem in pairing.problems),
        *(one.problem for one in outcomes if one.problem),
    )
    if all(case.failed for case in scores):
        reasons = [*problems, *(f"{case.case_id}: {case.failed}" for case in scores)]
        raise InputError(f"no case of {name} could be scored", got="; ".join(reasons[:5]), path=folder)
    remarks = dict.fromkeys(remark for one in outcomes for remark in one.remarks)
    return _Model(name, scores, problems, tuple(f"{name}: {remark}" for remark in remarks))


def _rank(rivals: Rivals, generator: np.random.Generator, figures: Sequence[Metric]) -> tuple[Ranking, ...]:
    return tuple(ranking for by in By for ranking in rank_models(rivals, generator, metrics=figures, by=by))


def _write(result: ComparisonResult, figures: Sequence[Metric], sources: Mapping[str, Mapping[str, object]]) -> None:
    compared = {difference.metric for difference in result.differences}
    content = {
        "schema_version": SCHEMA_VERSION,
        "models": {
            model: {"failures": dict(result.failures[model]), "provenance": sources[model]}
            for model in result.rivals.models
        },
        "cases": result.cases,
        "patients": len(set(result.rivals.patients)),
        "note": result.note,
        "differences": [difference_json(one) for one in result.differences],
        "rankings": [ranking_json(one) for one in result.rankings],
        "problems": list(result.problems),
        "remarks": list(result.remarks),
        "definitions": DEFINITIONS,
    }
    write_text(result.report, json.dumps(content, indent=1, ensure_ascii=False, allow_nan=False) + "\n")
    write_csv(result.table, comparison_rows(result.rivals, [metric for metric in figures if metric in compared]))
    view = ComparisonView(
        models=tuple(result.rivals.models),
        cases=result.cases,
        patients=len(set(result.rivals.patients)),
        differences=result.differences,
        rankings=result.rankings,
        failures=result.failures,
        note=result.note,
        remarks=(*result.problems, *result.remarks),
        sources={model: _source_pairs(source) for model, source in sources.items()},
    )
    write_text(result.page, render_comparison(view))


def _source_pairs(source: Mapping[str, object]) -> Pairs:
    models = source["models"]
    digests = ", ".join(map(str, models)) if isinstance(models, dict) else ""
    pairs = (("Predictions", str(source["predictions"])), ("Model digest", digests), ("Scored", str(source["written"])))
    return tuple((what, value) for what, value in pairs if value)
