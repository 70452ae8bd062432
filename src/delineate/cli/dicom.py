"""The commands for DICOM: what a tree holds, scans in and out, groups of slices, de-identification."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from delineate.cli.options import (
    EXISTING,
    PATH,
    SOME_FAILED,
    complain,
    key_of,
    key_option,
    leave,
    open_watch,
    say,
    scan_options,
    settings_of,
    users_errors,
)

if TYPE_CHECKING:
    from delineate.settings import Settings
    from delineate.workflow.importing import ImportRun

_MOST_SHOWN = 5
REPAIRS = click.Choice(["none", "straighten", "interpolate"])
repair_option = click.option(
    "--repair",
    type=REPAIRS,
    default="straighten",
    show_default=True,
    help="Gantry tilt is straightened; 'interpolate' also fills missing slices and evens out uneven steps.",
)


@click.command()
@click.argument("tree", type=EXISTING)
@click.option("--json", "json_file", type=PATH, help="Also write the report here, with the files of each volume.")
@click.option("--index", type=PATH, help="Keep the headers in this file. [default: in the cache folder]")
@repair_option
@scan_options
@users_errors
def scan(tree: Path, json_file: Path | None, index: Path | None, repair: str, **machine: Any) -> None:
    """List what a folder, a DICOMDIR or a ZIP archive of DICOM holds, what is wrong with it, and what becomes of it.

    Stopped, it goes on where it was; again, it reads only what has changed. Exit with 1 if something is refused,
    unreadable or missing. The list and the JSON name patients as the files do: they are for your eyes.

    \b
    Example: delineate scan archive --json archive.json
    """
    from delineate.files import write_text
    from delineate.formats import Repair
    from delineate.reports.tables import series_table
    from delineate.workflow.scan_reports import report_to_json
    from delineate.workflow.scanning import scan as run

    with open_watch() as watch:
        report = run(tree, settings=_scan_settings(machine), index=index, repair=Repair(repair), watch=watch)
        if report.rows:
            watch.print(series_table(report.rows, title=str(tree)))
    if report.stopped:
        leave((), written=0, stopped=True)
    for line in report.problems:
        complain(line)
    say(report.summary)
    if json_file is not None:
        write_text(json_file, report_to_json(report))
    sys.exit(0 if report.sound else SOME_FAILED)


def _scan_settings(machine: dict[str, Any]) -> Settings:
    return settings_of("cpu", machine["threads"], None, machine["cache"])


@click.command()
@click.argument("source", type=EXISTING)
@click.argument("target", type=PATH)
@repair_option
@key_option
@click.option("--onto", type=EXISTING, help="A scan (NIfTI or DICOM) on whose grid the result shall lie.")
@click.option(
    "--labels/--no-labels", default=None, help="Whether SOURCE is a label map, whose labels --onto never mixes."
)
@click.option("--again", is_flag=True, help="Convert also what is there already, and write over what has the name.")
@scan_options
@users_errors
def convert(
    source: Path,
    target: Path,
    repair: str,
    key_file: Path | None,
    onto: Path | None,
    labels: bool | None,
    again: bool,
    **machine: Any,
) -> None:
    """DICOM to NIfTI and back, and one scan onto the grid of another.

    A series becomes TARGET.nii.gz with the decisions beside it in TARGET.json; every volume of a tree, a ZIP archive or
    a DICOMDIR a file in the folder TARGET; a NIfTI file a DICOM CT or MR series in the folder TARGET. What was
    converted before is kept; what has changed is done again.

    \b
    Example: delineate convert archive/p1/CT scan.nii.gz
    Example: delineate convert archive scans --repair interpolate
    Example: delineate convert scan.nii.gz series
    Example: delineate convert pet.nii.gz pet_on_ct.nii.gz --onto ct.nii.gz
    """
    from delineate.formats import Repair, read_grid
    from delineate.workflow.converting import ConvertOptions
    from delineate.workflow.converting import convert as run

    grid = None if onto is None else read_grid(onto)
    options = ConvertOptions(Repair(repair), key_of(key_file), again, grid, labels)
    with open_watch() as watch:
        result = run(source, target, options, settings=_scan_settings(machine), watch=watch)
    for line in (*result.lines, *result.skipped):
        say(line)
    if result.kept:
        say(f"{result.kept} there already, of the same files by the same options")
    for line in (*result.problems, *(f"failed: {failure.case}: {failure.error}" for failure in result.failures)):
        complain(line)
    leave((*result.failures, *result.problems), written=len(result.lines) + result.kept, stopped=result.stopped)


@click.command("import")
@click.argument("tree", type=EXISTING)
@click.argument("dataset", type=PATH)
@click.option("--channel", "channels", multiple=True, help="CT, PT, MR, NAME=MR or NAME=MR:PATTERN. [default: CT]")
@click.option("--label", "labels", multiple=True, help="NAME or NAME=PATTERN. [default: every region by its own name]")
@click.option("--names", "table", type=EXISTING, help="A table of region names: the names.csv of an import, edited.")
@click.option("--overlap", type=click.Choice(["refuse", "later"]), default="refuse", show_default=True)
@click.option("--key", "key_file", type=PATH, help="For patients' pseudonyms. [default: DATASET.key.json]")
@click.option("--deidentify", is_flag=True, help="Also map the UIDs in the records by the key.")
@click.option("--again", is_flag=True, help="Import also what is there already.")
@repair_option
@scan_options
@users_errors
def import_(tree: Path, dataset: Path, key_file: Path | None, **options: Any) -> None:
    """Make a dataset of a tree of DICOM: series as images, SEG and RTSTRUCT as labels.

    The first channel gives the grid, the others are brought onto it. Structures are mapped onto labels by their names;
    names that fit none are listed, and DATASET/names.csv can be edited and given back with --names. PATTERN is a
    regular expression: for a series' description, or a structure's name in lower case. DATASET/imports says how each
    case came to be.

    \b
    Example: delineate import archive liver --label liver --label "tumour=(gtv|lesion).*"
    Example: delineate import archive sarcoma --channel CT --channel PT --label "tumour=gtv.*"
    """
    from delineate.workflow.import_options import import_options
    from delineate.workflow.importing import import_tree, patients_of
    from delineate.workflow.scanning import scan as scan_tree

    settings = _scan_settings({name: options.pop(name) for name in ("threads", "cache")})
    chosen = import_options(**options)
    with open_watch() as watch:
        report = scan_tree(tree, settings=settings, repair=chosen.repair, watch=watch)
        if report.stopped:
            leave((), written=0, stopped=True)
        run = import_tree(patients_of(report), dataset, chosen, key_file=key_file, watch=watch)
    for line in (*report.problems, *(f"failed: {failure.error}" for failure in run.failures)):
        complain(line)
    _say_import(run, dataset)
    leave((*run.failures, *report.problems), written=run.labelled + len(run.unlabelled), stopped=run.stopped)


def _say_import(run: ImportRun, dataset: Path) -> None:
    kept = f" ({run.kept} there already)" if run.kept else ""
    say(f"{run.labelled} cases with labels, {len(run.unlabelled)} without{kept}, in {dataset}")
    if run.dataset is not None:
        say(f"labels: {', '.join(f'{label.value} {label.name}' for label in run.dataset.labels)}")
    for name, count in sorted(run.unmapped.items()):
        say(f"not mapped onto a label: {name} ({count} case(s))")
    for path in run.unused[:_MOST_SHOWN]:
        say(f"labels that no case took: {path}")
    if len(run.unused) > _MOST_SHOWN:
        say(f"and {len(run.unused) - _MOST_SHOWN} more objects whose labels no case took")
    if run.unmapped:
        say(f"To map them: edit {dataset / 'names.csv'}, and run again with --names {dataset / 'names.csv'}")
    if run.dataset is not None:
        say(f"Next: delineate check {dataset}")
    elif run.unlabelled:
        say(f"Next: delineate predict MODEL {dataset / 'imagesTs'} RESULTS")


@click.command()
@click.argument("segmentation", type=EXISTING)
@click.argument("series", type=EXISTING)
@click.argument("output", type=PATH)
@click.option("--to", "kinds", multiple=True, help="A format; may be repeated. [default: seg, rtstruct]")
@click.option("--labels", "label_file", type=EXISTING, help="A dataset.json. [default: the JSON beside SEGMENTATION]")
@click.option("--smooth", type=click.IntRange(0), default=0, show_default=True, help="Rounds of smoothing of surfaces.")
@click.option("--simplify", type=click.FloatRange(0, 0.99), default=0.0, help="Share of triangles to take away.")
@repair_option
@key_option
@users_errors
def export(segmentation: Path, series: Path, output: Path, **options: Any) -> None:
    """A label map as DICOM SEG, RTSTRUCT, SR, NRRD or surfaces, linked to the DICOM series that was segmented.

    Each file is read back and compared in the patient's space before it gets its name; OUTPUT/NAME.proof.json says how
    it agreed. Formats: nifti, nrrd, masks, seg, labelmap-seg, rtstruct, stl, obj, glb, 3mf, and sr
    (after seg).

    \b
    Example: delineate export results/p1.nii.gz archive/p1/CT out --to seg --to rtstruct --to glb
    """
    from delineate.formats.exporters import ExportOptions
    from delineate.workflow.exporting import export_file

    surfaces = ExportOptions(smooth=options.pop("smooth"), simplify=options.pop("simplify"))
    key = key_of(options.pop("key_file"))
    kinds = options.pop("kinds") or ("seg", "rtstruct")
    with open_watch() as watch:
        files = export_file(segmentation, series, output, kinds, options=surfaces, key=key, watch=watch, **options)
    for path in files:
        say(path)


@click.command()
@click.argument("series", type=EXISTING)
@click.argument("output", type=PATH)
@click.option("--slices", type=click.IntRange(3), default=65, show_default=True, help="Slices a group.")
@users_errors
def group(series: Path, output: Path, slices: int) -> None:
    """A series as groups of consecutive slices, each a valid series; the last one overlaps the one before.

    \b
    Example: delineate group archive/p1/CT groups --slices 65
    """
    from delineate.workflow.grouping import group as run

    with open_watch() as watch:
        made = run(series, output, slices=slices, watch=watch)
    say(f"{made.summary}, in {output}")


@click.command()
@click.argument("groups", type=EXISTING)
@click.argument("segmentations", type=EXISTING)
@click.argument("target", type=PATH)
@click.option("--again", is_flag=True, help="Write over what has the name.")
@users_errors
def ungroup(groups: Path, segmentations: Path, target: Path, again: bool) -> None:
    """Segmentations of the groups (01.nii.gz, 02.nii.gz, ...) put together on the series' own grid, exactly.

    \b
    Example: delineate ungroup groups results p1.nii.gz
    """
    from delineate.workflow.grouping import ungroup as run

    joined = run(groups, segmentations, target, again=again)
    say(f"{target}: overlapping groups disagree on {joined.disagreeing_voxels} voxels")


@click.command()
@click.argument("tree", type=EXISTING)
@click.argument("output", type=PATH)
@click.option("--key", "key_file", type=PATH, required=True, help="The key file, made where there is none.")
@click.option("--dates", type=click.Choice(["remove", "shift"]), default="remove", show_default=True)
@click.option("--retain", multiple=True, type=click.Choice(["patient-characteristics", "device-identity"]))
@click.option("--accept-pixels", is_flag=True, help="Take objects whose pixels may hold text: you have looked at them.")
@users_errors
def deidentify(tree: Path, output: Path, key_file: Path, dates: str, **options: Any) -> None:
    """DICOM objects without what tells who they are about, by the basic profile of DICOM PS3.15.

    The same key gives the same pseudonyms and UIDs in every run, so that references between objects still meet. Text in
    the pixels is not looked for: objects where it is likely are refused.

    \b
    Example: delineate deidentify archive shared --key project.key.json
    """
    from delineate.formats.deidentification.deidentify import Dates, DeidentifyOptions
    from delineate.formats.deidentification.profile import Retain
    from delineate.formats.deidentification.pseudonyms import load_or_make_key
    from delineate.formats.deidentification.screening import Pixels
    from delineate.workflow.deidentifying import deidentify_tree

    chosen = DeidentifyOptions(
        dates=Dates(dates),
        retain=frozenset(Retain[word.upper().replace("-", "_")] for word in options["retain"]),
        pixels=Pixels.ACCEPT if options["accept_pixels"] else Pixels.REFUSE,
    )
    with open_watch() as watch:
        summary = deidentify_tree(tree, output, load_or_make_key(key_file), options=chosen, watch=watch)
    for failure in summary.failures:
        complain(f"left out: {failure.path}: {failure.reason}")
    say(f"{summary.text}, in {output}")
    sys.exit(SOME_FAILED if summary.failures else 0)
