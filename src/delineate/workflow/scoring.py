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
from delineate.errors import DelineateError, GeometryMismatch, InputError, LabelError
from delineate.evaluation import CaseScores, Details
from delineate.labels import Label, LabelSet, label_set
from delineate.metrics.calibration import Calibration
from delineate.settings import Settings
from delineate.volume import Segmentation, align, leave_out
from delineate.workflow.calibrating import calibrate_result
from delineate.workflow.naming import Names
from delineate.workflow.pairing import Pair, Pairing
from delineate.workflow.placing import labels_onto_grid
from delineate.workflow.progress import Watch, nobody
from delineate.workflow.results import ResultRecord, read_record, read_result

Done = TypeVar("Done")

NO_PREDICTION = "there is no prediction"

_BYTES_A_VOXEL = 16  # of a case that is scored: both label maps as read and as compared, and surfaces


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


def read_reference(pair: Pair, labels: LabelSet, regions: ResultRecord | None = None) -> Segmentation:
    """A reference under the structures' names. `regions`: see `Names`; what is beside the prediction, if not given."""
    if labels.regions:
        return formats.read_segmentation(pair.reference, labels)
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
        return _of_all(read_result(path, record), labels)
    if record is None or record.labels == dict(zip(labels.names, labels.values, strict=True)):
        return formats.read_segmentation(path, labels)
    found = formats.read_segmentation(path, label_set({value: name for name, value in record.labels.items()}))
    if labels.overlaps:
        return _of_all(found, labels)
    shared = _shared(found, labels)
    values = np.zeros(max(record.labels.values()) + 1, dtype=np.uint8 if max(labels.values) <= 255 else np.uint16)
    for label in shared:
        values[record.labels[label.name]] = label.value
    return replace(found, array=values[found.array], labels=labels)


def _of_all(found: Segmentation, labels: LabelSet) -> Segmentation:
    """Masks of all labels, in their order; those that the prediction does not know are empty."""
    if found.labels.names == labels.names:
        return found
    masks = np.zeros((len(labels), *found.grid.shape), dtype=bool)
    for label in _shared(found, labels):
        masks[labels.names.index(label.name)] = found.mask(label.name)
    return replace(found, array=masks, labels=labels)


def _shared(found: Segmentation, labels: LabelSet) -> list[Label]:
    shared = [label for label in labels if label.name in found.labels.names]
    if not shared:
        raise LabelError(
            "the prediction has none of the reference's structures",
            expected=f"one of {list(labels.names)}",
            got=list(found.labels.names),
            path=found.source.path,
        )
    return shared


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
        prediction, remarks = usable_prediction(pair, names.labels, reference, options)
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
    if pair.prediction is None or reference.ignored is not None:
        return {}, ()  # what a map says of ignored voxels is neither right nor wrong
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
    pair: Pair, labels: LabelSet, reference: Segmentation, options: ScoreOptions
) -> tuple[Segmentation, tuple[str, ...]]:
    """The prediction on the reference's grid, background where that ignores voxels; and what was done or is missing."""
    if pair.prediction is None:
        raise InputError(NO_PREDICTION)
    found = read_prediction(pair.prediction, labels)
    remarks = _unknown_structures(pair.prediction, labels)
    try:
        # A DICOM series may hold its slices in another order than the reference's file.
        return leave_out(align(found, reference.grid), reference.ignored), remarks
    except GeometryMismatch as error:
        if not options.resample:
            raise GeometryMismatch(
                error.problem,
                expected=error.expected,
                got=error.got,
                path=pair.prediction,
                remedy="Predict on the references' scans, or let predictions be resampled (--resample).",
            ) from error
    placed = leave_out(labels_onto_grid(found, reference.grid), reference.ignored)
    return placed, (*remarks, f"{pair.case}: resampled onto the reference's grid.")


def _unknown_structures(path: Path, labels: LabelSet) -> tuple[str, ...]:
    record = read_record(path)
    if record is None:
        return ()
    missing = [name for name in labels.names if name not in record.labels]
    extra = [name for name in record.labels if name not in labels.names]
    remarks = [f"The predictions know no {', '.join(missing)}: counted as missed."] if missing else []
    remarks += [f"The references know no {', '.join(extra)}: left out."] if extra else []
    return tuple(remarks)


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
