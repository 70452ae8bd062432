"""The command that measures structures and lesions."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from delineate.cli.options import (
    EXISTING,
    PATH,
    Numbers,
    Words,
    complain,
    leave,
    open_watch,
    option_group,
    say,
    settings_of,
    users_errors,
    warn,
)

if TYPE_CHECKING:
    from delineate.measurement.scan_findings import MeasureOptions
    from delineate.workflow.quantifying import MeasureRequest

measured_options = option_group(
    click.option("--kind", type=click.Choice(["ct", "mr", "pet"]), help="Of a NIfTI scan. [default: its dataset's]"),
    click.option(
        "--labels", "label_file", type=EXISTING, help="A dataset.json. [default: what lies near SEGMENTATION]"
    ),
    click.option("--structures", type=Words(), default=(), help="Measure only these, and lesions. [default: all]"),
    click.option("--lesions", type=Words(), default=(), help="Structures that are lesions. [default: by their names]"),
    click.option("--smallest-ml", type=click.FloatRange(0), default=0.05, show_default=True, help="Of lesions listed."),
    click.option("--to", type=Words(), default=(), help="Distances of lesions to these. [default: to all structures]"),
    click.option("--variants", type=EXISTING, multiple=True, help="Another result for the scan; may be repeated."),
    click.option(
        "--no-variants", is_flag=True, help="Give no ranges, though `predict --variants` wrote results for it."
    ),
    click.option("--organ", type=Words(), default=(), help="What is to be resected; several make up one organ."),
    click.option("--plane", type=Numbers(6, float), help="A point in mm (LPS), a direction to what is kept."),
    click.option("--margin-mm", type=click.FloatRange(0), help="Taken away around lesions."),
    click.option("--remove", type=Words(), default=(), help="Parts of --organ that are taken away, e.g. segments."),
    click.option("--height-cm", type=float, help="Of the patient: for the liver that is usual at that size."),
    click.option("--weight-kg", type=float),
)
"""What is measured of a case, for commands that do; `chosen_measures` takes them together."""

_MOST_CASES = 5  # whose tables are shown


@click.command()
@click.argument("segmentation", type=EXISTING)
@click.option("--image", type=EXISTING, help="The scan: what it shows inside structures is measured, too.")
@measured_options
@click.option("-o", "--output", type=PATH, help='Folder for findings.json and findings.csv. [default: "findings"]')
@click.option("--fhir", is_flag=True, help="Also a FHIR bundle of each case.")
@click.option("--sr", "series", type=EXISTING, metavar="SERIES", help="Also DICOM SEG and SR, of this series.")
@click.option("--threads", type=click.IntRange(1))
@users_errors
def measure(threads: int | None, **options: Any) -> None:
    """Volumes, diameters, distances and more of all structures of a segmentation, and of each lesion.

    SEGMENTATION is a label map (NIfTI, NRRD), a DICOM SEG or RTSTRUCT, or a folder of NIfTI label maps, for which
    --image is the folder of the scans. Nothing is judged: the numbers are to be read by somebody who knows the patient.

    \b
    Example: delineate measure results/p1.nii.gz --image archive/p1/CT -o p1
    Example: delineate measure p1.nii.gz --lesions tumour,cyst --organ liver --margin-mm 10
    Example: delineate measure p1.nii.gz --organ liver --plane 12,-40,88,1,0,0.2 --height-cm 172 --weight-kg 70
    Example: delineate measure fold0/p1.nii.gz --variants fold1/p1.nii.gz --variants fold2/p1.nii.gz
    """
    from delineate.reports.finding_tables import findings_tables
    from delineate.workflow.quantifying import measure as run

    request = _request(**options)
    with open_watch() as watch:
        result = run(request, settings=settings_of("cpu", threads, None, None), watch=watch)
        for case in result.cases[:_MOST_CASES]:
            for table in findings_tables(case.found.findings, title=case.case):
                watch.print(table)
    several = len(result.cases) > 1
    for case in result.cases[:_MOST_CASES]:
        for remark in case.found.remarks:
            warn(f"{case.case}: {remark}" if several else remark)
    if len(result.cases) > _MOST_CASES:
        say(f"and {len(result.cases) - _MOST_CASES} more cases, with their warnings, in the files")
    for problem in result.problems:
        complain(f"not measured: {problem}")
    say(f"{len(result.cases)} case(s), not reviewed: {', '.join(str(file) for file in result.files)}")
    leave(result.problems, written=len(result.cases))


def _request(segmentation: Path, output: Path | None, **options: Any) -> MeasureRequest:
    from delineate.workflow.quantifying import MeasureRequest

    return MeasureRequest(segmentation, Path("findings") if output is None else output, **chosen_measures(options))


def chosen_measures(options: dict[str, Any]) -> dict[str, Any]:
    """The command's options with those of `measured_options` in the types that requests have."""
    from delineate.volume import Kind

    known = {"ct": Kind.CT, "mr": Kind.MR, "pet": Kind.PET, None: None}
    ours = ("structures", "lesions", "smallest_ml", "to", "organ", "plane", "margin_mm", "remove")
    measured = {name: options[name] for name in (*ours, "height_cm", "weight_kg")}
    others = {name: value for name, value in options.items() if name not in (*measured, "no_variants")}
    chosen = {"kind": known[options["kind"]], "options": _options(**measured)}
    return others | chosen | {"own_variants": not options["no_variants"]}


def _options(
    *, plane: tuple[float, ...] | None, height_cm: float | None, weight_kg: float | None, **chosen: Any
) -> MeasureOptions:
    from delineate.measurement.lesions import LesionOptions
    from delineate.measurement.resection import BodySize, Plane, Resection
    from delineate.measurement.scan_findings import MeasureOptions

    if (height_cm is None) != (weight_kg is None):
        raise click.UsageError("--height-cm and --weight-kg belong together")
    if chosen["organ"] and plane is None and chosen["margin_mm"] is None and not chosen["remove"]:
        raise click.UsageError("--organ needs --plane, --margin-mm or --remove: what is taken away from it?")
    resection = None
    if plane is not None or chosen["margin_mm"] is not None or chosen["remove"]:
        x, y, z, *normal = plane or (0.0,) * 6
        cut = None if plane is None else Plane((x, y, z), (normal[0], normal[1], normal[2]))
        resection = Resection(cut, chosen["margin_mm"], chosen["remove"])
    return MeasureOptions(
        structures=chosen["structures"],
        lesions=LesionOptions(chosen["lesions"], chosen["smallest_ml"], chosen["to"]),
        resection=resection,
        organ=chosen["organ"],
        body=None if height_cm is None or weight_kg is None else BodySize(height_cm, weight_kg),
    )
