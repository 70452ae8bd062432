"""What differs between two label arrays, as runs of voxels: what an edit is stored, sent and undone as.

Wire order ("i fastest"): the voxel (i, j, k) of an (I, J, K) array has the flat offset i + I * (j + J * k). An array
whose memory has that order is (K, J, I) and C-contiguous: `wire_view` shows an (I, J, K) array with its axes in that
order, and `put_runs` takes such an array.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from delineate.editing.boxes import whole
from delineate.errors import InputError
from delineate.geometry import Box, Triple

Labels = npt.NDArray[Any]
_RECORD = np.dtype([("offset", "<u4"), ("length", "<u4"), ("before", "<u2"), ("after", "<u2")])
_LONG = 4096  # voxels from which a run is handled by itself
_AT_ONCE = 1 << 22  # voxels of short runs handled together: bounds the memory of an edit of a whole volume


class EditConflict(InputError):
    """An edit whose old values are not those that the labels hold."""


@dataclass(frozen=True, slots=True)
class Runs:
    """Changed voxels: n runs, ascending by offset, not overlapping, each of one old and one new value.

    `offsets`, `lengths`: uint32, (n,), in wire order. `before`, `after`: uint16, (n,), the values.
    """

    offsets: npt.NDArray[np.uint32]
    lengths: npt.NDArray[np.uint32]
    before: npt.NDArray[np.uint16]
    after: npt.NDArray[np.uint16]

    def __post_init__(self) -> None:
        for array in (self.offsets, self.lengths, self.before, self.after):
            array.setflags(write=False)

    def __len__(self) -> int:
        return len(self.offsets)


def no_runs() -> Runs:
    """The change that changes nothing."""
    return Runs(np.zeros(0, np.uint32), np.zeros(0, np.uint32), np.zeros(0, np.uint16), np.zeros(0, np.uint16))


def wire_view(array: Labels) -> Labels:
    """An (I, J, K) array seen as (K, J, I), without a copy; of a (K, J, I) array the (I, J, K) view."""
    return array.transpose(2, 1, 0)


def difference(before: Labels, after: Labels, *, box: Box | None = None) -> Runs:
    """The runs that turn `before` into `after`: two (I, J, K) arrays of one shape, of whole numbers or truth values.

    `box`: where to look; what differs elsewhere is passed over. Offsets are those of the whole array in any case.
    Raises `InputError` if the shapes differ, a value is not 0 to 65535, or the arrays are too large for 32 bits.
    """
    box = box or whole(before.shape)
    if before.shape != after.shape:
        raise InputError("two label arrays must be of one shape", expected=before.shape, got=after.shape)
    return part_difference(before[box.slices], after[box.slices], start=box.start, shape=before.shape)


def part_difference(before: Labels, after: Labels, *, start: Triple, shape: Sequence[int]) -> Runs:
    """The same of a part of an (I, J, K) array of `shape`, the part's first voxel being at `start`. Raises likewise."""
    if before.shape != after.shape or before.ndim != 3:
        raise InputError("two label arrays must be of one shape", expected=before.shape, got=after.shape)
    if math.prod(shape) > 2**32:
        raise InputError("a label array is too large for edits", expected="up to 2**32 voxels", got=math.prod(shape))
    parts = [_changed(before, after, start, k, shape) for k in range(before.shape[2])]
    if not any(len(part[0]) for part in parts):
        return no_runs()
    return _joined(*(np.concatenate(column) for column in zip(*parts, strict=True)))


def _changed(
    before: Labels, after: Labels, start: Triple, k: int, shape: Sequence[int]
) -> tuple[npt.NDArray[np.int64], Labels, Labels]:
    old, new = before[:, :, k].T, after[:, :, k].T
    rows, columns = np.nonzero(old != new)
    offsets = columns + start[0] + shape[0] * (rows + start[1] + shape[1] * (k + start[2]))
    return offsets, old[rows, columns], new[rows, columns]


def _joined(offsets: npt.NDArray[np.int64], old: Labels, new: Labels) -> Runs:
    before, after = _as_values(old), _as_values(new)
    breaks = (np.diff(offsets) != 1) | (before[1:] != before[:-1]) | (after[1:] != after[:-1])
    first = np.concatenate([[0], np.flatnonzero(breaks) + 1])
    lengths = np.diff(np.concatenate([first, [len(offsets)]]))
    return Runs(offsets[first].astype(np.uint32), lengths.astype(np.uint32), before[first], after[first])


def _as_values(values: Labels) -> npt.NDArray[np.uint16]:
    known = np.asarray(values)
    if known.dtype.kind not in "bui":
        raise InputError("labels must be whole numbers", got=known.dtype)
    if known.dtype.itemsize > 1 and (int(known.min()) < 0 or int(known.max()) > 65535):
        raise InputError("a label is out of range", expected="0 to 65535", got=f"{known.min()} to {known.max()}")
    if known.dtype == np.int8 and int(known.min()) < 0:
        raise InputError("a label is out of range", expected="0 to 65535", got=int(known.min()))
    return known.astype(np.uint16)


def put_runs(array_kji: Labels, runs: Runs) -> None:
    """Puts the new values into a writable (K, J, I), C-contiguous array, IN PLACE.

    Raises `EditConflict`, and leaves the array as it was, if it does not hold all the old values; `InputError` if a
    run lies outside or a value does not fit the array's type; `ValueError` for an array of another layout.
    """
    if not (array_kji.flags.c_contiguous and array_kji.flags.writeable):
        raise ValueError("put_runs needs a writable, C-contiguous (K, J, I) array")
    if len(runs) == 0:
        return
    if int(runs.offsets[-1]) + int(runs.lengths[-1]) > array_kji.size:
        raise InputError("a change lies outside the labels", expected=f"up to {array_kji.size} voxels")
    largest = int(max(runs.before.max(), runs.after.max()))
    if largest > (1 if array_kji.dtype == np.bool_ else np.iinfo(array_kji.dtype).max):
        raise InputError("a label does not fit the array", expected=str(array_kji.dtype), got=largest)
    flat = array_kji.reshape(-1)
    for where, voxels, chosen in _pieces(runs):
        wrong = flat[where] != np.repeat(runs.before[chosen], voxels)
        if wrong.any():
            raise EditConflict(
                "the labels are not what this edit changes",
                expected=f"the old values of {int(runs.lengths.sum())} voxels",
                got=f"others in at least {int(wrong.sum())}",
                remedy="Load the case again: somebody else has changed it.",
            )
    for where, voxels, chosen in _pieces(runs):
        flat[where] = np.repeat(runs.after[chosen], voxels).astype(array_kji.dtype)


def _pieces(runs: Runs) -> Iterator[tuple[slice | npt.NDArray[np.int64], npt.NDArray[np.int64], npt.NDArray[np.int64]]]:
    """Where runs lie, a few million voxels at a time: flat places, and how many belong to which runs."""
    lengths, offsets = runs.lengths.astype(np.int64), runs.offsets.astype(np.int64)
    for number in np.flatnonzero(lengths >= _LONG):
        first, last = int(offsets[number]), int(offsets[number] + lengths[number])
        for start in range(first, last, _AT_ONCE):
            stop = min(start + _AT_ONCE, last)
            yield slice(start, stop), np.array([stop - start]), np.array([number])
    short = np.flatnonzero(lengths < _LONG)
    groups = np.cumsum(lengths[short]) // _AT_ONCE
    for chosen in np.split(short, np.flatnonzero(np.diff(groups)) + 1):
        if len(chosen):
            ends = np.cumsum(lengths[chosen])
            shifts = np.repeat(offsets[chosen] - (ends - lengths[chosen]), lengths[chosen])
            yield np.arange(ends[-1]) + shifts, lengths[chosen], chosen


def inverse(runs: Runs) -> Runs:
    """The change that takes this one back."""
    return Runs(runs.offsets, runs.lengths, runs.after, runs.before)


def pack(runs: Runs) -> bytes:
    """The runs as bytes, 12 a run: offset u32, length u32, before u16, after u16, little-endian. None: no bytes."""
    records = np.empty(len(runs), _RECORD)
    columns = (runs.offsets, runs.lengths, runs.before, runs.after)
    for name, column in zip(("offset", "length", "before", "after"), columns, strict=True):
        records[name] = column
    return records.tobytes()


def unpack(data: bytes, size: int) -> Runs:
    """The runs that `pack` wrote, for labels of `size` voxels.

    Raises `InputError` if they are not: bytes missing, not ascending, overlapping, outside, empty, or changing nothing.
    """
    if len(data) % _RECORD.itemsize:
        raise InputError("an edit is cut off", expected=f"a multiple of {_RECORD.itemsize} bytes", got=len(data))
    records = np.frombuffer(data, _RECORD)
    first = records["offset"].astype(np.int64)
    last = first + records["length"]
    if (records["length"] == 0).any():
        raise InputError("an edit has a run of no voxels", expected="lengths above 0")
    if (first[1:] < last[:-1]).any():
        raise InputError("an edit's runs must ascend and not overlap")
    if len(records) and int(last[-1]) > size:
        raise InputError("an edit lies outside the labels", expected=f"up to {size} voxels", got=int(last[-1]))
    if (records["before"] == records["after"]).any():
        raise InputError("an edit has a run that changes nothing", expected="a new value that differs from the old")
    columns = (np.ascontiguousarray(records[name]) for name in ("offset", "length", "before", "after"))
    offsets, lengths, before, after = columns
    return Runs(offsets.astype(np.uint32), lengths.astype(np.uint32), before.astype(np.uint16), after.astype(np.uint16))
