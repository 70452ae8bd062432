"""Where structures are in several segmentations of one scan, so that nothing costly is done on all of it."""

from __future__ import annotations

from collections.abc import Sequence

from delineate.geometry import Box, box_of
from delineate.volume import Segmentation, structure_boxes


def common_boxes(segmentations: Sequence[Segmentation]) -> dict[str, Box]:
    """The smallest box of each structure that holds it in all of them; a structure that none has is left out.

    The segmentations have one grid, and the first one's names.
    """
    found: dict[str, list[Box]] = {}
    for segmentation in segmentations:
        for name, box in zip(segmentation.labels.names, structure_boxes(segmentation), strict=True):
            if box is not None:
                found.setdefault(name, []).append(box)
    return {name: _around(found[name]) for name in segmentations[0].labels.names if name in found}


def _around(boxes: Sequence[Box]) -> Box:
    return box_of((min(box.start[axis] for box in boxes), max(box.stop[axis] for box in boxes)) for axis in range(3))
