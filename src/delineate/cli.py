"""The command line: `delineate COMMAND`. It reads options, shows progress and results, and decides nothing."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import replace
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from delineate.errors import DelineateError

if TYPE_CHECKING:
    from delineate.planning import PlanOptions
    from delineate.settings import Settings

SOME_FAILED, UNUSABLE, STOPPED = 1, 2, 130

PATH = click.Path(path_type=Path)
EXISTING = click.Path(path_type=Path, exists=True)
Command = Callable[..., Any]


class _Numbers(click.ParamType[tuple[float, ...]]):
    """So many numbers (None: any) in one word, separated by commas or x: 1.5,1.5,2 or 96x96x96."""

    def __init__(self, count: int | None, kind: type[int] | type[float]) -> None:
        self.name = ",".join([kind.__name__] * (count or 1)) + ("" if count else ",...")
        self._count, self._kind = count, kind

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> tuple[float, ...]:
        if isinstance(value, tuple):
            return value
        try:
            numbers = tuple(self._kind(part) for part in str(value).replace("x", ",").split(","))
        except ValueError:
            numbers = ()
        if len(numbers) != (self._count or len(numbers) or 1):
            self.fail(f"expected {self._count or 'some'} numbers such as {self.name}, got {value!r}", param, ctx)
        return numbers


def _options(*options: Callable[[Command], Command]) -> Callable[[Command], Command]:
    def decorate(command: Command) -> Command:
        for option in reversed(options):
            command = option(command)
        return command

    return decorate


def _users_errors(command: Command) -> Command:
    """A user's mistake is one line and exit code 2, never a traceback."""

    @wraps(command)
    def run(*args: Any, **kwargs: Any) -> Any:
        try:
            return command(*args, **kwargs)
        except DelineateError as error:
            click.secho(f"delineate: {error}", fg="red", err=True)
            sys.exit(UNUSABLE)
        except KeyboardInterrupt:
            click.secho("delineate: stopped", fg="red", err=True)
            sys.exit(STOPPED)

    return run


def _watch() -> Any:
    from delineate.reports.progress import watching

    return watching()


def _settings(device: str, threads: int | None, memory_gb: float | None, cache: Path | None) -> Settings:
    from delineate.settings import detect

    return detect(device, threads=threads, memory_gb=memory_gb, cache=cache)


machine_options = _options(
    click.option("--device", default="auto", show_default=True, help="cpu, cuda, cuda:1, mps."),
    click.option("--threads", type=click.IntRange(1), help="CPU threads. [default: all]"),
    click.option("--memory-gb", type=float, help="Memory to plan for. [default: 3/4 of what is free]"),
    click.option("--cache", type=PATH, help="Where prepared cases are kept. [default: your cache folder]"),
)
plan_options = _options(
    click.option(
        "--architecture", default="nnunet", show_default=True, help="Or unet, residual_unet, nnunet_res, vnet."
    ),
    click.option("--dimensions", type=click.Choice(["2", "3"]), default="3", show_default=True),
    click.option("--orientation", default="RAS", show_default=True, help="Where array axes point to."),
    click.option("--spacing", "spacing_mm", type=_Numbers(3, float), help="In mm, e.g. 1.5,1.5,2 (pixdim)."),
    click.option("--patch", "patch_size", type=_Numbers(3, int), help="Patch in voxels, e.g. 96x96x96 (roi)."),
    click.option("--resize-to", type=_Numbers(3, int), help="Resize every case to this shape instead of a spacing."),
    click.option("--window", type=_Numbers(4, float), help="a_min,a_max,b_min,b_max, e.g. -57,164,0,1."),
    click.option("--crop/--no-crop", "crop_foreground", default=True, help="Crop to the patient. [default: crop]"),
    click.option("--features", type=_Numbers(None, int), help="Channels a level, e.g. 16,32,64,128,256."),
    click.option("--batch", "batch_size", type=click.IntRange(1), help="Patches a step."),
    click.option(
        "--samples", "samples_per_image", type=click.IntRange(1), default=4, show_default=True, help="Patches an image."
    ),
    click.option(
        "--positive",
        "positive_fraction",
        type=click.FloatRange(0, 1),
        help="Share of patches on a structure. [default: 0.5, i.e. 1:1]",
    ),
    click.option(
        "--missing-labels",
        type=click.Choice(["absent", "unknown"]),
        default="absent",
        show_default=True,
        help="A structure that is not in a reference: not in the patient, or not drawn?",
    ),
    click.option("--loss", type=click.Choice(["dice", "dice_ce"]), default="dice_ce", show_default=True),
    click.option("--optimiser", type=click.Choice(["adam", "adamw", "sgd"]), default="adamw", show_default=True),
    click.option("--learning-rate", type=float),
    click.option("--precision", type=click.Choice(["float32", "bfloat16", "float16"]), help="[default: by device]"),
    click.option("--mirror/--no-mirror", default=True, help="In prediction, where training flips. [default: mirror]"),
    click.option("--seed", type=int, default=0, show_default=True),
)


def _plan_options(values: dict[str, Any]) -> PlanOptions:
    import msgspec

    from delineate.errors import PlanError
    from delineate.planning import PlanOptions

    values = values | {"dimensions": int(values["dimensions"])}
    try:
        return msgspec.convert(values, PlanOptions)
    except msgspec.ValidationError as error:
        raise PlanError("an option of the plan is wrong", got=str(error)) from error


def _split_options(options: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    machine = {name: options.pop(name) for name in ("device", "threads", "memory_gb", "cache")}
    return machine, options


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(package_name="delineate")
def main() -> None:
    """Segment 3D medical scans: from DICOM or NIfTI to a trained model, and back to results in the scan's geometry.

    \b
    delineate check   DATASET                    is the dataset sound?
    delineate train   DATASET MODEL --minutes 20 train a model
    delineate predict MODEL SCANS RESULTS        segment scans
    delineate evaluate REFERENCES RESULTS        score them
    """


@main.command()
@click.argument("folder", type=PATH)
@click.option("--patients", type=click.IntRange(4), default=26, show_default=True)
@click.option("--test", type=click.IntRange(1), default=6, show_default=True, help="Patients held out and scored.")
@click.option("--minutes", type=float, default=7.0, show_default=True, help="Training time.")
@click.option("--seed", type=int, default=0, show_default=True)
@machine_options
@_users_errors
def demo(folder: Path, patients: int, test: int, minutes: float, seed: int, **machine: Any) -> None:
    """The whole way on synthetic patients: DICOM, check, plan, train, predict, evaluate, a page to look at.

    \b
    Example: delineate demo demo
    """
    from delineate.reports.tables import problems_table, scores_table
    from delineate.workflow.demo import run_demo

    with _watch() as watch:
        result = run_demo(
            folder, patients=patients, test=test, minutes=minutes, seed=seed, settings=_settings(**machine), watch=watch
        )
        watch.print(problems_table(result.problems))
        watch.print(scores_table(result.scores, title=f"Scores on {test} held-out patients"))
    click.echo(result.words)


@main.command()
@click.argument("folder", type=PATH)
@click.option("--patients", type=click.IntRange(1), default=10, show_default=True)
@click.option("--seed", type=int, default=0, show_default=True, help="The first patient's seed.")
@click.option("--dicom/--no-dicom", default=True, help="Also write DICOM series. [default: dicom]")
@_users_errors
def phantom(folder: Path, patients: int, seed: int, dicom: bool) -> None:
    """Make a dataset of synthetic abdominal CT with exact labels.

    \b
    Example: delineate phantom cohort --patients 10
    """
    from delineate.workflow.demo import write_cohort

    with _watch() as watch:
        cohort = write_cohort(folder, patients=patients, seed=seed, with_dicom=dicom, watch=watch)
    click.echo(f"{len(cohort.cases)} patients in {folder}. Next: delineate check {folder}")


@main.command()
@click.argument("source", type=EXISTING)
@click.argument("target", type=PATH)
@_users_errors
def convert(source: Path, target: Path) -> None:
    """A DICOM series to NIfTI (TARGET ends in .nii.gz), or NIfTI to a DICOM CT or MR series (TARGET is a folder).

    \b
    Example: delineate convert series/ scan.nii.gz
    Example: delineate convert scan.nii.gz series/ct
    """
    from delineate.workflow.converting import convert as run

    click.echo(run(source, target))


@main.command()
@click.argument("dataset", type=EXISTING)
@click.option("--previews", type=PATH, help="Draw cases into this folder.")
@click.option("--most", type=click.IntRange(1), default=12, show_default=True, help="Cases to draw.")
@machine_options
@_users_errors
def check(dataset: Path, previews: Path | None, most: int, **machine: Any) -> None:
    """List every problem of a dataset (Decathlon or nnU-Net layout) in one table; exit with 1 if one is an error.

    \b
    Example: delineate check Task09_Spleen --previews previews
    """
    from delineate.dataset import open_dataset
    from delineate.reports.tables import problems_table
    from delineate.workflow.checking import check as run

    opened = open_dataset(dataset)
    with _watch() as watch:
        report = run(
            opened,
            folder=dataset if dataset.is_dir() else None,
            previews=previews,
            most_previews=most,
            settings=_settings(**machine),
            watch=watch,
        )
        watch.print(problems_table(report.problems))
    click.echo(f"{opened.name}: {len(opened.cases)} cases, {len(opened.labels)} structures")
    if previews is not None:
        click.echo(f"{len(report.previews)} previews in {previews}")
    sys.exit(SOME_FAILED if report.errors else 0)


@main.command()
@click.argument("dataset", type=EXISTING)
@click.option("-o", "--output", type=PATH, help="Write the plan here, to edit and to train with. [default: show it]")
@plan_options
@machine_options
@_users_errors
def plan(dataset: Path, output: Path | None, **options: Any) -> None:
    """Plan the training of a dataset, and say what a step will take on this machine.

    \b
    Example: delineate plan Task09_Spleen -o plan.json
    Example: delineate plan Task09_Spleen --spacing 1.5,1.5,2 --patch 96x96x96 --window -57,164,0,1
    """
    from delineate.dataset import open_dataset
    from delineate.files import write_text
    from delineate.planning import plan_to_json, training_bytes
    from delineate.workflow.preparing import plan_dataset
    from delineate.workflow.training import time_step

    machine, options = _split_options(options)
    settings, opened = _settings(**machine), open_dataset(dataset)
    with _watch() as watch:
        made = plan_dataset(opened, settings, _plan_options(options), watch=watch)
        seconds = time_step(opened, made, settings)
    if output is None:
        click.echo(plan_to_json(made))
    else:
        write_text(output, plan_to_json(made))
        click.echo(f"Plan in {output}")
    for reason in made.reasons:
        click.echo(f"- {reason}")
    click.echo(
        f"One step on this machine: about {training_bytes(made) / 1e9:.1f} GB, {seconds:.2f} s "
        f"({made.training.steps} steps: {made.training.steps * seconds / 60:.0f} minutes)"
    )


@main.command()
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
@plan_options
@machine_options
@_users_errors
def train(dataset: Path, model: Path, plan_file: Path | None, save_every: float, **options: Any) -> None:
    """Train a model; run the same command again to resume it, or with more steps to extend it.

    \b
    Example: delineate train Task09_Spleen spleen --minutes 60
    Example: delineate train Task09_Spleen spleen --hold-out 9 --epochs 500
    """
    from delineate.dataset import open_dataset
    from delineate.planning import plan_from_json
    from delineate.workflow.training import Budget
    from delineate.workflow.training import train as run

    budget = Budget(*(options.pop(name) for name in ("steps", "epochs", "minutes")))
    division = _division(*(options.pop(name) for name in ("folds", "fold", "hold_out", "test")))
    machine, options = _split_options(options)
    chosen = plan_from_json(plan_file.read_bytes()) if plan_file else _plan_options(options)
    settings, opened = replace(_settings(**machine), save_seconds=save_every), open_dataset(dataset)
    with _watch() as watch:
        trained = run(opened, model, budget=budget, division=division, settings=settings, plan=chosen, watch=watch)
    if trained is None:
        click.echo("Stopped. Run the same command to go on.")
        sys.exit(STOPPED)
    dice = trained.provenance.validation_dice
    click.echo(f"Model in {model}" + ("" if dice is None else f", validation Dice {dice:.3f}"))
    click.echo(f"Curves: {model / 'training' / 'curves.png'}. Next: delineate predict {model} SCANS RESULTS")


def _division(folds: int, fold: str, hold_out: int | None, test: int) -> Any:
    from delineate.workflow.training import Division

    if fold != "all" and not fold.isdecimal():
        raise click.BadParameter(f"expected 0 to {folds - 1}, or all, got {fold!r}", param_hint="--fold")
    return Division(folds=folds, fold=None if fold == "all" else int(fold), hold_out=hold_out, test=test)


@main.command()
@click.argument("model", type=EXISTING)
@click.argument("source", type=EXISTING)
@click.argument("output", type=PATH)
@click.option("--overlap", type=click.FloatRange(0, 0.9), help="Of neighbouring windows. [default: the plan's, 0.5]")
@click.option("--mirror/--no-mirror", default=None, help="Average over mirrored scans. [default: the plan's]")
@click.option("--probabilities", is_flag=True, help="Also write one probability map a structure.")
@click.option("--figures", is_flag=True, help="Also draw each result.")
@click.option("--references", type=EXISTING, help="Label maps to draw beside the results.")
@click.option("--largest", multiple=True, metavar="LABEL", help="Keep a structure's largest component only.")
@click.option("--smallest-ml", type=float, default=0.0, help="Drop components smaller than this.")
@click.option("--again", is_flag=True, help="Segment also what is there already.")
@machine_options
@_users_errors
def predict(model: Path, source: Path, output: Path, **options: Any) -> None:
    """Segment a file, a folder of NIfTI files, a DICOM series, or a tree of them.

    \b
    Example: delineate predict spleen imagesTs results --figures
    Example: delineate predict spleen /archive/patient1/CT results
    """
    from delineate.model import load_model, with_tiling
    from delineate.workflow.predicting import PredictionOptions, rules_for
    from delineate.workflow.predicting import predict as run

    machine, options = _split_options(options)
    loaded = with_tiling(load_model(model), overlap=options.pop("overlap"), mirror=options.pop("mirror"))
    rules = rules_for(loaded, largest=options.pop("largest"), smallest_ml=options.pop("smallest_ml"))
    with _watch() as watch:
        result = run(
            loaded,
            source,
            output,
            settings=_settings(**machine),
            options=PredictionOptions(**options, rules=rules),
            watch=watch,
        )
    kept = f", {len(result.kept)} were there already" if result.kept else ""
    click.echo(f"{len(result.written)} segmented into {output}{kept}")
    for failure in result.failures:
        click.secho(f"failed: {failure.error}", fg="red", err=True)
    if result.stopped:
        click.echo("Stopped. Run the same command to go on.")
        sys.exit(STOPPED)
    nothing_done = result.failures and not (result.written or result.kept)
    sys.exit(UNUSABLE if nothing_done else SOME_FAILED if result.failures else 0)


@main.command()
@click.argument("references", type=EXISTING)
@click.argument("predictions", type=EXISTING)
@click.option("-o", "--output", type=PATH, help="Folder for scores.json and scores.csv. [default: PREDICTIONS]")
@click.option("--tolerance-mm", type=click.FloatRange(0), default=2.0, show_default=True, help="Of surface Dice.")
@click.option("--threads", type=click.IntRange(1))
@_users_errors
def evaluate(
    references: Path, predictions: Path, output: Path | None, tolerance_mm: float, threads: int | None
) -> None:
    """Score predictions against references, per case and structure.

    REFERENCES is a file, a folder of label maps, or a dataset. A structure that was missed altogether counts as a miss.

    \b
    Example: delineate evaluate Task09_Spleen results
    """
    from delineate.reports.tables import scores_table, sides_table
    from delineate.workflow.evaluating import evaluate as run

    with _watch() as watch:
        result = run(
            references,
            predictions,
            output=output,
            tolerance_mm=tolerance_mm,
            settings=_settings("cpu", threads, None, None),
            watch=watch,
        )
        watch.print(scores_table(result.rows, title=f"Scores of {result.cases} cases"))
        if result.swaps:
            watch.print(sides_table(result.swaps))
    click.echo(f"{result.scores} and {result.table}")
    for problem in result.problems:
        click.secho(problem, fg="red", err=True)
    sys.exit(SOME_FAILED if result.problems else 0)


if __name__ == "__main__":
    main()
