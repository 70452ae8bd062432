"""The command that scores predictions against references."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from delineate.cli.options import (
    EXISTING,
    PATH,
    SOME_FAILED,
    Words,
    complain,
    open_watch,
    option_group,
    say,
    settings_of,
    users_errors,
    warn,
)

if TYPE_CHECKING:
    from delineate.workflow.evaluating import EvaluationOptions


class Tolerance(click.ParamType[tuple[tuple[str, float], ...]]):
    """Millimetres of structures: liver=3,spleen=2."""

    name = "NAME=MM"

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[tuple[str, float], ...]:
        if isinstance(value, tuple):
            return value
        return tuple(self._pair(part, param, ctx) for part in str(value).split(",") if part.strip())

    def _pair(self, part: str, param: click.Parameter | None, ctx: click.Context | None) -> tuple[str, float]:
        name, _, number = part.rpartition("=")
        try:
            tolerance_mm = float(number)
        except ValueError:
            tolerance_mm = -1
        if not name.strip() or not 0 <= tolerance_mm < float("inf"):
            self.fail(f"expected a name and millimetres, e.g. liver=3, got {part!r}", param, ctx)
        return name.strip(), tolerance_mm


class Edges(click.ParamType[tuple[str, tuple[float, ...]]]):
    """A name and where its numbers are parted: age=18,40,65."""

    name = "NAME=EDGE,EDGE..."

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[str, tuple[float, ...]]:
        if isinstance(value, tuple):
            return value
        name, _, numbers = str(value).rpartition("=")
        try:
            edges = tuple(float(number) for number in numbers.split(","))
        except ValueError:
            edges = ()
        if not name.strip() or not edges or sorted(set(edges)) != list(edges):
            self.fail(f"expected a name and rising numbers, e.g. age=18,40,65, got {value!r}", param, ctx)
        return name.strip(), edges


scoring_options = option_group(
    click.option("--tolerance-mm", type=click.FloatRange(0), default=2.0, show_default=True, help="Of surface Dice."),
    click.option("--tolerance", "tolerances", type=Tolerance(), multiple=True, help="Of single structures."),
    click.option(
        "--set-aside-by", type=EXISTING, help="Score the cases that this model's training set aside, all of them."
    ),
    click.option("--resample", is_flag=True, help="Bring predictions of another grid onto the reference's."),
    click.option("--lesions", type=Words(), default=(), help="Structures to score lesion by lesion, too: tumour,cyst."),
    click.option("--tubes", type=Words(), default=(), help="Structures to score by their centre lines (clDice), too."),
)
"""How predictions are scored, whatever is made of the scores; see `evaluation_options`."""


@click.command()
@click.argument("references", type=EXISTING)
@click.argument("predictions", type=EXISTING)
@click.option("-o", "--output", type=PATH, help="Folder for the scores and the page. [default: PREDICTIONS]")
@scoring_options
@click.option("--tolerances", "tolerance_file", type=EXISTING, help='The same as JSON: {"liver": 3, "spleen": 2}.')
@click.option("--only-predicted", is_flag=True, help="Do not count cases without prediction as failures.")
@click.option("--smallest-lesion", type=click.FloatRange(0), default=0.0, help="Ignore lesions below so many mm³.")
@click.option("--groups", "table", type=EXISTING, help="CSV or TSV with a column case or patient: compare its groups.")
@click.option("--dicom", type=EXISTING, help="The tree that the dataset was imported from: groups by its headers, too.")
@click.option("--key", "key_file", type=EXISTING, help="Of --dicom, if the import replaced UIDs (--deidentify).")
@click.option("--by", type=Words(), default=(), help="Compare groups that the dataset knows, too, or thirds of size.")
@click.option("--bands", type=Edges(), multiple=True, help="Edges of a group's numbers; of size in ml.")
@click.option("--worst", type=click.IntRange(0), default=10, show_default=True, help="Worst cases to look into.")
@click.option("--report/--no-report", default=True, show_default=True, help="Write report.html beside the scores.")
@click.option("--threads", type=click.IntRange(1), help="Cases at once. [default: all CPUs]")
@users_errors
def evaluate(
    references: Path, predictions: Path, output: Path | None, threads: int | None, *, report: bool, **options: Any
) -> None:
    """Score predictions against references, per case and structure.

    REFERENCES is a file, a folder of label maps, or a dataset. A structure that was missed counts as the worst value in
    every figure, and so does a case without prediction. Of a dataset, only cases with a prediction count, unless
    --set-aside-by says which ones were meant.

    \b
    Example: delineate evaluate Task09_Spleen results --set-aside-by spleen_model
    Example: delineate evaluate labelsTs results --tolerance aorta=1,liver=3
    Example: delineate evaluate labelsTs results --groups patients.csv --bands age=18,40,65 --by size
    """
    from delineate.reports.comparison_tables import groups_table
    from delineate.reports.score_tables import lesions_table, scores_table, sides_table, tubes_table, worst_table
    from delineate.workflow.evaluating import evaluate as run
    from delineate.workflow.evaluation_reports import report_evaluation

    with open_watch() as watch:
        result = run(
            references,
            predictions,
            output=output,
            options=evaluation_options(options),
            settings=settings_of("cpu", threads, None, None),
            watch=watch,
        )
        page = report_evaluation(result.scores, watch=watch) if report else None
        title, interval = f"Scores of {result.cases} cases", result.evaluation.intervals["dice"]
        watch.print(scores_table(result.rows, title=title, caption=result.note, interval=interval))
        structures = result.evaluation.structures
        for names, table in ((options["lesions"], lesions_table), (options["tubes"], tubes_table)):
            if names:
                watch.print(table(structures))
        if result.groups:
            watch.print(groups_table(result.groups, title="Dice by group"))
        if any(pair.left_as_right or pair.right_as_left for pair in result.swaps):
            watch.print(sides_table(result.swaps))
        if result.worst:
            watch.print(worst_table(result.worst))
    for remark in result.remarks:
        warn(remark)
    for case, why in result.failures.items():
        complain(f"{case}: counted as missed, because {why}")
    for problem in result.problems:
        complain(problem)
    if page is None:
        say(f"{result.scores} and {result.table}")
    else:
        say(f"{result.scores}, {result.table} and {page.html}")
    sys.exit(SOME_FAILED if result.problems or result.failures else 0)


def evaluation_options(given: dict[str, Any]) -> EvaluationOptions:
    """From what `scoring_options` take, and what only `evaluate` takes where it is there."""
    from delineate.workflow.evaluating import EvaluationOptions, read_tolerances
    from delineate.workflow.group_tables import GroupOptions
    from delineate.workflow.pairing import CaseChoice, cases_set_aside

    options = dict(given)
    model, tolerance_file = options.pop("set_aside_by"), options.pop("tolerance_file", None)
    cases = None if model is None else cases_set_aside(model)
    told = {} if tolerance_file is None else read_tolerances(tolerance_file)
    table, dicom, key_file = (options.pop(name, None) for name in ("table", "dicom", "key_file"))
    return EvaluationOptions(
        tolerances_mm=told | {name: mm for group in options.pop("tolerances") for name, mm in group},
        choice=CaseChoice(cases, only_predicted=options.pop("only_predicted", False)),
        smallest_lesion_mm3=options.pop("smallest_lesion", 0.0),
        groups=GroupOptions(table, dicom, key_file, options.pop("by", ()), dict(options.pop("bands", ()))),
        **options,
    )
