"""Recipes: how a published tutorial or paper trains a network, as options that a plan is made with.

A recipe is a JSON file beside this module. It holds what its authors chose by hand; what depends on the data (labels,
intensities, what the recipe leaves open) is planned from the dataset, so that a recipe works on the data it was
published for and on any other of that kind.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from importlib import resources
from typing import Any

import msgspec

from delineate.errors import PlanError
from delineate.planning import PlanOptions


class Published(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A figure that somebody published. `on`: the cases it was measured on, and whether they chose the weights."""

    figure: str
    on: str
    source: str


class Recipe(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What is trained, on which data, and how.

    `options`: what was chosen by hand, fields of `PlanOptions`. `epochs`: of `samples_per_image` patches from each
    image. `cases`: of the dataset, with reference. `test_share`: of them, the last, that are set aside to be scored
    once. `phantom`: the synthetic kind of such data. `step_seconds`: of one training step on two cores of a CPU,
    measured. `differences`: where delineate does otherwise than the source, and why.
    """

    name: str
    title: str
    dataset: str
    url: str
    licence: str
    trains: str
    epochs: int
    cases: int
    test_share: float
    step_seconds: float
    phantom: str
    options: dict[str, Any]
    published: tuple[Published, ...]
    differences: tuple[str, ...] = ()

    @property
    def plan_options(self) -> PlanOptions:
        """The options that a plan is made with. Raises `PlanError` for an option that there is not."""
        try:
            return msgspec.convert(self.options, PlanOptions, strict=True)
        except msgspec.ValidationError as error:
            raise PlanError(f"the recipe {self.name!r} has a wrong option", got=str(error)) from error

    @property
    def steps(self) -> int:
        """Of the whole training on the dataset that the recipe is for, where a fifth of what is not set aside
        validates."""
        options, left = self.plan_options, self.cases - self.test_cases(self.cases)
        patches = (left - math.ceil(left / 5)) * options.samples_per_image
        return self.epochs * math.ceil(patches / (options.batch_size or 2))

    @property
    def cpu_hours(self) -> float:
        """What the whole training takes on two cores of a CPU."""
        return self.steps * self.step_seconds / 3600

    def test_cases(self, count: int) -> int:
        """How many of a dataset's cases are set aside: two are always left to learn from and to validate on."""
        return max(0, min(round(self.test_share * count), count - 2))


def recipe_names() -> tuple[str, ...]:
    """The recipes that there are, by name."""
    return tuple(sorted(name for name, _ in _files()))


def load_recipe(name: str) -> Recipe:
    """The recipe of that name. Raises `PlanError` if there is none."""
    text = dict(_files()).get(name)
    if text is None:
        raise PlanError("no such recipe", expected=f"one of {', '.join(recipe_names())}", got=name)
    return msgspec.json.decode(text, type=Recipe)


def _files() -> Iterator[tuple[str, bytes]]:
    for file in resources.files(__name__).iterdir():
        if file.name.endswith(".json"):
            yield file.name.removesuffix(".json"), file.read_bytes()
