"""What the commands share: options, exit codes, and one line instead of a traceback."""

from __future__ import annotations

import sys
from collections.abc import Callable, Collection, Sequence
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import click

from delineate.errors import DelineateError

if TYPE_CHECKING:
    from delineate.executors.cluster import Cluster
    from delineate.formats.deidentification.pseudonyms import PseudonymKey
    from delineate.planning import Plan, PlanOptions
    from delineate.settings import Settings

SOME_FAILED, UNUSABLE, STOPPED = 1, 2, 130

PATH = click.Path(path_type=Path)
EXISTING = click.Path(path_type=Path, exists=True)
Command = Callable[..., Any]


class Numbers(click.ParamType[tuple[float, ...]]):
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


class Window(Numbers):
    """Four numbers, or the name of a window that radiologists use, which is brought to 0..1."""

    def __init__(self) -> None:
        super().__init__(4, float)
        self.name = "window"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> tuple[float, ...]:
        from delineate.planning import WINDOWS

        if isinstance(value, str) and value in WINDOWS:
            return (*WINDOWS[value], 0.0, 1.0)
        if isinstance(value, str) and value.isalpha():
            self.fail(f"expected four numbers, or one of {', '.join(WINDOWS)}, got {value!r}", param, ctx)
        return super().convert(value, param, ctx)


class Words(click.ParamType[tuple[str, ...]]):
    """Some words in one, separated by commas: liver,spleen."""

    name = "names"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> tuple[str, ...]:
        if isinstance(value, tuple):
            return value
        return tuple(word for word in (part.strip() for part in str(value).split(",")) if word)


def option_group(*options: Callable[[Command], Command]) -> Callable[[Command], Command]:
    def decorate(command: Command) -> Command:
        for option in reversed(options):
            command = option(command)
        return command

    return decorate


def users_errors(command: Command) -> Command:
    """A user's mistake is one line and exit code 2, never a traceback; nor is a disk's or a network's fault."""

    @wraps(command)
    def run(*args: Any, **kwargs: Any) -> Any:
        try:
            return command(*args, **kwargs)
        except DelineateError as error:
            complain(f"delineate: {error}")
            sys.exit(UNUSABLE)
        except BrokenPipeError:
            raise  # whoever read our output has seen enough: click's business
        except OSError as error:
            where = "" if error.filename is None else f" ({error.filename})"
            complain(f"delineate: {error.strerror or error}{where}")
            sys.exit(UNUSABLE)
        except KeyboardInterrupt:
            complain("delineate: stopped")
            sys.exit(STOPPED)

    return run


def say(text: object) -> None:
    """A line of results. Names in files may hold what would act on a terminal, or is no text."""
    from delineate.reports.tables import printable

    click.echo(printable(str(text)))


def complain(text: object) -> None:
    """A line about what went wrong."""
    from delineate.reports.tables import printable

    click.secho(printable(str(text)), fg="red", err=True)


def warn(text: object) -> None:
    """A line about what people should know of the results."""
    from delineate.reports.tables import printable

    click.secho(printable(str(text)), fg="yellow", err=True)


def leave(failures: Sequence[object], *, written: int, stopped: bool = False) -> NoReturn:
    """End with the exit code of a batch; when it was stopped, say how to go on."""
    if stopped:
        click.echo("Stopped. Run the same command to go on.")
        sys.exit(STOPPED)
    sys.exit(0 if not failures else SOME_FAILED if written else UNUSABLE)


def open_watch() -> Any:
    from delineate.reports.progress import watching

    return watching()


def settings_of(device: str, threads: int | None, memory_gb: float | None, cache: Path | None) -> Settings:
    from delineate.settings import detect

    return detect(device, threads=threads, memory_gb=memory_gb, cache=cache)


machine_options = option_group(
    click.option("--device", default="auto", show_default=True, help="cpu, cuda, cuda:1, mps."),
    click.option("--threads", type=click.IntRange(1), help="CPU threads. [default: all]"),
    click.option("--memory-gb", type=float, help="Memory to plan for. [default: 3/4 of what is free]"),
    click.option("--cache", type=PATH, help="Where prepared cases are kept. [default: your cache folder]"),
)
cluster_option = click.option(
    "--cluster",
    metavar="ADDRESS",
    help="Work on a Ray cluster that sees the same folders: ray (this machine's), HOST:6379, or ray://HOST:10001. "
    "Each piece of work takes --threads CPUs, --memory-gb if given, and a GPU with --device cuda.",
)
key_option = click.option(
    "--deidentify",
    "key_file",
    type=PATH,
    metavar="KEYFILE",
    help="Use pseudonyms and UIDs of this key file, made where there is none. Keep it apart from the result.",
)
scan_options = option_group(
    click.option("--threads", type=click.IntRange(1), help="Processes that read headers. [default: all CPUs]"),
    click.option("--cache", type=PATH, help="Where headers are kept. [default: your cache folder]"),
)
plan_options = option_group(
    click.option(
        "--architecture", default="nnunet", show_default=True, help="Or unet, residual_unet, nnunet_res, vnet."
    ),
    click.option(
        "--like",
        "conventions",
        type=click.Choice(["delineate", "nnunet"]),
        default="delineate",
        show_default=True,
        help="Whose way scans are prepared. A model like nnunet can be exported to nnU-Net and be the same there.",
    ),
    click.option("--dimensions", type=click.Choice(["2", "3"]), default="3", show_default=True),
    click.option(
        "--preset",
        type=click.Choice(["quick", "balanced", "best"]),
        help="Plan for about 10 minutes, an hour or 12 hours of training on this machine.",
    ),
    click.option("--orientation", help="Where array axes point to. [default: RAS; in 2D slices lie in the first two]"),
    click.option("--spacing", "spacing_mm", type=Numbers(3, float), help="In mm, e.g. 1.5,1.5,2 (pixdim)."),
    click.option("--patch", "patch_size", type=Numbers(3, int), help="Patch in voxels, e.g. 96x96x96 (roi)."),
    click.option("--resize-to", type=Numbers(3, int), help="Resize every case to this shape instead of a spacing."),
    click.option(
        "--window",
        type=Window(),
        help="a_min,a_max,b_min,b_max, e.g. -57,164,0,1; or abdomen, bone, brain, liver, lung, mediastinum (CT).",
    ),
    click.option(
        "--region",
        "regions",
        multiple=True,
        metavar="NAME=LABEL,...",
        help="Unite labels into a structure that may overlap others, e.g. whole=1,2,3 (once a region).",
    ),
    click.option("--crop/--no-crop", "crop_foreground", default=True, help="Crop to the patient. [default: crop]"),
    click.option("--features", type=Numbers(None, int), help="Channels a level, e.g. 16,32,64,128,256."),
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
        "--balance",
        type=click.FloatRange(0, 1),
        help="Draw rare structures more often: 0 as cases come, 1 all equally often. [default: where some are rare]",
    ),
    click.option(
        "--off-centre",
        type=click.FloatRange(0, 1),
        help="How far from a patch's centre a structure may lie that it shows. [default: 0.5 for tiny ones]",
    ),
    click.option(
        "--annotators",
        type=click.Choice(["first", "sample", "majority", "staple"]),
        default="first",
        show_default=True,
        help="Of several readers (labelsTr, labelsTr_2, ...): the first, one of them a patch, or what they come to.",
    ),
    click.option(
        "--channel-dropout",
        type=click.FloatRange(0, 1, max_open=True),
        default=0.0,
        show_default=True,
        help="Probability that a channel is taken away in a patch, so that the model can do without it.",
    ),
    click.option(
        "--missing-labels",
        type=click.Choice(["absent", "unknown"]),
        default="absent",
        show_default=True,
        help="A structure that is not in a reference: not in the patient, or not drawn?",
    ),
    click.option(
        "--loss",
        type=click.Choice(["dice", "dice_ce"]),
        default="dice_ce",
        show_default=True,
    ),
    click.option("--optimiser", type=click.Choice(["adam", "adamw", "sgd"]), default="adamw", show_default=True),
    click.option("--learning-rate", type=float),
    click.option("--precision", type=click.Choice(["float32", "bfloat16", "float16"]), help="[default: by device]"),
    click.option("--mirror/--no-mirror", default=True, help="In prediction, where training flips. [default: mirror]"),
    click.option(
        "--validations",
        type=click.IntRange(1),
        default=10,
        show_default=True,
        help="Of a run; with 1 only the last weights are scored, so that no score is of a chosen checkpoint.",
    ),
    click.option("--seed", type=int, default=0, show_default=True),
)


def plan_options_of(values: dict[str, Any]) -> PlanOptions:
    import msgspec

    from delineate.errors import PlanError
    from delineate.planning import PlanOptions

    values = values | {"dimensions": int(values["dimensions"])}
    try:
        return msgspec.convert(values, PlanOptions)
    except msgspec.ValidationError as error:
        raise PlanError("an option of the plan is wrong", got=str(error)) from error


def given_options() -> frozenset[str]:
    """The names of the running command's parameters that are on the command line."""
    context = click.get_current_context()
    from_line = click.core.ParameterSource.COMMANDLINE
    return frozenset(name for name in context.params if context.get_parameter_source(name) is from_line)


def plan_or_options(plan_file: Path | None, options: dict[str, Any]) -> Plan | PlanOptions:
    """The plan in a file; else the options to make one with. Raises `UsageError` for such options beside a file."""
    if plan_file is None:
        return plan_options_of(options)
    from delineate.planning import plan_from_json

    refuse_plan_options(options, "--plan")
    return plan_from_json(plan_file.read_bytes())


def refuse_plan_options(options: Collection[str], beside: str) -> None:
    """Raises `UsageError` if one of these options, which are to make a plan with, is on the command line."""
    parameters = click.get_current_context().command.params
    given = [one.opts[0] for one in parameters if one.name in given_options() and one.name in options]
    if given:
        raise click.UsageError(f"{beside} says all of the plan; {', '.join(given)} would change nothing: edit the file")


def key_of(key_file: Path | None) -> PseudonymKey | None:
    from delineate.formats.deidentification.pseudonyms import load_or_make_key

    return None if key_file is None else load_or_make_key(key_file)


def cluster_of(address: str | None, settings: Settings, memory_gb: float | None) -> Cluster | None:
    from delineate.executors.cluster import Cluster, check_address

    if address is None:
        return None
    memory_bytes = None if memory_gb is None else settings.memory_bytes
    cluster = Cluster(address, settings.threads, int(settings.device.startswith("cuda")), memory_bytes)
    check_address(cluster)
    return cluster


def split_options(options: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    machine = {name: options.pop(name) for name in ("device", "threads", "memory_gb", "cache")}
    return machine, options
