"""What a scan found: rows for people, counts in which every file occurs once, volumes one series at a time."""

from __future__ import annotations

import hashlib
import os
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import groupby
from pathlib import Path

import msgspec

from delineate.errors import DelineateError, InconsistentSeries, InputError, UnreadableImage
from delineate.formats import Action, Repair, Stack
from delineate.formats.archives import ARCHIVE_SUFFIXES
from delineate.formats.dicom.files import ClosedFolder, read_dicomdir
from delineate.formats.dicom.geometry import tilt_degrees
from delineate.formats.dicom.index import Index, SeriesKey
from delineate.formats.dicom.records import State, storable
from delineate.formats.dicom.slices import Instance
from delineate.formats.dicom.stacks import sort_out
from delineate.reports.tables import Reference, SeriesRow, printable

OBJECTS = ("SEG", "RTSTRUCT")

_DIGEST = 24  # hexadecimal digits
# What a file with several volumes counts as: the first of these.
_RANK = (Action.REFUSE, Action.READ, Action.STRAIGHTEN, Action.INTERPOLATE, Action.SKIP)


class FileCounts(msgspec.Struct, frozen=True, kw_only=True):
    """Every file of the tree, once: by what becomes of it. `archives` were unpacked, and their members counted."""

    read: int = 0
    straighten: int = 0
    interpolate: int = 0
    skip: int = 0
    refuse: int = 0
    copies: int = 0
    unreadable: int = 0
    not_dicom: int = 0
    archives: int = 0

    @property
    def total(self) -> int:
        return sum(int(getattr(self, name)) for name in self.__struct_fields__)


class UnreadableFile(msgspec.Struct, frozen=True):
    """A file or folder that could not be read, named from the tree, and why."""

    name: str
    reason: str


class ScanRecord(msgspec.Struct, frozen=True, kw_only=True):
    """The report as JSON. Names of files are relative to the tree; `archive.zip/member` for what came out of one.

    `volumes`: how many volumes or groups of files there are by action. `kinds`: files that are no DICOM. `missing`:
    files that a DICOMDIR lists and that are not there.
    """

    tree: str
    repair: str
    files: FileCounts
    volumes: dict[str, int]
    series: tuple[SeriesRow, ...]
    unreadable: tuple[UnreadableFile, ...]
    missing: tuple[str, ...]
    warnings: tuple[str, ...]
    kinds: dict[str, int]


@dataclass(frozen=True, slots=True)
class Study:
    """A study of one patient: its series, in order of their numbers."""

    patient_id: str
    study_uid: str
    study_date: str
    series: tuple[SeriesKey, ...]


@dataclass(frozen=True, slots=True)
class ScanReport:
    """What a tree holds. `stopped`: the scan was stopped, and nothing is reported; the next one goes on.

    `unreadable` holds folders that cannot be listed as well. `warnings` are lines for people.
    """

    tree: Path
    index: Path
    repair: Repair
    rows: tuple[SeriesRow, ...] = ()
    files: FileCounts = field(default_factory=FileCounts)
    kinds: tuple[tuple[str, int], ...] = ()
    unreadable: tuple[UnreadableFile, ...] = ()
    missing: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    stopped: bool = False

    @property
    def sound(self) -> bool:
        """Whether nothing was refused, unreadable or missing."""
        refused = any(row.action == Action.REFUSE.value for row in self.rows)
        return not (refused or self.unreadable or self.missing)

    @property
    def summary(self) -> str:
        """In words: the volumes by action, then the other files."""
        volumes = Counter(row.action for row in self.rows)
        said = [f"{volumes['read']} volume(s) can be read"]
        said += [f"{volumes['straighten']} straightened"] if volumes["straighten"] else []
        said += [f"{volumes['interpolate']} interpolated"] if volumes["interpolate"] else []
        said += [f"{volumes['refuse']} refused", f"{volumes['skip']} skipped"]
        others = [f"{self.files.not_dicom} file(s) are no DICOM", f"{len(self.unreadable)} unreadable"]
        others += [f"{self.files.copies} are copies"] if self.files.copies else []
        others += [f"{self.files.archives} archive(s) unpacked"] if self.files.archives else []
        others += [f"{len(self.missing)} missing"] if self.missing else []
        return f"{', '.join(said)}; {', '.join(others)}"

    @property
    def problems(self) -> tuple[str, ...]:
        """What could not be read and what is missing, a line each, for people."""
        lines = [f"unreadable: {file.name}: {file.reason}" for file in self.unreadable]
        lines += [f"missing: {name}" for name in self.missing]
        return tuple(printable(line) for line in (*lines, *self.warnings))

    @property
    def record(self) -> ScanRecord:
        return ScanRecord(
            tree=storable(str(self.tree)),
            repair=self.repair.value,
            files=self.files,
            volumes=dict(Counter(row.action for row in self.rows)),
            series=self.rows,
            unreadable=self.unreadable,
            missing=self.missing,
            warnings=self.warnings,
            kinds=dict(self.kinds),
        )

    def name_of(self, path: Path) -> str:
        """A file or folder of the scan as people know it: from the tree, and archive.zip/member for what was in one."""
        return _names(self.tree, self.index)(path)

    def studies(self) -> Iterator[Study]:
        """The studies of the tree, by patient and date."""
        series = Index(self.index).series()
        for (patient, study), keys in groupby(series, key=lambda key: (key.patients[0], key.study)):
            found = tuple(keys)
            yield Study(patient, study, next((key.study_date for key in found if key.study_date), ""), found)

    def stacks(self, study: Study | None = None) -> Iterator[Stack]:
        """The volumes and what was set aside, of one study or all; no more than one series is in memory."""
        index = Index(self.index)
        orphans = _orphans(index)
        for key in index.series() if study is None else study.series:
            yield from _sorted_out(index.instances(key), key, self.repair, orphans)

    def objects(self, study: Study | None = None, *, modalities: Collection[str] = OBJECTS) -> Iterator[Instance]:
        """The segmentations and structure sets (or objects of other modalities) of one study, or all."""
        index = Index(self.index)
        for key in index.series() if study is None else study.series:
            if key.modalities & set(modalities):
                for instance in index.instances(key):
                    if instance.expected and instance.facts.modality in modalities:
                        yield instance


def report_to_json(report: ScanReport) -> str:
    return msgspec.json.format(msgspec.json.encode(report.record), indent=2).decode() + "\n"


def unpacked_folder(index: Path) -> Path:
    """The folder beside an index that archives are unpacked into, each into a folder of its own."""
    return index.with_name(f"{index.name}.archives")


def digest(path: Path) -> str:
    """A name for what belongs to a path."""
    return hashlib.sha256(os.fsencode(path)).hexdigest()[:_DIGEST]


def make_report(
    tree: Path, place: Path, repair: Repair, *, closed: Sequence[ClosedFolder], tell: Callable[[int, int], None]
) -> ScanReport:
    """Sort out one series of the index after the other; `tell` is told how many are done, of how many.

    `closed`: folders of the tree that could not be listed.
    """
    index = Index(place)
    names = _names(tree, place)
    unreadable = index.unreadable()
    broken = {file.path for file in unreadable}
    orphans = _orphans(index)
    keys = index.series()
    here = {key.series for key in keys}
    rows: list[SeriesRow] = []
    fates: Counter[str] = Counter()
    for n, key in enumerate(keys):
        instances = index.instances(key)
        stacks = _sorted_out(instances, key, repair, orphans)
        fates += _fates(stacks, [i.path for i in instances if i.path not in broken])
        rows += _rows(stacks, instances, broken, names=names, here=here)
        tell(n + 1, len(keys))
    missing, warnings = _discs(index, names)
    nested = index.others(*ARCHIVE_SUFFIXES, archived=True)
    return ScanReport(
        tree,
        place,
        repair,
        rows=tuple(rows),
        files=_counts(fates, index.count()),
        kinds=index.kinds(),
        unreadable=(
            *(UnreadableFile(names(f.path), f"a folder that cannot be listed: {f.reason}") for f in closed),
            *(UnreadableFile(names(f.path), f.reason) for f in unreadable),
        ),
        missing=tuple(missing),
        warnings=(*warnings, *(f"{names(path)}: an archive within an archive, left closed" for path in nested)),
    )


def _counts(fates: Mapping[str, int], states: Mapping[State, int]) -> FileCounts:
    return FileCounts(
        **fates,
        unreadable=states.get(State.UNREADABLE, 0),
        not_dicom=states.get(State.OTHER, 0),
        archives=states.get(State.ARCHIVE, 0),
    )


def reason_of(error: DelineateError) -> str:
    """What went wrong, without the place, which is said elsewhere."""
    return storable(error.problem + ("" if error.got is None else f": {error.got}"))


def _names(tree: Path, place: Path) -> _Names:
    unpacked = unpacked_folder(place)
    return _Names(tree, {unpacked / digest(path): path for path in Index(place).archives()})


@dataclass(frozen=True, slots=True)
class _Names:
    """Files as people know them: from the tree, and archive.zip/member for what was unpacked."""

    tree: Path
    archives: Mapping[Path, Path]

    def __call__(self, path: Path) -> str:
        for folder in (path, *path.parents) if self.archives else ():
            if folder in self.archives:
                inside = "" if folder == path else f"/{storable(path.relative_to(folder).as_posix())}"
                return f"{self(self.archives[folder])}{inside}"
        base = self.tree if path.is_relative_to(self.tree) and path != self.tree else self.tree.parent
        return storable(path.relative_to(base).as_posix())


def _orphans(index: Index) -> dict[Path, list[str]]:
    """Unreadable files that do not say their series, by folder."""
    orphans: dict[Path, list[str]] = {}
    for file in index.unreadable():
        if not file.in_series:
            orphans.setdefault(file.path.parent, []).append(storable(file.path.name))
    return orphans


def _sorted_out(
    instances: Sequence[Instance], key: SeriesKey, repair: Repair, orphans: Mapping[Path, Sequence[str]]
) -> list[Stack]:
    """The stacks of one series, refused in a mix-up of patients, with a note where a slice may be missing."""
    try:
        stacks = sort_out(instances, repair=repair)
    # Images that are there twice are compared by their pixels, and those may be unreadable or gone.
    except (DelineateError, OSError) as error:
        reason = error if isinstance(error, InputError) else UnreadableImage("pixels cannot be read", got=str(error))
        files = tuple(instance.path for instance in instances)
        return [Stack(instances[0].facts, files, (), Action.REFUSE, error=reason)]
    if key.patients[0] != key.patients[1]:
        mixed = InconsistentSeries(
            "one series of several patients",
            expected=f"patient {key.patients[0]!r} only",
            got=repr(key.patients[1]),
            remedy="Find out whose scan it is.",
        )
        stacks = tuple(replace(stack, action=Action.REFUSE, error=mixed) for stack in stacks)
    return [_with_note(stack, orphans) for stack in stacks]


def _with_note(stack: Stack, orphans: Mapping[Path, Sequence[str]]) -> Stack:
    beside = [name for folder in {path.parent for path in stack.files} for name in orphans.get(folder, ())]
    if not beside or not stack.slices:
        return stack
    shown = ", ".join(beside[:3]) + (f" and {len(beside) - 3} more" if len(beside) > 3 else "")
    return replace(stack, notes=(*stack.notes, f"a slice may be missing: {shown} in its folder cannot be read"))


def _fates(stacks: Sequence[Stack], paths: Sequence[Path]) -> Counter[str]:
    """What becomes of each file; one that is in no stack is a copy."""
    fate: dict[Path, int] = {}
    for stack in stacks:
        rank = _RANK.index(stack.action)
        for path in stack.files:
            fate[path] = min(rank, fate.get(path, rank))
    return Counter(_RANK[fate[path]].value if path in fate else "copies" for path in paths)


def _rows(
    stacks: Sequence[Stack],
    instances: Sequence[Instance],
    broken: Collection[Path],
    *,
    names: _Names,
    here: Collection[str],
) -> list[SeriesRow]:
    used = {path for stack in stacks for path in stack.files}
    copies = tuple(names(i.path) for i in instances if i.path not in used and i.path not in broken)
    refers_to = {instance.path: instance.refers_to for instance in instances}
    rows = []
    for stack in stacks:
        files = [path for path in stack.files if path not in broken]
        if files:
            uids = dict.fromkeys(uid for path in files for uid in refers_to[path] if uid)
            row = _row(stack, files=tuple(names(path) for path in files))
            rows.append(replace(row, copies=copies, refers_to=tuple(Reference(uid, uid in here) for uid in uids)))
            copies = ()
    return rows


def _row(stack: Stack, *, files: tuple[str, ...]) -> SeriesRow:
    facts = stack.facts
    row = SeriesRow(
        patient_id=storable(facts.patient_id),
        study_uid=storable(facts.study_uid),
        study_date=storable(facts.study_date),
        series_uid=storable(facts.series_uid),
        series_number=facts.number,
        modality=storable(facts.modality),
        description=storable(facts.description),
        volume=stack.name,
        action=stack.action.value,
        problem="" if stack.error is None else reason_of(stack.error),
        notes=tuple(storable(note) for note in stack.notes),
        files=files,
    )
    if not stack.slices:
        return row
    first = stack.slices[0]
    row = replace(
        row, slices=len(stack.slices), size=(first.columns, first.rows), tilt_degrees=tilt_degrees(stack.slices)
    )
    if not stack.is_scan:
        return row
    return replace(row, spacing_mm=stack.grid.spacing_mm, orientation=stack.grid.orientation)


def _discs(index: Index, names: _Names) -> tuple[list[str], list[str]]:
    """What the tree's DICOMDIRs list and is not there, and which of them cannot be read."""
    missing, warnings = [], []
    for path in index.others("DICOMDIR"):
        try:
            listed = read_dicomdir(path).missing
        except InputError as error:
            warnings.append(f"{names(path)}: {error.problem}; whether files of it are missing is not known")
            continue
        missing += [f"{names(path)}: {file_id}" for file_id in listed]
    return missing, warnings
