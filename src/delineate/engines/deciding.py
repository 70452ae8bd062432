"""Which engine is best, from what was measured."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import msgspec
import numpy as np
import numpy.typing as npt

BAR = 0.001
"""Dice that a reduced precision may cost a structure."""

EQUAL = 0.9999
"""Share of voxels that another engine in float32 must label like PyTorch in float32."""

SMALL = 1000
"""Voxels below which one voxel more or less is half the bar: such structures are looked at together."""

Masks = npt.NDArray[np.bool_]
LabelMap = npt.NDArray[np.integer]


class Agreement(msgspec.Struct, frozen=True, kw_only=True):
    """How far masks are from those of PyTorch in float32.

    `dice`: by structure, for those that are there. `loss`: what the worst structure loses, None if none was there.
    `equal`: share of all `voxels`. `whole`: masks of whole scans were compared, not windows.
    """

    dice: dict[str, float]
    loss: float | None
    equal: float
    voxels: int
    whole: bool = False


class Trial(msgspec.Struct, frozen=True, kw_only=True):
    """An engine that was tried: seconds to open a network and to run it on a window; `problem`: why it is out."""

    engine: str
    precision: str
    open_seconds: float = 0.0
    window_seconds: float = 0.0
    agreement: Agreement | None = None
    problem: str = ""

    @property
    def key(self) -> tuple[str, str]:
        return self.engine, self.precision

    @property
    def is_faithful(self) -> bool:
        """Whether its masks may stand for those of PyTorch in float32."""
        if self.key == ("torch", "float32"):
            return True
        if self.agreement is None:
            return False
        if self.precision == "float32":
            return self.agreement.equal >= EQUAL
        return self.agreement.loss is not None and self.agreement.loss <= BAR


@dataclass(slots=True)
class Tally:
    """Voxels counted so far, of each structure in both masks (`hits`) and in either (`sizes`: the sum of the two)."""

    names: Sequence[str]
    hits: npt.NDArray[np.int64] = field(init=False)
    sizes: npt.NDArray[np.int64] = field(init=False)
    equal: int = 0
    voxels: int = 0

    def __post_init__(self) -> None:
        self.hits, self.sizes = np.zeros((2, len(self.names)), dtype=np.int64)

    def add_labels(self, reference: LabelMap, found: LabelMap) -> None:
        """Count two label maps (I, J, K) whose values are 0 and 1.. in the order of the names."""
        count = len(self.names) + 1
        pairs = np.bincount(reference.ravel().astype(np.int64) * count + found.ravel(), minlength=count**2)
        table = pairs.reshape(count, count)
        self.hits += np.diag(table)[1:]
        self.sizes += (table.sum(0) + table.sum(1))[1:]
        self.equal += int(np.trace(table))
        self.voxels += reference.size

    def add_masks(self, reference: Masks, found: Masks) -> None:
        """Count masks (names, I, J, K), which may overlap."""
        axes = (1, 2, 3)
        self.hits += np.count_nonzero(reference & found, axis=axes)
        self.sizes += np.count_nonzero(reference, axis=axes) + np.count_nonzero(found, axis=axes)
        self.equal += int((reference == found).all(0).sum())
        self.voxels += reference[0].size

    def agreement(self, *, whole: bool = False) -> Agreement:
        """What was counted. Structures of less than `SMALL` voxels count as one when it comes to the loss."""
        there = self.sizes > 0
        dice = {
            name: round(float(2 * hit / size), 6)
            for name, hit, size, is_there in zip(self.names, self.hits, self.sizes, there, strict=True)
            if is_there
        }
        small = there & (self.sizes < 2 * SMALL)
        hits = [*self.hits[there & ~small], self.hits[small].sum()]
        sizes = [*self.sizes[there & ~small], self.sizes[small].sum()]
        losses = [1 - 2 * hit / size for hit, size in zip(hits, sizes, strict=True) if size]
        return Agreement(
            dice=dice,
            loss=round(float(max(losses)), 6) if losses else None,
            equal=self.equal / max(1, self.voxels),
            voxels=self.voxels,
            whole=whole,
        )


def best(trials: Sequence[Trial], *, opened: int, runs: int, faithful: bool = True) -> Trial | None:
    """What will be done first: `opened` networks, each window of `runs`. None if nothing is fit.

    `faithful`: leave out what may lose masks; without it only speed counts.
    """
    fit = [trial for trial in trials if not trial.problem and (trial.is_faithful or not faithful)]
    return min(fit, key=lambda trial: opened * trial.open_seconds + runs * trial.window_seconds, default=None)
