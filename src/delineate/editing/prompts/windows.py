"""Where a proposal is looked for: a box of voxels, taken together to cells where it is large."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from delineate.editing.boxes import Mask
from delineate.editing.prompts.pointing import Places
from delineate.geometry import Box, Triple, TripleMM, box_of

Values = npt.NDArray[np.float32]
MOST_CELLS = 128  # along an axis


@dataclass(frozen=True, slots=True, eq=False)
class Window:
    """A box of an (I, J, K) array whose voxels are taken together, `strides` of them along each axis, to cells."""

    box: Box
    strides: Triple
    cell_mm: TripleMM

    @property
    def shape(self) -> Triple:
        """Cells along each axis; the last ones may hold fewer voxels."""
        i, j, k = (-(-size // stride) for size, stride in zip(self.box.shape, self.strides, strict=True))
        return i, j, k

    @property
    def cell_volume(self) -> float:
        return float(np.prod(self.cell_mm))

    def means(self, array: npt.NDArray[Any]) -> Values:
        """The mean of each cell of an (I, J, K) array; values that are not finite count as the lowest that is."""
        values: Values = np.array(array[self.box.slices], dtype=np.float32, order="C")
        finite = np.isfinite(values)
        if not finite.all():
            values[~finite] = values[finite].min() if finite.any() else 0
        for axis, stride in enumerate(self.strides):
            if stride > 1:
                first = np.arange(0, values.shape[axis], stride)
                voxels = np.diff(np.append(first, values.shape[axis]))
                sums = np.add.reduceat(values, first, axis=axis)
                values = (sums / np.expand_dims(voxels, [n for n in range(3) if n != axis])).astype(np.float32)
        return values

    def cells(self, places: Places) -> Mask:
        """The cells in which voxels of the array lie; those outside of the window are left out."""
        mask = np.zeros(self.shape, np.bool_)
        inside = places[((places >= self.box.start) & (places < self.box.stop)).all(axis=1)]
        mask[tuple(((inside - self.box.start) // self.strides).T)] = True
        return mask

    def cells_of(self, box: Box) -> Mask:
        """The cells that hold a voxel of a box of the array."""
        mask = np.zeros(self.shape, np.bool_)
        ends = zip(box.start, box.stop, self.box.start, self.strides, self.shape, strict=True)
        parts = [
            slice(max((low - first) // stride, 0), max(min(-(-(high - first) // stride), size), 0))
            for low, high, first, stride, size in ends
        ]
        mask[tuple(parts)] = True
        return mask

    def voxels(self, cells: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """An array of cells as one of the box's voxels: each has its cell's value."""
        for axis, stride in enumerate(self.strides):
            cells = np.repeat(cells, stride, axis=axis) if stride > 1 else cells
        return cells[tuple(slice(0, size) for size in self.box.shape)]

    def open_border(self, shape: Triple) -> Mask:
        """The outermost cells on sides where the array goes on."""
        mask = np.zeros(self.shape, np.bool_)
        for axis in range(3):
            planes = np.moveaxis(mask, axis, 0)
            planes[:1] |= self.box.start[axis] > 0
            planes[-1:] |= self.box.stop[axis] < shape[axis]
        return mask


def around(low: Places, high: Places, margin_mm: float, cell_mm: float, spacing: TripleMM, shape: Triple) -> Window:
    """The window of the voxels `low` to `high`, both included, and a margin, in cells of about `cell_mm` or larger."""
    wide = [int(np.ceil(margin_mm / step)) for step in spacing]
    ends = [
        (max(int(a) - more, 0), min(int(b) + more + 1, size))
        for a, b, more, size in zip(low, high, wide, shape, strict=True)
    ]
    box = box_of(ends)
    strides = [
        max(1, round(cell_mm / step), -(-size // MOST_CELLS)) for step, size in zip(spacing, box.shape, strict=True)
    ]
    i, j, k = strides
    return Window(box, (i, j, k), (spacing[0] * i, spacing[1] * j, spacing[2] * k))
