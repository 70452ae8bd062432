"""What an index keeps of a file, made by many processes: `Record`, an `Instance` packed, or why there is none.

Headers are parsed in spawned processes, since parsing holds the interpreter's lock. A process that dies (a decoder's
crash, memory) is noticed: what it had in hand is read again file by file, and the file that ends a process by itself is
listed as unreadable.
"""

from __future__ import annotations

import os
import signal
import zlib
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, replace
from enum import Enum
from functools import cache
from itertools import islice
from multiprocessing import get_context
from pathlib import Path
from typing import TYPE_CHECKING, Any

from delineate.errors import DelineateError, ResourceError, UnreadableImage
from delineate.formats.dicom.files import is_dicomdir
from delineate.formats.dicom.headers import is_dicom, quiet
from delineate.formats.dicom.instances import read_instance
from delineate.formats.dicom.slices import Instance, SeriesFacts

if TYPE_CHECKING:
    import msgspec

_CHUNK = 64  # files a process gets at once: 40 ms of work
_AHEAD = 3  # chunks a process has waiting
_DICOM_SUFFIXES = (".dcm", ".dicom", ".ima")
_LONGEST_SUFFIX = 8
_LARGEST_WHOLE = 2**63 - 1


class State(Enum):
    """What a file is. UNREADABLE: DICOM by its marker or name, or not to be opened; it may be a slice."""

    DICOM = "dicom"
    OTHER = "other"
    UNREADABLE = "unreadable"
    ARCHIVE = "archive"


@dataclass(frozen=True, slots=True)
class Record:
    """A file as the index keeps it. `note`: what kind of other file it is, or why it cannot be read.

    `data` is the packed `Instance`, b"" where there is none. An unreadable file whose series is still known has one: it
    holds no slices, and so refuses its series.
    """

    path: Path
    state: State
    note: str = ""
    facts: SeriesFacts | None = None
    data: bytes = b""


def read_record(path: Path, reader: Callable[[Path], Instance] = read_instance) -> Record:
    """The record of a regular file; never raises for what is in the file."""
    try:
        if is_dicomdir(path) or not is_dicom(path):
            return _other(path)
        instance = reader(path)
        return Record(path, State.DICOM, facts=_storable(instance.facts), data=pack(instance))
    except DelineateError as error:
        return _unreadable(path, f"{error.problem}{'' if error.got is None else f': {error.got}'}")
    except OSError as error:
        return _unreadable(path, error.strerror or str(error))
    # One file, however odd, must not end the scan of a hundred thousand.
    except Exception as error:
        return _unreadable(path, f"{type(error).__name__}: {str(error)[:200]}")


def _other(path: Path) -> Record:
    if path.suffix.lower() in _DICOM_SUFFIXES:
        what = "is not DICOM" if path.stat().st_size else "is empty"
        return Record(path, State.UNREADABLE, f"named like a DICOM file, but {what}")
    return Record(path, State.OTHER, kind_of(path))


def kind_of(path: Path) -> str:
    """A file's kind by its name, to be counted: ".txt", ".nii.gz", "DICOMDIR", "without suffix"."""
    if is_dicomdir(path):
        return "DICOMDIR"
    suffix = path.suffix.lower()
    if suffix == ".gz":
        suffix = "".join(path.suffixes[-2:]).lower()
    plain = suffix.isascii() and suffix.isprintable() and not suffix[1:].isdigit()
    return suffix if suffix and plain and len(suffix) <= _LONGEST_SUFFIX else "without suffix"


def _unreadable(path: Path, reason: str) -> Record:
    facts = _facts_of_broken(path)
    if facts is None:
        return Record(path, State.UNREADABLE, storable(reason))
    problem = UnreadableImage("a file of the series cannot be read", got=reason, path=path)
    instance = Instance(path, facts, "", (), storable(str(problem)))
    return Record(path, State.UNREADABLE, storable(reason), _storable(facts), pack(instance))


def _facts_of_broken(path: Path) -> SeriesFacts | None:
    """The series that a damaged file says it belongs to, if that much of it can be read."""
    import pydicom

    keywords = ("PatientID", "StudyInstanceUID", "StudyDate", "SeriesInstanceUID", "Modality", "SOPClassUID")
    try:
        with quiet():
            dataset = pydicom.dcmread(path, stop_before_pixels=True, specific_tags=list(keywords), force=True)
            patient, study, date, series, modality, kind = (str(dataset.get(name) or "").strip() for name in keywords)
    except Exception:
        return None
    if not series:
        return None
    return SeriesFacts(patient, study, date, series, None, modality, "", "", kind)


def storable(text: str) -> str:
    """The text with what UTF-8 cannot hold (names of files that are no text) written as escapes."""
    return os.fsencode(text).decode("utf-8", "backslashreplace")


def _storable(facts: SeriesFacts) -> SeriesFacts:
    texts = {
        name: storable(getattr(facts, name))
        for name in ("patient_id", "study_uid", "study_date", "series_uid", "modality")
    }
    number = facts.number if facts.number is not None and abs(facts.number) <= _LARGEST_WHOLE else None
    return replace(facts, number=number, **texts)


def pack(instance: Instance) -> bytes:
    """MessagePack after a checksum, so that a damaged index is noticed and not believed."""
    if instance.problem is not None:
        instance = replace(instance, problem=storable(instance.problem))
    data = _encoder().encode(instance)
    return zlib.crc32(data).to_bytes(4, "little") + data


def unpack(data: bytes) -> Instance:
    """The instance that was packed. Raises `ValueError` for data that were changed."""
    if zlib.crc32(memoryview(data)[4:]).to_bytes(4, "little") != data[:4]:
        raise ValueError("a record's checksum is wrong")
    instance: Instance = _decoder().decode(memoryview(data)[4:])
    return instance


def schema() -> str:
    """What the packed form depends on; records of another schema cannot be unpacked."""
    import msgspec

    digest = zlib.crc32(
        msgspec.json.encode(msgspec.json.schema(Instance, schema_hook=lambda kind: {"type": kind.__name__}))
    )
    return f"{digest:08x}"


@cache
def _encoder() -> msgspec.msgpack.Encoder:
    import msgspec

    return msgspec.msgpack.Encoder(enc_hook=os.fsencode)


@cache
def _decoder() -> msgspec.msgpack.Decoder[Instance]:
    import msgspec

    return msgspec.msgpack.Decoder(Instance, dec_hook=_path)


def _path(kind: type, value: Any) -> Path:
    return Path(os.fsdecode(value))


def read_records(
    paths: Iterable[Path], *, processes: int, read: Callable[[Path], Record] = read_record
) -> Generator[list[Record]]:
    """The records of files, in their order, some at a time; `read` must be a module's function.

    With one process, in this one. Closing the iterator ends the processes. Raises `ResourceError` where no process can
    be started.
    """
    chunks = _chunks(iter(paths))
    if processes <= 1:
        yield from ([read(path) for path in chunk] for chunk in chunks)
        return
    lost: Sequence[list[Path]] = ()
    while True:
        lost = yield from _until_broken(chunks, processes, read)
        if not lost:
            return
        yield from _one_by_one([path for chunk in lost for path in chunk], read)


def _chunks(paths: Iterator[Path]) -> Iterator[list[Path]]:
    while chunk := list(islice(paths, _CHUNK)):
        yield chunk


def _pool(processes: int) -> ProcessPoolExecutor:
    # Spawned: a fork of a process with threads may deadlock. Ctrl-C is for the process that waits for them.
    return ProcessPoolExecutor(
        processes, get_context("spawn"), initializer=signal.signal, initargs=(signal.SIGINT, signal.SIG_IGN)
    )


def _until_broken(
    chunks: Iterator[list[Path]], processes: int, read: Callable[[Path], Record]
) -> Generator[list[Record], None, list[list[Path]]]:
    """Records as they come; at the end, the chunks that were in hand when a process died."""
    waiting: deque[tuple[list[Path], Future[list[Record]]]] = deque()
    pool = _pool(processes)
    try:
        while True:
            while len(waiting) < _AHEAD * processes and (chunk := next(chunks, None)) is not None:
                # Kept before it is submitted: a pool that broke meanwhile refuses it.
                waiting.append((chunk, Future()))
                waiting[-1] = (chunk, pool.submit(_read_all, chunk, read))
            if not waiting:
                return []
            records = waiting[0][1].result()
            waiting.popleft()
            yield records
    except BrokenProcessPool:
        return [chunk for chunk, _ in waiting]
    finally:
        pool.shutdown(cancel_futures=True)


def _read_all(paths: Sequence[Path], read: Callable[[Path], Record]) -> list[Record]:
    return [read(path) for path in paths]


def _one_by_one(paths: Sequence[Path], read: Callable[[Path], Record]) -> Iterator[list[Record]]:
    """Each file in a process that may die of it; which file it was is known then."""
    done = 0
    while done < len(paths):
        with _pool(1) as pool:
            _check_alive(pool)
            try:
                for path in paths[done:]:
                    record = pool.submit(read, path).result()
                    done += 1
                    yield [record]
            except BrokenProcessPool:
                reason = "reading it ended the process: damaged, or too large for the memory"
                done += 1
                yield [Record(paths[done - 1], State.UNREADABLE, reason)]


def _check_alive(pool: ProcessPoolExecutor) -> None:
    try:
        pool.submit(os.getpid).result()
    except BrokenProcessPool as error:
        raise ResourceError(
            "the processes that read headers cannot be started",
            remedy='Use one thread (--threads 1); a script of your own needs its if __name__ == "__main__".',
        ) from error
