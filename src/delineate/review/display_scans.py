"""Scans as they are shown: a part at a time, as 16-bit numbers, in the source's own orientation; NIfTI and DICOM.

Nothing that is shown needs the whole scan in memory, but for DICOM series that have to be put right first.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Protocol

import numpy as np

from delineate import formats
from delineate.dataset import open_dataset
from delineate.errors import DatasetError, ResourceError, UnreadableImage
from delineate.formats import Action, Stack, nifti
from delineate.formats.dicom.pixels import has_scale_slopes, read_stack
from delineate.formats.nifti import is_nifti_name
from delineate.formats.streams import Stored
from delineate.geometry import Grid
from delineate.review.display_numbers import Coding, Numbers, coding_for, coding_of, numbers_of
from delineate.review.scan_headers import stack_of
from delineate.review.windows import Window, named_windows
from delineate.volume import Array, Kind

PART_BYTES = 8 * 2**20
"""Of numbers that are read at a time."""

_FLOAT_BYTES = 4
_PACKED_PARTS = 10
"""Parts of a compressed series that are decoded together: only many slices are worth several processes."""

_CHANNEL = re.compile(r"^(.*)_0000$")

Part = tuple[int, int]
"""Slices from, and up to but without."""

Next = Callable[[int], Part | None]
"""Asked for the part to read next, of at most so many together; None when there is none left."""


class Scan(Protocol):
    """A scan that can be read in parts. `kind`: None where the values must tell; `windows`: what its files name.

    `numbers` gives parts with their numbers (n, J, I): those that are asked for, or all in order.
    """

    @property
    def grid(self) -> Grid: ...

    @property
    def kind(self) -> Kind | None: ...

    @property
    def coding(self) -> Coding: ...

    @property
    def windows(self) -> tuple[Window, ...]: ...

    def numbers(self, following: Next) -> Iterator[tuple[Part, Numbers]]: ...


def parts_of(grid: Grid, part_bytes: int = PART_BYTES) -> tuple[Part, ...]:
    """All slices of a grid, a few together, so that a part has about so many bytes."""
    i, j, k = grid.shape
    count = max(1, part_bytes // (i * j * 2))
    return tuple(pairwise((*range(0, k, count), k)))


def channels_of(path: Path) -> tuple[tuple[Path, int], ...]:
    """Where the channels of a scan are: a file, and which one in it.

    Channels of one scan are files CASE_0000, CASE_0001, ... or stand in one file behind one another.
    """
    if not is_nifti_name(path):
        return ((path, 0),)
    stem = _CHANNEL.match(formats.image_stem(path))
    if stem is not None:
        suffix = path.name[len(formats.image_stem(path)) :]
        others = [path.with_name(f"{stem.group(1)}_{n:04d}{suffix}") for n in range(1, 100)]
        there = [path, *(other for other in others if other.is_file())]
        if len(there) > 1:
            return tuple((file, 0) for file in there)
    return tuple((path, n) for n in range(formats.count_channels(path)))


def open_scan(path: Path, channel: int, *, memory_bytes: int) -> Scan:
    """A channel of a scan, opened: a NIfTI file, a DICOM file or a folder of one series.

    Of floats every value is looked at first. Raises what reading the headers raises, `UnreadableImage` for a channel
    that is not there, and `ResourceError` for a series that has to be put right and does not fit into the memory.
    """
    there = channels_of(path)
    if not 0 <= channel < len(there):
        raise UnreadableImage("the scan has no such channel", expected=f"0 to {len(there) - 1}", got=channel, path=path)
    file, number = there[channel]
    if is_nifti_name(file):
        return _nifti(file, number, _kind_near(file, channel))
    return _dicom(file, memory_bytes)


def _kind_near(path: Path, channel: int) -> Kind | None:
    """What a dataset.json says of a channel of the scans beside it."""
    folder = path.parent.parent
    with suppress(DatasetError):
        if (folder / "dataset.json").is_file():
            kinds = open_dataset(folder).kinds
            return kinds[channel] if channel < len(kinds) else None
    return None


@dataclass(frozen=True, slots=True, eq=False)
class _NiftiScan:
    """`stored`: how its raw numbers become numbers."""

    path: Path
    channel: int
    grid: Grid
    kind: Kind | None
    coding: Coding
    stored: Coding
    windows: tuple[Window, ...] = ()

    def numbers(self, following: Next) -> Iterator[tuple[Part, Numbers]]:
        # Packed files can only be read from the start.
        parts = parts_of(self.grid)
        planes = nifti.iterate_planes(self.path, count=parts[0][1], channel=self.channel)
        for part, raw in zip(parts, planes, strict=True):
            yield part, numbers_of(raw, self.stored)


def _nifti(path: Path, channel: int, kind: Kind | None) -> _NiftiScan:
    grid, _, stored = nifti.read_layout(path)
    of_raw = _of_type(stored) if stored.dtype.kind in "iu" else None
    if of_raw is None:
        count = parts_of(grid)[0][1]
        of_raw = coding_of(nifti.iterate_planes(path, count=count, channel=channel))
    return _NiftiScan(path, channel, grid, kind, of_raw.after(stored.slope, stored.inter), of_raw)


def _of_type(stored: Stored) -> Coding | None:
    """How to code whole numbers without looking at them; None where their type has too many."""
    if stored.dtype.itemsize > 2:
        return None
    bounds = np.iinfo(stored.dtype)
    return coding_for(float(bounds.min), float(bounds.max), whole=True)


@dataclass(frozen=True, slots=True, eq=False)
class _SeriesScan:
    """A plain series, of which any slices can be read."""

    stack: Stack
    grid: Grid
    kind: Kind | None
    coding: Coding
    windows: tuple[Window, ...]

    def numbers(self, following: Next) -> Iterator[tuple[Part, Numbers]]:
        packed = any(s.storage.place is None for s in self.stack.slices)
        # The first part alone: somebody waits for a picture.
        together = 1
        while (part := following(together)) is not None:
            together = _PACKED_PARTS if packed else 1
            values = read_stack(self.stack.slices[slice(*part)]).transpose(2, 1, 0)
            yield part, numbers_of(values, self.coding)


@dataclass(frozen=True, slots=True, eq=False)
class _WholeScan:
    """A series that was read whole: it is tilted, or each of its slices is scaled in its own way, as PET is.

    `values`: (K, J, I).
    """

    values: Array
    grid: Grid
    kind: Kind | None
    coding: Coding
    windows: tuple[Window, ...]

    def numbers(self, following: Next) -> Iterator[tuple[Part, Numbers]]:
        while (part := following(1)) is not None:
            yield part, numbers_of(self.values[slice(*part)], self.coding)


def _dicom(path: Path, memory_bytes: int) -> Scan:
    stack = stack_of(path)
    grid, first = stack.grid, stack.slices[0]
    windows = named_windows(stack.slices[len(stack.slices) // 2].path) if _is_windowed(stack) else ()
    coding = _coding_of(stack)
    if coding is not None:
        return _SeriesScan(stack, grid, first.kind, coding, windows)
    needed = math.prod(grid.shape) * _FLOAT_BYTES * (1 if stack.action is Action.READ else 2)
    if needed > memory_bytes:
        raise ResourceError(
            "the series has to be read whole, and does not fit into the memory",
            expected=f"{needed / 1e9:.1f} GB",
            got=f"{memory_bytes / 1e9:.1f} GB",
            path=path,
            remedy="Allow more with --memory-gb.",
        )
    values = formats.read_series(stack).array[0].transpose(2, 1, 0)
    parts = (values[slice(*part)] for part in parts_of(grid))
    return _WholeScan(values, grid, first.kind, coding_of(parts), windows)


def _is_windowed(stack: Stack) -> bool:
    """Whether the windows that its files name are of the values that we read."""
    return all(s.uptake is None for s in stack.slices) and not has_scale_slopes(stack.slices)


def _coding_of(stack: Stack) -> Coding | None:
    """How to code the slices of a series without looking at them; None where they must all be read for it.

    They are read as what they are scaled to, so that a part of them is the same as all.
    """
    scales = {(s.slope, s.intercept) for s in stack.slices}
    types = {(s.storage.bits_allocated, s.storage.signed, s.storage.floating) for s in stack.slices}
    if stack.action is not Action.READ or not _is_windowed(stack) or len(scales) > 1 or len(types) > 1:
        return None
    ((bits, signed, floating),) = types
    ((slope, intercept),) = scales
    if floating or bits > 16:
        return None
    used = max(s.storage.bits_stored for s in stack.slices)
    low, high = (-(2.0 ** (used - 1)), 2.0 ** (used - 1) - 1) if signed else (0.0, 2.0**used - 1)
    ends = sorted((low * slope + intercept, high * slope + intercept))
    if slope.is_integer() and intercept.is_integer() and abs(slope) == 1:
        return coding_for(ends[0], ends[1], whole=True)
    return coding_for(low, high, whole=True).after(slope, intercept)
