"""The commands that make pictures to be looked at: films, and sheets of many cases."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, cast

import click

from delineate.cli.options import (
    EXISTING,
    PATH,
    SOME_FAILED,
    Numbers,
    complain,
    open_watch,
    say,
    settings_of,
    users_errors,
)

if TYPE_CHECKING:
    from delineate.reports.display import Plane


@click.command()
@click.argument("scan", type=EXISTING)
@click.argument("files", type=PATH, nargs=-1, required=True, metavar="[SEGMENTATION] OUT.gif|OUT.mp4")
@click.option("--rotate", is_flag=True, help="The structures turning, instead of a sweep through the slices.")
@click.option(
    "--plane",
    type=click.Choice(["axial", "coronal", "sagittal"]),
    default="axial",
    show_default=True,
    help="Of slices.",
)
@click.option("--kind", type=click.Choice(["ct", "mr", "pet"]), help="Of a NIfTI scan. [default: its dataset's]")
@users_errors
def film(scan: Path, files: tuple[Path, ...], rotate: bool, plane: str, kind: str | None) -> None:
    """A film of a scan: its slices from feet to head with the structures' outlines, or the structures turning.

    A .gif plays everywhere; an .mp4 is smaller and needs the extra "pictures", and so does --rotate. No display or
    graphics card is needed. For --rotate the segmentation alone will do.

    \b
    Example: delineate film scan.nii.gz results/scan.nii.gz scan.gif
    Example: delineate film results/scan.nii.gz turning.mp4 --rotate
    """
    from delineate.volume import Kind
    from delineate.workflow.picturing import film as run

    if len(files) > 2:
        raise click.UsageError("expected SCAN, perhaps SEGMENTATION, and one file to write")
    drawn = files[0] if len(files) == 2 else None
    known = {"ct": Kind.CT, "mr": Kind.MR, "pet": Kind.PET}
    size = run(
        scan, drawn, files[-1], rotate=rotate, plane=cast("Plane", plane), kind=None if kind is None else known[kind]
    )
    say(f"{files[-1]} ({size / 1e6:.1f} MB)")


@click.command("contact-sheet")
@click.argument("source", type=EXISTING, metavar="DATASET|FOLDER")
@click.argument("output", type=PATH, metavar="OUT.png")
@click.option("--segmentations", type=EXISTING, help="A folder with what to outline, instead of the references.")
@click.option(
    "--per-sheet", type=Numbers(2, int), metavar="NxM", default="6x5", show_default=True, help="Columns and rows."
)
@click.option("--threads", type=click.IntRange(1), help="Processes that read DICOM headers. [default: all CPUs]")
@users_errors
def contact_sheet(
    source: Path, output: Path, segmentations: Path | None, per_sheet: tuple[int, int], threads: int | None
) -> None:
    """All cases of a dataset, of a folder of scans or of results on pictures that one can look through.

    Each case is shown by the slice with the most of its structures. Hundreds of cases make several sheets: out.png,
    out-2.png and so on. A case that cannot be read has its place, with the reason.

    \b
    Example: delineate contact-sheet Task09_Spleen spleen.png
    Example: delineate contact-sheet scans sheet.png --segmentations results
    """
    from delineate.workflow.picturing import contact_sheet as run

    settings = settings_of("cpu", threads, None, None)
    with open_watch() as watch:
        made = run(source, output, segmentations=segmentations, per_sheet=per_sheet, settings=settings, watch=watch)
    for problem in made.problems:
        complain(problem)
    named = str(made.sheets[0]) if len(made.sheets) == 1 else f"{made.sheets[0]} ... {made.sheets[-1].name}"
    say(f"{made.cases} case(s) on {len(made.sheets)} sheet(s): {named}")
    if made.problems:
        sys.exit(SOME_FAILED)
