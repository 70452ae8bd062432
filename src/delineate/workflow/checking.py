"""`delineate check`: every problem of a dataset in one list, and pictures of what is in it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from delineate import formats
from delineate.dataset import Case, Dataset, Problem, check_case, check_files, check_reference, problem_of
from delineate.errors import DelineateError
from delineate.files import write_bytes
from delineate.fingerprint import CaseMeasurements, measure_case, summarise
from delineate.planning import Machine, Plan, make_plan
from delineate.preprocessing import find_box, normalise
from delineate.reports.figures import preview_figure
from delineate.settings import Settings
from delineate.volume import Segmentation, Source, Volume, from_values
from delineate.workflow.progress import Watch, nobody
from delineate.workflow.structures import read_case, read_image


@dataclass(frozen=True, slots=True)
class CheckReport:
    """All problems, and the previews that were written."""

    problems: tuple[Problem, ...]
    previews: tuple[Path, ...]

    @property
    def errors(self) -> int:
        return sum(problem.severity == "error" for problem in self.problems)


@dataclass(frozen=True, slots=True, eq=False)
class Look:
    """What one case holds and what is wrong with it; without image, reference and measurements if it cannot be used."""

    problems: tuple[Problem, ...] = ()
    image: Volume | None = None
    reference: Segmentation | None = None
    measurements: CaseMeasurements | None = None


def check(
    dataset: Dataset,
    *,
    folder: Path | None = None,
    previews: Path | None = None,
    most_previews: int = 12,
    settings: Settings,
    watch: Watch = nobody,
) -> CheckReport:
    """Look at every file of a dataset. `folder`: where it lies, to find files that belong to no case.

    `previews`: where to draw up to `most_previews` cases, evenly chosen; those with problems come first.
    """
    problems = check_files(dataset, folder)
    measured: list[CaseMeasurements] = []
    for done, case in enumerate(dataset.cases, start=1):
        look = look_at(case, dataset)
        problems += look.problems
        measured += [look.measurements] if look.measurements is not None else []
        watch("Checking", done, len(dataset.cases), case.id)
    if previews is None or not measured:
        return CheckReport(tuple(problems), ())
    labels = dataset.labels
    fingerprint = summarise(
        dataset.name,
        measured,
        channels=dataset.channels,
        labels=labels.names,
        pairs=labels.pairs,
        regions=labels.regions,
    )
    plan = make_plan(fingerprint, Machine(settings.device, settings.memory_bytes, settings.precision))
    usable = {m.fingerprint.id for m in measured}
    chosen = _choose([case for case in dataset.cases if case.id in usable], problems, most_previews)
    paths = []
    for done, case in enumerate(chosen, start=1):
        path = previews / f"{case.id}.png"
        write_bytes(path, _preview(case, dataset, plan))
        paths.append(path)
        watch("Drawing previews", done, len(chosen), case.id)
    return CheckReport(tuple(problems), tuple(paths))


def look_at(case: Case, dataset: Dataset) -> Look:
    """Read a case once, and find what is wrong with it. What cannot be read is a problem, not an error."""
    if not all(path.exists() for path in (*case.images, *case.references)):
        return Look()  # named among the files already
    problems: list[Problem] = []
    image = array = grid = None
    try:
        image = read_image(case, dataset.kinds)
    except DelineateError as error:
        problems.append(problem_of(error, case.id))
    try:
        if case.reference is not None:
            array, grid = formats.read_label_values(case.reference)
    except DelineateError as error:
        problems.append(problem_of(error, case.id))
    if image is None or (case.reference is not None and array is None):
        return Look(tuple(problems))
    problems += check_case(
        case, image, channels=dataset.channels, labels=dataset.labels, label_array=array, label_grid=grid
    )
    problems += [problem for other in case.others for problem in _look_at_reader(case, other, image, dataset)]
    if any(problem.severity == "error" for problem in problems):
        return Look(tuple(problems))
    reference = None
    if array is not None and grid is not None:
        reference = from_values(array, grid, dataset.labels, Source(path=case.reference))
    return Look(tuple(problems), image, reference, measure_case(case.id, image, reference, dataset.kinds))


def _look_at_reader(case: Case, reference: Path, image: Volume, dataset: Dataset) -> list[Problem]:
    try:
        array, grid = formats.read_label_values(reference)
    except DelineateError as error:
        return [problem_of(error, case.id)]
    return check_reference(replace(case, reference=reference), image.grid, dataset.labels, array, grid)


def _choose(cases: Sequence[Case], problems: Sequence[Problem], most: int) -> list[Case]:
    suspicious = {problem.case for problem in problems}
    ordered = sorted(cases, key=lambda case: case.id not in suspicious)
    flagged = sum(case.id in suspicious for case in cases)
    if flagged >= most or len(ordered) <= most:
        return ordered[:most]
    rest = ordered[flagged:]
    spread = np.linspace(0, len(rest) - 1, most - flagged).round().astype(int)
    return ordered[:flagged] + [rest[n] for n in spread]


def _preview(case: Case, dataset: Dataset, plan: Plan) -> bytes:
    image, reference = read_case(case, dataset.labels, dataset.kinds)
    channels = zip(image.array, plan.normalisation, strict=True)
    normalised = np.stack([normalise(channel.astype(np.float32), how) for channel, how in channels])
    box = find_box(image, plan)
    return preview_figure(image, reference, title=case.id, channels=dataset.channels, crop_box=box, prepared=normalised)
