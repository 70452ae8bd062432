"""The commands for models of other systems: nnU-Net's in; nnU-Net's, ONNX, TorchScript, MONAI bundles out."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from delineate.cli.options import EXISTING, PATH, say, users_errors

if TYPE_CHECKING:
    from delineate.model import Model

FORMATS = ("nnunet", "onnx", "torchscript", "monai")
_MOST_NAMES = 12


@click.command("import-model")
@click.argument("sources", type=EXISTING, nargs=-1, required=True, metavar="SOURCE...")
@click.argument("model", type=PATH)
@click.option("--configuration", help="2d, 3d_fullres, 3d_lowres, 3d_cascade_fullres, where SOURCE holds several.")
@click.option(
    "--fold", "folds", multiple=True, help='A fold to take, or "all"; may be repeated. [default: all there are]'
)
@click.option("--checkpoint", type=click.Choice(["final", "best", "latest"]), help="[default: final, else best]")
@click.option("--orientation", help="Turn scans to this first, e.g. RAS. [default: as the model was trained]")
@click.option("--values", type=EXISTING, help="JSON of structures' values, where several SOURCEs make one model.")
@click.option("--within", type=EXISTING, metavar="MODEL", help="Run only where this model finds --structures.")
@click.option("--structures", help="Of --within, separated by commas. [default: all]")
@click.option("--margin-mm", type=click.FloatRange(0), default=20.0, show_default=True, help="Around them.")
@click.option("--again", is_flag=True, help="Replace a model that was imported before.")
@users_errors
def import_model(sources: tuple[Path, ...], model: Path, structures: str | None, again: bool, **options: Any) -> None:
    """Make a model of what nnU-Net trained: a folder, or a zip that nnU-Net exported. nnU-Net need not be installed.

    Scans are prepared, windows placed and logits put back as nnU-Net does. Of a cascade both stages are taken. Several
    SOURCEs, such as the parts of TotalSegmentator's "total", become one model whose labels make one map.

    \b
    Example: delineate import-model nnUNetTrainer__nnUNetPlans__3d_fullres liver
    Example: delineate import-model Dataset291 Dataset292 Dataset293 total --values total.json
    Example: delineate import-model vessels.zip vessels --within total --structures lung_left,lung_right
    """
    from delineate.workflow.models import ModelImport
    from delineate.workflow.models import import_model as run

    options["folds"] = tuple(int(fold) if fold.isdecimal() else fold for fold in options["folds"]) or None
    chosen = ModelImport(structures=tuple(structures.split(",")) if structures else (), **options)
    made = run(sources, model, chosen, again=again)
    for line in describe(made):
        say(line)
    say(f"Model in {model}. Next: delineate predict {model} SCANS RESULTS")


def describe(model: Model) -> list[str]:
    """What a model is, for people: a few lines."""
    plan = model.plan
    names = [*model.labels.names[:_MOST_NAMES], *(["..."] if len(model.labels) > _MOST_NAMES else [])]
    spacing = " x ".join(f"{mm:g}" for mm in plan.spacing_mm[: 2 if plan.preparation.keep_slices else 3])
    patch = " x ".join(str(n) for n in plan.patch_size[: plan.dimensions])
    folds = "1 fold" if len(model.folds) == 1 else f"{len(model.folds)} folds, averaged"
    mirrored = ", ".join(str(axis) for axis in plan.tiling.mirror_axes)
    mirroring = f"axes {mirrored} ({2 ** len(plan.tiling.mirror_axes)} passes)" if mirrored else "none"
    lines = [
        f"{len(model.labels)} structures: {', '.join(names)}",
        f"Input: {', '.join(plan.channels)}; axes {_reading(plan.orientation)}; {spacing} mm",
        f"Network: {plan.network.architecture}, {plan.dimensions}D, patch {patch}, {folds}",
        f"Mirroring in prediction: {mirroring}",
    ]
    lines += [f"Stage {name}: {', '.join(stage.plan.labels[:_MOST_NAMES])}" for name, stage in model.stages.items()]
    return [*lines, *(f"- {reason}" for reason in plan.reasons)]


def _reading(orientation: str) -> str:
    return "as stored in the file" if orientation == "stored" else f"turned to {orientation}"


@click.command("export-model")
@click.argument("model", type=EXISTING)
@click.argument("folder", type=PATH)
@click.option("--to", type=click.Choice(FORMATS), required=True, help="The system that is to run it.")
@click.option("--again", is_flag=True, help="Replace an export that is there.")
@users_errors
def export_model(model: Path, folder: Path, to: str, again: bool) -> None:
    """Write a model for another system, and say what that will do otherwise than delineate.

    \b
    nnunet       a folder that nnU-Net's own predictor loads (networks nnunet, nnunet_res)
    onnx         for ONNX Runtime, OpenVINO, TensorRT; any network, any batch size
    torchscript  for PyTorch from Python or C++; any network
    monai        a MONAI bundle (network residual_unet)

    \b
    Example: delineate export-model liver liver_onnx --to onnx
    Example: delineate export-model liver Dataset003_Liver/nnUNetTrainer__nnUNetPlans__3d_fullres --to nnunet
    """
    from delineate.workflow.models import export_model as run

    notes = run(model, folder, to=to, again=again)
    if to == "nnunet":
        say("nnU-Net will find other voxels than delineate:" if notes else "nnU-Net computes what delineate does.")
    for note in notes:
        say(f"- {note}")
    say(f"Written to {folder}")
