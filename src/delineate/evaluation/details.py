"""What is measured of a case only when asked for: lesions, centre lines, shapes."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from delineate.errors import LabelError
from delineate.evaluation.boxes import common_boxes
from delineate.evaluation.cases import CaseScores
from delineate.geometry import Box
from delineate.labels import LabelSet
from delineate.metrics.lesions import LesionScores, score_lesions
from delineate.metrics.shapes import StructureShape, describe_shape, describe_shapes
from delineate.metrics.tubes import score_tubes
from delineate.volume import Segmentation

Mask = npt.NDArray[np.bool_]

_ONE_VOXEL = Box((0, 0, 0), (1, 1, 1))  # enough of a structure that is nowhere


@dataclass(frozen=True, slots=True)
class Details:
    """`lesions`, `tubes`: names of structures to score lesion by lesion, or by centre lines. `shapes`: describe the
    reference's structures, for advice on figures. `smallest_mm3`: lesions below it are ignored (see `score_lesions`).
    """

    lesions: tuple[str, ...] = ()
    tubes: tuple[str, ...] = ()
    shapes: bool = False
    smallest_mm3: float = 0.0

    def check(self, labels: LabelSet) -> None:
        """Raises `LabelError` for a structure that the labels lack."""
        for what, names in (("lesions", self.lesions), ("tubes", self.tubes)):
            unknown = [name for name in names if name not in labels.names]
            if unknown:
                raise LabelError(f"{what} of structures that are not there", expected=list(labels.names), got=unknown)


def with_details(
    case: CaseScores,
    reference: Segmentation,
    prediction: Segmentation | None,
    details: Details,
    *,
    threads: int = 1,
) -> CaseScores:
    """The case with what is asked for; no prediction: nothing was found.

    Raises `LabelError` for a structure that the case lacks, `ValueError` for masks of different shapes.
    """
    details.check(reference.labels)
    spacing_mm = reference.grid.spacing_mm
    asked = bool(details.lesions or details.tubes)
    boxes = common_boxes([reference] if prediction is None else [reference, prediction]) if asked else {}

    def lesions_of(name: str) -> LesionScores:
        found = score_lesions(*masks(name), spacing_mm, smallest_mm3=details.smallest_mm3)
        return found.within(boxes.get(name, _ONE_VOXEL))

    def masks(name: str) -> tuple[Mask, Mask]:
        box = boxes.get(name, _ONE_VOXEL)
        first = reference.mask(name, box)
        return first, np.zeros_like(first) if prediction is None else prediction.mask(name, box)

    with ThreadPoolExecutor(threads) as pool:
        lesions = pool.map(lesions_of, details.lesions)
        tubes = pool.map(lambda name: score_tubes(*masks(name), spacing_mm), details.tubes)
        return replace(
            case,
            lesions=dict(zip(details.lesions, lesions, strict=True)),
            tubes=dict(zip(details.tubes, tubes, strict=True)),
            shapes=_shapes(reference, threads=threads) if details.shapes else {},
        )


def _shapes(reference: Segmentation, *, threads: int) -> dict[str, StructureShape]:
    labels, spacing_mm = reference.labels, reference.grid.spacing_mm
    if labels.overlaps:
        return {name: describe_shape(np.asarray(reference.mask(name)), spacing_mm) for name in labels.names}
    found = describe_shapes(reference.array, spacing_mm, labels.values, threads=threads)
    return {label.name: found[label.value] for label in labels}
