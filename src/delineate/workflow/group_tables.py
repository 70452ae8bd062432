"""Which groups cases belong to, from a table that somebody made, and their scores group by group."""

from __future__ import annotations

import csv
import io
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from delineate.errors import InputError
from delineate.evaluation.bands import banded
from delineate.evaluation.cases import CaseScores
from delineate.evaluation.subgroups import SIZE, GroupScore, groupings_of, score_groups, size_grouping, ungrouped

_CASE, _PATIENT = ("case", "case_id"), ("patient", "patient_id")
_SEPARATORS = "\t;,"
_MOST_SHOWN = 5


@dataclass(frozen=True, slots=True)
class GroupOptions:
    """`table`: a file of groups. `dicom`: the tree that the dataset was imported from, whose headers are one more such
    table; `key_file`: by which the import replaced UIDs, if it did. `by`: what to compare beside their columns: groups
    that the dataset knows, or "size". `bands`: edges of a column's numbers, or of "size" in ml, by name."""

    table: Path | None = None
    dicom: Path | None = None
    key_file: Path | None = None
    by: tuple[str, ...] = ()
    bands: Mapping[str, tuple[float, ...]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class GroupTable:
    """Cells by case or, if `by_patient`, by patient, and then by column. `repeated`: rows that say the same again."""

    path: Path
    by_patient: bool
    columns: tuple[str, ...]
    rows: Mapping[str, Mapping[str, str]]
    repeated: int = 0


@dataclass(frozen=True, slots=True)
class Parted:
    """Cases with their groups, the scores of the groups that were asked for, and remarks in sentences."""

    cases: tuple[CaseScores, ...]
    scores: tuple[GroupScore, ...] = ()
    remarks: tuple[str, ...] = ()


def part_cases(
    cases: Sequence[CaseScores],
    options: GroupOptions,
    generator: np.random.Generator,
    *,
    headers: GroupTable | None = None,
) -> Parted:
    """Cases with what tables say of them beside what is known already, and the scores group by group.

    `headers`: a table beside that of the options, whose word counts more. Raises `InputError` for a table that cannot
    be used (see `read_group_table`) or has none of the cases, and for groups or bands that nobody knows.
    """
    tables = [*([headers] if headers else []), *([read_group_table(options.table)] if options.table else [])]
    told: tuple[CaseScores, ...] = tuple(cases)
    remarks: tuple[str, ...] = ()
    for table in tables:
        told, doubts = _told(told, table)
        remarks += doubts
    told = _in_bands(told, options.bands)
    wanted = dict.fromkeys((*(column for table in tables for column in table.columns), *options.by, *options.bands))
    known = {*(name for case in told for name in case.groups), SIZE}
    unknown = [name for name in (*options.by, *options.bands) if name not in known]
    if unknown:
        raise InputError("groups that are not known", expected=f"some of {sorted(known)}", got=unknown)
    parts = [one for one in groupings_of(told) if one.name in wanted]
    scores = [score for one in parts for score in score_groups(told, one, generator)]
    if SIZE in wanted:
        scores += score_groups(told, size_grouping(told, options.bands.get(SIZE)), generator)
    many = [name for name in ungrouped(told) if name in wanted]
    alike = [name for name in wanted if name not in {*(one.name for one in parts), *many, SIZE}]
    remarks += (f"Too many values to compare groups by {', '.join(many)}; give bands.",) if many else ()
    remarks += (f"All cases are alike in {', '.join(alike)}: no groups.",) if alike else ()
    return Parted(told, tuple(scores), remarks)


def read_group_table(path: Path) -> GroupTable:
    """A CSV or TSV file with a column `case` or `patient`, and a column a way of grouping.

    Raises `InputError` for what is no such table, one without rows, and a case that has rows which contradict each
    other.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError("the table of groups cannot be read", got=str(error), path=path) from error
    first = text.partition("\n")[0]
    separator = max(_SEPARATORS, key=first.count)
    lines = [[cell.strip() for cell in line] for line in csv.reader(io.StringIO(text, newline=""), delimiter=separator)]
    header, *body = [line for line in lines if any(line)] or [[]]
    key = next((column for column in header if column.lower() in (*_CASE, *_PATIENT)), None)
    columns = tuple(column for column in header if column and column.lower() not in (*_CASE, *_PATIENT))
    if key is None or not columns or not body or len(set(header)) < len(header):
        raise InputError(
            "no table of groups",
            expected="a header with case or patient and other, different columns, and rows below it",
            got=f"{', '.join(header) or 'nothing'}, and {len(body)} rows",
            path=path,
        )
    rows: dict[str, dict[str, str]] = {}
    repeated = 0
    for number, line in enumerate(body, start=2):
        cells = dict(zip(header, line, strict=False))
        name, found = cells.get(key, ""), {column: cells.get(column, "") for column in columns}
        if len(line) > len(header) or not name:
            problem = "more cells than columns" if name else f"no {key}"
            raise InputError(f"row {number} of the table of groups has {problem}", got=line, path=path)
        if rows.setdefault(name, found) != found:
            raise InputError(
                "rows of the table of groups contradict each other",
                expected=rows[name],
                got=found,
                case=name,
                path=path,
                remedy="Keep the row that is right.",
            )
        repeated += rows[name] is not found
    return GroupTable(path, key.lower() in _PATIENT, columns, rows, repeated)


def _told(cases: Sequence[CaseScores], table: GroupTable) -> tuple[tuple[CaseScores, ...], tuple[str, ...]]:
    keys = [case.patient_id if table.by_patient else case.case_id for case in cases]
    if not set(keys) & set(table.rows):
        raise InputError(
            f"the table of groups has none of the {'patients' if table.by_patient else 'cases'}",
            expected=_listed(sorted(set(keys))),
            got=_listed(list(table.rows)),
            path=table.path,
        )
    told = []
    for case, key in zip(cases, keys, strict=True):
        cells = {column: cell for column, cell in table.rows.get(key, {}).items() if cell}
        told.append(replace(case, groups={**case.groups, **cells}))
    return tuple(told), tuple(_doubts(table, keys))


def _doubts(table: GroupTable, keys: Collection[str]) -> Iterator[str]:
    """What the table lacks, repeats, or has too much, in sentences."""
    what = "patients" if table.by_patient else "cases"
    wanted = set(keys)
    missing, strangers = sorted(wanted - set(table.rows)), [name for name in table.rows if name not in wanted]
    if missing:
        yield f"{table.path.name} says nothing of {len(missing)} {what}, which are not recorded: {_listed(missing)}."
    if strangers:
        yield f"{table.path.name} has {len(strangers)} {what} that were not scored: {_listed(strangers)}."
    if table.repeated:
        yield f"{table.path.name} says {table.repeated} rows twice."
    for column in table.columns:
        empty = sum(not row[column] for name, row in table.rows.items() if name in wanted)
        if empty:
            yield f"{table.path.name}: {column} is empty for {empty} {what}, which are not recorded."


def _in_bands(cases: Sequence[CaseScores], bands: Mapping[str, Sequence[float]]) -> tuple[CaseScores, ...]:
    """Numbers among the groups as bands: given ones, or as `banded` finds them."""
    names = dict.fromkeys(name for case in cases for name in case.groups)
    columns = {name: {case.case_id: case.groups.get(name, "") for case in cases} for name in names}
    groups = {name: banded(name, cells, bands.get(name)) for name, cells in columns.items()}
    return tuple(
        replace(case, groups={name: groups[name][case.case_id] for name in case.groups if case.case_id in groups[name]})
        for case in cases
    )


def _listed(names: Sequence[str]) -> str:
    more = f" and {len(names) - _MOST_SHOWN} more" if len(names) > _MOST_SHOWN else ""
    return ", ".join(names[:_MOST_SHOWN]) + more
