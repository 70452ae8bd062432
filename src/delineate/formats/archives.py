"""ZIP archives (PKWARE APPNOTE 6.3), unpacked without trusting them. Other archives (tar, 7z, rar) are not opened.

What an archive claims about itself is checked before anything is written, and what comes out is counted while it is
written: the claims may be lies. One bad member refuses the archive; nothing of it stays on the disk.
"""

from __future__ import annotations

import os
import re
import shutil
import stat
import struct
import unicodedata
import zipfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from delineate.errors import DelineateError, InputError, ResourceError
from delineate.files import atomic_path

Tick = Callable[[int, int], None]
"""Told (bytes written, bytes in all); what it raises ends the unpacking, and nothing stays."""

ARCHIVE_SUFFIXES = (".zip", ".tar", ".tgz", ".7z", ".rar", ".bz2", ".xz")

_CHUNK = 2**20
_METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)  # Python's bz2 and lzma readers expand without a bound
_ENCRYPTED = 0x1 | 0x40 | 0x2000  # APPNOTE 4.4.4: traditional, strong, masked headers
_END, _END64_LOCATOR, _ENTRY = b"PK\5\6", b"PK\6\7", b"PK\1\2"
_END_SIZE, _END64_SIZE, _LOCATOR_SIZE = 22, 56, 20
_DRIVE = re.compile(r"[A-Za-z]:")
_LONGEST_NAME, _LONGEST_PATH = 255, 2000  # bytes


@dataclass(frozen=True, slots=True)
class Limits:
    """What an archive may hold.

    `total_bytes` and `members`: of the whole. `ratio`: unpacked to packed, of each member and of the whole, beyond
    `unrated_bytes`, which may be unpacked at any ratio: an empty mask packs a thousandfold and is no bomb.
    """

    total_bytes: int = 256 * 2**30
    members: int = 200_000
    ratio: int = 200
    unrated_bytes: int = 256 * 2**20


@dataclass(frozen=True, slots=True)
class Extracted:
    """What came out: `files` in the archive's order; `nested` are those of them that are archives, left closed."""

    folder: Path
    files: tuple[Path, ...]
    nested: tuple[Path, ...]
    bytes: int


def is_zip(path: Path) -> bool:
    """Whether the file starts like a ZIP archive, an empty one included; not if it cannot be opened."""
    try:
        with path.open("rb") as stream:
            return stream.read(4) in (b"PK\3\4", _END)
    except OSError:
        return False


def extract(archive: Path, folder: Path, *, limits: Limits | None = None, tick: Tick | None = None) -> Extracted:
    """Unpack a ZIP archive into `folder`, which appears whole or not at all and replaces an older one.

    Raises `InputError` naming the member for one that would leave the folder (.., an absolute path, a drive, a
    backslash), a link or device, an encrypted one, two of one name or of names that differ only in case, an unknown
    compression, damage, and for more members, bytes or a higher ratio than the limits allow; `ResourceError` where the
    disk has no room.
    """
    limits = limits or Limits()
    with _explained(archive):
        _check_count(archive, limits)
        with zipfile.ZipFile(archive) as opened:
            members = opened.infolist()
            _check_members(members, archive, limits)
            _check_room(sum(info.file_size for info in members), folder)
            with atomic_path(folder) as temporary:
                temporary.mkdir()
                written = _Unpacking(opened, archive, limits, tick or _nobody).into(temporary)
    files = tuple(folder / info.filename for info in members if not info.is_dir())
    return Extracted(folder, files, tuple(f for f in files if f.suffix.lower() in ARCHIVE_SUFFIXES), written)


def _nobody(done: int, total: int) -> None:
    """Watches nothing."""


@contextmanager
def _explained(archive: Path) -> Iterator[None]:
    """A damaged archive ends in many kinds of exception inside zipfile and zlib."""
    try:
        yield
    except DelineateError:
        raise
    except (FileNotFoundError, PermissionError) as error:
        raise InputError("a ZIP archive cannot be read", got=error.strerror, path=archive) from error
    except Exception as error:
        raise _damaged(archive, error) from error


def _damaged(archive: Path, error: Exception, member: str | None = None) -> InputError:
    what = "a damaged ZIP archive" if member is None else f"a damaged member of a ZIP archive: {_shown(member)}"
    got = str(error)[:200] or type(error).__name__
    return InputError(what, got=got, path=archive, remedy="Fetch the archive again.")


def _refused(why: str, archive: Path, member: str, *, expected: object = None, got: object = None) -> InputError:
    return InputError(
        f"the ZIP archive is refused: {_shown(member)} {why}",
        expected=expected,
        got=got,
        path=archive,
        remedy="Ask its sender for a plain archive, or unpack it yourself if you trust it.",
    )


def _shown(member: str) -> str:
    return ascii(member) if len(member) <= 120 else f"{member[:117]!a}..."


def _check_count(archive: Path, limits: Limits) -> None:
    """Count the directory's entries before zipfile makes an object of each."""
    with archive.open("rb") as stream:
        start, stop = _directory_of(stream, archive)
        count, tail = 0, b""
        stream.seek(start)
        while start < stop:
            part = stream.read(min(_CHUNK, stop - start))
            if not part:
                break
            start += len(part)
            count += (tail + part).count(_ENTRY)
            tail = part[-3:]
            if count > limits.members:
                raise InputError(
                    "the ZIP archive is refused: too many members",
                    expected=f"at most {limits.members}",
                    got=f"{count} or more",
                    path=archive,
                    remedy="Unpack it yourself if you trust it, and scan the folder.",
                )


def _directory_of(stream: BinaryIO, archive: Path) -> tuple[int, int]:
    """First and last byte (exclusive) of the central directory: APPNOTE 4.3.14 to 4.3.16."""
    size = stream.seek(0, os.SEEK_END)
    begin = max(0, size - _END_SIZE - 0xFFFF - _LOCATOR_SIZE - _END64_SIZE)
    stream.seek(begin)
    tail = stream.read()
    end = tail.rfind(_END)
    if end < 0 or len(tail) < end + _END_SIZE:
        raise InputError("not a ZIP archive, or one that is cut off", path=archive, remedy="Fetch the archive again.")
    length = struct.unpack_from("<L", tail, end + 12)[0]
    locator = end - _LOCATOR_SIZE
    if locator >= _END64_SIZE and tail[locator : locator + 4] == _END64_LOCATOR:
        end = locator - _END64_SIZE
        length = struct.unpack_from("<Q", tail, end + 40)[0]
    stop = begin + end
    return max(0, stop - length), stop


def _check_members(members: Sequence[zipfile.ZipInfo], archive: Path, limits: Limits) -> None:
    files: dict[str, str] = {}
    folders: dict[str, str] = {}
    for info in members:
        _check_member(info, archive)
        parts = info.filename.rstrip("/").split("/")
        keys = [_folded("/".join(parts[: n + 1])) for n in range(len(parts))]
        above = keys if info.is_dir() else keys[:-1]
        clash = next((files[key] for key in above if key in files), None)
        if not info.is_dir():
            clash = clash or files.get(keys[-1]) or folders.get(keys[-1])
            files[keys[-1]] = info.filename
        if clash is not None:
            raise _refused("has the name of another member", archive, info.filename, got=_shown(clash))
        folders.update((key, info.filename) for key in above)
    total = sum(info.file_size for info in members)
    if total > limits.total_bytes:
        largest = max(members, key=lambda info: info.file_size)
        raise _too_large(archive, largest.filename, limits, total)


def _check_member(info: zipfile.ZipInfo, archive: Path) -> None:
    name, mode = info.orig_filename, info.external_attr >> 16
    parts = name.rstrip("/").split("/")
    if name.startswith("/") or _DRIVE.match(name) or "\\" in name or any(part in ("", ".", "..") for part in parts):
        raise _refused("would leave the folder or is no plain path", archive, name)
    if "\0" in name or not name.isprintable():
        raise _refused("has a name with control characters", archive, name)
    if max(len(os.fsencode(part)) for part in parts) > _LONGEST_NAME or len(os.fsencode(name)) > _LONGEST_PATH:
        raise _refused("has too long a name", archive, name)
    if stat.S_IFMT(mode) not in (0, stat.S_IFREG, stat.S_IFDIR):
        raise _refused("is a link or a device, no file", archive, name)
    if info.flag_bits & _ENCRYPTED:
        raise _refused("is encrypted", archive, name)
    if info.compress_type not in _METHODS:
        raise _refused("is compressed by an unsupported method", archive, name, got=info.compress_type)


def _folded(name: str) -> str:
    """What file systems that ignore case, or how an accent is written, make of a name."""
    return unicodedata.normalize("NFC", name).casefold()


def _too_large(archive: Path, member: str, limits: Limits, got: int) -> InputError:
    expected = f"at most {limits.total_bytes} bytes in all"
    return _refused("makes it too large", archive, member, expected=expected, got=f"{got} bytes")


def _check_room(needed: int, folder: Path) -> None:
    above = next(parent for parent in folder.parents if parent.exists())
    free = shutil.disk_usage(above).free
    if needed > free:
        raise ResourceError(
            "the disk has no room to unpack a ZIP archive",
            expected=f"{needed} bytes",
            got=f"{free} bytes",
            path=folder,
            remedy="Free some space, or keep the cache on another disk (--cache).",
        )


class _Unpacking:
    """Writes the members one after the other, and counts what really comes out."""

    def __init__(self, opened: zipfile.ZipFile, archive: Path, limits: Limits, tick: Tick) -> None:
        self._opened, self._archive, self._limits, self._tick = opened, archive, limits, tick
        self._packed = archive.stat().st_size
        self._total = sum(info.file_size for info in opened.infolist())
        self._written = 0

    def into(self, folder: Path) -> int:
        for info in self._opened.infolist():
            target = folder / info.filename
            if info.is_dir():
                target.mkdir(parents=True, exist_ok=True)
                continue
            target.parent.mkdir(parents=True, exist_ok=True)
            with target.open("xb") as out:
                self._copy(info, out)
        return self._written

    def _copy(self, info: zipfile.ZipInfo, out: BinaryIO) -> None:
        size = 0
        for part in self._parts(info):
            size += len(part)
            self._written += len(part)
            self._check(info, size)
            out.write(part)
            self._tick(self._written, self._total)

    def _parts(self, info: zipfile.ZipInfo) -> Iterator[bytes]:
        try:
            with self._opened.open(info) as stream:
                while part := stream.read(_CHUNK):
                    yield part
        except Exception as error:
            raise _damaged(self._archive, error, info.filename) from error

    def _check(self, info: zipfile.ZipInfo, size: int) -> None:
        limits = self._limits
        if self._written > limits.total_bytes:
            raise _too_large(self._archive, info.filename, limits, self._written)
        for unpacked, packed in ((size, min(info.compress_size, self._packed)), (self._written, self._packed)):
            if unpacked > max(limits.unrated_bytes, limits.ratio * packed):
                raise _refused(
                    "unpacks like a decompression bomb",
                    self._archive,
                    info.filename,
                    expected=f"at most {limits.ratio} times the packed size",
                    got=f"{unpacked} bytes from {packed}",
                )
