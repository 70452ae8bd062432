"""`delineate measure`: findings on segmentations on disk, as files for people and for other systems."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path

from delineate import formats
from delineate.errors import DelineateError, InputError
from delineate.files import check_writable
from delineate.formats.exporters import ExportOptions
from delineate.formats.fhir import Occasion, write_fhir
from delineate.labels import LabelSet
from delineate.measurement.scan_findings import MeasureOptions, measure_scan
from delineate.settings import Settings
from delineate.volume import Kind, Segmentation, Volume, align
from delineate.workflow.exporting import export, files_of
from delineate.workflow.finding_files import CaseFindings, write_json, write_table
from delineate.workflow.pairing import label_maps
from delineate.workflow.progress import Watch, nobody
from delineate.workflow.results import read_record
from delineate.workflow.structures import labels_at, others_of, read_any_segmentation, read_scan

JSON, TABLE = "findings.json", "findings.csv"


@dataclass(frozen=True, slots=True)
class MeasureRequest:
    """What to measure and where. `segmentation`: a file, or a folder of NIfTI label maps; `image`: the scan, or the
    folder in which each case's scan is. `variants`: other results for the same scan; without them those that `predict`
    wrote with the result, if `own_variants`. `label_file`: a dataset.json.

    `kind`: what a NIfTI scan's numbers measure. `fhir`: also a bundle for each case; `series`: the DICOM series that
    was segmented, for a structured report.
    """

    segmentation: Path
    output: Path
    image: Path | None = None
    kind: Kind | None = None
    variants: tuple[Path, ...] = ()
    own_variants: bool = True
    label_file: Path | None = None
    options: MeasureOptions = MeasureOptions()  # noqa: RUF009 - nothing in it changes
    fhir: bool = False
    series: Path | None = None


@dataclass(frozen=True, slots=True)
class MeasureRun:
    """Cases in their order; `problems`: cases that could not be measured, in words; `files`: what was written."""

    cases: tuple[CaseFindings, ...]
    problems: tuple[str, ...]
    files: tuple[Path, ...]


def measure(request: MeasureRequest, *, settings: Settings, watch: Watch = nobody) -> MeasureRun:
    """Measure a case, or all of a folder, and write findings.json and findings.csv into the output folder.

    Of a folder, a case that cannot be measured is a problem, and the others go on. Raises `InputError` for a folder
    without label maps, and for variants or a series with a folder; what reading and measuring one case raises.
    """
    check_writable(request.output)
    labels = labels_at(request.label_file)
    if not request.segmentation.is_dir():
        case, segmentation = _one(request, request.segmentation, request.image, labels, settings)
        watch("Measuring", 1, 1, request.segmentation.name)
        more = _more(request, case, segmentation)
        return _written(request, [case], [], more)
    _check_folder(request)
    found = label_maps(request.segmentation)
    if not found:
        raise InputError("nothing to measure", expected="NIfTI label maps", path=request.segmentation)
    cases, problems, files = [], [], []
    for done, (name, path) in enumerate(found.items(), start=1):
        try:
            image = None if request.image is None else scan_of(request.image, name)
            case, segmentation = _one(request, path, image, labels, settings)
            files += _more(request, case, segmentation)
            cases.append(case)
        except DelineateError as error:
            problems.append(str(error.in_case(name)))
        watch("Measuring", done, len(found), name)
    return _written(request, cases, problems, files)


def scan_of(folder: Path, case: str) -> Path:
    """A case's scan in a folder: CASE.nii.gz, CASE_0000.nii.gz, or a folder CASE with a DICOM series.

    Raises `InputError` if there is none.
    """
    names = [f"{case}{tail}{suffix}" for tail in ("", "_0000") for suffix in (".nii.gz", ".nii", "")]
    for name in names:
        if (folder / name).exists():
            return folder / name
    raise InputError(
        "the folder has no scan of this case", expected=f"{names[0]} or {names[3]}", case=case, path=folder
    )


def _check_folder(request: MeasureRequest) -> None:
    for what, given in (("other results for one scan", request.variants), ("one DICOM series", request.series)):
        if given:
            raise InputError(
                f"{what} cannot belong to a folder of segmentations",
                path=request.segmentation,
                remedy="Name one segmentation.",
            )
    if request.image is not None and not request.image.is_dir():
        raise InputError("of a folder, the scans must be in a folder, too", path=request.image)


def _one(
    request: MeasureRequest, path: Path, image: Path | None, labels: LabelSet | None, settings: Settings
) -> tuple[CaseFindings, Segmentation]:
    volume = None if image is None else read_scan(image, request.kind)
    grid = None if volume is None else volume.grid
    segmentation = read_any_segmentation(path, labels=labels, grid=grid)
    others = others_of(path, request.variants, own=request.own_variants, labels=labels, grid=segmentation.grid)
    found = measure_scan(
        segmentation,
        volume,
        variants=others.segmentations,
        over=others.over,
        options=request.options,
        threads=settings.threads,
    )
    record = read_record(path)
    return CaseFindings(
        case=formats.image_stem(path),
        segmentation=path.name,
        image=None if image is None else image.name,
        grid=segmentation.grid,
        found=replace(found, remarks=(*others.remarks, *found.remarks)),
        study_uid=_study(segmentation, volume),
        model=segmentation.author if record is None else record.model,
    ), segmentation


def _study(segmentation: Segmentation, volume: Volume | None) -> str | None:
    return segmentation.source.study_uid or (None if volume is None else volume.source.study_uid)


def _more(request: MeasureRequest, case: CaseFindings, segmentation: Segmentation) -> list[Path]:
    """Files for other systems."""
    files = []
    if request.series is not None:
        files += _report(request, case, segmentation)
    if request.fhir:
        path = request.output / f"{case.case}.fhir.json"
        occasion = Occasion(study_uid=case.study_uid, made=datetime.now(), model=case.model)
        write_fhir(path, case.found.findings, occasion)
        files.append(path)
    return files


def _report(request: MeasureRequest, case: CaseFindings, segmentation: Segmentation) -> list[Path]:
    """A DICOM SEG object and the report on its segments. What is measured on no single structure is not in it."""
    stack = formats.stack_at(request.series) if request.series is not None else None
    if stack is None:
        return []
    placed = replace(align(segmentation, stack.grid), author=case.model)
    findings = tuple(one for one in case.found.findings if one.label.name in segmentation.labels.names)
    options = ExportOptions(sources=files_of(stack), findings=findings)
    return list(export(placed, request.output / case.case, ("seg", "sr"), options=options))


def _written(
    request: MeasureRequest, cases: Sequence[CaseFindings], problems: Sequence[str], files: Sequence[Path]
) -> MeasureRun:
    if not cases:
        raise InputError("no case could be measured", got="; ".join(problems[:5]), path=request.segmentation)
    report, table = request.output / JSON, request.output / TABLE
    write_json(report, cases, problems)
    write_table(table, cases)
    return MeasureRun(tuple(cases), tuple(problems), (report, table, *files))
