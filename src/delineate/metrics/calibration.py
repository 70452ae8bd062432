"""Whether probabilities mean what they say: of voxels said to be 0.8 liver, are four in five liver?

Everything is counted slab by slab, so that probabilities may be mapped from files larger than the memory, and added up,
so that cases are pooled exactly.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from delineate.errors import InputError
from delineate.geometry import Box, FloatArray, box_of, foreground_box
from delineate.metrics.counting import checked_spacing

Array = npt.NDArray[Any]
Mask = npt.NDArray[np.bool_]

BINS = 15
WITHIN_MM = 10.0

# Probabilities in 16 bits miss 1 by a little.
_ROUNDING = 1e-3
_SLAB_VOXELS = 4_000_000


@dataclass(frozen=True, slots=True)
class ReliabilityBin:
    """Voxels with probabilities from `lower` to `upper`: their mean `confidence`, the `frequency` with which they were
    right, and their `count`; NaN where there are none."""

    lower: float
    upper: float
    confidence: float
    frequency: float
    count: int


@dataclass(frozen=True, slots=True, eq=False)
class Calibration:
    """Sums over voxels, in bins of equal width of the probability: (B,) `counts`, `confidences` and `hits`.

    `squares`: the sum of (probability - truth)² over all. No voxels give NaN. None of the figures says how good a
    segmentation is: a model that says 0.1 everywhere is perfectly calibrated where one voxel in ten is the structure.
    Read them beside Dice.
    """

    counts: npt.NDArray[np.int64]
    confidences: FloatArray
    hits: npt.NDArray[np.int64]
    squares: float

    @property
    def voxels(self) -> int:
        return int(self.counts.sum())

    @property
    def expected_error(self) -> float:
        """ECE, 0 to 1: |confidence - frequency|, averaged over voxels (Naeini et al., AAAI 2015; Guo et al., ICML
        2017)."""
        return float(np.abs(self.confidences - self.hits).sum()) / self.voxels if self.voxels else math.nan

    @property
    def largest_error(self) -> float:
        """MCE, 0 to 1: the largest |confidence - frequency| of a bin (Naeini et al. 2015); noise for small bins."""
        some = self.counts > 0
        gaps = np.abs(self.confidences[some] - self.hits[some]) / self.counts[some]
        return float(gaps.max(initial=-math.inf)) if some.any() else math.nan

    @property
    def overconfidence(self) -> float:
        """-1 to 1: mean confidence minus mean frequency; above 0 more is promised than kept."""
        return float(self.confidences.sum() - self.hits.sum()) / self.voxels if self.voxels else math.nan

    @property
    def brier(self) -> float:
        """Mean of (probability - truth)², 0 to 1 (Brier 1950); it rewards being calibrated and being decided."""
        return self.squares / self.voxels if self.voxels else math.nan

    @property
    def curve(self) -> tuple[ReliabilityBin, ...]:
        edges = np.linspace(0, 1, len(self.counts) + 1).tolist()
        return tuple(
            ReliabilityBin(
                lower,
                upper,
                confidence=float(self.confidences[n] / count) if count else math.nan,
                frequency=float(self.hits[n] / count) if count else math.nan,
                count=int(count),
            )
            for n, (lower, upper, count) in enumerate(zip(edges, edges[1:], self.counts, strict=False))
        )


def pool_calibrations(cases: Sequence[Calibration]) -> Calibration:
    """All voxels of some cases together. Raises `ValueError` for no cases, or cases with different bins."""
    if len({len(case.counts) for case in cases}) != 1:
        raise ValueError(f"cases with one number of bins are needed: got {[len(case.counts) for case in cases]}")
    return Calibration(
        np.sum([case.counts for case in cases], axis=0),
        np.sum([case.confidences for case in cases], axis=0),
        np.sum([case.hits for case in cases], axis=0),
        math.fsum(case.squares for case in cases),
    )


def calibrate_structure(
    reference: Mask,
    probability: Array,
    spacing_mm: Sequence[float],
    *,
    predicted: Mask | None = None,
    within_mm: float | None = WITHIN_MM,
    bins: int = BINS,
) -> Calibration:
    """One structure against the rest: a mask (I, J, K), and the `probability` of the structure at each voxel, 0 to 1.

    Only voxels within `within_mm` of the reference or of what is `predicted` (a mask; without one, a probability of one
    half or more) count: nearly all of a scan is far from any structure, and easily said to be 0, so that over a whole
    scan every model looks calibrated, the better the larger the scan is. The errors that matter are near the surfaces
    and in what is missed or made up. None: all voxels. Where neither has a voxel, nothing is counted.

    `probability` may be a memory map; it is read twice, slab by slab. Raises `InputError` for values that are not
    finite or not from 0 to 1, with their number; `ValueError` for different shapes, a spacing that is not three
    positive numbers, a negative distance or no bins; `TypeError` for a mask that is not of bool.
    """
    for mask in (reference, predicted):
        if mask is not None and mask.dtype != bool:
            raise TypeError(f"masks are bool arrays: got {mask.dtype}")
    if predicted is not None:
        _check(reference.shape, predicted.shape, spacing_mm, within_mm=within_mm, bins=bins)
    _check(reference.shape, probability.shape, spacing_mm, within_mm=within_mm, bins=bins)
    seeds = reference.copy() if predicted is None else reference | predicted
    wrong = _Wrong()
    axis = _slowest(probability)
    for slab in _slabs(reference.shape, axis):
        values = np.asarray(probability[slab])
        wrong.count(values)
        if predicted is None:
            seeds[slab] |= values >= 0.5
    wrong.check()
    tally = _Tally(bins)
    for slab, near in _regions(seeds, spacing_mm, within_mm, axis=axis):
        tally.add(np.asarray(probability[slab])[near], reference[slab][near])
    return tally.result()


class _Wrong:
    """Counts what is no probability, to the end: how much there is tells a mishap from a broken model."""

    def __init__(self) -> None:
        self.not_finite = self.outside = self.values = 0

    def count(self, values: Array) -> None:
        finite = np.isfinite(values)
        self.values += values.size
        self.not_finite += values.size - int(finite.sum())
        self.outside += int(((values < -_ROUNDING) | (values > 1 + _ROUNDING))[finite].sum())

    def check(self) -> None:
        found = {"not finite": self.not_finite, "outside 0 to 1": self.outside}
        if any(found.values()):
            raise InputError(
                "values that are no probabilities",
                expected="0 to 1",
                got=", ".join(f"{count} {what}" for what, count in found.items() if count)
                + f", of {self.values} values",
                remedy="Give probabilities (after softmax or sigmoid), not logits or labels.",
            )


class _Tally:
    def __init__(self, bins: int) -> None:
        self._counts, self._hits = np.zeros((2, bins), dtype=np.int64)
        self._confidences, self._squares = np.zeros(bins), 0.0

    def add(self, confidence: Array, hit: Mask) -> None:
        """(N,) probabilities, and whether each came true."""
        bins = len(self._counts)
        said = np.clip(confidence.astype(np.float64), 0, 1)
        index = np.minimum((said * bins).astype(np.int64), bins - 1)
        self._counts += np.bincount(index, minlength=bins)
        self._hits += np.bincount(index[hit], minlength=bins)
        self._confidences += np.bincount(index, weights=said, minlength=bins)
        self._squares += float(((said - hit) ** 2).sum())

    def result(self) -> Calibration:
        return Calibration(self._counts, self._confidences, self._hits, self._squares)


def _slowest(array: Array) -> int:
    """The axis along which a slab is one part of a file."""
    return max(range(3), key=lambda axis: abs(array.strides[axis]))


def _slabs(shape: Sequence[int], axis: int, start: Sequence[int] = (0, 0, 0)) -> Iterator[tuple[slice, ...]]:
    """Slabs across an axis, some million voxels each, of a box that begins at `start`."""
    box = [slice(first, first + n) for first, n in zip(start, shape, strict=True)]
    step = max(1, _SLAB_VOXELS * shape[axis] // max(1, math.prod(shape)))
    for first in range(box[axis].start, box[axis].stop, step):
        yield (*box[:axis], slice(first, min(first + step, box[axis].stop)), *box[axis + 1 :])


def _regions(
    seeds: Mask, spacing_mm: Sequence[float], within_mm: float | None, *, axis: int
) -> Iterator[tuple[tuple[slice, ...], Mask]]:
    """Slabs, and which of their voxels lie within a distance of a seed; nothing where there is no seed."""
    box = foreground_box(seeds)
    if box is None:
        return
    if within_mm is None:
        for slab in _slabs(seeds.shape, axis):
            yield slab, np.ones(seeds[slab].shape, dtype=bool)
        return
    around = _grown(box, seeds.shape, [within_mm / s for s in spacing_mm])
    near = _near(seeds[around.slices], spacing_mm, within_mm)
    for slab in _slabs(around.shape, axis, around.start):
        yield slab, near[tuple(slice(s.start - a, s.stop - a) for s, a in zip(slab, around.start, strict=True))]


def _near(seeds: Mask, spacing_mm: Sequence[float], within_mm: float) -> Mask:
    import edt

    outside = np.ascontiguousarray(~seeds)
    distance = edt.edt(outside, anisotropy=tuple(float(s) for s in spacing_mm), black_border=False)
    near: Mask = distance <= within_mm * (1 + 1e-6)  # distances have 32 bits
    return near


def _grown(box: Box, shape: Sequence[int], by: Sequence[float]) -> Box:
    return box_of(
        (max(0, first - math.ceil(more)), min(n, last + math.ceil(more)))
        for first, last, n, more in zip(box.start, box.stop, shape, by, strict=True)
    )


def _check(
    reference: Sequence[int],
    probability: Sequence[int],
    spacing_mm: Sequence[float],
    *,
    within_mm: float | None,
    bins: int,
) -> None:
    if len(reference) != 3 or tuple(reference) != tuple(probability):
        raise ValueError(f"arrays (I, J, K) of one shape are needed: got {tuple(reference)}, {tuple(probability)}")
    checked_spacing(spacing_mm)
    if bins < 1 or (within_mm is not None and not 0 <= within_mm < math.inf):
        raise ValueError(f"one bin or more and a distance of 0 mm or more are needed: got {bins}, {within_mm}")
