"""What there is to segment at a path: NIfTI files, or the DICOM series of a tree that a model wants."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from delineate import formats
from delineate.errors import InputError
from delineate.formats.deidentification.pseudonyms import PseudonymKey
from delineate.formats.nifti import is_nifti_name, unpacked_bytes
from delineate.settings import Settings
from delineate.volume import Kind, Volume, with_absent
from delineate.workflow.assembling import Assembly, ChannelWish, assemble, read_assembly
from delineate.workflow.importing import name_cases, patients_of
from delineate.workflow.progress import Watch, nobody
from delineate.workflow.recipes import files_recipe, stack_recipe
from delineate.workflow.scan_reports import ScanReport
from delineate.workflow.scanning import scan
from delineate.workflow.scratch import Scratch

_CHANNEL = re.compile(r"_(\d{4})$")


@dataclass(frozen=True, slots=True)
class Scan:
    """Something to segment: an id that names the result, and how to read it."""

    id: str
    paths: tuple[Path, ...]
    assembly: Assembly | None = None

    def read(self, kinds: Sequence[Kind], scratch: Scratch, *, absent: Sequence[int] = ()) -> Volume:
        """Its voxels; where they are many, those of files are mapped, by `scratch` where they must be unpacked.

        `kinds`: of all channels; `absent`: those that it lacks.
        """
        if self.assembly is not None:
            return read_assembly(self.assembly)[0]
        kind = next(kind for n, kind in enumerate(kinds) if n not in absent)
        allocate = scratch.allocate
        volume = formats.read_channels(self.paths, kind=kind, allocate=allocate, map_bytes=scratch.from_bytes)
        return with_absent(volume, absent, allocate=allocate)

    @property
    def voxel_bytes(self) -> int:
        """About how much memory its voxels take, as far as that is known without reading them."""
        if self.assembly is not None:
            # Those that are refused have no grid, and will not be read.
            stacks = [stack for stack in self.assembly.stacks if stack.error is None]
            return sum(4 * math.prod(stack.grid.shape) for stack in stacks)
        return sum(unpacked_bytes(path) for path in self.paths)

    @property
    def recipe(self) -> list[object]:
        """Differs whenever the scan would."""
        if self.assembly is not None:
            return [stack_recipe(stack) for stack in self.assembly.stacks]
        return [files_recipe(self.paths)]


@dataclass(frozen=True, slots=True)
class Chosen:
    """The scans, and what could not be read on the way. `stopped`: the search was."""

    scans: tuple[Scan, ...]
    problems: tuple[str, ...] = ()
    stopped: bool = False


def find_scans(
    path: Path,
    channels: Sequence[ChannelWish],
    *,
    settings: Settings,
    key: PseudonymKey | None = None,
    may_lack: bool = False,
    watch: Watch = nobody,
) -> Chosen:
    """What there is to segment at a path: a file, a folder of NIfTI files, a DICOM series, a tree or archive of them.

    `a.nii.gz` and `a_0000.nii.gz` (with `a_0001.nii.gz` ... for more channels) are case `a`; a DICOM series is named
    after its folder, and by its number where a folder holds several; with a `key`, as `import` names its case. Of DICOM
    series those are taken that fit the first channel; the others are looked for in the same tree, where a case
    `may_lack` them. Raises `InputError` if there is nothing.
    """
    if not path.exists():
        raise InputError("nothing to segment: there is no such file or folder", path=path)
    nifti = [path] if path.is_file() else sorted(file for file in path.iterdir() if file.is_file())
    nifti = [file for file in nifti if is_nifti_name(file) and not file.name.startswith(".")]
    if nifti:
        return Chosen(_nifti_scans(nifti, len(channels)))
    report = scan(path, settings=settings, watch=watch)
    if report.stopped:
        return Chosen((), stopped=True)
    scans = _dicom_scans(report, channels, key, may_lack=may_lack)
    if not scans:
        raise InputError(
            "nothing to segment",
            expected=f"NIfTI files, or a DICOM series or tree with {' and '.join(map(str, channels))}",
            path=path,
            remedy="Name the folder that holds the scans.",
        )
    return Chosen(scans, report.problems)


def absent_channels(scan: Scan, channels: Sequence[str]) -> tuple[int, ...]:
    """Those of the channels 0, 1, ... that a model wants and a case lacks.

    Raises `InputError` unless a case's files are such channels, each once, in order, or one file holds all of them.
    """
    if scan.assembly is not None:
        return scan.assembly.absent
    found = [_CHANNEL.search(formats.image_stem(path)) for path in scan.paths]
    numbers = [None if number is None else int(number.group(1)) for number in found]
    wanted = range(len(channels))
    if len(channels) == len(numbers) == 1 or (
        numbers == [None] and formats.count_channels(scan.paths[0]) == len(channels)
    ):
        return ()
    there = [number for number in wanted if number in numbers]
    if there and numbers == there:
        return tuple(number for number in wanted if number not in there)
    raise InputError(
        "the case has not the channels that the model was made for",
        expected=", ".join(f"_{number:04d} ({name})" for number, name in enumerate(channels)),
        got=", ".join([path.name for path in scan.paths[:4]] + ["..."] * (len(scan.paths) > 4)),
        case=scan.id,
        path=scan.paths[0].parent,
        remedy="Name a case's files alike but for the channel's number, and those of other cases otherwise.",
    )


def _nifti_scans(files: Sequence[Path], channels: int) -> tuple[Scan, ...]:
    cases: dict[str, list[Path]] = {}
    stems = {formats.image_stem(file) for file in files}
    for file in files:
        stem = formats.image_stem(file)
        numbered = _CHANNEL.search(stem)
        # Where there is but one channel, a number may be part of a name: unless there is a channel 0 of that name.
        alone = channels == 1 and f"{stem[: -len('_0000')]}_0000" not in stems
        plain = numbered is None or alone
        cases.setdefault(stem if plain else stem[: -len("_0000")], []).append(file)
    return tuple(Scan(case, tuple(paths)) for case, paths in cases.items())


def _dicom_scans(
    report: ScanReport, channels: Sequence[ChannelWish], key: PseudonymKey | None, *, may_lack: bool
) -> tuple[Scan, ...]:
    # What is refused is there too, and fails with its reason when its turn comes.
    found = [one for stacks, _ in patients_of(report) for one in assemble(stacks, (), channels, may_lack=may_lack)]
    if key is not None:
        return tuple(Scan(case.id, case.assembly.first.files[:1], case.assembly) for case in name_cases(found, key))
    folders = [assembly.first.files[0].parent for assembly in found]
    names = [
        _scan_name(report, one, alone=folders.count(folder) == 1) for one, folder in zip(found, folders, strict=True)
    ]
    return tuple(
        # Numbers may repeat, identifiers do not.
        Scan(name if names.count(name) == 1 else f"{name}_{_last_part(one.first)}", (folder,), one)
        for name, folder, one in zip(names, folders, found, strict=True)
    )


def _scan_name(report: ScanReport, assembly: Assembly, *, alone: bool) -> str:
    stack = assembly.first
    if report.tree.is_file() and stack.files == (report.tree,):
        return formats.image_stem(report.tree)
    more = () if alone else (str(stack.facts.number), *([stack.name] if stack.name else []))
    return re.sub(r"[^\w.-]+", "_", "_".join((report.name_of(stack.files[0].parent), *more)))


def _last_part(stack: formats.Stack) -> str:
    return stack.facts.series_uid.rsplit(".", maxsplit=1)[-1]
