"""What can be known before a run, or after it, of the data it is to learn from."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import msgspec
import numpy as np

from delineate.dataset import Dataset, digest
from delineate.dataset.cases import folder_files
from delineate.errors import DatasetError, DelineateError
from delineate.planning import Plan
from delineate.training import Incident, TrainingState
from delineate.workflow.progress import Watch
from delineate.workflow.training_run import Run

_MOST = 6  # names in a sentence


def check_references(run: Run, watch: Watch) -> None:
    """Say which structures no validation case has.

    Raises `DatasetError` for a validation case without a reference, and for structures that no training case has: the
    network could only learn never to find them. Where what was not drawn is unknown ("missing_labels"), it would not
    even learn that: nothing tells such a structure from the background.
    """
    bare = [case.id for case in run.validation if case.target is None]
    if bare:
        raise DatasetError(
            "validation cases have no reference",
            got=_listed(bare),
            path=run.folder.folder,
            remedy="Add their label files, or divide the cases otherwise (--fold, --hold-out).",
        )
    values = {value for case in run.training for value in case.values_of_all}
    missing = _missing(run.plan, values)
    if missing:
        raise DatasetError(
            "no training case has these structures",
            got=_listed(missing),
            remedy="Take them out of dataset.json, add cases that have them, or divide the cases so that some train "
            "(--fold, --folds, --hold-out; --fold all trains on every case).",
        )
    if run.validation:
        present: set[int] = set()
        for case in run.validation:
            present.update(int(value) for value in np.unique(np.asarray(case.target)))
        unseen = _missing(run.plan, present)
        if unseen:
            watch("Validation", 1, 1, f"in no validation case: {_listed(unseen)}; how well they are found is not known")


def _missing(plan: Plan, values: set[int]) -> list[str]:
    """The names of structures none of whose values is among those found."""
    if plan.regions:
        return [region.name for region in plan.regions if values.isdisjoint(region.values)]
    return [name for value, name in enumerate(plan.labels, start=1) if value not in values]


def _listed(names: Iterable[str]) -> str:
    named = list(names)
    return ", ".join(named[:_MOST]) + (f" and {len(named) - _MOST} more" if len(named) > _MOST else "")


@dataclass(frozen=True, slots=True)
class Stamps:
    """Sizes and times of a dataset's files, and what the dataset contained then."""

    files: Mapping[Path, tuple[int, int]]
    digest: str


def take_stamps(dataset: Dataset, dataset_digest: str) -> Stamps:
    """How the files lie there now; a missing one has none."""
    return Stamps({path: stamp for path in _files(dataset) if (stamp := _stamp(path)) is not None}, dataset_digest)


def _files(dataset: Dataset) -> Iterable[Path]:
    for case in dataset.cases:
        for path in (*case.images, *([] if case.reference is None else [case.reference]), *case.others):
            yield from folder_files(path) if path.is_dir() else [path]


def _stamp(path: Path) -> tuple[int, int] | None:
    try:
        facts = path.stat()
    except OSError:
        return None
    return facts.st_size, facts.st_mtime_ns


def note_changes(dataset: Dataset, before: Stamps, state: TrainingState, watch: Watch) -> None:
    """Say, and remember in the run, that a dataset was changed under it.

    The run learned from copies that were prepared at its beginning, so its weights are of the dataset as it was.
    """
    now = take_stamps(dataset, before.digest).files
    changed = sorted(str(path) for path in before.files.keys() | now.keys() if before.files.get(path) != now.get(path))
    if not changed or _digest(dataset) == before.digest:
        return
    what = f"the dataset was changed during the run ({_listed(Path(path).name for path in changed)})"
    facts = state.facts
    if all(incident.what != what for incident in facts.incidents):
        incidents = (*facts.incidents, Incident(step=facts.step, what=what))
        state.facts = msgspec.structs.replace(facts, incidents=incidents)
    watch("Dataset", 1, 1, f"{what}: the model is of what it was; to learn from it as it is, train into a new folder")


def _digest(dataset: Dataset) -> str | None:
    try:
        return digest(dataset)
    except DelineateError:
        return None
