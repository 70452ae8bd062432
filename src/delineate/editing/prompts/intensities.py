"""What the intensities of a window say: how noisy they are, and which are like what is meant."""

from __future__ import annotations

import numpy as np

from delineate.editing.boxes import Mask
from delineate.editing.prompts.windows import Values

_BINS = 96
_SMOOTHED = 0.8  # cells: what is compared is a little blurred, against noise
_ORDINARY = (0.5, 99.5)  # percentiles between which intensities are told apart


def smoothed(values: Values) -> Values:
    """The window a little blurred."""
    from scipy.ndimage import gaussian_filter

    blurred: Values = gaussian_filter(values, _SMOOTHED, mode="nearest")
    return blurred


def noise_of(values: Values) -> float:
    """The standard deviation of noise: by the median step from a cell to the next; above 0 even if there is none."""
    steps = [np.abs(np.diff(values, axis=axis)).ravel() for axis in range(3) if values.shape[axis] > 1]
    median = float(np.median(np.concatenate(steps))) if steps else 0.0
    extent = float(values.max() - values.min())
    return max(1.4826 / 2**0.5 * median, 1e-4 * extent, 1e-12)


def likeness(values: Values, meant: Mask, other: Mask, width: float) -> Values:
    """How probably each cell's intensity is one of what is meant rather than of the other, 0 to 1, both as frequent.

    From histograms of the two that are blurred by `width`, so that a few cells are enough; one half for an
    intensity that neither has, and everywhere in a window of one intensity.
    """
    from scipy.ndimage import gaussian_filter1d

    low, high = np.percentile(values, _ORDINARY)
    if high <= low:
        return np.full(values.shape, 0.5, np.float32)
    bins = np.clip((values - low) / (high - low) * (_BINS - 1), 0, _BINS - 1).astype(np.int64)
    blur = max(width / float(high - low) * _BINS, 0.7)
    shares = []
    for mask in (meant, other):
        counts = gaussian_filter1d(np.bincount(bins[mask], minlength=_BINS).astype(np.float64), blur, mode="constant")
        shares.append((counts + 1e-9) / (counts + 1e-9).sum())
    table = (shares[0] + 1e-4 / _BINS) / (shares[0] + shares[1] + 2e-4 / _BINS)
    probable: Values = table[bins].astype(np.float32)
    return probable
