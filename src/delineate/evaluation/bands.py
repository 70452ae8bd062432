"""Numbers into bands (ages, slice thicknesses, volumes), so that cases can be grouped by them."""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Iterable, Mapping, Sequence

import numpy as np

NOT_RECORDED = "not recorded"
"""The group of the cases of which nothing is known."""
AGE_EDGES = (18.0, 40.0, 60.0, 80.0)

_MOST_VALUES = 6  # so many different numbers are groups as they are: 1.5 and 3 T, 1 to 5 mm
_DICOM_AGE = re.compile(r"(\d{1,3})([DWMY])")
_YEARS = {"D": 1 / 365.25, "W": 7 / 365.25, "M": 1 / 12, "Y": 1.0}


def banded(name: str, cells: Mapping[str, str], edges: Sequence[float] | None = None) -> dict[str, str]:
    """A column's cells by case, numbers replaced by the bands that they lie in; empty cells are left out.

    Without `edges`: ages ("age" in the column's name) by `AGE_EDGES`, other columns by their terciles if all cells are
    numbers, and of more than six kinds. Words stay what they are.
    """
    told = {case: cell.strip() for case, cell in cells.items() if cell.strip()}
    numbers = {case: number for case, cell in told.items() if not math.isnan(number := _number(cell))}
    if edges is None and _is_age(name):
        edges = AGE_EDGES
    if edges is None:
        many = len(set(numbers.values())) > _MOST_VALUES
        edges = terciles(numbers.values()) if many and len(numbers) == len(told) else None
    if edges is None:
        # 4.0 and 4.000000 are one thickness.
        return {case: f"{numbers[case]:g}" if "." in cell and case in numbers else cell for case, cell in told.items()}
    bands = {case: band(number, edges, whole=_is_age(name)) for case, number in numbers.items()}
    return {case: bands.get(case, cell) for case, cell in told.items()}


def band(number: float, edges: Sequence[float], *, unit: str = "", whole: bool = False) -> str:
    """The band's name, e.g. "40 to 60": its lower edge is in it, its upper is not. `whole`: "40–59", of whole numbers.

    Raises `ValueError` for edges that do not rise.
    """
    if not edges or any(a >= b for a, b in itertools.pairwise(edges)):
        raise ValueError(f"edges of bands must rise, got {list(edges)}")
    place = int(np.searchsorted(edges, number, side="right"))
    unit = f" {unit}" if unit else ""
    if place == len(edges):
        return f"{edges[-1]:.4g}{unit} and over"
    if place == 0:
        return f"below {edges[0]:.4g}{unit}"
    low, high = edges[place - 1], edges[place]
    return f"{low:.4g}–{high - 1:.4g}{unit}" if whole else f"{low:.4g} to {high:.4g}{unit}"


def terciles(numbers: Iterable[float]) -> tuple[float, ...] | None:
    """The edges between thirds, rounded to three digits; None where the numbers are all the same."""
    known = np.asarray([number for number in numbers if not math.isnan(number)])
    if not known.size:
        return None
    edges = sorted({float(f"{edge:.3g}") for edge in np.quantile(known, (1 / 3, 2 / 3))})
    kept = tuple(edge for edge in edges if known.min() < edge <= known.max())
    return kept or None


def in_order(groups: Iterable[str]) -> tuple[str, ...]:
    """Each group once: by the numbers in their names, then as words; what is not recorded last."""
    return tuple(sorted(set(groups), key=_place))


def _place(group: str) -> tuple[bool, float, bool, str]:
    found = re.search(r"\d+(?:\.\d+)?", group)
    number = float(found[0]) if found else math.inf
    return group == NOT_RECORDED, number, not group.startswith("below"), group


def _is_age(name: str) -> bool:
    return re.search(r"(?<![a-z])age(?![a-z])", name.lower().replace("_", " ")) is not None or name == "PatientAge"


def _number(cell: str) -> float:
    """NaN for what is no number; DICOM's ages (063Y, 018M) in years."""
    if age := _DICOM_AGE.fullmatch(cell):
        return int(age[1]) * _YEARS[age[2]]
    try:
        number = float(cell)
    except ValueError:
        return math.nan
    return number if math.isfinite(number) else math.nan
