"""Several readers' label maps of the same scans: one folder a reader, files named alike."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from delineate.dataset.cases import Case

FIRST = "labelsTr"


def reader_folders(folder: Path) -> tuple[Path, ...]:
    """The folders labelsTr_NAME of further readers, in the order of their names."""
    return tuple(sorted(path for path in folder.glob(f"{FIRST}_*") if path.is_dir()))


def add_readers(folder: Path, cases: Sequence[Case]) -> tuple[Case, ...]:
    """The cases with what further readers drew, where they have a reference and no list of readers yet."""
    folders = reader_folders(folder)
    return tuple(_add(case, folders) for case in cases) if folders else tuple(cases)


def _add(case: Case, folders: Sequence[Path]) -> Case:
    if case.reference is None or case.others:
        return case
    found = tuple(other / case.reference.name for other in folders if other != case.reference.parent)
    return replace(case, others=tuple(path for path in found if path.is_file()))
