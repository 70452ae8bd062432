"""How far two masks' centres lie apart, and how well the layers below their borders agree."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from delineate.geometry import TripleMM
from delineate.metrics.scores import Overlap
from delineate.metrics.surfaces import WITHIN

Mask = npt.NDArray[np.bool_]


def border(mask: Mask) -> npt.NDArray[np.uint8]:
    """1 where a voxel of an (I, J, K) mask has one of its six neighbours outside; beyond the array is outside."""
    from delineate.metrics.kernels import mark_border

    found = np.empty(mask.shape, dtype=np.uint8)
    mark_border(mask, found)
    return found


def boundary_layer(mask: Mask, spacing_mm: TripleMM, *, width_mm: float) -> Mask:
    """The voxels of an (I, J, K) mask that are at most `width_mm` from one of its border voxels.

    Distances are between the centres of voxels. A border voxel has one of its six neighbours outside, and beyond
    the array is outside, so a mask that is not empty has a layer, whatever the width. A layer of an empty mask is
    empty. Cheng et al., "Boundary IoU: Improving Object-Centric Image Segmentation Evaluation", CVPR 2021, there
    for images and in pixels.
    """
    from delineate.metrics.kernels import mark_layer

    layer = np.zeros(mask.shape, dtype=bool)
    mark_layer(mask, np.array(spacing_mm), width_mm * WITHIN, layer)
    return layer


def boundary_overlap(reference: Mask, prediction: Mask, spacing_mm: TripleMM, *, width_mm: float) -> Overlap:
    """Voxels of the `boundary_layer` of each of two masks of one shape, and of both layers at once."""
    first = boundary_layer(reference, spacing_mm, width_mm=width_mm)
    second = boundary_layer(prediction, spacing_mm, width_mm=width_mm)
    both = np.count_nonzero(first & second)
    return Overlap(int(np.count_nonzero(first)), int(np.count_nonzero(second)), int(both))


def centroid_distance_mm(reference: Mask, prediction: Mask, spacing_mm: TripleMM) -> float:
    """Between the centres of mass of two (I, J, K) masks; NaN where one is empty."""
    centres = [_centroid(mask) for mask in (reference, prediction)]
    return math.hypot(*(step * (a - b) for step, a, b in zip(spacing_mm, *centres, strict=True)))


def _centroid(mask: Mask) -> tuple[float, ...]:
    from delineate.metrics.kernels import sum_positions

    voxels = int(np.count_nonzero(mask))
    return tuple(total / voxels if voxels else math.nan for total in sum_positions(mask))
