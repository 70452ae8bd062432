"""How slices are shown to people: radiological orientation, true proportions, windows, labels in their colours.

Arrays are turned to LPS first. Axial slices have the patient's Right on the viewer's left and Anterior on
top; coronal ones Right on the left and Superior on top; sagittal ones Anterior on the left and Superior on top.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from delineate.errors import GeometryMismatch
from delineate.geometry import Box, Grid, Triple, axis_change, foreground_box
from delineate.labels import Label
from delineate.volume import Kind, Segmentation, Volume, reorient

Mask = npt.NDArray[np.bool_]
Plane = Literal["axial", "coronal", "sagittal"]
PLANES: tuple[Plane, ...] = ("axial", "coronal", "sagittal")

ORIENTATION = "LPS"
AXIS: dict[Plane, int] = {"axial": 2, "coronal": 1, "sagittal": 0}
BORDERS: dict[Plane, tuple[str, str, str, str]] = {  # left, right, top, bottom
    "axial": ("R", "L", "A", "P"),
    "coronal": ("R", "L", "S", "I"),
    "sagittal": ("A", "P", "S", "I"),
}
CT_WINDOW_HU = (-160.0, 240.0)  # soft tissue: centre 40, width 400
PALETTE = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
"""Okabe and Ito's colours, told apart by colour-blind readers too ("Color Universal Design", 2008)."""


@dataclass(frozen=True, slots=True)
class View:
    """One plane through a grid turned to LPS: which slice, and what part of it, in indices of that grid."""

    plane: Plane
    index: int
    box: Box

    @property
    def axis(self) -> int:
        return AXIS[self.plane]

    @property
    def shape(self) -> tuple[int, int]:
        """(rows, columns) of the picture."""
        columns, rows = (n for axis, n in enumerate(self.box.shape) if axis != self.axis)
        return rows, columns

    def spacing_mm(self, grid: Grid) -> tuple[float, float]:
        """Distance between rows and between columns."""
        columns, rows = (s for axis, s in enumerate(grid.spacing_mm) if axis != self.axis)
        return rows, columns

    def picture(self, array: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """(rows, columns) of an (I, J, K) array in LPS, the first row on top."""
        part = list(self.box.slices)
        part[self.axis] = slice(self.index, self.index + 1)
        pixels = array[part[0], part[1], part[2]].squeeze(self.axis).T
        # Index 2 grows to Superior, but rows are drawn downwards.
        return pixels if self.plane == "axial" else pixels[::-1]

    def place(self, index: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        """(N, 2) column and row in `picture` of continuous indices (N, 3) in LPS."""
        across, along = (axis for axis in range(3) if axis != self.axis)
        columns = index[:, across] - self.box.start[across]
        rows = index[:, along] - self.box.start[along]
        return np.stack([columns, rows if self.plane == "axial" else self.shape[0] - 1 - rows], axis=1)


def turn(volume: Volume, *segmentations: Segmentation | None) -> tuple[Volume, list[Segmentation | None]]:
    """All in LPS. Raises `GeometryMismatch` for a segmentation that does not have the volume's voxels."""
    image = reorient(volume, ORIENTATION)
    turned = [None if seg is None else reorient(seg, ORIENTATION) for seg in segmentations]
    for seg in turned:
        if seg is not None and seg.grid.shape != image.grid.shape:
            raise GeometryMismatch(
                "the segmentation has not the voxels of the image that it is to be shown on",
                expected=image.grid.shape,
                got=seg.grid.shape,
                path=seg.source.path,
            )
    return image, turned


def turn_box(box: Box, grid: Grid) -> Box:
    """The same voxels' box in `grid` turned to LPS."""
    change = axis_change(grid.orientation, ORIENTATION)
    ranges = []
    for axis, flip in zip(change.order, change.flips, strict=True):
        start, stop, n = box.start[axis], box.stop[axis], grid.shape[axis]
        ranges.append((n - stop, n - start) if flip else (start, stop))
    (i0, i1), (j0, j1), (k0, k1) = ranges
    return Box((i0, j0, k0), (i1, j1, k1))


def foreground(*segmentations: Segmentation | None) -> Mask | None:
    """(I, J, K) where any of the segmentations has any structure; None without segmentations."""
    masks = [
        seg.array.any(axis=0) if seg.labels.overlaps else seg.array > 0 for seg in segmentations if seg is not None
    ]
    return np.logical_or.reduce(masks) if masks else None


def largest_slices(mask: Mask | None, shape: Triple) -> Triple:
    """The index along each axis with the most True voxels; the middle for None or an empty mask."""
    box = None if mask is None else foreground_box(mask)
    if mask is None or box is None:
        i, j, k = (n // 2 for n in shape)
        return i, j, k
    part = mask[box.slices]  # counting is slow, so count only where there is something
    i, j, k = (
        start + int(np.count_nonzero(part, axis=tuple(other for other in range(3) if other != axis)).argmax())
        for axis, start in enumerate(box.start)
    )
    return i, j, k


def whole(grid: Grid) -> Box:
    return Box((0, 0, 0), grid.shape)


def zoom(box: Box | None, grid: Grid, *, margin_mm: float = 25.0) -> Box:
    """`box` with a margin, at least as large as the box again by half, cut at the grid; all of it for None."""
    if box is None:
        return whole(grid)
    margins = [max(round(margin_mm / spacing), n // 4) for spacing, n in zip(grid.spacing_mm, box.shape, strict=True)]
    starts = [max(0, a - m) for a, m in zip(box.start, margins, strict=True)]
    stops = [min(n, b + m) for b, m, n in zip(box.stop, margins, grid.shape, strict=True)]
    return Box((starts[0], starts[1], starts[2]), (stops[0], stops[1], stops[2]))


def display_window(volume: Volume, channel: int = 0) -> tuple[float, float]:
    """(darkest, brightest) intensity: soft tissue for CT, otherwise the 0.5 and 99.5 percentiles.

    A volume's kind is that of its first channel: another one is CT if it has air, which PET and MR do not.
    Voxels that are not finite are left out; a constant or empty channel gets a window one wide.
    """
    if volume.kind is Kind.CT and (channel == 0 or float(np.nanmin(volume.array[channel])) < CT_WINDOW_HU[0]):
        return CT_WINDOW_HU
    values = sample(volume.array[channel])
    if values.size == 0:
        return 0.0, 1.0
    low, high = (float(v) for v in np.percentile(values, (0.5, 99.5)))
    return (low, high) if high > low else (low - 0.5, low + 0.5)


def sample(array: npt.NDArray[Any], limit: int = 500_000) -> npt.NDArray[np.float64]:
    """The finite values of an (I, J, K) array, at most `limit` evenly spread ones; for percentiles and histograms."""
    steps = [1, 1, 1]
    sizes = list(array.shape)
    while math.prod(sizes) > limit:
        axis = sizes.index(max(sizes))
        steps[axis] += 1
        sizes[axis] = -(-array.shape[axis] // steps[axis])
    values = array[:: steps[0], :: steps[1], :: steps[2]].astype(np.float64)
    return values[np.isfinite(values)]


def structures(segmentation: Segmentation, view: View) -> Iterator[tuple[Label, Mask]]:
    """(label, (rows, columns) mask) of every structure that the view meets."""
    array = segmentation.array
    pixels = None if segmentation.labels.overlaps else view.picture(array)
    for n, label in enumerate(segmentation.labels):
        mask = view.picture(array[n]) if pixels is None else pixels == label.value
        if mask.any():
            yield label, np.asarray(mask)


def fraction(label: Label) -> tuple[float, float, float]:
    """A label's colour as red, green, blue of 0..1."""
    red, green, blue = (part / 255 for part in label.colour)
    return red, green, blue
