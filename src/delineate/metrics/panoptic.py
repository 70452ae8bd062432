"""Panoptic quality: numbered instances, each of a class, against numbered instances."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from delineate.metrics.pairing import Pairs, pair_pieces

Array = npt.NDArray[Any]

# Above one half at most one instance can be another's partner, so that there is nothing to choose.
MINIMUM_IOU = 0.5


@dataclass(frozen=True, slots=True)
class PanopticScores:
    """The instances of one class. `iou_sum`: over the found ones.

    - `panoptic_quality`: iou_sum / (found + missed / 2 + false_positives / 2) (Kirillov et al., "Panoptic
      Segmentation", CVPR 2019, equation 1).
    - `recognition_quality`: found / (the same), which is F1.

    Both are NaN where neither reference nor prediction has an instance, and 0 where only one of them has. Kirillov's
    third figure, the mean IoU of the found ones, gets better when a poorly drawn one is left out: it is not given.
    """

    found: int
    missed: int
    false_positives: int
    iou_sum: float

    @property
    def panoptic_quality(self) -> float:
        return self.iou_sum / self._instances if self._instances else math.nan

    @property
    def recognition_quality(self) -> float:
        return self.found / self._instances if self._instances else math.nan

    @property
    def _instances(self) -> float:
        return self.found + (self.missed + self.false_positives) / 2


def panoptic(
    reference: Array,
    prediction: Array,
    *,
    reference_classes: Mapping[int, str] | None = None,
    prediction_classes: Mapping[int, str] | None = None,
) -> dict[str, PanopticScores]:
    """Panoptic scores of each class of instances in two (I, J, K) arrays, in order of the classes' names.

    Arrays hold an instance's number at each of its voxels, 0 where there is none; numbers need no order. `..._classes`:
    of each number; without them all are of one class, "instance". A pair counts if both are of one class and their IoU
    is above one half. Classes that only the mappings name are there with no instances.

    Raises `ValueError` for arrays of different shapes or with negative numbers, or for numbers without a class,
    `TypeError` for arrays that are not of integers.
    """
    if reference.shape != prediction.shape:
        raise ValueError(f"two arrays of one shape are needed: got {reference.shape}, {prediction.shape}")
    for array in (reference, prediction):
        _check(array)
    somewhere = (reference > 0) | (prediction > 0)
    first, first_classes = _numbered(reference[somewhere], reference_classes)
    second, second_classes = _numbered(prediction[somewhere], prediction_classes)
    pairs = pair_pieces(first, second)
    named = {*(reference_classes or {}).values(), *(prediction_classes or {}).values()}
    names = sorted({*first_classes.tolist(), *second_classes.tolist(), *named})
    return {name: _score(pairs, first_classes == name, second_classes == name) for name in names}


def _check(array: Array) -> None:
    if array.dtype.kind not in "bui":
        raise TypeError(f"instances are numbered with integers: got {array.dtype}")
    if array.min(initial=0) < 0:
        raise ValueError(f"instances are numbered from 1, 0 is none: got {array.min()}")


def _numbered(voxels: Array, classes: Mapping[int, str] | None) -> tuple[Array, Array]:
    """(N,) voxels with the instances as 1..n, and the class of each of these."""
    found = np.unique(np.append(voxels, 0).astype(np.int64))
    instances = found[1:].tolist()
    unknown = [] if classes is None else [number for number in instances if number not in classes]
    if unknown:
        raise ValueError(f"instances without a class: {unknown[:10]}")
    names = ["instance" if classes is None else classes[number] for number in instances]
    return np.searchsorted(found, voxels), np.array(names, dtype=object)


def _score(pairs: Pairs, references: npt.NDArray[np.bool_], predictions: npt.NDArray[np.bool_]) -> PanopticScores:
    pair = references[pairs.first] & predictions[pairs.second] & (pairs.iou > MINIMUM_IOU)
    found = int(pair.sum())
    return PanopticScores(
        found=found,
        missed=int(references.sum()) - found,
        false_positives=int(predictions.sum()) - found,
        iou_sum=float(pairs.iou[pair].sum()),
    )
