"""Which series of a patient belong together: the channels of a case, and the objects that hold its labels."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from delineate import formats
from delineate.errors import InputError
from delineate.formats.dicom.slices import Instance
from delineate.geometry import same_space
from delineate.volume import Kind, Volume, with_absent
from delineate.workflow.placing import onto_grid

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

    `missing` says what keeps it from being one. `siblings`: UIDs of images of other volumes of the channels' series.
    `absent`: channels (from 0) for which there is no series, where that may be.
    """

    stacks: tuple[formats.Stack, ...]
    labels: tuple[Instance, ...]
    missing: InputError | None = None
    siblings: frozenset[str] = frozenset()
    absent: tuple[int, ...] = ()

    @property
    def first(self) -> formats.Stack:
        return self.stacks[0]

    def is_own(self, made_on: Collection[str]) -> bool:
        """Whether labels that were made on these images are of this case, not of another phase of its series."""
        images = {one.instance_uid for stack in self.stacks for one in stack.slices}
        return not images.isdisjoint(made_on) or self.siblings.isdisjoint(made_on)


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
    stacks: Sequence[formats.Stack],
    objects: Sequence[Instance],
    wishes: Sequence[ChannelWish],
    *,
    may_lack: bool = False,
) -> Iterator[Assembly]:
    """The cases of one patient, one for each series that can be the first channel.

    Labels belong to the series they refer to; where that is not among these, to the series of their frame of reference.
    A case without labels of its first channel takes those of the next that has any. Further channels are looked for in
    the first one's frame of reference, in the same study before others; where a case `may_lack` one, it is
    absent if no series fits.
    """
    known = {stack.facts.series_uid for stack in stacks}
    labels = [thing for thing in objects if thing.facts.modality in LABEL_MODALITIES]
    for first in stacks:
        if wishes[0].fits(first) and first.action is not formats.Action.SKIP:
            present = [n for n, wish in enumerate(wishes) if n == 0 or not may_lack or _any_fits(wish, first, stacks)]
            chosen, missing = _channels(first, stacks, [wishes[n] for n in present])
            absent = tuple(n for n in range(len(wishes)) if n not in present)
            yield Assembly(chosen, _own_labels(labels, chosen, known), missing, _siblings(chosen, stacks), absent)


def _channels(
    first: formats.Stack, stacks: Sequence[formats.Stack], wishes: Sequence[ChannelWish]
) -> tuple[tuple[formats.Stack, ...], InputError | None]:
    if first.error is not None:
        return (first,), first.error
    try:
        return (first, *(_companion(wish, first, stacks) for wish in wishes[1:])), None
    except InputError as error:
        return (first,), error


def _siblings(chosen: Sequence[formats.Stack], stacks: Sequence[formats.Stack]) -> frozenset[str]:
    series = {stack.facts.series_uid for stack in chosen}
    others = [one for one in stacks if one.facts.series_uid in series and not any(one is stack for stack in chosen)]
    return frozenset(one.instance_uid for stack in others for one in stack.slices)


def _own_labels(labels: Sequence[Instance], channels: Sequence[formats.Stack], known: set[str]) -> tuple[Instance, ...]:
    """Those of the first channel that has any: the same structure is often drawn on several."""
    for n, stack in enumerate(channels):
        own = tuple(thing for thing in labels if _belongs(thing, stack, known, by_frame=n == 0))
        if own:
            return own
    return ()


def _belongs(thing: Instance, stack: formats.Stack, known: set[str], *, by_frame: bool) -> bool:
    resolved = known.intersection(thing.refers_to)
    if resolved:
        return stack.facts.series_uid in resolved
    frame = stack.slices[0].frame_of_reference_uid if stack.slices else ""
    return by_frame and bool(frame) and frame in thing.frames_of_reference


def _any_fits(wish: ChannelWish, first: formats.Stack, stacks: Sequence[formats.Stack]) -> bool:
    return any(wish.fits(stack) and stack is not first and stack.is_scan for stack in stacks)


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

    Channels on another grid are brought onto it: see `onto_grid`.
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
        arrays.append(onto_grid(other, first.grid).array)
        notes.append(f"{stack.facts.modality} interpolated onto the grid of the first channel")
    joined = first if len(arrays) == 1 else replace(first, array=np.concatenate(arrays))
    return with_absent(joined, assembly.absent), tuple(notes)
