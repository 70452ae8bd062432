"""What goes beside an exported network: the recipe as data, and what it asks of whoever runs it in words."""

from __future__ import annotations

from pathlib import Path

import msgspec
import torch
from torch import Tensor

from delineate.errors import ExportError
from delineate.model import LABELS_FILE, PLAN_FILE, Model
from delineate.planning import STORED, Plan, plan_to_json

README_FILE = "README.md"
TOLERANCE = 1e-4
"""Largest difference of logits, over the largest logit, that is taken for float32 rounding."""


def write_recipe(model: Model, folder: Path) -> dict[str, str]:
    """Write plan.json and labels.json, everything that is needed beside the weights; their names and texts."""
    labels = msgspec.json.format(msgspec.json.encode(model.labels), indent=2).decode() + "\n"
    texts = {PLAN_FILE: plan_to_json(model.plan), LABELS_FILE: labels}
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in texts.items():
        (folder / name).write_text(text, encoding="utf-8")
    return texts


def write_readme(folder: Path, title: str, model: Model, notes: tuple[str, ...]) -> None:
    """Write README.md: what this is, whose weights they are, and the notes as a list."""
    came = model.provenance.origin or f"trained by delineate {model.provenance.delineate}"
    lines = [
        f"# {title}",
        "",
        f"{model.plan.dataset}: {', '.join(model.plan.labels)}",
        "",
        f"Weights: {came}, {model.provenance.created}. Model digest: `{model.digest}`.",
        "",
        *(f"- {note}" for note in notes or ("Nothing here differs from what delineate does.",)),
    ]
    (folder / README_FILE).write_text("\n".join(lines) + "\n", encoding="utf-8")


def window_notes(plan: Plan) -> tuple[str, ...]:
    """What whoever runs a bare network must do themselves, in sentences."""
    axes = "(B, C, I, J)" if plan.dimensions == 2 else "(B, C, I, J, K)"
    inputs = ", ".join((*plan.channels, *(f"mask of {name}" for name in plan.previous)))
    reading = "as stored in the file" if plan.orientation == STORED else f"pointing to {plan.orientation}"
    outputs = "one sigmoid each of" if plan.regions else "a softmax over background,"
    patch = " x ".join(str(n) for n in plan.patch_size[: plan.dimensions])
    notes = [
        f"Input: float32 windows {axes} of {patch} voxels; channels: {inputs}.",
        f"Output: logits, {outputs} {', '.join(plan.labels)}.",
        f"Axes {reading}, {' x '.join(f'{mm:g}' for mm in plan.spacing_mm)} mm; plan.json says how scans are prepared.",
        f"Windows overlap by {plan.tiling.overlap:g}, and are blended by "
        + ("a Gaussian." if plan.tiling.gaussian else "their mean."),
    ]
    if plan.tiling.mirror_axes:
        notes.append(f"Logits are averaged over windows mirrored along {', '.join(map(str, plan.tiling.mirror_axes))}.")
    return tuple(notes)


def stage_notes(model: Model) -> tuple[str, ...]:
    """What a model's further stages and folds are for, in sentences."""
    notes = []
    if len(model.folds) > 1:
        notes.append(f"{len(model.folds)} networks of the same plan: their logits are averaged.")
    if model.previous is not None:
        notes.append("previous/ finds first what this network sees as masks, 0 or 1, beside the channels.")
    if model.partners:
        names = "partner_1/" if len(model.partners) == 1 else f"partner_1/ to partner_{len(model.partners)}/"
        notes.append(f"The probabilities of this network and of {names} are averaged in the scan's own grid.")
    if model.overlays:
        notes.append(f"overlay_1/ to overlay_{len(model.overlays)}/ are painted over what this network finds, in turn.")
    if model.locator is not None:
        where = f"{', '.join(model.locator.structures)}, with a margin of {model.locator.margin_mm:g} mm"
        notes.append(f"This network runs only where locator/ finds {where}.")
    return tuple(notes)


def example_windows(plan: Plan, batch: int) -> Tensor:
    """Windows (batch, inputs, ...) of the plan's patch size, of standard normal noise, always the same."""
    shape = (batch, plan.inputs, *plan.patch_size[: plan.dimensions])
    return torch.randn(shape, generator=torch.Generator().manual_seed(0))


def check_logits(found: Tensor, expected: Tensor, path: Path) -> float:
    """The largest difference of the logits that a file gives from those expected, over the largest of these.

    Raises `ExportError` if it is more than float32 rounding.
    """
    difference = float((found - expected).abs().max() / expected.abs().max().clamp(min=1e-6))
    if not difference <= TOLERANCE:
        raise ExportError(
            "the file gives other logits", expected=f"within {TOLERANCE}", got=f"{difference:.2g}", path=path
        )
    return difference
