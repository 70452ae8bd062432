"""`delineate report dataset`: one pass over the files of a dataset, and a page about what was found."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from delineate.dataset import Case, Dataset, Problem, check_files, open_dataset
from delineate.evaluation.descriptors import ImageDescriptor, describe_volume
from delineate.evaluation.likeness import find_near_duplicates
from delineate.files import check_writable, write_text
from delineate.reports.case_pictures import outlined_slices
from delineate.reports.contact_sheets import Tile, contact_sheets, draw_tile, failed_tile
from delineate.reports.dataset_facts import CaseFacts, Outlier, describe_case, outliers_by_case, quantities
from delineate.reports.dataset_pages import Apart, DatasetPage, Twin, dataset_json, render_dataset
from delineate.settings import Settings
from delineate.workflow.checking import look_at
from delineate.workflow.progress import Watch, nobody

_MOST_PICTURES = 24
_SHEET = (6, 2)  # columns and rows of small pictures
_PICTURES_BYTES = 2_800_000  # so that a page stays below 5 MB, with base64's third more


@dataclass(frozen=True, slots=True)
class DatasetReport:
    """The page and the JSON that were written, and what they say."""

    html: Path
    json: Path
    page: DatasetPage


@dataclass(frozen=True, slots=True)
class _Seen:
    problems: tuple[Problem, ...]
    facts: CaseFacts | None = None
    tile: Tile | None = None
    descriptor: ImageDescriptor | None = None


def report_dataset(path: Path, output: Path, *, settings: Settings, watch: Watch = nobody) -> DatasetReport:
    """Look at every file of a dataset once, and write a page to `output` and a JSON file of the same name beside it.

    A case that cannot be read is a problem on the page. Raises `DatasetError` if `path` is no dataset.
    """
    dataset = open_dataset(path)
    check_writable(output.parent)
    problems = check_files(dataset, path if path.is_dir() else None)
    seen = _look_at_all(dataset, settings, watch)
    for one in seen:
        problems += one.problems
    facts = tuple(one.facts for one in seen if one.facts is not None)
    compared = quantities(facts, dataset.channels, dataset.kinds)
    apart, factions = outliers_by_case(facts, compared)
    pictured, unpictured = _pictures(dataset, apart, watch)
    twins = _twins(dataset, seen, watch)
    page = DatasetPage(dataset, facts, compared, pictured, factions, twins, tuple(problems), unpictured, _sheet(seen))
    data = output.with_suffix(".json")
    write_text(data, dataset_json(page))
    write_text(output, render_dataset(page))
    return DatasetReport(output, data, page)


def _look_at_all(dataset: Dataset, settings: Settings, watch: Watch) -> list[_Seen]:
    """What is in every case, in the dataset's order; as many scans are in memory as there are threads."""

    spread = np.linspace(0, len(dataset.cases) - 1, min(_SHEET[0] * _SHEET[1], len(dataset.cases)))
    shown = {dataset.cases[round(n)].id for n in spread}

    def one(case: Case) -> _Seen:
        look = look_at(case, dataset)
        if look.image is None or look.measurements is None:
            return _Seen(look.problems, tile=failed_tile(case.id, "cannot be used") if case.id in shown else None)
        return _Seen(
            look.problems,
            describe_case(case, look.image, look.measurements, dataset),
            draw_tile(case.id, look.image, look.reference) if case.id in shown else None,
            describe_volume(look.image),
        )

    seen: list[_Seen] = []
    pool = ThreadPoolExecutor(settings.threads)
    try:
        for done, found in enumerate(pool.map(one, dataset.cases), start=1):
            seen.append(found)
            watch("Looking at cases", done, len(dataset.cases), dataset.cases[done - 1].id)
    finally:
        pool.shutdown(cancel_futures=True)  # who stops it need not wait for the other cases
    return seen


def _twins(dataset: Dataset, seen: Sequence[_Seen], watch: Watch) -> tuple[Twin, ...]:
    """Cases whose images are nearly the same, the most alike first."""
    pairs = zip(dataset.cases, seen, strict=True)
    described = {case.id: one.descriptor for case, one in pairs if one.descriptor is not None}
    patients = {case.id: case.patient_id for case in dataset.cases}
    found = find_near_duplicates(described, tell=lambda done, total: watch("Comparing images", done, total, ""))
    return tuple(
        Twin(pair.first, pair.second, pair.likeness.correlation, patients[pair.first] == patients[pair.second])
        for pair in found
    )


def _sheet(seen: Sequence[_Seen]) -> bytes | None:
    """The first look: evenly chosen cases side by side."""
    tiles = [one.tile for one in seen if one.tile is not None]
    return next(contact_sheets(tiles, columns=_SHEET[0], rows=_SHEET[1]), None)


def _pictures(
    dataset: Dataset, apart: Mapping[str, tuple[Outlier, ...]], watch: Watch
) -> tuple[tuple[Apart, ...], str]:
    """The cases that stand apart, the first ones with their picture, and why the others have none."""
    drawn: list[Apart] = []
    spent = 0
    for done, (case_id, reasons) in enumerate(apart.items(), start=1):
        png = None
        if done <= _MOST_PICTURES and spent < _PICTURES_BYTES:
            png = _picture(dataset, case_id, reasons)
            spent += 0 if png is None else len(png)
            watch("Drawing cases that stand apart", done, min(len(apart), _MOST_PICTURES), case_id)
        drawn.append(Apart(case_id, reasons, png))
    bare = sum(one.png is None for one in drawn)
    why = f"{bare} of {len(drawn)} cases have no picture here, to keep the page small." if bare else ""
    return tuple(drawn), why


def _picture(dataset: Dataset, case_id: str, reasons: Sequence[Outlier]) -> bytes | None:
    cases = [case for case in dataset.cases if case.id == case_id]
    look = look_at(cases[0], dataset)
    structure = next((reason.quantity.structure for reason in reasons if reason.quantity.structure), "")
    return None if look.image is None else outlined_slices(look.image, look.reference, structure)
