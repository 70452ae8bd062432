"""Lesion by lesion: which of a structure's pieces were found, which were made up, and how well each was drawn.

Lesions are the 26-connected components of a mask. For numbered instances see `delineate.metrics.panoptic`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import Enum
from typing import Any

import numpy as np
import numpy.typing as npt

from delineate.geometry import Box, TripleMM, box_of, foreground_box
from delineate.metrics.counting import checked_spacing
from delineate.metrics.definitions import Better, Metric, Miss
from delineate.metrics.pairing import Indices, Numbers, Pairs, best_partners, pair_pieces

Array = npt.NDArray[Any]
Mask = npt.NDArray[np.bool_]

LESION_METRICS: tuple[Metric, ...] = (
    Metric("sensitivity", "Lesion sensitivity", "", Better.HIGHER, Miss.ZERO, "found / (found + missed)"),
    Metric("precision", "Lesion precision", "", Better.HIGHER, Miss.ZERO, "found / (found + false positives)"),
    Metric("f1", "Lesion F1", "", Better.HIGHER, Miss.ZERO, "2 found / (2 found + missed + false positives)"),
    Metric(
        "mean_dice",
        "Lesion Dice",
        "",
        Better.HIGHER,
        Miss.ZERO,
        "mean of the Dice of every lesion of the reference, 0 for a missed one",
    ),
    Metric(
        "mean_dice_with_false_positives",
        "Lesion-wise Dice",
        "",
        Better.HIGHER,
        Miss.ZERO,
        "sum of the lesions' Dice / (found + missed + false positives)",
        "Moawad et al. 2023 (BraTS), without their dilation",
    ),
    Metric("false_positives", "False positives", "", Better.NEITHER, Miss.LEFT_OUT, "read beside the sensitivity"),
)
"""The figures of `LesionScores`. False positives are no score: a prediction of nothing has none."""


class Matching(Enum):
    """When a lesion of the reference counts as found."""

    ONE_TO_ONE = "one to one"  # it has a predicted lesion of its own, of enough IoU
    ANY_OVERLAP = "any overlap"  # one voxel of it is predicted


@dataclass(frozen=True, slots=True)
class Lesion:
    """A lesion of the reference. `number`: 1 is the largest. `box`: in the array's indices.

    `dice`: with the predicted lesion it was matched with (`ANY_OVERLAP`: the best that touches it), 0 if missed.
    `merged`: it was missed, but most of its voxels lie in predicted lesions.
    """

    number: int
    volume_ml: float
    box: Box
    dice: float
    found: bool
    merged: bool


@dataclass(frozen=True, slots=True)
class FalsePositive:
    """A predicted lesion where there is none; see `score_lesions` for which ones are."""

    volume_ml: float
    box: Box


@dataclass(frozen=True, slots=True)
class LesionScores:
    """The lesions of one structure in one case; largest first.

    | reference | prediction | sensitivity | precision, F1 | mean_dice | mean_dice_with_false_positives |
    |-----------|------------|-------------|---------------|-----------|--------------------------------|
    | some      | some       | 0 to 1      | 0 to 1        | 0 to 1    | 0 to 1                         |
    | some      | none       | 0           | 0             | 0         | 0                              |
    | none      | some       | NaN         | 0             | NaN       | 0                              |
    | none      | none       | NaN         | NaN           | NaN       | NaN                            |

    `fragments`: predicted lesions that are neither matched nor false positives. `ignored_references`,
    `ignored_predictions`: those below the smallest volume, counted neither for nor against.
    """

    lesions: tuple[Lesion, ...]
    wrong: tuple[FalsePositive, ...]
    fragments: int
    ignored_references: int
    ignored_predictions: int

    @property
    def found(self) -> int:
        return sum(lesion.found for lesion in self.lesions)

    @property
    def missed(self) -> int:
        return len(self.lesions) - self.found

    @property
    def false_positives(self) -> int:
        return len(self.wrong)

    @property
    def merged(self) -> int:
        return sum(lesion.merged for lesion in self.lesions)

    @property
    def sensitivity(self) -> float:
        return _ratio(self.found, len(self.lesions))

    @property
    def precision(self) -> float:
        if self.lesions and not self.found:
            return 0.0
        return _ratio(self.found, self.found + self.false_positives)

    @property
    def f1(self) -> float:
        return _ratio(2 * self.found, self.found + len(self.lesions) + self.false_positives)

    @property
    def mean_dice(self) -> float:
        return _ratio(math.fsum(lesion.dice for lesion in self.lesions), len(self.lesions))

    @property
    def mean_dice_with_false_positives(self) -> float:
        return _ratio(math.fsum(lesion.dice for lesion in self.lesions), len(self.lesions) + self.false_positives)

    def within(self, box: Box) -> LesionScores:
        """The same with boxes in the indices of an array, if what was scored is what lies in `box` of it."""
        return replace(
            self,
            lesions=tuple(replace(lesion, box=_moved(lesion.box.slices, box)) for lesion in self.lesions),
            wrong=tuple(replace(wrong, box=_moved(wrong.box.slices, box)) for wrong in self.wrong),
        )


def score_lesions(
    reference: Mask,
    prediction: Mask,
    spacing_mm: Sequence[float],
    *,
    matching: Matching = Matching.ONE_TO_ONE,
    minimum_iou: float = 0.1,
    smallest_mm3: float = 0.0,
) -> LesionScores:
    """Which lesions of an (I, J, K) mask were found, one to one or by any overlap.

    `ONE_TO_ONE`: pairs of an IoU above `minimum_iou`, chosen so that the sum of their Dice is largest (which two
    partners a lesion has does not matter then, and taking predicted lesions away can raise neither the number found nor
    that sum). So a predicted lesion that covers two finds one of them, and the other is missed and `merged`; of a
    lesion that is predicted in pieces one piece is its match, and the others are `fragments`. `ANY_OVERLAP`: a lesion
    is found if one of its voxels is predicted; `minimum_iou` is not used.

    False positives are predicted lesions that could be matched with no lesion and of which at most half lies in the
    reference (`ANY_OVERLAP`: none). Whether one is a false positive therefore does not depend on what else was
    predicted, and a prediction without a lesion that this one finds can't score better, in any figure of
    `LESION_METRICS` that has a direction.

    Lesions of the reference below `smallest_mm3` need not be found; predicted ones below it may match, but are no false
    positives. Raises `ValueError` for masks of different shapes, a spacing that is not three positive numbers or a
    threshold out of range, `TypeError` for masks that are not of bool. For masks without voxels see `LesionScores`.
    """
    spacing = _checked(reference, prediction, spacing_mm, minimum_iou=minimum_iou, smallest_mm3=smallest_mm3)
    box = _common_box(reference, prediction)
    if box is None:
        return LesionScores((), (), 0, 0, 0)
    pieces = [_pieces(mask, box) for mask in (reference, prediction)]
    pairs = pair_pieces(pieces[0].components, pieces[1].components)
    voxel_mm3 = math.prod(spacing)
    # The tolerance lets a lesion of just the smallest volume count.
    smallest = smallest_mm3 * (1 - 1e-9) / voxel_mm3
    eligible = pairs.iou > minimum_iou if matching is Matching.ONE_TO_ONE else pairs.both > 0
    wrong = _stands_alone(pairs, eligible)
    counted, large = pairs.reference_voxels >= smallest, pairs.prediction_voxels >= smallest
    dice = _dice(pairs, eligible & counted[pairs.first], matching)
    matched = int(np.count_nonzero(dice)) if matching is Matching.ONE_TO_ONE else int((~wrong).sum())
    return LesionScores(
        lesions=_lesions(pairs, pieces[0].boxes, dice, counted, voxel_mm3),
        wrong=_wrong_ones(pairs, pieces[1].boxes, wrong & large, voxel_mm3),
        fragments=int((~wrong).sum()) - matched,
        ignored_references=int((~counted).sum()),
        ignored_predictions=int((wrong & ~large).sum()),
    )


def pool_lesions(cases: Sequence[LesionScores]) -> LesionScores:
    """The lesions of all cases as if of one, so that each lesion weighs the same; no cases give no lesions."""
    return LesionScores(
        lesions=tuple(lesion for case in cases for lesion in case.lesions),
        wrong=tuple(wrong for case in cases for wrong in case.wrong),
        fragments=sum(case.fragments for case in cases),
        ignored_references=sum(case.ignored_references for case in cases),
        ignored_predictions=sum(case.ignored_predictions for case in cases),
    )


@dataclass(frozen=True, slots=True)
class _Pieces:
    """`components`: in the common box, numbered from 1; `boxes`: of each, in the whole array."""

    components: Array
    boxes: tuple[Box, ...]


def _pieces(mask: Mask, box: Box) -> _Pieces:
    import cc3d

    # A copy: cc3d takes no arrays that must not be written to.
    components = cc3d.connected_components(mask[box.slices].astype(np.uint8), connectivity=26)
    boxes = cc3d.statistics(components)["bounding_boxes"][1:]
    return _Pieces(components, tuple(_moved(slices, box) for slices in boxes))


def _moved(slices: tuple[slice, ...], within: Box) -> Box:
    return box_of((s.start + first, s.stop + first) for s, first in zip(slices, within.start, strict=True))


def _common_box(reference: Mask, prediction: Mask) -> Box | None:
    boxes = [box for box in map(foreground_box, (reference, prediction)) if box is not None]
    if not boxes:
        return None
    starts, stops = zip(*(box.start for box in boxes), strict=True), zip(*(box.stop for box in boxes), strict=True)
    return box_of((min(start), max(stop)) for start, stop in zip(starts, stops, strict=True))


def _stands_alone(pairs: Pairs, eligible: Mask) -> Mask:
    """(P,) which predicted lesions are there without a lesion."""
    inside, partners = np.zeros((2, len(pairs.prediction_voxels)), dtype=np.int64)
    np.add.at(inside, pairs.second, pairs.both)
    np.add.at(partners, pairs.second[eligible], 1)
    alone: Mask = (partners == 0) & (2 * inside <= pairs.prediction_voxels)
    return alone


def _dice(pairs: Pairs, eligible: Mask, matching: Matching) -> Numbers:
    """(R,) of each lesion with its partner; 0 without one."""
    dice = np.zeros(len(pairs.reference_voxels))
    weights = np.where(eligible, pairs.dice, 0)
    if matching is Matching.ONE_TO_ONE:
        chosen = best_partners(pairs, weights)
        dice[pairs.first[chosen]] = weights[chosen]
    else:
        np.maximum.at(dice, pairs.first, weights)
    return dice


def _lesions(pairs: Pairs, boxes: Sequence[Box], dice: Numbers, counted: Mask, voxel_mm3: float) -> tuple[Lesion, ...]:
    covered: Indices = np.zeros(len(dice), dtype=np.int64)
    np.add.at(covered, pairs.first, pairs.both)
    merged = (dice == 0) & (2 * covered > pairs.reference_voxels)
    return tuple(
        Lesion(
            number=number,
            volume_ml=float(pairs.reference_voxels[n]) * voxel_mm3 / 1000,
            box=boxes[n],
            dice=float(dice[n]),
            found=bool(dice[n] > 0),
            merged=bool(merged[n]),
        )
        for number, n in enumerate(_largest_first(pairs.reference_voxels, counted), start=1)
    )


def _wrong_ones(pairs: Pairs, boxes: Sequence[Box], wrong: Mask, voxel_mm3: float) -> tuple[FalsePositive, ...]:
    voxels = pairs.prediction_voxels
    return tuple(FalsePositive(float(voxels[n]) * voxel_mm3 / 1000, boxes[n]) for n in _largest_first(voxels, wrong))


def _largest_first(voxels: Indices, chosen: Mask) -> list[int]:
    order = np.argsort(-voxels, kind="stable")
    return [int(n) for n in order if chosen[n]]


def _checked(
    reference: Mask, prediction: Mask, spacing_mm: Sequence[float], *, minimum_iou: float, smallest_mm3: float
) -> TripleMM:
    if reference.dtype != bool or prediction.dtype != bool:
        raise TypeError(f"masks are bool arrays: got {reference.dtype} and {prediction.dtype}")
    if reference.ndim != 3 or reference.shape != prediction.shape:
        raise ValueError(f"two masks (I, J, K) of one shape are needed: got {reference.shape}, {prediction.shape}")
    if not 0 <= minimum_iou < 1 or not 0 <= smallest_mm3 < math.inf:
        raise ValueError(f"thresholds out of range: IoU {minimum_iou} (0 to below 1), {smallest_mm3} mm³ (0 or more)")
    return checked_spacing(spacing_mm)


def _ratio(part: float, whole: float) -> float:
    return part / whole if whole else math.nan
