"""The slices of one series apart, volume by volume: by what was measured first, then by what tells repeats apart."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace
from itertools import combinations, groupby, pairwise

from delineate.formats.dicom.copies import without_equal_images
from delineate.formats.dicom.geometry import (
    FEWEST_SLICES,
    Fault,
    by_height,
    heights_of,
    judge,
    positions_of,
    same_height,
    same_size,
    same_spacing,
    words,
)
from delineate.formats.dicom.measurements import MEASURED, REMARKS
from delineate.formats.dicom.slices import Slice, same_cosines

_HARMLESS = re.compile(r"(T ?= ?)?\d{1,5}(\.\d+)? ?(%|keV|kV|ms|s|mm)?")


@dataclass(frozen=True, slots=True)
class Part:
    """Slices that may be one volume, what tells them from the others of their kind, and what was decided."""

    slices: Sequence[Slice]
    name: str = ""
    notes: tuple[str, ...] = ()


def separate(slices: Sequence[Slice]) -> list[Part]:
    """The volumes among slices of one series, named by what tells them apart; one part where nothing does."""
    slices, counted = _without_counter(slices)
    groups = _by_kind(slices)
    parts = [replace(part, notes=(*counted, *part.notes)) for group in groups for part in _apart(group)]
    if len(parts) == 1:
        return parts
    return _numbered([replace(part, name=_name(part, groups)) for part in parts])


def _without_counter(slices: Sequence[Slice]) -> tuple[Sequence[Slice], tuple[str, ...]]:
    """Time points that differ from slice to slice count the slices; as contrast each would be a volume of its own."""
    points = [dict(slice_.contrast).get("time point") for slice_ in slices]
    if None in points or len(slices) < FEWEST_SLICES or len(set(points)) < len(slices):
        return slices, ()
    bare = [replace(s, contrast=tuple(pair for pair in s.contrast if pair[0] != "time point")) for s in slices]
    return bare, ("every slice has a time point of its own: they are taken for a count",)


def _numbered(parts: Sequence[Part]) -> list[Part]:
    """Parts of equal names told apart by a number."""
    total = Counter(part.name for part in parts)
    seen: Counter[str] = Counter()
    numbered = []
    for part in parts:
        seen[part.name] += 1
        name = f"{part.name} {seen[part.name]} of {total[part.name]}".strip()
        numbered.append(replace(part, name=name) if total[part.name] > 1 else part)
    return numbered


def _by_kind(slices: Sequence[Slice]) -> list[list[Slice]]:
    """Slices that agree in everything that makes one volume, in order of appearance."""
    groups: list[list[Slice]] = []
    # Most of it is compared exactly, so only what rounding may change is looked through one by one.
    alike: dict[tuple[object, ...], list[list[Slice]]] = {}
    for slice_ in slices:
        exact = alike.setdefault(_exact(slice_), [])
        home = next((group for group in exact if _agree(group[0], slice_)), None)
        if home is None:
            home = []
            exact.append(home)
            groups.append(home)
        home.append(slice_)
    return groups


def _exact(slice_: Slice) -> tuple[object, ...]:
    storage = slice_.storage
    return (
        slice_.frame_of_reference_uid,
        slice_.contrast,
        slice_.kind,
        slice_.rescaled,
        slice_.units,
        storage.rows,
        storage.columns,
    )


def _agree(first: Slice, second: Slice) -> bool:
    return same_spacing(first, second) and same_cosines(first.cosines, second.cosines)


def _name(part: Part, groups: Sequence[Sequence[Slice]]) -> str:
    """What differs from the series' other groups, and what told repeats apart."""
    first, firsts = part.slices[0], [group[0] for group in groups]
    contrast = [pair for pair in first.contrast if any(pair not in other.contrast for other in firsts)]
    told = {name for name, _ in first.contrast}
    others = dict.fromkeys(name for other in firsts for name, _ in other.contrast if name not in told)
    known = [word for word in (words(contrast), *(f"no {name}" for name in others)) if word]
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


def _apart(group: Sequence[Slice]) -> list[Part]:
    """The group itself, or the volumes in it that share positions or interleave."""
    stack = by_height(group)
    verdict = judge(stack)
    if verdict.fault is Fault.REPEATED:
        return _without_repeats(stack)
    if verdict.fault is Fault.UNEVEN:
        # Odd and even slices of one volume, of which one is missing, are two even volumes by their acquisition.
        few = 0 < verdict.missing < len(stack) / 4
        return _told_apart(stack, _interleaved_and_sound, only=MEASURED if few else None) or [Part(stack)]
    parts = _told_apart(stack, _interleaved_and_sound, most=1, only=MEASURED)
    if parts:
        return parts
    # Odd and even slices of one volume are often acquired one after the other, so these are one; but it is said.
    turns = _told_apart(stack, _interleaved_and_sound, most=1)
    told = " and ".join(part.name for part in turns[:4])
    return [Part(stack, notes=(f"read as one volume: its slices alternate between {told}",) if turns else ())]


def _without_repeats(stack: Sequence[Slice]) -> list[Part]:
    """The volumes among slices that share positions; all together, to be refused, where nothing tells them apart."""
    single, notes = without_equal_images(stack)
    if judge(single).fault is not Fault.REPEATED:
        return [Part(single, notes=notes)]
    parts = (
        _told_apart(single, _has_no_repeats)
        or _by_turn(single)
        or _told_apart(single, _one_and_odd_ones, most=1, only=MEASURED[:1])
    )
    # Images of nothing are equal in all volumes.
    parts = [replace(part, notes=notes) for part in parts] or _by_turn(stack)
    return parts or [Part(single, notes=notes)]


def _told_apart(
    stack: Sequence[Slice],
    good: Callable[[Sequence[Sequence[Slice]]], bool],
    *,
    most: int = 2,
    only: Collection[str] | None = None,
) -> list[Part]:
    """The split by the fewest attributes (at most `most`) that leaves every part good; none if there is none."""
    known: dict[str, set[str]] = {}
    for slice_ in stack:
        for name, value in slice_.hints:
            known.setdefault(name, set()).add(value)
    there = Counter(name for slice_ in stack for name, _ in slice_.hints)
    telling = [name for name, values in known.items() if len(values) > 1 or there[name] < len(stack)]
    for count in range(1, most + 1):
        for chosen in combinations([name for name in telling if only is None or name in only], count):
            parts: dict[tuple[tuple[str, str], ...], list[Slice]] = {}
            for slice_ in stack:
                parts.setdefault(tuple(pair for pair in slice_.hints if pair[0] in chosen), []).append(slice_)
            if 1 < len(parts) < len(stack) and good(list(parts.values())):
                return [Part(part, words(_public(key, n))) for n, (key, part) in enumerate(parts.items(), start=1)]
    return []


def _public(key: Sequence[tuple[str, str]], number: int) -> list[tuple[str, str]]:
    """Volumes' names get into names of files, so what people typed (patients' names too) stays out of them."""
    typed = [name in REMARKS and not _HARMLESS.fullmatch(text) for name, text in key]
    return [(name, f"{number}" if hidden else text) for hidden, (name, text) in zip(typed, key, strict=True)]


def _has_no_repeats(parts: Sequence[Sequence[Slice]]) -> bool:
    return all(len(part) >= FEWEST_SLICES and judge(by_height(part)).fault is not Fault.REPEATED for part in parts)


def _one_and_odd_ones(parts: Sequence[Sequence[Slice]]) -> bool:
    """Whether one part is a volume and the others are too few for one: results that were stored beside it."""
    stacks = [by_height(part) for part in parts]
    volumes = [stack for stack in stacks if len(stack) >= FEWEST_SLICES]
    return len(volumes) == 1 and judge(volumes[0]).fault in (Fault.NOTHING, Fault.TILT)


def _interleaved_and_sound(parts: Sequence[Sequence[Slice]]) -> bool:
    """Whether each part is a volume by itself, and their ranges overlap; parts end to end are one uneven series."""
    if not all(judge(by_height(part)).fault in (Fault.NOTHING, Fault.TILT) for part in parts):
        return False
    normal = parts[0][0].normal
    heights = [positions_of(part) @ normal for part in parts]
    ranges = sorted((float(h.min()), float(h.max())) for h in heights)
    return all(low < high for (_, high), (low, _) in pairwise(ranges))


def _by_turn(stack: Sequence[Slice]) -> list[Part]:
    """Where every position is there equally often and instances are numbered: the n-th of each position together.

    Only if the numbers go through the volumes in one order: volume by volume, position by position, or by packages of
    positions. None else: the n-th of one position may belong to another volume than the n-th of the next.
    """
    numbers = [slice_.instance_number for slice_ in stack]
    if None in numbers or len(set(numbers)) < len(numbers):
        return []
    places = [[stack[n] for n in place] for place in same_height(heights_of(stack))]
    count = len(places[0])
    if len(places) < FEWEST_SLICES or any(len(place) != count for place in places):
        return []
    turns = [sorted(place, key=lambda s: s.instance_number or 0) for place in places]
    order = sorted((s.instance_number or 0, n, place) for place, turn in enumerate(turns) for n, s in enumerate(turn))
    if not _in_rounds([(n, place) for _, n, place in order], count):
        return []
    return [Part([turn[n] for turn in turns], f"{n + 1} of {count} by instance number") for n in range(count)]


def _in_rounds(order: Sequence[tuple[int, int]], count: int) -> bool:
    """Whether (turn, place) goes through some places as turn 0, as 1, ..., then through as many others, and so on.

    All turns of a round go one way or, as a table that shuttles does, the other.
    """
    runs = [(turn, [place for _, place in run]) for turn, run in groupby(order, key=lambda pair: pair[0])]
    rounds = [runs[start : start + count] for start in range(0, len(runs), count)]
    sizes = [len(each[0][1]) for each in rounds]
    return max(sizes) - min(sizes) <= 1 and all(
        [turn for turn, _ in each] == list(range(count))
        and all(places in (each[0][1], each[0][1][::-1]) for _, places in each)
        for each in rounds
    )
