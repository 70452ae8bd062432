"""The command that searches for a better plan."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import click

from delineate.cli.options import (
    EXISTING,
    PATH,
    STOPPED,
    Numbers,
    cluster_of,
    cluster_option,
    machine_options,
    open_watch,
    plan_options,
    plan_or_options,
    say,
    settings_of,
    split_options,
    users_errors,
    warn,
)


@click.command()
@click.argument("dataset", type=EXISTING)
@click.argument("folder", type=PATH)
@click.option("--plan", "plan_file", type=EXISTING, help="The plan to improve; else one is made.")
@click.option(
    "--space",
    help="What is tuned: names with limits or choices, e.g. learning_rate=1e-4..1e-2,window,loss=dice|dice_ce; or a "
    "JSON file. [default: learning_rate,weight_decay,window,augmentation]",
)
@click.option("--sampler", type=click.Choice(["tpe", "random", "grid"]), default="tpe", show_default=True)
@click.option("--points", type=click.IntRange(2), default=3, show_default=True, help="Values of a range in a grid.")
@click.option(
    "--pruner",
    type=click.Choice(["median", "hyperband", "none"]),
    default="median",
    show_default=True,
    help="By which early validations trials are given up.",
)
@click.option("--trials", type=click.IntRange(1), help="So many all together, the plan as it is among them;")
@click.option("--minutes", type=float, help="or begin none that would end later, counted from now.")
@click.option("--trial-steps", type=click.IntRange(1), help="Length of a trial. [default: the plan's steps]")
@click.option("--trial-epochs", type=click.IntRange(1))
@click.option("--trial-minutes", type=float, help="The same time for each, whatever its steps take.")
@click.option("--folds", type=click.IntRange(2), default=5, show_default=True)
@click.option("--fold", type=Numbers(None, int), default="0", show_default=True, help="Validate on these, e.g. 0,1.")
@click.option("--test", type=click.IntRange(0), default=0, help="Set the last N cases aside: seen by nobody.")
@click.option("--processes", type=click.IntRange(1), default=1, show_default=True, help="That share the threads.")
@click.option(
    "--confirm",
    type=click.IntRange(0),
    default=1,
    show_default=True,
    help="Train the winner and the plan as it was again so often, with other seeds, on another fold.",
)
@click.option("--keep-weights", is_flag=True, help="Also of the trials that lost.")
@cluster_option
@plan_options
@machine_options
@users_errors
def tune(dataset: Path, folder: Path, plan_file: Path | None, space: str | None, **options: Any) -> None:
    """Search for a plan that trains to a better model. The test cases are never looked at.

    Run the same command again to go on, or at the same time, on this machine or another that sees FOLDER, to help.
    The best plan is FOLDER/best_plan.json, the page FOLDER/tune.html.

    \b
    Example: delineate tune Task09_Spleen tuning --trials 30 --trial-steps 1000 --test 9 --processes 3
    Example: delineate tune Task09_Spleen tuning --trials 60 --cluster head:6379 --processes 8 --threads 4
    Example: delineate tune Task09_Spleen tuning --plan plan.json --space a_min=-300..0,a_max=100..500 --minutes 120
    """
    from delineate.dataset import open_dataset
    from delineate.workflow.training import Budget
    from delineate.workflow.tuning import Effort, SearchOptions
    from delineate.workflow.tuning import tune as run

    effort = Effort(**{name: options.pop(name) for name in _EFFORT})
    trial = Budget(*(options.pop(name) for name in ("trial_steps", "trial_epochs", "trial_minutes")))
    search = SearchOptions(
        space=_read(space),
        trial=trial,
        seed=options["seed"] if plan_file is None else options.pop("seed"),  # the search's, and of plans it makes
        **{name: options.pop(name) for name in ("sampler", "pruner", "points", "folds", "fold", "test")},
    )
    address = options.pop("cluster")
    machine, options = split_options(options)
    chosen = plan_or_options(plan_file, options)
    settings, opened = settings_of(**machine), open_dataset(dataset)
    cluster = cluster_of(address, settings, machine["memory_gb"])
    with open_watch() as watch:
        result = run(
            opened,
            folder,
            options=search,
            effort=effort,
            settings=settings,
            plan=chosen,
            cluster=cluster,
            watch=watch,
        )
    for sentence in result.words:
        say(sentence)
    for doubt in result.doubts:
        warn(doubt)
    say(f"Page: {result.page}")
    if not result.finished:
        click.echo("Stopped. Run the same command to go on.")
        sys.exit(STOPPED)
    if result.best is not None:
        say(f"Next: delineate train {dataset} MODEL --plan {folder / 'best_plan.json'}")


_EFFORT = ("trials", "minutes", "processes", "confirm", "keep_weights")


def _read(space: str | None) -> str | None:
    return Path(space).read_text(encoding="utf-8") if space is not None and space.endswith(".json") else space
