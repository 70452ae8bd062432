"""The command that compares models."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import click

from delineate.cli.evaluating import evaluation_options, scoring_options
from delineate.cli.options import (
    EXISTING,
    PATH,
    SOME_FAILED,
    Words,
    complain,
    open_watch,
    say,
    settings_of,
    users_errors,
    warn,
)


@click.command()
@click.argument("references", type=EXISTING)
@click.argument("results", type=EXISTING, nargs=-1, required=True, metavar="RESULTS_A RESULTS_B [RESULTS_C ...]")
@click.option(
    "-o", "--output", type=PATH, required=True, help="Folder for the page, comparison.json and comparison.csv."
)
@click.option("--metrics", type=Words(), default=(), help="Figures to compare. [default: dice,surface_dice,hd95_mm]")
@scoring_options
@click.option("--threads", type=click.IntRange(1), help="Cases at once. [default: all CPUs]")
@users_errors
def compare(
    references: Path,
    results: tuple[Path, ...],
    output: Path,
    *,
    metrics: tuple[str, ...],
    threads: int | None,
    **scoring: Any,
) -> None:
    """Compare models by their results on the same cases: which one is better, and whether that may be chance.

    REFERENCES is a folder of label maps or a dataset; each RESULTS a folder of one model's label maps. Each two models
    are compared case by case, with a permutation test by patient; three or more are ranked, too. A case that a model
    has no usable prediction of counts as missed by it.

    \b
    Example: delineate compare Task09_Spleen results_a results_b --set-aside-by spleen_model -o comparison
    """
    from delineate.reports.comparison_tables import differences_table, pairs_table, ranking_table
    from delineate.workflow.comparing import compare as run

    with open_watch() as watch:
        found = run(
            references,
            results,
            output,
            options=evaluation_options(scoring),
            metrics=metrics,
            settings=settings_of("cpu", threads, None, None),
            watch=watch,
        )
        if not found.rankings:
            title = f"{' against '.join(found.rivals.models)}, {found.cases} cases"
            watch.print(differences_table(found.differences, title=title, caption=found.note))
        else:
            title = f"Each two of {len(results)} models, {found.cases} cases, mean over structures"
            watch.print(pairs_table(found.differences, title=title, caption=found.note))
            means = [ranking for ranking in found.rankings if not ranking.structure]
            watch.print(ranking_table(means, title=f"Ranks of {len(results)} models"))
    for remark in found.remarks:
        warn(remark)
    for model, failures in found.failures.items():
        for case, why in failures.items():
            complain(f"{model}: {case}: counted as missed, because {why}")
    for problem in found.problems:
        complain(problem)
    say(f"{found.page}, {found.report.name} and {found.table.name}")
    sys.exit(SOME_FAILED if found.problems or any(found.failures.values()) else 0)
