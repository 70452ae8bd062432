"""Every structure of a segmentation on its own small grid: nothing costly is done on a whole scan."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from delineate.geometry import Box, Grid, box_of, crop_grid, foreground_box
from delineate.labels import Label
from delineate.volume import Segmentation

Mask = npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True, eq=False)
class Cropped:
    """A structure in the smallest box that holds it.

    `mask`: (i, j, k) of the box's shape, C-contiguous and of its own; `grid`: where it lies; `box`: which part of the
    segmentation's grid that is.
    """

    label: Label
    mask: Mask
    grid: Grid
    box: Box


def crop_structure(segmentation: Segmentation, label: Label, box: Box) -> Cropped:
    """One structure in its box, as `structure_boxes` gives it. Raises `LabelError` for a label that is not there."""
    if segmentation.labels.overlaps:
        part = segmentation.mask(label.name)[box.slices]
    else:
        part = segmentation.array[box.slices] == segmentation.labels.named(label.name).value
    return Cropped(label, np.array(part, dtype=bool, order="C"), crop_grid(segmentation.grid, box), box)


def structure_boxes(segmentation: Segmentation) -> tuple[Box | None, ...]:
    """The smallest box that holds each label's voxels, in the labels' order; None for a label without any."""
    if segmentation.labels.overlaps:
        return tuple(foreground_box(mask) for mask in segmentation.array)
    from scipy.ndimage import find_objects

    # Axes from the largest step in memory to the smallest: reading against it is several times slower.
    array = segmentation.array
    order = sorted(range(3), key=lambda axis: -abs(array.strides[axis]))
    found = find_objects(array.transpose(order), max_label=max(segmentation.labels.values, default=0))
    boxes: list[Box | None] = []
    for value in segmentation.labels.values:
        slices = found[value - 1]
        if slices is None:
            boxes.append(None)
        else:
            boxes.append(box_of((slices[n].start, slices[n].stop) for n in np.argsort(order)))
    return tuple(boxes)
