"""The commands from a dataset to a model, to results and scores."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import click

from delineate.cli.options import (
    EXISTING,
    PATH,
    SOME_FAILED,
    machine_options,
    open_watch,
    plan_options,
    plan_options_of,
    plan_or_options,
    settings_of,
    split_options,
    users_errors,
)
from delineate.cli.recipes import follow_recipe, phantom_options, recipe_option
from delineate.cli.together import divide_work, finished, open_company, processes_option
from delineate.cli.transferring import take_beginning, transfer_options


@click.command()
@click.argument("folder", type=PATH)
@click.option("--patients", type=click.IntRange(4), default=26, show_default=True)
@click.option("--test", type=click.IntRange(1), default=6, show_default=True, help="Patients held out and scored.")
@click.option("--minutes", type=float, default=7.0, show_default=True, help="Training time.")
@click.option("--seed", type=int, default=0, show_default=True)
@machine_options
@users_errors
def demo(folder: Path, patients: int, test: int, minutes: float, seed: int, **machine: Any) -> None:
    """The whole way on synthetic patients: DICOM, check, plan, train, predict, evaluate, a page to look at.

    \b
    Example: delineate demo demo
    """
    from delineate.reports.score_tables import scores_table
    from delineate.reports.tables import problems_table
    from delineate.workflow.demo import run_demo

    with open_watch() as watch:
        result = run_demo(
            folder,
            patients=patients,
            test=test,
            minutes=minutes,
            seed=seed,
            settings=settings_of(**machine),
            watch=watch,
        )
        watch.print(problems_table(result.problems))
        watch.print(scores_table(result.scores, title=f"Scores on {test} held-out patients"))
    click.echo(result.words)


@click.command()
@click.argument("folder", type=PATH)
@click.option("--patients", type=click.IntRange(1), default=10, show_default=True)
@click.option("--seed", type=int, default=0, show_default=True, help="The first patient's seed.")
@click.option("--dicom/--no-dicom", default=True, help="Also write DICOM series, of the abdomen. [default: dicom]")
@phantom_options
@users_errors
def phantom(folder: Path, patients: int, seed: int, dicom: bool, kind: str, site: str | None, coarse: float) -> None:
    """Make a dataset of synthetic patients with exact labels.

    \b
    Example: delineate phantom cohort --patients 10
    Example: delineate phantom tumours --kind brain_tumour --site B
    """
    from delineate.workflow.demo import write_cohort
    from delineate.workflow.phantoms import Cohort, write_synthetic

    wanted = Cohort(kind, patients=patients, seed=seed, site=site, coarse=coarse)
    with open_watch() as watch:
        if wanted == Cohort("abdomen", patients=patients, seed=seed):
            cohort = write_cohort(folder, patients=patients, seed=seed, with_dicom=dicom, watch=watch)
        else:
            cohort = write_synthetic(folder, wanted, watch=watch)
    click.echo(f"{len(cohort.cases)} patients in {folder}. Next: delineate check {folder}")


@click.command()
@click.argument("dataset", type=EXISTING)
@click.option("--previews", type=PATH, help="Draw cases into this folder.")
@click.option("--most", type=click.IntRange(1), default=12, show_default=True, help="Cases to draw.")
@machine_options
@users_errors
def check(dataset: Path, previews: Path | None, most: int, **machine: Any) -> None:
    """List every problem of a dataset (Decathlon or nnU-Net layout) in one table; exit with 1 if one is an error.

    \b
    Example: delineate check Task09_Spleen --previews previews
    """
    from delineate.dataset import open_dataset
    from delineate.reports.tables import problems_table
    from delineate.workflow.checking import check as run

    opened = open_dataset(dataset)
    with open_watch() as watch:
        report = run(
            opened,
            folder=dataset if dataset.is_dir() else None,
            previews=previews,
            most_previews=most,
            settings=settings_of(**machine),
            watch=watch,
        )
        watch.print(problems_table(report.problems))
    click.echo(f"{opened.name}: {len(opened.cases)} cases, {len(opened.labels)} structures")
    if previews is not None:
        click.echo(f"{len(report.previews)} previews in {previews}")
    sys.exit(SOME_FAILED if report.errors else 0)


@click.command()
@click.argument("dataset", type=EXISTING)
@click.option("-o", "--output", type=PATH, help="Write the plan here, to edit and to train with. [default: show it]")
@click.option("--explain", "is_explained", is_flag=True, help="Say of every choice why it was made, in a table.")
@click.option("--minutes", type=click.FloatRange(0, min_open=True), help="Plan for so many minutes of training.")
@click.option("--test", type=click.IntRange(0), default=0, help="Do not look at the last N cases: as train --test N.")
@recipe_option
@plan_options
@machine_options
@users_errors
def plan(dataset: Path, output: Path | None, is_explained: bool, **options: Any) -> None:
    """Plan the training of a dataset, and say what a step will take on this machine.

    \b
    Example: delineate plan Task09_Spleen -o plan.json
    Example: delineate plan Task09_Spleen --minutes 20 --explain
    Example: delineate plan Task09_Spleen --spacing 1.5,1.5,2 --patch 96x96x96 --window -57,164,0,1
    """
    from delineate.dataset import open_dataset
    from delineate.files import write_text
    from delineate.planning import explain, plan_to_json, training_bytes
    from delineate.reports.plan_tables import choices_table
    from delineate.workflow.planning import plan_training
    from delineate.workflow.training import time_step

    machine, options = split_options(follow_recipe(options | {"epochs": None}))
    test, epochs = (options.pop(name) for name in ("test", "epochs"))
    settings, opened = settings_of(**machine), open_dataset(dataset)
    with open_watch() as watch:
        made = plan_training(opened, settings, plan_options_of(options), test=test, epochs=epochs, watch=watch)
        seconds = time_step(opened, made, settings)
        if is_explained:
            watch.print(choices_table(explain(made, step_seconds=seconds), title=f"Plan for {opened.name}"))
    if output is not None:
        write_text(output, plan_to_json(made))
        click.echo(f"Plan in {output}")
    elif not is_explained:
        click.echo(plan_to_json(made))
    if is_explained:
        return
    for reason in made.reasons:
        click.echo(f"- {reason}")
    click.echo(
        f"One step on this machine: about {training_bytes(made) / 1e9:.1f} GB, {seconds:.2f} s "
        f"({made.training.steps} steps: {made.training.steps * seconds / 60:.0f} minutes)"
    )


@click.command()
@click.argument("dataset", type=EXISTING)
@click.argument("model", type=PATH)
@click.option("--plan", "plan_file", type=EXISTING, help="A plan to follow; else one is made.")
@click.option("--steps", type=click.IntRange(1), help="Train for so many steps,")
@click.option("--epochs", type=click.IntRange(1), help="or so many epochs,")
@click.option("--minutes", type=float, help="or so many minutes, preparation included.")
@click.option("--folds", type=click.IntRange(2), default=5, show_default=True)
@click.option("--fold", default="0", show_default=True, help='The fold to validate on; "all" trains on everything.')
@click.option("--hold-out", type=click.IntRange(1), help="Validate on the last N cases instead.")
@click.option("--test", type=click.IntRange(0), default=0, help="Set the last N cases aside: seen by nobody.")
@click.option("--save-every", type=float, default=30.0, show_default=True, help="Seconds between checkpoints.")
@click.option("--profile", is_flag=True, help="Show where the time of a step goes.")
@click.option("--promptable", is_flag=True, help="Make a model that segments what it is pointed at, in a review.")
@processes_option
@recipe_option
@transfer_options
@plan_options
@machine_options
@users_errors
def train(dataset: Path, model: Path, plan_file: Path | None, save_every: float, **options: Any) -> None:
    """Train a model; run the same command again to resume it, or with more steps to extend it.

    \b
    Example: delineate train Task09_Spleen spleen --minutes 60
    Example: delineate train Task09_Spleen spleen --hold-out 9 --epochs 500
    Example: delineate train Task09_Spleen spleen --recipe spleen
    Example: delineate train Task09_Spleen spleen --steps 100 --profile
    Example: delineate train Task09_Spleen spleen --from total --freeze encoder --minutes 30
    Example: delineate train Task09_Spleen spleen --batch 4 --processes 2
    Example: delineate train Task09_Spleen prompts --promptable --minutes 60
    """
    promptable = options.pop("promptable")
    if promptable and (options["source"] is not None or options["profile"]):
        raise click.UsageError("--promptable goes with neither --from nor --profile")
    divide_work(options.pop("processes"))
    run = _train_promptable if promptable else _train
    run(dataset, model, plan_file, save_every=save_every, options=options)


def _train_promptable(
    dataset: Path, model: Path, plan_file: Path | None, *, save_every: float, options: dict[str, Any]
) -> None:
    from delineate.dataset import open_dataset
    from delineate.reports.learning_tables import prompting_table
    from delineate.workflow.prompting import train_promptable
    from delineate.workflow.training import Budget

    take_beginning(options)
    options.pop("profile")
    options = follow_recipe(options)
    budget = Budget(*(options.pop(name) for name in ("steps", "epochs", "minutes")))
    division = _division(*(options.pop(name) for name in ("folds", "fold", "hold_out", "test")))
    machine, options = split_options(options)
    chosen = plan_or_options(plan_file, options)
    settings = replace(settings_of(**machine), save_seconds=save_every)
    with open_company(settings.device) as (watch, together):
        made = train_promptable(
            open_dataset(dataset),
            model,
            budget=budget,
            division=division,
            settings=settings,
            plan=chosen,
            watch=watch,
            together=together,
        )
        if made is not None and made[1].structures and together.leads:
            watch.print(prompting_table(made[1].prompts, made[1].structures, seconds=made[1].seconds))
    finished(together, made)
    click.echo(f"Model in {model}. Next: delineate review RESULTS --promptable {model}")


def _train(dataset: Path, model: Path, plan_file: Path | None, *, save_every: float, options: dict[str, Any]) -> None:
    from delineate.dataset import open_dataset
    from delineate.reports.learning_tables import transfer_table
    from delineate.workflow.training import Budget
    from delineate.workflow.training import train as run
    from delineate.workflow.training_run import PLAIN
    from delineate.workflow.transferring import Start, begin_from

    profile = options.pop("profile")
    options = follow_recipe(options)
    budget = Budget(*(options.pop(name) for name in ("steps", "epochs", "minutes")))
    division = _division(*(options.pop(name) for name in ("folds", "fold", "hold_out", "test")))
    beginning = take_beginning(options)
    machine, options = split_options(options)
    chosen = plan_or_options(plan_file, options)
    settings = replace(settings_of(**machine), save_seconds=save_every)
    with open_company(settings.device) as (watch, together):
        opened, start = open_dataset(dataset), Start(chosen, PLAIN, None)
        if together.leads:
            start = begin_from(opened, model, beginning, division=division, settings=settings, plan=chosen, watch=watch)
        if start.record is not None:
            watch.print(transfer_table(start.record))
        trained = run(
            opened,
            model,
            budget=budget,
            division=division,
            settings=settings,
            plan=start.plan,
            course=start.course,
            watch=watch,
            profile=profile,
            together=together,
        )
        if together.leads:
            _show_what_happened(model, watch, profile=profile)
    dice = finished(together, trained).provenance.validation_dice
    click.echo(f"Model in {model}" + ("" if dice is None else f", validation Dice {dice:.3f}"))
    click.echo(f"Curves: {model / 'training' / 'curves.png'}. Next: delineate predict {model} SCANS RESULTS")


def _show_what_happened(model: Path, watch: Any, *, profile: bool) -> None:
    from delineate.reports.run_tables import incident_lines, profile_table
    from delineate.workspace import RunFolder

    folder = RunFolder(model)
    facts, made = folder.facts(), folder.profile() if profile else None
    for line in incident_lines(facts.incidents) if facts is not None else ():
        watch.remark(line)
    if made is not None:
        watch.print(profile_table(made))


def _division(folds: int, fold: str, hold_out: int | None, test: int) -> Any:
    from delineate.workflow.training import Division

    if fold != "all" and not fold.isdecimal():
        raise click.BadParameter(f"expected 0 to {folds - 1}, or all, got {fold!r}", param_hint="--fold")
    return Division(folds=folds, fold=None if fold == "all" else int(fold), hold_out=hold_out, test=test)
