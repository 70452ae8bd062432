"""The slices of one series apart, volume by volume: by what was measured first, then by what tells repeats apart."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import combinations, pairwise

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
from delineate.formats.dicom.slices import Slice, same_cosines


@dataclass(frozen=True, slots=True)
class Part:
    """Slices that may be one volume, what tells them from the others of their kind, and what was decided."""

    slices: Sequence[Slice]
    name: str = ""
    notes: tuple[str, ...] = ()


def separate(slices: Sequence[Slice]) -> list[Part]:
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


def _name(part: Part, groups: Sequence[Sequence[Slice]]) -> str:
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


def _apart(group: Sequence[Slice]) -> list[Part]:
    """The group itself, or the volumes in it that share positions or interleave."""
    stack = by_height(group)
    fault = judge(stack).fault
    if fault is Fault.REPEATED:
        stack, notes = without_equal_images(stack)
        if judge(stack).fault is Fault.REPEATED:
            parts = _told_apart(stack, _has_no_repeats) or _by_turn(stack)
            return [replace(part, notes=notes) for part in parts] or [Part(stack, notes=notes)]
        return [Part(stack, notes=notes)]
    if fault is Fault.UNEVEN:
        return _told_apart(stack, _interleaved_and_sound) or [Part(stack)]
    # Odd and even slices of one volume are often acquired one after the other, so these are one; but it is said.
    turns = _told_apart(stack, _interleaved_and_sound, most=1)
    told = " and ".join(part.name for part in turns[:4])
    return [Part(stack, notes=(f"read as one volume: its slices alternate between {told}",) if turns else ())]


def _told_apart(
    stack: Sequence[Slice], good: Callable[[Sequence[Sequence[Slice]]], bool], *, most: int = 2
) -> list[Part]:
    """The split by the fewest attributes (at most `most`) that leaves every part good; none if there is none."""
    known = list(dict.fromkeys(name for slice_ in stack for name, _ in slice_.hints))
    for count in range(1, most + 1):
        for chosen in combinations(known, count):
            parts: dict[tuple[tuple[str, str], ...], list[Slice]] = {}
            for slice_ in stack:
                parts.setdefault(tuple(pair for pair in slice_.hints if pair[0] in chosen), []).append(slice_)
            if 1 < len(parts) < len(stack) and good(list(parts.values())):
                return [Part(part, words(key)) for key, part in parts.items()]
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


def _by_turn(stack: Sequence[Slice]) -> list[Part]:
    """Where every position is there equally often and instances are numbered: the n-th of each position together."""
    numbers = [slice_.instance_number for slice_ in stack]
    if None in numbers or len(set(numbers)) < len(numbers):
        return []
    places = [[stack[n] for n in place] for place in same_height(heights_of(stack))]
    count = len(places[0])
    if len(places) < FEWEST_SLICES or any(len(place) != count for place in places):
        return []
    turns = [sorted(place, key=lambda s: s.instance_number or 0) for place in places]
    return [Part([turn[n] for turn in turns], f"{n + 1} of {count} by instance number") for n in range(count)]
