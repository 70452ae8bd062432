"""What is written of a case: its label map with a record beside it, probabilities; and what it is drawn beside."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from delineate import formats
from delineate.files import atomic_path, remove
from delineate.formats.deidentification.pseudonyms import PseudonymKey
from delineate.geometry import Grid
from delineate.inference import Prediction
from delineate.labels import LabelSet
from delineate.volume import Kind, Segmentation, Source, Volume
from delineate.workflow.clock import Clock
from delineate.workflow.results import ResultRecord, probability_path, write_record
from delineate.workflow.structures import labels_near


def write_map(
    target: Path,
    found: Prediction,
    clock: Clock,
    record: ResultRecord,
    *,
    complete: Callable[[ResultRecord], ResultRecord] = lambda record: record,
) -> None:
    """A label map with its record; `complete`: adds to it what is known when the map is written, such as the time."""
    segmentation = found.segmentation
    painted = replace(segmentation, array=found.label_map, labels=LabelSet(segmentation.labels.labels))
    with atomic_path(target) as temporary:
        with clock.timing("write"):
            formats.write_segmentation(temporary, painted)
        # Cut off anywhere, a record never stands beside another label map than its own.
        remove(target)
        write_record(target, complete(record))


def write_probabilities(target: Path, prediction: Prediction, *, grid: Grid) -> None:
    """One float map a structure: `a_probability_liver.nii.gz`."""
    names, probabilities = prediction.segmentation.labels.names, prediction.probabilities
    assert probabilities is not None
    # Without regions there is a map of the background, the first.
    for channel, name in zip(probabilities[len(probabilities) - len(names) :], names, strict=True):
        single = Volume(channel[None], grid, Kind.OTHER, Source())
        formats.write_volume(probability_path(target, name), single)


def pseudonymous_uid(uid: str | None, key: PseudonymKey | None) -> str | None:
    return uid if uid is None or key is None else key.uid(uid)


def find_reference(folder: Path | None, case: str, labels: LabelSet) -> Segmentation | None:
    """The case's label map in a folder, or the one that is named itself; what its dataset ignores is ignored."""
    if folder is None:
        return None
    path = next((p for p in (folder / f"{case}.nii.gz", folder / f"{case}.nii", folder) if p.is_file()), None)
    if path is None:
        return None
    told = labels_near(path)
    if told is not None and told.ignore not in labels.structure_values:
        labels = replace(labels, ignore=told.ignore)
    return formats.read_segmentation(path, labels)
