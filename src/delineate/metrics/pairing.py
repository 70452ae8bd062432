"""Numbered pieces of two arrays: which of them overlap, by how many voxels, and who is whose partner."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]
Indices = npt.NDArray[np.int64]
Numbers = npt.NDArray[np.float64]

# Where two pairs weigh as much as one, two are better.
_A_PAIR_MORE = 1e-9


@dataclass(frozen=True, slots=True)
class Pairs:
    """Pieces 0..R-1 of a reference, 0..P-1 of a prediction, and the E pairs that share voxels.

    `reference_voxels`: (R,); `prediction_voxels`: (P,); `first`, `second`, `both`: (E,) the reference's piece, the
    prediction's, and the voxels that they share.
    """

    reference_voxels: Indices
    prediction_voxels: Indices
    first: Indices
    second: Indices
    both: Indices

    @property
    def iou(self) -> Numbers:
        """(E,)"""
        return self.both / (self._total - self.both)

    @property
    def dice(self) -> Numbers:
        """(E,)"""
        return 2 * self.both / self._total

    @property
    def _total(self) -> Indices:
        total: Indices = self.reference_voxels[self.first] + self.prediction_voxels[self.second]
        return total


def pair_pieces(reference: Array, prediction: Array) -> Pairs:
    """The pairs of two arrays of one shape in which the n-th piece has the value n + 1 and what is none has 0."""
    # Of the pieces alone, because bincount widens its input to 64 bits.
    voxels = [np.bincount(array[array > 0])[1:] for array in (reference, prediction)]
    shared = (reference > 0) & (prediction > 0)
    # One key a pair: a table of all pairs would be large where there are thousands of specks.
    base = np.int64(len(voxels[1]) + 1)
    keys, both = np.unique(reference[shared].astype(np.int64) * base + prediction[shared], return_counts=True)
    return Pairs(voxels[0], voxels[1], keys // base - 1, keys % base - 1, both)


def best_partners(pairs: Pairs, weights: Numbers) -> Indices:
    """Which of the E pairs to keep so that no piece is in two, and the sum of their positive `weights` (E,) is largest.

    Pairs of weight 0 are never kept. The best assignment (Kuhn 1955), for each group of pieces that hang together.
    """
    edges = np.flatnonzero(weights > 0)
    groups = _groups(pairs, edges)
    order = np.argsort(groups, kind="stable")
    starts = np.flatnonzero(np.diff(groups[order], prepend=-1))
    kept = [_assign(pairs, edges[part], weights) for part in np.split(order, starts[1:]) if len(part)]
    return np.sort(np.concatenate(kept)) if kept else edges


def _groups(pairs: Pairs, edges: Indices) -> Indices:
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    references, size = len(pairs.reference_voxels), len(pairs.reference_voxels) + len(pairs.prediction_voxels)
    if not len(edges):
        return edges
    ends = pairs.first[edges], references + pairs.second[edges]
    group_of = connected_components(coo_array((np.ones(len(edges)), ends), shape=(size, size)), directed=False)[1]
    groups: Indices = group_of[ends[0]].astype(np.int64)
    return groups


def _assign(pairs: Pairs, edges: Indices, weights: Numbers) -> Indices:
    from scipy.optimize import linear_sum_assignment

    if len(edges) == 1:
        return edges
    rows, row_of = np.unique(pairs.first[edges], return_inverse=True)
    columns, column_of = np.unique(pairs.second[edges], return_inverse=True)
    gain, edge_at = np.zeros((len(rows), len(columns))), np.full((len(rows), len(columns)), -1)
    gain[row_of, column_of], edge_at[row_of, column_of] = weights[edges] + _A_PAIR_MORE, edges
    chosen: Indices = edge_at[linear_sum_assignment(gain, maximize=True)]
    return chosen[chosen >= 0]
