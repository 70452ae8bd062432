"""What the values of a segmentation mean."""

from __future__ import annotations

import colorsys
import re
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import msgspec

from delineate.errors import LabelError

Colour = tuple[int, int, int]

# A single letter must not touch a digit either: the L of "L1_left" is a vertebra.
_SIDE = re.compile(r"(?<![a-z])(?:left|right)(?![a-z])|(?<![a-z0-9])[lr](?![a-z0-9])")
_HUMP = re.compile(r"(?<=[a-z])(?=[A-Z])")  # between the words of "LeftKidney"


@dataclass(frozen=True, slots=True)
class Code:
    """A coded concept (DICOM PS3.16), e.g. Code("78961009", "SCT", "Spleen")."""

    value: str
    scheme: str
    meaning: str


@dataclass(frozen=True, slots=True)
class Label:
    """One structure. `value` is its voxels' value in a label map, from 1; `colour` is RGB, 0..255."""

    value: int
    name: str
    colour: Colour
    code: Code | None = None


class Region(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A structure that may hold others (nnU-Net's regions): one sigmoid output of a network.

    In a label map it is painted with `paints`, in the order of the regions; afterwards it consists of the voxels with
    one of `values`.
    """

    name: str
    values: tuple[int, ...]
    paints: int


@dataclass(frozen=True, slots=True)
class LabelSet:
    """The structures of a segmentation, in order of value; 0 is always background and not listed.

    `overlaps`: a voxel may belong to several structures, so that masks are stored one a label.
    `regions`: where label maps on disk hold overlapping structures, the values of which each consists; in the order
    in which they are painted. `ignore`: the value of voxels that a reference says nothing about.
    Raises `LabelError` for values below 1, or values or names that occur twice, and for a structure without region.
    """

    labels: tuple[Label, ...]
    overlaps: bool = False
    regions: tuple[Region, ...] = ()
    ignore: int | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "labels", tuple(sorted(self.labels, key=lambda label: label.value)))
        if any(value < 1 for value in self.values):
            raise LabelError("label values start at 1 (0 is background)", got=list(self.values))
        for what, items in (("values", self.values), ("names", self.names)):
            if len(set(items)) != len(items):
                raise LabelError(f"label {what} occur twice", got=list(items))
        bare = set(self.names) - {region.name for region in self.regions}
        if self.regions and (bare or not self.overlaps):
            raise LabelError("structures without a region", got=sorted(bare) or "labels that do not overlap")
        if self.ignore is not None and self.ignore in (0, *self.structure_values):
            raise LabelError("the value to ignore is a structure's", got=self.ignore)

    def __len__(self) -> int:
        return len(self.labels)

    def __iter__(self) -> Iterator[Label]:
        return iter(self.labels)

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(label.name for label in self.labels)

    @property
    def values(self) -> tuple[int, ...]:
        return tuple(label.value for label in self.labels)

    @property
    def structure_values(self) -> tuple[int, ...]:
        """What structures' voxels have in a label map on disk: the values, or of regions those they consist of."""
        return tuple(sorted({v for region in self.regions for v in region.values})) if self.regions else self.values

    @property
    def stored_values(self) -> tuple[int, ...]:
        """`structure_values`, and the value that is ignored, if there is one."""
        return self.structure_values if self.ignore is None else (*self.structure_values, self.ignore)

    @property
    def pairs(self) -> tuple[tuple[str, str], ...]:
        """(left, right) names that differ only in their side, e.g. ("left_kidney", "right_kidney")."""
        lefts, rights = ({}, {})  # type: tuple[dict[str, str], dict[str, str]]
        for name in self.names:
            words = _HUMP.sub(" ", name).lower()
            match = _SIDE.search(words)
            if match:
                body = words[: match.start()] + "*" + words[match.end() :]
                (lefts if match.group().startswith("l") else rights)[body] = name
        return tuple((lefts[body], rights[body]) for body in lefts if body in rights)

    def named(self, name: str) -> Label:
        """The label of that name. Raises `LabelError` if there is none."""
        for label in self.labels:
            if label.name == name:
                return label
        raise LabelError("no such label", expected=f"one of {list(self.names)}", got=name)


def label_set(names: Mapping[int, str], *, overlaps: bool = False) -> LabelSet:
    """A LabelSet from value -> name, with well-spaced default colours."""
    labels = tuple(
        Label(int(value), str(name), _default_colour(n)) for n, (value, name) in enumerate(sorted(names.items()))
    )
    return LabelSet(labels, overlaps=overlaps)


def make_regions(named: Mapping[str, Sequence[int]], paints: Sequence[int] | None = None) -> tuple[Region, ...]:
    """Regions from name -> values, in the order in which they are painted, each with its number of `paints`.

    Without `paints` the largest regions come first, so that those inside are painted over them, and each is painted
    with the value that the fewest others share. Raises `LabelError` for no regions, values below 1, two regions of the
    same values, and paints that a region does not consist of, or that are not one a region.
    """
    values = {name: tuple(sorted(set(some))) for name, some in named.items()}
    for name, some in values.items():
        if not some or min(some) < 1:
            raise LabelError(f"region {name!r} needs values, from 1", got=list(some))
    if not values or len(set(values.values())) < len(values):
        raise LabelError("regions must differ in their values", got={name: list(v) for name, v in values.items()})
    if paints is not None and len(paints) != len(values):
        raise LabelError("one value is painted a region", expected=f"{len(values)} values", got=list(paints))
    if paints is None:
        values = dict(sorted(values.items(), key=lambda item: -len(item[1])))
        shared = {v: sum(v in some for some in values.values()) for some in values.values() for v in some}
        paints = [min(some, key=lambda value: (shared[value], value)) for some in values.values()]
    regions = [Region(name=name, values=some, paints=p) for (name, some), p in zip(values.items(), paints, strict=True)]
    for region in regions:
        if region.paints not in region.values:
            raise LabelError(
                f"region {region.name!r} is painted with a value that it does not consist of",
                expected=f"one of {list(region.values)}",
                got=region.paints,
            )
    return tuple(regions)


def region_labels(regions: Sequence[Region], *, ignore: int | None = None) -> LabelSet:
    """The structures that regions are. Each has the value that it paints; 1, 2, ... where two paint the same."""
    paints = [region.paints for region in regions]
    values = paints if len(set(paints)) == len(paints) else range(1, len(paints) + 1)
    names = {value: region.name for value, region in zip(values, regions, strict=True)}
    return replace(label_set(names, overlaps=True), regions=tuple(regions), ignore=ignore)


def is_one_line(name: str) -> bool:
    """Whether files can hold a name: some characters, none of control or beyond Unicode, and no blank at an end."""
    odd = any(unicodedata.category(letter) in ("Cc", "Cs", "Zl", "Zp") for letter in name)
    return bool(name) and name == name.strip() and not odd


def _default_colour(n: int) -> Colour:
    # Steps of the golden angle keep any number of hues apart; red comes first, as readers expect.
    red, green, blue = colorsys.hsv_to_rgb((n * 0.381966) % 1.0, 0.75 - 0.15 * (n % 2), 0.95)
    return round(red * 255), round(green * 255), round(blue * 255)
