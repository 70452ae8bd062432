"""Pure rules on masks: what a structure cannot be (in two pieces, a speck) is taken away."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import cc3d
import msgspec
import numpy as np
import numpy.typing as npt

from delineate.volume import Array, Segmentation


class Rule(msgspec.Struct, frozen=True, kw_only=True):
    """For one structure: keep its largest component only, and drop components below a volume."""

    label: str
    largest_only: bool = False
    smallest_ml: float = 0.0


def apply_rules(segmentation: Segmentation, rules: Sequence[Rule]) -> Segmentation:
    """The segmentation with what the rules forbid set to background. Raises `LabelError` for an unknown structure."""
    if not rules:
        return segmentation
    array = segmentation.array.copy()
    for rule in rules:
        mask = segmentation.mask(rule.label)
        removed = mask & ~keep_components(mask, rule, segmentation.grid.voxel_volume_ml)
        _clear(array, removed, segmentation, rule.label)
    return replace(segmentation, array=array)


def keep_components(mask: npt.NDArray[np.bool_], rule: Rule, voxel_ml: float) -> npt.NDArray[np.bool_]:
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


def _clear(array: Array, removed: npt.NDArray[np.bool_], segmentation: Segmentation, name: str) -> None:
    if segmentation.labels.overlaps:
        array[segmentation.labels.names.index(name)][removed] = False
    else:
        array[removed] = 0
