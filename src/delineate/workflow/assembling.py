"""Which series of a patient belong together: the channels of a case, and the objects that hold its labels."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from delineate import formats
from delineate.errors import InputError
from delineate.formats.dicom.series import AIR_HU
from delineate.formats.dicom.slices import Instance
from delineate.geometry import same_space
from delineate.resampling import resample_anywhere
from delineate.volume import Kind, Volume

_MODALITIES = {Kind.CT: "CT", Kind.MR: "MR", Kind.PET: "PT"}
LABEL_MODALITIES = ("SEG", "RTSTRUCT")


@dataclass(frozen=True, slots=True)
class ChannelWish:
    """A channel, and which series it is: of this modality, its description matching `pattern`; "" is any."""

    name: str
    modality: str
    pattern: str = ""

    def fits(self, stack: formats.Stack) -> bool:
        words = f"{stack.facts.description} {stack.name}"
        return self.modality in ("", stack.facts.modality) and re.search(self.pattern, words, re.IGNORECASE) is not None

    def __str__(self) -> str:
        return f"{self.modality or 'any modality'}{f' matching {self.pattern!r}' if self.pattern else ''}"


@dataclass(frozen=True, slots=True, eq=False)
class Assembly:
    """A case to be: its channels' series, the first of which gives the grid, and the objects with its labels.

    `missing` says what keeps it from being one.
    """

    stacks: tuple[formats.Stack, ...]
    labels: tuple[Instance, ...]
    missing: InputError | None = None

    @property
    def first(self) -> formats.Stack:
        return self.stacks[0]


def parse_channel(text: str) -> ChannelWish:
    """A wish from "CT", "T1=MR" or "T1=MR:pattern", the pattern a regular expression for the series' description.

    Raises `InputError` for anything else.
    """
    name, _, rest = text.rpartition("=") if "=" in text.split(":")[0] else ("", "", text)
    modality, _, pattern = rest.partition(":")
    modality = {"PET": "PT"}.get(modality.strip().upper(), modality.strip().upper())
    try:
        re.compile(pattern)
    except re.error as error:
        raise InputError("a channel's pattern is broken", got=f"{pattern!r}: {error}") from error
    if modality not in ("CT", "MR", "PT"):
        raise InputError("not a channel", expected="CT, PT, MR, NAME=MR or NAME=MR:pattern", got=text)
    return ChannelWish(name.strip() or ("PET" if modality == "PT" else modality), modality, pattern)


def wishes_for(channels: Sequence[str], kinds: Sequence[Kind]) -> tuple[ChannelWish, ...]:
    """What a model asks for: the modality of each channel, told apart by the channels' names where one occurs twice."""
    modalities = [_MODALITIES.get(kind, "") for kind in kinds]
    return tuple(
        ChannelWish(name, modality, re.escape(name) if modalities.count(modality) > 1 else "")
        for name, modality in zip(channels, modalities, strict=True)
    )


def assemble(
    stacks: Sequence[formats.Stack], objects: Sequence[Instance], wishes: Sequence[ChannelWish]
) -> Iterator[Assembly]:
    """The cases of one patient, one for each series that can be the first channel.

    Labels belong to the series they refer to; where that is not among these, to the series of their frame of reference.
    Further channels are looked for in the first one's frame of reference, in the same study before others.
    """
    known = {stack.facts.series_uid for stack in stacks}
    labels = [thing for thing in objects if thing.facts.modality in LABEL_MODALITIES]
    for first in stacks:
        if wishes[0].fits(first) and first.action is not formats.Action.SKIP:
            own = tuple(thing for thing in labels if _belongs(thing, first, known))
            if first.error is not None:
                yield Assembly((first,), own, first.error)
                continue
            try:
                others = tuple(_companion(wish, first, stacks) for wish in wishes[1:])
            except InputError as error:
                yield Assembly((first,), own, error)
                continue
            yield Assembly((first, *others), own)


def _belongs(thing: Instance, stack: formats.Stack, known: set[str]) -> bool:
    resolved = known.intersection(thing.refers_to)
    if resolved:
        return stack.facts.series_uid in resolved
    frame = stack.slices[0].frame_of_reference_uid
    return bool(frame) and frame in thing.frames_of_reference


def _companion(wish: ChannelWish, first: formats.Stack, stacks: Sequence[formats.Stack]) -> formats.Stack:
    frame = first.slices[0].frame_of_reference_uid
    fitting = [stack for stack in stacks if wish.fits(stack) and stack is not first and stack.is_scan]
    placed = [stack for stack in fitting if frame and stack.slices[0].frame_of_reference_uid == frame]
    in_study = [stack for stack in placed if stack.facts.study_uid == first.facts.study_uid] or placed
    if len(in_study) == 1:
        return in_study[0]
    if not in_study:
        raise InputError(
            f"no series for channel {wish.name}",
            expected=f"{wish} in the frame of reference of the {first.facts.modality} series",
            got=f"{len(fitting)} in other frames of reference" if fitting else "none",
            remedy="Register the series first, or leave the channel out.",
        )
    raise InputError(
        f"several series for channel {wish.name}",
        expected=f"one {wish}",
        got="; ".join(stack.facts.description or stack.facts.series_uid for stack in in_study),
        remedy=f"Say which by a pattern: {wish.name}={wish.modality}:PATTERN.",
    )


def read_assembly(assembly: Assembly) -> tuple[Volume, tuple[str, ...]]:
    """The channels, (C, I, J, K), on the first one's grid, and what was done for that, in words.

    Channels on another grid are interpolated linearly; where one does not reach, CT gets -1024 HU, others 0.
    """
    if assembly.missing is not None:
        raise assembly.missing
    first = formats.read_series(assembly.first)
    notes = list(assembly.first.notes)
    arrays = [first.array]
    for stack in assembly.stacks[1:]:
        other = formats.read_series(stack)
        notes += stack.notes
        if same_space(first.grid, other.grid):
            arrays.append(other.array)
            continue
        fill = float(AIR_HU) if other.kind is Kind.CT else min(0.0, float(other.array.min()))
        arrays.append(resample_anywhere(other.array[0], other.grid, first.grid, fill=fill)[np.newaxis])
        notes.append(f"{stack.facts.modality} interpolated onto the grid of the first channel")
    if len(arrays) == 1:
        return first, tuple(notes)
    return Volume(np.concatenate(arrays), first.grid, first.kind, first.source), tuple(notes)
