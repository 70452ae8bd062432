"""`delineate report case`: a page about one scan's structures and lesions, and its PDF."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

from delineate import formats
from delineate.errors import ExportError, InputError
from delineate.files import check_writable, write_bytes, write_text
from delineate.formats.nifti import is_nifti_name
from delineate.measurement.lesions import lesion_labels
from delineate.measurement.scan_findings import MeasureOptions, measure_scan
from delineate.reports.case_drawings import draw_case
from delineate.reports.case_pages import CasePage, Review, render_case
from delineate.reports.pages import Pairs
from delineate.reports.pdf import check_pdf, html_to_pdf
from delineate.settings import Settings
from delineate.volume import Kind, Segmentation, Volume
from delineate.workflow.case_identity import Identity, Naming, identify
from delineate.workflow.progress import Watch, nobody
from delineate.workflow.results import ResultRecord, read_record
from delineate.workflow.structures import OtherResults, labels_at, others_of, read_any_segmentation, read_scan

_STEPS = 4
_UNKNOWN = "not recorded"


@dataclass(frozen=True, slots=True)
class CaseRequest:
    """What to report and where. `segmentation`: a file; `image`: the scan; `variants`: other results for it;
    without them those that `predict` wrote with the result, if `own_variants`.

    `kind`: what a NIfTI scan's numbers measure; `label_file`: a dataset.json. `pictures`: structures to be shown in
    three planes, the largest without. `model`: the folder of the model that made it, for its name. `naming`: how much
    the page tells of the patient. `result`: what `predict` wrote, where the segmentation is that with corrections.
    """

    segmentation: Path
    output: Path
    image: Path | None = None
    kind: Kind | None = None
    variants: tuple[Path, ...] = ()
    own_variants: bool = True
    label_file: Path | None = None
    options: MeasureOptions = MeasureOptions()  # noqa: RUF009 - nothing in it changes
    pictures: tuple[str, ...] = ()
    pdf: Path | None = None
    model: Path | None = None
    naming: Naming = Naming()  # noqa: RUF009 - nothing in it changes
    review: Review = Review()  # noqa: RUF009 - nothing in it changes
    result: Path | None = None


@dataclass(frozen=True, slots=True)
class CaseReport:
    """The files that were written, and what must be known before their numbers are used."""

    html: Path
    pdf: Path | None
    warnings: tuple[str, ...]


@dataclass(frozen=True, slots=True, eq=False)
class _Scene:
    """What was read. `notes`: what was done to the series to make a volume of it."""

    scan: Volume | None
    segmentation: Segmentation
    others: OtherResults
    record: ResultRecord | None
    notes: tuple[str, ...]


def report_case(request: CaseRequest, *, settings: Settings, watch: Watch = nobody) -> CaseReport:
    """Measure one case, draw it, and write the page, and its PDF if that is asked for.

    Raises `InputError` for a folder of results and for a model that made another result, `ExportError` where a
    de-identified page would tell who the patient is, `ResourceError` where no PDF can be written, `LabelError` for
    unknown names, `GeometryMismatch` for files of other voxels, and what reading and measuring raise.
    """
    _check(request)
    case = request.segmentation.name
    watch("Reading", 0, _STEPS, case)
    scene = _read(request)
    identity = identify(request.segmentation, request.image, request.naming)
    provenance = _provenance(request, scene)
    watch("Measuring", 1, _STEPS, case)
    measured = measure_scan(
        scene.segmentation,
        scene.scan,
        variants=scene.others.segmentations,
        over=scene.others.over,
        options=request.options,
        threads=settings.threads,
    )
    watch("Drawing", 2, _STEPS, case)
    lesions = lesion_labels(scene.segmentation.labels, request.options.lesions.names)
    page = CasePage(
        title=identity.title,
        facts=(*identity.facts, *_scanned(scene)),
        grid=scene.segmentation.grid,
        measured=measured,
        pictures=draw_case(scene.scan, scene.segmentation, measured, lesions=lesions, chosen=request.pictures),
        lesions=lesions,
        identified=request.naming.identified,
        review=request.review,
        doubts=(*_said(scene.record), *scene.notes, *scene.others.remarks),
        provenance=provenance,
    )
    _check_texts(page, identity, scene.segmentation.labels.names)
    watch("Writing", 3, _STEPS, case)
    html = render_case(page)
    write_text(request.output, html)
    if request.pdf is not None:
        write_bytes(request.pdf, html_to_pdf(html))
    watch("Writing", _STEPS, _STEPS, case)
    return CaseReport(request.output, request.pdf, page.warnings)


def _check(request: CaseRequest) -> None:
    """What can be known before anything is read."""
    if request.segmentation.is_dir():
        raise InputError("a report is about one case", expected="one file", path=request.segmentation)
    if request.review.on and not request.review.by:
        raise InputError("a day of review without a reviewer", remedy="Say who has reviewed it (--reviewed-by).")
    for path in (request.output, request.pdf):
        if path is not None:
            check_writable(path.parent)
    if request.pdf is not None:
        check_pdf()


def _read(request: CaseRequest) -> _Scene:
    scan = None if request.image is None else read_scan(request.image, request.kind)
    labels = labels_at(request.label_file)
    grid = None if scan is None else scan.grid
    segmentation = read_any_segmentation(request.segmentation, labels=labels, grid=grid)
    others = others_of(
        request.segmentation, request.variants, own=request.own_variants, labels=labels, grid=segmentation.grid
    )
    record = read_record(request.result or request.segmentation)
    return _Scene(scan, segmentation, others, record, _notes(request.image))


def _notes(image: Path | None) -> tuple[str, ...]:
    return () if image is None or is_nifti_name(image) else formats.stack_at(image).notes


def _said(record: ResultRecord | None) -> tuple[str, ...]:
    """What the record of a result gives to think of."""
    return () if record is None else (*record.doubts, *record.notes)


def _scanned(scene: _Scene) -> Pairs:
    grid = scene.segmentation.grid
    spacing = " × ".join(f"{mm:.3g}" for mm in grid.spacing_mm)
    voxels = " × ".join(map(str, grid.shape))
    kind = (
        "no scan was given"
        if scene.scan is None
        else {Kind.OTHER: _UNKNOWN}.get(scene.scan.kind, scene.scan.kind.value)
    )
    return (("Modality", kind), ("Voxels", f"{voxels}, {spacing} mm"))


def _provenance(request: CaseRequest, scene: _Scene) -> Pairs:
    record = scene.record
    digest = hashlib.sha256(request.segmentation.read_bytes()).hexdigest()
    pairs = [("Model", _model_name(request.model, record))]
    if record is not None:
        how = ", ".join(filter(None, (record.engine, record.precision, record.device)))
        pairs += [("Model digest", record.model), ("Engine", how or _UNKNOWN)]
    pairs.append(("Measured with", f"delineate {version('delineate')}"))
    pairs.append(("Segmentation, SHA-256", digest))
    others = scene.others
    if others.segmentations:
        counted = f"{len(others.segmentations)} other result(s) for the same scan"
        pairs.append(("Compared with", f"{others.kind} of its model" if others.kind else counted))
    return tuple(pairs)


def _model_name(folder: Path | None, record: ResultRecord | None) -> str:
    if folder is None:
        return _UNKNOWN
    from delineate.model import read_provenance  # imports torch

    _, digest = read_provenance(folder)
    if record is None or record.model != digest:
        raise InputError(
            "this model has not made the segmentation" if record else "what made the segmentation is not recorded",
            expected=f"digest {digest[:12]}",
            got=None if record is None else record.model[:12],
            path=folder,
            remedy="Name the model that made it, or leave --model out.",
        )
    return folder.resolve().name


def _check_texts(page: CasePage, identity: Identity, names: Iterable[str]) -> None:
    """In a page without names nothing that came from files may tell who the patient is.

    Raises `ExportError`.
    """
    texts = [("the name of a structure", name) for name in names]
    texts += [("the name of the case", page.title), *(("a remark", words) for words in page.warnings)]
    texts += [(what, value) for what, value in (*page.facts, *page.provenance)]
    for where, text in texts:
        found = identity.found_in(text)
        if found:
            raise ExportError(
                f"{where} gives the patient away",
                got=f"text of {', '.join(found)}",
                remedy="Rename it, or show who it is with --identified.",
            )
