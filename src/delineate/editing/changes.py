"""What a tool gives: the changed part of a label array; and the rule of what may be painted over."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from delineate.editing.boxes import Mask, checked_index
from delineate.editing.runs import Runs, part_difference
from delineate.errors import InputError, LabelError
from delineate.geometry import Box, Triple, foreground_box

Labels = npt.NDArray[Any]
Over = Literal["background", "all"]
"""What a tool that adds voxels may take them from: what belongs to nothing, or other structures as well."""


@dataclass(frozen=True, slots=True, eq=False)
class Change:
    """A part of an (I, J, K) label array as it is to be: `after` has the shape of `box`; all else stays.

    Its memory has the order of the array's, so that the two are compared in one go.
    """

    box: Box
    after: Labels


def changed(labels: Labels, change: Change) -> Labels:
    """A copy of the (I, J, K) array with the change."""
    array = labels.copy(order="K")
    array[change.box.slices] = change.after
    return array


def runs_of(labels: Labels, change: Change) -> Runs:
    """What a change of an (I, J, K) array changes, as runs in wire order; cheap for a small part of a large array."""
    before = labels[change.box.slices]
    return part_difference(before, change.after, start=change.box.start, shape=labels.shape)


def redrawn(labels: Labels, box: Box, wanted: Mask, *, value: int, over: Over = "background") -> Change:
    """In the box, `value` where it is wanted and nowhere else.

    `wanted`: a mask of the box's shape. What no longer is wanted becomes background; what is wanted is taken from the
    background, and from other structures only with `over="all"`.
    """
    before = labels[box.slices]
    had = before == value
    after = before.copy(order="K")
    after[had & ~wanted] = 0
    after[wanted if over == "all" else wanted & (before == 0)] = value
    return Change(box, after)


def painted(labels: Labels, box: Box, added: Mask, *, value: int, over: Over = "background") -> Change:
    """In the box, `value` where it is added; nothing of it is taken away. `value` 0 erases: pass `over="all"`."""
    before = labels[box.slices]
    after = before.copy(order="K")
    after[added if over == "all" else added & (before == 0)] = value
    return Change(box, after)


def erased(labels: Labels, box: Box, removed: Mask, *, value: int) -> Change:
    """In the box, background where `value` is removed; other structures stay."""
    after = labels[box.slices].copy(order="K")
    after[removed & (after == value)] = 0
    return Change(box, after)


def extent(labels: Labels, value: int) -> Box:
    """The smallest box around a structure. Raises `LabelError` if the (I, J, K) array has none, or for value 0."""
    if value <= 0:
        raise LabelError("the background is no structure", expected="a value above 0", got=value)
    box = foreground_box(labels == value)
    if box is None:
        raise LabelError("there is nothing of this structure", got=f"no voxel of value {value}")
    return box


def value_at(labels: Labels, index: Triple) -> int:
    """The structure at an index. Raises `InputError` where there is background, or for an index outside."""
    value = int(labels[checked_index(index, labels.shape)])
    if value == 0:
        raise InputError("there is no structure at this point", got=index, remedy="Click on the structure itself.")
    return value


def checked_value(value: int, labels: Labels) -> int:
    """A value that the array can hold. Raises `LabelError` for one that is negative or too large."""
    largest = 1 if labels.dtype == np.bool_ else int(np.iinfo(labels.dtype).max)
    if not 0 <= value <= min(largest, 65535):
        raise LabelError("a label does not fit", expected=f"0 to {min(largest, 65535)}", got=value)
    return int(value)
