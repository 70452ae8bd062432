"""What somebody pointed at, and what is proposed for it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
import numpy.typing as npt

from delineate.editing.boxes import Mask, checked_index, voxel_at
from delineate.errors import InputError
from delineate.geometry import Box, Triple, box_of

Floats = npt.NDArray[np.float64]
Places = npt.NDArray[np.int64]


def _no_points() -> Floats:
    return np.empty((0, 3))


class PointedAt(Protocol):
    """Continuous indices of one grid: points in what is meant and beside it (n, 3), those of scribbles too; the lowest
    and the highest index of a box around it (2, 3), both included, or None."""

    @property
    def positive(self) -> Floats: ...
    @property
    def negative(self) -> Floats: ...
    @property
    def box(self) -> Floats | None: ...


@dataclass(frozen=True, slots=True, eq=False)
class Pointing:
    """The plain `PointedAt`."""

    positive: Floats = field(default_factory=_no_points)
    negative: Floats = field(default_factory=_no_points)
    box: Floats | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Proposal:
    """A mask in a box of an (I, J, K) array, of its shape; nothing is proposed outside. `method`: what was used."""

    box: Box
    mask: Mask
    method: str


@dataclass(frozen=True, slots=True, eq=False)
class Seeds:
    """The same in voxels that are inside: (n, 3) places in what is meant and beside it, and the box, half open."""

    positive: Places
    negative: Places
    box: Box | None


def seeds_of(pointed: PointedAt, shape: Triple) -> Seeds:
    """The voxels that were pointed at.

    Raises `InputError` if there is neither a positive point nor a box, for a place outside of the volume, for a box
    that holds nothing, and where one voxel is said to be both.
    """
    positive, negative = (_places(points, shape) for points in (pointed.positive, pointed.negative))
    if len(positive) == 0 and pointed.box is None:
        raise InputError("nothing says what is meant", remedy="Click on the structure, or draw a box around it.")
    both = {tuple(place) for place in positive.tolist()} & {tuple(place) for place in negative.tolist()}
    if both:
        raise InputError("a point is said to be in the structure and beside it", got=min(both))
    return Seeds(positive, negative, None if pointed.box is None else _box(pointed.box, shape))


def _places(points: Floats, shape: Triple) -> Places:
    rows = np.asarray(points, dtype=np.float64).reshape(-1, 3)
    return np.array([checked_index(row, shape) for row in rows.tolist()], dtype=np.int64).reshape(-1, 3)


def _box(corners: Floats, shape: Triple) -> Box:
    low, high = np.asarray(corners, dtype=np.float64).reshape(2, 3)
    if not (np.isfinite(low).all() and np.isfinite(high).all()):
        raise InputError("a box must be finite numbers", got=np.asarray(corners).tolist())
    first, last = voxel_at(np.minimum(low, high)), voxel_at(np.maximum(low, high)) + 1
    ends = [(max(a, 0), min(b, size)) for a, b, size in zip(first.tolist(), last.tolist(), shape, strict=True)]
    if any(a >= b for a, b in ends):
        raise InputError("a box lies outside the volume", expected=f"inside {tuple(shape)}", got=(low, high))
    return box_of(ends)
