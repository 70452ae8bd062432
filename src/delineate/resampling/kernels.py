"""The inner loops, compiled by numba. Each takes the first indices and the weights of the axes I, J, K.

Imported where they are first needed: importing numba takes a while. Inner loops run over slices from 0, since indices
that could be negative for all the compiler knows keep it from using vector instructions.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import numba
import numpy as np

BLOCK = 2048  # voxels accumulated at a time, so that they stay in the first-level cache
TIE = 1e-6  # votes closer than this are equal

Kernel = TypeVar("Kernel", bound=Callable[..., Any])


def _compiled(kernel: Kernel) -> Kernel:
    fastmath = {"contract", "reassoc", "nsz"}  # infinities and NaN keep their meaning
    try:
        return numba.njit(nogil=True, cache=True, fastmath=fastmath)(kernel)  # type: ignore[return-value]
    except RuntimeError:  # there is no folder in which the compiled code could be kept
        return numba.njit(nogil=True, fastmath=fastmath)(kernel)  # type: ignore[return-value]


@_compiled
def blend(
    source: Any, first_i: Any, weights_i: Any, first_j: Any, weights_j: Any, first_k: Any, weights_k: Any, out: Any
) -> None:
    """Target planes one by one: source planes into one, its rows into one, then along the row."""
    columns = source.shape[2]
    flat = source.reshape(source.shape[0], source.shape[1] * columns)
    plane = np.empty(flat.shape[1], np.float32)
    row = np.empty(columns, np.float32)
    for i in range(out.shape[0]):
        for start in range(0, plane.size, BLOCK):
            part = plane[start : start + BLOCK]
            part[:] = 0
            for t in range(weights_i.shape[1]):
                weight, values = weights_i[i, t], flat[first_i[i] + t, start : start + BLOCK]
                for n in range(part.size):
                    part[n] += weight * values[n]
        for j in range(out.shape[1]):
            row[:] = 0
            for t in range(weights_j.shape[1]):
                at = (first_j[j] + t) * columns
                weight, values = weights_j[j, t], plane[at : at + columns]
                for n in range(columns):
                    row[n] += weight * values[n]
            for k in range(out.shape[2]):
                weights, values = weights_k[k], row[first_k[k] : first_k[k] + weights_k.shape[1]]
                total = np.float32(0)
                for t in range(weights.size):
                    total += weights[t] * values[t]
                out[i, j, k] = total


@_compiled
def settle(labels: Any, first_i: Any, first_j: Any, first_k: Any, taps: tuple[int, int, int], out: Any) -> Any:
    """Write the label of every target voxel whose neighbours agree; True where they do not."""
    is_open = np.zeros(out.shape, np.bool_)
    common = np.empty(labels.shape[2], labels.dtype)
    agreed = np.empty(labels.shape[2], np.bool_)
    for i in range(out.shape[0]):
        for j in range(out.shape[1]):
            common[:] = labels[first_i[i], first_j[j]]
            agreed[:] = True
            for t in range(taps[0]):
                for u in range(taps[1]):
                    values = labels[first_i[i] + t, first_j[j] + u]
                    for n in range(values.size):
                        agreed[n] &= values[n] == common[n]
            for k in range(out.shape[2]):
                at = first_k[k]
                same = agreed[at]
                for v in range(1, taps[2]):
                    same &= agreed[at + v] & (common[at + v] == common[at])
                out[i, j, k] = common[at]
                is_open[i, j, k] = not same
    return is_open


@_compiled
def vote(
    labels: Any, first_i: Any, weights_i: Any, first_j: Any, weights_j: Any, first_k: Any, weights_k: Any,
    is_open: Any, out: Any,
) -> None:  # fmt: skip
    """Give every open voxel the label with the most weight among its neighbours."""
    taps_i, taps_j, taps_k = weights_i.shape[1], weights_j.shape[1], weights_k.shape[1]
    candidates = np.empty(taps_i * taps_j * taps_k, labels.dtype)
    weights = np.empty(candidates.size, np.float64)
    for i, j, k in np.ndindex(out.shape):
        if not is_open[i, j, k]:
            continue
        for n, (t, u, v) in enumerate(np.ndindex((taps_i, taps_j, taps_k))):
            candidates[n] = labels[first_i[i] + t, first_j[j] + u, first_k[k] + v]
            weights[n] = np.float64(weights_i[i, t]) * weights_j[j, u] * weights_k[k, v]
        most = 0.0
        for candidate in candidates:
            votes = 0.0
            for n in range(weights.size):
                votes += weights[n] * (candidates[n] == candidate)
            if votes > most + TIE or (votes >= most - TIE and candidate < out[i, j, k]):
                most = max(most, votes)
                out[i, j, k] = candidate


@_compiled
def strongest(logits: Any, start: int, out: Any) -> None:
    """The class with the largest logit in the planes from `start` on, as many as `out` has."""
    best = np.empty(out.shape[2], np.float32)
    for i in range(out.shape[0]):
        for j in range(out.shape[1]):
            best[:] = logits[0, start + i, j]
            label = out[i, j]
            label[:] = 0
            for c in range(1, logits.shape[0]):
                values = logits[c, start + i, j]
                for k in range(values.size):
                    better = values[k] > best[k]
                    best[k] = values[k] if better else best[k]
                    label[k] = c if better else label[k]


@_compiled
def compete(
    logits: Any, first_i: Any, weights_i: Any, first_j: Any, weights_j: Any, first_k: Any, weights_k: Any,
    is_open: Any, out: Any,
) -> None:  # fmt: skip
    """Give every open voxel the class with the largest interpolated logit."""
    taps_i, taps_j, taps_k = weights_i.shape[1], weights_j.shape[1], weights_k.shape[1]
    row = np.empty(logits.shape[3], np.float32)
    best = np.empty(out.shape[2], np.float32)
    for i in range(out.shape[0]):
        for j in range(out.shape[1]):
            open_k = np.flatnonzero(is_open[i, j])
            if open_k.size == 0:
                continue
            low, high = first_k[open_k[0]], first_k[open_k[-1]] + taps_k
            part = row[low:high]
            for c in range(logits.shape[0]):
                part[:] = 0
                for t in range(taps_i):
                    for u in range(taps_j):
                        weight = weights_i[i, t] * weights_j[j, u]
                        values = logits[c, first_i[i] + t, first_j[j] + u, low:high]
                        for n in range(part.size):
                            part[n] += weight * values[n]
                for k in open_k:
                    value = np.float32(0)
                    for t in range(taps_k):
                        value += weights_k[k, t] * row[first_k[k] + t]
                    if c == 0 or value > best[k]:
                        best[k] = value
                        out[i, j, k] = c
