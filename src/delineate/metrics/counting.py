"""One pass over two label maps: how often each pair of values occurs, and where each value is."""

from __future__ import annotations

import math
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from delineate.geometry import Triple, TripleMM
from delineate.metrics.scores import Overlap
from delineate.volume import read_only

Array = npt.NDArray[Any]
Counts = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Tally:
    """Index 0 is the background, index n the n-th value.

    `counts`: (L + 1, L + 1) voxels of each pair, reference by prediction. `boxes`: (L + 1, 3, 2) first and
    last position of each index in either map, of no meaning for an index that occurs in neither.
    """

    counts: Counts
    boxes: Counts

    def overlap(self, index: int) -> Overlap:
        counts = self.counts
        return Overlap(int(counts[index].sum()), int(counts[:, index].sum()), int(counts[index, index]))

    def slices(self, index: int) -> tuple[slice, ...]:
        """The smallest box that holds an index in both maps."""
        return tuple(slice(int(first), int(last) + 1) for first, last in self.boxes[index])


def checked_spacing(spacing_mm: Sequence[float]) -> TripleMM:
    """The spacing as floats; raises `ValueError` unless it is three positive numbers."""
    spacing = tuple(float(s) for s in spacing_mm)
    if len(spacing) != 3 or not all(0 < s < math.inf for s in spacing):
        raise ValueError(f"a spacing is three positive numbers: got {spacing}")
    return spacing[0], spacing[1], spacing[2]


def in_memory_order(reference: Array, prediction: Array) -> tuple[Array, Array, Triple]:
    """Both maps as contiguous unsigned arrays of one type, and the order that their axes now have.

    Axes go from the largest step in memory to the smallest, because reading against it is several times
    slower, and arrays from NIfTI run the other way round than those from DICOM. Copies only what it must.
    Raises `ValueError` unless both are 3D, of one shape and nowhere negative, `TypeError` unless both are of
    integers or bool.
    """
    if reference.ndim != 3 or reference.shape != prediction.shape:
        raise ValueError(f"two arrays (I, J, K) of one shape are needed: got {reference.shape}, {prediction.shape}")
    i, j, k = sorted(range(3), key=lambda axis: -abs(reference.strides[axis]))
    pair = [_unsigned(array).transpose(i, j, k) for array in (reference, prediction)]
    dtype = np.result_type(*pair)
    # A kernel is compiled for writable and for read-only arrays apart: here all are read-only.
    first, second = (read_only(np.ascontiguousarray(array, dtype=dtype)) for array in pair)
    return first, second, (i, j, k)


def _unsigned(array: Array) -> Array:
    if array.dtype.kind not in "bui":
        raise TypeError(f"label maps are of integers: got {array.dtype}")
    if array.dtype.kind == "i" and array.min(initial=0) < 0:
        raise ValueError(f"label values are 0 or more: got {array.min()}")
    # A view of the other byte order's bytes would be of other numbers.
    native = array.astype(array.dtype.newbyteorder("="), copy=False)
    return native.view(f"u{native.dtype.itemsize}")


def tally(reference: Array, prediction: Array, values: Sequence[int], *, threads: int = 1) -> Tally:
    """Counts and boxes of `values` in two maps as `in_memory_order` gives them; other values are background.

    Raises `ValueError` for values below 1 or given twice.
    """
    index_of = _index_of(values)
    bounds = np.linspace(0, len(reference), threads + 1).astype(int).tolist()

    def tally_slab(start: int, stop: int) -> Tally:
        return _tally_slab(reference[start:stop], prediction[start:stop], index_of, labels=len(values), start=start)

    with ThreadPoolExecutor(threads) as pool:
        parts = list(pool.map(tally_slab, bounds[:-1], bounds[1:]))
    lowest = np.min([part.boxes[..., 0] for part in parts], axis=0)
    highest = np.max([part.boxes[..., 1] for part in parts], axis=0)
    return Tally(np.sum([part.counts for part in parts], axis=0), np.stack([lowest, highest], axis=-1))


def _tally_slab(reference: Array, prediction: Array, index_of: Counts, *, labels: int, start: int) -> Tally:
    from delineate.metrics.kernels import count_pairs

    counts = np.zeros((labels + 1, labels + 1), dtype=np.int64)
    boxes = np.empty((labels + 1, 3, 2), dtype=np.int64)
    boxes[..., 0], boxes[..., 1] = np.iinfo(np.int64).max, -1
    count_pairs(reference, prediction, index_of, counts, boxes, start)
    return Tally(counts, boxes)


def _index_of(values: Sequence[int]) -> Counts:
    if any(value < 1 for value in values) or len(set(values)) != len(values):
        raise ValueError(f"label values are different and start at 1: got {list(values)}")
    index_of = np.zeros(max(values, default=0) + 2, dtype=np.int64)
    index_of[list(values)] = range(1, len(values) + 1)
    return index_of
