"""An array from one Grid onto another whose axes are parallel.

World positions decide: the centre of every target voxel is a point of the source, and that point has a continuous
source index along each axis on its own. So each axis is one small banded matrix (target voxels x source voxels), and
the spline's prefilter, the anti-aliasing and the interpolation are folded into it. Three such products, computed
plane by plane, need no copy of the volume.

Between voxels:
- NEAREST takes the closest voxel, the higher index at a tie.
- LINEAR weighs the two neighbours by a triangle.
- CUBIC is the interpolating cubic B-spline (Unser, IEEE Signal Processing Magazine 16(6), 1999), applied as its
  cardinal kernel: prefilter and B-spline in one. The kernel is cut at 12 voxels, where it is below 1e-6.

At the border a target voxel beyond the outermost source centres takes the value there ("edge"); kernels that reach
over the border see the source mirrored about its outermost centres (`mode="mirror"` of scipy.ndimage).

Anti-aliasing: along an axis on which the voxels get larger, LINEAR and CUBIC stretch their kernel by the ratio of the
spacings, as Pillow and torch do with theirs, so that details too fine for the target grid fade instead of folding into
false ones. Unlike theirs, the stretched kernel is centred on the target voxel exactly, so that a ramp stays a ramp.

`resize_matrices` are for other systems' networks: no anti-aliasing, and at the border the outermost voxels go on.

`stacks` is the exception to parallel axes: slices that were acquired tilted or unevenly are moved in their own planes.

Everything is computed in float32 on the CPUs this process may use (see `set_threads`). The functions that end in
`_torch` do the same on a tensor's own device.
"""

from delineate.resampling.arrays import (
    apply_matrices,
    contiguous,
    resample,
    resample_labels,
    resample_slabs,
    set_threads,
    vote_matrices,
)
from delineate.resampling.matrices import AxisMatrices, AxisMatrix, Interpolation, axis_matrices, resize_matrices
from delineate.resampling.rotated import resample_anywhere
from delineate.resampling.stacks import StackPositions, even_grid, even_stack
from delineate.resampling.streams import argmax_matrices, resample_argmax
from delineate.resampling.tensors import resample_argmax_torch, resample_torch
from delineate.resampling.windows import blend_slices, blend_windows, slice_bytes, window_bytes

__all__ = [
    "AxisMatrices",
    "AxisMatrix",
    "Interpolation",
    "StackPositions",
    "apply_matrices",
    "argmax_matrices",
    "axis_matrices",
    "blend_slices",
    "blend_windows",
    "contiguous",
    "even_grid",
    "even_stack",
    "resample",
    "resample_anywhere",
    "resample_argmax",
    "resample_argmax_torch",
    "resample_labels",
    "resample_slabs",
    "resample_torch",
    "resize_matrices",
    "set_threads",
    "slice_bytes",
    "vote_matrices",
    "window_bytes",
]
