"""An index of DICOM headers on disk: one SQLite file a tree, so that a scan can stop, go on, and be asked again.

Rows are streamed in and out; no more than one series is in memory. The index is a cache: one that is damaged, of
another version or of another tree is made anew.
"""

from __future__ import annotations

import os
import sqlite3
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from delineate.errors import InputError, ResourceError
from delineate.formats.dicom.files import FoundFile
from delineate.formats.dicom.records import Record, State, schema, storable, unpack
from delineate.formats.dicom.slices import Instance

APPLICATION_ID = 0x44454C49
_MAGIC, _ID_PLACE = b"SQLite format 3\0", slice(68, 72)
_BATCH = 1000
_COMMIT_SECONDS = 1.0
_WAIT_SECONDS = 2.0
_CACHE_KIB = 16 * 1024

_TABLES = """
CREATE TABLE about (key TEXT PRIMARY KEY, value BLOB NOT NULL);
CREATE TABLE files (
    path BLOB PRIMARY KEY, archive BLOB, size INTEGER NOT NULL, mtime_ns INTEGER NOT NULL,
    state TEXT NOT NULL, note TEXT NOT NULL,
    patient TEXT, study TEXT, study_date TEXT, number INTEGER, series TEXT, modality TEXT, data BLOB
);
CREATE INDEX by_series ON files (study, series, patient, study_date, number, modality) WHERE data IS NOT NULL;
"""
_SERIES = """
WITH each_series AS (
    SELECT study, series, MIN(patient) AS least, MAX(patient) AS greatest, MIN(NULLIF(study_date, '')) AS date,
        MIN(number) AS number, COUNT(*) AS files, GROUP_CONCAT(DISTINCT modality) AS modalities
    FROM files WHERE data IS NOT NULL GROUP BY study, series
)
SELECT study, series, least, greatest, COALESCE(date, ''), files, modalities FROM each_series
ORDER BY least, MIN(date) OVER (PARTITION BY least, study), study, number IS NULL, number, series
"""
_CHANGED = """
CREATE TEMP TABLE changed AS SELECT found.path, found.archive, found.size, found.mtime_ns
FROM found LEFT JOIN files USING (path)
WHERE files.path IS NULL OR files.size != found.size OR files.mtime_ns != found.mtime_ns
ORDER BY found.path
"""


class DamagedIndex(ResourceError):
    """An index that cannot be used any more; a scan makes it anew."""


@dataclass(frozen=True, slots=True)
class SeriesKey:
    """One series of the tree.

    `series`: its UID, or the folder of files that give none, which would be one series of unrelated files else.
    `patients`: the least and the greatest patient ID of its files; they differ in a mix-up only.
    """

    study: str
    series: str
    patients: tuple[str, str]
    study_date: str
    files: int
    modalities: frozenset[str]


@dataclass(frozen=True, slots=True)
class Unreadable:
    """A file that could not be read, and why. `in_series`: whether it still says which series it belongs to."""

    path: Path
    reason: str
    in_series: bool


class IndexWriter:
    """An index while a tree is scanned: what is there is noted, what is gone is forgotten, what is new is stored.

    Use `open_index`, which closes it.
    """

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection
        self._committed = time.monotonic()
        connection.execute(
            "CREATE TEMP TABLE found (path BLOB PRIMARY KEY, archive BLOB, size INTEGER, mtime_ns INTEGER)"
        )
        # What failed may have been repaired, by a change of rights for one, without leaving a trace in the file.
        connection.execute("DELETE FROM files WHERE state = ?", (State.UNREADABLE.value,))

    def note(self, files: Iterable[FoundFile], *, archive: Path | None = None) -> None:
        """These files are in the tree, or came out of an archive."""
        rows = ((_blob(f.path), _blob(archive), f.size, f.mtime_ns) for f in files)
        self._connection.executemany("INSERT OR IGNORE INTO found VALUES (?, ?, ?, ?)", rows)

    def known(self, found: FoundFile) -> str | None:
        """The note of a file that has not changed since it was stored, else None."""
        row = self._connection.execute(
            "SELECT note FROM files WHERE path = ? AND size = ? AND mtime_ns = ?",
            (_blob(found.path), found.size, found.mtime_ns),
        ).fetchone()
        return None if row is None else str(row[0])

    def settle(self, found: FoundFile, record: Record) -> None:
        """Note a file and store what it is, without its being read."""
        self.note([found])
        self._insert([record], [(None, found.size, found.mtime_ns)])

    def forget_missing(self) -> int:
        """Forget files that were not noted; how many files are to be read, new or changed."""
        self._connection.execute("DELETE FROM files WHERE path NOT IN (SELECT path FROM found)")
        self._connection.execute(_CHANGED)
        self._connection.commit()
        return int(self._connection.execute("SELECT COUNT(*) FROM changed").fetchone()[0])

    def changed(self) -> Iterator[Path]:
        """The files that are to be read."""
        last = 0
        while rows := self._connection.execute(
            "SELECT rowid, path FROM changed WHERE rowid > ? ORDER BY rowid LIMIT ?", (last, _BATCH)
        ).fetchall():
            last = rows[-1][0]
            yield from (_path(row[1]) for row in rows)

    def store(self, records: Sequence[Record], *, after: int) -> None:
        """Records of the changed files, in their order; `after`: how many were stored before."""
        facts = self._connection.execute(
            "SELECT archive, size, mtime_ns FROM changed WHERE rowid > ? ORDER BY rowid LIMIT ?", (after, len(records))
        ).fetchall()
        self._insert(records, facts)
        if time.monotonic() - self._committed > _COMMIT_SECONDS:
            self._connection.commit()
            self._committed = time.monotonic()

    def _insert(self, records: Sequence[Record], places: Sequence[tuple[bytes | None, int, int]]) -> None:
        rows = (_row(record, place) for record, place in zip(records, places, strict=True))
        self._connection.executemany(f"INSERT OR REPLACE INTO files VALUES ({', '.join('?' * 13)})", rows)


class Index:
    """What an index holds. Every question opens the file for itself, so that nobody waits for a reader."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def series(self) -> tuple[SeriesKey, ...]:
        """All series, by patient, study date, study, number."""
        return tuple(
            SeriesKey(study, series, (least, greatest), date, count, frozenset(modalities.split(",")))
            for study, series, least, greatest, date, count, modalities in self._ask(_SERIES)
        )

    def instances(self, key: SeriesKey) -> tuple[Instance, ...]:
        """The files of a series, in order of their paths."""
        rows = self._ask(
            "SELECT path, data FROM files WHERE data IS NOT NULL AND study = ? AND series = ? ORDER BY path",
            key.study,
            key.series,
        )
        return tuple(self._instance(path, data, key) for path, data in rows)

    def count(self) -> dict[State, int]:
        """How many files there are of each state."""
        return {State(state): n for state, n in self._ask("SELECT state, COUNT(*) FROM files GROUP BY state")}

    def kinds(self) -> tuple[tuple[str, int], ...]:
        """Files that are no DICOM, counted by kind, the most frequent first."""
        return tuple(
            self._ask(
                "SELECT note, COUNT(*) FROM files WHERE state = ? GROUP BY note ORDER BY COUNT(*) DESC, note",
                State.OTHER.value,
            )
        )

    def unreadable(self) -> tuple[Unreadable, ...]:
        """Files that could not be read, in order of their paths."""
        rows = self._ask(
            "SELECT path, note, data IS NOT NULL FROM files WHERE state = ? ORDER BY path", State.UNREADABLE.value
        )
        return tuple(Unreadable(_path(path), note, bool(in_series)) for path, note, in_series in rows)

    def archives(self) -> tuple[Path, ...]:
        """The archives that were unpacked."""
        rows = self._ask("SELECT path FROM files WHERE state = ? ORDER BY path", State.ARCHIVE.value)
        return tuple(_path(row[0]) for row in rows)

    def others(self, *kinds: str, archived: bool = False) -> tuple[Path, ...]:
        """Files of one of `kinds` that are no DICOM; with `archived` only those that came out of an archive."""
        marks = ", ".join("?" * len(kinds))
        question = f"SELECT path FROM files WHERE state = ? AND note IN ({marks}) AND (archive IS NOT NULL OR NOT ?)"
        rows = self._ask(f"{question} ORDER BY path", State.OTHER.value, *kinds, archived)
        return tuple(_path(row[0]) for row in rows)

    def _instance(self, path: bytes, data: bytes, key: SeriesKey) -> Instance:
        try:
            instance = unpack(data)
        except ValueError as error:
            raise DamagedIndex("the index is damaged", got=str(error), path=self.path) from error
        if instance.path != _path(path) or _series_of(instance.path, instance) != (key.study, key.series):
            raise DamagedIndex("the index is damaged", got=f"another file's record at {instance.path}", path=self.path)
        return instance

    def _ask(self, question: str, *values: Any) -> list[Any]:
        with (
            _explained(self.path),
            closing(sqlite3.connect(f"{self.path.absolute().as_uri()}?mode=ro", uri=True)) as db,
        ):
            return db.execute(question, values).fetchall()


def _series_of(path: Path, instance: Instance) -> tuple[str, str]:
    facts = instance.facts
    return storable(facts.study_uid), storable(facts.series_uid or str(path.parent))


@contextmanager
def open_index(path: Path, tree: Path, *, replace_any: bool = False) -> Iterator[IndexWriter]:
    """The index of a tree at `path`, to be brought up to date; made where there is none, or none of use.

    Another scan of it has to wait its turn. `replace_any`: whether a file that is no index of this program may be
    replaced; else it raises `InputError`. Raises `ResourceError` where the index cannot be written, or is in use.
    """
    if not _is_index(path):
        with _writable(path):
            occupied = path.exists() and path.stat().st_size > 0
        if occupied and not replace_any:
            raise InputError("not an index of scans", path=path, remedy="Name another file (--index), or remove this.")
        remove_index(path)
    with _explained(path):
        if not _is_current(path, tree):
            remove_index(path)
            _create(path, tree)
        with closing(_connect(path)) as connection:
            try:
                yield IndexWriter(connection)
            finally:
                connection.commit()


def remove_index(path: Path) -> None:
    """Remove an index and what SQLite keeps beside it. Raises `ResourceError` where that cannot be."""
    with _writable(path):
        for suffix in ("", "-journal", "-wal", "-shm"):
            path.with_name(path.name + suffix).unlink(missing_ok=True)


def _is_index(path: Path) -> bool:
    try:
        with path.open("rb") as stream:
            start = stream.read(100)
    except OSError:
        return False
    return start.startswith(_MAGIC) and start[_ID_PLACE] == APPLICATION_ID.to_bytes(4, "big")


def _is_current(path: Path, tree: Path) -> bool:
    if not _is_index(path):
        return False
    try:
        with closing(_connect(path)) as connection:
            about = dict(connection.execute("SELECT key, value FROM about").fetchall())
            sound = connection.execute("PRAGMA quick_check(1)").fetchone()[0] == "ok"
    except sqlite3.OperationalError as error:
        if _is_busy(error):
            raise
        return False
    except sqlite3.DatabaseError:
        return False
    return sound and about == _about(tree)


def _about(tree: Path) -> dict[str, bytes]:
    return {"version": f"{version('delineate')} {schema()}".encode(), "tree": os.fsencode(tree)}


def _create(path: Path, tree: Path) -> None:
    with _writable(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        # It names patients: for its owner only.
        path.touch(mode=0o600)
    with closing(_connect(path)) as connection:
        connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
        connection.executescript(_TABLES)
        connection.executemany("INSERT INTO about VALUES (?, ?)", _about(tree).items())
        connection.commit()


@contextmanager
def _writable(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise ResourceError(
            "the index cannot be written", got=error.strerror, path=path, remedy="Name another place for it (--cache)."
        ) from error


def _connect(path: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(path, timeout=_WAIT_SECONDS)
    # One scan at a time: two would forget each other's files.
    connection.execute("PRAGMA locking_mode = EXCLUSIVE")
    connection.execute("PRAGMA synchronous = NORMAL")
    connection.execute(f"PRAGMA cache_size = -{_CACHE_KIB}")
    return connection


@contextmanager
def _explained(path: Path) -> Iterator[None]:
    try:
        yield
    except sqlite3.OperationalError as error:
        if _is_busy(error):
            raise ResourceError("the index is in use by another scan", path=path, remedy="Wait for it.") from error
        if "malformed" in str(error) or "no such" in str(error):
            raise DamagedIndex("the index is damaged", got=str(error), path=path) from error
        raise ResourceError(
            "the index cannot be used", got=str(error), path=path, remedy="Name another place for it (--cache)."
        ) from error
    except sqlite3.DatabaseError as error:
        raise DamagedIndex("the index is damaged", got=str(error), path=path) from error


def _is_busy(error: sqlite3.OperationalError) -> bool:
    return getattr(error, "sqlite_errorcode", None) in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED)


def _row(record: Record, place: tuple[bytes | None, int, int]) -> tuple[Any, ...]:
    about: tuple[Any, ...] = (None,) * 6
    if record.facts is not None:
        facts = record.facts
        series = facts.series_uid or storable(str(record.path.parent))
        about = (facts.patient_id, facts.study_uid, facts.study_date, facts.number, series, facts.modality)
    archive, size, mtime_ns = place
    identity = (_blob(record.path), archive, size, mtime_ns, record.state.value, record.note)
    return (*identity, *about, record.data or None)


def _blob(path: Path | None) -> bytes | None:
    return None if path is None else os.fsencode(path)


def _path(data: bytes) -> Path:
    return Path(os.fsdecode(data))
