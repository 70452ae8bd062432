"""The separate parts of structures: lesions one by one, and lesions of several kinds that adjoin."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from delineate.geometry import Box, box_of, crop_grid
from delineate.measurement.contacts import placed
from delineate.measurement.cropping import Cropped
from delineate.measurement.shapes import numbered_parts
from delineate.volume import Array


@dataclass(frozen=True, slots=True, eq=False)
class Piece:
    """One part of a structure. `number`: 1 is the largest."""

    number: int
    part: Cropped
    voxels: int

    @property
    def volume_ml(self) -> float:
        return self.voxels * self.part.grid.voxel_volume_ml


def pieces_of(structure: Cropped) -> tuple[Piece, ...]:
    """The parts of a structure that are connected by faces, edges or corners, in boxes of their own, the largest first.

    Parts of one size are in the order of their first voxels. No voxels, no parts.
    """
    parts = _connected(structure)
    voxels = [int(np.count_nonzero(part.mask)) for part in parts]
    order = sorted(range(len(parts)), key=lambda n: -voxels[n])
    return tuple(Piece(number, parts[n], voxels[n]) for number, n in enumerate(order, start=1))


def groups_of(structures: Sequence[Cropped], parts: Sequence[Cropped]) -> tuple[Cropped, ...]:
    """For each of `parts`, parts of `structures`, all that is connected with it across structures: an enhancing rim
    with the necrosis inside."""
    if len(structures) < 2:
        return tuple(parts)
    box = joined_box([one.box for one in structures])
    whole = joined(structures, box)
    groups = _connected(whole)
    return tuple(next(group for group in groups if _holds(group, part)) for part in parts)


def joined(parts: Sequence[Cropped], box: Box) -> Cropped:
    """All parts as one structure, under the first one's label, in a box of the same scan."""
    mask = np.zeros(box.shape, dtype=bool)
    for part in parts:
        mask |= placed(part, box)
    first = parts[0]
    moved = zip(box.start, box.stop, first.box.start, strict=True)
    grid = crop_grid(first.grid, box_of((a - start, b - start) for a, b, start in moved))
    return Cropped(first.label, mask, grid, box)


def joined_box(boxes: Sequence[Box]) -> Box:
    """The smallest box around some boxes."""
    start, stop = np.min([box.start for box in boxes], axis=0), np.max([box.stop for box in boxes], axis=0)
    return box_of((int(a), int(b)) for a, b in zip(start, stop, strict=True))


def without_holes(whole: Cropped) -> Cropped:
    """With all that it encloses: what cannot be reached from its box's border from face to face."""
    import cc3d

    outside: Array = cc3d.connected_components(np.ascontiguousarray(~whole.mask), connectivity=6)
    reached = np.zeros(int(outside.max()) + 1, dtype=bool)
    for axis in range(3):
        for end in (0, -1):
            reached[np.unique(np.take(outside, end, axis=axis))] = True
    reached[0] = False  # the structure itself
    return replace(whole, mask=~reached[outside])


def _connected(structure: Cropped) -> list[Cropped]:
    import cc3d

    numbered = numbered_parts(structure.mask)
    boxes = cc3d.statistics(numbered)["bounding_boxes"]
    return [_cut(structure, numbered, n, boxes[n]) for n in range(1, len(boxes))]


def _cut(whole: Cropped, numbered: Array, number: int, slices: tuple[slice, ...]) -> Cropped:
    inner = box_of((int(one.start), int(one.stop)) for one in slices)
    moved = zip(inner.start, inner.stop, whole.box.start, strict=True)
    outer = box_of((a + first, b + first) for a, b, first in moved)
    return Cropped(whole.label, numbered[inner.slices] == number, crop_grid(whole.grid, inner), outer)


def _holds(group: Cropped, part: Cropped) -> bool:
    voxel = np.argwhere(part.mask)[0] + part.box.start
    place = voxel - group.box.start
    inside = bool((place >= 0).all() and (place < group.box.shape).all())
    return inside and bool(group.mask[tuple(place)])
