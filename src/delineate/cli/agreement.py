"""The command that compares readers."""

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
@click.argument("readers", type=EXISTING, nargs=-1, required=True, metavar="READER_A READER_B [READER_C ...]")
@click.option("-o", "--output", type=PATH, required=True, help="Folder for agreement.json, .csv and the consensus.")
@click.option("--prediction", "predictions", type=EXISTING, help="A model's results, compared as a reader's are.")
@click.option("--tolerance-mm", type=click.FloatRange(0), default=2.0, show_default=True, help="Of surface Dice.")
@click.option(
    "--consensus",
    type=click.Choice(["staple", "majority", "none"]),
    default="staple",
    show_default=True,
    help="Which one of all readers is written as label maps.",
)
@click.option("--resample", is_flag=True, help="Bring label maps of another grid onto the first reader's.")
@click.option("--threads", type=click.IntRange(1), help="Cases at once. [default: all CPUs]")
@users_errors
def agreement(
    readers: tuple[Path, ...],
    output: Path,
    predictions: Path | None,
    tolerance_mm: float,
    consensus: str,
    resample: bool,
    threads: int | None,
) -> None:
    """Compare several readers of the same scans with each other, and a model with the readers.

    Each READER is a folder of label maps, named by case. Readers and model are compared with the other readers, one by
    one, and with the consensus of the others: nobody is part of what they are compared with. What a reader has no label
    map of is left out and counted; a case that the model has no prediction of counts as missed.

    \b
    Example: delineate agreement reader1 reader2 reader3 --prediction results -o agreement
    """
    from delineate.evaluation.consensus import Method
    from delineate.reports.agreement_tables import places_table, readers_table
    from delineate.workflow.agreement import AgreementOptions, agree

    options = AgreementOptions(tolerance_mm, None if consensus == "none" else Method(consensus), resample=resample)
    with open_watch() as watch:
        result = agree(
            readers,
            output,
            predictions=predictions,
            options=options,
            settings=settings_of("cpu", threads, None, None),
            watch=watch,
        )
        missing = {reader: len(cases) for reader, cases in result.missing.items()} | result.missed_by_model
        title = f"Agreement of {len(readers)} readers over {_cases(len(result.cases))}"
        watch.print(places_table(result.places, with_model=result.has_model, title=title))
        watch.print(readers_table(result.places, read=result.read, missing=missing))
    for remark in result.remarks:
        warn(remark)
    for reader, cases in result.missing.items():
        if cases:
            warn(f"{reader} has no label map that can be used of {_cases(len(cases))}: {', '.join(cases[:5])}")
    for case, why in result.failures.items():
        complain(f"{case}: the model's counted as missed, because {why}")
    for problem in result.problems:
        complain(problem)
    say(f"{result.report} and {result.table}")
    sys.exit(SOME_FAILED if result.problems or result.failures else 0)


def _cases(count: int) -> str:
    return "1 case" if count == 1 else f"{count} cases"
