"""`delineate agreement`: several readers' label maps of the same cases, and a model's among them."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from delineate import formats
from delineate.errors import DelineateError, GeometryMismatch, InputError
from delineate.evaluation.consensus import Method, consensus
from delineate.evaluation.observer_output import DEFINITIONS, agreement_rows, places_json
from delineate.evaluation.observers import MODEL, Against, CaseAgreement, Place, compare_readers, places
from delineate.files import write_csv, write_text
from delineate.geometry import Grid
from delineate.labels import LabelSet, label_set
from delineate.settings import Settings
from delineate.volume import Segmentation, align
from delineate.workflow.naming import Names, find_names
from delineate.workflow.pairing import Pair, Pairing, label_maps, name_folders
from delineate.workflow.placing import labels_onto_grid
from delineate.workflow.progress import Watch, nobody
from delineate.workflow.results import read_record, read_result
from delineate.workflow.scoring import cases_at_once, read_prediction, work_through

SCHEMA_VERSION = 1
SEED = 0  # of the bootstrap: the same cases give the same intervals

_BYTES_A_VOXEL = 8  # of each reader of a case that is compared


@dataclass(frozen=True, slots=True)
class AgreementOptions:
    """`tolerance_mm`: of surface Dice and boundary IoU. `consensus`: which one is written; None: none.

    `resample`: bring label maps of another grid onto the first reader's; they are left out otherwise.
    """

    tolerance_mm: float = 2.0
    consensus: Method | None = Method.STAPLE
    resample: bool = False


@dataclass(frozen=True, slots=True)
class AgreementResult:
    """`read`: cases compared, by reader and, last, the model; `missing`: those that it has no usable label map of.

    `failures`: why the model counts as having missed all of a case. `problems`: what could not be compared; `remarks`:
    what was left out or done otherwise; sentences both. `report`, `table`, `consensus`: what was written.
    """

    cases: tuple[CaseAgreement, ...]
    places: tuple[Place, ...]
    read: Mapping[str, int]
    missing: Mapping[str, tuple[str, ...]]
    failures: Mapping[str, str]
    problems: tuple[str, ...]
    remarks: tuple[str, ...]
    report: Path
    table: Path
    consensus: Path | None

    @property
    def has_model(self) -> bool:
        return MODEL in self.read

    @property
    def missed_by_model(self) -> dict[str, int]:
        """How many cases count as missed, by `MODEL`; nothing without a model."""
        return {MODEL: len(self.failures)} if self.has_model else {}


@dataclass(frozen=True, slots=True)
class _Work:
    """`readers`: files by reader and case; `predictions`: the model's by case, None without a model."""

    readers: Mapping[str, Mapping[str, Path]]
    predictions: Mapping[str, Path] | None
    names: Names
    options: AgreementOptions
    folder: Path


@dataclass(frozen=True, slots=True)
class _Done:
    """One case; `agreement` is None if fewer than two readers can be used. `missing`: readers without usable file."""

    case: str
    agreement: CaseAgreement | None
    missing: tuple[str, ...]
    failed: str = ""
    problems: tuple[str, ...] = ()
    remarks: tuple[str, ...] = field(default=())


def agree(
    folders: Sequence[Path],
    output: Path,
    *,
    predictions: Path | None = None,
    options: AgreementOptions = AgreementOptions(),
    settings: Settings,
    watch: Watch = nobody,
) -> AgreementResult:
    """Compare readers, a folder of label maps each, case by case; write agreement.json, agreement.csv and a consensus.

    Cases are those that two readers or more have, by the files' names; who has no usable file of a case is left out of
    it, and counted. A model without usable prediction counts as having found nothing. Raises `InputError` for fewer
    than two folders, one that is given twice or holds no label map, and if no case can be compared.
    """
    readers = name_folders(folders, taken=(MODEL,))
    files = {reader: label_maps(folder) for reader, folder in readers.items()}
    empty = [reader for reader, found in files.items() if not found]
    if empty:
        raise InputError("no label map", expected="NIfTI files named by case", got=empty, path=readers[empty[0]])
    predicted = None if predictions is None else label_maps(predictions)
    cases = sorted({case for found in files.values() for case in found})
    work = _Work(files, predicted, _find_names(folders, files, predicted), options, output)
    done = _compare_all(work, cases, settings=settings, watch=watch)
    compared = [each.agreement for each in done if each.agreement is not None]
    problems = tuple(problem for each in done for problem in each.problems)
    if not compared:
        raise InputError("no case could be compared", got="; ".join(problems[:5]), path=folders[0])
    found = [p for against in Against for p in places(compared, np.random.default_rng(SEED), against=against)]
    report = AgreementResult(
        cases=tuple(compared),
        places=tuple(found),
        read=_count_read(work, compared, done),
        missing={reader: tuple(d.case for d in done if reader in d.missing) for reader in files},
        failures={each.case: each.failed for each in done if each.failed and each.agreement is not None},
        problems=problems,
        remarks=(*(remark for each in done for remark in each.remarks), *_remarks(work, compared, cases)),
        report=output / "agreement.json",
        table=output / "agreement.csv",
        consensus=None if options.consensus is None else output / "consensus",
    )
    _write(report, work.names.labels)
    return report


def _find_names(
    folders: Sequence[Path], files: Mapping[str, Mapping[str, Path]], predicted: Mapping[str, Path] | None
) -> Names:
    """What the values mean, and whose the cases are: of the first folder that says so."""
    pairs = [Pair(case, path, (predicted or {}).get(case)) for found in files.values() for case, path in found.items()]
    told = [find_names(folder, Pairing(tuple(pairs))) for folder in folders if _is_told(folder)]
    if told:
        return next((names for names in told if names.patients), told[0])
    # Readers may be models too.
    records = [Pair(pair.case, pair.reference, pair.prediction or pair.reference) for pair in pairs]
    return find_names(folders[0], Pairing(tuple(records)))


def _is_told(folder: Path) -> bool:
    return any((place / "dataset.json").is_file() for place in (folder, folder.parent))


def _compare_all(work: _Work, cases: Sequence[str], *, settings: Settings, watch: Watch) -> tuple[_Done, ...]:
    pairs = [Pair(case, _files_of(work, case)[0], (work.predictions or {}).get(case)) for case in cases]
    # The readers, the model, and a consensus on the way.
    at_once = cases_at_once(pairs, settings, bytes_a_voxel=_BYTES_A_VOXEL * (len(work.readers) + 1))
    threads = max(1, settings.threads // at_once)
    return work_through(
        lambda pair: _compare(work, pair, threads=threads), pairs, at_once=at_once, stage="Comparing", watch=watch
    )


def _files_of(work: _Work, case: str) -> list[Path]:
    return [found[case] for found in work.readers.values() if case in found]


def _compare(work: _Work, pair: Pair, *, threads: int) -> _Done:
    case, readers, problems, remarks = pair.case, {}, [], []
    grid: Grid | None = None
    for reader, files in work.readers.items():
        if case not in files:
            continue
        try:
            readers[reader], resampled = _read(files[case], work, grid)
        except DelineateError as error:
            problems.append(f"{reader} left out of {case}: {error}")
            continue
        grid = readers[reader].grid
        remarks += [f"{case}: {reader}'s was resampled onto the first reader's grid."] if resampled else []
    missing = tuple(reader for reader in work.readers if reader not in readers)
    if len(readers) < 2 or grid is None:
        only = ", ".join(readers) or "nobody"
        problems.append(f"{case}: left out, only {only} has a label map that can be used")
        return _Done(case, None, missing, problems=tuple(problems))
    prediction, failed = _model(work, pair, next(iter(readers.values())))
    agreement = compare_readers(
        case,
        readers,
        prediction,
        tolerance_mm=work.options.tolerance_mm,
        patient_id=work.names.patients.get(case),
        threads=threads,
    )
    if work.options.consensus is not None:
        _write_consensus(work.folder / "consensus", case, consensus(list(readers.values()), work.options.consensus))
    return _Done(case, agreement, missing, failed, tuple(problems), tuple(remarks))


def _read(path: Path, work: _Work, grid: Grid | None) -> tuple[Segmentation, bool]:
    """A label map on the first reader's grid, and whether it had to be resampled."""
    regions, own = work.names.regions, read_record(path)
    if regions is not None and (own is None or not own.regions):
        found = read_result(path, regions)
    else:
        found = read_prediction(path, work.names.labels)
    if grid is None:
        return found, False
    try:
        return align(found, grid), False
    except GeometryMismatch as error:
        if not work.options.resample:
            raise GeometryMismatch(
                "not on the first reader's grid",
                expected=error.expected,
                got=error.got,
                path=path,
                remedy="Let label maps be resampled (--resample).",
            ) from error
    return labels_onto_grid(found, grid), True


def _model(work: _Work, pair: Pair, reader: Segmentation) -> tuple[Segmentation | None, str]:
    """The model's segmentation, an empty one where there is none that can be used, and then why."""
    if work.predictions is None:
        return None, ""
    nothing = replace(reader, array=np.zeros_like(reader.array))
    if pair.prediction is None:
        return nothing, "there is no prediction"
    try:
        return _read(pair.prediction, work, reader.grid)[0], ""
    except DelineateError as error:
        return nothing, str(error)


def _count_read(work: _Work, compared: Sequence[CaseAgreement], done: Sequence[_Done]) -> dict[str, int]:
    read = {reader: sum(reader in case.readers for case in compared) for reader in work.readers}
    return read if work.predictions is None else {**read, MODEL: sum(case.has_model for case in compared)}


def _remarks(work: _Work, compared: Sequence[CaseAgreement], cases: Sequence[str]) -> list[str]:
    strangers = sorted(set(work.predictions or {}) - set(cases))
    remarks = [f"{len(strangers)} predictions of cases that nobody read left out."] if strangers else []
    pairs = sum(len(case.readers) == 2 for case in compared)
    if pairs:
        remarks.append(
            f"{pairs} of {len(compared)} cases have two readers: there is no consensus of the others to compare with, "
            "and their own consensus is, by majority, what both drew; STAPLE can't tell who of two is right."
        )
    return remarks


def _write_consensus(folder: Path, case: str, segmentation: Segmentation) -> None:
    labels = segmentation.labels
    if not labels.overlaps:
        formats.write_segmentation(folder / f"{case}.nii.gz", segmentation)
        return
    for name in labels.names:
        mask = Segmentation(segmentation.mask(name).astype(np.uint8), segmentation.grid, label_set({1: name}))
        formats.write_segmentation(folder / f"{case}_{re.sub(r'[^0-9a-zA-Z-]+', '_', name)}.nii.gz", mask)


def _write(result: AgreementResult, labels: LabelSet) -> None:
    content = {
        "schema_version": SCHEMA_VERSION,
        "readers": {
            reader: {"cases": count, "missing": list(result.missing[reader])}
            for reader, count in result.read.items()
            if reader != MODEL
        },
        "model": {"cases": result.read[MODEL], "failures": dict(result.failures)} if result.has_model else None,
        "cases": {case.case_id: {"patient": case.patient_id, "readers": list(case.readers)} for case in result.cases},
        "structures": places_json(result.places),
        "problems": list(result.problems),
        "remarks": list(result.remarks),
        "definitions": DEFINITIONS,
    }
    write_text(result.report, json.dumps(content, indent=1, ensure_ascii=False, allow_nan=False) + "\n")
    write_csv(result.table, agreement_rows(result.cases))
    if result.consensus is not None and not labels.overlaps:
        # As nnU-Net does: it names the values for whoever reads the folder as references.
        values = {"background": 0, **dict(zip(labels.names, labels.values, strict=True))}
        write_text(result.consensus / "dataset.json", json.dumps({"labels": values}, indent=1) + "\n")
