"""Prepared cases made ready to be drawn from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import numpy.typing as npt

from delineate.errors import DatasetError
from delineate.preprocessing import IGNORE, PreparedCase

MOST_LOCATIONS = 10_000  # voxels kept per structure to centre patches on


@dataclass(frozen=True, slots=True, eq=False)
class TrainingCase:
    """A prepared case, where its structures are (one (n, 3) index array each), and what surrounds it, a channel.

    `values`: the structures' values in the target, in the order of `locations`. `blank` (C,): what a channel that is
    not there is filled with, and `absent`: those that are not. `others`: the same case as further readers saw it.
    `masks`: so many of the image's last channels are masks of a cascade's stage before.
    """

    case: PreparedCase
    values: tuple[int, ...]
    locations: tuple[npt.NDArray[np.int32], ...]
    outside: npt.NDArray[np.float32]
    blank: npt.NDArray[np.float32]
    absent: tuple[int, ...] = ()
    others: tuple[TrainingCase, ...] = ()
    masks: int = 0

    @property
    def readings(self) -> tuple[TrainingCase, ...]:
        """The case once for each reader."""
        return (self, *self.others)

    @property
    def values_of_all(self) -> tuple[int, ...]:
        """The structures that some reader drew."""
        return tuple(sorted({v for one in self.readings for v in one.values})) if self.others else self.values


def index_case(
    case: PreparedCase,
    *,
    seed: int,
    padding: Literal["lowest", "zero"] = "lowest",
    blank: Sequence[float] = (),
    masks: int = 0,
) -> TrainingCase:
    """Find the voxels to centre patches on; `padding`: what surrounds the case, as in the plan's tiling; `blank`: see
    `preprocessing.blank_values`, 0 for channels beyond; `masks`: how many of the last channels are masks.

    Raises `DatasetError` for a case without a reference.
    """
    if case.target is None:
        raise DatasetError("a training case has no reference", case=case.id, remedy="Add its label file.")
    outside = np.zeros(len(case.image), np.float32)
    if padding == "lowest":
        outside = np.asarray(case.image.reshape(len(outside), -1).min(axis=1), dtype=np.float32)
    filled = np.zeros(len(case.image), np.float32)
    filled[: len(blank)] = blank
    scanned = len(case.image) - masks
    absent = _absent(case.image[:scanned], filled) if len(blank) > 1 else ()
    first, *others = (
        TrainingCase(
            replace(case, target=target, others=()), *_locate(target, seed), outside, filled, absent, masks=masks
        )
        for target in (case.target, *case.others)
    )
    return replace(first, others=tuple(others))


def _absent(image: npt.NDArray[np.float32], blank: npt.NDArray[np.float32]) -> tuple[int, ...]:
    corners = image[:, 0, 0, 0]
    return tuple(n for n, channel in enumerate(image) if corners[n] == blank[n] and not (channel != blank[n]).any())


def _locate(target: npt.NDArray[np.uint8], seed: int) -> tuple[tuple[int, ...], tuple[npt.NDArray[np.int32], ...]]:
    rng = np.random.default_rng(seed)
    flat = target.ravel()
    found = []
    values = tuple(int(value) for value in np.unique(flat[(flat > 0) & (flat != IGNORE)]))
    for value in values:
        where = np.flatnonzero(flat == value)
        if where.size > MOST_LOCATIONS:
            where = np.sort(rng.choice(where, MOST_LOCATIONS, replace=False))
        found.append(np.stack(np.unravel_index(where, target.shape), axis=1).astype(np.int32))
    return values, tuple(found)
