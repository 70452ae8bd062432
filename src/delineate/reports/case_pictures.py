"""A case at a glance: three planes with the outlines of its reference."""

from __future__ import annotations

from delineate.reports.display import AXIS, PLANES, View, foreground, largest_slices, turn, whole
from delineate.reports.drawing import CHART_INCHES, png_drawing
from delineate.reports.slices import height_mm, legend, meets, outline, show_slice, width_mm
from delineate.volume import Segmentation, Volume

_DPI = 100  # many of these stand on one page


def outlined_slices(volume: Volume, reference: Segmentation | None, structure: str = "") -> bytes:
    """PNG of the axial, coronal and sagittal slice that meet most of a structure, the whole scan in view.

    Without `structure`, or where the case lacks it, of all structures; the middle slices without any. Raises
    `GeometryMismatch` if the reference has not the scan's voxels.
    """
    image, (drawn,) = turn(volume, reference)
    mask = foreground(drawn)
    if drawn is not None and structure in drawn.labels.names and drawn.mask(structure).any():
        mask = drawn.mask(structure)
    most = largest_slices(mask, image.grid.shape)
    views = [View(plane, most[AXIS[plane]], whole(image.grid)) for plane in PLANES]
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
