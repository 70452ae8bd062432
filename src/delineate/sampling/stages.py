"""Masks of a cascade's stage before, in training: what it gets wrong elsewhere must be met in time.

Out-of-fold masks err as they will later; still a network leans on them too much. So some are worn off, grown, or lose a
part, as in nnU-Net (Isensee et al. 2021).
"""

from __future__ import annotations

import cc3d
import edt
import numpy as np
import numpy.typing as npt

Mask = npt.NDArray[np.bool_]

_RESHAPED, _RADII = 0.4, (1, 8)  # share of the patches, and voxels
_ROBBED, _LARGEST = 0.2, 0.15  # share of the patches that lose a component, and of the patch that it may fill


def wear(masks: npt.NDArray[np.float32], rng: np.random.Generator) -> npt.NDArray[np.float32]:
    """Masks (L, I, J, K) of 0 and 1, each now and then grown, shrunk, opened, closed, or short of a component."""
    reshaped, robbed = rng.random() < _RESHAPED, rng.random() < _ROBBED
    if not (reshaped or robbed):
        return masks
    worn = masks >= 0.5
    if reshaped:
        for mask in worn:
            mask[...] = _reshape(mask, rng)
    if robbed:
        victim = worn[int(rng.integers(len(worn)))]
        victim[...] = _rob(victim, rng)
    return worn.astype(np.float32)


def _reshape(mask: Mask, rng: np.random.Generator) -> Mask:
    how, radius = int(rng.integers(4)), int(rng.integers(_RADII[0], _RADII[1] + 1))
    if not mask.any():
        return mask
    steps = ((_grown,), (_shrunk,), (_shrunk, _grown), (_grown, _shrunk))[how]
    for step in steps:
        mask = step(mask, radius)
    return mask


def _grown(mask: Mask, radius: int) -> Mask:
    return np.asarray(edt.edt(~mask, parallel=1) <= radius) if mask.any() else mask


def _shrunk(mask: Mask, radius: int) -> Mask:
    return np.asarray(edt.edt(mask, parallel=1) > radius)


def _rob(mask: Mask, rng: np.random.Generator) -> Mask:
    components, count = cc3d.connected_components(np.ascontiguousarray(mask), connectivity=26, return_N=True)
    sizes = np.bincount(components.ravel(), minlength=count + 1)
    able = [n for n in range(1, count + 1) if sizes[n] <= _LARGEST * mask.size]
    if not able:
        return mask
    rest: Mask = mask & (components != able[int(rng.integers(len(able)))])
    return rest
