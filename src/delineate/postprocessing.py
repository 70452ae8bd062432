"""Pure rules on masks: what a structure cannot be (in two pieces, a speck, hollow) is taken away or filled."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import cc3d
import msgspec
import numpy as np
import numpy.typing as npt

from delineate.volume import Array, Segmentation

Mask = npt.NDArray[np.bool_]


class Rule(msgspec.Struct, frozen=True, kw_only=True):
    """For one structure: keep its largest component only, drop components below a volume, then fill what it encloses.

    Only background is filled: another structure inside stays.
    """

    label: str
    largest_only: bool = False
    smallest_ml: float = 0.0
    fill_holes: bool = False

    @property
    def words(self) -> str:
        """What it does, in a few words; "" if that is nothing."""
        what = ["only its largest part"] if self.largest_only else []
        what += [f"no part below {self.smallest_ml:.3g} mL"] if self.smallest_ml else []
        what += ["holes filled"] if self.fill_holes else []
        return ", ".join(what)


def apply_rules(segmentation: Segmentation, rules: Sequence[Rule]) -> Segmentation:
    """The segmentation with what the rules forbid set to background. Raises `LabelError` for an unknown structure."""
    if not rules:
        return segmentation
    array = segmentation.array.copy()
    for rule in rules:
        mask = segmentation.mask(rule.label)
        kept = mask
        if rule.largest_only or rule.smallest_ml:
            kept = keep_components(mask, rule, segmentation.grid.voxel_volume_ml)
            _clear(array, mask & ~kept, segmentation, rule.label)
        if rule.fill_holes:
            _fill(array, enclosed(kept), segmentation, rule.label)
    return replace(segmentation, array=array)


def keep_components(mask: Mask, rule: Rule, voxel_ml: float) -> Mask:
    """The components (26 neighbours) of an (I, J, K) mask that a rule lets stay; an empty mask stays empty."""
    # A copy: cc3d takes no arrays that must not be written to.
    components, count = cc3d.connected_components(mask.astype(np.uint8), connectivity=26, return_N=True)
    if count == 0:
        return mask
    voxels = np.bincount(components.ravel())
    voxels[0] = 0
    keep = voxels * voxel_ml >= rule.smallest_ml * (1 - 1e-9)  # a component of just that volume stays
    if rule.largest_only:
        keep &= np.arange(len(voxels)) == voxels.argmax()
    keep[0] = False
    return np.asarray(keep[components])


def enclosed(mask: Mask) -> Mask:
    """The voxels outside an (I, J, K) mask from which no way through faces leads past it; none for an empty mask."""
    from scipy.ndimage import binary_fill_holes, find_objects

    found = np.zeros_like(mask)
    for box in find_objects(mask.astype(np.uint8)):
        found[box] = binary_fill_holes(mask[box]) & ~mask[box]
    return found


def _clear(array: Array, removed: Mask, segmentation: Segmentation, name: str) -> None:
    if segmentation.labels.overlaps:
        array[segmentation.labels.names.index(name)][removed] = False
    else:
        array[removed] = 0


def _fill(array: Array, holes: Mask, segmentation: Segmentation, name: str) -> None:
    if segmentation.labels.overlaps:
        array[segmentation.labels.names.index(name)][holes] = True
    else:
        array[holes & (segmentation.array == 0)] = segmentation.labels.named(name).value
