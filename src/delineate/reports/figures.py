"""Pictures for people, as PNG: what goes into training, and what came out."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from delineate.geometry import Box, foreground_box
from delineate.reports.display import (
    AXIS,
    PALETTE,
    PLANES,
    View,
    display_window,
    foreground,
    largest_slices,
    sample,
    structures,
    turn,
    turn_box,
    whole,
    zoom,
)
from delineate.reports.drawing import heading, png_drawing
from delineate.reports.slices import fill, height_mm, legend, meets, outline, outline_box, show_slice, width_mm
from delineate.volume import Segmentation, Volume

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def preview_figure(
    volume: Volume,
    segmentation: Segmentation | None = None,
    *,
    title: str = "",
    channels: Sequence[str] = (),
    crop_box: Box | None = None,
    prepared: npt.NDArray[np.floating[Any]] | None = None,
) -> bytes:
    """PNG of a case as the network will meet it: axial slices, reference, overlay, intensity histograms.

    The slice is the one with most of the reference, the middle one without. `crop_box`: the part that is
    kept, in the volume's own indices, drawn dashed. `prepared`: (C, I, J, K) normalised intensities for the
    second histogram; without it the display window's effect is shown. `channels`: their names.
    """
    image, (seg,) = turn(volume, segmentation)
    view = View("axial", largest_slices(foreground(seg), image.grid.shape)[2], whole(image.grid))
    names = list(channels) if len(channels) == image.channels else [f"channel {n}" for n in range(image.channels)]
    shown = min(image.channels, 3)
    columns = shown + (0 if seg is None else 2)
    with png_drawing(width=max(2.9 * columns, 7.5), height=5.6) as (figure, png):
        halves: Any = figure.subfigures(2, 1, height_ratios=(1.75, 1))
        upper, lower = halves
        panes = upper.subplots(1, columns, squeeze=False)[0]
        for n in range(shown):
            show_slice(panes[n], view, image, channel=n)
            panes[n].set_title(
                f"{names[n]}, axial slice {view.index + 1} of {image.grid.shape[2]}" if n == 0 else names[n]
            )
        if crop_box is not None:
            outline_box(panes[0], turn_box(crop_box, volume.grid))
        if seg is not None:
            show_slice(panes[-2], view, None, like=image.grid)
            fill(panes[-2], seg, view, alpha=1.0)
            panes[-2].set_title("Reference")
            show_slice(panes[-1], view, image)
            fill(panes[-1], seg, view, alpha=0.4)
            outline(panes[-1], seg, view)
            panes[-1].set_title("Both")
            legend(upper, [label for label, _ in structures(seg, view)])
        _histograms(lower, image, names, prepared)
        heading(figure, title)
    return png.getvalue()


def comparison_figure(
    volume: Volume,
    prediction: Segmentation,
    *,
    reference: Segmentation | None = None,
    title: str = "",
    channel: int = 0,
) -> bytes:
    """PNG of a prediction (filled) and its reference (outlined) in three planes, close up.

    Each plane lies where it meets most of the reference, or of the prediction if there is none or it is empty.
    """
    image, (predicted, drawn) = turn(volume, prediction, reference)
    drawn_mask, predicted_mask = foreground(drawn), foreground(predicted)
    main = drawn_mask if drawn_mask is not None and drawn_mask.any() else predicted_mask
    either = (
        drawn_mask if predicted_mask is None else predicted_mask if drawn_mask is None else drawn_mask | predicted_mask
    )
    box = zoom(None if either is None else foreground_box(either), image.grid)
    most = largest_slices(main, image.grid.shape)
    views = [View(plane, most[AXIS[plane]], box) for plane in PLANES]
    widths = [width_mm(view, image.grid) / height_mm(view, image.grid) for view in views]
    labels = [
        label
        for label in prediction.labels
        if any(meets(seg, view, label) for seg in (predicted, drawn) for view in views)
    ]
    with png_drawing(width=10.5, height=min(max(10.0 / sum(widths), 2.4), 5.5) + 0.9) as (figure, png):
        panes = figure.subplots(1, 3, width_ratios=widths)
        for pane, view in zip(panes, views, strict=True):
            show_slice(pane, view, image, channel=channel)
            if predicted is not None:
                fill(pane, predicted, view, alpha=0.45)
            outline(pane, drawn if drawn is not None else predicted, view)
            pane.set_title(f"{view.plane.capitalize()} {view.index + 1}")
        legend(figure, labels, note="filled: prediction" + ("" if reference is None else ", line: reference"))
        heading(figure, title)
    return png.getvalue()


def _histograms(figure: Any, image: Volume, names: Sequence[str], prepared: npt.NDArray[Any] | None) -> None:
    before, after = figure.subplots(1, 2)
    for n, name in enumerate(names):
        colour = PALETTE[n % len(PALETTE)]
        low, high = display_window(image, n)
        windowed = (np.clip(sample(image.array[n]), low, high) - low) / (high - low)
        _histogram(before, sample(image.array[n]), name, colour)
        _histogram(after, windowed if prepared is None else sample(prepared[n]), name, colour)
        if prepared is None:
            before.axvspan(low, high, color=colour, alpha=0.08, linewidth=0)
    before.set_title("Intensities as stored")
    after.set_title("In the display window" if prepared is None else "After normalisation")
    before.set_ylabel("voxels, log scale")
    for pane in (before, after):
        pane.set_yscale("symlog", linthresh=1)
        pane.set_yticks([])
        pane.minorticks_off()
    if len(names) > 1:
        before.legend()


def _histogram(pane: Axes, values: npt.NDArray[np.float64], name: str, colour: str) -> None:
    counts, edges = np.histogram(values, bins=100)
    pane.stairs(counts, edges, color=colour, fill=True, alpha=0.25)
    pane.stairs(counts, edges, color=colour, linewidth=1.2, label=name)
