"""From folders to the worklist: which results there are, which scan each is of, who it is about, and what speaks
against it.

Results are label maps with the record that `delineate predict` writes beside them; in a folder of segmentations any
label maps; and DICOM SEG objects that are not exports of these. A scan is found by the series that a result's record or
object names, or by the result's name.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Generator, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

import msgspec
import numpy as np

from delineate import formats
from delineate.dataset import Dataset, open_dataset
from delineate.errors import DatasetError, DelineateError, InputError
from delineate.formats.dicom.headers import is_dicom
from delineate.formats.dicom.instances import read_instance
from delineate.formats.nifti import is_nifti_name
from delineate.review.case_facts import CaseFacts, case_facts
from delineate.review.case_subject import Subject, subject_of
from delineate.review.finding_scans import EXPERIMENT, Series, Tree, find_series_at, look_through, scan_of
from delineate.review.priorities import Assessment, assess
from delineate.review.records import NewCase
from delineate.settings import detect
from delineate.workflow.import_records import read_import
from delineate.workflow.pairing import label_maps
from delineate.workflow.progress import Watch, nobody
from delineate.workflow.results import ResultRecord, read_record

NewCases = Generator[NewCase, None, tuple[str, ...]]
"""Cases one by one; what it returns in the end are sentences about results that were left out."""


@dataclass(frozen=True, slots=True, eq=False)
class _Result:
    """`series`: UIDs of which one is the scan's, as far as it says."""

    name: str
    path: Path
    record: ResultRecord | None
    series: tuple[str, ...]


@dataclass(frozen=True, slots=True, eq=False)
class _Found:
    result: _Result
    scan: Path
    subject: Subject
    facts: CaseFacts

    @property
    def model(self) -> str:
        return "" if self.result.record is None else self.result.record.model

    @property
    def doubts(self) -> Sequence[str]:
        return () if self.result.record is None else self.result.record.doubts

    @property
    def notes(self) -> Sequence[str]:
        return () if self.result.record is None else self.result.record.notes


def find_cases(
    workspace: Path | None = None,
    scans: Path | None = None,
    segmentations: Path | None = None,
    *,
    references: Path | None = None,
    collection: str = "",
    watch: Watch = nobody,
) -> NewCases:
    """What there is to review in a `workspace`, or of `scans` and their `segmentations`; see `gather` for both parts.

    A workspace is a folder with results of `predict` and their scans, as the demo's or an experiment's. `references`:
    people's segmentations, a folder of them or a dataset; without, those of a dataset in the same folders. A result
    whose scan is not there or has other voxels, or that cannot be read, is left out with a sentence. What is measured
    is kept in the machine's cache. Raises `InputError` if there is no result, or none that could be taken.
    """
    tree = look_through(_root(workspace, scans, segmentations))
    near = tree if scans is None else look_through(scans)
    near = _with_dataset_of_experiment(near, tree)
    results = _results(tree, any_map=segmentations is not None)
    if not results:
        raise InputError(
            "there is nothing to review",
            expected="results of delineate predict (CASE.nii.gz with CASE.json), or DICOM SEG objects",
            path=tree.root,
            remedy="Name the folder of the results, or two: delineate review SCANS SEGMENTATIONS.",
        )
    watch("Finding scans", 0, 1, "")
    search = _Search(near, results)
    watch("Finding scans", 1, 1, "")
    found, problems = search.all_found(watch)
    if not found:
        raise InputError(f"none of {len(results)} result(s) could be taken for review: {_first_of(problems)}")
    named = _references(references, found, (near, tree))
    models = {note.digest: note.name for note in (*near.models, *tree.models)}
    where = collection or tree.root.resolve().name
    assessments = _assessed(found, (near, tree))
    for one, assessment, key in zip(found, assessments, _keys(found), strict=True):
        case = _new_case(one, assessment, models.get(one.model, one.model[:12]))
        yield replace(case, key=key, collection=where, reference=named.get(one.result.name))
    return tuple(problems)


def gather(cases: NewCases) -> tuple[tuple[NewCase, ...], tuple[str, ...]]:
    """All cases, and the sentences about what was left out. Raises what `find_cases` raises."""
    found: list[NewCase] = []
    while True:
        try:
            found.append(next(cases))
        except StopIteration as end:
            return tuple(found), end.value


def _first_of(problems: Sequence[str]) -> str:
    more = f" {len(problems) - 1} more could not be taken either." if len(problems) > 1 else ""
    return f"{problems[0]}{more}"


def _root(workspace: Path | None, scans: Path | None, segmentations: Path | None) -> Path:
    if (workspace is None) == (segmentations is None) or (scans is None) != (segmentations is None):
        raise InputError("what is to be reviewed is not clear", expected="a workspace, or scans and segmentations")
    root = workspace or segmentations
    assert root is not None
    return root


class _Experiment(msgspec.Struct):
    dataset: str
    folds: tuple[tuple[str, ...], ...]

    @property
    def cases(self) -> frozenset[str]:
        return frozenset(case for fold in self.folds for case in fold)


def _with_dataset_of_experiment(near: Tree, tree: Tree) -> Tree:
    """An experiment does not hold its scans: a dataset of its name and cases beside it does."""
    if near.datasets:
        return near
    found: dict[Path, Dataset] = {}
    for folder in tree.experiments:
        with suppress(OSError, msgspec.DecodeError, DatasetError):
            wanted = msgspec.json.decode((folder / EXPERIMENT).read_bytes(), type=_Experiment)
            for beside in sorted(folder.resolve().parent.glob("*/dataset.json")):
                dataset = open_dataset(beside.parent)
                if wanted.dataset == dataset.name and wanted.cases <= {case.id for case in dataset.cases}:
                    found[beside.parent] = dataset
    return replace(near, datasets=tuple(found.items()))


def _results(tree: Tree, *, any_map: bool) -> list[_Result]:
    found = []
    if any_map:
        maps = label_maps(tree.root) if tree.root.is_dir() else {formats.image_stem(p): p for p in tree.nifti}
        found = [_of_map(path) for path in maps.values()]
    if not found:
        recorded = [_of_map(path) for path in tree.nifti if not _is_set_aside(path, tree)]
        found = [one for one in recorded if one.record is not None and not _is_rival(one.path, tree)]
    taken = {(one.path.parent, one.name) for one in found}
    objects = [path for _, files in tree.folders for path in files if (path.parent, _object_name(path)) not in taken]
    if not found or any_map:
        found += [one for path in objects for one in _of_object(path)]
    return found


def _is_set_aside(path: Path, tree: Tree) -> bool:
    return "_probability_" in path.name or path.resolve() in tree.references


def _is_rival(path: Path, tree: Tree) -> bool:
    """Whether it was made by a candidate of an experiment that was not chosen."""
    for folder in tree.experiments:
        rivals = folder / "predictions"
        if path.is_relative_to(rivals):
            return path.parent != rivals / _chosen(folder)
    return False


class _Choice(msgspec.Struct):
    chosen: str


def _chosen(experiment: Path) -> str:
    """The name of the candidate that was chosen; of an experiment that is not over, the first."""
    try:
        return msgspec.json.decode((experiment / "choice.json").read_bytes(), type=_Choice).chosen
    except (OSError, msgspec.DecodeError):
        return next((path.name for path in sorted((experiment / "predictions").iterdir()) if path.is_dir()), "")


def _of_map(path: Path) -> _Result:
    record = read_record(path)
    series = () if record is None or not record.series_uid else (record.series_uid,)
    return _Result(formats.image_stem(path), path, record, series)


def _of_object(path: Path) -> Iterator[_Result]:
    if path.is_file() and is_dicom(path):
        instance = read_instance(path)
        if instance.facts.modality == "SEG":
            yield _Result(_object_name(path), path, None, instance.refers_to)


def _object_name(path: Path) -> str:
    return formats.image_stem(path).removesuffix(".seg")


class _Search:
    """For the scans of results in a tree."""

    def __init__(self, near: Tree, results: Sequence[_Result]) -> None:
        self._near, self._results = near, results
        self._settings = detect("cpu")
        self._others = frozenset(one.path for one in results)
        self._series = find_series_at(near, [uid for one in results for uid in one.series])

    def all_found(self, watch: Watch) -> tuple[list[_Found], list[str]]:
        """The results with their scans, and why others have none or cannot be used."""
        found: list[_Found] = []
        problems: list[str] = []
        with ThreadPoolExecutor(self._settings.threads) as pool:
            for done, one in enumerate(pool.map(self._found, self._results), start=1):
                if isinstance(one, _Found):
                    found.append(one)
                else:
                    problems.append(str(one))
                watch("Measuring results", done, len(self._results), one.subject.key if isinstance(one, _Found) else "")
        return found, problems

    def _found(self, result: _Result) -> _Found | DelineateError:
        try:
            scan = self._scan_of(result)
            subject = subject_of(result.name, result.path, scan)
            return _Found(result, scan, subject, case_facts(result.path, scan, cache=self._settings.cache))
        except DelineateError as error:
            return error.in_case(result.name)
        except OSError as error:
            return InputError("a file cannot be read", got=error.strerror, path=error.filename, case=result.name)

    def _scan_of(self, result: _Result) -> Path:
        root = self._near.root
        if root.is_file() and len(self._results) == 1:
            return root
        series: Series | None = next((self._series[uid] for uid in result.series if uid in self._series), None)
        try:
            return scan_of(self._near, result.name, series, other_than=self._others)
        except InputError:
            if len(self._results) == 1 and root.is_dir() and formats.is_image(root):
                return root
            raise


def _references(given: Path | None, found: Sequence[_Found], trees: Sequence[Tree]) -> Mapping[str, Path]:
    """People's segmentations by the results' names."""
    if given is None:
        named: dict[str, Path] = {}
        for name, cases in (each for tree in trees for each in tree.cases.items()):
            if len(cases) == 1 and cases[0].reference is not None:
                named[name] = cases[0].reference
        return named
    if given.is_file() and (is_nifti_name(given) or is_dicom(given)):
        return {one.result.name: given for one in found if len(found) == 1}
    if (given / "dataset.json").is_file() or given.is_file():
        return {case.id: case.reference for case in open_dataset(given).cases if case.reference is not None}
    return label_maps(given)


def _assessed(found: Sequence[_Found], trees: Sequence[Tree]) -> Sequence[Assessment]:
    facts = [one.facts.as_result(one.subject.key, model=one.model, doubts=one.doubts, notes=one.notes) for one in found]
    reviewed = {one.result.name for one in found}
    return assess(facts, _reference_volumes(trees, reviewed))


def _reference_volumes(trees: Sequence[Tree], reviewed: set[str]) -> Mapping[str, Sequence[float]]:
    """Of imported datasets' other cases: an import counted the voxels."""
    volumes: dict[str, list[float]] = {}
    for folder, dataset in {folder: dataset for tree in trees for folder, dataset in tree.datasets}.items():
        for case in dataset.cases:
            record = None if case.id in reviewed else read_import(folder, case.id)
            if record is not None:
                voxel_ml = abs(float(np.linalg.det(np.array(record.affine)[:3, :3]))) / 1000
                for name, voxels in record.voxels.items():
                    volumes.setdefault(name, []).append(voxels * voxel_ml)
    return volumes


def _keys(found: Sequence[_Found]) -> Iterator[str]:
    """One each: results of one name in several folders are told apart by what is in them, whatever their order."""
    counts = Counter(one.subject.key for one in found)
    for one in found:
        key = one.subject.key
        yield key if counts[key] == 1 else f"{key}-{one.facts.digest[:8]}"


def _new_case(one: _Found, assessment: Assessment, model: str) -> NewCase:
    return NewCase(
        key=one.subject.key,
        collection="",
        pseudonym=one.subject.pseudonym,
        patient_name=one.subject.patient_name,
        scan=one.scan.absolute(),
        segmentation=one.result.path.absolute(),
        digest=one.facts.digest,
        structures=tuple(structure.shown for structure in one.facts.structures),
        overlaps=one.facts.overlaps,
        model=model,
        model_digest=one.model,
        date=one.subject.date,
        site=one.subject.site,
        scanner=one.subject.scanner,
        warnings=assessment.warnings,
        priority=assessment.priority,
        priority_reasons=assessment.reasons,
    )
