"""The command that segments scans."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from delineate.cli.options import (
    EXISTING,
    PATH,
    Words,
    complain,
    key_option,
    leave,
    machine_options,
    open_watch,
    say,
    users_errors,
    warn,
)
from delineate.workflow.batches import OWN_LOOK, CaseReport, PredictionRequest

ENGINES = ("torch", "openvino", "onnxruntime")
PRECISIONS = ("float32", "bfloat16", "float16", "int8")


@click.command()
@click.argument("model", type=EXISTING)
@click.argument("source", type=EXISTING)
@click.argument("output", type=PATH)
@click.option("--engine", type=click.Choice(ENGINES), help="What runs the network. [default: the fastest here]")
@click.option("--precision", type=click.Choice(PRECISIONS), help="[default: the fastest that costs no accuracy]")
@click.option("--overlap", type=click.FloatRange(0, 0.9), help="Of neighbouring windows. [default: the plan's, 0.5]")
@click.option("--step", type=click.FloatRange(0.1, 1), help="The same as nnU-Net says it: 1 - overlap.")
@click.option("--mirror/--no-mirror", default=None, help="Average over mirrored scans. [default: the plan's]")
@click.option(
    "--as-nnunet", is_flag=True, help="The masks of nnU-Net's own predictor, voxel for voxel: slower, and less exact."
)
@click.option("--skip-air/--no-skip-air", default=True, help="Leave out windows of nothing but air. [default: skip]")
@click.option(
    "--locate",
    is_flag=False,
    flag_value=OWN_LOOK,
    metavar="[MODEL]",
    help="Run only where a first look finds something: MODEL's, or this model's own first stage. Name it last.",
)
@click.option("--structures", type=Words(), default=(), help="With --locate: what is wanted, e.g. liver,spleen.")
@click.option(
    "--around", type=Words(), default=(), help="With --locate: what MODEL is to look for, if named otherwise."
)
@click.option("--margin-mm", type=click.FloatRange(0), help="With --locate: around what was found.")
@click.option("--probabilities", is_flag=True, help="Also write one probability map a structure.")
@click.option(
    "--variants",
    is_flag=True,
    help="Also write what each fold finds, or each mirrored view where there is one fold: takes twice as long. "
    "`measure` gives ranges by them.",
)
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
    Example: delineate predict organs whole-body.nii.gz kidneys.nii.gz --structures kidneys --locate coarse
    """
    from delineate.workflow import supervising

    request = _request(**options)
    with open_watch() as watch:
        run = supervising.predict_here if is_one_file(request.source) else supervising.predict_apart
        result = run(request, watch=watch, hear=_Needs(watch))
    for line in (*result.cut_off, *result.warnings):
        warn(line)
    for line in (*result.problems, *(f"failed: {failure.error}" for failure in result.failures)):
        complain(line)
    kept = f", {len(result.kept)} were there already" if result.kept else ""
    say(f"{len(result.written)} segmented into {request.output}{kept}")
    leave((*result.failures, *result.problems), written=len(result.written) + len(result.kept), stopped=result.stopped)


def _request(*, step: float | None, overlap: float | None, **options: Any) -> PredictionRequest:
    if step is not None and overlap is not None:
        raise click.UsageError("--step and --overlap say the same: give one of them")
    if options["locate"] is None and (options["structures"] or options["around"] or options["margin_mm"] is not None):
        raise click.UsageError("--structures, --around and --margin-mm belong to --locate")
    return PredictionRequest(overlap=overlap if step is None else 1 - step, **options)


class _Needs:
    """Says by what engine cases are segmented, and in how much memory: of the first, and of those that need a good deal
    more."""

    def __init__(self, watch: Any) -> None:
        self._watch, self._said = watch, -1.0

    def __call__(self, report: CaseReport) -> None:
        if report.needs is None:
            return
        needed = report.needs.needed_bytes or 0
        if needed > 1.2 * self._said:
            self._said = needed
            self._watch.remark(f"{report.case}: {report.needs}")


def is_one_file(source: Path) -> bool:
    """Whether there is but one scan for certain, so that there is no batch to be saved."""
    return source.is_file() and source.name.lower().endswith((".nii", ".nii.gz"))
