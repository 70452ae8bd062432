"""An array from one Grid onto another whatever the angle between them: for channels acquired in other planes."""

from __future__ import annotations

import numpy as np

from delineate.errors import GeometryMismatch
from delineate.geometry import Grid, axis_change, change_axes
from delineate.resampling.arrays import Array, resample
from delineate.resampling.matrices import Float32Array, check_shape
from delineate.volume import change_array_axes

_BLUR = 0.4247  # sigma per full width at half maximum: 1 / (2 sqrt(2 ln 2))


def resample_anywhere(array: Array, source: Grid, target: Grid, *, fill: float) -> Float32Array:
    """An image (I, J, K) on `source`, interpolated linearly on `target`; `fill` where the source does not reach.

    Grids with parallel axes go through `resample`, axis by axis. Others are interpolated at the target's positions in
    the world (scipy.ndimage); where the target is coarser along a source axis, the source is smoothed first by a
    Gaussian whose full width at half maximum makes up the difference. Raises `GeometryMismatch` if the array does not
    fit its grid.
    """
    check_shape(array.shape, source)
    change = axis_change(source.orientation, target.orientation)
    turned = change_axes(source, change)
    try:
        return resample(change_array_axes(array, change), turned, target, fill=fill)
    except GeometryMismatch:
        return _rotated(array, source, target, fill)


def _rotated(array: Array, source: Grid, target: Grid, fill: float) -> Float32Array:
    from scipy import ndimage

    matrix = np.linalg.solve(source.affine, target.affine)
    # How far one step along each target axis goes along each source axis, in source voxels: above 1, details fold.
    steps = np.abs(matrix[:3, :3]).max(axis=1)
    sigma = _BLUR * np.sqrt(np.maximum(0.0, steps**2 - 1.0))
    image = array.astype(np.float32)
    if sigma.any():
        image = ndimage.gaussian_filter(image, sigma, mode="nearest")
    # Half a voxel beyond the outermost centres still belongs to the source: its edge is repeated once, then `fill`.
    padded = np.pad(image, 1, mode="edge")
    out: Float32Array = ndimage.affine_transform(
        padded,
        matrix[:3, :3],
        offset=matrix[:3, 3] + 1.0,
        output_shape=target.shape,
        output=np.float32,
        order=1,
        mode="grid-constant",
        cval=fill,
    )
    outside = _outside(source, target, matrix)
    out[outside] = fill
    return out


def _outside(source: Grid, target: Grid, matrix: Array) -> Array:
    """Target voxels whose centres lie outside the source's extent."""
    outside = np.zeros(target.shape, dtype=bool)
    i, j, k = (np.arange(n) for n in target.shape)
    for axis in range(3):
        a, b, c, d = matrix[axis]
        index = d + (a * i)[:, None, None] + (b * j)[:, None] + c * k
        outside |= (index < -0.5) | (index > source.shape[axis] - 0.5)
    return outside
