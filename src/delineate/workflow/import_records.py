"""What an import leaves beside the cases: where each came from and what was decided, and whether that still holds.

DATASET/imports/CASE.json   the record of a case, written last: a case without it is done again
DATASET/imports/names.csv   DATASET/names.csv as it was written, to notice that somebody has edited it
"""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

import msgspec

from delineate.errors import DatasetError, DelineateError, InputError, LabelError
from delineate.files import remove, write_text
from delineate.roi_names import RoiTable, table_from_csv, table_to_csv

RECORD_VERSION = 2

_FOLDER = "imports"
_NAMES = "names.csv"
_MOST_SHOWN = 3


class ImportRecord(msgspec.Struct, frozen=True, kw_only=True):
    """How a case came to be. `patient` is a pseudonym; `site` the scanner's manufacturer; affines: index -> LPS mm.

    Series UIDs are the files' own, so that results find their way back: keep the folder as the archive is kept, or let
    the import de-identify, which maps them by the key. `recipe` stands for the files and options that made the case.
    """

    version: int = RECORD_VERSION
    recipe: str
    case: str
    patient: str
    site: str | None
    series: list[str]
    notes: list[str]
    acquired_affine: list[list[float]]
    affine: list[list[float]]
    labels_from: list[str]
    names: dict[str, str]
    unmapped: list[str]
    voxels: dict[str, int]


def read_import(folder: Path, case_id: str) -> ImportRecord | None:
    """How a case of the dataset in `folder` came to be; None if nothing readable says so."""
    try:
        record = msgspec.json.decode(_record_path(folder, case_id).read_bytes(), type=ImportRecord)
    except (OSError, msgspec.DecodeError):
        return None
    return record if record.version == RECORD_VERSION else None


def write_import(folder: Path, record: ImportRecord) -> None:
    """Write the record of a case whose files are complete."""
    text = msgspec.json.format(msgspec.json.encode(record), indent=1).decode()
    write_text(_record_path(folder, record.case), f"{text}\n")


def check_folder(folder: Path) -> None:
    """Raises `DatasetError` if a folder has content that no import has made."""
    if folder.exists() and not (folder.is_dir() and ((folder / _FOLDER).is_dir() or not any(folder.iterdir()))):
        raise DatasetError(
            "the folder holds something else", path=folder, remedy="Choose a new or an empty folder for the dataset."
        )


def begin(folder: Path, table: RoiTable) -> None:
    """Make the folder one of an import, and leave the table of names in it.

    Raises `InputError` if the table in it was edited since it was written there, and is not the one that is used.
    """
    path, copy = folder / _NAMES, folder / _FOLDER / _NAMES
    if path.exists() and copy.exists() and _table(path) not in (_table(copy), table):
        raise InputError(
            "names.csv was edited, and is not what this import was told to use",
            path=path,
            remedy=f"Use it (--names {path}), or remove it.",
        )
    for target in (copy, path):
        write_text(target, table_to_csv(table))


def read_table(path: Path) -> RoiTable:
    """A table of names from a CSV file. Raises `LabelError` for what is none, naming the file."""
    try:
        return table_from_csv(path.read_text(encoding="utf-8-sig"))
    except UnicodeDecodeError as error:
        raise LabelError("the table of ROI names is no UTF-8 text", path=path, remedy="Save it as UTF-8.") from error
    except OSError as error:
        raise LabelError("the table of ROI names cannot be read", got=error.strerror, path=path) from error
    except DelineateError as error:
        raise error.at(path) from error


def _table(path: Path) -> RoiTable | None:
    try:
        return read_table(path)
    except LabelError:
        return None


def retire_others(folder: Path, cases: Collection[str], patients: Collection[str]) -> None:
    """Remove cases that an earlier import made of these patients, where their scans are divided otherwise now.

    Raises `DatasetError` if there are cases of other patients: to leave them out would be a mistake as often as not.
    """
    old = [path.stem for path in sorted((folder / _FOLDER).glob("[!.]*.json")) if path.stem not in cases]
    records = {case_id: read_import(folder, case_id) for case_id in old}
    strangers = [case_id for case_id, record in records.items() if record is None or record.patient not in patients]
    if strangers:
        more = f" and {len(strangers) - _MOST_SHOWN} more" if len(strangers) > _MOST_SHOWN else ""
        raise DatasetError(
            "the dataset holds cases of an earlier import that this one does not",
            got=", ".join(strangers[:_MOST_SHOWN]) + more,
            path=folder,
            remedy="Import a tree that holds all patients, with the same key, or choose another folder.",
        )
    for case_id in old:
        outdate(folder)
        forget(folder, case_id)


def outdate(folder: Path) -> None:
    """Take dataset.json away: its cases or labels are about to change, and a run may end in between."""
    remove(folder / "dataset.json")


def forget(folder: Path, case_id: str) -> None:
    """Remove a case and its record, the record first: what is cut off in between is done again."""
    remove(_record_path(folder, case_id))
    for part in ("imagesTr", "imagesTs"):
        for path in (folder / part).glob(f"{case_id}_[0-9][0-9][0-9][0-9].nii.gz"):
            remove(path)
    remove(folder / "labelsTr" / f"{case_id}.nii.gz")


def _record_path(folder: Path, case_id: str) -> Path:
    return folder / _FOLDER / f"{case_id}.json"
