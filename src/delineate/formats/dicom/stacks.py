"""From the files of one series to the volumes in it: the written policy, every decision said.

1. Files without an image of a scan (reports, localizers, captures, colour, mosaics) are skipped.
2. An instance or image that is there twice, identical in header and pixels, is dropped; one that differs refuses the
   series, as does a file that should hold a slice and cannot be used, and one of another patient.
3. Slices of other size, orientation, pixel spacing, frame of reference, echo, b-value, time point or complex component
   are other volumes.
4. Where positions repeat, the first attribute (or pair of them) that tells the repeats apart separates the volumes;
   else, where every position repeats equally often, the instance numbers do if they go through the volumes in one
   order; else the series is refused.
5. Tilted stacks are straightened. Missing slices and uneven steps are refused unless interpolation is asked for.
6. One or two slices are no volume, and skipped.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import Enum
from pathlib import Path

from delineate.errors import InconsistentSeries, InputError
from delineate.formats.dicom.copies import without_copies
from delineate.formats.dicom.geometry import (
    FEWEST_SLICES,
    SAME_POSITION_MM,
    Fault,
    Verdict,
    by_height,
    heights_of,
    judge,
    mixed,
    names,
    plain_grid,
    tilt_degrees,
)
from delineate.formats.dicom.notes import absence_notes, value_notes
from delineate.formats.dicom.separation import Part, separate
from delineate.formats.dicom.slices import Instance, SeriesFacts, Slice
from delineate.geometry import Grid
from delineate.resampling import StackPositions, even_grid

MOST_GROWTH = 4
"""How many times as many voxels as pixels a repair may make: half the slices missing makes 2, a tilt of 30 degrees
seldom more than 2."""


FEW_TO_NAME = 5
"""From so many on, single slices of one series are reported together."""


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
    kept, notes, clashes = without_copies([instance for instance in instances if instance.slices])
    broken = [*_mixed_up(instances), *(stack.error for stack in aside if stack.action is Action.REFUSE)]
    broken += [clash.error for clash in clashes]
    facts = {instance.path: instance.facts for instance in kept}
    slices = [slice_ for instance in kept for slice_ in instance.slices]
    parts = separate(slices) if slices else []
    stacks = _gathered([_decide(facts[part.slices[0].path], part, repair, notes) for part in parts])
    absent = tuple(absence_notes(slices, sum(len(stack.files) for stack in aside)))
    stacks = [replace(stack, notes=(*stack.notes, *absent)) if stack.is_scan else stack for stack in stacks]
    if broken:
        differing = {clash.files[0]: clash.files for clash in clashes}
        stacks = [_refused(stack, broken[0], differing) for stack in stacks]
    return tuple(sorted([*stacks, *aside], key=lambda stack: (not stack.is_scan, stack.files[0])))


def _mixed_up(instances: Sequence[Instance]) -> Iterator[InconsistentSeries]:
    patients = {instance.facts.patient_id for instance in instances}
    if len(patients) > 1:
        # Who they are is no business of a log.
        got, folder = f"{len(patients)} patient IDs", instances[0].path.parent
        yield InconsistentSeries(
            "one series of several patients", expected="one", got=got, path=folder, remedy="Find out whose scan it is."
        )


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


def _gathered(stacks: Sequence[Stack]) -> list[Stack]:
    """Single slices together where there are many: of planes that turn about an axis or follow a curve."""
    single = [stack for stack in stacks if stack.action is Action.SKIP and len(stack.slices) == 1]
    if len(single) < FEW_TO_NAME:
        return list(stacks)
    slices = [stack.slices[0] for stack in single]
    differing = mixed(slices)
    error = InconsistentSeries(
        "single slices are no volume",
        expected=f"at least {FEWEST_SLICES} that are parallel and alike",
        got=f"{len(slices)} {'slices' if differing is None else differing.problem} in {names(slices)}",
        path=slices[0].path.parent,
    )
    files = tuple(sorted({path for stack in single for path in stack.files}))
    return [*(s for s in stacks if s not in single), Stack(single[0].facts, files, (), Action.SKIP, error=error)]


def _refused(stack: Stack, error: InputError | None, differing: Mapping[Path, Sequence[Path]]) -> Stack:
    """The stack with the error, and with the files that differ from one of its own under its UID."""
    files = {path for own in stack.files for path in (own, *differing.get(own, ()))}
    return replace(stack, files=tuple(sorted(files)), action=Action.REFUSE, error=error)


def _decide(facts: SeriesFacts, part: Part, repair: Repair, dropped: Mapping[Path, list[str]]) -> Stack:
    stack = by_height(part.slices)
    verdict = judge(stack)
    action, error = _action(verdict, stack, repair)
    files = tuple(sorted({slice_.path for slice_ in stack}))
    notes = [note for path in files for note in dropped.get(path, ())]
    notes += part.notes
    notes += [f"one of several volumes of the series: {part.name}"] if part.name else []
    notes += _repair_notes(action, stack, verdict)
    if error is None:
        notes += value_notes(stack, modality=facts.modality, manufacturer=facts.manufacturer)
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
