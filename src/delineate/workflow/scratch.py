"""Memory for arrays that may be too large for it: then they are mapped to files that go with their last user."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from delineate.files import scratch_file
from delineate.settings import Settings
from delineate.volume import Array

_SHARE = 8  # of the memory: what is larger than one part of so many is mapped


@dataclass(frozen=True, slots=True)
class Scratch:
    """A folder for arrays of `from_bytes` or more."""

    folder: Path
    from_bytes: int

    def allocate(self, shape: tuple[int, ...], dtype: npt.DTypeLike) -> Array:
        """An array of any content, `volume.Allocate`. Raises `ResourceError` if the disk has no room for it."""
        size = math.prod(shape) * np.dtype(dtype).itemsize
        if size < self.from_bytes:
            return np.empty(shape, dtype)
        with scratch_file(self.folder, size) as stream:
            return np.memmap(stream, dtype, "r+", shape=shape)


def scratch_of(settings: Settings) -> Scratch:
    """For arrays that would take a large part of the memory there is."""
    return Scratch(settings.scratch, settings.memory_bytes // _SHARE)
