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


@_compiled
def interpolated(
    image: Any, at_i: int, weights_i: Any, at_j: int, weights_j: Any, at_k: int, weights_k: Any
) -> np.float32:
    """One value between the voxels of an image, from the first voxel along each axis and the weights from there on."""
    total = np.float32(0)
    for t in range(weights_i.size):
        for u in range(weights_j.size):
            row = np.float32(0)
            for v in range(weights_k.size):
                row += weights_k[v] * image[at_i + t, at_j + u, at_k + v]
            total += weights_i[t] * weights_j[u] * row
    return total


@_compiled
def reduce_classes(logits: Any, first: Any, weights: Any, blocks: Any, out: Any) -> None:
    """The class with the largest interpolated logit in each block (start and stop along I, J, K) of target voxels.

    Where the neighbours of a voxel agree, so does every point between them, since no weight is negative. Elsewhere the
    classes that are the largest somewhere in the block are interpolated; then only those of the others whose largest
    logit in the block is not below what has been found.
    """
    taps = (weights[0].shape[1], weights[1].shape[1], weights[2].shape[1])
    classes = logits.shape[0]
    peaks = np.empty(classes, np.float32)
    present = np.empty(classes, np.bool_)
    for i0, i1, j0, j1, k0, k1 in blocks:
        a, b = first[0][i0], first[0][i1 - 1] + taps[0]
        c, d = first[1][j0], first[1][j1 - 1] + taps[1]
        e, f = first[2][k0], first[2][k1 - 1] + taps[2]
        part = logits[:, a:b, c:d, e:f]
        labels = np.zeros(part.shape[1:], np.int32)
        _strongest_of_block(part, labels, peaks)
        present[:] = False
        for label in labels.ravel():
            present[label] = True
        block = out[i0:i1, j0:j1, k0:k1]
        if present.sum() == 1:
            block[:] = labels[0, 0, 0]
            continue
        near = (first[0][i0:i1] - a, first[1][j0:j1] - c, first[2][k0:k1] - e)
        shares = (weights[0][i0:i1], weights[1][j0:j1], weights[2][k0:k1])
        open_at = np.argwhere(settle(labels, near[0], near[1], near[2], taps, block))
        if open_at.shape[0] == 0:
            continue
        best = np.full(open_at.shape[0], -np.inf, np.float32)
        for candidate in range(classes):
            if present[candidate]:
                _challenge(part[candidate], candidate, near, shares, open_at, best, block)
        lowest = best.min()
        lowest -= np.float32(1e-5) * (np.float32(1) + abs(lowest))  # sums are rounded
        for candidate in range(classes):
            if not present[candidate] and peaks[candidate] >= lowest:
                _challenge(part[candidate], candidate, near, shares, open_at, best, block)


@_compiled
def _strongest_of_block(logits: Any, labels: Any, peaks: Any) -> None:
    """The class with the largest logit at each voxel, the lower at a tie, and the largest logit of each class."""
    best = np.full(labels.shape, -np.inf, np.float32)
    row_peak = np.empty(labels.shape[2], np.float32)
    for c in range(logits.shape[0]):
        row_peak[:] = -np.inf
        for i in range(labels.shape[0]):
            for j in range(labels.shape[1]):
                values, top, label = logits[c, i, j], best[i, j], labels[i, j]
                for k in range(values.size):
                    value = values[k]
                    row_peak[k] = value if value > row_peak[k] else row_peak[k]
                    better = value > top[k]
                    top[k] = value if better else top[k]
                    label[k] = c if better else label[k]
        peaks[c] = row_peak.max()


@_compiled
def _challenge(logit: Any, label: int, first: Any, weights: Any, open_at: Any, best: Any, out: Any) -> None:
    """Give a class the open voxels at which its interpolated logit is the largest so far, or as large and lower.

    `open_at` is in order, so that the open voxels of a row lie together: what they need of the row is interpolated
    across it first, then along.
    """
    row = np.empty(logit.shape[2], np.float32)
    taps_k = weights[2].shape[1]
    start = 0
    while start < best.size:
        i, j = open_at[start, 0], open_at[start, 1]
        stop = start + 1
        while stop < best.size and open_at[stop, 0] == i and open_at[stop, 1] == j:
            stop += 1
        low, high = first[2][open_at[start, 2]], first[2][open_at[stop - 1, 2]] + taps_k
        part = row[low:high]
        part[:] = 0
        for t in range(weights[0].shape[1]):
            for u in range(weights[1].shape[1]):
                weight = weights[0][i, t] * weights[1][j, u]
                values = logit[first[0][i] + t, first[1][j] + u, low:high]
                for n in range(part.size):
                    part[n] += weight * values[n]
        for n in range(start, stop):
            k = open_at[n, 2]
            value = np.float32(0)
            for t in range(taps_k):
                value += weights[2][k, t] * row[first[2][k] + t]
            if value > best[n] or (value == best[n] and label < out[i, j, k]):
                best[n] = value
                out[i, j, k] = label
        start = stop


@_compiled
def paint_regions(logits: Any, first: Any, weights: Any, paints: Any, blocks: Any, out: Any) -> None:
    """In each block: the value of the last region whose interpolated logit is above 0; `out` keeps the others."""
    taps = (weights[0].shape[1], weights[1].shape[1], weights[2].shape[1])
    for i0, i1, j0, j1, k0, k1 in blocks:
        a, b = first[0][i0], first[0][i1 - 1] + taps[0]
        c, d = first[1][j0], first[1][j1 - 1] + taps[1]
        e, f = first[2][k0], first[2][k1 - 1] + taps[2]
        near = (first[0][i0:i1] - a, first[1][j0:j1] - c, first[2][k0:k1] - e)
        shares = (weights[0][i0:i1], weights[1][j0:j1], weights[2][k0:k1])
        block = out[i0:i1, j0:j1, k0:k1]
        inside = np.empty(block.shape, np.uint8)
        for region in range(logits.shape[0]):
            logit = logits[region, a:b, c:d, e:f]
            signs = (logit > 0).astype(np.uint8)
            count = signs.sum()
            if count == 0:
                continue
            if count == signs.size:
                block[:] = paints[region]
                continue
            is_open = settle(signs, near[0], near[1], near[2], taps, inside)
            for i, j, k in np.ndindex(block.shape):
                within = inside[i, j, k] == 1
                if is_open[i, j, k]:
                    within = interpolated(
                        logit, near[0][i], shares[0][i], near[1][j], shares[1][j], near[2][k], shares[2][k]
                    ) > 0  # fmt: skip
                if within:
                    block[i, j, k] = paints[region]
