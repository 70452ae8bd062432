"""Read, measure, plan, prepare: from a dataset to what training needs."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import MappingProxyType
from typing import TypeVar

from delineate import resampling
from delineate.dataset import Case, Dataset, unite_labels
from delineate.errors import DatasetError, DelineateError
from delineate.fingerprint import CaseMeasurements, Fingerprint, measure_case, summarise
from delineate.labels import LabelSet
from delineate.planning import Plan, PlanOptions, make_plan
from delineate.preprocessing import PreparedCase, check_absent, prepare, with_readers
from delineate.settings import Settings
from delineate.volume import Segmentation
from delineate.workflow.progress import Watch, nobody
from delineate.workflow.readings import read_readings
from delineate.workflow.results import read_record, read_result
from delineate.workflow.speed import machine_of
from delineate.workflow.structures import read_case
from delineate.workspace import PreparedCache

Result = TypeVar("Result")

NOTHING_BEFORE: Mapping[str, Path] = MappingProxyType({})


def use_threads(settings: Settings) -> None:
    """Let the networks and the resampling use the settings' threads."""
    import torch

    torch.set_num_threads(settings.threads)
    resampling.set_threads(settings.threads)


def measure(dataset: Dataset, settings: Settings, *, watch: Watch = nobody) -> Fingerprint:
    """The fingerprint of all cases with a reference. Raises `DatasetError` that lists every case that failed."""
    labelled = [case for case in dataset.cases if case.reference is not None]

    def one(case: Case) -> CaseMeasurements:
        image, reference = read_case(case, dataset.labels, dataset.kinds)
        return measure_case(case.id, image, reference, dataset.kinds)

    measured = _for_each(labelled, one, "Measuring", settings, watch)
    return summarise(
        dataset.name,
        measured,
        channels=dataset.channels,
        labels=dataset.labels.names,
        pairs=dataset.labels.pairs,
        regions=dataset.labels.regions,
    )


def plan_dataset(
    dataset: Dataset, settings: Settings, options: PlanOptions | None = None, *, watch: Watch = nobody
) -> Plan:
    """Plan a dataset for this machine. Raises `LabelError` for regions of labels that the dataset lacks."""
    dataset = unite_labels(dataset, () if options is None else options.regions)
    return plan_measured(measure(dataset, settings, watch=watch), settings, options)


def plan_measured(fingerprint: Fingerprint, settings: Settings, options: PlanOptions | None = None) -> Plan:
    """Plan what was measured already for this machine."""
    return make_plan(fingerprint, machine_of(settings, options), options)


def prepare_cases(
    cases: Sequence[Case],
    labels: LabelSet,
    plan: Plan,
    settings: Settings,
    *,
    before: Mapping[str, Path] = NOTHING_BEFORE,
    watch: Watch = nobody,
) -> list[PreparedCase]:
    """Prepared cases, memory-mapped from the cache; what is not there yet is made, one case at a time.

    `before`: of each case, by its id, the label map of the cascade's stage before, as `predict` writes it.
    Raises `DatasetError` that lists every case that failed; those already made stay in the cache.
    """
    cache = PreparedCache(settings.cache)
    cache.sweep()

    def one(case: Case) -> PreparedCase:
        check_absent(case.absent, plan, path=case.images[0])
        previous = before.get(case.id) if plan.previous else None
        key = cache.key(case, plan, labels, previous=previous)
        found = cache.load(key, case.id)
        if found is not None:
            return found
        image, reference, others = read_readings(case, labels, plan)
        found_before = None if previous is None else _stage_before(previous)
        prepared = with_readers(prepare(case.id, image, reference, plan, previous=found_before), others, plan)
        cache.save(key, prepared)
        return cache.load(key, case.id) or prepared

    return _for_each(cases, one, "Preparing", settings, watch)


def _stage_before(path: Path) -> Segmentation:
    """What a cascade's first stage found, as `predict` writes it. Raises `DatasetError` without its record."""
    record = read_record(path)
    if record is None:
        raise DatasetError(
            "nothing says what the masks of the stage before mean", path=path, remedy="Predict the case again."
        )
    return read_result(path, record)


def _for_each(
    cases: Sequence[Case], work: Callable[[Case], Result], stage: str, settings: Settings, watch: Watch
) -> list[Result]:
    """Results in the cases' order; all cases are tried before a failure is raised."""
    results: list[Result] = []
    failures: list[DelineateError] = []
    with ThreadPoolExecutor(settings.threads) as pool:
        for done, outcome in enumerate(pool.map(lambda case: _attempt(work, case), cases), start=1):
            if isinstance(outcome, DelineateError):
                failures.append(outcome)
            else:
                results.append(outcome)
            watch(stage, done, len(cases), cases[done - 1].id)
    if failures:
        raise _summary(failures, len(cases))
    return results


def _attempt(work: Callable[[Case], Result], case: Case) -> Result | DelineateError:
    try:
        return work(case)
    except DelineateError as error:
        return error.in_case(case.id)


def _summary(failures: Sequence[DelineateError], count: int) -> DelineateError:
    if len(failures) == 1:
        return failures[0]
    lines = "".join(f"\n  {error}" for error in failures[:20])
    return DatasetError(f"{len(failures)} of {count} cases cannot be used:{lines}\n  See `delineate check`")
