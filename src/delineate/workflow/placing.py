"""Scans and label maps brought onto the grid of another scan."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from delineate.errors import GeometryMismatch
from delineate.formats.dicom.series import AIR_HU
from delineate.geometry import Grid, index_to_world
from delineate.resampling import Interpolation, resample_anywhere, resample_labels
from delineate.volume import Image, Kind, Volume, reorient

_REGISTER = "Are they of one patient and one frame of reference? If not, register them first."


def onto_grid(volume: Volume, grid: Grid) -> Volume:
    """The scan (C, I, J, K) interpolated linearly on another grid in the same world, whatever the angle between them.

    Where it does not reach, CT gets -1024 HU, others 0, or their lowest value where that is negative.
    """
    fills = [float(AIR_HU) if volume.kind is Kind.CT else min(0.0, float(channel.min())) for channel in volume.array]
    channels = [
        resample_anywhere(channel, volume.grid, grid, fill=fill)
        for channel, fill in zip(volume.array, fills, strict=True)
    ]
    return replace(volume, array=np.stack(channels), grid=grid)


def labels_onto_grid(image: Image, grid: Grid) -> Image:
    """A segmentation, or a label map (1, I, J, K), on another grid: each voxel gets what has most of it, 0 outside.

    Raises `GeometryMismatch` if the grids' axes are not parallel.
    """
    turned = reorient(image, grid.orientation)
    array = resample_labels(turned.array, turned.grid, grid, interpolation=Interpolation.LINEAR, fill=0)
    return replace(turned, array=array, grid=grid)


def share_reached(source: Grid, target: Grid) -> float:
    """How much of the target lies within the source, of 1.

    Raises `GeometryMismatch` where nothing does, and for two frames of reference, where both are known.
    """
    frames = (target.frame_of_reference_uid, source.frame_of_reference_uid)
    if None not in frames and frames[0] != frames[1]:
        raise GeometryMismatch("two frames of reference", expected=frames[0], got=frames[1], remedy=_REGISTER)
    everywhere = np.broadcast_to(np.float32(1), source.shape)
    share = float(resample_anywhere(everywhere, source, target, fill=0).mean(dtype=np.float64))
    if share == 0:
        raise GeometryMismatch(
            "no place in common", expected=f"something around {_middle(target)}", got=_middle(source), remedy=_REGISTER
        )
    return share


def _middle(grid: Grid) -> str:
    middle = index_to_world(grid, [(n - 1) / 2 for n in grid.shape])
    return ", ".join(f"{x:.0f}" for x in middle) + " mm (LPS)"
