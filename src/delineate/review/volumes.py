"""Scans for the browser: made ready once, a few slices at a time, and served from disk.

CACHE/display/KEY/image.npy   (K, J, I) int16: slices k0 to k1 are bytes that follow one another, i fastest
CACHE/display/KEY/about.json  where the voxels are and what the numbers mean; written last

KEY stands for the scan's files: where one changes, the scan is made ready again. The folder may be removed at any time.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import threading
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from delineate.errors import UnreadableImage
from delineate.files import sweep
from delineate.review.display_readying import IMAGE, ImageAbout, ReadyImage, Readying, Task, read_about
from delineate.review.records import ReviewCase
from delineate.review.windows import Window

__all__ = ["DisplayVolumes", "ImageAbout", "Window", "compress"]

COMPRESSION_LEVEL = 2
"""Of isal: as fast as 1 and a little smaller. 3 is half as fast for 2 %; zlib's 6 saves 5 % more in twenty times the
time. See benchmarks/review_volumes.py."""

_VERSION = 1  # raise it when other numbers are made than before
_DISK_BYTES = 40 * 10**9
_AT_ONCE = 2  # both cores of a small machine; more would only wait for each other


def compress(data: bytes) -> bytes:
    """Bytes as one gzip member; the same bytes give the same."""
    from isal import igzip

    pack: Any = igzip.compress
    return bytes(pack(data, COMPRESSION_LEVEL, mtime=0))


class DisplayVolumes:
    """The scans of cases, as the browser shows them. Safe to use from several threads.

    `cache`: a folder of which `display` is used; `memory_bytes`: what may be held at once; `disk_bytes`: beyond it the
    scans that were longest not asked for are removed.
    """

    def __init__(self, cache: Path, *, memory_bytes: int, disk_bytes: int = _DISK_BYTES) -> None:
        self._folder = cache / "display"
        self._memory_bytes, self._disk_bytes = memory_bytes, disk_bytes
        self._lock = threading.Lock()
        self._readying: dict[str, Readying] = {}
        self._ready: dict[str, ReadyImage] = {}
        self._turns = threading.BoundedSemaphore(_AT_ONCE)
        if self._folder.is_dir():
            sweep(self._folder)

    def begin(self, case: ReviewCase, *, channel: int = 0) -> None:
        """Begin to make a case's scan ready, if it is not; waits for nothing. Raises `UnreadableImage` without it."""
        self._find(case, channel)

    def about(self, case: ReviewCase, *, channel: int = 0) -> ImageAbout:
        """Where a case's scan is and what its numbers mean; waits as long as it takes to know that.

        Raises what reading the scan raises.
        """
        found = self._find(case, channel)
        return found.about if isinstance(found, ReadyImage) else found.about()

    def slab(self, case: ReviewCase, k0: int, k1: int, *, channel: int = 0) -> bytes:
        """Slices k0 to k1 (without) as little-endian int16, i fastest; waits until they are ready, and they come first.

        Raises `InputError` for slices that are not there, and what reading the scan raises.
        """
        try:
            return self._find(case, channel).slab(k0, k1)
        except FileNotFoundError:  # somebody emptied the cache
            return self._find(case, channel).slab(k0, k1)

    def numbers(self, case: ReviewCase, *, channel: int = 0) -> npt.NDArray[np.int16]:
        """The whole scan as numbers (K, J, I), read-only and mapped from disk, once all of it is ready; see `about`."""
        found = self._find(case, channel)
        while isinstance(found, Readying):
            found.wait()
            found = self._find(case, channel)
        mapped: npt.NDArray[np.int16] = np.load(found.folder / IMAGE, mmap_mode="r")
        return mapped

    def close(self) -> None:
        """Leave unfinished what is being made ready."""
        with self._lock:
            readying = tuple(self._readying.values())
        for one in readying:
            one.stop()

    def _find(self, case: ReviewCase, channel: int) -> ReadyImage | Readying:
        path = case.new.scan
        key = _key(path, channel)
        folder = self._folder / key
        with self._lock:
            found = self._ready.get(key)
            if found is not None and folder.is_dir():
                return found
            if key in self._readying:
                return self._readying[key]
            about = read_about(folder)
            if about is not None:
                with suppress(OSError):
                    os.utime(folder)  # it is used
                self._ready[key] = ReadyImage(about, folder)
                return self._ready[key]
            task = Task(path, channel, folder, self._memory_bytes, self._turns, lambda: self._over(key))
            self._readying[key] = Readying(task)
            return self._readying[key]

    def _over(self, key: str) -> None:
        with self._lock:
            self._readying.pop(key, None)
        _tidy(self._folder, self._disk_bytes, keep=key)


def _key(path: Path, channel: int) -> str:
    """Differs whenever the files of a scan do, as far as their sizes and times tell."""
    total = hashlib.sha256(f"{_VERSION} {channel} {path.absolute()}".encode())
    for file in _files(path):
        facts = file.stat()
        total.update(f"\0{file.name} {facts.st_size} {facts.st_mtime_ns}".encode())
    return total.hexdigest()[:32]


def _files(path: Path) -> list[Path]:
    try:
        if path.is_dir():
            return sorted(file for file in path.rglob("*") if file.is_file())
        path.stat()
        return [path]
    except FileNotFoundError as error:
        raise UnreadableImage("the scan is not there any more", path=path) from error


def _tidy(folder: Path, most: int, *, keep: str) -> None:
    """Remove the scans that were longest not asked for, until the others have at most so many bytes."""
    found: list[tuple[float, int, Path]] = []
    with suppress(OSError):
        for one in folder.iterdir():
            with suppress(OSError):
                found.append((one.stat().st_mtime, (one / IMAGE).stat().st_size, one))
    size = sum(size for _, size, _ in found)
    for _, own, one in sorted(found):
        if size <= most:
            break
        if one.name != keep and not one.name.startswith("."):
            shutil.rmtree(one, ignore_errors=True)
            size -= own
