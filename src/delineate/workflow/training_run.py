"""What a training run is made of, for the modules that carry it out."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from delineate.dataset import Dataset, Split
from delineate.errors import InputError
from delineate.planning import Plan
from delineate.preprocessing import PreparedCase
from delineate.sampling import TrainingCase
from delineate.settings import Settings
from delineate.training import Objective, TrainingState, supervised
from delineate.workspace import RunFolder


@dataclass(frozen=True, slots=True)
class Budget:
    """How long to train: exactly one, or none for the plan's own steps."""

    steps: int | None = None
    epochs: int | None = None
    minutes: float | None = None

    def __post_init__(self) -> None:
        given = [value for value in (self.steps, self.epochs, self.minutes) if value is not None]
        if len(given) > 1 or any(value <= 0 for value in given):
            raise InputError("say how long to train once", expected="one positive of --steps, --epochs, --minutes")


def keep_weights(state: TrainingState) -> None:
    """The fresh weights as they are."""


def always(step: int, dice: float) -> bool:
    """Whatever was validated, the run goes on."""
    return True


@dataclass(frozen=True, slots=True)
class Course:
    """What a caller decides of a run.

    `objective`: what is minimised. `begin`: called once, with a fresh run before its first step (to put other weights
    into it). `goes_on`: asked after each validation, with the step and the mean Dice; if not, the run is saved and
    ends there. `before`: of each case, where the label map of the cascade's stage before is, which has not learnt from
    that case.
    """

    objective: Objective = supervised
    begin: Callable[[TrainingState], None] = keep_weights
    goes_on: Callable[[int, float], bool] = always
    before: Mapping[str, Path] = field(default_factory=dict)


PLAIN = Course()


@dataclass(frozen=True, slots=True)
class Run:
    """What stays the same during a run; the plan's batch alone may become smaller, where memory ran out."""

    dataset: Dataset
    folder: RunFolder
    plan: Plan
    split: Split
    training: Sequence[TrainingCase]
    validation: Sequence[PreparedCase]
    settings: Settings
    course: Course
