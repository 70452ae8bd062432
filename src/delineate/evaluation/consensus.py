"""One segmentation of several readers': by majority, or by STAPLE, which weighs readers by how reliable they seem."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import Enum
from typing import Any

import numpy as np
import numpy.typing as npt

from delineate.errors import InputError
from delineate.evaluation.boxes import common_boxes
from delineate.evaluation.confusions import check_comparable
from delineate.geometry import Box, FloatArray, Grid, box_of
from delineate.volume import Segmentation, Source

Array = npt.NDArray[Any]
Mask = npt.NDArray[np.bool_]

MARGIN_MM = 5.0
MOST_READERS = 16

_START = 0.99999  # readers are taken to be good until they disagree (Warfield et al. 2004, section II-E)
_STEADY = 1e-12
_MOST_ROUNDS = 10_000


class Method(Enum):
    """How readers become one."""

    MAJORITY = "majority"
    STAPLE = "staple"


@dataclass(frozen=True, slots=True, eq=False)
class Staple:
    """What STAPLE makes of N masks. `probability`: (I, J, K) that a voxel is of the structure.

    (N,) `sensitivity` and `specificity`: of each reader, within the field of view. `prior`: the share of the field of
    view that is of the structure, over all readers. `converged`: whether the last round changed nothing any more.
    """

    probability: FloatArray
    sensitivity: FloatArray
    specificity: FloatArray
    prior: float
    converged: bool


def majority(masks: Sequence[Mask]) -> Mask:
    """Where more than half of (N, I, J, K) masks are: of two readers both, of three two, of four three.

    Half is no majority: a tie is outside. Raises `ValueError` for no masks.
    """
    if not len(masks):
        raise ValueError("no masks: a consensus is of one reader or more")
    votes = np.zeros(np.shape(masks[0]), dtype=np.uint16)
    for mask in masks:
        votes += mask
    most: Mask = 2 * votes > len(masks)
    return most


def staple(masks: Sequence[Mask]) -> Staple:
    """STAPLE of N masks, (I, J, K) each: the field of view is the whole array, see `consensus` for how to choose it.

    Expectation maximisation (Warfield, Zou, Wells, "Simultaneous Truth and Performance Level Estimation", IEEE TMI
    2004, equations 14 to 19, with the global prior of section II-E and independent voxels), over the patterns of votes:
    of N readers a voxel has one of 2^N, so that each round costs the same whatever the size. Where no reader has a
    voxel the probability is 0. Raises `InputError` for more than 16 readers, `ValueError` for no masks.
    """
    readers = len(masks)
    if not readers:
        raise ValueError("no masks: a consensus is of one reader or more")
    if readers > MOST_READERS:
        raise InputError("too many readers for STAPLE", expected=f"at most {MOST_READERS}", got=readers)
    codes = np.zeros(masks[0].shape, dtype=np.uint16)
    for n, mask in enumerate(masks):
        codes |= mask.astype(np.uint16) << np.uint16(n)
    counts = np.bincount(codes.ravel(order="K"), minlength=2**readers).astype(float)
    votes = (np.arange(2**readers)[:, None] >> np.arange(readers)) & 1 == 1
    prior = float(counts @ votes.mean(axis=1)) / max(1, codes.size)
    found = _maximise(votes, counts, prior)
    return replace(found, probability=found.probability[codes])


def _maximise(votes: Mask, counts: FloatArray, prior: float) -> Staple:
    """(M, N) which readers vote in each pattern, and (M,) its voxels; `probability` is (M,)."""
    sensitivity, specificity = np.full((2, votes.shape[1]), _START)
    rounds, moved = 0, math.inf
    while moved > _STEADY and rounds < _MOST_ROUNDS:
        inside = _inside(votes, sensitivity, specificity, prior)
        before = sensitivity, specificity
        sensitivity = _share(counts * inside, votes, otherwise=sensitivity)
        specificity = _share(counts * (1 - inside), ~votes, otherwise=specificity)
        moved = max(float(np.abs(new - old).max()) for new, old in zip((sensitivity, specificity), before, strict=True))
        rounds += 1
    probability = _inside(votes, sensitivity, specificity, prior)
    return Staple(probability, sensitivity, specificity, prior, converged=moved <= _STEADY)


def _inside(votes: Mask, sensitivity: FloatArray, specificity: FloatArray, prior: float) -> FloatArray:
    """(M,) the probability that voxels of each pattern are of the structure (equation 14)."""
    of = prior * np.where(votes, sensitivity, 1 - sensitivity).prod(axis=1)
    not_of = (1 - prior) * np.where(votes, 1 - specificity, specificity).prod(axis=1)
    total = of + not_of
    inside: FloatArray = np.divide(of, total, out=np.zeros_like(of), where=total > 0)
    return inside


def _share(weights: FloatArray, votes: Mask, *, otherwise: FloatArray) -> FloatArray:
    """(N,) the share of the weight on which each reader votes (equations 18 and 19); as it was if there is none."""
    total = weights.sum()
    return otherwise if total == 0 else weights @ votes / total


def consensus(segmentations: Sequence[Segmentation], method: Method, *, margin_mm: float = MARGIN_MM) -> Segmentation:
    """What several readers' segmentations of one scan come to, structure by structure, with the first one's labels.

    By majority no voxel can be of two structures. By STAPLE a voxel is of the structures whose probability is one half
    or more; of several the most probable, unless structures may overlap. STAPLE depends on its field of view: with
    ever more background around, wrong votes look ever rarer, and in the end two readers outvote any number of others.
    Here it is, for each structure, the box of what any reader drew and `margin_mm` around it: what is certain to be
    outside is left out, and each reader has some background to be right about.

    What no reader drew is empty. Raises `ValueError` for no segmentations, `GeometryMismatch` and `LabelError` unless
    all lie in one place and have the same names, `InputError` for more readers than `staple` takes.
    """
    if not segmentations:
        raise ValueError("no segmentations: a consensus is of one reader or more")
    first = segmentations[0]
    for other in segmentations[1:]:
        check_comparable(None, first, other)
    drawn = common_boxes(segmentations)
    array = np.zeros_like(first.array)
    best = (
        np.zeros(first.grid.shape, dtype=np.float32) if method is Method.STAPLE and not first.labels.overlaps else None
    )
    for index, label in enumerate(first.labels):
        if label.name not in drawn:
            continue
        box = _grown(drawn[label.name], first.grid, margin_mm)
        masks = [segmentation.mask(label.name, box) for segmentation in segmentations]
        if method is Method.MAJORITY:
            chosen = majority(masks)
        else:
            probability = staple(masks).probability
            chosen = probability >= 0.5
            if best is not None:
                chosen &= probability > best[box.slices]
                best[box.slices][chosen] = probability[chosen]
        if first.labels.overlaps:
            array[index][box.slices] = chosen
        else:
            array[box.slices][chosen] = label.value
    return replace(first, array=array, source=Source(), author=None)


def _grown(box: Box, grid: Grid, margin_mm: float) -> Box:
    margins = [max(1, math.ceil(margin_mm / spacing)) for spacing in grid.spacing_mm]
    return box_of(
        (max(0, start - margin), min(size, stop + margin))
        for start, stop, margin, size in zip(box.start, box.stop, margins, grid.shape, strict=True)
    )
