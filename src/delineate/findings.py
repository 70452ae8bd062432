"""What is measured on a segmentation: coded quantities with units (DICOM PS3.16 TID 300, UCUM)."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from delineate.geometry import TripleMM
from delineate.labels import Code, Label
from delineate.volume import Segmentation

VOLUME = Code("118565006", "SCT", "Volume")
MILLILITRE = Code("ml", "UCUM", "ml")


@dataclass(frozen=True, slots=True)
class Spread:
    """How far a value moves over several results for one scan, e.g. of a model's folds.

    `lowest`, `highest`, `standard_deviation`: in the value's unit; `over`: of what, e.g. "5 folds".
    """

    lowest: float
    highest: float
    standard_deviation: float
    over: str


@dataclass(frozen=True, slots=True)
class Finding:
    """One number about one structure. `quantity`: what it is; `unit`: a UCUM code.

    `component`: the number of the lesion within the label that it is about (1 is the largest), None for all of it.
    `other`: the second structure of a distance, a share or a comparison. `derivation`: which statistic of the quantity,
    e.g. the mean of an attenuation. `points_mm`: where it was measured, in LPS: the two ends of a diameter or of a
    distance, none for what is measured on the whole. `note`: what a reader must know of this number, in words: its
    formula and source, a structure that the scan cuts. Raises `ValueError` for a value that is not finite.
    """

    label: Label
    quantity: Code
    value: float
    unit: Code
    component: int | None = None
    other: Label | None = None
    spread: Spread | None = None
    derivation: Code | None = None
    points_mm: tuple[TripleMM, ...] = ()
    note: str = ""

    @property
    def meaning(self) -> str:
        """The quantity in words, with its derivation: "Attenuation Coefficient, mean"."""
        if self.derivation is None:
            return self.quantity.meaning
        return f"{self.quantity.meaning}, {self.derivation.meaning.lower()}"

    def __post_init__(self) -> None:
        if not math.isfinite(self.value):
            raise ValueError(f"{self.quantity.meaning} of {self.label.name} is not finite: {self.value}")


def volumes_ml(segmentation: Segmentation) -> tuple[Finding, ...]:
    """The volume of every structure in ml, in the labels' order: voxels times the volume of one.

    An empty structure has 0 ml. Where labels overlap, shared voxels count for each.
    """
    ml = segmentation.grid.voxel_volume_ml
    counts = _voxel_counts(segmentation)
    return tuple(
        Finding(label, VOLUME, count * ml, MILLILITRE) for label, count in zip(segmentation.labels, counts, strict=True)
    )


def _voxel_counts(segmentation: Segmentation) -> list[int]:
    if segmentation.labels.overlaps:
        return [int(np.count_nonzero(mask)) for mask in segmentation.array]
    top = max((*segmentation.labels.values, int(segmentation.array.max())))
    counts = np.zeros(top + 1, dtype=np.int64)
    # Slab by slab, because bincount widens its input to 64 bits.
    for slab in np.moveaxis(segmentation.array, -1, 0):
        counts += np.bincount(slab.reshape(-1), minlength=top + 1)
    return [int(counts[value]) for value in segmentation.labels.values]
