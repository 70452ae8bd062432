"""What one or several readers drew in a case, as a plan wants to learn from it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from delineate import formats
from delineate.dataset import Case
from delineate.errors import DelineateError
from delineate.evaluation.consensus import Method, consensus
from delineate.labels import LabelSet
from delineate.planning import Plan
from delineate.volume import Segmentation, Volume, align
from delineate.workflow.structures import read_case


def read_readings(
    case: Case, labels: LabelSet, plan: Plan
) -> tuple[Volume, Segmentation | None, tuple[Segmentation, ...]]:
    """A case's scan, the reference that it is trained and validated against, and those of further readers.

    With `annotators` "first" others are not read; with "majority" or "staple" the reference is what all come to, see
    `evaluation.consensus`. Raises what reading and `consensus` raise, naming the case.
    """
    image, reference = read_case(case, labels, plan.kinds)
    if reference is None or not case.others or plan.training.annotators == "first":
        return image, reference, ()
    try:
        others = [formats.read_segmentation(path, labels) for path in case.others]
        if plan.training.annotators == "sample":
            return image, reference, tuple(others)
        return image, _agreed([reference, *others], Method(plan.training.annotators)), ()
    except DelineateError as error:
        raise error.in_case(case.id) from error


def _agreed(readings: Sequence[Segmentation], method: Method) -> Segmentation:
    """What a reader says nothing about is left out for all."""
    aligned = [align(reading, readings[0].grid) for reading in readings]
    ignored = [reading.ignored for reading in aligned if reading.ignored is not None]
    together = np.logical_or.reduce(ignored) if ignored else None
    return replace(consensus(aligned, method), ignored=together)
