"""Where a patch lies in its case, and the patch cut out there."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from delineate.augmentation import (
    Augmentation,
    change_intensities,
    no_augmentation,
    reach_voxels,
    sample_at,
    sample_augmentation,
    source_position,
    source_positions,
)
from delineate.geometry import Box, FloatArray, Triple
from delineate.planning import Plan
from delineate.sampling.cases import TrainingCase
from delineate.sampling.drawing import ANYWHERE
from delineate.sampling.stages import wear
from delineate.volume import cut

_WEAR = 0x77656172  # apart from what else is drawn from the patch's seed


def make_patch(
    chosen: TrainingCase, plan: Plan, rng: np.random.Generator, structure: int | None = None
) -> tuple[Tensor, Tensor]:
    """A patch that shows a structure, or whatever is drawn; see `Draw`."""
    spacing = chosen.case.trace.prepared.spacing_mm
    present = tuple(n for n in range(len(plan.channels)) if n not in chosen.absent)
    augmentation = sample_augmentation(plan.augmentation, spacing, plan.patch_size, rng, channels=present)
    return cut_patch(chosen, _draw_centre(chosen, plan, augmentation, rng, structure), plan.patch_size, augmentation)


def _draw_centre(
    chosen: TrainingCase, plan: Plan, augmentation: Augmentation, rng: np.random.Generator, structure: int | None
) -> FloatArray:
    shape = np.asarray(chosen.case.image.shape[1:])
    centre: FloatArray = rng.uniform(0, shape)
    extent = np.asarray(plan.patch_size) * plan.augmentation.coarser
    on_structure = rng.random() < plan.training.positive_fraction if structure is None else structure != ANYWHERE
    if not on_structure or not chosen.locations:
        return _moved_inside(centre, shape, extent) + augmentation.shift
    index = chosen.values.index(structure) if structure else int(rng.integers(len(chosen.locations)))
    voxels = chosen.locations[index]
    voxel = voxels[rng.integers(len(voxels))].astype(np.float64)
    if plan.training.off_centre == 0:
        return _moved_inside(voxel, shape, extent) + augmentation.shift
    return _placed(voxel, shape, plan, augmentation, rng)


def _moved_inside(centre: FloatArray, shape: FloatArray, patch: FloatArray) -> FloatArray:
    """So that little of the patch, whose extent is in the case's voxels, lies outside the case."""
    low, high = (patch - 1) / 2, shape - 1 - (patch - 1) / 2
    inside = np.where(low <= high, np.clip(centre, low, np.maximum(low, high)), (shape - 1) / 2)
    # Whole-voxel positions: a patch that is not turned needs no interpolation.
    return np.asarray(np.floor(inside - low) + low, dtype=np.float64)


def _placed(
    voxel: FloatArray, shape: FloatArray, plan: Plan, augmentation: Augmentation, rng: np.random.Generator
) -> FloatArray:
    """The centre of a patch in which a voxel of the case lies off the centre, on one of the patch's own voxels.

    However the patch is turned, scaled and bent, that voxel is in it: even a structure of one voxel is never lost.
    """
    half = (np.asarray(plan.patch_size) - 1) / 2
    wanted = np.round(half + rng.uniform(-1, 1, 3) * plan.training.off_centre * half) - half
    extent = np.asarray(plan.patch_size) * plan.augmentation.coarser
    centre = _moved_inside(voxel - augmentation.matrix @ wanted, shape, extent) + augmentation.shift
    offset = np.linalg.solve(augmentation.matrix, voxel - centre)
    place = np.clip(np.round(offset + half), 0, 2 * half)
    return voxel - source_position(plan.patch_size, augmentation, place)


def cut_patch(
    chosen: TrainingCase, centre: FloatArray, patch: Triple, augmentation: Augmentation | None = None
) -> tuple[Tensor, Tensor]:
    """Image (C, I, J, K) and target (I, J, K) of a patch about `centre` (voxels).

    Outside the case the image has the values that surround it, and the target 0.
    """
    augmentation = augmentation or no_augmentation()
    assert chosen.case.target is not None
    if augmentation.is_spatial:
        image, target = _cut_turned(chosen, centre, patch, augmentation)
    else:
        start = np.round(centre - (np.asarray(patch) - 1) / 2).astype(int)
        box = Box(tuple(start), tuple(start + patch))
        channels = zip(chosen.case.image, chosen.outside, strict=True)
        image = torch.from_numpy(np.stack([cut(channel, box, fill=float(value)) for channel, value in channels]))
        target = torch.from_numpy(cut(chosen.case.target, box).copy())
    axes = [axis for axis in range(3) if augmentation.flips[axis]]
    image = image.flip([1 + axis for axis in axes]) if axes else image
    target = target.flip(axes) if axes else target
    if chosen.masks:
        scanned = len(image) - chosen.masks
        changed = change_intensities(image[:scanned], augmentation)
        image = torch.cat((changed, _worn(image[scanned:], augmentation)))
    else:
        image = change_intensities(image, augmentation)
    return _blanked(image, chosen, augmentation), target


def _worn(masks: Tensor, augmentation: Augmentation) -> Tensor:
    """Masks of a cascade's stage before, as wrong as they may be elsewhere; as they are where nothing is augmented."""
    whole = (masks >= 0.5).float()  # turned, they are interpolated
    if augmentation.noise_seed == 0:
        return whole
    return torch.from_numpy(wear(whole.numpy(), np.random.default_rng((augmentation.noise_seed, _WEAR))))


def _blanked(image: Tensor, chosen: TrainingCase, augmentation: Augmentation) -> Tensor:
    """After all other changes: what is not there is always the same."""
    gone = [*chosen.absent, *augmentation.blanked]
    if gone:
        image = image.clone()
        image[gone] = torch.from_numpy(chosen.blank)[gone].reshape(-1, 1, 1, 1)
    return image


def _cut_turned(
    chosen: TrainingCase, centre: FloatArray, patch: Triple, augmentation: Augmentation
) -> tuple[Tensor, Tensor]:
    assert chosen.case.target is not None
    shape = np.asarray(chosen.case.image.shape[1:])
    reach = reach_voxels(patch, augmentation)
    start = np.clip(np.floor(centre - reach), 0, shape - 1).astype(int)
    stop = np.clip(np.ceil(centre + reach) + 1, start + 1, shape).astype(int)
    box = Box(tuple(start), tuple(stop))
    outside = torch.from_numpy(chosen.outside).reshape(-1, 1, 1, 1)
    image = torch.tensor(np.ascontiguousarray(cut(chosen.case.image, box))) - outside
    target = torch.tensor(np.ascontiguousarray(cut(chosen.case.target, box)))[None].float()
    positions = source_positions(patch, augmentation) + torch.as_tensor(centre - start, dtype=torch.float32)
    turned = sample_at(image, positions, mode="bilinear") + outside
    return turned, sample_at(target, positions, mode="nearest")[0].to(torch.uint8)
