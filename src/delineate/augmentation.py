"""Random changes to training patches: parameters are sampled first, then applied, so that both can be looked at.

Spatial changes are one mapping from the patch to the case (affine plus elastic), sampled once, so that nothing
is interpolated twice. Intensity changes follow on the normalised patch.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional

from delineate.geometry import FloatArray, Triple, TripleMM
from delineate.planning import AugmentationPlan

CONTROL_POINTS = 5  # elastic displacement is given on 5 x 5 x 5 points over the patch


@dataclass(frozen=True, slots=True, eq=False)
class Augmentation:
    """What happens to one patch. None and 1-factors mean: nothing.

    `matrix`: 3x3, from an offset in voxels from the patch's centre to the offset in the case. `shift`: voxels.
    `displacement`: (3, 5, 5, 5) in voxels, or None. `noise_seed` makes the noise repeatable.
    `blanked`: channels that are taken away.
    """

    matrix: FloatArray
    shift: FloatArray
    displacement: npt.NDArray[np.float32] | None
    flips: tuple[bool, bool, bool]
    noise_std: float
    noise_seed: int
    blur_voxels: float
    brightness: float
    contrast: float
    gamma: float
    low_resolution: float
    blanked: tuple[int, ...] = ()

    @property
    def is_spatial(self) -> bool:
        return self.displacement is not None or not np.array_equal(self.matrix, np.eye(3))


def sample_augmentation(
    plan: AugmentationPlan,
    spacing_mm: TripleMM,
    patch: Triple,
    rng: np.random.Generator,
    *,
    channels: tuple[int, ...] = (),
) -> Augmentation:
    """Draw the parameters for one patch. A patch of one slice (2D) is only changed within its plane, one of thick
    slices within them: it may be moved along by whole slices.

    `channels`: those that may be taken away; one of them stays.
    """
    flat = 2 if patch[2] == 1 else plan.slice_axis
    spatial = rng.random() < plan.spatial_probability
    elastic = rng.random() < plan.elastic_probability
    flips = tuple(axis in plan.flip_axes and bool(rng.random() < 0.5) for axis in range(3))
    shift = rng.uniform(-1, 1, 3) * plan.shift_mm / np.asarray(spacing_mm)
    if flat is not None:
        shift[flat] = 0 if patch[flat] == 1 else np.round(shift[flat])
    turned = _sample_matrix(plan, spacing_mm, rng, flat=flat) if spatial else np.eye(3)
    return Augmentation(
        matrix=turned * plan.coarser,
        shift=shift,
        displacement=_sample_displacement(plan, spacing_mm, rng, flat=flat) if elastic else None,
        flips=(flips[0], flips[1], flips[2]),
        noise_std=_sometimes(rng, plan.noise_probability, plan.noise_std, 0.0),
        noise_seed=int(rng.integers(2**62)),
        blur_voxels=_sometimes(rng, plan.blur_probability, plan.blur_voxels, 0.0),
        brightness=_sometimes(rng, plan.brightness_probability, plan.brightness, 1.0),
        contrast=_sometimes(rng, plan.contrast_probability, plan.contrast, 1.0),
        gamma=_sometimes(rng, plan.gamma_probability, plan.gamma, 1.0),
        low_resolution=_sometimes(rng, plan.low_resolution_probability, plan.low_resolution, 1.0),
        blanked=_sample_blanked(plan, rng, channels) if plan.channel_dropout > 0 and len(channels) > 1 else (),
    )


def no_augmentation() -> Augmentation:
    """The patch as it is."""
    return Augmentation(np.eye(3), np.zeros(3), None, (False, False, False), 0.0, 0, 0.0, 1.0, 1.0, 1.0, 1.0)


def _sometimes(rng: np.random.Generator, probability: float, span: tuple[float, float], otherwise: float) -> float:
    # Both numbers are always drawn, so that changing one probability leaves the other draws as they were.
    happens, value = rng.random() < probability, float(rng.uniform(*span))
    return value if happens else otherwise


def _sample_blanked(plan: AugmentationPlan, rng: np.random.Generator, channels: tuple[int, ...]) -> tuple[int, ...]:
    gone, last = rng.random(len(channels)) < plan.channel_dropout, int(rng.integers(len(channels)))
    gone[last] &= not gone.all()
    return tuple(channel for channel, is_gone in zip(channels, gone, strict=True) if is_gone)


def _sample_matrix(
    plan: AugmentationPlan, spacing_mm: TripleMM, rng: np.random.Generator, *, flat: int | None
) -> FloatArray:
    """Rotation, shear and scale in millimetres, expressed between voxel offsets."""
    angles = np.radians(rng.uniform(-1, 1, 3) * plan.rotation_degrees)
    zoom = np.exp(rng.uniform(*np.log(plan.scale))) * np.exp(rng.uniform(-0.1, 0.1, 3))
    shears = rng.uniform(-1, 1, (3, 3)) * plan.shear * (1 - np.eye(3))
    if flat is not None:
        angles[np.arange(3) != flat], zoom[flat], shears[flat], shears[:, flat] = 0, 1, 0, 0
    in_mm = _rotation(angles) @ (np.eye(3) + shears) @ np.diag(1 / zoom)
    spacing = np.asarray(spacing_mm)
    matrix: FloatArray = in_mm * spacing[None, :] / spacing[:, None]
    return matrix


def _rotation(angles: FloatArray) -> FloatArray:
    rotation: FloatArray = np.eye(3)
    for axis, angle in enumerate(angles):
        a, b = [n for n in range(3) if n != axis]
        turn = np.eye(3)
        turn[[a, b], [a, b]] = math.cos(angle)
        turn[a, b], turn[b, a] = -math.sin(angle), math.sin(angle)
        rotation = rotation @ turn
    return rotation


def _sample_displacement(
    plan: AugmentationPlan, spacing_mm: TripleMM, rng: np.random.Generator, *, flat: int | None
) -> npt.NDArray[np.float32]:
    field = rng.normal(0, plan.elastic_mm, (3, CONTROL_POINTS, CONTROL_POINTS, CONTROL_POINTS))
    field /= np.asarray(spacing_mm).reshape(3, 1, 1, 1)
    if flat is not None:
        field[flat] = 0
    most = 2.5 * plan.elastic_mm / min(spacing_mm)
    return np.asarray(np.clip(field, -most, most), dtype=np.float32)


def reach_voxels(patch: Triple, augmentation: Augmentation) -> FloatArray:
    """How far (3,) from its centre, in voxels of the case, a patch reaches along each axis."""
    reach = np.abs(augmentation.matrix) @ ((np.asarray(patch) - 1) / 2)
    if augmentation.displacement is not None:
        reach = reach + np.abs(augmentation.displacement).max(axis=(1, 2, 3))
    return np.asarray(reach, dtype=np.float64)


def source_positions(patch: Triple, augmentation: Augmentation) -> Tensor:
    """(I, J, K, 3) float32: where each voxel of the patch comes from, in voxels of the case from the centre."""
    matrix = torch.as_tensor(augmentation.matrix, dtype=torch.float32)
    axes = [torch.arange(n, dtype=torch.float32) - (n - 1) / 2 for n in patch]
    parts = [torch.outer(axis, matrix[:, n]) for n, axis in enumerate(axes)]
    positions = parts[0][:, None, None] + parts[1][None, :, None] + parts[2][None, None, :]
    if augmentation.displacement is not None:
        field = torch.from_numpy(augmentation.displacement)[None]
        smooth = functional.interpolate(field, size=patch, mode="trilinear", align_corners=True)
        positions = positions + smooth[0].permute(1, 2, 3, 0)
    return positions


def source_position(patch: Triple, augmentation: Augmentation, voxel: FloatArray) -> FloatArray:
    """(3,) where one voxel (its index in the patch) comes from: what `source_positions` holds there."""
    half = (np.asarray(patch) - 1) / 2
    position = augmentation.matrix @ (voxel - half)
    if augmentation.displacement is None:
        return np.asarray(position, dtype=np.float64)
    moved: npt.NDArray[np.float64] = augmentation.displacement.astype(np.float64)
    for place, last in zip(voxel, 2 * half, strict=True):
        between = place / last * (CONTROL_POINTS - 1) if last > 0 else 0.0
        weights = np.clip(1 - np.abs(np.arange(CONTROL_POINTS) - between), 0, 1)
        moved = np.tensordot(moved, weights, axes=(1, 0))
    return np.asarray(position + moved, dtype=np.float64)


def sample_at(array: Tensor, positions: Tensor, *, mode: str) -> Tensor:
    """Values (C, ...) of an array (C, I, J, K) at positions (..., 3) in its voxels; 0 outside."""
    sizes = torch.tensor(array.shape[1:], dtype=torch.float32)
    # grid_sample wants -1..1 from the first to the last voxel centre, and the last axis first: so the array is turned.
    grid = torch.addcmul(-(sizes > 1).float(), positions, 2 / (sizes - 1).clamp(min=1))[None]
    turned = array.permute(0, 3, 2, 1)[None]
    return functional.grid_sample(turned, grid, mode=mode, padding_mode="zeros", align_corners=True)[0]


def change_intensities(image: Tensor, augmentation: Augmentation) -> Tensor:
    """The patch (C, I, J, K) with noise, blur, brightness, contrast, gamma and lost resolution applied.

    What depends on the values at hand (spread, range, mean) is each channel's own: CT and PET have little in common.
    """
    if augmentation.noise_std > 0:
        generator = torch.Generator().manual_seed(augmentation.noise_seed)
        noise = torch.randn(image.shape, generator=generator)
        spread = torch.stack([channel.std() for channel in image]).reshape(-1, 1, 1, 1)
        image = image + noise * augmentation.noise_std * spread
    if augmentation.blur_voxels > 0:
        image = _blur(image, augmentation.blur_voxels)
    if augmentation.brightness != 1:
        image = image * augmentation.brightness
    if augmentation.contrast != 1:
        image = torch.stack([_contrast(channel, augmentation.contrast) for channel in image])
    if augmentation.low_resolution < 1:
        image = _lose_resolution(image, augmentation.low_resolution)
    if augmentation.gamma != 1:
        image = torch.stack([_gamma(channel, augmentation.gamma) for channel in image])
    return image


def _blur(image: Tensor, sigma: float) -> Tensor:
    radius = math.ceil(2.5 * sigma)
    kernel = torch.exp(-0.5 * (torch.arange(-radius, radius + 1) / sigma) ** 2)
    kernel = kernel / kernel.sum()
    blurred = image[:, None]
    for axis in range(3):
        if image.shape[1 + axis] > radius:
            shape = [1, 1, 1, 1, 1]
            shape[2 + axis] = len(kernel)
            padding = [0, 0, 0, 0, 0, 0]
            padding[4 - 2 * axis] = padding[5 - 2 * axis] = radius
            blurred = functional.conv3d(functional.pad(blurred, padding, mode="replicate"), kernel.reshape(shape))
    return blurred[:, 0]


def _contrast(image: Tensor, factor: float) -> Tensor:
    low, high = image.aminmax()
    mean = image.mean()
    return ((image - mean) * factor + mean).clamp(low, high)


def _lose_resolution(image: Tensor, factor: float) -> Tensor:
    shape = image.shape[1:]
    small = [max(1, round(n * factor)) for n in shape]
    coarse = functional.interpolate(image[None], size=small, mode="nearest")
    return functional.interpolate(coarse, size=shape, mode="trilinear")[0]


def _gamma(image: Tensor, gamma: float) -> Tensor:
    low, high = image.aminmax()
    span = (high - low).clamp(min=1e-7)
    changed = ((image - low) / span) ** gamma * span + low
    # The mean and the spread stay, so that gamma changes the histogram's shape only.
    return (changed - changed.mean()) / changed.std().clamp(min=1e-7) * image.std() + image.mean()
