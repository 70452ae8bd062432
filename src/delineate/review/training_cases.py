"""`delineate dataset add --reviewed`: what was approved becomes training cases, with who signed them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from delineate.dataset import Dataset, open_dataset, put_cases, write_dataset_json
from delineate.errors import DatasetError, DelineateError
from delineate.files import exclusive
from delineate.labels import Label, LabelSet
from delineate.review.exports import Reviewed
from delineate.review.records import ReviewCase
from delineate.review.training_records import write_training_record
from delineate.review.training_writing import FATES, KnownCases, Written, write_case
from delineate.volume import Kind
from delineate.workflow.progress import Watch, nobody
from delineate.workflow.structures import read_scan

_AT_ONCE = 50  # cases written before the dataset names them


@dataclass(frozen=True, slots=True)
class Added:
    """What became of the cases, by their ids in the dataset: new ones, those that were there without labels, those
    whose labels a newer approval replaced, and those that stay. `refused`, `remarks`: sentences."""

    added: tuple[str, ...] = ()
    labelled: tuple[str, ...] = ()
    replaced: tuple[str, ...] = ()
    unchanged: tuple[str, ...] = ()
    refused: tuple[str, ...] = ()
    remarks: tuple[str, ...] = ()

    @property
    def changed(self) -> tuple[str, ...]:
        return (*self.added, *self.labelled, *self.replaced)


def add_reviewed(
    folder: Path,
    cases: Sequence[ReviewCase],
    read: Callable[[ReviewCase], Reviewed],
    *,
    patients: Mapping[str, str] | None = None,
    model: Path | None = None,
    watch: Watch = nobody,
) -> Added:
    """Put what was approved of `cases` into the dataset in `folder`, which is made where there is none.

    `read`: gives a case with its labels and decisions. A case is known again by its name and by its image file: the
    same review twice changes nothing, a newer one replaces the older one's labels, and labels that came from elsewhere
    stay. Structures are mapped by name. New cases are put before the others, so that the last ones, which are set
    aside, stay the same. The dataset names a case only when its files are complete. `patients`: of the review's cases
    by their keys, see `patients_of`; a case that is not among them is of a patient of its own. `model`: whose test
    cases are told among those that changed.
    Raises `DatasetError` for a folder that is no dataset, one of several channels, and for no cases to make a new one
    of; `ResourceError` if another run is writing there. What is wrong with a case refuses that case.
    """
    patients = patients or {}
    with exclusive(folder):
        dataset = _opened(folder, cases)
        known = KnownCases(dataset)
        refused: list[str] = []
        written: list[Written] = []
        waiting: list[Written] = []
        for done, case in enumerate(cases, start=1):
            try:
                one = write_case(folder, dataset, known, read(case), patient=patients.get(case.new.key, ""))
            except DelineateError as error:
                refused.append(str(error.in_case(case.new.key)))
            else:
                known.put(one.case)
                written.append(one)
                waiting += [one] if one.fate != "unchanged" else []
            if len(waiting) >= _AT_ONCE or (waiting and done == len(cases)):
                _name(folder, dataset, waiting)
                waiting = []
            watch("Adding", done, len(cases), case.new.key)
        fates = {fate: tuple(one.case.id for one in written if one.fate == fate) for fate in FATES}
        made = Added(**fates, refused=tuple(refused))
        new = [one for one in written if one.fate != "unchanged"]
        return replace(made, remarks=(*_left_out(dataset, new), *_tested(model, known, made.changed, patients)))


def _opened(folder: Path, cases: Sequence[ReviewCase]) -> Dataset:
    """The dataset, or a new one of the cases' structures, in order of their first appearance."""
    if (folder / "dataset.json").exists() or any(folder.iterdir()):
        dataset = open_dataset(folder)
        if len(dataset.channels) > 1:
            raise DatasetError(
                "reviewed cases have one scan", expected="one channel", got=", ".join(dataset.channels), path=folder
            )
        return dataset
    if not cases:
        raise DatasetError("no cases to make a dataset of", path=folder, remedy="Approve some cases first.")
    named = {part.name: part for case in cases for part in case.new.structures}
    labels = LabelSet(tuple(Label(n, part.name, part.colour) for n, part in enumerate(named.values(), start=1)))
    kind = read_scan(cases[0].new.scan).kind
    channel = "image" if kind is Kind.OTHER else kind.value
    return Dataset(folder.resolve().name, (channel,), labels, ())


def _name(folder: Path, dataset: Dataset, written: Sequence[Written]) -> None:
    """Put cases whose files are there into dataset.json, then keep where they are from: one without is done again."""
    cases = [one.case for one in written]
    if (folder / "dataset.json").exists():
        put_cases(folder, cases)
    else:
        write_dataset_json(folder, replace(dataset, cases=tuple(cases)))
    for one in written:
        write_training_record(folder, one.record)


def _left_out(dataset: Dataset, written: Sequence[Written]) -> Iterator[str]:
    """What the cases do not say, and what of them the dataset has no label for."""
    partial = [one.case.id for one in written if one.record.now.left_out]
    if partial:
        names = sorted({name for one in written for name in one.record.now.left_out})
        how = (
            "What is background there is ignored in training."
            if dataset.labels.ignore is not None
            else "Train with --missing-labels unknown, or they are taken to be absent from these patients."
        )
        yield f"{len(partial)} case(s) say nothing of {', '.join(names)}, which were rejected or never drawn. {how}"
    for name, count in sorted(Counter(name for one in written for name in one.extra).items()):
        yield f"{name} is no label of the dataset, and was left out of {count} case(s)."


def _tested(
    model: Path | None, known: KnownCases, changed: Sequence[str], patients: Mapping[str, str]
) -> Iterator[str]:
    """Patients whom a model was tested, or chosen, on: scores on them will not be of unseen patients any more."""
    if model is None or not changed:
        return
    from delineate.model import read_provenance  # imports torch

    provenance, _ = read_provenance(model)
    uses = (("tested", provenance.held_out_cases), ("chosen", provenance.validation_cases))
    ours = {known.cases[case_id].patient_id for case_id in changed}
    for use, case_ids in uses:
        theirs = {known.cases[one].patient_id if one in known.cases else patients.get(one, one) for one in case_ids}
        both = sorted(ours & theirs)
        if both:
            yield (
                f"{len(both)} patient(s) of these are among those that {model.name} was {use} on: {', '.join(both[:5])}"
                f"{', ...' if len(both) > 5 else ''}. A model that trains on them cannot be {use} on them."
            )
