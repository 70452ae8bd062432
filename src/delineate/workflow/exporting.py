"""`delineate export`: a segmentation in the formats of other software, each read back before anybody gets it."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path

from delineate import formats
from delineate.dataset import read_labels
from delineate.errors import DelineateError, ExportError, LabelError
from delineate.files import atomic_path
from delineate.findings import VOLUME, Finding, volumes_ml
from delineate.formats.deidentification.deidentify import DeidentifyOptions, deidentify, telltales
from delineate.formats.deidentification.objects import read_object, write_object
from delineate.formats.deidentification.profile import DUMMY_DATE
from delineate.formats.deidentification.pseudonyms import PseudonymKey
from delineate.formats.deidentification.residue import Identifier, identifiers_in, residue
from delineate.formats.dicom_results.approval import approve
from delineate.formats.dicom_results.seg import read_segments
from delineate.formats.dicom_results.sources import check_names
from delineate.formats.dicom_results.sr import Measured, read_sr, write_sr
from delineate.formats.exporters import EXPORTERS, Bar, ExportOptions, ReadBack
from delineate.labels import LabelSet, is_one_line
from delineate.proof import StructureProof, compare, compare_each
from delineate.terminology import concept_of
from delineate.volume import Segmentation, align
from delineate.workflow.progress import Watch, nobody
from delineate.workflow.proofs import (
    ProofRecord,
    StructureRecord,
    content_digest,
    standing_proofs,
    write_proofs,
)
from delineate.workflow.results import read_record, read_result

REPORT = "sr"
_REPORT_SUFFIX = ".sr.dcm"
# Words of the standard, be they somebody's name: nothing of a patient gets there.
_STANDARD_TEXTS = frozenset(("CodeMeaning", "ContributionDescription", "DimensionDescriptionLabel"))
_SR_ROUNDING = 1e-9  # a number has 16 characters in DICOM


@dataclass(frozen=True, slots=True)
class _Job:
    """What the writers get. `identifiers`: texts that no export may contain; none unless it is de-identified."""

    segmentation: Segmentation
    stem: Path
    options: ExportOptions
    identifiers: frozenset[Identifier] = frozenset()


def export(
    segmentation: Segmentation,
    stem: Path,
    kinds: Sequence[str],
    *,
    options: ExportOptions | None = None,
    key: PseudonymKey | None = None,
    watch: Watch = nobody,
) -> tuple[Path, ...]:
    """Write a segmentation as each of `kinds` (keys of `EXPORTERS`, and "sr"), beside them STEM.proof.json; the files.

    Every file is read back by the house's own reader and compared in the world before it gets its name; STEM.proof.json
    also keeps the proofs of earlier exports that are still there as they were. With a `key` the DICOM objects are of
    the pseudonymous patient, refer to the series' UIDs as `deidentify` maps them and have no dates, and nothing may
    contain a text that identifies the patient. With an approval the DICOM objects say who has given it.
    Raises `ExportError` where what is read back differs, with nothing of that file left behind; before anything is
    written for what `check_kinds` refuses, and for an older report that would lose its segments; `LabelError` for
    voxels without a label; and what the writers raise.
    """
    options, kinds = options or ExportOptions(), tuple(dict.fromkeys(kinds))
    check_kinds(kinds, segmentation.labels, with_series=bool(options.sources))
    if not segmentation.labels.overlaps:
        formats.check_label_values(segmentation.array, segmentation.labels)
    _check_older_report(stem, kinds)
    proofs = standing_proofs(stem)
    written: list[Path] = []
    with _pseudonymous(_Job(segmentation, stem, options), key) as job:
        for done, kind in enumerate(kinds, start=1):
            target = stem.with_name(f"{stem.name}{_REPORT_SUFFIX if kind == REPORT else EXPORTERS[kind].suffix}")
            with _proving(target) as temporary:
                proof = (_write_report if kind == REPORT else _write_proven)(job, kind, temporary, target)
                # The older file's proof must not stand beside the new file, should we be cut off in between.
                if proofs.pop(target.name, None) is not None:
                    write_proofs(stem, proofs.values())
            proofs[target.name] = proof
            write_proofs(stem, proofs.values())
            written.append(target)
            watch("Exporting", done, len(kinds), target.name)
    return tuple(written)


def export_file(
    path: Path,
    series: Path,
    folder: Path,
    kinds: Sequence[str],
    *,
    label_file: Path | None = None,
    repair: str = "straighten",
    options: ExportOptions | None = None,
    key: PseudonymKey | None = None,
    watch: Watch = nobody,
) -> tuple[Path, ...]:
    """`export` a NIfTI label map on the grid of the DICOM series at `series`, read with `repair`, into a folder.

    Its labels are those of `label_file`, a dataset.json, or of the record that `predict` wrote beside it. Raises
    `LabelError` where there is neither, `GeometryMismatch` where the map does not lie on the series' grid, and what
    `formats.stack_at`, `formats.read_segmentation` and `export` raise.
    """
    record = read_record(path)
    if label_file is not None:
        segmentation = formats.read_segmentation(path, read_labels(label_file))
    elif record is not None:
        segmentation = read_result(path, record)
    else:
        raise LabelError(
            "what the label map's values mean is not known", path=path, remedy="Give a dataset.json with --labels."
        )
    stack = formats.stack_at(series, repair=formats.Repair(repair))
    segmentation = align(segmentation, stack.grid)
    segmentation = replace(segmentation, author=None if record is None else record.model)
    options = replace(options or ExportOptions(), sources=files_of(stack))
    return export(segmentation, folder / formats.image_stem(path), kinds, options=options, key=key, watch=watch)


def files_of(stack: formats.Stack | None) -> tuple[Path, ...]:
    """The files of a DICOM volume in slice order; none for None."""
    return () if stack is None else tuple(dict.fromkeys(slice_.path for slice_ in stack.slices))


def check_kinds(kinds: Sequence[str], labels: LabelSet, *, with_series: bool) -> None:
    """What can be known before there are voxels.

    Raises `ExportError` for an unknown format, one that needs a DICOM series, a report without its segments,
    overlapping structures in one label map, no structures, and names that files, or DICOM, cannot hold.
    """
    if not len(labels):
        raise ExportError("a segmentation without structures")
    for kind in kinds:
        if kind != REPORT and kind not in EXPORTERS:
            raise ExportError("unknown format", expected=f"one of {', '.join([*EXPORTERS, REPORT])}", got=kind)
        if kind == REPORT or EXPORTERS[kind].is_dicom:
            if not with_series:
                raise ExportError(
                    f"{kind} needs the DICOM series that was segmented",
                    remedy="Give the folder of the series, or choose another format.",
                )
            check_names(labels)
        elif labels.overlaps and not EXPORTERS[kind].overlaps:
            raise ExportError(
                f"{kind}: overlapping structures do not fit into one label map",
                remedy="Export masks, seg, nrrd or rtstruct.",
            )
    for name in labels.names:
        if not is_one_line(name):
            raise ExportError(
                "a structure's name that files cannot hold",
                expected="characters of one line, no blank at an end",
                got=repr(name),
                remedy="Rename the structure.",
            )
    if REPORT in kinds and "seg" not in kinds[: list(kinds).index(REPORT)]:
        raise ExportError("a report refers to its segments", expected="seg before sr", got=", ".join(kinds))


def _check_older_report(stem: Path, kinds: Sequence[str]) -> None:
    report = stem.with_name(f"{stem.name}{_REPORT_SUFFIX}")
    if "seg" in kinds and REPORT not in kinds and report.exists():
        raise ExportError(
            "an older report refers to the segments that would be replaced",
            path=report,
            remedy="Export sr as well, or move the report and its segments away.",
        )


@contextmanager
def _pseudonymous(job: _Job, key: PseudonymKey | None) -> Iterator[_Job]:
    """The job with headers of the series as de-identified, for as long as it is done."""
    if key is None or not job.options.sources:
        yield job
        return
    if job.options.approval is not None:
        raise ExportError(
            "who approved a scan, and when, would stand beside a pseudonym",
            remedy="Export it without a key, or without what was decided.",
        )
    grid = job.segmentation.grid
    if grid.frame_of_reference_uid is not None:
        grid = replace(grid, frame_of_reference_uid=key.uid(grid.frame_of_reference_uid))
    identifiers: set[Identifier] = set()
    with tempfile.TemporaryDirectory() as folder:
        targets = [Path(folder, f"{n:06d}.dcm") for n in range(len(job.options.sources))]
        for source, target in zip(job.options.sources, targets, strict=True):
            dataset = read_object(source)
            write_object(target, deidentify(dataset, key, DeidentifyOptions()))
            identifiers |= telltales(dataset, key)
        # The day on which a scan is segmented may be its own.
        created = datetime.strptime(DUMMY_DATE, "%Y%m%d")
        pseudonymous = replace(
            job,
            segmentation=replace(job.segmentation, grid=grid),
            options=replace(job.options, sources=tuple(targets), created=created),
            identifiers=frozenset(identifiers),
        )
        _check_texts(pseudonymous)
        yield pseudonymous


def _check_texts(job: _Job) -> None:
    """Names of structures and files are in all formats as they are."""
    texts = {f"the name of structure {label.value}": label.name for label in job.segmentation.labels}
    texts |= {"the name of the files": job.stem.name, "the author": job.segmentation.author or ""}
    for where, text in texts.items():
        found = identifiers_in(text, job.identifiers)
        if found:
            keywords = sorted({identifier.keyword for identifier in found})
            raise ExportError(
                f"{where} gives the patient away", got=f"text of {', '.join(keywords)}", remedy="Rename it."
            )


@contextmanager
def _proving(target: Path) -> Iterator[Path]:
    """A temporary path for `target`, by whose name errors call it."""
    with atomic_path(target) as temporary:
        try:
            yield temporary
        except DelineateError as error:
            if error.path is None or not any(temporary.name in part for part in error.path.parts):
                raise
            raise error.at(target) from error


def _write_proven(job: _Job, kind: str, temporary: Path, target: Path) -> ProofRecord:
    exporter = EXPORTERS[kind]
    exporter.write(temporary, job.segmentation, job.options)
    if exporter.is_dicom and job.options.approval is not None:
        approve(temporary, job.options.approval)
    found = exporter.read(temporary, job.segmentation)
    bar = exporter.bar_for(job.options)
    proofs = compared(job.segmentation, found)
    _check(proofs, bar, target)
    if exporter.is_dicom:
        _check_residue(job, temporary, target)
    return ProofRecord(
        file=target.name,
        format=kind,
        sha256=content_digest(temporary),
        least_dice=bar.dice,
        most_volume_error=bar.volume_error,
        structures=[_record(proof) for proof in proofs],
    )


def compared(expected: Segmentation, found: ReadBack) -> tuple[StructureProof, ...]:
    """How what was read back agrees with what was meant."""
    if found.segmentation is None:
        proofs = compare_each(expected, found.masks(), found.grid)
    else:
        proofs = compare(expected, found.segmentation)
    return tuple(replace(proof, found_ml=found.volumes_ml.get(proof.name, proof.found_ml)) for proof in proofs)


def _check(proofs: Sequence[StructureProof], bar: Bar, target: Path) -> None:
    for proof in proofs:
        moved = proof.volume_ml > 0 and proof.centroid_shift_mm > bar.shift_mm
        if proof.dice < bar.dice or proof.volume_error > bar.volume_error or moved:
            raise ExportError(
                f"{proof.name} did not come back as it was written",
                expected=f"Dice at least {bar.dice:g}, {proof.volume_ml:.4g} ml within {bar.volume_error:.2%}",
                got=f"Dice {proof.dice:.4f}, {proof.found_ml:.4g} ml, centroid {proof.centroid_shift_mm:.3g} mm off",
                path=target,
                remedy="Nothing was kept. Use another format, and tell us about this one.",
            )


def _check_residue(job: _Job, temporary: Path, target: Path) -> None:
    if not job.identifiers:
        return
    left = [
        found
        for found in residue(read_object(temporary), job.identifiers)
        if not found.coded and not _STANDARD_TEXTS.issuperset(found.places or [""])
    ]
    if left:
        raise ExportError(
            "an identifying text is still in the object",
            got=f"text of {left[0].identifier.keyword} in {', '.join(left[0].places) or 'binary data'}",
            path=target,
            remedy="Nothing of it was kept.",
        )


def _record(proof: StructureProof) -> StructureRecord:
    return StructureRecord(
        structure=proof.name,
        volume_ml=proof.volume_ml,
        found_ml=proof.found_ml,
        dice=proof.dice,
        centroid_mm=proof.centroid_mm,
        centroid_shift_mm=None if proof.centroid_shift_mm == float("inf") else proof.centroid_shift_mm,
    )


def _write_report(job: _Job, kind: str, temporary: Path, target: Path) -> ProofRecord:
    """Findings on the segments of the SEG object beside it, read back number by number."""
    seg = job.stem.with_name(f"{job.stem.name}{EXPORTERS['seg'].suffix}")
    findings = volumes_ml(job.segmentation) if job.options.findings is None else job.options.findings
    write_sr(temporary, findings, seg, sources=job.options.sources, created=job.options.created)
    if job.options.approval is not None:
        approve(temporary, job.options.approval)
    pairs = _checked_numbers(findings, read_sr(temporary), seg, target)
    _check_residue(job, temporary, target)
    return ProofRecord(
        file=target.name,
        format=kind,
        sha256=content_digest(temporary),
        most_volume_error=_SR_ROUNDING,
        structures=[
            StructureRecord(structure=finding.label.name, volume_ml=finding.value, found_ml=measured.value)
            for finding, measured in pairs
            if finding.quantity == VOLUME and finding.component is None
        ],
    )


def _checked_numbers(
    findings: Sequence[Finding], found: Sequence[Measured], seg: Path, target: Path
) -> list[tuple[Finding, Measured]]:
    """Each finding with what the report says of it: the same of the same segment and part, and nothing else."""
    header, segments = read_segments(seg)
    names = {(str(header.SOPInstanceUID), segment.label.value): segment.label.name for segment in segments}
    said: dict[tuple[object, ...], list[Measured]] = {}
    for one in found:
        name = names.get((one.segmentation_uid, one.segment_number or 0))
        other = (one.other, one.other_side)
        said.setdefault((name, one.tracking_id, one.quantity, one.derivation, other, one.unit), []).append(one)
    if len(found) != len(findings):
        raise ExportError("the report has other numbers", expected=len(findings), got=len(found), path=target)
    pairs = []
    for finding in findings:
        # Several second structures may have one code; their numbers are in the findings' order.
        same = said.get(_said_as(finding))
        back = same.pop(0) if same else None
        if back is None or abs(back.value - finding.value) > _SR_ROUNDING * max(1.0, abs(finding.value)):
            raise ExportError(
                f"{finding.meaning} of {finding.label.name} did not come back as it was written",
                expected=f"{finding.value:.6g} {finding.unit.value}",
                got=None if back is None else f"{back.quantity.meaning} of {back.value:.6g} {back.unit.value}",
                path=target,
            )
        pairs.append((finding, back))
    return pairs


def _said_as(finding: Finding) -> tuple[object, ...]:
    name = finding.label.name
    other = None if finding.other is None else concept_of(finding.other)
    return (
        name,
        name if finding.component is None else f"{name}, part {finding.component}",
        finding.quantity,
        finding.derivation,
        (None, None) if other is None else (other.type, other.laterality),
        finding.unit,
    )
