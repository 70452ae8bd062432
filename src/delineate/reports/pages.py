"""The page that a training leaves for people: one HTML file with everything inside it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from delineate.files import write_text
from delineate.planning import ClipZScore, Normalisation, Plan, Window
from delineate.reports.dataset_facts import AXES
from delineate.reports.html import render_template
from delineate.reports.score_tables import ScoreRow, mean_row

Pairs = tuple[tuple[str, str], ...]

_AXES = {letter: name for name, letters in zip(AXES, ("LR", "AP", "IS"), strict=True) for letter in letters}
_WORDS = {"adam": "Adam", "adamw": "AdamW", "sgd": "SGD", "dice": "Dice", "dice_ce": "Dice + cross-entropy"}


@dataclass(frozen=True, slots=True)
class CasePanel:
    """One case's picture (PNG) with its mean Dice over structures (NaN: none) and a remark, e.g. what was missed.

    `exports`: (format, address from the page) of the files made of it, each proven by reading it back.
    """

    case: str
    png: bytes
    dice: float = math.nan
    note: str = ""
    exports: Pairs = ()


@dataclass(frozen=True, slots=True)
class Page:
    """What the page says. An empty or missing part leaves its section out.

    `summary`: paragraphs. `choices`: (what, choice) of the plan, see `describe_plan`. `curves`: PNG. `panels`
    are shown worst first. `scores_note`: on which cases the scores were measured; `scores_page`: address of the page
    that says all about them. `provenance`: (what, value).
    """

    title: str
    summary: tuple[str, ...] = ()
    choices: Pairs = ()
    curves: bytes | None = None
    scores: tuple[ScoreRow, ...] = ()
    scores_note: str = ""
    scores_page: str = ""
    panels: tuple[CasePanel, ...] = ()
    provenance: Pairs = ()


def write_index(folder: Path, page: Page) -> Path:
    """Write `folder`/index.html and return its path. The file needs no other file and no network."""
    path = folder / "index.html"
    write_text(path, render(page))
    return path


def render(page: Page) -> str:
    """The page as HTML; every text is escaped."""
    return render_template(
        "index.html",
        page=page,
        panels=sorted(page.panels, key=lambda panel: (math.isnan(panel.dice), panel.dice, panel.case)),
        mean=mean_row(page.scores) if page.scores else None,
    )


def describe_plan(plan: Plan) -> Pairs:
    """The plan's main choices in words, as (what, choice); reasons come last."""
    network, training = plan.network, plan.training
    size = "fixed shape " + _by(plan.resize_to) if plan.resize_to else "spacing " + _by(plan.spacing_mm) + " mm"
    flips = dict.fromkeys(_AXES[plan.orientation[axis]] for axis in plan.augmentation.flip_axes)
    choices = [
        ("Resampled to", f"{size}, axes along {plan.orientation}"),
        ("Intensities", "; ".join(_intensities(*pair) for pair in zip(plan.channels, plan.normalisation, strict=True))),
        ("Patch", f"{_by(plan.patch_size)} voxels"),
        (
            "Network",
            f"{network.architecture}, {plan.dimensions}D, {len(network.features)} levels, "
            f"{network.features[0]} to {max(network.features)} features",
        ),
        ("Length", f"{training.steps:,} steps of {training.batch_size} patches"),
        (
            "Training",
            f"{_WORDS[training.optimiser]}, learning rate {training.learning_rate:g} with {training.decay} decay, "
            f"loss {_WORDS[training.loss]}, {training.precision}",
        ),
        ("Flips", ", ".join(flips) or "none"),
        *(("Why", reason) for reason in plan.reasons),
    ]
    return tuple(choices)


def _intensities(channel: str, how: Normalisation) -> str:
    match how:
        case ClipZScore():
            return f"{channel} clipped to {how.lower:g}..{how.upper:g}, minus {how.mean:.4g}, divided by {how.std:.4g}"
        case Window():
            return f"{channel} {how.lower:g}..{how.upper:g} mapped to {how.to_lower:g}..{how.to_upper:g}"
        case _:
            return f"{channel} minus each scan's mean, divided by its standard deviation"


def _by(numbers: Sequence[float]) -> str:
    return " x ".join(f"{number:g}" for number in numbers)
