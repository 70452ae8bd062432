"""A small picture of an image by which it is known again: resampled, in other values, without some of its slices.

A descriptor holds the image averaged onto cubes whose size is one of a ladder of lengths in millimetres, so that an
image that was resampled or cut comes to lie on cubes of one size with the original. Slow changes of brightness are
taken out: all patients have them in common. `likeness` compares descriptors.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from delineate.volume import Volume, reorient

CELLS = 40
"""Cubes along each side of the finest picture of a descriptor."""
HALVINGS = 2
"""How often a picture is halved: 40, 20 and 10 cubes a side."""

_RUNGS_AN_OCTAVE, _RUNGS = 2, 2  # sizes of cubes are powers of sqrt(2) mm; so many an image gets, the coarse one first
_FILL = 1.15  # a picture is at least so much longer than what is in the image
_COVERED = 0.5  # of a cube must lie in the image
_LEAST_VOXELS = 64
_AIR, _LEAST_AIR = 0.08, 0.03  # of the range of values; of the cubes
_TAILS = (0.001, 0.999)
_BODY = (0.01, 0.99)
_SAMPLES = 96  # voxels an axis that thresholds are taken from
_FINE, _SLOW = 0.5, 3.0  # cubes: what is finer is noise, what is slower is common to all

Array = npt.NDArray[np.float32]
Stored = npt.NDArray[np.float16]  # half the memory, for thousands of images
Mask = npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True, eq=False)
class Picture:
    """An image on cubes of `cell_mm`, with the sides 40, 20 and 10; values are 0 where `masks` has no cube.

    `inside`: the finest again, of the cubes of `inside_mask` alone: those that are not air, nor beside it. Outlines of
    two patients are far more alike than what is in them.
    """

    cell_mm: float
    pyramid: tuple[Stored, ...]
    masks: tuple[Mask, ...]
    inside: Stored
    inside_mask: Mask


@dataclass(frozen=True, slots=True, eq=False)
class ImageDescriptor:
    """What an image looks like, on cubes of two sizes; no `pictures` for an image without structure."""

    pictures: tuple[Picture, ...]

    def on_cells(self, cell_mm: float) -> Picture | None:
        """The picture on cubes of that size, if there is one."""
        return next((picture for picture in self.pictures if picture.cell_mm == cell_mm), None)


def describe_volume(volume: Volume, *, channel: int = 0) -> ImageDescriptor:
    """The descriptor of one channel, with its axes in the patient's order."""
    turned = reorient(volume, "RAS")
    return describe_image(turned.array[channel], turned.grid.spacing_mm)


def describe_image(array: npt.NDArray[np.generic], spacing_mm: Sequence[float]) -> ImageDescriptor:
    """The descriptor of an image (I, J, K) whose axes have the patient's order; which way they point does not matter.

    An image that has one value everywhere, or less than 64 voxels, has a descriptor that is like no other. Voxels that
    are NaN or infinite count as the lowest value. Raises `ValueError` for what has not three axes and some voxels.
    """
    if array.ndim != 3 or not array.size:
        raise ValueError(f"a descriptor is of an image with three axes and some voxels, got {array.shape}")
    values = _bounded(np.asarray(array, dtype=np.float32)) if array.size >= _LEAST_VOXELS else None
    if values is None:
        return ImageDescriptor(())
    ends = _ends_mm(values, spacing_mm)
    rung = math.ceil(math.log2(max(high - low for low, high in ends) * _FILL / CELLS) * _RUNGS_AN_OCTAVE)
    centre = [(low + high) / 2 for low, high in ends]
    sizes = (2 ** ((rung - down) / _RUNGS_AN_OCTAVE) for down in range(_RUNGS))
    return ImageDescriptor(tuple(_picture(values, spacing_mm, centre, cell_mm) for cell_mm in sizes))


def _bounded(values: Array) -> Array | None:
    """Values from 0 to 1, without outliers; None for an image without structure."""
    finite = np.isfinite(values)
    if not finite.all():
        values = np.where(finite, values, values[finite].min() if finite.any() else 0)
    low, high = (float(value) for value in np.quantile(_thinned(values), _TAILS))
    if not high > low:
        low, high = float(values.min()), float(values.max())
    if not high > low:
        return None
    bounded: Array = (np.clip(values, low, high) - low) / (high - low)
    return bounded


def _thinned(values: Array) -> Array:
    steps = (max(1, n // _SAMPLES) for n in values.shape)
    return values[tuple(slice(None, None, step) for step in steps)]


def _ends_mm(values: Array, spacing_mm: Sequence[float]) -> list[tuple[float, float]]:
    """Where the image begins and ends along each axis, apart from the air around the patient and from specks."""
    from skimage.filters import threshold_otsu

    inside = values > threshold_otsu(_thinned(values))  # type: ignore[no-untyped-call]
    ends = []
    for axis, step in enumerate(spacing_mm):
        profile = np.count_nonzero(inside, axis=tuple(other for other in range(3) if other != axis))
        low, high = np.searchsorted(np.cumsum(profile) / profile.sum(), _BODY)
        ends.append(((float(low) - 0.5) * step, (float(high) + 0.5) * step))
    return ends


def _picture(values: Array, spacing_mm: Sequence[float], centre_mm: Sequence[float], cell_mm: float) -> Picture:
    axes = zip(values.shape, spacing_mm, centre_mm, strict=True)
    shares = [_shares(count, step, centre, cell_mm) for count, step, centre in axes]
    sums = values
    for axis, matrix in enumerate(shares):
        sums = np.moveaxis(np.tensordot(matrix, sums, axes=(1, axis)), 0, axis)
    covered = np.einsum("i,j,k->ijk", *(matrix.sum(axis=1) for matrix in shares))
    mask: Mask = covered >= _COVERED
    means: Array = np.where(mask, sums / np.maximum(covered, _COVERED), 0).astype(np.float32)
    levels = [(means, mask)]
    for _ in range(HALVINGS):
        levels.append(_halved(*levels[-1]))
    inside = _inside(means, mask)
    return Picture(
        cell_mm,
        tuple(_without_slow_changes(*level) for level in levels),
        tuple(m for _, m in levels),
        _without_slow_changes(means, inside),
        inside,
    )


def _inside(means: Array, mask: Mask) -> Mask:
    """Cubes that are neither air nor beside it; all where there is next to no air."""
    from scipy.ndimage import binary_dilation

    air = mask & (means <= _AIR)
    if np.count_nonzero(air) < _LEAST_AIR * np.count_nonzero(mask):
        return mask
    inside: Mask = mask & ~binary_dilation(air)
    return inside


def _shares(count: int, step_mm: float, centre_mm: float, cell_mm: float) -> Array:
    """How much of each cube lies in each voxel along one axis, (CELLS, count)."""
    voxels = (np.arange(count + 1) - 0.5) * step_mm
    cells = centre_mm + (np.arange(CELLS + 1) - CELLS / 2) * cell_mm
    overlap = np.minimum(voxels[1:], cells[1:, None]) - np.maximum(voxels[:-1], cells[:-1, None])
    shares: Array = (np.maximum(overlap, 0) / cell_mm).astype(np.float32)
    return shares


def _halved(means: Array, mask: Mask) -> tuple[Array, Mask]:
    side = means.shape[0] // 2
    blocks = (side, 2, side, 2, side, 2)
    counts = np.count_nonzero(mask.reshape(blocks), axis=(1, 3, 5))
    halved: Array = (means.reshape(blocks).sum(axis=(1, 3, 5)) / np.maximum(counts, 1)).astype(np.float32)
    return np.where(counts >= 4, halved, 0), counts >= 4


def _without_slow_changes(means: Array, mask: Mask) -> Stored:
    from scipy.ndimage import gaussian_filter

    weights = mask.astype(np.float32)
    weighted = means * weights

    def smooth(sigma: float) -> Array:
        smoothed: Array = gaussian_filter(weighted, sigma) / np.maximum(gaussian_filter(weights, sigma), 1e-3)
        return smoothed

    detail: Stored = np.where(mask, smooth(_FINE) - smooth(_SLOW), 0).astype(np.float16)
    detail.flags.writeable = False
    return detail
