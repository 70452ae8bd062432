"""The inner loop of voting with the closest voxel's label as the tie-break, compiled by numba; see `kernels`."""

from __future__ import annotations

from typing import Any

import numpy as np

from delineate.resampling.kernels import TIE, _compiled


@_compiled
def vote(labels: Any, first: Any, weights: Any, is_open: Any, closest: Any, out: Any) -> None:
    """Give every open voxel the label with the most weight; at a tie `closest`, if it is tied, or the lowest."""
    taps = (weights[0].shape[1], weights[1].shape[1], weights[2].shape[1])
    candidates = np.empty(taps[0] * taps[1] * taps[2], labels.dtype)
    shares = np.empty(candidates.size, np.float64)
    for i, j, k in np.ndindex(out.shape):
        if not is_open[i, j, k]:
            continue
        for n, (t, u, v) in enumerate(np.ndindex(taps)):
            candidates[n] = labels[first[0][i] + t, first[1][j] + u, first[2][k] + v]
            shares[n] = np.float64(weights[0][i, t]) * weights[1][j, u] * weights[2][k, v]
        most = 0.0
        for candidate in candidates:
            votes = 0.0
            for n in range(shares.size):
                votes += shares[n] * (candidates[n] == candidate)
            wins_tie = candidate == closest[i, j, k] or (candidate < out[i, j, k] != closest[i, j, k])
            if votes > most + TIE or (votes >= most - TIE and wins_tie):
                most = max(most, votes)
                out[i, j, k] = candidate
