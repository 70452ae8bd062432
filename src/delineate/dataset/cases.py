"""Case and Dataset, and the digest that says whether two datasets are the same."""

from __future__ import annotations

import hashlib
import json
import re
import time
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from delineate.errors import DatasetError
from delineate.labels import LabelSet
from delineate.volume import Kind

_KINDS = (
    (Kind.CT, re.compile(r"(?<![a-z])(ct|cta|cect|ncct|cbct|hu)(?![a-z])")),
    (Kind.PET, re.compile(r"(?<![a-z])(pet|pt|suv)(?![a-z])")),
    (Kind.MR, re.compile(r"(?<![a-z])(mri?|t1\w*|t2\w*|pd|flair|dwi|adc|swi|dce|dixon)(?![a-z])")),
)

_SETTLED_NS = 3 * 10**9


@dataclass(frozen=True, slots=True)
class Case:
    """One scan, or several of one visit on one grid, with its reference where there is one.

    `images`: one path a channel, or a single path that holds all channels; a path is a file, or a folder
    of DICOM slices. `reference`: the segmentation by people. Cases with one `patient_id` never lie on two
    sides of a split. `groups`: further (name, value) pairs by which scores are broken down.
    `absent`: channels (from 0) that were not recorded: `images` are those of the others. `others`: references by
    further readers, in the readers' order.
    """

    id: str
    patient_id: str
    images: tuple[Path, ...]
    reference: Path | None
    site: str | None = None
    groups: tuple[tuple[str, str], ...] = ()
    absent: tuple[int, ...] = ()
    others: tuple[Path, ...] = ()

    @property
    def references(self) -> tuple[Path, ...]:
        """The references of all readers, the first one's first; none without a reference."""
        return () if self.reference is None else (self.reference, *self.others)


@dataclass(frozen=True, slots=True)
class Dataset:
    """Cases that have the same channels and the same labels. It may have faults: `check_files` finds them."""

    name: str
    channels: tuple[str, ...]
    labels: LabelSet
    cases: tuple[Case, ...]

    @property
    def kinds(self) -> tuple[Kind, ...]:
        """What each channel measures, judged by its name."""
        return tuple(channel_kind(channel) for channel in self.channels)

    def case(self, case_id: str) -> Case:
        """The case of that id. Raises `DatasetError` if there is none, or more than one."""
        found = [case for case in self.cases if case.id == case_id]
        if len(found) == 1:
            return found[0]
        raise DatasetError(
            f"dataset {self.name!r} has {'no case' if not found else f'{len(found)} cases'} of this id",
            case=case_id,
            remedy="Check the spelling, or whether the dataset has changed since the list was made.",
        )


def channel_kind(channel: str) -> Kind:
    """CT, MR or PET by a channel's name ("CT", "T1w", "MRI", "FLAIR", "PET"); OTHER for names that do not say."""
    name = channel.lower().replace("_", " ")
    return next((kind for kind, pattern in _KINDS if pattern.search(name)), Kind.OTHER)


def digest(dataset: Dataset) -> str:
    """SHA-256 (hex) of what the dataset contains: channels, labels, case and patient ids, and bytes of files.

    Neither folder names nor the order of the cases matter. Every file is read, so this takes as long as reading the
    dataset, the first time in a process. Raises `DatasetError` for a file that is missing.
    """
    cases = sorted(
        [case.id, case.patient_id, _fingerprints(case, case.images), _fingerprints(case, case.references), *case.absent]
        for case in dataset.cases
    )
    labels = [[label.value, label.name] for label in dataset.labels]
    content: list[object] = [list(dataset.channels), labels, dataset.labels.overlaps, cases]
    if dataset.labels.regions or dataset.labels.ignore is not None:
        content += [[[one.name, one.values, one.paints] for one in dataset.labels.regions], dataset.labels.ignore]
    return hashlib.sha256(json.dumps(content).encode()).hexdigest()


def _fingerprints(case: Case, paths: Iterable[Path]) -> list[str]:
    try:
        return [fingerprint_file(path) for path in paths]
    except FileNotFoundError as error:
        raise DatasetError(
            "a file of the dataset is missing",
            path=error.filename,
            case=case.id,
            remedy="Restore the file, or take the case out of dataset.json.",
        ) from error


def fingerprint_file(path: Path) -> str:
    """SHA-256 (hex) of a file's bytes; of a folder, of the relative names and bytes of the files in it.

    A process reads a file once, unless its size or times change. Raises `FileNotFoundError` if there is nothing at
    `path`.
    """
    if not path.is_dir():
        facts = path.stat()
        stamp = (facts.st_dev, facts.st_ino, facts.st_size, facts.st_mtime_ns, facts.st_ctime_ns)
        return _hash_known(path.absolute(), stamp) if _is_settled(stamp) else _hash(path)
    total = hashlib.sha256()
    for file in folder_files(path):
        total.update(f"{file.relative_to(path).as_posix()}\0{fingerprint_file(file)}\n".encode())
    return total.hexdigest()


def _is_settled(stamp: tuple[int, ...]) -> bool:
    """Whether a file is old enough for another change to give it another time, however coarse the disk's clock is."""
    return time.time_ns() - max(stamp[-2:]) > _SETTLED_NS


@lru_cache(maxsize=1 << 17)
def _hash_known(path: Path, stamp: tuple[int, ...]) -> str:
    return _hash(path)


def _hash(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def folder_files(folder: Path) -> list[Path]:
    """All files below a folder, sorted, without hidden ones (".DS_Store", macOS's "._" copies)."""
    return sorted(file for file in folder.rglob("*") if file.is_file() and not file.name.startswith("."))
