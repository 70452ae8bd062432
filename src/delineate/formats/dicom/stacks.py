"""From the files of one series to the volumes in it: the written policy, every decision said.

1. Files without an image of a scan (reports, localizers, secondary captures, colour, mosaics) are skipped.
2. An instance or image that is there twice, identical in header and pixels, is dropped; one that differs refuses the
   series, as does a file that should hold a slice and cannot be used.
3. Slices of other size, orientation, pixel spacing, frame of reference, echo, b-value, time point or complex component
   are other volumes.
4. Where positions repeat, the first attribute (or pair of them) that tells the repeats apart separates the volumes;
   else, where every position repeats equally often, the instance numbers' order does; else the series is refused.
5. Tilted stacks are straightened. Missing slices and uneven steps are refused unless interpolation is asked for.
6. One or two slices are no volume, and skipped.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import Enum
from itertools import combinations, pairwise
from pathlib import Path

from delineate.errors import InconsistentSeries, InputError, UnreadableImage
from delineate.formats.dicom.geometry import (
    FEWEST_SLICES,
    SAME_POSITION_MM,
    Fault,
    Verdict,
    by_height,
    heights_of,
    judge,
    names,
    plain_grid,
    positions_of,
    same_height,
    same_size,
    same_spacing,
    tilt_degrees,
    words,
)
from delineate.formats.dicom.pixels import content_digest, same_content
from delineate.formats.dicom.slices import Instance, SeriesFacts, Slice, same_cosines
from delineate.geometry import Grid
from delineate.resampling import StackPositions, even_grid
from delineate.volume import Kind

MOST_GROWTH = 4
"""How many times as many voxels as pixels a repair may make: half the slices missing makes 2, a tilt of 30 degrees
seldom more than 2."""


class Action(Enum):
    """What becomes of a group of files."""

    READ = "read"
    STRAIGHTEN = "straighten"
    INTERPOLATE = "interpolate"
    SKIP = "skip"
    REFUSE = "refuse"


class Repair(Enum):
    """What may be done to a series that is not plain.

    STRAIGHTEN, the default, moves tilted slices in their own planes. INTERPOLATE also makes even steps of uneven ones.
    NONE refuses both.
    """

    NONE = "none"
    STRAIGHTEN = "straighten"
    INTERPOLATE = "interpolate"


_ALLOWED = {
    Repair.NONE: (),
    Repair.STRAIGHTEN: (Action.STRAIGHTEN,),
    Repair.INTERPOLATE: (Action.STRAIGHTEN, Action.INTERPOLATE),
}


@dataclass(frozen=True, slots=True, eq=False)
class Stack:
    """Files of one series that make one volume, or that were set aside together.

    `slices` are in order along their normal; none where the files hold none. `name` says what sets the volume apart
    from others of its series ("echo 2"), "" where it is the only one. `notes` are the decisions taken, in words.
    `error` says why it is refused or skipped, None where it is read.
    """

    facts: SeriesFacts
    files: tuple[Path, ...]
    slices: tuple[Slice, ...]
    action: Action
    name: str = ""
    notes: tuple[str, ...] = ()
    error: InputError | None = None

    @property
    def is_scan(self) -> bool:
        """Whether there is a volume to be read."""
        return self.action in (Action.READ, Action.STRAIGHTEN, Action.INTERPOLATE)

    @property
    def grid(self) -> Grid:
        """Where the volume's voxels are. Raises the stack's error where there is no volume."""
        if self.error is not None:
            raise self.error
        return plain_grid(self.slices) if self.action is Action.READ else even_grid(self.positions)

    @property
    def acquired(self) -> Grid:
        """The grid as acquired: sheared where the gantry was tilted, the mean step where steps are uneven."""
        return plain_grid(self.slices)

    @property
    def positions(self) -> StackPositions:
        return _stack_positions(self.slices)

    @property
    def summary(self) -> str:
        """One line for people: what it is, and how large."""
        what = f"{self.facts.modality or 'no modality'} {self.facts.description or 'without description'}"
        size = f" of {self.slices[0].rows} x {self.slices[0].columns}" if self.slices else ""
        volume = f", {self.name}" if self.name else ""
        return f"{what} [{self.facts.series_uid}]{volume}, {len(self.files)} file(s){size}"


def _stack_positions(slices: Sequence[Slice]) -> StackPositions:
    first = slices[0]
    between_rows, between_columns = first.spacing_mm
    return StackPositions(
        shape=(first.columns, first.rows, len(slices)),
        positions_mm=tuple(s.position_mm for s in slices),
        directions=(first.row_direction, first.column_direction),
        spacing_mm=(between_columns, between_rows),
        frame_of_reference_uid=first.frame_of_reference_uid or None,
    )


def sort_out(instances: Sequence[Instance], *, repair: Repair = Repair.STRAIGHTEN) -> tuple[Stack, ...]:
    """The volumes in the files of one series, and what was set aside, in order of their first file.

    Pixels are read only where an image is there twice. One file that should be part of a volume and cannot be used
    refuses the whole series: without it a slice would be missing. Raises `ValueError` for files of several series.
    """
    series = {(instance.facts.study_uid, instance.facts.series_uid) for instance in instances}
    if len(series) != 1:
        raise ValueError(f"the files of one series are sorted out at a time, not of {len(series)}")
    aside = list(_without_slices(instances))
    kept, notes, clashes = _without_copies([instance for instance in instances if instance.slices])
    broken = [stack.error for stack in aside if stack.action is Action.REFUSE] + [clash.error for clash in clashes]
    facts = {instance.path: instance.facts for instance in kept}
    parts = _separate([slice_ for instance in kept for slice_ in instance.slices]) if kept else []
    stacks = [_decide(facts[part.slices[0].path], part, repair, notes) for part in parts]
    if broken:
        differing = {clash.files[0]: clash.files for clash in clashes}
        stacks = [_refused(stack, broken[0], differing) for stack in stacks]
    return tuple(sorted([*stacks, *aside], key=lambda stack: (not stack.is_scan, stack.files[0])))


def _without_slices(instances: Sequence[Instance]) -> Iterator[Stack]:
    """Files that hold no slices, together where the reason is the same but for the file's name."""
    groups: dict[tuple[str, bool], list[Instance]] = {}
    for instance in instances:
        if not instance.slices:
            reason = (instance.problem or "no slices").replace(str(instance.path), "")
            groups.setdefault((reason, instance.expected), []).append(instance)
    for (_, expected), group in groups.items():
        problem = group[0].problem or "no slices"
        error = InconsistentSeries(problem.rstrip("."), path=None if str(group[0].path) in problem else group[0].path)
        action = Action.SKIP if expected else Action.REFUSE
        yield Stack(group[0].facts, tuple(i.path for i in group), (), action, error=error)


def _refused(stack: Stack, error: InputError | None, differing: Mapping[Path, Sequence[Path]]) -> Stack:
    """The stack with the error, and with the files that differ from one of its own under its UID."""
    files = {path for own in stack.files for path in (own, *differing.get(own, ()))}
    return replace(stack, files=tuple(sorted(files)), action=Action.REFUSE, error=error)


def _without_copies(instances: Sequence[Instance]) -> tuple[list[Instance], dict[Path, list[str]], list[_Clash]]:
    """The instances without copies, notes on identical ones by the file kept, and those that differ."""
    of_uid: dict[str, list[Instance]] = {}
    for instance in instances:
        of_uid.setdefault(instance.instance_uid or str(instance.path), []).append(instance)
    notes: dict[Path, list[str]] = {}
    clashes: list[_Clash] = []
    for first, *copies in of_uid.values():
        error = _clash(first, copies)
        if error is None:
            notes[first.path] = [_dropped(copy.path, first.path) for copy in copies]
        else:
            clashes.append(_Clash((first.path, *(copy.path for copy in copies)), error))
    return [group[0] for group in of_uid.values()], notes, clashes


@dataclass(frozen=True, slots=True)
class _Clash:
    """Files of one instance UID that are not one image, the one that is kept first."""

    files: tuple[Path, ...]
    error: InputError


def _clash(first: Instance, copies: Sequence[Instance]) -> InputError | None:
    """The error of files of one instance UID that are not one image; None if they are.

    Pixels that cannot be read are one too: nobody can tell which file is right.
    """
    try:
        if all(_same_image(first, copy) for copy in copies):
            return None
    except UnreadableImage as error:
        return error
    return InconsistentSeries(
        "one instance UID for several different images",
        expected="each instance once",
        got=f"{first.instance_uid} in {', '.join(instance.path.name for instance in (first, *copies[:3]))}",
        path=first.path.parent,
        remedy="Find out which file is right and remove the other.",
    )


def _dropped(copy: Path, kept: Path) -> str:
    """Files of equal names are told apart by their folders."""
    if copy.name != kept.name:
        return f"dropped {copy.name}: a copy of {kept.name}"
    beside = Path(os.path.commonpath([copy.parent, kept.parent]))
    return f"dropped {copy.relative_to(beside).as_posix()}: a copy of {kept.relative_to(beside).as_posix()}"


def _same_image(first: Instance, second: Instance) -> bool:
    """Whether two files hold the same slices at the same places with the same pixels."""

    def bare(instance: Instance) -> list[Slice]:
        storage = (replace(s.storage, place=None, syntax="") for s in instance.slices)
        return [
            replace(s, path=Path(), instance_uid="", instance_number=None, storage=stored, hints=())
            for s, stored in zip(instance.slices, storage, strict=True)
        ]

    return bare(first) == bare(second) and same_content(first.slices, second.slices)


@dataclass(frozen=True, slots=True)
class _Part:
    """Slices that may be one volume, what tells them from the others of their kind, and what was decided."""

    slices: Sequence[Slice]
    name: str = ""
    notes: tuple[str, ...] = ()


def _separate(slices: Sequence[Slice]) -> list[_Part]:
    groups = _by_kind(slices)
    parts = [part for group in groups for part in _apart(group)]
    if len(parts) == 1:
        return parts
    return [replace(part, name=_name(part, groups)) for part in parts]


def _by_kind(slices: Sequence[Slice]) -> list[list[Slice]]:
    """Slices that agree in everything that makes one volume, in order of appearance."""
    groups: list[list[Slice]] = []
    for slice_ in slices:
        home = next((group for group in groups if _agree(group[0], slice_)), None)
        groups.append([slice_]) if home is None else home.append(slice_)
    return groups


def _agree(first: Slice, second: Slice) -> bool:
    return (
        first.frame_of_reference_uid == second.frame_of_reference_uid
        and first.contrast == second.contrast
        and first.kind is second.kind
        and first.rescaled == second.rescaled
        and same_size(first, second)
        and same_spacing(first, second)
        and same_cosines(first.cosines, second.cosines)
    )


def _name(part: _Part, groups: Sequence[Sequence[Slice]]) -> str:
    """What differs from the series' other groups, and what told repeats apart."""
    first, firsts = part.slices[0], [group[0] for group in groups]
    contrast = [pair for pair in first.contrast if any(pair not in other.contrast for other in firsts)]
    known = [words(contrast)] if contrast else []
    if any(not same_size(first, other) for other in firsts):
        known.append(f"{first.rows} x {first.columns}")
    if any(not same_cosines(first.cosines, other.cosines) for other in firsts):
        known.append(_plane(first))
    if any(not same_spacing(first, other) for other in firsts):
        known.append(f"pixels of {first.spacing_mm[0]:g} x {first.spacing_mm[1]:g} mm")
    if any(first.frame_of_reference_uid != other.frame_of_reference_uid for other in firsts):
        known.append(f"frame of reference {first.frame_of_reference_uid or 'unknown'}")
    return ", ".join([*known, *([part.name] if part.name else [])])


def _plane(slice_: Slice) -> str:
    axis = max(range(3), key=lambda n: abs(slice_.normal[n]))
    return ("sagittal", "coronal", "axial")[axis]


def _apart(group: Sequence[Slice]) -> list[_Part]:
    """The group itself, or the volumes in it that share positions or interleave."""
    stack = by_height(group)
    fault = judge(stack).fault
    if fault is Fault.REPEATED:
        stack, notes = _without_equal_images(stack)
        if judge(stack).fault is Fault.REPEATED:
            parts = _told_apart(stack, _has_no_repeats) or _by_turn(stack)
            return [replace(part, notes=notes) for part in parts] or [_Part(stack, notes=notes)]
        return [_Part(stack, notes=notes)]
    if fault is Fault.UNEVEN:
        return _told_apart(stack, _interleaved_and_sound) or [_Part(stack)]
    # Odd and even slices of one volume are often acquired one after the other, so these are one; but it is said.
    turns = _told_apart(stack, _interleaved_and_sound, most=1)
    told = " and ".join(part.name for part in turns[:4])
    return [_Part(stack, notes=(f"read as one volume: its slices alternate between {told}",) if turns else ())]


def _without_equal_images(stack: Sequence[Slice]) -> tuple[tuple[Slice, ...], tuple[str, ...]]:
    """Without images that are there again under another UID, at the same place and with the same pixels."""
    kept: list[Slice] = []
    notes: list[str] = []
    for place in same_height(heights_of(stack)):
        alike: dict[tuple[tuple[str, str], ...], list[Slice]] = {}
        for n in place:
            alike.setdefault(stack[n].hints, []).append(stack[n])
        for slices in alike.values():
            different, said = _different_images(slices)
            kept += different
            notes += said
    return tuple(kept), tuple(notes)


def _different_images(slices: Sequence[Slice]) -> tuple[list[Slice], list[str]]:
    """The first of each image among slices of one height. Pixels are read only where there are several."""
    if len(slices) == 1:
        return list(slices), []
    kept: dict[tuple[bytes, tuple[float, ...]], Slice] = {}
    notes: list[str] = []
    for slice_ in slices:
        try:
            content = content_digest(slice_)
        # Images that cannot be compared stay, and repeat a position.
        except UnreadableImage as error:
            content = str(slice_.path).encode()
            notes.append(f"{slice_.name} cannot be compared with others at its place: {error.problem}")
        key = content, tuple(round(p / SAME_POSITION_MM) for p in slice_.position_mm)
        twin = kept.setdefault(key, slice_)
        if twin is not slice_:
            notes.append(f"dropped {slice_.name}: the same image at the same place as {twin.name}")
    return list(kept.values()), notes


def _told_apart(
    stack: Sequence[Slice], good: Callable[[Sequence[Sequence[Slice]]], bool], *, most: int = 2
) -> list[_Part]:
    """The split by the fewest attributes (at most `most`) that leaves every part good; none if there is none."""
    known = list(dict.fromkeys(name for slice_ in stack for name, _ in slice_.hints))
    for count in range(1, most + 1):
        for chosen in combinations(known, count):
            parts: dict[tuple[tuple[str, str], ...], list[Slice]] = {}
            for slice_ in stack:
                parts.setdefault(tuple(pair for pair in slice_.hints if pair[0] in chosen), []).append(slice_)
            if 1 < len(parts) < len(stack) and good(list(parts.values())):
                return [_Part(part, words(key)) for key, part in parts.items()]
    return []


def _has_no_repeats(parts: Sequence[Sequence[Slice]]) -> bool:
    return all(len(part) >= FEWEST_SLICES and judge(by_height(part)).fault is not Fault.REPEATED for part in parts)


def _interleaved_and_sound(parts: Sequence[Sequence[Slice]]) -> bool:
    """Whether each part is a volume by itself, and their ranges overlap; parts end to end are one uneven series."""
    if not all(judge(by_height(part)).fault in (Fault.NOTHING, Fault.TILT) for part in parts):
        return False
    normal = parts[0][0].normal
    heights = [positions_of(part) @ normal for part in parts]
    ranges = sorted((float(h.min()), float(h.max())) for h in heights)
    return all(low < high for (_, high), (low, _) in pairwise(ranges))


def _by_turn(stack: Sequence[Slice]) -> list[_Part]:
    """Where every position is there equally often and instances are numbered: the n-th of each position together."""
    numbers = [slice_.instance_number for slice_ in stack]
    if None in numbers or len(set(numbers)) < len(numbers):
        return []
    places = [[stack[n] for n in place] for place in same_height(heights_of(stack))]
    count = len(places[0])
    if len(places) < FEWEST_SLICES or any(len(place) != count for place in places):
        return []
    turns = [sorted(place, key=lambda s: s.instance_number or 0) for place in places]
    return [_Part([turn[n] for turn in turns], f"{n + 1} of {count} by instance number") for n in range(count)]


def _decide(facts: SeriesFacts, part: _Part, repair: Repair, dropped: Mapping[Path, list[str]]) -> Stack:
    stack = by_height(part.slices)
    verdict = judge(stack)
    action, error = _action(verdict, stack, repair)
    files = tuple(sorted({slice_.path for slice_ in stack}))
    notes = [note for path in files for note in dropped.get(path, ())]
    notes += part.notes
    notes += [f"one of several volumes of the series: {part.name}"] if part.name else []
    notes += _repair_notes(action, stack, verdict)
    notes += _value_notes(stack)
    return Stack(facts, files, stack, action, part.name, tuple(notes), error)


def _action(verdict: Verdict, stack: Sequence[Slice], repair: Repair) -> tuple[Action, InconsistentSeries | None]:
    if verdict.fault is Fault.NOTHING:
        return Action.READ, None
    mended = {Fault.TILT: Action.STRAIGHTEN, Fault.UNEVEN: Action.INTERPOLATE}.get(verdict.fault)
    if mended is not None and mended in _ALLOWED[repair]:
        beyond = _beyond_repair(stack, verdict)
        return (mended, None) if beyond is None else (Action.REFUSE, beyond)
    if len(stack) < FEWEST_SLICES or _at_one_place(stack):
        return Action.SKIP, _no_volume(stack) or verdict.error
    return Action.REFUSE, verdict.error


def _beyond_repair(stack: Sequence[Slice], verdict: Verdict) -> InconsistentSeries | None:
    """The error for slices so far apart that most of the volume would be made up."""
    size = math.prod(even_grid(_stack_positions(stack)).shape)
    there = stack[0].rows * stack[0].columns * len(stack)
    if size <= MOST_GROWTH * there or verdict.error is None:
        return None
    return InconsistentSeries(
        f"{verdict.error.problem}; too far apart to be repaired",
        expected=f"at most {MOST_GROWTH} times as many voxels as there are pixels",
        got=f"{size / there:.3g} times; {verdict.error.got}",
        path=verdict.error.path,
        remedy="Fetch the whole series again, or remove the slices that do not belong to it.",
    )


def _at_one_place(stack: Sequence[Slice]) -> bool:
    heights = heights_of(stack)
    return float(heights[-1] - heights[0]) <= SAME_POSITION_MM


def _no_volume(stack: Sequence[Slice]) -> InconsistentSeries | None:
    if len(stack) == 1 or not _at_one_place(stack):
        return None
    return InconsistentSeries(
        "images of one position are no volume", got=f"{len(stack)} in {names(stack)}", path=stack[0].path.parent
    )


def _repair_notes(action: Action, stack: Sequence[Slice], verdict: Verdict) -> list[str]:
    if action is Action.STRAIGHTEN:
        return [
            f"straightened: slices moved in their planes, the gantry was tilted by {tilt_degrees(stack):.2f} degrees"
        ]
    if action is Action.INTERPOLATE and verdict.error is not None:
        return [f"interpolated onto even steps: {verdict.error.problem} ({verdict.error.got})"]
    return []


def _value_notes(stack: Sequence[Slice]) -> Iterator[str]:
    first = stack[0]
    if any(s.storage.lossy for s in stack):
        yield "lossy compression: the numbers are not the scanner's"
    if first.kind is Kind.CT and not first.rescaled:
        yield "no rescale slope and intercept: the stored numbers are taken for HU"
    if any(s.inverted for s in stack):
        yield "MONOCHROME1: meant to be shown inverted; the numbers are kept"
    if first.padding is not None:
        low, high = (value * first.slope + first.intercept for value in first.padding)
        yield f"padding of {low:g}{'' if low == high else f' to {high:g}'} kept outside the image"
    uptakes = [s.uptake for s in stack if s.uptake is not None]
    if uptakes:
        # Of differing factors the least is used: see `pixels`.
        yield min(uptakes, key=lambda uptake: uptake.factor or 0.0).how
    if len({(s.scale_slope or 1.0) * s.slope for s in stack}) > 1 and all(s.scale_slope for s in stack):
        yield "Philips' scale slopes applied: they differ between the slices"
