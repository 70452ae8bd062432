"""Findings as files: JSON with codes, units and definitions, and a table for spreadsheets."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

import msgspec
import numpy as np

from delineate.files import write_csv, write_text
from delineate.findings import Finding
from delineate.geometry import Grid, TripleMM, index_to_world
from delineate.labels import Code, Label
from delineate.measurement.definitions import DEFINITIONS
from delineate.measurement.lesions import Lesion
from delineate.measurement.quantities import NO_UNITS
from delineate.measurement.scan_findings import ScanFindings
from delineate.terminology import concept_of

SCHEMA_VERSION = 1
COLUMNS = (
    *("case", "structure", "lesion", "quantity", "statistic", "to", "value", "unit"),
    *("lowest", "highest", "standard_deviation", "over", "note"),
)


@dataclass(frozen=True, slots=True)
class CaseFindings:
    """What was found in one case, and in what. Of files only the names are kept: folders may name patients.

    `study_uid`: of the scan, where it is DICOM; `model`: the digest of the model that segmented, where it is known.
    """

    case: str
    segmentation: str
    image: str | None
    grid: Grid
    found: ScanFindings
    study_uid: str | None = None
    model: str | None = None


class CodeRecord(msgspec.Struct, frozen=True):
    """A coded concept of DICOM PS3.16."""

    value: str
    scheme: str
    meaning: str


class SpreadRecord(msgspec.Struct, frozen=True, kw_only=True):
    """In the unit of the value."""

    lowest: float
    highest: float
    standard_deviation: float
    over: str


class FindingRecord(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One number. `lesion`: its number in the structure; `to`: the second structure of a distance, share or comparison;
    `points_mm`: the ends of a line, LPS."""

    structure: str
    quantity: CodeRecord
    value: float
    unit: CodeRecord
    statistic: CodeRecord | None = None
    lesion: int | None = None
    to: str | None = None
    spread: SpreadRecord | None = None
    points_mm: tuple[TripleMM, ...] = ()
    note: str = ""


class StructureCode(msgspec.Struct, frozen=True, kw_only=True):
    """What a structure is."""

    name: str
    value: int
    category: CodeRecord
    type: CodeRecord
    laterality: CodeRecord | None


class LesionRecord(msgspec.Struct, frozen=True, kw_only=True):
    """A lesion by its place: the middle of its voxels, LPS, and the organ it lies in, with how sure that is, 0 to 1."""

    structure: str
    lesion: int
    voxels: int
    centre_mm: TripleMM
    organ: str | None
    organ_certainty: float | None


class CaseRecord(msgspec.Struct, frozen=True, kw_only=True):
    """All of a case. `warnings`: sentences to be read before the numbers."""

    case: str
    segmentation: str
    image: str | None
    model: str | None
    shape: tuple[int, int, int]
    spacing_mm: TripleMM
    warnings: tuple[str, ...]
    structures: tuple[StructureCode, ...]
    lesions: tuple[LesionRecord, ...]
    findings: tuple[FindingRecord, ...]


class FindingsFile(msgspec.Struct, frozen=True, kw_only=True):
    """findings.json. `definitions`: how each quantity is measured, by the value of its code."""

    schema_version: int
    made_by: str
    reviewed: bool
    cases: tuple[CaseRecord, ...]
    problems: tuple[str, ...]
    definitions: dict[str, str]


def write_json(path: Path, cases: Sequence[CaseFindings], problems: Sequence[str]) -> None:
    """Write findings.json, atomically; the findings in it are marked as not reviewed."""
    used = dict.fromkeys(one.quantity for case in cases for one in case.found.findings)
    content = FindingsFile(
        schema_version=SCHEMA_VERSION,
        made_by=f"delineate {version('delineate')}",
        reviewed=False,
        cases=tuple(_case(case) for case in cases),
        problems=tuple(problems),
        definitions={quantity.value: DEFINITIONS[quantity] for quantity in used},
    )
    write_text(path, msgspec.json.format(msgspec.json.encode(content), indent=1).decode() + "\n")


def read_json(path: Path) -> FindingsFile:
    """What `write_json` wrote. Raises what reading a file and `msgspec.json.decode` raise."""
    return msgspec.json.decode(path.read_bytes(), type=FindingsFile)


def write_table(path: Path, cases: Sequence[CaseFindings]) -> None:
    """Write findings.csv, atomically: a row a finding, in `COLUMNS`; numbers as they are, units in words."""
    write_csv(path, [COLUMNS, *(_row(case.case, one) for case in cases for one in case.found.findings)])


def _row(case: str, one: Finding) -> tuple[object, ...]:
    spread = one.spread
    return (
        *(case, one.label.name, "" if one.component is None else one.component, one.quantity.meaning),
        "" if one.derivation is None else one.derivation.meaning.lower(),
        "" if one.other is None else one.other.name,
        *(repr(one.value), "" if one.unit == NO_UNITS else one.unit.meaning),
        *(
            ("",) * 4
            if spread is None
            else (repr(spread.lowest), repr(spread.highest), repr(spread.standard_deviation), spread.over)
        ),
        one.note,
    )


def _case(case: CaseFindings) -> CaseRecord:
    labels = {one.label.name: one.label for one in case.found.findings}
    return CaseRecord(
        case=case.case,
        segmentation=case.segmentation,
        image=case.image,
        model=case.model,
        shape=case.grid.shape,
        spacing_mm=case.grid.spacing_mm,
        warnings=case.found.remarks,
        structures=tuple(_structure(label) for label in labels.values()),
        lesions=tuple(_lesion(lesion) for lesion in case.found.lesions),
        findings=tuple(_finding(one) for one in case.found.findings),
    )


def _structure(label: Label) -> StructureCode:
    meant = concept_of(label)
    side = None if meant.laterality is None else _code(meant.laterality)
    return StructureCode(
        name=label.name, value=label.value, category=_code(meant.category), type=_code(meant.type), laterality=side
    )


def _lesion(lesion: Lesion) -> LesionRecord:
    x, y, z = index_to_world(lesion.part.grid, np.argwhere(lesion.part.mask).mean(axis=0))
    host = lesion.host
    return LesionRecord(
        structure=lesion.label.name,
        lesion=lesion.number,
        voxels=int(np.count_nonzero(lesion.part.mask)),
        centre_mm=(float(x), float(y), float(z)),
        organ=None if host is None else host.label.name,
        organ_certainty=None if host is None else host.share,
    )


def _finding(one: Finding) -> FindingRecord:
    spread = one.spread
    return FindingRecord(
        structure=one.label.name,
        quantity=_code(one.quantity),
        value=one.value,
        unit=_code(one.unit),
        statistic=None if one.derivation is None else _code(one.derivation),
        lesion=one.component,
        to=None if one.other is None else one.other.name,
        spread=None
        if spread is None
        else SpreadRecord(
            lowest=spread.lowest,
            highest=spread.highest,
            standard_deviation=spread.standard_deviation,
            over=spread.over,
        ),
        points_mm=one.points_mm,
        note=one.note,
    )


def _code(code: Code) -> CodeRecord:
    return CodeRecord(code.value, code.scheme, code.meaning)
