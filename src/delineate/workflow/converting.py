"""`delineate convert`: scans from one disk format to the other, each decision written down beside the result."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import msgspec

from delineate import formats
from delineate.dataset import channel_kind
from delineate.errors import DelineateError, InconsistentSeries, InputError
from delineate.files import write_text
from delineate.formats.deidentification.pseudonyms import PseudonymKey
from delineate.formats.dicom.series import read_series
from delineate.formats.nifti import is_nifti_name
from delineate.geometry import Grid
from delineate.volume import Kind, Volume
from delineate.workflow.progress import Watch, nobody
from delineate.workflow.results import Failure

_NOTES_SHOWN = 2


class ConversionRecord(msgspec.Struct, frozen=True, kw_only=True):
    """Written beside a converted DICOM volume: what it came from, and what was decided. No patient data.

    `acquired_affine` is the grid as the slices were acquired, sheared under gantry tilt; `affine` that of the result;
    both index -> LPS mm.
    """

    file: str
    series: str
    volume: str
    modality: str
    values: str
    slices: int
    action: str
    notes: list[str]
    acquired_affine: list[list[float]]
    affine: list[list[float]]


@dataclass(frozen=True, slots=True)
class ConversionRun:
    """What was written, in a line each; what failed; and what was set aside, with the reason."""

    lines: tuple[str, ...]
    failures: tuple[Failure, ...] = ()
    skipped: tuple[str, ...] = ()


def convert(
    source: Path,
    target: Path,
    *,
    repair: formats.Repair = formats.Repair.STRAIGHTEN,
    key: PseudonymKey | None = None,
    watch: Watch = nobody,
) -> ConversionRun:
    """DICOM to NIfTI, NIfTI to DICOM, or NIfTI to NIfTI, by the names.

    DICOM to a NIfTI name takes one series; the volumes of a series with several get their names added. DICOM to a
    folder takes every volume of a tree, one NIfTI file each, and one that fails does not end it. With a `key`, records
    hold series UIDs as `deidentify` maps them. Raises what the readers and writers raise, for a single scan.
    """
    if is_nifti_name(source) or (source.is_file() and not formats.is_image(source)):
        return ConversionRun((_from_nifti(source, target),))
    if is_nifti_name(target):
        return _one_series(source, target, repair, key)
    if target.suffix and not target.is_dir():
        raise InputError("unknown format", expected="a name ending in .nii.gz, or a folder", path=target)
    return _whole_tree(source, target, repair, key=key, watch=watch)


def _from_nifti(source: Path, target: Path) -> str:
    volume = formats.read_volume(source)
    if is_nifti_name(target):
        formats.write_volume(target, volume)
        return f"{target}: {_in_words(volume.grid)}"
    if target.suffix and not target.is_dir():
        raise InputError("unknown format", expected="a name ending in .nii.gz, or a folder", path=target)
    paths = formats.write_dicom_series(target, _with_kind(volume), description=formats.image_stem(source))
    return f"{len(paths)} DICOM files in {target}: {_in_words(volume.grid)}"


def _one_series(source: Path, target: Path, repair: formats.Repair, key: PseudonymKey | None) -> ConversionRun:
    found = () if source.is_file() else formats.find_series(source, repair=repair)
    volumes = [stack for stack in found if stack.is_scan]
    refused = [stack for stack in found if stack.action is formats.Action.REFUSE]
    if refused or len(volumes) < 2 or len({stack.facts.series_uid for stack in volumes}) > 1:
        # Says what is wrong, or that there are several series.
        stack = formats.stack_at(source, repair=repair)
        return ConversionRun((_write(stack, target, key),), skipped=_skipped(found))
    stem = formats.image_stem(target)
    lines = [_write(stack, target.with_name(f"{stem}_{_word(stack.name)}.nii.gz"), key) for stack in volumes]
    return ConversionRun(tuple(lines), skipped=_skipped(found))


def _whole_tree(
    source: Path, folder: Path, repair: formats.Repair, *, key: PseudonymKey | None, watch: Watch
) -> ConversionRun:
    found = formats.find_series(source, repair=repair)
    volumes = [stack for stack in found if stack.action is not formats.Action.SKIP]
    if not volumes:
        raise InconsistentSeries("no volume to convert", expected="DICOM series", path=source)
    lines: list[str] = []
    failures: list[Failure] = []
    for n, stack in enumerate(volumes, start=1):
        parts = [f"{n:03d}", stack.facts.modality, *([_word(stack.name)] if stack.name else [])]
        name = "_".join(parts)
        try:
            lines.append(_write(stack, folder / f"{name}.nii.gz", key))
        except DelineateError as error:
            failures.append(Failure(name, error))
        watch("Converting", n, len(volumes), name)
    return ConversionRun(tuple(lines), tuple(failures), _skipped(found))


def _word(text: str) -> str:
    return re.sub(r"[^\w.-]+", "_", text).strip("_")


def _skipped(found: Sequence[formats.Stack]) -> tuple[str, ...]:
    return tuple(
        f"skipped {', '.join(path.name for path in stack.files[:3])}"
        f"{f' and {len(stack.files) - 3} more' if len(stack.files) > 3 else ''}: {stack.error.problem}"
        for stack in found
        if stack.action is formats.Action.SKIP and stack.error is not None
    )


def _write(stack: formats.Stack, target: Path, key: PseudonymKey | None) -> str:
    volume = read_series(stack)
    formats.write_volume(target, volume)
    record = ConversionRecord(
        file=target.name,
        series=stack.facts.series_uid if key is None else key.uid(stack.facts.series_uid),
        volume=stack.name,
        modality=stack.facts.modality,
        values={Kind.CT: "HU", Kind.PET: "SUVbw"}.get(volume.kind, "as stored, rescaled"),
        slices=len(stack.slices),
        action=stack.action.value,
        notes=list(stack.notes),
        acquired_affine=stack.acquired.affine.tolist(),
        affine=volume.grid.affine.tolist(),
    )
    text = msgspec.json.format(msgspec.json.encode(record), indent=1).decode()
    write_text(target.with_name(f"{formats.image_stem(target)}.json"), f"{text}\n")
    more = len(stack.notes) - _NOTES_SHOWN
    shown = [*stack.notes[:_NOTES_SHOWN], *([f"{more} more notes in its record"] if more > 0 else [])]
    return "; ".join([f"{target}: {_in_words(volume.grid)}", *shown])


def _in_words(grid: Grid) -> str:
    spacing = " x ".join(f"{s:.3g}" for s in grid.spacing_mm)
    return f"{' x '.join(str(n) for n in grid.shape)} voxels of {spacing} mm, {grid.orientation}"


def _with_kind(volume: Volume) -> Volume:
    """NIfTI does not say what was measured: the file's name, else air at -1000 HU, tells."""
    if volume.kind is not Kind.OTHER:
        return volume
    named = channel_kind(volume.source.path.name if volume.source.path else "")
    if named in (Kind.CT, Kind.MR):
        return replace(volume, kind=named)
    return replace(volume, kind=Kind.CT if float(volume.array.min()) <= -500 else Kind.MR)
