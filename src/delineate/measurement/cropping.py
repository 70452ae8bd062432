"""Every structure of a segmentation on its own small grid: nothing costly is done on a whole scan."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from delineate.geometry import Box, Grid, crop_grid
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
    """One structure in its box, as `structure_boxes` of `volume` gives it. Raises `LabelError` for a label that is not
    there."""
    mask = np.array(segmentation.mask(label.name, box), order="C")
    return Cropped(label, mask, crop_grid(segmentation.grid, box), box)
