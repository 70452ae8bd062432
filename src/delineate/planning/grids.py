"""The grid that scans are brought to, and the patch of it that a network sees at once."""

from __future__ import annotations

import math

from delineate.fingerprint import Fingerprint
from delineate.geometry import Triple, TripleMM
from delineate.planning.effort import Effort
from delineate.planning.options import PlanOptions

DEFAULT_ORIENTATION = "RAS"
_PATCHES = 8  # a scan of more than so many is coarsened


def choose_orientation(fingerprint: Fingerprint, options: PlanOptions, reasons: list[str]) -> str:
    """The person's, or RAS."""
    return options.orientation or DEFAULT_ORIENTATION


def in_orientation(values: TripleMM, orientation: str) -> TripleMM:
    """Values along the fingerprint's axes, in the order of another orientation's."""
    # The fingerprint's axes are R/L, A/P, S/I.
    i, j, k = (values[next(n for n, pair in enumerate(("RL", "AP", "SI")) if letter in pair)] for letter in orientation)
    return i, j, k


def choose_spacing(
    fingerprint: Fingerprint, orientation: str, effort: Effort, options: PlanOptions, reasons: list[str]
) -> TripleMM:
    """The person's spacing; or the dataset's, coarsened until a scan is a few patches."""
    if options.spacing_mm is not None:
        return options.spacing_mm
    spacing = in_orientation(fingerprint.median_spacing_mm, orientation)
    extent = in_orientation(fingerprint.median_extent_mm, orientation)
    reasons.append("spacing: the median of the dataset, {:.3g} x {:.3g} x {:.3g} mm".format(*spacing))
    most = _PATCHES * effort.patch_voxels
    if math.prod(e / s for e, s in zip(extent, spacing, strict=True)) <= most:
        return _rounded(spacing)
    coarse = coarsened(spacing, extent, most=most)
    reasons.append(f"spacing: coarsened to at least {min(coarse):.3g} mm, so that a scan is a few patches here")
    return coarse


def coarsened(spacing: TripleMM, extent: TripleMM, *, most: float) -> TripleMM:
    """A spacing at which an extent in mm holds at most so many voxels.

    The finest axes are coarsened first: they carry the most voxels and lose the least.
    """
    voxels = math.prod(e / s for e, s in zip(extent, spacing, strict=True))
    if voxels <= most:
        return _rounded(spacing)
    fine, coarse = min(spacing), max(spacing) * (voxels / most) ** (1 / 3)
    for _ in range(60):
        middle = (fine + coarse) / 2
        size = math.prod(e / max(s, middle) for e, s in zip(extent, spacing, strict=True))
        fine, coarse = (middle, coarse) if size > most else (fine, middle)
    i, j, k = (max(s, coarse) for s in spacing)
    return _rounded((i, j, k))


def _rounded(spacing: TripleMM) -> TripleMM:
    i, j, k = (float(f"{s:.4g}") for s in spacing)
    return i, j, k


def median_shape(fingerprint: Fingerprint, orientation: str, spacing: TripleMM) -> TripleMM:
    """The median scan's patient part in voxels of a spacing; not whole numbers."""
    extent = in_orientation(fingerprint.median_extent_mm, orientation)
    i, j, k = (mm / s for mm, s in zip(extent, spacing, strict=True))
    return i, j, k


def choose_patch(wanted: TripleMM, spacing: TripleMM, effort: Effort, options: PlanOptions) -> Triple:
    """The whole of `wanted` (voxels), or as much of it as the effort allows, as cubic in mm as can be."""
    flat = options.dimensions == 2
    if options.patch_size is not None:
        patch = options.patch_size
        return (patch[0], patch[1], 1) if flat else patch
    sizes = [_round_up(n) for n in wanted]
    if flat:
        sizes[2] = 1
    while math.prod(sizes) > effort.patch_voxels:
        sizes = _smaller(sizes, spacing)
    return sizes[0], sizes[1], sizes[2]


def smaller_patch(patch: Triple, spacing: TripleMM) -> Triple | None:
    """The next smaller patch; None if there is none."""
    sizes = _smaller(list(patch), spacing)
    return None if tuple(sizes) == patch else (sizes[0], sizes[1], sizes[2])


def _smaller(sizes: list[int], spacing: TripleMM) -> list[int]:
    largest = max(range(3), key=lambda axis: (sizes[axis] > 8) * sizes[axis] * spacing[axis])
    return [_round_down(n - 1) if axis == largest and n > 8 else n for axis, n in enumerate(sizes)]


def _multiple(n: float) -> int:
    # Small axes keep finer steps: 40 for a scan of 36, but 96 for one of 90.
    return 8 if n <= 64 else 16


def _round_up(n: float) -> int:
    return max(8, math.ceil(n / _multiple(n)) * _multiple(n))


def _round_down(n: float) -> int:
    return max(8, math.floor(n / _multiple(n)) * _multiple(n))
