"""`delineate convert`: scans from one disk format to the other, each decision written down beside the result."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import msgspec
import numpy as np

from delineate import formats
from delineate.dataset import channel_kind
from delineate.errors import DelineateError, ExportError, InconsistentSeries, InputError
from delineate.files import atomic_path, exclusive, remove, sweep, write_text
from delineate.formats.deidentification.pseudonyms import PseudonymKey
from delineate.formats.dicom.series import read_series
from delineate.formats.nifti import is_nifti_name
from delineate.geometry import Grid, same_space
from delineate.settings import Settings
from delineate.volume import Array, Kind, Source, Volume
from delineate.workflow.batches import Failure
from delineate.workflow.placing import labels_onto_grid, onto_grid, share_reached
from delineate.workflow.progress import Watch, nobody, stop_on_signals
from delineate.workflow.recipes import stack_recipe
from delineate.workflow.scanning import scan
from delineate.workflow.scrubbing import scrubber

_VERSION = 1
_NOTES_SHOWN = 2
_FEW_VALUES = 150  # TotalSegmentator's label maps have 118


@dataclass(frozen=True, slots=True)
class ConvertOptions:
    """`key`: records hold series UIDs as `deidentify` maps them. `again`: write also over what is there.

    `onto`: the grid that scans are brought onto, their own if None. `labels`: whether a NIfTI file is a label map, of
    which no values are mixed; None refuses what could be one.
    """

    repair: formats.Repair = formats.Repair.STRAIGHTEN
    key: PseudonymKey | None = None
    again: bool = False
    onto: Grid | None = None
    labels: bool | None = None

    def uid(self, uid: str) -> str:
        return uid if self.key is None else self.key.uid(uid)


class ConversionRecord(msgspec.Struct, frozen=True, kw_only=True):
    """Written beside a converted DICOM volume: what it came from, and what was decided. No patient data.

    `acquired_affine` is the grid as the slices were acquired, sheared under gantry tilt; `affine` that of the result;
    both index -> LPS mm. `recipe` stands for the files and options that made it.
    """

    version: int = _VERSION
    recipe: str
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
    """What was written, in a line each; what failed; and what was set aside or cannot be read, with the reason.

    `kept`: how many results were there already, of the same files by the same options.
    """

    lines: tuple[str, ...]
    failures: tuple[Failure, ...] = ()
    skipped: tuple[str, ...] = ()
    problems: tuple[str, ...] = ()
    kept: int = 0
    stopped: bool = False


def convert(
    source: Path,
    target: Path,
    options: ConvertOptions | None = None,
    *,
    settings: Settings,
    watch: Watch = nobody,
) -> ConversionRun:
    """DICOM to NIfTI, NIfTI to DICOM, or NIfTI to NIfTI, by the names.

    DICOM to a NIfTI name takes one series; the volumes of a series with several get their names added. DICOM (a tree, a
    ZIP archive, a DICOMDIR) to a folder takes every volume, one NIfTI file each, and one that fails does not end it.
    What was converted before is kept, or done again where files or options have changed.
    Raises `ExportError` for a target that is something else, `GeometryMismatch` for a grid in another frame of
    reference or place, and for a single scan what the readers and writers raise.
    """
    options = options or ConvertOptions()
    if options.labels and not is_nifti_name(source):
        raise InputError("label maps are NIfTI files", expected="a name ending in .nii.gz", path=source)
    if is_nifti_name(source):
        return ConversionRun((_from_nifti(source, target, options),))
    if is_nifti_name(target):
        return _one_series(source, target, options)
    _check_folder_name(target)
    return _whole_tree(source, target, options, settings=settings, watch=watch)


def _check_folder_name(target: Path) -> None:
    if target.suffix and not target.is_dir():
        raise InputError("unknown format", expected="a name ending in .nii.gz, or a folder", path=target)


def _from_nifti(source: Path, target: Path, options: ConvertOptions) -> str:
    if not is_nifti_name(target):
        _check_folder_name(target)
    if not options.again and target.exists() and not (target.is_dir() and not any(target.iterdir())):
        raise ExportError("the target is there already", path=target, remedy=_AGAIN)
    sweep(target.parent)
    volume, notes = _placed(_read_nifti(source, options), options)
    if is_nifti_name(target):
        formats.write_volume(target, volume)
        return "; ".join([f"{target}: {_in_words(volume.grid)}", *notes])
    paths = formats.write_dicom_series(target, volume, description=formats.image_stem(source))
    return f"{len(paths)} {volume.kind.name} slices in {target}: {_in_words(volume.grid)}"


def _read_nifti(source: Path, options: ConvertOptions) -> Volume:
    if options.labels:
        array, grid = formats.read_label_values(source)
        return Volume(array[np.newaxis], grid, source=Source(path=source))
    volume = _with_kind(formats.read_volume(source))
    if options.onto is not None and options.labels is None and _has_few_values(volume.array):
        raise InputError(
            "scan or label map? Labels must not be mixed",
            expected=f"a scan with more than {_FEW_VALUES} different values",
            path=source,
            remedy="Say --labels or --no-labels.",
        )
    return volume


def _has_few_values(array: Array) -> bool:
    """No more than a label map may have. The whole is looked at only if a part of it has so few."""
    part = array[..., array.shape[-1] // 2]
    return all(len(np.unique(some)) <= _FEW_VALUES for some in (part, array))


def _one_series(source: Path, target: Path, options: ConvertOptions) -> ConversionRun:
    found = formats.find_series(source, repair=options.repair) if source.is_dir() else ()
    volumes = [stack for stack in found if stack.is_scan]
    series = {stack.facts.series_uid for stack in found if stack.action is not formats.Action.SKIP}
    if len(series) > 1:
        raise InconsistentSeries(
            "several series do not fit into one file",
            expected="the folder of one series",
            got=f"{len(series)} series",
            path=source,
            remedy="Name one of them, or a folder to convert them all into.",
        )
    refused = any(stack.action is formats.Action.REFUSE for stack in found)
    if refused or len(volumes) < 2:
        # Says what is wrong, if anything is.
        volumes = [formats.stack_at(source, repair=options.repair)]
    targets = [target]
    if len(volumes) > 1:
        stem = formats.image_stem(target)
        suffix = target.name[len(stem) :]
        targets = [target.with_name(f"{stem}_{name}{suffix}") for name in _distinct(stack.name for stack in volumes)]
    sweep(target.parent)
    lines = [_write(stack, path, options) for stack, path in zip(volumes, targets, strict=True)]
    written = tuple(line for line in lines if line is not None)
    return ConversionRun(written, skipped=_skipped(found), kept=len(lines) - len(written))


def _whole_tree(
    source: Path, folder: Path, options: ConvertOptions, *, settings: Settings, watch: Watch
) -> ConversionRun:
    report = scan(source, settings=settings, repair=options.repair, watch=watch)
    if report.stopped:
        return ConversionRun((), stopped=True)
    total = sum(row.action != formats.Action.SKIP.value for row in report.rows)
    if not total:
        raise InconsistentSeries(
            "no volume to convert",
            expected="DICOM series",
            path=source,
            remedy="See what is there: delineate scan.",
        )
    lines: list[str] = []
    failures: list[Failure] = []
    kept = done = 0
    stopped = False
    with exclusive(folder), stop_on_signals() as stop:
        sweep(folder)
        volumes = (stack for stack in report.stacks() if stack.action is not formats.Action.SKIP)
        for name, stack in _named(volumes, options):
            try:
                line = _write(stack, folder / f"{name}.nii.gz", options)
            except DelineateError as error:
                failures.append(Failure(name, error))
            else:
                kept += line is None
                lines += [] if line is None else [f"{line}; from {report.name_of(stack.files[0].parent)}"]
            done += 1
            watch("Converting", done, total, name)
            if stop.asked and done < total:
                stopped = True
                break
    skipped = tuple(
        f"skipped {_some(row.files)}: {row.problem}" for row in report.rows if row.action == formats.Action.SKIP.value
    )
    return ConversionRun(tuple(lines), tuple(failures), skipped, report.problems, kept=kept, stopped=stopped)


def _named(stacks: Iterable[formats.Stack], options: ConvertOptions) -> Iterator[tuple[str, formats.Stack]]:
    """Names that stay the same when the tree grows, and say nothing of the patient."""
    given = _Names()
    for stack in stacks:
        facts = stack.facts
        token = hashlib.sha256(f"{options.uid(facts.study_uid)} {options.uid(facts.series_uid)}".encode()).hexdigest()
        yield (
            given(f"{_word(facts.modality) or 'image'}_{token[:10]}" + (f"_{_word(stack.name)}" if stack.name else "")),
            stack,
        )


class _Names:
    """Gives names, each once, whatever the file system takes for equal."""

    def __init__(self) -> None:
        self._given: set[str] = set()

    def __call__(self, name: str) -> str:
        names = (name, *(f"{name}_{n}" for n in range(2, len(self._given) + 3)))
        free = next(one for one in names if one.casefold() not in self._given)
        self._given.add(free.casefold())
        return free


def _distinct(names: Iterable[str]) -> list[str]:
    give: Callable[[str], str] = _Names()
    return [give(_word(name)) for name in names]


def _word(text: str) -> str:
    return re.sub(r"[^\w.-]+", "_", text).strip("_")


def _skipped(found: Sequence[formats.Stack]) -> tuple[str, ...]:
    return tuple(
        f"skipped {_some([path.name for path in stack.files])}: {stack.error.problem}"
        for stack in found
        if stack.action is formats.Action.SKIP and stack.error is not None
    )


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")


_AGAIN = "Choose another name, or write over it (--again)."


def _write(stack: formats.Stack, target: Path, options: ConvertOptions) -> str | None:
    """What was written, in words; None where it is there already."""
    if stack.error is not None:
        raise stack.error
    recipe = _recipe(stack, options)
    if not options.again and _is_there(target, stack, recipe, options):
        return None
    volume, placed = _placed(read_series(stack), options)
    notes = [*placed, *map(scrubber(stack.files[0]), stack.notes)]
    record = ConversionRecord(
        recipe=recipe,
        file=target.name,
        series=options.uid(stack.facts.series_uid),
        volume=stack.name,
        modality=stack.facts.modality,
        values={Kind.CT: "HU", Kind.PET: "SUVbw"}.get(volume.kind, "as stored, rescaled"),
        slices=len(stack.slices),
        action=stack.action.value,
        notes=notes,
        acquired_affine=stack.acquired.affine.tolist(),
        affine=volume.grid.affine.tolist(),
    )
    text = msgspec.json.format(msgspec.json.encode(record), indent=1).decode()
    with atomic_path(target) as temporary:
        formats.write_volume(temporary, volume)
        # Cut off anywhere, a record never stands beside another file than its own.
        remove(target)
        write_text(_record_path(target), f"{text}\n")
    more = len(notes) - _NOTES_SHOWN
    shown = [*notes[:_NOTES_SHOWN], *([f"{more} more notes in its record"] if more > 0 else [])]
    return "; ".join([f"{target}: {_in_words(volume.grid)}", *shown])


def _placed(volume: Volume, options: ConvertOptions) -> tuple[Volume, list[str]]:
    """The scan on the grid that was asked for, and what that did to it, in words."""
    if options.onto is None:
        return volume, []
    share = share_reached(volume.grid, options.onto)
    if same_space(volume.grid, options.onto):
        return volume, []
    placed = labels_onto_grid(volume, options.onto) if options.labels else onto_grid(volume, options.onto)
    how = "each voxel the label that has most of it" if options.labels else "interpolated linearly"
    reach = [] if share > 0.999 else [f"it covers {share:.0%} of that grid"]
    return placed, [f"brought onto another grid, {how}", *reach]


def _recipe(stack: formats.Stack, options: ConvertOptions) -> str:
    parts: tuple[object, ...] = (_VERSION, stack_recipe(stack), options.repair.value)
    if options.onto is not None:
        parts += (options.onto.shape, options.onto.affine.tolist())
    text = msgspec.json.encode(parts).decode()
    return hashlib.sha256(text.encode()).hexdigest()[:16] if options.key is None else options.key.token(text)


def _is_there(target: Path, stack: formats.Stack, recipe: str, options: ConvertOptions) -> bool:
    """Whether it was converted before. Raises `ExportError` for a target, or a record, that is something else."""
    path = _record_path(target)
    try:
        record = msgspec.json.decode(path.read_bytes(), type=ConversionRecord)
    except FileNotFoundError:
        record = None
    except (OSError, msgspec.DecodeError) as error:
        raise ExportError("something else has the record's name", path=path, remedy=_AGAIN) from error
    if record is None and target.exists():
        raise ExportError("the target is there already", path=target, remedy=_AGAIN)
    if record is not None and (record.series, record.volume) != (options.uid(stack.facts.series_uid), stack.name):
        raise ExportError("another series was converted to this name", path=target, remedy=_AGAIN)
    return record is not None and target.exists() and record.recipe == recipe


def _record_path(target: Path) -> Path:
    return target.with_name(f"{formats.image_stem(target)}.json")


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
