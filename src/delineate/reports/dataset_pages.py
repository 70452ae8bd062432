"""The page of a dataset: what is in it, how it is spread, which cases stand apart, what is wrong with it."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass

import numpy as np

from delineate.dataset import Dataset, Problem
from delineate.reports.charts import Chart, Strip, histogram_strips
from delineate.reports.charts.words import count, number
from delineate.reports.dataset_facts import (
    FARTHEST,
    FEWEST,
    CaseFacts,
    Faction,
    Outlier,
    Quantity,
    name_channels,
)
from delineate.reports.documents import NOT_RECORDED
from delineate.reports.html import render_template
from delineate.reports.tables import SEVERITIES

SCHEMA_VERSION = 1
_STRIPS = 8  # in one chart: more would not fit on a printed page
_MOST_PROBLEMS = 200
_MOST_CASES = 2000
_MOST_NAMED = 15  # cases with the same problem


@dataclass(frozen=True, slots=True)
class Apart:
    """A case that stands apart, with its picture (PNG; None where there is none)."""

    case: str
    reasons: tuple[Outlier, ...]
    png: bytes | None = None


@dataclass(frozen=True, slots=True)
class Twin:
    """Two cases whose images are nearly the same; `alike`: how much, 1 for copies."""

    first: str
    second: str
    alike: float
    same_patient: bool


@dataclass(frozen=True, slots=True)
class DatasetPage:
    """What the page says. `facts`: of the cases that could be read; `compared`: in what they were compared.

    `apart`: the most conspicuous first. `unpictured`: why not all of them have a picture, or "". `sheet`: PNG of evenly
    chosen cases. `twins`: None if nobody looked for them.
    """

    dataset: Dataset
    facts: tuple[CaseFacts, ...]
    compared: tuple[Quantity, ...]
    apart: tuple[Apart, ...]
    factions: tuple[Faction, ...]
    twins: tuple[Twin, ...] | None
    problems: tuple[Problem, ...]
    unpictured: str = ""
    sheet: bytes | None = None

    @property
    def patients(self) -> int:
        return len({case.patient_id for case in self.dataset.cases})

    def count(self, severity: str) -> int:
        return sum(problem.severity == severity for problem in self.problems)


def render_dataset(page: DatasetPage) -> str:
    """One self-contained HTML file."""
    rows = _problem_rows(page.problems)
    return render_template(
        "dataset.html",
        page=page,
        words=page_words(page),
        twins=[
            (t.first, t.second, f"{t.alike:.3f}", "the same" if t.same_patient else "another") for t in page.twins or ()
        ],
        contents=_contents(page),
        structures=_structures(page),
        groups=_groups(page.dataset),
        charts=_charts(page),
        problems=rows[:_MOST_PROBLEMS],
        more_problems=max(0, len(rows) - _MOST_PROBLEMS),
        cases=[_case_row(facts) for facts in page.facts[:_MOST_CASES]],
        farthest=FARTHEST,
        fewest=FEWEST,
    )


def _contents(page: DatasetPage) -> list[tuple[str, str]]:
    dataset = page.dataset
    drawn = sum(case.reference is not None for case in dataset.cases)
    stored = Counter(facts.orientation for facts in page.facts).most_common()
    found = [
        ("Cases", f"{len(dataset.cases)}, of which {drawn} have a reference and {len(page.facts)} could be used"),
        ("Patients", str(page.patients)),
        ("Scans of a case", name_channels(dataset.channels, dataset.kinds)),
        ("Structures", ", ".join(name.replace("_", " ") for name in dataset.labels.names)),
        ("Stored as", ", ".join(f"{orientation} ({n})" for orientation, n in stored) or "–"),
    ]
    if page.facts:
        spacing = np.median([facts.spacing_mm for facts in page.facts], axis=0)
        shape = np.median([facts.shape for facts in page.facts], axis=0)
        found.append(
            ("Median voxel", " x ".join(f"{mm:.3g}" for mm in spacing) + " mm (left-right, front-back, head-foot)")
        )
        found.append(("Median scan", " x ".join(f"{n:.0f}" for n in shape) + " voxels"))
    return found


def _structures(page: DatasetPage) -> list[tuple[str, ...]]:
    drawn = sum(bool(facts.volumes_ml) for facts in page.facts)
    rows = []
    for quantity in page.compared:
        if not quantity.structure:
            continue
        values = list(quantity.values.values())
        shown = [number(float(value)) for value in np.percentile(values, (0, 25, 50, 75, 100))] if values else ["–"] * 5
        rows.append(
            (
                quantity.structure.replace("_", " "),
                f"{len(values)}\N{NO-BREAK SPACE}of\N{NO-BREAK SPACE}{drawn}",
                *shown,
            )
        )
    return rows


def _groups(dataset: Dataset) -> list[tuple[str, list[tuple[str, str, str]]]]:
    """(name, rows of (value, cases, patients)) of the site and every other group that has few values."""
    of_cases = [{"site": case.site or "", **dict(case.groups)} for case in dataset.cases]
    tables = []
    for name in dict.fromkeys(name for groups in of_cases for name in groups):
        values = Counter(groups.get(name) or NOT_RECORDED for groups in of_cases)
        if len(values) > 20 or set(values) == {NOT_RECORDED}:
            continue
        patients: dict[str, set[str]] = {}
        for case, groups in zip(dataset.cases, of_cases, strict=True):
            patients.setdefault(groups.get(name) or NOT_RECORDED, set()).add(case.patient_id)
        tables.append((name, [(value, str(n), str(len(patients[value]))) for value, n in values.most_common()]))
    return tables


def _charts(page: DatasetPage) -> list[tuple[str, list[Chart]]]:
    """(title, charts) of sizes, intensities, volumes; outliers are named in them."""
    apart = {(outlier.quantity.name, outlier.case) for case in page.apart for outlier in case.reasons}
    kinds: dict[str, list[Strip]] = {"Voxels and scans": [], "Intensities": [], "Volumes of structures": []}
    for quantity in page.compared:
        named = [case for case in quantity.values if (quantity.name, case) in apart]
        name = quantity.structure.replace("_", " ") or quantity.name
        values = list(quantity.values.values())
        wide = quantity.logarithmic and bool(values) and max(values) > 5 * min(values)
        where = (
            "Volumes of structures"
            if quantity.structure
            else "Voxels and scans"
            if quantity.unit == "mm"
            else "Intensities"
        )
        kinds[where].append(Strip(name, quantity.values, unit=quantity.unit, outliers=named, log=wide))
    return [
        (title, [histogram_strips(strips[n : n + _STRIPS]) for n in range(0, len(strips), _STRIPS)])
        for title, strips in kinds.items()
        if strips
    ]


def _problem_rows(problems: Sequence[Problem]) -> list[tuple[str, ...]]:
    """(severity, cases, problem, what to do), errors first; cases with the same problem share a row."""
    alike: dict[tuple[str, str, str], list[str]] = {}
    for problem in sorted(problems, key=lambda p: (SEVERITIES.index(p.severity), p.what, p.case or "")):
        alike.setdefault((problem.severity, problem.what, problem.remedy), []).append(_place(problem))
    rows: list[tuple[str, ...]] = []
    for (severity, what, remedy), places in alike.items():
        more = f" and {len(places) - _MOST_NAMED} more" if len(places) > _MOST_NAMED else ""
        rows.append((severity, ", ".join(places[:_MOST_NAMED]) + more, what, remedy))
    return rows


def _place(problem: Problem) -> str:
    """The case; the file where a problem is of the whole dataset, or an image could not be read."""
    file = "" if problem.file is None else problem.file.name
    if problem.case is None:
        return file or "the dataset"
    return f"{problem.case} ({file})" if file and problem.severity == "error" else problem.case


def _case_row(facts: CaseFacts) -> tuple[str, ...]:
    return (
        facts.case,
        facts.patient,
        facts.site or "–",
        " x ".join(map(str, facts.shape)),
        " x ".join(f"{mm:.3g}" for mm in facts.spacing_mm),
        facts.orientation,
        str(sum(volume > 0 for volume in facts.volumes_ml.values())) if facts.volumes_ml else "no reference",
    )


def dataset_json(page: DatasetPage) -> str:
    """The same for other programs. Sizes are along left-right, front-back, head-foot."""
    content = {
        "schema_version": SCHEMA_VERSION,
        "dataset": page.dataset.name,
        "channels": page.dataset.channels,
        "structures": page.dataset.labels.names,
        "cases": len(page.dataset.cases),
        "patients": page.patients,
        "facts": {facts.case: _facts_json(facts) for facts in page.facts},
        "rule": f"robust z beyond {FARTHEST}: distance from the median, in 1.4826 times the median distance from it",
        "apart": {case.case: [_outlier_json(reason) for reason in case.reasons] for case in page.apart},
        "second_groups": [
            {"quantity": found.quantity.name, "cases": found.cases, "words": found.words} for found in page.factions
        ],
        "twins": [asdict(twin) for twin in page.twins or ()],
        "problems": [
            {**asdict(problem), "file": None if problem.file is None else str(problem.file)}
            for problem in page.problems
        ],
    }
    return json.dumps(content, indent=1, ensure_ascii=False) + "\n"


def _facts_json(facts: CaseFacts) -> Mapping[str, object]:
    return {
        "patient": facts.patient,
        "site": facts.site or None,
        "groups": dict(facts.groups),
        "shape": facts.shape,
        "spacing_mm": facts.spacing_mm,
        "orientation": facts.orientation,
        "intensities": {
            name: {"p05": spread.low, "median": spread.median, "p95": spread.high}
            for name, spread in facts.intensities.items()
        },
        "volumes_ml": dict(facts.volumes_ml),
    }


def _outlier_json(outlier: Outlier) -> Mapping[str, object]:
    return {
        "quantity": outlier.quantity.name,
        "unit": outlier.quantity.unit,
        "value": outlier.value,
        "z": None if np.isnan(outlier.z) else outlier.z,
        "quartiles": outlier.usual,
        "words": outlier.words,
    }


def page_words(page: DatasetPage) -> Sequence[str]:
    """What must not be overlooked, in sentences; () if there is nothing."""
    words = []
    if page.count("error"):
        words.append(f"{count(page.count('error'), 'error')}: these cases cannot be used as they are.")
    if page.count("warning"):
        words.append(f"{count(page.count('warning'), 'warning')}: look at these cases.")
    if page.apart:
        words.append(f"{count(len(page.apart), 'case')} {'stands' if len(page.apart) == 1 else 'stand'} apart.")
    if page.twins:
        others = sum(not twin.same_patient for twin in page.twins)
        pairs = count(len(page.twins), "pair")
        words.append(f"{pairs} of nearly the same image, {others} of them of patients with different names.")
    words += [faction.words for faction in page.factions]
    if page.factions:
        words.append("So many that they are a second group: another scanner, protocol, or scale of the intensities?")
    return words
