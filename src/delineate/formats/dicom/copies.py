"""Instances and images that are there more than once: identical ones are dropped, different ones are a clash."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from delineate.errors import InconsistentSeries, InputError, UnreadableImage
from delineate.formats.dicom.geometry import SAME_POSITION_MM, heights_of, same_height
from delineate.formats.dicom.measurements import REMARKS
from delineate.formats.dicom.pixels import content_digest, same_content
from delineate.formats.dicom.slices import Instance, Slice


@dataclass(frozen=True, slots=True)
class Clash:
    """Files of one instance UID that are not one image, the one that is kept first."""

    files: tuple[Path, ...]
    error: InputError


def without_copies(instances: Sequence[Instance]) -> tuple[list[Instance], dict[Path, list[str]], list[Clash]]:
    """The instances without copies, notes on identical ones by the file kept, and those that differ."""
    of_uid: dict[str, list[Instance]] = {}
    for instance in instances:
        of_uid.setdefault(instance.instance_uid or str(instance.path), []).append(instance)
    notes: dict[Path, list[str]] = {}
    clashes: list[Clash] = []
    for first, *copies in of_uid.values():
        error = _clash(first, copies)
        if error is None:
            notes[first.path] = [_dropped(copy.path, first.path) for copy in copies]
        else:
            clashes.append(Clash((first.path, *(copy.path for copy in copies)), error))
    return [group[0] for group in of_uid.values()], notes, clashes


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


def without_equal_images(stack: Sequence[Slice]) -> tuple[tuple[Slice, ...], tuple[str, ...]]:
    """Without images that are there again under another UID, at the same place and with the same pixels."""
    kept: list[Slice] = []
    notes: list[str] = []
    for place in same_height(heights_of(stack)):
        alike: dict[tuple[tuple[str, str], ...], list[Slice]] = {}
        for n in place:
            told = tuple(pair for pair in stack[n].hints if pair[0] not in REMARKS)
            alike.setdefault(told, []).append(stack[n])
        for slices in alike.values():
            different, said = _different_images(slices)
            kept += different
            notes += said
    return tuple(kept), tuple(notes)


def _different_images(slices: Sequence[Slice]) -> tuple[list[Slice], list[str]]:
    """The first of each image among slices of one height. Pixels are read only where there are several."""
    if len(slices) == 1:
        return list(slices), []
    kept: dict[tuple[object, ...], Slice] = {}
    notes: list[str] = []
    for slice_ in slices:
        try:
            content = content_digest(slice_)
        # Images that cannot be compared stay, and repeat a position.
        except UnreadableImage as error:
            content = str(slice_.path).encode()
            notes.append(f"{slice_.name} cannot be compared with others at its place: {error.problem}")
        scaling = slice_.slope, slice_.intercept, slice_.scale_slope, slice_.uptake, slice_.inverted
        key = content, scaling, tuple(round(p / SAME_POSITION_MM) for p in slice_.position_mm)
        twin = kept.setdefault(key, slice_)
        if twin is not slice_:
            notes.append(f"dropped {slice_.name}: the same image at the same place as {twin.name}")
    return list(kept.values()), notes
