"""What the values of a segmentation mean."""

from __future__ import annotations

import colorsys
import re
import unicodedata
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

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


@dataclass(frozen=True, slots=True)
class LabelSet:
    """The structures of a segmentation, in order of value; 0 is always background and not listed.

    `overlaps`: a voxel may belong to several structures, so that masks are stored one a label.
    Raises `LabelError` for values below 1, or values or names that occur twice.
    """

    labels: tuple[Label, ...]
    overlaps: bool = False

    def __post_init__(self) -> None:
        object.__setattr__(self, "labels", tuple(sorted(self.labels, key=lambda label: label.value)))
        if any(value < 1 for value in self.values):
            raise LabelError("label values start at 1 (0 is background)", got=list(self.values))
        for what, items in (("values", self.values), ("names", self.names)):
            if len(set(items)) != len(items):
                raise LabelError(f"label {what} occur twice", got=list(items))

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


def is_one_line(name: str) -> bool:
    """Whether files can hold a name: some characters, none of control or beyond Unicode, and no blank at an end."""
    odd = any(unicodedata.category(letter) in ("Cc", "Cs", "Zl", "Zp") for letter in name)
    return bool(name) and name == name.strip() and not odd


def _default_colour(n: int) -> Colour:
    # Steps of the golden angle keep any number of hues apart; red comes first, as readers expect.
    red, green, blue = colorsys.hsv_to_rgb((n * 0.381966) % 1.0, 0.75 - 0.15 * (n % 2), 0.95)
    return round(red * 255), round(green * 255), round(blue * 255)
