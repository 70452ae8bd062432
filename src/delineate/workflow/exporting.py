"""`delineate export`: a segmentation in the formats of other software, each read back before anybody gets it."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import msgspec

from delineate import formats
from delineate.dataset import read_labels
from delineate.errors import ExportError, LabelError
from delineate.files import atomic_path, write_text
from delineate.findings import volumes_ml
from delineate.formats.deidentification.deidentify import DeidentifyOptions, deidentify
from delineate.formats.deidentification.objects import read_object, write_object
from delineate.formats.deidentification.pseudonyms import PseudonymKey
from delineate.formats.dicom_results.sr import read_sr, write_sr
from delineate.formats.exporters import EXPORTERS, Bar, ExportOptions
from delineate.labels import label_set
from delineate.proof import StructureProof, compare
from delineate.volume import Segmentation, align
from delineate.workflow.progress import Watch, nobody
from delineate.workflow.results import read_record

REPORT = "sr"
_SR_ROUNDING = 1e-9  # a number has 16 characters in DICOM


class StructureRecord(msgspec.Struct, frozen=True, kw_only=True):
    """What was meant and what was read back of one structure; the shift is None where one of the two is empty."""

    structure: str
    volume_ml: float
    found_ml: float
    dice: float | None = None
    centroid_mm: tuple[float, float, float] | None = None
    centroid_shift_mm: float | None = None


class ProofRecord(msgspec.Struct, frozen=True, kw_only=True):
    """The proof of one export, kept beside it: reading it back gave this, and at least `least_dice` was asked for."""

    file: str
    format: str
    most_volume_error: float
    structures: list[StructureRecord]
    least_dice: float | None = None


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

    Every file is read back by the house's own reader and compared in the world before it gets its name. With a `key`
    the DICOM objects are of the pseudonymous patient and refer to the series' UIDs as `deidentify` maps them.
    Raises `ExportError` where what is read back differs, with nothing left behind, for an unknown format, and for one
    that needs the DICOM series where there is none.
    """
    options = options or ExportOptions()
    check_kinds(kinds, with_series=bool(options.sources))
    proofs: list[ProofRecord] = []
    written: list[Path] = []
    if key is not None and segmentation.grid.frame_of_reference_uid is not None:
        grid = replace(segmentation.grid, frame_of_reference_uid=key.uid(segmentation.grid.frame_of_reference_uid))
        segmentation = replace(segmentation, grid=grid)
    with _pseudonymous(options, key) as linked:
        for done, kind in enumerate(kinds, start=1):
            write = _write_report if kind == REPORT else _write_proven
            path, proof = write(segmentation, stem, kind, linked)
            proofs.append(proof)
            written.append(path)
            watch("Exporting", done, len(kinds), path.name)
    encoded = msgspec.json.format(msgspec.json.encode(proofs), indent=1).decode()
    write_text(_proof_path(stem), f"{encoded}\n")
    return tuple(written)


def read_proofs(stem: Path) -> tuple[ProofRecord, ...]:
    """The proofs of the exports of a segmentation; none if nothing readable is there."""
    try:
        return msgspec.json.decode(_proof_path(stem).read_bytes(), type=tuple[ProofRecord, ...])
    except (OSError, msgspec.DecodeError):
        return ()


def _proof_path(stem: Path) -> Path:
    return stem.with_name(f"{stem.name}.proof.json")


def export_file(
    path: Path,
    series: Path,
    folder: Path,
    kinds: Sequence[str],
    *,
    label_file: Path | None = None,
    smooth: int = 0,
    simplify: float = 0.0,
    key: PseudonymKey | None = None,
    watch: Watch = nobody,
) -> tuple[Path, ...]:
    """`export` a NIfTI label map on the grid of the DICOM series at `series` into a folder.

    Its labels are those of `label_file`, a dataset.json, or of the record that `predict` wrote beside it. Raises
    `LabelError` where there is neither, `GeometryMismatch` where the map does not lie on the series' grid, and what
    `formats.stack_at`, `formats.read_segmentation` and `export` raise.
    """
    record = read_record(path)
    if label_file is not None:
        labels = read_labels(label_file)
    elif record is not None:
        labels = label_set({value: name for name, value in record.labels.items()})
    else:
        raise LabelError(
            "what the label map's values mean is not known", path=path, remedy="Give a dataset.json with --labels."
        )
    stack = formats.stack_at(series)
    segmentation = align(formats.read_segmentation(path, labels), stack.grid)
    segmentation = replace(segmentation, author=None if record is None else record.model)
    options = ExportOptions(sources=files_of(stack), smooth=smooth, simplify=simplify)
    return export(segmentation, folder / formats.image_stem(path), kinds, options=options, key=key, watch=watch)


def files_of(stack: formats.Stack | None) -> tuple[Path, ...]:
    """The files of a DICOM volume in slice order; none for None."""
    return () if stack is None else tuple(dict.fromkeys(slice_.path for slice_ in stack.slices))


def check_kinds(kinds: Sequence[str], *, with_series: bool) -> None:
    """Raises `ExportError` for an unknown format, one that needs a DICOM series, and a report without its segments."""
    for kind in kinds:
        if kind != REPORT and kind not in EXPORTERS:
            raise ExportError("unknown format", expected=f"one of {', '.join([*EXPORTERS, REPORT])}", got=kind)
        if not with_series and (kind == REPORT or EXPORTERS[kind].needs_series):
            raise ExportError(
                f"{kind} needs the DICOM series that was segmented",
                remedy="Give the folder of the series, or choose another format.",
            )
    if REPORT in kinds and "seg" not in kinds[: list(kinds).index(REPORT)]:
        raise ExportError("a report refers to its segments", expected="seg before sr", got=", ".join(kinds))


@contextmanager
def _pseudonymous(options: ExportOptions, key: PseudonymKey | None) -> Iterator[ExportOptions]:
    """The options with headers of the series as de-identified, for as long as it is written."""
    if key is None or not options.sources:
        yield options
        return
    with tempfile.TemporaryDirectory() as folder:
        targets = [Path(folder, f"{n:06d}.dcm") for n in range(len(options.sources))]
        for source, target in zip(options.sources, targets, strict=True):
            dataset = read_object(source)
            write_object(target, deidentify(dataset, key, DeidentifyOptions()))
        yield replace(options, sources=tuple(targets))


def _write_proven(
    segmentation: Segmentation, stem: Path, kind: str, options: ExportOptions
) -> tuple[Path, ProofRecord]:
    exporter = EXPORTERS[kind]
    target = stem.with_name(f"{stem.name}{exporter.suffix or f'_{kind}'}")
    with atomic_path(target) as temporary:
        exporter.write(temporary, segmentation, options)
        bar = exporter.bar_for(options)
        proofs = compare(segmentation, exporter.read(temporary, segmentation))
        _check(proofs, bar, target)
    return target, _record(target, kind, bar, proofs)


def _write_report(
    segmentation: Segmentation, stem: Path, kind: str, options: ExportOptions
) -> tuple[Path, ProofRecord]:
    """The volumes of the structures, on the segments of the SEG object beside it, read back number by number."""
    target = stem.with_name(f"{stem.name}.{kind}.dcm")
    seg = stem.with_name(f"{stem.name}{EXPORTERS['seg'].suffix}")
    findings = volumes_ml(segmentation)
    with atomic_path(target) as temporary:
        write_sr(temporary, findings, seg, sources=options.sources)
        found = {one.tracking_id: one.value for one in read_sr(temporary)}
        for finding in findings:
            value = found.get(finding.label.name)
            if value is None or abs(value - finding.value) > _SR_ROUNDING * max(1.0, finding.value):
                raise ExportError(
                    f"the volume of {finding.label.name} did not come back as it was written",
                    expected=f"{finding.value:.6g} ml",
                    got=value,
                    path=target,
                )
    structures = [
        StructureRecord(structure=one.label.name, volume_ml=one.value, found_ml=found[one.label.name])
        for one in findings
    ]
    return target, ProofRecord(file=target.name, format=kind, most_volume_error=_SR_ROUNDING, structures=structures)


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


def _record(target: Path, kind: str, bar: Bar, proofs: Sequence[StructureProof]) -> ProofRecord:
    return ProofRecord(
        file=target.name,
        format=kind,
        least_dice=bar.dice,
        most_volume_error=bar.volume_error,
        structures=[
            StructureRecord(
                structure=proof.name,
                volume_ml=proof.volume_ml,
                found_ml=proof.found_ml,
                dice=proof.dice,
                centroid_mm=proof.centroid_mm,
                centroid_shift_mm=None if proof.centroid_shift_mm == float("inf") else proof.centroid_shift_mm,
            )
            for proof in proofs
        ],
    )
