"""`delineate scan`: the headers of a tree of any size into its index, and what would become of each file."""

from __future__ import annotations

import re
import shutil
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from delineate.errors import InputError
from delineate.formats import Repair
from delineate.formats.archives import extract, is_zip
from delineate.formats.dicom.files import ClosedFolder, FoundFile, files_at, walk
from delineate.formats.dicom.index import DamagedIndex, IndexWriter, open_index, remove_index
from delineate.formats.dicom.records import Record, State, read_records, storable
from delineate.settings import Settings
from delineate.workflow.progress import StopRequest, Watch, nobody, stop_on_signals
from delineate.workflow.scan_reports import ScanReport, digest, make_report, reason_of, unpacked_folder

_WORTH_PROCESSES = 400  # files; starting Python again costs as much as reading these
_TELL_EVERY = 500
_UNPACKED = re.compile(r"[0-9a-f]{24}|\.[0-9a-f]{8}\.[0-9a-f-]+\.partial\.[0-9a-f]{24}(\.old)?")


def scan(
    tree: Path,
    *,
    settings: Settings,
    index: Path | None = None,
    repair: Repair = Repair.STRAIGHTEN,
    watch: Watch = nobody,
) -> ScanReport:
    """What is in a folder, a file, a DICOMDIR or a ZIP archive, ZIP archives below a folder included.

    Headers are read in `settings.threads` processes and kept in `index` (by default in the cache, by the tree's path):
    a scan that was stopped goes on, and a later one reads only files whose size or time has changed. Archives are
    unpacked beside the index. Nothing in the tree is changed.
    Raises `InputError` where there is nothing, or `index` is another kind of file; `ResourceError` where the index
    cannot be written or is in use, or the disk is full.
    """
    try:
        tree.stat()
    except OSError as error:
        raise InputError("nothing to scan", got=error.strerror, path=tree) from error
    tree = tree.resolve()
    place = (index or default_index(tree, settings)).resolve()
    with stop_on_signals() as stop:
        work = _Scan(tree, place, settings.threads, _Progress(watch, stop))
        try:
            try:
                return work.run(repair, replace_any=index is None)
            except DamagedIndex:
                remove_index(place)
                return work.run(repair, replace_any=index is None)
        except _Stopped:
            return ScanReport(tree, place, repair, stopped=True)


def default_index(tree: Path, settings: Settings) -> Path:
    """Where a tree's index is kept unless told otherwise: in the cache, by its path."""
    name = re.sub(r"[^\w.-]+", "_", storable(tree.name))[:60] or "root"
    return settings.cache / "scans" / f"{name}-{digest(tree)[:12]}.sqlite"


class _Stopped(Exception):
    """Somebody asked to stop; what was read is kept."""


@dataclass(frozen=True, slots=True)
class _Progress:
    watch: Watch
    stop: StopRequest

    def __call__(self, stage: str, done: float, total: float, note: str = "") -> None:
        self.watch(stage, done, total, note)
        if self.stop.asked:
            raise _Stopped


@dataclass(frozen=True, slots=True)
class _Scan:
    """The stages of a scan of one tree."""

    tree: Path
    index: Path
    threads: int
    tell: _Progress

    def run(self, repair: Repair, *, replace_any: bool) -> ScanReport:
        closed = self.read(replace_any=replace_any)
        tell = self.tell
        return make_report(
            self.tree, self.index, repair, closed=closed, tell=lambda done, total: tell("Sorting out", done, total)
        )

    def read(self, *, replace_any: bool) -> list[ClosedFolder]:
        """Bring the index up to date; folders that could not be listed."""
        with open_index(self.index, self.tree, replace_any=replace_any) as writer:
            closed, archives = self._look(writer)
            for n, found in enumerate(archives):
                self._unpack(writer, found, share=(n, len(archives)))
            self._remove_others(archives)
            total = writer.forget_missing()
            done = 0
            processes = self.threads if total >= _WORTH_PROCESSES else 1
            with closing(read_records(writer.changed(), processes=processes)) as reading:
                for records in reading:
                    writer.store(records, after=done)
                    done += len(records)
                    self.tell("Reading headers", done, total)
        return closed

    def _look(self, writer: IndexWriter) -> tuple[list[ClosedFolder], list[FoundFile]]:
        closed: list[ClosedFolder] = []
        archives: list[FoundFile] = []
        count = 0
        for count, found in enumerate(files_at(self.tree, apart=self._own_files()), start=1):
            if isinstance(found, ClosedFolder):
                closed.append(found)
            elif found.kind:
                writer.settle(found, Record(found.path, State.OTHER, found.kind))
            elif found.path.suffix.lower() == ".zip" or (found.path == self.tree and is_zip(found.path)):
                archives.append(found)
            else:
                writer.note([found])
            if count % _TELL_EVERY == 0:
                self.tell("Finding files", count, count + 1)
        self.tell("Finding files", count, count)
        return closed, archives

    def _own_files(self) -> set[Path]:
        names = (self.index.name, f"{self.index.name}-journal", unpacked_folder(self.index).name)
        return {self.index.with_name(name) for name in names}

    def _unpack(self, writer: IndexWriter, found: FoundFile, *, share: tuple[int, int]) -> None:
        before, count = share

        def tick(done: int, total: int) -> None:
            self.tell("Unpacking", before + 0.99 * done / max(1, total), count, found.path.name)

        folder = unpacked_folder(self.index) / digest(found.path)
        known = writer.known(found)
        try:
            if known is None or known != _contents(folder):
                unpacked_folder(self.index).mkdir(mode=0o700, parents=True, exist_ok=True)
                extract(found.path, folder, tick=tick)
            writer.settle(found, Record(found.path, State.ARCHIVE, _contents(folder)))
            writer.note((f for f in walk(folder) if isinstance(f, FoundFile)), archive=found.path)
        except InputError as error:
            writer.settle(found, Record(found.path, State.UNREADABLE, reason_of(error)))
        self.tell("Unpacking", before + 1, count, found.path.name)

    def _remove_others(self, archives: Sequence[FoundFile]) -> None:
        """Unpacked archives that are no longer in the tree, and what a killed scan left."""
        kept = {digest(found.path) for found in archives}
        if unpacked_folder(self.index).is_dir():
            for folder in unpacked_folder(self.index).iterdir():
                if folder.name not in kept and _UNPACKED.fullmatch(folder.name):
                    shutil.rmtree(folder, ignore_errors=True)


def _contents(folder: Path) -> str:
    """How many files and bytes are in a folder: whether an unpacked archive is still whole."""
    count = size = 0
    for found in walk(folder):
        if isinstance(found, FoundFile):
            count, size = count + 1, size + found.size
    return f"{count} files, {size} bytes" if folder.is_dir() else ""
