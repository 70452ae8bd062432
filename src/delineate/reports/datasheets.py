"""Data sheets (Gebru et al., "Datasheets for Datasets", Communications of the ACM 64(12), 2021)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from delineate.geometry import Triple, TripleMM
from delineate.reports.about import DATA_FIELDS
from delineate.reports.cards import population_tables
from delineate.reports.charts.words import count
from delineate.reports.dataset_facts import AXES
from delineate.reports.documents import Answer, Document, Section, Table, recorded, stated

if TYPE_CHECKING:
    from delineate.model import Population, Provenance

_SOURCES = ("Gebru et al., Datasheets for Datasets, Communications of the ACM 64(12), 86-92, 2021.",)
_STATED = {
    ("motivation", "Motivation"): ("data_purpose", "data_creators", "data_funding"),
    ("collection", "Collection"): (
        "data_sources",
        "data_dates",
        "inclusion",
        "exclusion",
        "data_selection",
        "acquisition",
        "ethics_approval",
        "consent",
    ),
    ("processing", "Preparation and references"): (
        "deidentification",
        "data_processing",
        "missing_data",
        "reference_method",
        "reference_rationale",
        "reference_annotators",
        "reference_tools",
        "test_annotation",
        "reader_variability",
    ),
    ("uses", "Uses"): ("data_uses",),
    ("distribution", "Distribution"): ("data_licence", "data_distribution"),
    ("maintenance", "Maintenance"): ("data_maintenance",),
}


@dataclass(frozen=True, slots=True)
class DataFacts:
    """A dataset as its files say without its voxels being read.

    `is_trained`: whether its bytes are those that trained the model. `populations`: by side of the split.
    `shapes`, `spacings_mm`: of the scans whose headers could be read, along left-right, front-back, head-foot.
    `unreadable`: cases whose header could not be. `imported`: cases that `delineate import` made of DICOM.
    """

    name: str
    is_trained: bool
    channels: tuple[str, ...]
    labels: tuple[str, ...]
    populations: Mapping[str, Population]
    cases: int
    patients: int
    with_reference: int
    shapes: tuple[Triple, ...] = ()
    spacings_mm: tuple[TripleMM, ...] = ()
    unreadable: tuple[str, ...] = ()
    imported: int = 0


def data_sheet(
    data: DataFacts | None, provenance: Provenance, labels: Sequence[str], about: Mapping[str, str]
) -> Document:
    """The sheet of the data that trained a model. Without the dataset itself it says what the model recorded of it."""
    answered = [
        Section(section, title, answers=stated(about, DATA_FIELDS, keys)) for (section, title), keys in _STATED.items()
    ]
    sections = (answered[0], _composition(data, provenance, labels, about), *answered[1:])
    name = about.get("data_name") or (data.name if data is not None else provenance.dataset) or "Training data"
    return Document("Data sheet", name, _summary(data), "", sections, _SOURCES)


def _summary(data: DataFacts | None) -> str:
    if data is None:
        return "The dataset was not given (--dataset): only what the model recorded of it stands here."
    same = "is the one" if data.is_trained else "is not the one"
    counted = f"{count(data.cases, 'case')} of {count(data.patients, 'patient')}"
    return f"{counted}. By its digest this {same} that the model was trained with."


def _composition(
    data: DataFacts | None, provenance: Provenance, labels: Sequence[str], about: Mapping[str, str]
) -> Section:
    populations = provenance.populations if data is None else data.populations
    named = ", ".join(name.replace("_", " ") for name in (labels if data is None else data.labels))
    answers: list[Answer] = [
        recorded("data_digest", "Digest of the data that trained the model", provenance.dataset_digest),
        recorded("structures", "Structures in the references", named),
    ]
    warnings: list[str] = []
    if data is not None:
        answers += _counted(data)
        if not data.is_trained:
            warnings.append("This dataset is not, or no longer, the one that trained the model: its digest is another.")
        if data.unreadable:
            warnings.append(f"{len(data.unreadable)} scans could not be read: {', '.join(data.unreadable[:5])}.")
    answers += stated(about, DATA_FIELDS, ("demographics", "known_errors"))
    tables = [*population_tables(populations)] if populations else []
    if data is not None and data.spacings_mm:
        tables.append(_sizes(data))
    return Section("composition", "Composition", warnings=tuple(warnings), answers=tuple(answers), tables=tuple(tables))


def _counted(data: DataFacts) -> list[Answer]:
    spacing = np.median(np.asarray(data.spacings_mm), axis=0) if data.spacings_mm else None
    shown = "" if spacing is None else "median " + " x ".join(f"{mm:.3g}" for mm in spacing) + " mm"
    made = f"{data.imported} cases" if data.imported else "none by delineate"
    return [
        recorded("instances", "Cases", f"{data.cases}, of which {data.with_reference} have a reference"),
        recorded("channels", "Scans of a case", ", ".join(data.channels)),
        recorded("voxel_sizes", "Voxels", shown),
        recorded("imported", "Imported from DICOM", made),
    ]


def _sizes(data: DataFacts) -> Table:
    spacing, shape = np.asarray(data.spacings_mm, dtype=float), np.asarray(data.shapes, dtype=float)
    rows = []
    for n, axis in enumerate(AXES):
        for what, values in (("voxel, mm", spacing[:, n]), ("scan, mm", spacing[:, n] * shape[:, n])):
            low, median, high = (f"{value:.3g}" for value in np.percentile(values, (0, 50, 100)))
            rows.append((f"{axis[:1].upper()}{axis[1:]}: {what}", low, median, high))
    return Table("Size of voxels and scans", ("Axis", "Smallest", "Median", "Largest"), tuple(rows))
