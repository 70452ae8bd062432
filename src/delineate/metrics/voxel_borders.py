"""Distances between border voxels, each counted once: not this project's figures, but those of many publications.

MetricsReloaded, MONAI and MedPy measure so. Where spacings differ or surfaces are oblique, border voxels are not
spread evenly over the surface, and one-voxel shifts of thick slices weigh more or less than their area; the figures of
`StructureScores` are weighted by area instead. Use these to compare with numbers that others report.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from delineate.geometry import FloatArray
from delineate.metrics.boundaries import border
from delineate.metrics.counting import checked_spacing, in_memory_order, tally
from delineate.metrics.scores import Status
from delineate.metrics.surfaces import nearest_mm

Mask = npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class VoxelBorderScores:
    """Distances from each border voxel of one mask to the nearest of the other, centre to centre, both ways.

    A border voxel has one of its six neighbours outside. Percentiles are interpolated between voxels.

    - `hd_mm`: the largest of all. `hd95_mm`: the larger of the two ways' 95th percentiles (MetricsReloaded, MONAI).
      `hd95_pooled_mm`: the 95th percentile of both ways together (MedPy).
    - `assd_mm`: the mean of both ways together. `masd_mm`: the mean of the two ways' means.
    - `nsd`: the share of both ways' border voxels whose distance is at most the tolerance.

    Where one mask is empty, `nsd` is 0 and the rest NaN; where both are, all are NaN.
    """

    hd_mm: float
    hd95_mm: float
    hd95_pooled_mm: float
    assd_mm: float
    masd_mm: float
    nsd: float


def score_voxel_borders(
    reference: Mask, prediction: Mask, spacing_mm: Sequence[float], *, tolerance_mm: float
) -> VoxelBorderScores:
    """Scores of one (I, J, K) mask by its border voxels. Raises as `delineate.metrics.score_masks`."""
    if reference.dtype != bool or prediction.dtype != bool:
        raise TypeError(f"masks are bool arrays: got {reference.dtype} and {prediction.dtype}")
    if not 0 <= tolerance_mm < math.inf:
        raise ValueError(f"a tolerance is 0 mm or more: got {tolerance_mm}")
    spacing = checked_spacing(spacing_mm)
    first, second, (i, j, k) = in_memory_order(reference, prediction)
    counted = tally(first, second, (1,))
    status = counted.overlap(1).status
    if status is not Status.SCORED:
        nan = math.nan
        return VoxelBorderScores(nan, nan, nan, nan, masd_mm=nan, nsd=nan if status is Status.ABSENT else 0.0)
    box = counted.slices(1)
    borders = [border(mask[box] == 1) for mask in (first, second)]
    turned = (spacing[i], spacing[j], spacing[k])
    there = nearest_mm(np.argwhere(borders[0]), borders[1], turned)
    back = nearest_mm(np.argwhere(borders[1]), borders[0], turned)
    return _summed_up(there, back, tolerance_mm)


def _summed_up(there: FloatArray, back: FloatArray, tolerance_mm: float) -> VoxelBorderScores:
    both = np.concatenate([there, back])
    return VoxelBorderScores(
        hd_mm=float(both.max()),
        hd95_mm=float(max(np.percentile(there, 95), np.percentile(back, 95))),
        hd95_pooled_mm=float(np.percentile(both, 95)),
        assd_mm=float(both.mean()),
        masd_mm=float(there.mean() + back.mean()) / 2,
        nsd=float(np.mean(both <= tolerance_mm)),
    )
