"""What else a model would have found in a scan: each of its folds by itself, or the scan mirrored.

How far these lie apart is the uncertainty that a model has of its own.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

from torch import Tensor

from delineate.engines import EngineChoice, Runner
from delineate.errors import PlanError
from delineate.inference import Runners
from delineate.inference.stages import overlays_of, partners_of
from delineate.model import Model, with_tiling
from delineate.workflow.readying import ReadyModel


@dataclass(frozen=True, slots=True, eq=False)
class Variant:
    """One way in which a model gives another result. `model`: as it is run then; `fold`: by which one of `folds`;
    `axes`: along which of the array's axes windows are mirrored."""

    name: str
    model: Model
    fold: int | None = None
    folds: int = 0
    axes: tuple[int, ...] = ()

    def ready(self, whole: ReadyModel) -> ReadyModel:
        """The variant of a model that is ready; no network is opened anew."""
        if self.fold is not None:
            runners = _runners_of_fold(whole.runners, self.fold, self.folds)
        else:
            runners = _mirrored(self.model, whole.runners, self.axes)
        return replace(whole, model=self.model, runners=runners)


@dataclass(frozen=True, slots=True, eq=False)
class Variants:
    """All variants of a model. `kind`: what they are, e.g. "5 folds"."""

    kind: str
    members: tuple[Variant, ...]

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(member.name for member in self.members)


NO_VARIANTS = Variants("", ())


def variants_of(model: Model) -> Variants:
    """One for each fold, where a model has several: of all its stages that have as many, the others are run as always.

    Otherwise one for each combination of axes along which training mirrored, none of which is no variant; a stage is
    mirrored along those of them that it was trained with. What only looks where structures are stays as it is. Raises
    `PlanError` for a model of one fold that may not be mirrored.
    """
    count = max(len(part.folds) for part in _parts(model))
    if count > 1:
        members = [Variant(f"fold_{n}", _one_fold(model, n, count), fold=n, folds=count) for n in range(count)]
        return Variants(f"{count} folds", tuple(members))
    axes = sorted({axis for part in _parts(model) for axis in _flips(part)})
    if not axes:
        raise PlanError(
            "the model cannot vary: it has one fold, and was not trained on mirrored scans",
            got="structures that have a side" if model.labels.pairs else None,
            remedy="Use a model of several folds; or train one for each fold (delineate train --fold), predict with "
            "each, and name these results with --variants when measuring.",
        )
    combinations = [some for n in range(1, len(axes) + 1) for some in itertools.combinations(axes, n)]
    plain = with_tiling(model, mirror=False)
    views = [Variant(f"mirror_{n}", plain, axes=some) for n, some in enumerate(combinations, start=1)]
    return Variants(f"{len(views)} mirrored view{'s' * (len(views) > 1)}", tuple(views))


def _parts(model: Model) -> Iterator[Model]:
    """The networks whose structures come into the result."""
    yield model
    for part in (*(() if model.previous is None else (model.previous,)), *model.partners, *model.overlays):
        yield from _parts(part)


def _flips(model: Model) -> Iterable[int]:
    plan = model.plan
    return (axis for axis in plan.augmentation.flip_axes if plan.patch_size[axis] > 1)


def _one_fold(model: Model, fold: int, count: int) -> Model:
    own = model if len(model.folds) != count else replace(model, weights=model.folds[fold], more_folds=())
    return replace(
        own,
        previous=None if model.previous is None else _one_fold(model.previous, fold, count),
        overlays=tuple(_one_fold(part, fold, count) for part in model.overlays),
        partners=tuple(_one_fold(part, fold, count) for part in model.partners),
    )


def _runners_of_fold(whole: Runners, fold: int, count: int) -> Runners:
    folds = whole.folds if len(whole.folds) != count else (whole.folds[fold],)
    stages = {
        name: stage if name == "locator" else _runners_of_fold(stage, fold, count)
        for name, stage in whole.stages.items()
    }
    return Runners(folds, stages)


def _mirrored(model: Model, whole: Runners, axes: tuple[int, ...]) -> Runners:
    ours = tuple(axis for axis in axes if axis in _flips(model))
    parts = {"previous", *partners_of(model), *overlays_of(model)}
    stages = {
        name: _mirrored(model.stages[name], stage, axes) if name in parts else stage
        for name, stage in whole.stages.items()
    }
    return Runners(tuple(_Mirrored(runner, ours) for runner in whole.folds) if ours else whole.folds, stages)


@dataclass(frozen=True, slots=True, eq=False)
class _Mirrored:
    """A runner that sees windows mirrored along some of the array's axes, and mirrors back what it finds."""

    runner: Runner
    axes: tuple[int, ...]

    @property
    def choice(self) -> EngineChoice:
        return self.runner.choice

    def __call__(self, windows: Tensor) -> Tensor:
        dimensions = tuple(2 + axis for axis in self.axes)
        return self.runner(windows.flip(dimensions)).flip(dimensions)
