"""What a scan shows inside a structure: mean, spread and percentiles of its voxels' values."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from delineate.errors import GeometryMismatch
from delineate.findings import Finding
from delineate.geometry import aligned, largest_distance_mm
from delineate.labels import Code, Label
from delineate.measurement.quantities import (
    MAXIMUM,
    MEAN,
    MEDIAN,
    MINIMUM,
    NO_UNITS,
    PERCENTILE_5,
    PERCENTILE_25,
    PERCENTILE_75,
    PERCENTILE_95,
    SCALES,
    STANDARD_DEVIATION,
    VOXELS_WITHOUT_VALUE,
)
from delineate.volume import Kind, Segmentation, Volume

Mask = npt.NDArray[np.bool_]

PERCENTILES = {5: PERCENTILE_5, 25: PERCENTILE_25, 50: MEDIAN, 75: PERCENTILE_75, 95: PERCENTILE_95}


@dataclass(frozen=True, slots=True)
class Intensities:
    """Of the voxels of one structure, in the image's unit. `values`: by statistic, none if no voxel has a value.

    `voxels`: how many have a value; `without_value`: how many are NaN or infinite, and left out of everything else.
    """

    voxels: int
    without_value: int
    values: tuple[tuple[Code, float], ...]


def measure_intensities(mask: Mask, image: npt.NDArray[Any]) -> Intensities:
    """Statistics of `image` inside `mask`, both (I, J, K), in the order that `intensity_findings` has.

    The standard deviation is the population's (divided by N), as in IBSI; percentiles are linear between voxels.
    Raises `ValueError` for arrays of different shapes.
    """
    if mask.shape != image.shape:
        raise ValueError(f"mask and image differ in shape: {mask.shape} and {image.shape}")
    inside = image[mask].astype(np.float64)
    finite = inside[np.isfinite(inside)]
    missing = len(inside) - len(finite)
    if not len(finite):
        return Intensities(0, missing, ())
    percentiles = np.percentile(finite, list(PERCENTILES))
    values = (
        (MEAN, finite.mean()),
        (STANDARD_DEVIATION, finite.std()),
        (MINIMUM, finite.min()),
        *zip(PERCENTILES.values(), percentiles, strict=True),
        (MAXIMUM, finite.max()),
    )
    return Intensities(len(finite), missing, tuple((code, float(value)) for code, value in values))


def intensity_findings(label: Label, found: Intensities, kind: Kind) -> tuple[Finding, ...]:
    """The statistics as findings; last, if any, the number of voxels without a value."""
    scale = SCALES[kind]
    note = f"without {found.without_value} voxels that have no value" if found.without_value else ""
    findings = [
        Finding(label, scale.quantity, value, scale.unit, derivation=statistic, note=note)
        for statistic, value in found.values
    ]
    if found.without_value:
        findings.append(Finding(label, VOXELS_WITHOUT_VALUE, float(found.without_value), NO_UNITS))
    return tuple(findings)


def check_on_grid(segmentation: Segmentation, volume: Volume) -> None:
    """Raises `GeometryMismatch` unless both have the same voxels, to a tenth of a voxel."""
    if aligned(segmentation.grid, volume.grid):
        return
    same_shape = segmentation.grid.shape == volume.grid.shape
    apart = f"{largest_distance_mm(segmentation.grid, volume.grid):.3g} mm apart"
    raise GeometryMismatch(
        "the scan and the segmentation do not have the same voxels",
        expected=f"shape {segmentation.grid.shape}, voxels within a tenth of a voxel",
        got=apart if same_shape else f"shape {volume.grid.shape}",
        path=volume.source.path,
        remedy="Give the scan that was segmented, or resample one onto the other's grid.",
    )
