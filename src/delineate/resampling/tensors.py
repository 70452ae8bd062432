"""Resampling of torch tensors on their own device."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from delineate.geometry import Grid
from delineate.resampling.matrices import (
    AxisMatrices,
    AxisMatrix,
    Interpolation,
    axis_matrices,
    check_logits,
    check_shape,
)

if TYPE_CHECKING:
    import torch

SLAB_BYTES = 256 * 2**20  # of interpolated logits at a time


def resample_torch(
    tensor: torch.Tensor,
    source: Grid,
    target: Grid,
    *,
    interpolation: Interpolation = Interpolation.LINEAR,
    anti_alias: bool = True,
    fill: float | None = None,
) -> torch.Tensor:
    """`resample` of a tensor (..., I, J, K) on its own device; float32, differentiable.

    For tensors on a GPU: on the CPU `resample` is faster and takes less memory.
    """
    check_shape(tuple(tensor.shape), source)
    matrices = axis_matrices(source, target, interpolation=interpolation, anti_alias=anti_alias)
    out = _apply_torch(tensor, matrices)
    if fill is None:
        return out
    filled = out.new_full(out.shape, fill)
    i, j, k = (matrix.inside for matrix in matrices)
    filled[..., i, j, k] = out[..., i, j, k]
    return filled


def _apply_torch(tensor: torch.Tensor, matrices: AxisMatrices) -> torch.Tensor:
    # Axes that shrink go first: less is left for the others. Sums over the taps, not a matrix product, since
    # that may be set to run in TF32, with 10 bits.
    out = tensor.float()
    for axis in sorted(range(3), key=lambda n: matrices[n].rows / matrices[n].size):
        out = _apply_axis_torch(out, matrices[axis], out.ndim - 3 + axis)
    return out


def _apply_axis_torch(tensor: torch.Tensor, matrix: AxisMatrix, axis: int) -> torch.Tensor:
    import torch

    first = torch.from_numpy(matrix.first.astype(np.int64)).to(tensor.device)
    column = [1] * tensor.ndim
    column[axis] = matrix.rows
    weights = [torch.from_numpy(w.copy()).to(tensor.device).reshape(column) for w in matrix.weights.T]
    out = tensor.index_select(axis, first) * weights[0]
    for t, weight in enumerate(weights[1:], start=1):
        out = torch.addcmul(out, tensor.index_select(axis, first + t), weight)
    return out


def resample_argmax_torch(logits: torch.Tensor, source: Grid, target: Grid, *, fill: int | None = None) -> torch.Tensor:
    """`resample_argmax` of a tensor (C, I, J, K) on its own device, slab by slab; uint8, or int32 for more classes."""
    import torch

    check_logits(tuple(logits.shape), source)
    matrices = axis_matrices(source, target, anti_alias=False)
    dtype = torch.uint8 if logits.shape[0] <= 256 else torch.int32
    out = torch.full(target.shape, fill or 0, dtype=dtype, device=logits.device)
    inside = tuple(slice(0, m.rows) if fill is None else m.inside for m in matrices)
    i, j, k = (matrix.part(rows) for matrix, rows in zip(matrices, inside, strict=True))
    if 0 in (i.rows, j.rows, k.rows):
        return out
    planes = max(1, SLAB_BYTES // (4 * logits.shape[0] * j.rows * k.rows))
    for start in range(0, i.rows, planes):
        slab = i.part(slice(start, start + planes))
        values = _apply_torch(logits[:, slab.needed], (slab.from_window(slab.needed), j, k))
        out[inside][start : start + planes] = values.argmax(dim=0).to(dtype)
    return out
