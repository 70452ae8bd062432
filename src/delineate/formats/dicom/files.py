"""Which files there are in a tree, or in a DICOMDIR (PS3.10 8, PS3.3 F): found, not opened, and nothing left unsaid.

Pipes, sockets and devices are never opened, since that may wait for ever; links to folders are not followed.
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from delineate.errors import InputError, UnreadableImage
from delineate.formats.dicom.headers import first_value, is_multi, quiet

if TYPE_CHECKING:
    from pydicom import Dataset

_VERSION = re.compile(r"\.?;\d+$")  # ISO 9660 writes "IM1.;1"
_INACTIVE = 0
_SPECIAL = {stat.S_IFIFO: "pipe", stat.S_IFSOCK: "socket", stat.S_IFCHR: "device", stat.S_IFBLK: "device"}


@dataclass(frozen=True, slots=True)
class FoundFile:
    """A file and its state. `kind` says why it is not to be opened ("pipe", "link to nothing"), "" where it is."""

    path: Path
    size: int = 0
    mtime_ns: int = 0
    kind: str = ""


@dataclass(frozen=True, slots=True)
class ClosedFolder:
    """A folder that could not be listed, and why."""

    path: Path
    reason: str


@dataclass(frozen=True, slots=True)
class FileSet:
    """What a DICOMDIR lists: `files` that are there, and the file ids of those that are not, or lie outside."""

    files: tuple[Path, ...]
    missing: tuple[str, ...]


def walk(folder: Path, *, apart: Collection[Path] = ()) -> Iterator[FoundFile | ClosedFolder]:
    """Every file in a folder and all folders below, in order of names; `apart` (files or folders) is passed over.

    A file that vanishes meanwhile is left out.
    """
    waiting = [folder]
    while waiting:
        here = waiting.pop()
        try:
            with os.scandir(here) as listing:
                entries = sorted(listing, key=lambda entry: entry.name)
        except OSError as error:
            yield ClosedFolder(here, error.strerror or str(error))
            continue
        below = []
        for entry in entries:
            path = Path(entry.path)
            if path in apart:
                continue
            if _is_folder(entry):
                below.append(path)
                continue
            found = look_at(path)
            if found is not None:
                yield found
        waiting.extend(reversed(below))


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir(follow_symlinks=False)
    except OSError:
        return False


def look_at(path: Path) -> FoundFile | None:
    """The state of one file, through a link; None if there is none."""
    try:
        status = path.stat()
    except PermissionError:
        # Nothing here can be opened either; whoever tries will say so.
        return FoundFile(path)
    except OSError:
        return FoundFile(path, kind="link to nothing") if path.is_symlink() else None
    if stat.S_ISREG(status.st_mode):
        return FoundFile(path, status.st_size, status.st_mtime_ns)
    if stat.S_ISDIR(status.st_mode):
        return FoundFile(path, kind="link to a folder")
    return FoundFile(path, kind=_SPECIAL.get(stat.S_IFMT(status.st_mode), "no regular file"))


def is_dicomdir(path: Path) -> bool:
    return path.name.upper() == "DICOMDIR"


def read_dicomdir(path: Path) -> FileSet:
    """The files that a DICOMDIR's active records refer to, looked for in its own folder only (PS3.10 8.5).

    Discs and copies of them change names: upper and lower case are taken for equal, and so are names with a version
    ("IM1;1"). Raises `UnreadableImage` for a file that is no DICOMDIR.
    """
    ids = _file_ids(path)
    folder = path.parent.resolve()
    listings: dict[Path, dict[str, str]] = {}
    files: dict[Path, None] = {}
    missing = []
    for components in ids:
        found = _resolve(folder, components, listings)
        if found is None:
            missing.append("/".join(components))
        else:
            files[found] = None
    return FileSet(tuple(files), tuple(dict.fromkeys(missing)))


def _file_ids(path: Path) -> list[tuple[str, ...]]:
    import pydicom
    from pydicom.dataelem import RawDataElement

    try:
        with quiet():
            dataset = pydicom.dcmread(path, specific_tags=["DirectoryRecordSequence"])
            element: Any = dataset.get_item("DirectoryRecordSequence")
            # pydicom takes the end of the file for the end of the list; a list cut off would be files passed over.
            if element is None or (isinstance(element, RawDataElement) and len(element.value or b"") != element.length):
                raise EOFError("its list of records is missing or cut off")
            records = dataset["DirectoryRecordSequence"].value
            return [components for record in records if (components := _components(record))]
    # Damage ends in almost any exception inside pydicom.
    except Exception as error:
        raise UnreadableImage(
            "not a readable DICOMDIR",
            got=str(error)[:200] or type(error).__name__,
            path=path,
            remedy="Scan its folder instead.",
        ) from error


def _components(record: Dataset) -> tuple[str, ...]:
    value = first_value(record, "ReferencedFileID")
    if value is None or first_value(record, "RecordInUseFlag") == _INACTIVE:
        return ()
    return tuple(str(part) for part in value) if is_multi(value) else (str(value),)


def _resolve(folder: Path, components: tuple[str, ...], listings: dict[Path, dict[str, str]]) -> Path | None:
    """The regular file of these names below the folder, or None."""
    here = folder
    for component in components:
        if here not in listings:
            listings[here] = _names_in(here)
        name = listings[here].get(_plain_name(component))
        # Only names that the folder itself lists are followed, so ".." leads nowhere.
        if name is None:
            return None
        here = here / name
    inside = here.resolve().is_relative_to(folder)
    return here if inside and here.is_file() else None


def _names_in(folder: Path) -> dict[str, str]:
    try:
        names = sorted(os.listdir(folder))  # noqa: PTH208 - names, not paths
    except OSError:
        return {}
    # The first of names that differ in case only.
    return {_plain_name(name): name for name in reversed(names)}


def _plain_name(name: str) -> str:
    return _VERSION.sub("", name.strip()).upper()


def files_at(tree: Path, *, apart: Collection[Path] = ()) -> Iterator[FoundFile | ClosedFolder]:
    """What there is at a path: a folder's files, a DICOMDIR and the files it lists, or one file.

    Raises `InputError` if there is nothing, or nothing that can be opened; what `read_dicomdir` raises.
    """
    if tree.is_dir():
        yield from walk(tree, apart=apart)
        return
    found = look_at(tree)
    if found is None or found.kind:
        raise InputError("there is no such file or folder" if found is None else f"a {found.kind}", path=tree)
    yield found
    if is_dicomdir(tree):
        for path in read_dicomdir(tree).files:
            listed = look_at(path)
            if listed is not None:
                yield listed
