"""The command that segments scans."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from delineate.cli.options import (
    EXISTING,
    PATH,
    complain,
    key_option,
    leave,
    machine_options,
    open_watch,
    say,
    users_errors,
    warn,
)


@click.command()
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
@click.option("--export", "exports", multiple=True, help="Also seg, rtstruct, sr, glb, ...: see delineate export.")
@key_option
@click.option("--again", is_flag=True, help="Segment also what is there already, and write over what has the name.")
@machine_options
@users_errors
def predict(**options: Any) -> None:
    """Segment a file, a folder of NIfTI files, a DICOM series, or a tree of them.

    Results are named after the files, or the folders of the series; with --deidentify as `import` names its cases. What
    was segmented before is kept; what has changed is done again. Several scans are segmented in a process of their own:
    what kills it, lack of memory say, costs the case that it was busy with and not the batch.

    \b
    Example: delineate predict spleen imagesTs results --figures
    Example: delineate predict spleen /archive/patient1/CT results
    """
    from delineate.workflow.batches import PredictionRequest
    from delineate.workflow.supervising import predict_apart, predict_here

    request = PredictionRequest(**options)
    with open_watch() as watch:
        run = predict_here if is_one_file(request.source) else predict_apart
        result = run(request, watch=watch)
    for line in (*result.cut_off, *result.warnings):
        warn(line)
    for line in (*result.problems, *(f"failed: {failure.error}" for failure in result.failures)):
        complain(line)
    kept = f", {len(result.kept)} were there already" if result.kept else ""
    say(f"{len(result.written)} segmented into {request.output}{kept}")
    leave((*result.failures, *result.problems), written=len(result.written) + len(result.kept), stopped=result.stopped)


def is_one_file(source: Path) -> bool:
    """Whether there is but one scan for certain, so that there is no batch to be saved."""
    return source.is_file() and source.name.lower().endswith((".nii", ".nii.gz"))
