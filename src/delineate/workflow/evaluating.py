"""`delineate evaluate`: predictions on disk against references on disk."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from delineate import evaluation, formats
from delineate.dataset import open_dataset
from delineate.errors import DelineateError, InputError, LabelError
from delineate.evaluation import CaseScores, SideConfusion
from delineate.files import write_text
from delineate.formats.nifti import is_nifti_name
from delineate.labels import Colour, LabelSet, label_set
from delineate.metrics.definitions import METRICS
from delineate.reports.tables import ScoreRow
from delineate.settings import Settings
from delineate.volume import Segmentation, align
from delineate.workflow.progress import Watch, nobody
from delineate.workflow.results import read_record, read_result


@dataclass(frozen=True, slots=True)
class EvaluationResult:
    """Scores a structure, the mean Dice a case, left/right swaps, problems in words, and the files written."""

    rows: tuple[ScoreRow, ...]
    case_dice: Mapping[str, float]
    swaps: tuple[SideConfusion, ...]
    problems: tuple[str, ...]
    scores: Path
    table: Path

    @property
    def cases(self) -> int:
        return len(self.case_dice)


@dataclass(frozen=True, slots=True)
class _Pair:
    case: str
    reference: Path
    prediction: Path


def evaluate(
    references: Path,
    predictions: Path,
    *,
    output: Path | None = None,
    tolerance_mm: float = 2.0,
    settings: Settings,
    watch: Watch = nobody,
) -> EvaluationResult:
    """Score every prediction that has a reference; write scores.json and scores.csv.

    `references`: a label map, a folder of them, or a dataset. A prediction without reference is a problem that is
    reported, as is a case that cannot be read. Raises `InputError` if no case can be scored.
    """
    pairs, problems = _pair(references, predictions)
    labels, patients = _find_labels(references, pairs)

    def one(pair: _Pair) -> tuple[CaseScores, tuple[SideConfusion, ...]] | DelineateError:
        try:
            reference, prediction = _read_pair(pair, labels)
            # A DICOM series may hold its slices in another order than the reference's file.
            prediction = align(prediction, reference.grid)
            scores = evaluation.score_case(
                pair.case, reference, prediction, tolerance_mm=tolerance_mm, patient_id=patients.get(pair.case)
            )
        except DelineateError as error:
            return error.in_case(pair.case)
        overlapping = reference.labels.overlaps or prediction.labels.overlaps
        return scores, () if overlapping else evaluation.left_right_confusion(reference, prediction)

    scored: list[CaseScores] = []
    swaps: list[tuple[SideConfusion, ...]] = []
    with ThreadPoolExecutor(settings.threads) as pool:
        for done, outcome in enumerate(pool.map(one, pairs), start=1):
            if isinstance(outcome, DelineateError):
                problems.append(str(outcome))
            else:
                scored.append(outcome[0])
                swaps.append(outcome[1])
            watch("Scoring", done, len(pairs), pairs[done - 1].case)
    if not scored:
        raise InputError("no case could be scored", got="; ".join(problems[:5]) or "no case", path=predictions)
    folder = output or (predictions if predictions.is_dir() else predictions.parent)
    return _write(folder, scored, swaps, problems, labels)


def _read_pair(pair: _Pair, labels: LabelSet) -> tuple[Segmentation, Segmentation]:
    """Reference and prediction under one set of labels. Regions are made of the same values in both."""
    record = read_record(pair.prediction)
    if record is not None and record.regions:
        return read_result(pair.reference, record), read_result(pair.prediction, record)
    return formats.read_segmentation(pair.reference, labels), _read_prediction(pair.prediction, labels)


def _read_prediction(path: Path, labels: LabelSet) -> Segmentation:
    """A prediction under the references' labels: by their names where `predict` wrote down what its values mean.

    Structures that only the prediction has are left out. Raises `LabelError` if there is none that both have.
    """
    record = read_record(path)
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


def _pair(references: Path, predictions: Path) -> tuple[list[_Pair], list[str]]:
    """Predictions with their references by name, and what has no partner."""
    if references.is_file() and predictions.is_file():
        return [_Pair(formats.image_stem(predictions), references, predictions)], []
    if references.is_file() or predictions.is_file():
        raise InputError("a file is scored against a file, a folder against a folder", path=references)
    folder = references / "labelsTr" if (references / "labelsTr").is_dir() else references
    known, found = _label_maps(folder), _label_maps(predictions)
    problems = [f"{case}: there is no reference of this name" for case in found if case not in known]
    if folder == references:
        # Of a whole dataset only the cases that were segmented are meant; a folder of references is meant whole.
        problems += [f"{case}: there is no prediction of this name" for case in known if case not in found]
    return [_Pair(case, known[case], found[case]) for case in found if case in known], problems


def _label_maps(folder: Path) -> dict[str, Path]:
    files = sorted(file for file in folder.iterdir() if is_nifti_name(file) and not file.name.startswith("."))
    return {formats.image_stem(file): file for file in files if "_probability_" not in file.name}


def _find_labels(references: Path, pairs: Sequence[_Pair]) -> tuple[LabelSet, dict[str, str]]:
    """Names of the structures, and the cases' patients: of regions what predict wrote; else from the dataset, else what
    predict wrote, else values."""
    for pair in pairs:
        record = read_record(pair.prediction)
        if record is not None and record.regions:
            return label_set({value: name for name, value in record.labels.items()}, overlaps=True), {}
    folder = references.parent if references.is_file() else references
    for place in (folder, folder.parent):
        if (place / "dataset.json").is_file():
            dataset = open_dataset(place)
            return dataset.labels, {case.id: case.patient_id for case in dataset.cases}
    for pair in pairs:
        record = read_record(pair.prediction)
        if record is not None:
            return label_set({value: name for name, value in record.labels.items()}), {}
    values = {int(v) for pair in pairs for v in np.unique(formats.read_label_values(pair.reference)[0]) if v}
    return label_set({value: f"label_{value}" for value in values}), {}


def _write(
    folder: Path,
    scored: Sequence[CaseScores],
    swaps: Sequence[tuple[SideConfusion, ...]],
    problems: Sequence[str],
    labels: LabelSet,
) -> EvaluationResult:
    summary = evaluation.summarise(scored, generator=np.random.default_rng(0))
    scores, table = folder / "scores.json", folder / "scores.csv"
    write_text(scores, json.dumps(evaluation.to_json(summary), indent=1) + "\n")
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(evaluation.csv_rows(summary))
    write_text(table, text.getvalue())
    return EvaluationResult(
        rows=tuple(_score_row(label.name, summary, label.colour) for label in labels),
        case_dice={case.case_id: evaluation.mean_of_case(case, METRICS[0]) for case in scored},
        swaps=tuple(_add_up(same) for same in zip(*swaps, strict=True)),
        problems=tuple(problems),
        scores=scores,
        table=table,
    )


def _score_row(name: str, summary: evaluation.Evaluation, colour: Colour) -> ScoreRow:
    structure = summary.structures[name]
    return ScoreRow(
        name,
        structure.cases - structure.absent,
        structure.metrics["dice"].mean,
        surface_dice=structure.metrics["surface_dice"].mean,
        hd95_mm=structure.metrics["hd95_mm"].median,
        missed=structure.missed,
        spurious=structure.spurious,
        colour=colour,
    )


def _add_up(same: Sequence[SideConfusion]) -> SideConfusion:
    first = same[0]
    return SideConfusion(
        first.left, first.right, sum(s.left_as_right for s in same), sum(s.right_as_left for s in same)
    )
