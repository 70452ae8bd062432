"""The commands that write pages for people: reports of datasets and trainings, model cards."""

from __future__ import annotations

from pathlib import Path

import click

from delineate.cli.options import EXISTING, PATH, open_watch, say, settings_of, users_errors, warn


@click.group()
def report() -> None:
    """Write a page about a dataset, a training, a case or an evaluation: one HTML file with everything in it."""


@report.command("dataset")
@click.argument("dataset", type=EXISTING)
@click.option("-o", "--output", type=PATH, default=Path("dataset_report.html"), show_default=True, metavar="HTML")
@click.option("--threads", type=click.IntRange(1), help="Scans that are read at once. [default: all CPUs]")
@users_errors
def report_dataset(dataset: Path, output: Path, threads: int | None) -> None:
    """What is in a dataset, how it is spread, which cases stand apart, and every problem; a JSON file beside it.

    \b
    Example: delineate report dataset Task09_Spleen -o spleen.html
    """
    from delineate.reports.tables import count_problems
    from delineate.workflow.dataset_reports import report_dataset as run

    with open_watch() as watch:
        made = run(dataset, output, settings=settings_of("cpu", threads, None, None), watch=watch)
    page = made.page
    say(f"{len(page.dataset.cases)} cases: {count_problems(page.problems)}, {len(page.apart)} stand apart")
    say(f"{made.html} and {made.json}")


@report.command("training")
@click.argument("model", type=EXISTING)
@click.option("-o", "--output", type=PATH, default=Path("training_report.html"), show_default=True, metavar="HTML")
@users_errors
def report_training(model: Path, output: Path) -> None:
    """How a training went: curves, time, split, plan, machine, and reasons for doubt. It may still be running.

    \b
    Example: delineate report training spleen -o training.html
    """
    from delineate.workflow.training_reports import report_training as run

    made = run(model, output)
    for doubt in made.doubts:
        warn(doubt)
    say(made.html)


@click.command()
@click.argument("model", type=EXISTING)
@click.option("-o", "--output", type=PATH, required=True, metavar="FOLDER", help="Where the card is written.")
@click.option("--scores", type=EXISTING, multiple=True, help="scores.json of an evaluation; may be repeated.")
@click.option("--dataset", type=EXISTING, help="The dataset that trained the model, for its data sheet.")
@click.option("--about", type=EXISTING, help="about.json: what no run records, such as the intended use.")
@click.option("--threads", type=click.IntRange(1))
@users_errors
def card(
    model: Path,
    output: Path,
    scores: tuple[Path, ...],
    dataset: Path | None,
    about: Path | None,
    threads: int | None,
) -> None:
    """Write a model card and a data sheet from recorded runs: HTML, Markdown and JSON, with the CLAIM 2024 checklist.

    What nobody recorded or stated is said to be not stated. Scores on cases that trained the model, or chose its
    weights, are not called test scores.

    \b
    Example: delineate card spleen --scores results/scores.json --dataset Task09_Spleen -o card
    Example: delineate card spleen --scores results/scores.json --about card/about.json -o card
    """
    from delineate.workflow.carding import CardSources, write_card

    with open_watch() as watch:
        made = write_card(
            model,
            output,
            CardSources(scores=scores, dataset=dataset, about=about),
            settings=settings_of("cpu", threads, None, None),
            watch=watch,
        )
    for doubt in made.doubts:
        warn(doubt)
    say(f"{made.card}")
    if made.open:
        where = "" if made.about is None else f"; fill in {made.about} and give it with --about"
        say(f"{made.open} questions are not answered{where}")
