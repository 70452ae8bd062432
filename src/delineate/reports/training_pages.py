"""The page of a training: how it went, on whose scans, by what plan, and what gives reason to doubt it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from delineate.reports.charts import Chart, duration, learning_chart, time_bars
from delineate.reports.charts.learning import LearningCurves
from delineate.reports.charts.words import count
from delineate.reports.documents import NOT_RECORDED
from delineate.reports.html import render_template
from delineate.reports.pages import Pairs

if TYPE_CHECKING:
    from delineate.model import Population

FEW_PATIENTS = 5  # that validate: which weights are best is then half chance
RISING = 0.01  # Dice gained in the last third of a run that was not yet at its end
FALLEN = 0.02  # Dice lost from the best step to the last
LEARNED = 0.1  # Dice below which all but nothing was learned
UNEVEN = 0.05  # Dice that a structure had more at another step than at the one that was kept
_NOTHING = 0.0005  # Dice that is shown as 0
_SIDES = {"training": "Training", "validation": "Validation", "held_out": "Set aside"}


@dataclass(frozen=True, slots=True)
class Course:
    """One structure's validation Dice: at the step whose weights were kept, at the last, and the highest with its step.

    NaN where it was not validated.
    """

    name: str
    kept: float
    last: float
    highest: float
    highest_step: float


@dataclass(frozen=True, slots=True)
class TrainingPage:
    """What the page says. `step` of `last_step` were taken; `structures`: the plan's labels.

    `incidents`: what went wrong on the way, in sentences. `stage_seconds`: what was recorded beside the steps;
    `seconds`: all together. `cases`: numbers by side of the split, `populations`: what is known of them. `choices`,
    `environment`, `provenance`: (what, value).
    """

    title: str
    curves: LearningCurves
    structures: tuple[str, ...]
    step: int
    last_step: int
    seconds: float
    stage_seconds: Mapping[str, float]
    cases: Mapping[str, int]
    populations: Mapping[str, Population]
    split: str
    choices: Pairs
    environment: Pairs
    provenance: Pairs
    incidents: tuple[str, ...] = ()

    @property
    def best_dice(self) -> float:
        return _at(self.curves.validation_steps, self.curves.validation_dice, self.curves.best_step)

    @property
    def validation_patients(self) -> int:
        known = self.populations.get("validation")
        return self.cases.get("validation", 0) if known is None else known.patients


def render_training(page: TrainingPage) -> str:
    """One self-contained HTML file."""
    sides = [side for side in _SIDES if page.cases.get(side)]
    return render_template(
        "training.html",
        page=page,
        doubts=find_doubts(page),
        courses=courses(page),
        curves=learning_chart(page.curves) if page.curves.steps or page.curves.validation_steps else None,
        times=_times(page),
        time=duration(page.seconds),
        sides=[(_SIDES[side], str(page.cases[side]), _patients(page.populations.get(side))) for side in sides],
    )


def courses(page: TrainingPage) -> tuple[Course, ...]:
    """How each structure fared, in the plan's order; () if nothing was validated."""
    curves = page.curves
    if not curves.validation_steps:
        return ()
    values = curves.by_structure or dict.fromkeys(page.structures[:1], curves.validation_dice)
    return tuple(_course(name, dice, curves) for name, dice in values.items())


def _course(name: str, dice: Sequence[float], curves: LearningCurves) -> Course:
    known = [(value, -step) for step, value in zip(curves.validation_steps, dice, strict=True) if not math.isnan(value)]
    highest, step = max(known, default=(math.nan, math.nan))
    kept = _at(curves.validation_steps, dice, curves.best_step)
    return Course(name, kept, dice[-1], highest, -step)


def _at(steps: Sequence[float], values: Sequence[float], step: float | None) -> float:
    """The value at a step; NaN if there is none."""
    return next((value for at, value in zip(steps, values, strict=True) if at == step), math.nan)


def find_doubts(page: TrainingPage) -> list[str]:
    """What gives reason to doubt the weights that were kept, in sentences; [] if nothing does."""
    curves, doubts = page.curves, list(page.incidents)
    if page.step < page.last_step:
        doubts.append(
            f"The run is not finished: {page.step:,} of {page.last_step:,} steps. The learning rate has not come down, "
            "so the weights are worse than they will be. Run the same command again to go on."
        )
    if not all(map(math.isfinite, curves.losses)):
        doubts.append("The loss was not finite: lower the learning rate, or train in float32.")
    if not curves.validation_steps:
        if page.cases.get("validation"):
            return [*doubts, "Nothing has been validated yet: how good the weights are is not known."]
        return [*doubts, "Nothing was validated: how good the weights are is not known, and the last ones were kept."]
    return [*doubts, *_doubts_of_validation(page), *_doubts_of_structures(page)]


def _doubts_of_validation(page: TrainingPage) -> list[str]:
    steps, dice, doubts = page.curves.validation_steps, page.curves.validation_dice, []
    if page.validation_patients < FEW_PATIENTS:
        patients = count(page.validation_patients, "patient")
        doubts.append(f"The weights were chosen on {patients}: their Dice, and which step is best, are half chance.")
    best, last = page.best_dice, dice[-1]
    if best < LEARNED:
        doubts.append(f"All but nothing was learned: the best validation Dice is {best:.3f}. Train longer.")
    if len(dice) == 1 and page.step >= page.last_step:
        doubts.append("There was one validation only: whether Dice was still rising is not known.")
    two_thirds = [value for at, value in zip(steps, dice, strict=True) if at <= steps[-1] * 2 / 3]
    if page.step >= page.last_step and two_thirds and best == last and last - max(two_thirds) >= RISING:
        doubts.append(
            f"Validation Dice was still rising at the end, from {max(two_thirds):.3f} to {last:.3f} in the last third: "
            "more steps may help (--steps, --minutes)."
        )
    if best - last >= FALLEN:
        doubts.append(
            f"Validation Dice fell from {best:.3f} at step {page.curves.best_step:,.0f} to {last:.3f} at the end: "
            "training cases were being learned by heart, or it is chance. The best step's weights were kept."
        )
    return doubts


def _doubts_of_structures(page: TrainingPage) -> list[str]:
    found = courses(page)
    never = [course.name for course in found if course.highest < _NOTHING]
    unseen = [course.name for course in found if math.isnan(course.highest)]
    uneven = [course for course in found if course.highest - course.kept >= UNEVEN]
    doubts = [f"Never found in a validation case: {_listed(never)}."] if never else []
    doubts += [f"In no validation case: {_listed(unseen)}. How well they are found is not known."] if unseen else []
    doubts += [
        f"{course.name.replace('_', ' ')} was better at step {course.highest_step:,.0f} ({course.highest:.3f}) than in "
        f"the weights that were kept ({course.kept:.3f})."
        for course in uneven
    ]
    return doubts


def _listed(names: Sequence[str]) -> str:
    return ", ".join(name.replace("_", " ") for name in names)


def _times(page: TrainingPage) -> Chart | None:
    """Where the time went; None for runs that did not record it."""
    rest = page.seconds - sum(page.stage_seconds.values())
    if not page.stage_seconds or rest < 0:  # early runs did not count their last validation
        return None
    return time_bars({**page.stage_seconds, "training steps": rest})


def _patients(population: Population | None) -> str:
    return NOT_RECORDED if population is None else str(population.patients)
