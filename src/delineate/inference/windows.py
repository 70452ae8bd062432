"""Where windows lie in a scan, how they are mirrored, and how much each of their voxels counts."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator, Sequence

import torch
from torch import Tensor

from delineate.geometry import Triple
from delineate.planning import Tiling

Progress = Callable[[float], None]
"""Told the share of the windows done, 0..1."""


def mirrors(tiling: Tiling) -> Iterator[tuple[int, ...]]:
    """Every combination of mirrored axes, as dimensions of a batch (B, C, I, J, K); () is none."""
    for count in range(len(tiling.mirror_axes) + 1):
        for axes in itertools.combinations(tiling.mirror_axes, count):
            yield tuple(2 + axis for axis in axes)


def window_starts(size: Triple, patch: Triple, overlap: float) -> Iterator[Triple]:
    """Where windows start: evenly spread, neighbours sharing at least `overlap` of the patch, the ends covered."""
    ranges = []
    for n, width in zip(size, patch, strict=True):
        steps = math.ceil((n - width) / max(1.0, width * (1 - overlap)))
        ranges.append([round(i * (n - width) / steps) for i in range(steps + 1)] if steps else [0])
    yield from itertools.product(*ranges)


def gaussian_weight(patch: Triple) -> Tensor:
    """Weights of a window's voxels: a Gaussian with standard deviation 1/8 of the patch, at least 1e-3 of its peak.

    Near its border a window sees little context (Isensee et al. 2021), so its centre counts more.
    """
    weight = torch.ones(1)
    for n in patch:
        axis = torch.exp(-0.5 * ((torch.arange(n) - (n - 1) / 2) / (n / 8)) ** 2)
        weight = weight.unsqueeze(-1) * axis
    return weight[0].clamp(min=1e-3)


def padding(shape: Sequence[int], patch: Triple) -> list[tuple[int, int]]:
    short = [max(0, width - n) for n, width in zip(shape, patch, strict=True)]
    return [(n // 2, n - n // 2) for n in short]


def pad(image: Tensor, patch: Triple) -> Tensor:
    """At least as large as a patch: the rest is each channel's lowest value, as in training."""
    (a, b), (c, d), (e, f) = padding(image.shape[1:], patch)
    if not any((a, b, c, d, e, f)):
        return image
    lowest = image.flatten(1).amin(1).reshape(-1, 1, 1, 1)
    return torch.nn.functional.pad(image - lowest, (e, f, c, d, a, b)) + lowest
