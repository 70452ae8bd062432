"""Slices drawn on matplotlib's axes: the image in its window, structures filled and outlined, letters, a scale."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import numpy as np

from delineate.geometry import Box, Grid
from delineate.labels import Label
from delineate.reports.display import BORDERS, PALETTE, View, display_window, fraction, structures
from delineate.reports.drawing import INK, QUIET
from delineate.volume import Segmentation, Volume

if TYPE_CHECKING:
    from matplotlib.axes import Axes

SCALE_BARS_MM = (100, 50, 20, 10, 5, 2, 1)


def show_slice(pane: Axes, view: View, image: Volume | None, *, like: Grid | None = None, channel: int = 0) -> None:
    """Draw a slice in grey (black without an image), with letters at its borders and a scale bar."""
    grid = image.grid if image is not None else like
    if grid is None:
        raise ValueError("a slice needs an image or a grid")
    rows_mm, columns_mm = view.spacing_mm(grid)
    pixels = np.zeros(view.shape) if image is None else view.picture(image.array[channel])
    low, high = (0.0, 1.0) if image is None else display_window(image, channel)
    finite = np.nan_to_num(pixels.astype(np.float64), posinf=high, neginf=low)
    pane.imshow(finite, cmap="gray", vmin=low, vmax=high, aspect=rows_mm / columns_mm, interpolation="nearest")
    pane.set(xticks=[], yticks=[])
    pane.grid(visible=False)
    pane.spines[:].set_visible(False)
    letters(pane, BORDERS[view.plane])
    scale_bar(pane, view.shape[1], columns_mm)


def letters(pane: Axes, borders: tuple[str, str, str, str], *, dark: bool = True) -> None:
    """What lies to the left, to the right, on top and below; in white on a `dark` picture."""
    from matplotlib.patheffects import withStroke

    colour, edge = ("white", "black") if dark else (INK, "white")
    places = ((0.02, 0.5), (0.98, 0.5), (0.5, 0.98), (0.5, 0.02))
    aligned = (("left", "center"), ("right", "center"), ("center", "top"), ("center", "bottom"))
    for letter, (x, y), (across, along) in zip(borders, places, aligned, strict=True):
        text = pane.text(x, y, letter, color=colour, fontsize=9, fontweight="bold", ha=across, va=along)
        text.set(transform=pane.transAxes, path_effects=[withStroke(linewidth=2, foreground=edge)])


def scale_bar(pane: Axes, columns: int, column_mm: float, *, dark: bool = True) -> None:
    """A bar of a round length, at most a third of the picture's width."""
    from matplotlib.patheffects import withStroke

    width_mm = columns * column_mm
    length = next((bar for bar in SCALE_BARS_MM if bar <= width_mm / 3), None)
    if length is None:
        return
    colour, edge = ("white", "black") if dark else (INK, "white")
    share, place = length / width_mm, pane.transAxes
    halo = [withStroke(linewidth=4, foreground=edge)]
    pane.plot([0.04, 0.04 + share], [0.035] * 2, color=colour, linewidth=2, transform=place, path_effects=halo)
    text = pane.text(0.04, 0.055, f"{length} mm", color=colour, fontsize=7, transform=place, va="bottom")
    text.set_path_effects([withStroke(linewidth=2, foreground=edge)])


def fill(pane: Axes, segmentation: Segmentation, view: View, *, alpha: float, only: str = "") -> None:
    """Structures, or `only` one, in their colours; `alpha`: 1 hides the image."""
    colours = np.zeros((*view.shape, 4))
    for label, mask in structures(segmentation, view):
        if only in ("", label.name):
            colours[mask] = (*fraction(label), alpha)
    pane.imshow(colours, aspect=pane.get_aspect(), interpolation="nearest")


def outline(pane: Axes, segmentation: Segmentation | None, view: View) -> None:
    if segmentation is None:
        return
    for label, mask in structures(segmentation, view):
        # A frame of background closes outlines at the border, and makes sure that there is one.
        framed = np.pad(mask.astype(float), 1)
        rows, columns = (np.arange(-1, n + 1) for n in mask.shape)
        pane.contour(columns, rows, framed, levels=[0.5], colors=[fraction(label)], linewidths=1.3)
    rows_, columns_ = view.shape
    pane.set(xlim=(-0.5, columns_ - 0.5), ylim=(rows_ - 0.5, -0.5))


def outline_box(pane: Axes, box: Box) -> None:
    from matplotlib.patches import Rectangle

    corner, size = (box.start[0] - 0.5, box.start[1] - 0.5), box.shape[:2]
    pane.add_patch(Rectangle(corner, *size, fill=False, edgecolor=PALETTE[4], linewidth=1.5, linestyle="--"))
    pane.text(0.02, 0.98, "crop", color=PALETTE[4], fontsize=8, transform=pane.transAxes, va="top")


def legend(figure: Any, labels: Iterable[Label], *, note: str = "") -> None:
    from matplotlib.patches import Patch

    handles = [Patch(color=fraction(label), label=label.name.replace("_", " ")) for label in labels]
    if handles:
        # A letter is about 0.08 inches wide, a patch of colour with its gaps 0.6.
        widest = 0.6 + 0.08 * max(len(str(handle.get_label())) for handle in handles)
        columns = max(1, min(len(handles), 6, int(figure.bbox.width / figure.dpi / widest)))
        placed = figure.legend(handles=handles, loc="outside lower center", ncols=columns, title=note or None)
        placed.get_title().set(color=QUIET, fontsize=8)


def meets(segmentation: Segmentation | None, view: View, label: Label) -> bool:
    return segmentation is not None and any(found == label for found, _ in structures(segmentation, view))


def width_mm(view: View, grid: Grid) -> float:
    return view.shape[1] * view.spacing_mm(grid)[1]


def height_mm(view: View, grid: Grid) -> float:
    return view.shape[0] * view.spacing_mm(grid)[0]
