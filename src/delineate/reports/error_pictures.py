"""Where a prediction is wrong, on slices: what was missed, what was made up, what was called something else."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from delineate.geometry import Box, foreground_box
from delineate.labels import Label
from delineate.reports.display import (
    AXIS,
    ORIENTATION,
    PALETTE,
    PLANES,
    View,
    foreground,
    largest_slices,
    structures,
    turn,
    whole,
    zoom,
)
from delineate.reports.drawing import INK, png_drawing, shortened
from delineate.reports.slices import height_mm, show_slice, width_mm
from delineate.volume import Segmentation, Volume, reorient

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Mask = npt.NDArray[np.bool_]

_DPI = 90  # a dozen of these stand on one page
_WIDTH = 9.4  # inches
_OPACITY = 0.65
_MOST_NAMED = 5  # structures named on one slice
_KINDS = (
    ("missed: in the reference only", PALETTE[1]),
    ("made up: in the prediction only", PALETTE[5]),
    ("called by another name", PALETTE[3]),
)


def error_slices(image: Volume | None, reference: Segmentation, prediction: Segmentation, structure: str = "") -> bytes:
    """PNG of axial, coronal and sagittal slices with the reference in white and the wrong voxels in colours.

    The slices are those with most wrong voxels of `structure`, close up; of all structures without it, or where it is
    right everywhere. `reference`, `prediction`: of the same labels on the same voxels. `image`: without it they stand
    on black. Raises `GeometryMismatch` for an image of other voxels, `LabelError` for an unknown structure.
    """
    scan = None if image is None else turn(image, reference)[0]
    first, second = (reorient(seg, ORIENTATION) for seg in (reference, prediction))
    grid = first.grid
    wrong, box = _where(first, second, structure)
    most = largest_slices(wrong, grid.shape)
    views = [View(plane, most[AXIS[plane]], whole(grid) if box is None else zoom(box, grid)) for plane in PLANES]
    widths = [width_mm(view, grid) / height_mm(view, grid) for view in views]
    height = min(max((_WIDTH - 0.4) / sum(widths), 2.0), 4.2) + 0.6
    with png_drawing(width=_WIDTH, height=height, dpi=_DPI) as (figure, png):
        for pane, view in zip(figure.subplots(1, 3, width_ratios=widths), views, strict=True):
            show_slice(pane, view, scan, like=grid)
            _fill_errors(pane, view, first, second)
            _outline_reference(pane, view, first, second)
            pane.set_title(f"{view.plane.capitalize()} {view.index + 1} of {grid.shape[view.axis]}", fontsize=8)
        _legend(figure)
    return png.getvalue()


def _where(reference: Segmentation, prediction: Segmentation, structure: str) -> tuple[Mask | None, Box | None]:
    """The wrong voxels that choose the slices, and the box that is shown."""
    if structure:
        first, second = (np.asarray(seg.mask(structure)) for seg in (reference, prediction))
        wrong = first ^ second
        if wrong.any():
            return wrong, foreground_box(first | second)
    either = foreground(reference, prediction)
    wrong = reference.array != prediction.array
    if reference.labels.overlaps:
        wrong = wrong.any(axis=0)
    return wrong if wrong.any() else either, None if either is None else foreground_box(either)


def _masks(view: View, reference: Segmentation, prediction: Segmentation) -> Iterator[tuple[Label, Mask, Mask]]:
    """Each structure that the view meets, as it should be and as it was predicted."""
    found = [dict(structures(seg, view)) for seg in (reference, prediction)]
    nothing = np.zeros(view.shape, dtype=bool)
    for label in reference.labels:
        predicted = next((mask for other, mask in found[1].items() if other.name == label.name), nothing)
        drawn = found[0].get(label, nothing)
        if drawn.any() or predicted.any():
            yield label, drawn, predicted


def _fill_errors(pane: Axes, view: View, reference: Segmentation, prediction: Segmentation) -> None:
    from matplotlib.colors import to_rgb

    missed, made_up = np.zeros((2, *view.shape), dtype=bool)
    for _, drawn, predicted in _masks(view, reference, prediction):
        missed |= drawn & ~predicted
        made_up |= predicted & ~drawn
    colours = np.zeros((*view.shape, 4))
    kinds = (missed & ~made_up, made_up & ~missed, missed & made_up)
    for mask, (_, colour) in zip(kinds, _KINDS, strict=True):
        colours[mask] = (*to_rgb(colour), _OPACITY)
    pane.imshow(colours, aspect=pane.get_aspect(), interpolation="nearest")


def _outline_reference(pane: Axes, view: View, reference: Segmentation, prediction: Segmentation) -> None:
    """All structures in white; those with most errors on the slice with their names."""
    from matplotlib.patheffects import withStroke

    sizes = []
    for label, drawn, predicted in _masks(view, reference, prediction):
        if drawn.any():
            rows, columns = (np.arange(-1, n + 1) for n in drawn.shape)
            pane.contour(columns, rows, np.pad(drawn.astype(float), 1), levels=[0.5], colors="white", linewidths=0.9)
        wrong = int(np.count_nonzero(drawn ^ predicted))
        if wrong:
            sizes.append((wrong, label.name, drawn if drawn.any() else predicted))
    for _, name, mask in sorted(sizes, key=lambda item: -item[0])[:_MOST_NAMED]:
        places = np.argwhere(mask)
        # On the structure, also where it is bent or has two parts.
        row, column = places[np.square(places - places.mean(axis=0)).sum(axis=1).argmin()].tolist()
        words = shortened(name.replace("_", " "), 22)
        text = pane.text(column, row, words, color="white", fontsize=6.5, ha="center", va="center", clip_on=True)
        text.set_path_effects([withStroke(linewidth=1.8, foreground="black")])
    rows_, columns_ = view.shape
    pane.set(xlim=(-0.5, columns_ - 0.5), ylim=(rows_ - 0.5, -0.5))


def _legend(figure: Figure) -> None:
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch

    handles: list[Patch | Line2D] = [Patch(color=colour, label=words) for words, colour in _KINDS]
    handles.append(Line2D([], [], color="white", label="reference", linewidth=1.4))
    placed = figure.legend(handles=handles, loc="outside lower center", ncols=4, fontsize=8, facecolor="#8a949e")
    placed.set_frame_on(True)
    placed.get_frame().set(linewidth=0)
    for text in placed.get_texts():
        text.set_color(INK)
