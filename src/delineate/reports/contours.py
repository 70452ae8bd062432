"""One structure, or one lesion, in three planes with the outlines of all, and what was measured drawn on it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from delineate.geometry import Box, FloatArray, Grid, Triple, TripleMM, box_of, foreground_box, world_to_index
from delineate.reports.display import AXIS, PLANES, View, largest_slices, structures, turn, turn_box, whole, zoom
from delineate.reports.drawing import heading, png_drawing, shortened
from delineate.reports.slices import fill, height_mm, legend, outline, show_slice, width_mm
from delineate.volume import Segmentation, Volume, crop

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Mask = npt.NDArray[np.bool_]

_DPI = 110
_WIDTH = 9.4  # inches
_IN_SLICE = 0.6  # of a voxel, that a line's ends may be off the slice it is drawn on
_LINE_COLOURS = ("#ffffff", "#ffd34d")


@dataclass(frozen=True, slots=True)
class MeasuredLine:
    """A line that was measured, e.g. a diameter. Ends in LPS mm; `words` stand beside it: "41 mm"."""

    start_mm: TripleMM
    stop_mm: TripleMM
    words: str = ""


def structure_slices(
    volume: Volume,
    segmentation: Segmentation,
    name: str,
    *,
    part: Box | None = None,
    lines: Sequence[MeasuredLine] = (),
    title: str = "",
) -> bytes:
    """PNG of axial, coronal and sagittal slices where a structure is largest, close up: it filled, all outlined.

    `part`: the box around the lesion that is meant, in the segmentation's own indices; all of the structure without.
    `lines`: each is drawn on the slice that it lies in; the first one that lies in a slice chooses it. A structure
    without voxels there: the middle of the scan, and the picture says so. Raises `LabelError` for an unknown name,
    `GeometryMismatch` for a segmentation of other voxels.
    """
    label = segmentation.labels.named(name)
    image, turned = turn(volume, segmentation)
    drawn = next(one for one in turned if one is not None)
    grid = image.grid
    place = whole(grid) if part is None else turn_box(part, segmentation.grid)
    mask = np.asarray(crop(drawn, place).mask(name))
    box = _moved(foreground_box(mask), place.start)
    ends = [world_to_index(grid, [line.start_mm, line.stop_mm]) for line in lines]
    middle = _place_of_most(mask, place.start)
    views = [View(plane, _chosen(ends, AXIS[plane], middle, grid), zoom(box, grid)) for plane in PLANES]
    widths = [width_mm(view, grid) / height_mm(view, grid) for view in views]
    height = min(max((_WIDTH - 0.5) / sum(widths), 2.2), 4.6) + 0.85
    with png_drawing(width=_WIDTH, height=height, dpi=_DPI) as (figure, png):
        for pane, view in zip(figure.subplots(1, 3, width_ratios=widths), views, strict=True):
            show_slice(pane, view, image)
            fill(pane, drawn, view, alpha=0.3, only=name)
            outline(pane, drawn, view)
            for n, line in enumerate(lines):
                _draw_line(pane, view, ends[n], line.words, _LINE_COLOURS[n % len(_LINE_COLOURS)])
            pane.set_title(f"{view.plane.capitalize()} {view.index + 1} of {grid.shape[view.axis]}")
        met = {other.value for view in views for other, _ in structures(drawn, view)}
        note = "" if box is not None else f"{shortened(name, 40)} has no voxels here"
        legend(figure, [other for other in drawn.labels if other.value in met or other == label], note=note)
        heading(figure, title)
    return png.getvalue()


def _moved(box: Box | None, by: Triple) -> Box | None:
    if box is None:
        return None
    return box_of((a + n, b + n) for a, b, n in zip(box.start, box.stop, by, strict=True))


def _place_of_most(mask: Mask, start: Triple) -> Triple:
    """The index along each axis with the most of a mask that begins at `start`; its middle if it is empty."""
    a, b, c = mask.shape
    i, j, k = (n + first for n, first in zip(largest_slices(mask, (a, b, c)), start, strict=True))
    return i, j, k


def _chosen(ends: Sequence[FloatArray], axis: int, middle: Triple, grid: Grid) -> int:
    """The slice of the first line that lies in one; else that with the most of the structure."""
    for points in ends:
        place = float(points[:, axis].mean())
        if np.ptp(points[:, axis]) <= 2 * _IN_SLICE and -0.5 <= place <= grid.shape[axis] - 0.5:
            return min(max(round(place), 0), grid.shape[axis] - 1)
    return middle[axis]


def _draw_line(pane: Axes, view: View, points: FloatArray, words: str, colour: str) -> None:
    from matplotlib.patheffects import withStroke

    if (np.abs(points[:, view.axis] - view.index) > _IN_SLICE).any():
        return
    columns, rows = (view.place(points)[:, n] for n in range(2))
    edge = [withStroke(linewidth=3.2, foreground="black")]
    pane.plot(columns, rows, color=colour, linewidth=1.4, marker="|", markersize=5, path_effects=edge, zorder=6)
    if words:
        right = columns.max() < 0.78 * view.shape[1]  # room for the words beside that end
        end = int(np.argmax(columns) if right else np.argmin(columns))
        text = pane.annotate(
            words, (columns[end], rows[end]), xytext=(5 if right else -5, -3), textcoords="offset points",
            ha="left" if right else "right", color=colour, fontsize=8, fontweight="bold", zorder=7,
        )  # fmt: skip
        text.set_path_effects([withStroke(linewidth=2, foreground="black")])
