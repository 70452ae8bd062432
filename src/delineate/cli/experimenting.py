"""The commands for whole experiments: cross-validation of every configuration, folds joined, ledgers compared."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from delineate.cli.options import (
    EXISTING,
    PATH,
    STOPPED,
    Words,
    cluster_of,
    cluster_option,
    machine_options,
    open_watch,
    plan_options,
    plan_options_of,
    refuse_plan_options,
    say,
    settings_of,
    split_options,
    users_errors,
)

if TYPE_CHECKING:
    from delineate.workflow.experimenting import ExperimentResult


@click.command()
@click.argument("dataset", type=EXISTING)
@click.argument("folder", type=PATH)
@click.option("--minutes", type=float, help="For everything: training, out-of-fold results, choosing;")
@click.option("--steps", type=click.IntRange(1), help="or so many steps a run,")
@click.option("--epochs", type=click.IntRange(1), help="or so many epochs a run.")
@click.option("--folds", type=click.IntRange(2), default=5, show_default=True)
@click.option("--test", type=click.IntRange(0), default=0, help="Set the last N cases aside: seen by nobody.")
@click.option("--configurations", type=Words(), default=(), help="e.g. 2d,3d_fullres. [default: those worth training]")
@click.option("--plans", type=Words(), default=(), help="Plan files instead, separated by commas.")
@click.option("--ensembles/--no-ensembles", default=True, help="Try every two averaged. [default: ensembles]")
@click.option("--tolerance-mm", type=click.FloatRange(0), default=2.0, show_default=True, help="Of the surface Dice.")
@click.option("--save-every", type=float, default=30.0, show_default=True, help="Seconds between checkpoints.")
@cluster_option
@plan_options
@machine_options
@users_errors
def experiment(dataset: Path, folder: Path, *, save_every: float, **options: Any) -> None:
    """Train every configuration worth training on every fold, and make one model of the best.

    Each case is segmented by networks that were not trained on it, alone and averaged in pairs. The best candidate
    is chosen, or a cheaper one that is as good as can be told; postprocessing rules are kept where they help beyond
    chance. Stopped at any moment, the same command goes on.

    \b
    Example: delineate experiment Task04_Hippocampus hippocampus --minutes 240 --test 40
    Example: delineate experiment Task09_Spleen spleen --configurations 2d,3d_fullres --folds 3 --steps 2000
    Example: delineate experiment Task09_Spleen spleen --steps 2000 --cluster head:6379 --threads 8 --device cuda
    """
    from delineate.dataset import open_dataset
    from delineate.workflow.experimenting import ExperimentOptions
    from delineate.workflow.experimenting import experiment as run
    from delineate.workflow.training import Budget

    budget = Budget(*(options.pop(name) for name in ("steps", "epochs", "minutes")))
    own = {name: options.pop(name) for name in ("folds", "test", "configurations", "ensembles", "tolerance_mm")}
    plans = tuple(map(Path, options.pop("plans")))
    address = options.pop("cluster")
    machine, options = split_options(options)
    planning = plan_options_of(options)
    if plans:
        refuse_plan_options(options.keys() - {"regions"}, "--plans")
    chosen = ExperimentOptions(budget=budget, plans=plans, planning=planning, **own)
    settings = replace(settings_of(**machine), save_seconds=save_every)
    cluster = cluster_of(address, settings, machine["memory_gb"])
    with open_watch() as watch:
        opened = open_dataset(dataset)
        found = run(opened, folder, options=chosen, settings=settings, cluster=cluster, watch=watch)
        if found is not None:
            watch.print(_table(found))
    if found is None:
        click.echo("Stopped. Run the same command to go on.")
        sys.exit(STOPPED)
    _tell(found)


def _table(found: ExperimentResult) -> Any:
    from delineate.reports.experiment_tables import candidates_table

    return candidates_table(found.lines, chosen=found.conclusion.choice.chosen, cases=len(found.setup.cases))


def _tell(found: ExperimentResult) -> None:
    choice, nested = found.conclusion.choice, found.conclusion.nested
    say(choice.words)
    for rule in choice.rules:
        say(f"Postprocessing of {rule.rule.label}: {rule.rule.words} (Dice {rule.before:.3f} to {rule.after:.3f}).")
    low, high = nested.interval
    say(f"Dice of what is chosen this way, on cases it was not chosen on: {nested.dice:.3f} ({low:.3f} to {high:.3f}).")
    say(f"Model in {found.model}. Page: {found.page}")
    aside = f"; {len(found.setup.test)} cases were set aside to test it" if found.setup.test else ""
    say(f"Next: delineate predict {found.model} SCANS RESULTS{aside}")


@click.command()
@click.argument("models", type=EXISTING, nargs=-1, required=True, metavar="MODEL...")
@click.argument("output", type=PATH)
@click.option("--again", is_flag=True, help="Replace a model that was joined before.")
@users_errors
def join(models: tuple[Path, ...], output: Path, again: bool) -> None:
    """Make one model of folds that were trained one by one: the outputs of their networks are averaged.

    \b
    Example: delineate join spleen_fold_0 spleen_fold_1 spleen_fold_2 spleen
    """
    from delineate.cli.models import describe
    from delineate.workflow.joining import join_folders

    joined = join_folders(models, output, again=again)
    for line in describe(joined):
        say(line)
    dice = joined.provenance.validation_dice
    say(f"Model in {output}" + ("" if dice is None else f", mean validation Dice of its folds {dice:.3f}"))


@click.command()
@click.argument("folders", type=EXISTING, nargs=-1, required=True, metavar="FOLDER...")
@click.option("-o", "--output", type=PATH, help="Draw Dice against seconds: a .png, or a .html page with the table.")
@click.option("--runs", is_flag=True, help="Also list the run of every fold.")
@users_errors
def ledger(folders: tuple[Path, ...], output: Path | None, runs: bool) -> None:
    """Compare what experiments reached, and what it took: plan, Dice with its interval, time, energy where it is known.

    \b
    Example: delineate ledger spleen spleen_larger -o spleen.png
    """
    from delineate.reports.experiment_tables import ledger_table
    from delineate.workflow.ledger import all_rows
    from delineate.workflow.ledger_reports import draw_ledger, shown_rows

    rows = all_rows(folders)
    with open_watch() as watch:
        watch.print(ledger_table(shown_rows(rows, runs=runs)))
    if output is not None:
        draw_ledger(rows, output)
        say(f"Drawn: {output}")
