"""Intensities brought to the range a network expects: first what a channel holds, then each voxel by itself.

So a scan is normalised slab by slab, and a region of it as the whole would be.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from delineate.planning import ClipZScore, Normalisation, Plan, Rescale, Unchanged, Window, ZScore
from delineate.preprocessing.boxes import Mask, chunks, outline
from delineate.resampling import contiguous
from delineate.volume import Array

FloatImage = npt.NDArray[np.float32]

_BLOCK = 2**20


@dataclass(frozen=True, slots=True)
class Statistics:
    """What a channel holds, after clipping to `clip` where there is one. `ends`: its range, if it was looked for."""

    mean: float = 0.0
    std: float = 1.0
    ends: tuple[float, float] | None = None
    clip: tuple[np.floating[Any], np.floating[Any]] | None = None


def normalise(channel: FloatImage, how: Normalisation, *, inside: Mask | None = None) -> FloatImage:
    """One channel (I, J, K) brought to the range the network expects. A constant channel becomes 0.

    `inside`: what a masked Z-score is taken of; without it, what is not 0.
    """
    if inside is None and is_masked(how):
        inside = outline(channel[None])
    return scale(channel, how, measure(channel, how, inside=inside), inside=inside)


def blank_values(plan: Plan) -> tuple[float, ...]:
    """What a channel that was not recorded holds, normalised: where there is a window its lower end, else 0, the mean
    of what a Z-score is taken of."""
    return tuple(how.to_lower if isinstance(how, Window) else 0.0 for how in plan.normalisation)


def is_masked(how: Normalisation) -> bool:
    return isinstance(how, ZScore) and how.masked


def needs_statistics(how: Normalisation) -> bool:
    """Whether what becomes of a voxel depends on the others."""
    return isinstance(how, ZScore | Rescale)


def scale(values: FloatImage, how: Normalisation, seen: Statistics, *, inside: Mask | None = None) -> FloatImage:
    """Voxels of a channel, normalised by the statistics of the whole. Those that are not `inside` stay as they are."""
    if isinstance(how, ClipZScore):
        return np.asarray((np.clip(values, how.lower, how.upper) - how.mean) / how.std, dtype=np.float32)
    if isinstance(how, Window):
        share = (np.clip(values, how.lower, how.upper) - how.lower) / (how.upper - how.lower)
        return np.asarray(share * (how.to_upper - how.to_lower) + how.to_lower, dtype=np.float32)
    if isinstance(how, Rescale):
        low, high = seen.ends or value_range(values)
        return np.asarray((values - low) / max(high - low, 1e-8), dtype=np.float32)
    if isinstance(how, Unchanged):
        return np.asarray(values, dtype=np.float32)
    if seen.clip is not None:
        values = np.clip(values, *seen.clip)
    # A constant has a deviation too, of rounding.
    deviation = seen.std if seen.std > 1e-8 * max(1.0, abs(seen.mean)) else 1.0
    scaled = np.asarray((values - np.float64(seen.mean)) / np.float64(deviation), dtype=np.float32)
    return scaled if inside is None or not how.masked else np.where(inside, scaled, values)


def measure(channel: Array, how: Normalisation, *, inside: Mask | None = None) -> Statistics:
    """What `scale` needs to know of a channel (I, J, K), or of its voxels `inside` for a masked Z-score."""
    if isinstance(how, Rescale):
        return Statistics(ends=value_range(channel))
    if not isinstance(how, ZScore):
        return Statistics()
    inside = inside if how.masked else None
    if how.lower_percentile <= 0 and how.upper_percentile >= 100:
        return _moments(channel, inside)
    channel = contiguous(channel)
    low, high = np.percentile(
        channel if inside is None else channel[inside], [how.lower_percentile, how.upper_percentile]
    )
    return replace(_moments(np.clip(channel, low, high), inside), clip=(low, high))


def value_range(channel: Array, *, inside: Mask | None = None) -> tuple[float, float]:
    """The lowest and the highest value of a channel (I, J, K), or of its voxels `inside`; 0 if there are none."""
    ends = [(values.min(), values.max()) for values in _by_chunks(channel, inside) if values.size]
    return float(min((low for low, _ in ends), default=0)), float(max((high for _, high in ends), default=0))


def _by_chunks(channel: Array, inside: Mask | None) -> Iterator[Array]:
    for chunk in chunks(channel):
        yield channel[chunk] if inside is None else channel[chunk][inside[chunk]]


def _moments(channel: Array, inside: Mask | None) -> Statistics:
    if inside is None and channel.dtype.kind == "f" and channel.flags.c_contiguous:
        mean = channel.mean(dtype=np.float64)
        squares = _sum_of_squares(channel.reshape(-1), mean)
        return Statistics(mean=float(mean), std=math.sqrt(squares / channel.size))
    return _moments_by_chunks(channel, inside)


def _sum_of_squares(values: npt.NDArray[Any], mean: np.float64) -> float:
    """Of the distances from the mean, in float64; in blocks, where NumPy would hold as many distances as values."""
    if values.size <= _BLOCK:
        distances = values - mean
        return float(np.multiply(distances, distances, out=distances).sum())
    # The halves that NumPy's own pairwise summation has: the result is the same to the last bit.
    half = values.size // 2
    half -= half % 8
    return _sum_of_squares(values[:half], mean) + _sum_of_squares(values[half:], mean)


def _moments_by_chunks(channel: Array, inside: Mask | None) -> Statistics:
    """Of an array that lies anyhow, read once: what chunks hold is joined (Chan, Golub, LeVeque 1983)."""
    count, mean, squares, low, high = 0, 0.0, 0.0, math.inf, -math.inf
    for part in _by_chunks(channel, inside):
        if part.size == 0:
            continue
        values = part.astype(np.float64)
        total = count + values.size
        distance = float(values.mean()) - mean
        squares += float(values.var()) * values.size + distance**2 * count * values.size / total
        mean += distance * values.size / total
        count, low, high = total, min(low, float(values.min())), max(high, float(values.max()))
    return Statistics(mean=mean, std=math.sqrt(squares / count), ends=(low, high)) if count else Statistics()
