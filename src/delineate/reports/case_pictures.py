"""A case at a glance: three planes with the outlines of its reference."""

from __future__ import annotations

from delineate.geometry import foreground_box
from delineate.reports.display import AXIS, PLANES, View, foreground, largest_slices, turn, whole, zoom
from delineate.reports.drawing import CHART_INCHES, png_drawing
from delineate.reports.slices import height_mm, legend, meets, outline, show_slice, width_mm
from delineate.volume import Segmentation, Volume

_DPI = 100  # many of these stand on one page


def outlined_slices(volume: Volume, reference: Segmentation | None, structure: str = "") -> bytes:
    """PNG of the axial, coronal and sagittal slice that meet most of a structure, all structures close up.

    Without `structure`, or where the case lacks it, the slices that meet most of all structures (the middle ones
    without any), with the whole scan in view. Raises `GeometryMismatch` if the reference has not the scan's voxels.
    """
    image, (drawn,) = turn(volume, reference)
    mask, box = foreground(drawn), whole(image.grid)
    if drawn is not None and mask is not None and structure in drawn.labels.names and drawn.mask(structure).any():
        mask, box = drawn.mask(structure), zoom(foreground_box(mask), image.grid)
    most = largest_slices(mask, image.grid.shape)
    views = [View(plane, most[AXIS[plane]], box) for plane in PLANES]
    widths = [width_mm(view, image.grid) / height_mm(view, image.grid) for view in views]
    shown = [] if drawn is None else [label for label in drawn.labels if any(meets(drawn, v, label) for v in views)]
    height = min(max(CHART_INCHES / sum(widths), 1.6), 3.2) + 0.55 + 0.2 * (len(shown) > 6)
    with png_drawing(width=CHART_INCHES, height=height, dpi=_DPI) as (figure, png):
        panes = figure.subplots(1, 3, width_ratios=widths)
        for pane, view in zip(panes, views, strict=True):
            show_slice(pane, view, image)
            outline(pane, drawn, view)
            pane.set_title(f"{view.plane.capitalize()} {view.index + 1} of {image.grid.shape[view.axis]}", fontsize=8)
        legend(figure, shown)
    return png.getvalue()
