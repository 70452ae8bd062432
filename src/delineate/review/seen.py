"""The digest of what a reader saw: the scan's files, the grid, and every voxel of every layer.

SHA-256 over: a name of this rule; the scan's digest; the grid's shape and affine (float64, little-endian); and for each
layer by number its number, its type, and the SHA-256 of each slice k in order. Slices are hashed apart, so that after
an edit only the changed ones are hashed again.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from delineate.errors import InputError
from delineate.geometry import Grid

_RULE = b"delineate seen 1"
_READ_BYTES = 1 << 20


def slice_digests(array_kji: npt.NDArray[Any]) -> list[bytes]:
    """SHA-256 of each slice of a layer (K, J, I), C-contiguous, as little-endian values."""
    return [slice_digest(plane) for plane in array_kji]


def slice_digest(plane: npt.NDArray[Any]) -> bytes:
    """SHA-256 of one slice (J, I) of a layer."""
    return hashlib.sha256(plane.astype(plane.dtype.newbyteorder("<"), copy=False).tobytes()).digest()


def seen_digest(scan: str, grid: Grid, slices: Mapping[int, tuple[int, list[bytes]]]) -> str:
    """The digest of what is seen. `scan`: see `scan_digest`. `slices`: of each layer by number, bytes a voxel and the
    digests of its slices."""
    hashed = hashlib.sha256(_RULE + bytes.fromhex(scan))
    hashed.update(struct.pack("<3Q", *grid.shape))
    hashed.update(np.ascontiguousarray(grid.affine, dtype="<f8").tobytes())
    for layer in sorted(slices):
        itemsize, digests = slices[layer]
        hashed.update(struct.pack("<3Q", layer, itemsize, len(digests)) + b"".join(digests))
    return hashed.hexdigest()


def scan_digest(scan: Path) -> str:
    """SHA-256 over a scan's files: of a folder all files in it, by name, each with its name's and its own length.

    Raises `InputError` if there are none, or one cannot be read.
    """
    try:
        files = sorted(path for path in scan.iterdir() if path.is_file()) if scan.is_dir() else [scan]
        hashed = hashlib.sha256()
        for path in files:
            name = path.name.encode(errors="surrogateescape") if scan.is_dir() else b""
            hashed.update(struct.pack("<2Q", len(name), path.stat().st_size) + name)
            _add_file(hashed, path)
    except OSError as error:
        raise InputError("the scan cannot be read", path=scan, got=error.strerror) from error
    if not files:
        raise InputError("the scan has no files", path=scan)
    return hashed.hexdigest()


def file_marks(scan: Path) -> tuple[tuple[str, int, int], ...]:
    """Names, sizes and times of a scan's files: as long as they stay, so does `scan_digest`; none if it is gone."""
    try:
        files = sorted(scan.iterdir()) if scan.is_dir() else [scan]
        stats = [(path.name, path.stat()) for path in files]
    except OSError:
        return ()
    return tuple((name, stat.st_size, stat.st_mtime_ns) for name, stat in stats)


def _add_file(hashed: Any, path: Path) -> None:
    with path.open("rb") as stream:
        while chunk := stream.read(_READ_BYTES):
            hashed.update(chunk)
