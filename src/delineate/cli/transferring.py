"""Learning from other models: the options of `train --from`, and the commands `pretrain` and `distil`."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from delineate.cli.options import (
    EXISTING,
    PATH,
    Numbers,
    machine_options,
    option_group,
    plan_options,
    plan_options_of,
    plan_or_options,
    say,
    settings_of,
    split_options,
    users_errors,
)
from delineate.cli.together import divide_work, finished, open_company, processes_option

if TYPE_CHECKING:
    from delineate.workflow.transferring import Beginning

same_option = click.option(
    "--same",
    multiple=True,
    metavar="OURS=THEIRS",
    help="A structure that the other model has another name for; may be repeated.",
)
transfer_options = option_group(
    click.option("--from", "source", type=EXISTING, metavar="MODEL", help="Begin with the weights of this model."),
    click.option(
        "--freeze",
        type=click.Choice(["nothing", "encoder", "all-but-head"]),
        default="nothing",
        show_default=True,
        help="Of the weights that are taken, let these rest at first.",
    ),
    click.option(
        "--freeze-for", type=click.FloatRange(0, 1), default=0.2, show_default=True, help="Share of the run they rest."
    ),
    click.option(
        "--backbone-rate",
        type=click.FloatRange(0, 1, min_open=True),
        default=1.0,
        show_default=True,
        help="Their learning rate, as a share of the others'.",
    ),
    same_option,
)


def take_beginning(options: dict[str, Any]) -> Beginning | None:
    """Take what `transfer_options` added out of a command's options; None without --from."""
    source, freeze, share, rate = (options.pop(name) for name in ("source", "freeze", "freeze_for", "backbone_rate"))
    names = _names(options.pop("same"))
    if source is None:
        if freeze != "nothing" or rate != 1 or names:
            raise click.UsageError("--freeze, --backbone-rate and --same are about the weights of --from MODEL")
        return None
    from delineate.workflow.transferring import Beginning

    return Beginning(
        Path(source), freeze=freeze.replace("-", "_"), freeze_fraction=share, backbone_rate=rate, names=names
    )


def _names(same: tuple[str, ...]) -> dict[str, str]:
    """Their names by ours."""
    pairs = [word.partition("=") for word in same]
    if any(not (ours.strip() and theirs.strip()) for ours, _, theirs in pairs):
        raise click.BadParameter(f"expected OURS=THEIRS, got {', '.join(same)}", param_hint="--same")
    return {ours.strip(): theirs.strip() for ours, _, theirs in pairs}


budget_options = option_group(
    click.option("--steps", type=click.IntRange(1), help="Train for so many steps,"),
    click.option("--epochs", type=click.IntRange(1), help="or so many epochs,"),
    click.option("--minutes", type=float, help="or so many minutes, preparation included."),
    click.option("--save-every", type=float, default=30.0, show_default=True, help="Seconds between checkpoints."),
)


@click.command()
@click.argument("dataset", type=EXISTING)
@click.argument("model", type=PATH)
@click.option("--plan", "plan_file", type=EXISTING, help="Network, patches, preparation; else a plan is made.")
@click.option(
    "--hidden",
    type=click.FloatRange(0, 1, min_open=True, max_open=True),
    default=0.6,
    show_default=True,
    help="Share of the blocks that are hidden.",
)
@click.option("--block", type=Numbers(3, int), help="A block in voxels, e.g. 16x16x16. [default: 1/8 of the patch]")
@click.option("--hold-out", type=click.IntRange(0), default=4, show_default=True, help="Measure on the last N scans.")
@click.option("--test", type=click.IntRange(0), default=0, help="Set the last N scans aside first: seen by nobody.")
@budget_options
@processes_option
@plan_options
@machine_options
@users_errors
def pretrain(
    dataset: Path, model: Path, plan_file: Path | None, hold_out: int, test: int, save_every: float, **options: Any
) -> None:
    """Learn from scans that nobody need have drawn on; run the same command again to resume.

    The network learns to say what lies behind hidden blocks of a scan. `train --from MODEL` begins with what it learnt.

    \b
    Example: delineate pretrain scans pretrained --minutes 60
    Example: delineate train Task09_Spleen spleen --from pretrained --minutes 30
    """
    from delineate.dataset import open_dataset
    from delineate.workflow.pretraining import Hiding
    from delineate.workflow.pretraining import pretrain as run
    from delineate.workflow.training import Budget

    divide_work(options.pop("processes"))
    budget = Budget(*(options.pop(name) for name in ("steps", "epochs", "minutes")))
    hiding = Hiding(options.pop("hidden"), options.pop("block"))
    machine, options = split_options(options)
    chosen = plan_or_options(plan_file, options)
    settings = replace(settings_of(**machine), save_seconds=save_every)
    with open_company(settings.device) as (watch, together):
        made = run(
            open_dataset(dataset),
            model,
            budget=budget,
            settings=settings,
            hiding=hiding,
            hold_out=hold_out,
            test=test,
            plan=chosen,
            watch=watch,
            together=together,
        )
    _, record = finished(together, made)
    if record.unexplained is not None:
        say(
            f"Behind hidden blocks of {len(record.checked_on)} other scans, {100 * (1 - record.unexplained):.0f} % of "
            "the intensities' variance is known (0 %: only their mean)"
        )
    say(f"Model in {model}, of {record.scans} scans. Next: delineate train DATASET MODEL --from {model}")


@click.command()
@click.argument("teacher", type=EXISTING)
@click.argument("dataset", type=EXISTING)
@click.argument("student", type=PATH)
@click.option(
    "--speedup",
    type=click.FloatRange(1),
    default=4.0,
    show_default=True,
    help="The student is so many times as fast on a patch; or give --features.",
)
@click.option(
    "--temperature", type=click.FloatRange(0, min_open=True), default=2.0, show_default=True, help="Softens both."
)
@click.option(
    "--weight",
    type=click.FloatRange(0, 1, min_open=True),
    default=0.5,
    show_default=True,
    help="Of the teacher in the loss; 1 leaves references out.",
)
@click.option("--hold-out", type=click.IntRange(1), help="Score the last N cases. [default: those new to the teacher]")
@same_option
@budget_options
@processes_option
@plan_options
@machine_options
@users_errors
def distil(teacher: Path, dataset: Path, student: Path, hold_out: int | None, **options: Any) -> None:
    """Make a small model that learns from what a large one says; run the same command again to resume.

    Scans without a reference are learnt from too. At the end both segment the same cases: what the student costs in
    Dice, and what it gains in time.

    \b
    Example: delineate distil liver scans liver_small --speedup 4 --minutes 60
    Example: delineate distil liver scans liver_small --features 8,16,32,64 --steps 4000
    """
    from delineate.dataset import open_dataset
    from delineate.reports.learning_tables import price_table
    from delineate.workflow.distillation_prices import price_rows, price_words
    from delineate.workflow.distilling import Student
    from delineate.workflow.distilling import distil as run
    from delineate.workflow.training import Budget, Division

    divide_work(options.pop("processes"))
    budget = Budget(*(options.pop(name) for name in ("steps", "epochs", "minutes")))
    speedup, temperature, weight, save_every = (
        options.pop(name) for name in ("speedup", "temperature", "weight", "save_every")
    )
    machine, options = split_options(options)
    small = Student(
        speedup=speedup,
        features=options["features"],
        temperature=temperature,
        weight=weight,
        names=_names(options.pop("same")),
    )
    settings = replace(settings_of(**machine), save_seconds=save_every)
    with open_company(settings.device) as (watch, together):
        made = run(
            teacher,
            open_dataset(dataset),
            student,
            budget=budget,
            settings=settings,
            student=small,
            division=Division(hold_out=hold_out),
            options=plan_options_of(options),
            watch=watch,
            together=together,
        )
        if made is not None and made[1].cases and together.leads:
            watch.print(price_table(price_rows(made[1]), caption=made[1].how))
    _, prices = finished(together, made)
    for line in price_words(prices):
        say(line)
    say(f"Model in {student}. Next: delineate predict {student} SCANS RESULTS")
