"""Pairs of files read under one set of names and scored, several cases at once."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, as_completed
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TypeVar

import numpy as np

from delineate import evaluation, formats
from delineate.dataset import Dataset, open_dataset, read_labels
from delineate.errors import DatasetError, DelineateError, GeometryMismatch, InputError, LabelError
from delineate.evaluation import CaseScores, Details
from delineate.geometry import Grid
from delineate.labels import LabelSet, label_set
from delineate.metrics.calibration import Calibration
from delineate.resampling import Interpolation, resample_labels
from delineate.settings import Settings
from delineate.volume import Kind, Segmentation, align, reorient
from delineate.workflow.calibrating import calibrate_result
from delineate.workflow.pairing import Pair, Pairing
from delineate.workflow.progress import Watch, nobody
from delineate.workflow.results import ResultRecord, read_record, read_result

Done = TypeVar("Done")

NO_PREDICTION = "there is no prediction"

_BYTES_A_VOXEL = 16  # of a case that is scored: both label maps as read and as compared, and surfaces


@dataclass(frozen=True, slots=True)
class Names:
    """What the label maps' values mean, and who the cases are of: patient, groups and scan by case.

    `images`: the scan's first channel, which measures `kind`. `regions`: where structures overlap, what `predict` wrote
    of the values that each consists of.
    """

    labels: LabelSet
    patients: Mapping[str, str] = field(default_factory=dict)
    groups: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    images: Mapping[str, Path] = field(default_factory=dict)
    kind: Kind = Kind.OTHER
    regions: ResultRecord | None = None


@dataclass(frozen=True, slots=True)
class ScoreOptions:
    """`tolerance_mm`: of surface Dice and boundary IoU, by name. `resample`: bring predictions of another grid onto the
    reference's. `details`: what more is measured."""

    tolerance_mm: Mapping[str, float]
    resample: bool = False
    details: Details = Details()  # noqa: RUF009 - nothing in it changes


@dataclass(frozen=True, slots=True)
class ScoredPair:
    """A pair's scores; None if there is nothing to score against, and `problem` says why. `remarks`: in sentences.

    `calibration`: by structure, where probability maps lie beside the prediction.
    """

    pair: Pair
    scores: CaseScores | None
    problem: str = ""
    remarks: tuple[str, ...] = ()
    calibration: Mapping[str, Calibration] = field(default_factory=dict)


def find_names(references: Path, pairing: Pairing) -> Names:
    """Names of the structures: of regions what predict wrote; else from the dataset, else what predict wrote, else
    values. A folder of references belongs to the dataset that it lies in.

    Raises `LabelError` if nothing but the predictions says what values mean, and they contradict each other,
    `InputError` if nothing says it and the references hold none.
    """
    records = [record for pair in pairing.pairs if pair.prediction and (record := read_record(pair.prediction))]
    told, dataset = _told_beside(references, pairing.dataset)
    regions = next((record for record in records if record.regions), None)
    if regions is not None:
        labels = label_set({value: name for name, value in regions.labels.items()}, overlaps=True)
    elif told is not None:
        labels = told
    else:
        labels = _labels_by_value(pairing.pairs, _named_values(records))
    if dataset is None:
        return Names(labels, regions=regions)
    return Names(
        labels,
        patients={case.id: case.patient_id for case in dataset.cases},
        groups=_groups(dataset),
        images={case.id: case.images[0] for case in dataset.cases if case.images},
        kind=next(iter(dataset.kinds), Kind.OTHER),
        regions=regions,
    )


def read_reference(pair: Pair, labels: LabelSet, regions: ResultRecord | None = None) -> Segmentation:
    """A reference under the structures' names. `regions`: see `Names`; what is beside the prediction, if not given."""
    record = regions or (None if pair.prediction is None else read_record(pair.prediction))
    if record is not None and record.regions:
        return read_result(pair.reference, record)
    return formats.read_segmentation(pair.reference, labels)


def read_prediction(path: Path, labels: LabelSet) -> Segmentation:
    """A prediction under the references' labels: by their names where `predict` wrote down what its values mean.

    Structures that only the prediction has are left out. Raises `LabelError` if there is none that both have, or for
    values without a name.
    """
    record = read_record(path)
    if record is not None and record.regions:
        return read_result(path, record)
    if record is None or record.labels == dict(zip(labels.names, labels.values, strict=True)):
        return formats.read_segmentation(path, labels)
    found = formats.read_segmentation(path, label_set({value: name for name, value in record.labels.items()}))
    shared = [label for label in labels if label.name in record.labels]
    if not shared:
        raise LabelError(
            "the prediction has none of the reference's structures",
            expected=f"one of {list(labels.names)}",
            got=list(record.labels),
            path=path,
        )
    values = np.zeros(max(record.labels.values()) + 1, dtype=np.uint8 if max(labels.values) <= 255 else np.uint16)
    for label in shared:
        values[record.labels[label.name]] = label.value
    return replace(found, array=values[found.array], labels=labels)


def bring_onto(segmentation: Segmentation, grid: Grid) -> Segmentation:
    """A segmentation on another grid: each voxel gets the structure that has the most of it, nothing outside.

    Raises `GeometryMismatch` if the grids' axes are not parallel.
    """
    turned = reorient(segmentation, grid.orientation)
    array = resample_labels(turned.array, turned.grid, grid, interpolation=Interpolation.LINEAR, fill=0)
    return replace(turned, array=array, grid=grid)


def score_pair(pair: Pair, names: Names, options: ScoreOptions, *, threads: int = 1) -> ScoredPair:
    """Score one pair. A prediction that cannot be used is scored as one in which nothing was found."""
    patient, groups = names.patients.get(pair.case), names.groups.get(pair.case, {})
    try:
        reference = read_reference(pair, names.labels, names.regions)
    except (DelineateError, OSError) as error:
        return ScoredPair(pair, None, problem=f"{pair.case}: its reference cannot be used: {error}")
    tolerance_mm, details = options.tolerance_mm, options.details
    remarks: tuple[str, ...] = ()
    calibration: Mapping[str, Calibration] = {}
    try:
        prediction, remarks = usable_prediction(pair, names.labels, reference.grid, options)
        scores = evaluation.score_case(
            pair.case, reference, prediction, tolerance_mm=tolerance_mm, patient_id=patient, threads=threads
        )
        scores = evaluation.with_details(scores, reference, prediction, details, threads=threads)
        calibration, doubts = _calibrate(pair, reference, prediction)
        remarks += doubts
    except (DelineateError, OSError) as error:
        why = NO_PREDICTION if pair.prediction is None else str(error)
        scores = evaluation.score_failure(pair.case, reference, why, tolerance_mm=tolerance_mm, patient_id=patient)
        scores = evaluation.with_details(scores, reference, None, details, threads=threads)
    return ScoredPair(pair, replace(scores, groups=groups), remarks=remarks, calibration=calibration)


def _calibrate(
    pair: Pair, reference: Segmentation, prediction: Segmentation
) -> tuple[Mapping[str, Calibration], tuple[str, ...]]:
    """Probabilities that cannot be used take nothing from the scores of what was predicted."""
    if pair.prediction is None:
        return {}, ()
    try:
        return calibrate_result(pair.prediction, reference, prediction), ()
    except (DelineateError, OSError) as error:
        return {}, (f"{pair.case}: its probabilities cannot be used: {error}",)


def score_pairs(
    pairing: Pairing, names: Names, options: ScoreOptions, *, settings: Settings, watch: Watch = nobody
) -> tuple[ScoredPair, ...]:
    """Score all pairs, as many at once as threads and memory allow, in the pairs' order."""
    at_once = cases_at_once(pairing.pairs, settings)
    threads = max(1, settings.threads // at_once)

    def score(pair: Pair) -> ScoredPair:
        return score_pair(pair, names, options, threads=threads)

    return work_through(score, pairing.pairs, at_once=at_once, stage="Scoring", watch=watch)


def work_through(
    work: Callable[[Pair], Done], pairs: Sequence[Pair], *, at_once: int, stage: str, watch: Watch
) -> tuple[Done, ...]:
    """What `work` gives for each pair, in their order; when it is interrupted, what has not begun is left."""
    pool = ThreadPoolExecutor(at_once)
    try:
        futures: dict[Future[Done], Pair] = {pool.submit(work, pair): pair for pair in pairs}
        for done, future in enumerate(as_completed(futures), start=1):
            watch(stage, done, len(pairs), futures[future].case)
        return tuple(future.result() for future in futures)
    finally:
        pool.shutdown(cancel_futures=True)


def usable_prediction(
    pair: Pair, labels: LabelSet, grid: Grid, options: ScoreOptions
) -> tuple[Segmentation, tuple[str, ...]]:
    """The prediction on the reference's grid, and what was done to it or is missing in it."""
    if pair.prediction is None:
        raise InputError(NO_PREDICTION)
    found = read_prediction(pair.prediction, labels)
    remarks = _unknown_structures(pair.prediction, labels)
    try:
        # A DICOM series may hold its slices in another order than the reference's file.
        return align(found, grid), remarks
    except GeometryMismatch as error:
        if not options.resample:
            raise GeometryMismatch(
                error.problem,
                expected=error.expected,
                got=error.got,
                path=pair.prediction,
                remedy="Predict on the references' scans, or let predictions be resampled (--resample).",
            ) from error
    return bring_onto(found, grid), (*remarks, f"{pair.case}: resampled onto the reference's grid.")


def _unknown_structures(path: Path, labels: LabelSet) -> tuple[str, ...]:
    record = read_record(path)
    if record is None or record.regions:
        return ()
    missing = [name for name in labels.names if name not in record.labels]
    extra = [name for name in record.labels if name not in labels.names]
    remarks = [f"The predictions know no {', '.join(missing)}: counted as missed."] if missing else []
    remarks += [f"The references know no {', '.join(extra)}: left out."] if extra else []
    return tuple(remarks)


def _told_beside(references: Path, dataset: Dataset | None) -> tuple[LabelSet | None, Dataset | None]:
    """What a dataset.json says of references in its folder, or in one below it: names at least, cases maybe."""
    folder = references.parent if references.is_file() else references
    place = next((place for place in (folder, folder.parent) if (place / "dataset.json").is_file()), None)
    if dataset is not None or place is None:
        return None if dataset is None else dataset.labels, dataset
    try:
        found = open_dataset(place)
    except DatasetError:
        return read_labels(place), None
    return found.labels, found


def _groups(dataset: Dataset) -> dict[str, Mapping[str, str]]:
    return {
        case.id: {name: value for name, value in (("site", case.site), *case.groups) if value} for case in dataset.cases
    }


def _named_values(records: Sequence[ResultRecord]) -> dict[int, str]:
    """What all predictions say that values mean; they may know different structures."""
    names: dict[int, str] = {}
    for record in records:
        for name, value in record.labels.items():
            if names.get(value, name) != name or (name in names.values() and value not in names):
                raise LabelError(
                    "the predictions give values different names",
                    expected=f"as in others, {dict(sorted(names.items()))}",
                    got=f"{value} for {name}",
                    case=record.case,
                    remedy="Say what the references' values mean: in a dataset.json beside them.",
                )
            names[value] = name
    return names


def _labels_by_value(pairs: Sequence[Pair], names: Mapping[int, str]) -> LabelSet:
    """Those that are named, and label_N for each other value that a reference has: a structure that no prediction knows
    is one that all have missed. References that cannot be read are told of when they are scored."""
    values, problem = set(names), ""
    for pair in pairs:
        try:
            values.update(np.unique(formats.read_label_values(pair.reference)[0]).tolist())
        except DelineateError as error:
            problem = str(error)
    if not values - {0}:
        raise InputError(
            "the references hold no structure",
            expected="values above 0",
            got=problem or "0 alone",
            path=pairs[0].reference.parent if pairs else None,
        )
    return label_set({value: names.get(value, f"label_{value}") for value in sorted(values - {0})})


def cases_at_once(pairs: Sequence[Pair], settings: Settings, *, bytes_a_voxel: int = _BYTES_A_VOXEL) -> int:
    """How many cases the threads and the memory allow at once."""
    largest = max((_voxels(pair.reference) for pair in pairs), default=0)
    fitting = settings.memory_bytes // max(1, largest * bytes_a_voxel)
    return max(1, min(settings.threads, len(pairs), fitting))


def _voxels(path: Path) -> int:
    try:
        return math.prod(formats.read_grid(path).shape)
    except DelineateError:
        return 0
