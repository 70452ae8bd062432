"""Tools on the pieces of a structure: take one away, keep the largest, drop islands, give one to another structure.

A piece is what hangs together over faces, edges or corners (26 neighbours), as everywhere in the house. Each takes an
(I, J, K) label array and gives a `Change`; they raise `LabelError` if there is nothing of the structure.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from delineate.editing.boxes import Mask, checked_index, checked_spacing
from delineate.editing.changes import Change, Labels, checked_value, erased, extent, painted, value_at
from delineate.errors import InputError, LabelError
from delineate.geometry import Box, Triple


def remove_component(labels: Labels, index: Triple) -> Change:
    """Takes away the piece at an index. Raises `InputError` where there is background."""
    return relabel_component(labels, index, to=0)


def relabel_component(labels: Labels, index: Triple, *, to: int) -> Change:
    """Gives the piece at an index to the structure `to`. Raises `InputError` where there is background."""
    value = value_at(labels, index)
    box, pieces, _ = _pieces(labels, value)
    at = checked_index(index, labels.shape)
    number = pieces[tuple(place - start for place, start in zip(at, box.start, strict=True))]
    return painted(labels, box, pieces == number, value=checked_value(to, labels), over="all")


def relabel(labels: Labels, value: int, *, to: int) -> Change:
    """Gives all of a structure to another one; `to` 0 removes it. Raises `LabelError` for the structure itself."""
    if to == value:
        raise LabelError("a structure cannot be given to itself", got=value)
    box = extent(labels, value)
    return painted(labels, box, labels[box.slices] == value, value=checked_value(to, labels), over="all")


def keep_largest(labels: Labels, value: int) -> Change:
    """Keeps the piece with the most voxels; of several with as many, all of them."""
    box, pieces, voxels = _pieces(labels, value)
    return erased(labels, box, _of(pieces, voxels < voxels[1:].max()), value=value)


def remove_islands(labels: Labels, value: int, *, smaller_ml: float, spacing_mm: Sequence[float]) -> Change:
    """Takes away every piece below a volume in mL; a piece of just that volume stays.

    Raises `InputError` if that is all of them: then the limit is not what was meant.
    """
    voxel_ml = float(np.prod(checked_spacing(spacing_mm))) / 1000
    if not (np.isfinite(smaller_ml) and smaller_ml > 0):
        raise InputError("the smallest volume to keep must be above 0 mL", got=smaller_ml)
    box, pieces, voxels = _pieces(labels, value)
    small = voxels * voxel_ml < smaller_ml * (1 - 1e-9)
    if small[1:].all():
        raise InputError(
            "every piece of the structure is smaller than that",
            expected=f"at most {voxels[1:].max() * voxel_ml:.3g} mL, the largest one",
            got=f"{smaller_ml:g} mL",
        )
    return erased(labels, box, _of(pieces, small), value=value)


def _pieces(labels: Labels, value: int) -> tuple[Box, npt.NDArray[Any], npt.NDArray[np.intp]]:
    """The structure's box, its pieces numbered from 1 there, and the voxels of each number (of 0: those around)."""
    import cc3d

    box = extent(labels, value)
    pieces = cc3d.connected_components((labels[box.slices] == value).astype(np.uint8), connectivity=26)
    return box, pieces, np.bincount(pieces.ravel())


def _of(pieces: npt.NDArray[Any], chosen: Mask) -> Mask:
    removed = chosen.copy()
    removed[0] = False
    mask: Mask = removed[pieces]
    return mask
