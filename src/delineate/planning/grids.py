"""The grid that scans are brought to, and the patch of it that a network sees at once."""

from __future__ import annotations

import math

from delineate.fingerprint import Fingerprint, percentile
from delineate.geometry import Triple, TripleMM
from delineate.planning.effort import Effort
from delineate.planning.options import PlanOptions

DEFAULT_ORIENTATION = "RAS"
THICK = 3.0  # times as thick as pixels are slices that get kernels, patches and changes of their own
_COARSE_PERCENTILE = 10  # of the slices' thickness: what is coarser can be drawn finer, what is finer would be lost
_PATCHES = 8  # a scan of more than so many is coarsened


def choose_orientation(fingerprint: Fingerprint, options: PlanOptions, reasons: list[str]) -> str:
    """The person's, or RAS; for networks in two dimensions, the axis across thick slices comes last."""
    if options.orientation is not None or options.dimensions == 3:
        return options.orientation or DEFAULT_ORIENTATION
    coarse = thick_axis(fingerprint.median_spacing_mm)
    if coarse is None or coarse == 2:
        return DEFAULT_ORIENTATION
    turned = "ASR" if coarse == 0 else "RSA"
    reasons.append(f"orientation: {turned}, because slices are thick along {DEFAULT_ORIENTATION[coarse]}")
    return turned


def thick_axis(spacing: TripleMM) -> int | None:
    """The axis across which slices are over three times as thick as pixels, by their longer side; or None."""
    coarsest = max(range(3), key=lambda axis: spacing[axis])
    others = [mm for axis, mm in enumerate(spacing) if axis != coarsest]
    return coarsest if spacing[coarsest] > THICK * max(others) else None


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
    spacing = in_orientation(_usual_spacing(fingerprint, options, reasons), orientation)
    extent = in_orientation(fingerprint.median_extent_mm, orientation)
    most = _PATCHES * effort.patch_voxels
    if math.prod(e / s for e, s in zip(extent, spacing, strict=True)) <= most:
        return _rounded(spacing)
    coarse = coarsened(spacing, extent, most=most)
    reasons.append(f"spacing: coarsened to at least {min(coarse):.3g} mm, so that a scan is a few patches here")
    return coarse


def _usual_spacing(fingerprint: Fingerprint, options: PlanOptions, reasons: list[str]) -> TripleMM:
    """The median; across thick slices a low percentile (Isensee et al. 2021), but not finer than the pixels.

    Networks in two dimensions leave slices as thick as they are.
    """
    spacing = fingerprint.median_spacing_mm
    coarse = thick_axis(spacing)
    median = "the median of the dataset, {:.3g} x {:.3g} x {:.3g} mm".format(*spacing)
    if coarse is None or options.dimensions == 2:
        reasons.append(f"spacing: {median}")
        return spacing
    others = [mm for axis, mm in enumerate(spacing) if axis != coarse]
    thin = max(percentile([case.spacing_mm[coarse] for case in fingerprint.cases], _COARSE_PERCENTILE), *others)
    reasons.append(
        f"spacing: {median}; across the thick slices {thin:.3g} mm, which {_COARSE_PERCENTILE} % of the scans have or "
        "are finer than"
    )
    i, j, k = (thin if axis == coarse else mm for axis, mm in enumerate(spacing))
    return i, j, k


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
    thick = thick_axis(spacing)
    sizes = [_round_up(n, least=4 if axis == thick else 8) for axis, n in enumerate(wanted)]
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


def _round_up(n: float, *, least: int) -> int:
    step = least if n <= 32 else _multiple(n)
    return max(least, math.ceil(n / step) * step)


def _round_down(n: float) -> int:
    return max(8, math.floor(n / _multiple(n)) * _multiple(n))
