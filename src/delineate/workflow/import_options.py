"""What an import is asked for, from the words of a command line."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from delineate import formats
from delineate.errors import InputError
from delineate.labels import label_set
from delineate.roi_names import How, RoiRow, RoiTable
from delineate.workflow.assembling import ChannelWish, parse_channel
from delineate.workflow.import_records import read_table

BACKGROUND = "background"  # what dataset.json calls the value 0


@dataclass(frozen=True, slots=True)
class LabelWish:
    """A label, and a regular expression for the names of regions that mean it ("" is the usual names)."""

    name: str
    pattern: str = ""


@dataclass(frozen=True, slots=True)
class ImportOptions:
    """`labels`: none takes every region by its own name. `table`: beside or instead of the labels' own patterns.

    `later_wins`: where structures overlap, the one of the higher value has the voxel; else the case fails.
    `deidentify`: records hold UIDs as the key maps them.
    """

    channels: tuple[ChannelWish, ...]
    labels: tuple[LabelWish, ...] = ()
    table: RoiTable | None = None
    repair: formats.Repair = formats.Repair.STRAIGHTEN
    later_wins: bool = False
    deidentify: bool = False
    again: bool = False


def parse_label(text: str) -> LabelWish:
    """A wish from "liver" or "tumour=PATTERN". Raises `InputError` for an empty name, or a reserved one."""
    name, _, pattern = text.partition("=")
    if not name.strip():
        raise InputError("a label without a name", expected="NAME or NAME=PATTERN", got=repr(text))
    if name.strip().lower() == BACKGROUND:
        raise InputError("the background is what has no label", expected="the name of a structure", got=repr(text))
    return LabelWish(name.strip(), pattern.strip())


def import_options(
    *,
    channels: Sequence[str] = (),
    labels: Sequence[str] = (),
    table: Path | None = None,
    overlap: str = "refuse",
    repair: str = "straighten",
    deidentify: bool = False,
    again: bool = False,
) -> ImportOptions:
    """Options from words and a names.csv. Raises `InputError` or `LabelError` for what cannot be understood."""
    wishes = tuple(parse_label(word) for word in labels)
    # Now, and not after an archive was searched.
    label_set({n: wish.name for n, wish in enumerate(wishes, start=1)})
    RoiTable(pattern_rows(wishes))
    return ImportOptions(
        channels=tuple(parse_channel(word) for word in channels or ("CT",)),
        labels=wishes,
        table=None if table is None else read_table(table),
        repair=formats.Repair(repair),
        later_wins=overlap == "later",
        deidentify=deidentify,
        again=again,
    )


def pattern_rows(wishes: Iterable[LabelWish]) -> tuple[RoiRow, ...]:
    """The labels' own patterns as rows of a table."""
    return tuple(RoiRow(wish.name, How.PATTERN, wish.pattern) for wish in wishes if wish.pattern)
