"""Where windows lie in a scan, what they hold, how they are mirrored, and how much each of their voxels counts."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from scipy.ndimage import gaussian_filter1d
from torch import Tensor

from delineate.geometry import Triple
from delineate.planning import Plan, Tiling
from delineate.preprocessing import FloatImage

Float32Array = npt.NDArray[np.float32]

Progress = Callable[[float], None]
"""Told the share of the windows done, 0..1."""

NNUNET_PEAK = 10.0


@dataclass(frozen=True, slots=True)
class Layout:
    """Windows of `patch` over a prepared image (I, J, K) that is surrounded by `padding` where it is smaller.

    `starts`: of the windows along each axis, in the padded image; there is one at every combination of them.
    """

    shape: Triple
    patch: Triple
    padding: tuple[tuple[int, int], tuple[int, int], tuple[int, int]]
    starts: tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]]

    @property
    def padded(self) -> Triple:
        i, j, k = (max(n, width) for n, width in zip(self.shape, self.patch, strict=True))
        return i, j, k

    @property
    def count(self) -> int:
        return math.prod(len(starts) for starts in self.starts)

    def along(self, axis: int, *, last_fastest: bool = True) -> Iterator[Triple]:
        """The start of every window, those that come first along `axis` first; of the others, the last or the first
        axis changes fastest."""
        others = [n for n in range(3) if n != axis]
        order = (axis, *(others if last_fastest else reversed(others)))
        for combination in itertools.product(*(self.starts[n] for n in order)):
            i, j, k = (combination[order.index(n)] for n in range(3))
            yield i, j, k


def layout(shape: Triple, plan: Plan) -> Layout:
    """The windows that a plan lays over a prepared image of a shape."""
    i, j, k = (axis_starts(n, width, plan.tiling.overlap) for n, width in zip(shape, plan.patch_size, strict=True))
    return Layout(shape, plan.patch_size, padding(shape, plan.patch_size), (i, j, k))


def axis_starts(size: int, width: int, overlap: float) -> tuple[int, ...]:
    """Where windows start: evenly spread, neighbours sharing at least `overlap` of the width, the ends covered.

    As nnU-Net spreads them, so that the same windows are run. One window of a size below the width starts at 0.
    """
    # The share in decimals: 1 - 0.7 is a little more than 0.3, which would leave a window out.
    steps = math.ceil(max(0, size - width) / max(1.0, width * round(1 - overlap, 12)))
    spread = (size - width) / steps if steps else 0.0
    return tuple(round(spread * n) for n in range(steps + 1))


def padding(shape: Sequence[int], patch: Triple) -> tuple[tuple[int, int], tuple[int, int], tuple[int, int]]:
    """(before, behind) along each axis of an image that is smaller than the patch."""
    short = [max(0, width - n) for n, width in zip(shape, patch, strict=True)]
    i, j, k = ((n // 2, n - n // 2) for n in short)
    return i, j, k


def padding_values(image: FloatImage, windows: Layout, tiling: Tiling) -> tuple[float, ...]:
    """What each channel of an image (C, I, J, K) is surrounded with; its lowest value, as in training, or 0."""
    if tiling.padding == "zero" or not any(map(any, windows.padding)):
        return (0.0,) * len(image)
    lowest: list[float] = [float(channel.min()) for channel in image]
    return tuple(lowest)


def cut_window(image: FloatImage, windows: Layout, start: Triple, values: Sequence[float], out: FloatImage) -> None:
    """Write the window at `start` of an image (C, I, J, K), which needs no padded copy, to `out` (C, *patch)."""
    source, target = [slice(None)], [slice(None)]
    for first, width, n, (before, _) in zip(start, windows.patch, windows.shape, windows.padding, strict=True):
        low, high = max(0, first - before), min(n, first - before + width)
        source.append(slice(low, high))
        target.append(slice(low + before - first, high + before - first))
    part = image[tuple(source)]
    if part.shape != out.shape:
        out[...] = np.asarray(values, dtype=np.float32).reshape(-1, 1, 1, 1)
    out[tuple(target)] = part


def mirrors(tiling: Tiling) -> Iterator[tuple[int, ...]]:
    """Every combination of mirrored axes, as dimensions of a batch (B, C, I, J, K); () is none."""
    # In nnU-Net's order of the axes, for the same rounding.
    mirrored = sorted(tiling.mirror_axes, reverse=tiling.sums == "nnunet")
    for count in range(len(mirrored) + 1):
        for axes in itertools.combinations(mirrored, count):
            yield tuple(2 + axis for axis in axes)


def window_weight(plan: Plan) -> Float32Array:
    """(*patch) how much each voxel of a window counts."""
    if not plan.tiling.gaussian:
        return np.ones(plan.patch_size, dtype=np.float32)
    if plan.tiling.centre == "nnunet":
        return nnunet_weight(plan.patch_size)
    return gaussian_weight(plan.patch_size).numpy()


def gaussian_weight(patch: Triple) -> Tensor:
    """Weights of a window's voxels: a Gaussian with standard deviation 1/8 of the patch, at least 1e-3 of its peak.

    Near its border a window sees little context (Isensee et al. 2021), so its centre counts more.
    """
    weight = torch.ones(1)
    for n in patch:
        axis = torch.exp(-0.5 * ((torch.arange(n) - (n - 1) / 2) / (n / 8)) ** 2)
        weight = weight.unsqueeze(-1) * axis
    return weight[0].clamp(min=1e-3)


def nnunet_weight(patch: Triple) -> Float32Array:
    """The Gaussian about voxel n // 2 as nnU-Net rounds it: a peak of 10, cut at 4 standard deviations, in float16.

    What is 0 then gets the smallest weight that is not. Axes of one voxel (slices of 2D networks) count nowhere.
    """
    weight = np.ones((1, 1, 1))
    for axis in (2, 1, 0):  # nnU-Net's order of the axes, for the same rounding
        n = patch[axis]
        if n > 1:
            impulse = (np.arange(n) == n // 2).astype(np.float64)
            curve = gaussian_filter1d(impulse, n / 8, mode="constant")
            weight = weight * np.moveaxis(curve.reshape(-1, 1, 1), 0, axis)
    # torch rounds through float32, as nnU-Net does.
    rounded = torch.from_numpy(weight / (weight.max() / NNUNET_PEAK)).to(torch.float16).float().numpy()
    rounded[rounded == 0] = rounded[rounded > 0].min()
    return rounded
