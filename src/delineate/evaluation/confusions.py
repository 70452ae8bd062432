"""Which structures were taken for which, left for right above all."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from delineate.errors import GeometryMismatch, LabelError
from delineate.geometry import aligned, largest_distance_mm
from delineate.labels import LabelSet
from delineate.metrics import confusion_counts
from delineate.volume import Segmentation

Counts = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class SideConfusion:
    """Voxels of one left/right pair that got the other side's label."""

    left: str
    right: str
    left_as_right: int
    right_as_left: int


def confusion(reference: Segmentation, prediction: Segmentation) -> Counts:
    """Voxels of each pair of structures, (L + 1, L + 1), reference by prediction; 0 is background.

    Index n is the reference's n-th label. Raises as `score_case`, and `LabelError` where structures overlap,
    because a voxel then has no single label.
    """
    check_comparable(None, reference, prediction)
    if reference.labels.overlaps or prediction.labels.overlaps:
        raise LabelError("a confusion matrix needs label maps", got="structures that may overlap")
    return confusion_counts(reference.array, with_values_of(reference, prediction), reference.labels.values)


def side_confusions(counts: Counts, labels: LabelSet) -> tuple[SideConfusion, ...]:
    """For each left/right pair of labels, the voxels that got the other side's, of a confusion matrix."""
    index = {name: n for n, name in enumerate(labels.names, start=1)}
    return tuple(
        SideConfusion(left, right, int(counts[index[left], index[right]]), int(counts[index[right], index[left]]))
        for left, right in labels.pairs
    )


def left_right_confusion(reference: Segmentation, prediction: Segmentation) -> tuple[SideConfusion, ...]:
    """For each left/right pair of labels, the voxels that got the other side's. Raises as `confusion`."""
    return side_confusions(confusion(reference, prediction), reference.labels)


def total_confusion(matrices: Iterable[Counts | None]) -> Counts | None:
    """The sum of several cases' confusion matrices; None if there is none."""
    known = [matrix for matrix in matrices if matrix is not None]
    return np.sum(known, axis=0, dtype=np.int64) if known else None


def check_comparable(case_id: str | None, reference: Segmentation, prediction: Segmentation) -> None:
    """Raises `GeometryMismatch` unless both lie in one place, `LabelError` unless both have the same names."""
    _check_same_space(case_id, reference, prediction)
    if set(reference.labels.names) != set(prediction.labels.names):
        raise LabelError(
            "reference and prediction have different structures",
            expected=sorted(reference.labels.names),
            got=sorted(prediction.labels.names),
            case=case_id,
            remedy="Give both the same names.",
        )


def with_values_of(reference: Segmentation, prediction: Segmentation) -> npt.NDArray[np.unsignedinteger]:
    """The prediction's label map with the reference's value for each name."""
    named = {label.name: label.value for label in reference.labels}
    new_values = {label.value: named[label.name] for label in prediction.labels}
    if all(old == new for old, new in new_values.items()):
        return prediction.array
    table = np.zeros(int(max(prediction.array.max(), *new_values)) + 1, dtype=np.uint32)
    table[list(new_values)] = list(new_values.values())
    renamed: npt.NDArray[np.unsignedinteger] = table[prediction.array]
    return renamed


def _check_same_space(case_id: str | None, reference: Segmentation, prediction: Segmentation) -> None:
    if aligned(reference.grid, prediction.grid):
        return
    distance_mm = largest_distance_mm(reference.grid, prediction.grid)
    shapes = reference.grid.shape, prediction.grid.shape
    raise GeometryMismatch(
        "reference and prediction do not lie in the same place",
        expected=f"shape {shapes[0]}, voxels within a tenth of a voxel",
        got=f"shape {shapes[1]}" if shapes[0] != shapes[1] else f"voxels up to {distance_mm:.3g} mm apart",
        case=case_id,
        remedy="Bring the prediction back to the scan's own grid before it is scored.",
    )
