"""Groups of cases from the headers of the DICOM series that they were imported from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, fields
from pathlib import Path

from delineate.errors import InputError, UnreadableImage
from delineate.formats.deidentification.pseudonyms import PseudonymKey, load_or_make_key
from delineate.formats.dicom.acquisition import Acquisition, read_acquisition
from delineate.formats.dicom.index import Index
from delineate.settings import Settings
from delineate.workflow.group_tables import GroupTable
from delineate.workflow.import_records import read_import
from delineate.workflow.progress import Watch, nobody
from delineate.workflow.scanning import scan

_COLUMNS = tuple(field.name for field in fields(Acquisition))


def header_table(
    references: Path,
    cases: Sequence[str],
    tree: Path,
    *,
    key_file: Path | None = None,
    settings: Settings,
    watch: Watch = nobody,
) -> GroupTable:
    """What the headers say of the cases whose series lie in `tree`: scanner, slice thickness, sex, age, contrast, ...

    `references`: of a dataset that `delineate import` made, or a folder in it; it wrote down each case's series.
    `key_file`: by which it replaced UIDs. Raises `InputError` if there are no such records, or if none of their series
    is in the tree, and what `scan` raises.
    """
    folder = next((one for one in (references, *references.parents[:2]) if (one / "imports").is_dir()), None)
    records = {} if folder is None else {case: read_import(folder, case) for case in cases}
    series = {case: record.series for case, record in records.items() if record is not None}
    if not series:
        raise InputError(
            "nothing says which DICOM series the cases came from",
            expected="a dataset that `delineate import` made",
            path=references,
            remedy="Give a table of groups instead (--groups).",
        )
    if key_file is not None and not key_file.is_file():
        raise InputError("there is no key", path=key_file)
    key = None if key_file is None else load_or_make_key(key_file)
    files = _files(scan(tree, settings=settings, watch=watch).index, key)
    rows: dict[str, dict[str, str]] = {}
    for case, uids in series.items():
        found = next((files[uid] for uid in uids if uid in files), None)
        if found is not None and (acquisition := _read(found)) is not None:
            rows[case] = asdict(acquisition)
    if not rows:
        raise InputError(
            "none of the cases' series is in the tree",
            expected=next(iter(series.values()))[:1],
            got=list(files)[:1] or "no series",
            path=tree,
            remedy="Name the tree that was imported and, if the import de-identified, its key.",
        )
    told = tuple(column for column in _COLUMNS if any(row[column] for row in rows.values()))
    by_case = {case: {column: row[column] for column in told} for case, row in rows.items()}
    return GroupTable(tree, by_patient=False, columns=told, rows=by_case)


def _files(index: Path, key: PseudonymKey | None) -> dict[str, Path]:
    """One file of each series by its UID, and by the one that the import gave it."""
    known = Index(index)
    found: dict[str, Path] = {}
    for one in known.series():
        first = next((instance.path for instance in known.instances(one)), None)
        if first is not None:
            found[one.series] = first
            if key is not None:
                found[key.uid(one.series)] = first
    return found


def _read(path: Path) -> Acquisition | None:
    try:
        return read_acquisition(path)
    except UnreadableImage:
        return None
