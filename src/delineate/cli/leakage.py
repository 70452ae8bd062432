"""The command that looks for test cases that training has seen."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from delineate.cli.options import (
    EXISTING,
    PATH,
    SOME_FAILED,
    complain,
    open_watch,
    say,
    settings_of,
    users_errors,
    warn,
)


@click.command()
@click.argument("training", type=EXISTING)
@click.argument("test", type=EXISTING, required=False)
@click.option(
    "--model", type=EXISTING, help="Of TRAINING only what this model has seen; without TEST, the rest is the test."
)
@click.option("--look/--no-look", default=True, help="Whether to compare images by what they show. [default: look]")
@click.option("-o", "--output", type=PATH, help="Folder for leakage.json and leakage.csv.")
@click.option("--threads", type=click.IntRange(1), help="Images read at once. [default: all CPUs]")
@users_errors
def leakage(
    training: Path, test: Path | None, model: Path | None, output: Path | None, threads: int | None, *, look: bool
) -> None:
    """Find test cases that were seen in training: the same patient, file, series, name, or nearly the same image.

    TRAINING and TEST are datasets, or folders of NIfTI files. Without TEST and without a model, pairs within
    TRAINING. Images are known again resampled, mirrored, in other values and without some slices. Exit with 1 if
    something is found.

    \b
    Example: delineate leakage Task09_Spleen hospital_b
    Example: delineate leakage Task09_Spleen --model spleen
    Example: delineate leakage Task09_Spleen
    """
    from delineate.reports.leakage_tables import leaks_table
    from delineate.workflow.leakage import check_leakage, write_leakage

    with open_watch() as watch:
        settings = settings_of("cpu", threads, None, None)
        result = check_leakage(training, test, model=model, look=look, settings=settings, watch=watch)
        if result.leaks:
            heads = ("test", "training") if result.test else ("case", "and case")
            watch.print(leaks_table(result.leaks, heads=heads, title="Cases that belong together"))
    for remark in result.remarks:
        warn(remark)
    for problem in result.problems:
        complain(problem)
    say(result.summary)
    if output is not None:
        say(" and ".join(map(str, write_leakage(result, output, training=training, test=test))))
    sys.exit(SOME_FAILED if result.leaks or result.problems else 0)
