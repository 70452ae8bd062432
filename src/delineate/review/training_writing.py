"""The files of one training case that comes from a review: its scan, its labels, and whether they were there before."""

from __future__ import annotations

import shutil
from dataclasses import dataclass, replace
from pathlib import Path

import msgspec

from delineate import formats
from delineate.dataset import Case, Dataset, fingerprint_file
from delineate.errors import DatasetError
from delineate.files import atomic_path
from delineate.formats.exporters import file_names
from delineate.formats.nifti import is_nifti_name
from delineate.review.exports import Reviewed
from delineate.review.training_labels import accepted, painted, unknown
from delineate.review.training_records import (
    SignedLabels,
    TrainingRecord,
    is_same_review,
    read_training_record,
    signatures_of,
)
from delineate.volume import Kind, Segmentation, align
from delineate.workflow.structures import read_scan

FATES = ("added", "labelled", "replaced", "unchanged")
"""What becomes of a case: it is new, was there without labels, had those of an older review, or has these already."""


@dataclass(frozen=True, slots=True)
class Written:
    """A case whose files are there. `fate`: one of `FATES`; `case` as dataset.json is to name
    it; `record`: not yet on disk; `extra`: structures that the dataset has no label for."""

    fate: str
    case: Case
    record: TrainingRecord
    extra: tuple[str, ...] = ()


class KnownCases:
    """The cases of a dataset, by id and by image file: a file is read only if another of its size is looked for."""

    def __init__(self, dataset: Dataset) -> None:
        self.cases = {case.id: case for case in dataset.cases}
        self._by_size: dict[int, list[Case]] = {}
        for case in dataset.cases:
            self._index(case)

    def put(self, case: Case) -> None:
        if case.id not in self.cases:
            self._index(case)
        self.cases[case.id] = case

    def with_image(self, path: Path) -> Case | None:
        """The case whose image is this very file, byte by byte."""
        if not path.is_file():
            return None
        same_size = self._by_size.get(path.stat().st_size, [])
        wanted = fingerprint_file(path) if same_size else ""
        found = (case for case in same_size if fingerprint_file(case.images[0]) == wanted)
        return next((self.cases[case.id] for case in found), None)

    def _index(self, case: Case) -> None:
        if len(case.images) == 1 and case.images[0].is_file():
            self._by_size.setdefault(case.images[0].stat().st_size, []).append(case)


def write_case(folder: Path, dataset: Dataset, known: KnownCases, what: Reviewed, *, patient: str = "") -> Written:
    """Write the files of a case that are to change; dataset.json and the record are the caller's. `patient`: of a new
    case, by default its pseudonym.

    Raises `DatasetError` for a case of which nothing is approved, that has none of the dataset's structures, or whose
    labels in the dataset come from elsewhere; `LabelError` for structures that one label map cannot hold;
    `GeometryMismatch` for a scan that is not the dataset's; and what reading the scan raises.
    """
    new = what.case.new
    own_id = file_names([new.key])[new.key]
    names, decisions = accepted(what)
    if not names:
        raise DatasetError("nothing of it is approved as it is now", got=what.case.state.value.replace("_", " "))
    shared = names & frozenset(dataset.labels.names)
    if not shared:
        raise DatasetError("no structure of the dataset", expected=list(dataset.labels.names), got=sorted(names))
    there = known.cases.get(own_id) or known.with_image(new.scan)
    # A record without its case is of one that somebody took out of the dataset.
    record = None if there is None else read_training_record(folder, there.id)
    signed = SignedLabels(
        revision=what.case.revision,
        seen=what.seen,
        signatures=signatures_of(decisions),
        structures=sorted(shared),
        left_out=unknown(dataset.labels.names, shared),
        label_sha256="",
    )
    if there is not None:
        if record is not None and is_same_review(record, what.case, signed):
            return Written("unchanged", there, record)
        _check_is_ours(there, record, what)
    case = there or replace(_with_scan(folder, dataset, own_id, what), patient_id=patient or new.pseudonym or own_id)
    target = folder / "labelsTr" / f"{case.id}.nii.gz"
    placed = align(what.segmentation, formats.read_grid(case.images[0]))
    values = painted(placed, dataset.labels, shared)
    formats.write_segmentation(
        target, Segmentation(values, placed.grid, replace(dataset.labels, overlaps=False, regions=()))
    )
    made = TrainingRecord(
        case=case.id,
        review=new.key,
        patient=case.patient_id,
        model=new.model,
        model_digest=new.model_digest,
        added=there is None if record is None else record.added,
        now=msgspec.structs.replace(signed, label_sha256=fingerprint_file(target)),
        earlier=[] if record is None else [*record.earlier, record.now],
    )
    fate = "added" if there is None else "labelled" if there.reference is None else "replaced"
    return Written(fate, replace(case, reference=target), made, tuple(sorted(names - shared)))


def _check_is_ours(there: Case, record: TrainingRecord | None, what: Reviewed) -> None:
    if record is None and there.reference is not None:
        raise DatasetError(
            "the dataset has labels of it that come from no review",
            got=f"case {there.id}",
            remedy="They stay. Take them out of the dataset first if the reviewed ones are better.",
        )
    if record is not None and record.review != what.case.new.key:
        raise DatasetError(
            "the dataset has this scan from another review",
            got=f"{record.review}, as case {there.id}",
            remedy="One scan has one set of labels: reject one of the two reviews.",
        )


def _with_scan(folder: Path, dataset: Dataset, case_id: str, what: Reviewed) -> Case:
    """A new case whose scan lies in the dataset: NIfTI as it is, DICOM as NIfTI."""
    new = what.case.new
    target = folder / "imagesTr" / f"{case_id}_0000.nii.gz"
    kind = dataset.kinds[0]
    if is_nifti_name(new.scan) and formats.count_channels(new.scan) > 1:
        raise DatasetError("the scan has several channels", expected="one", path=new.scan)
    if new.scan.name.lower().endswith(".nii.gz"):
        with atomic_path(target) as temporary:
            shutil.copyfile(new.scan, temporary)
    else:
        volume = read_scan(new.scan)
        if Kind.OTHER not in (kind, volume.kind) and kind is not volume.kind:
            raise DatasetError(
                "the scan measures something else than the dataset's", expected=kind.value, got=volume.kind.value
            )
        formats.write_volume(target, volume)
    return Case(case_id, case_id, (target,), None, site=new.site or None)
