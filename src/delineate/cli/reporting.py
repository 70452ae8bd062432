"""The commands that write pages for people: reports of datasets, trainings, cases and evaluations, model cards."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from delineate.cli.measuring import chosen_measures, measured_options
from delineate.cli.options import (
    EXISTING,
    PATH,
    Words,
    key_of,
    key_option,
    open_watch,
    say,
    settings_of,
    users_errors,
    warn,
)

if TYPE_CHECKING:
    from delineate.workflow.case_reports import CaseRequest


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


@report.command("case")
@click.argument("segmentation", type=EXISTING)
@click.option("--image", type=EXISTING, help="The scan: without it there are no slices.")
@measured_options
@click.option("--pictures", type=Words(), default=(), help="Show these in three planes. [default: the largest]")
@click.option("--model", type=EXISTING, help="The model's folder, for its name.")
@click.option("--case", default="", help="What the page calls the case. [default: a name made up]")
@click.option("--identified", is_flag=True, help="Show who the patient is, as the DICOM objects say.")
@key_option
@click.option("--reviewed-by", default="", metavar="NAME", help="Who has looked at it; without, it is not reviewed.")
@click.option("--reviewed-on", type=click.DateTime(["%Y-%m-%d"]), metavar="DATE", help="YYYY-MM-DD.")
@click.option("-o", "--output", type=PATH, default=Path("case_report.html"), show_default=True, metavar="HTML")
@click.option("--pdf", type=PATH, metavar="PDF", help='Also a PDF; needs the extra "pdf".')
@click.option("--threads", type=click.IntRange(1), help="[default: all CPUs]")
@users_errors
def report_case(threads: int | None, **options: Any) -> None:
    """One case for a surgeon: pictures, findings, lesions with distances, and what to be careful about.

    The page does not tell who the patient is, unless --identified is given, and says "Not reviewed" until somebody has.
    What is measured is chosen as for `delineate measure`.

    \b
    Example: delineate report case results/p1.nii.gz --image archive/p1/CT -o p1.html --pdf p1.pdf
    Example: delineate report case p1.nii.gz --image p1/CT --lesions tumour --organ liver --margin-mm 10
    Example: delineate report case p1.nii.gz --image p1/CT --identified --reviewed-by "A. Weiss"
    """
    from delineate.workflow.case_reports import report_case as run

    with open_watch() as watch:
        made = run(_case_request(**options), settings=settings_of("cpu", threads, None, None), watch=watch)
    for warning in made.warnings:
        warn(warning)
    say(f"{made.html}" if made.pdf is None else f"{made.html} and {made.pdf}")


def _case_request(
    *, case: str, identified: bool, key_file: Path | None, reviewed_by: str, reviewed_on: Any, **options: Any
) -> CaseRequest:
    from delineate.reports.case_pages import Review
    from delineate.workflow.case_identity import Naming
    from delineate.workflow.case_reports import CaseRequest

    if identified and key_file is not None:
        raise click.UsageError("--identified and --deidentify exclude each other")
    day = "" if reviewed_on is None else reviewed_on.strftime("%Y-%m-%d")
    return CaseRequest(
        **chosen_measures(options),
        naming=Naming(identified=identified, key=key_of(key_file), case=case),
        review=Review(reviewed_by, day),
    )


@report.command("evaluation")
@click.argument("scores", type=EXISTING)
@click.option("-o", "--output", type=PATH, metavar="HTML", help="[default: report.html beside the scores]")
@users_errors
def report_evaluation(scores: Path, output: Path | None) -> None:
    """What to believe of a model: failures and misses first, scores with intervals, worst cases with pictures.

    SCORES is a folder that `delineate evaluate` wrote, or its scores.json. Nothing is scored anew; pictures are drawn
    of the files that were scored, if they are still there.

    \b
    Example: delineate report evaluation results -o evaluation.html
    """
    from delineate.workflow.evaluation_reports import report_evaluation as run

    with open_watch() as watch:
        made = run(scores, output, watch=watch)
    if made.remark:
        warn(made.remark)
    say(made.html)


@click.command()
@click.argument("model", type=EXISTING)
@click.option("-o", "--output", type=PATH, required=True, metavar="FOLDER", help="Where the card is written.")
@click.option("--scores", type=EXISTING, multiple=True, help="scores.json of an evaluation; may be repeated.")
@click.option("--dataset", type=EXISTING, help="The dataset that trained the model, for its data sheet.")
@click.option("--about", type=EXISTING, help="about.json: what no run records, such as the intended use.")
@click.option("--threads", type=click.IntRange(1), help="Headers that are read at once. [default: all CPUs]")
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
