"""Which values of a scan are black and which are white: presets by what it measures, and those that its files name."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from delineate.formats.deidentification.objects import read_names
from delineate.geometry import FloatArray
from delineate.volume import Kind

if TYPE_CHECKING:
    from pydicom import Dataset

_KEYWORDS = (
    "PerFrameFunctionalGroupsSequence",
    "SharedFunctionalGroupsSequence",
    "SpecificCharacterSet",
    "VOILUTFunction",
    "WindowCenter",
    "WindowCenterWidthExplanation",
    "WindowWidth",
)
_LONGEST_NAME = 32
_MOST = 4  # windows that a file names


@dataclass(frozen=True, slots=True)
class Window:
    """Values at `lower` and below are black, at `upper` and above white."""

    name: str
    lower: float
    upper: float


def _around(name: str, centre: float, width: float) -> Window:
    return Window(name, centre - width / 2, centre + width / 2)


CT_WINDOWS = (
    _around("Soft tissue", 40, 400),
    _around("Lung", -600, 1500),
    _around("Bone", 400, 1800),
    _around("Brain", 40, 80),
)
PET_WINDOWS = (Window("SUV 0 to 7", 0, 7), Window("SUV 0 to 15", 0, 15))
_PERCENTILES = (("Automatic", 0.5, 99.5), ("More contrast", 5, 95), ("All values", 0, 100))


def windows_for(kind: Kind, values: FloatArray, named: Sequence[Window] = ()) -> tuple[Window, ...]:
    """The windows to choose from, the one to begin with first; all wider than nothing, no two of one name.

    `values`: some of the scan, evenly spread, which CT does without; `named`: by its files.
    """
    if kind is Kind.CT:
        found = [*CT_WINDOWS, *named]
    elif kind is Kind.PET:
        found = [*PET_WINDOWS, *_by_percentiles(values), *named]
    else:
        found = [*_by_percentiles(values), *named]
    return tuple({window.name: window for window in reversed(found)}.values())[::-1]


def _by_percentiles(values: FloatArray) -> Iterator[Window]:
    finite = values[np.isfinite(values)]
    for name, low, high in _PERCENTILES:
        lower, upper = (float(v) for v in np.percentile(finite, (low, high))) if finite.size else (0.0, 1.0)
        yield Window(name, lower, upper) if upper > lower else Window(name, lower - 0.5, lower + 0.5)


def named_windows(path: Path) -> tuple[Window, ...]:
    """The windows that a DICOM image names, of its first frame (PS3.3 C.11.2.1.2, C.7.6.16.2.10), if they are usable.

    Raises `UnreadableImage` for what is no DICOM file.
    """
    header = read_names(path, _KEYWORDS)
    groups = [header, *(_voi(header, keyword) for keyword in _KEYWORDS[:2])]
    return next((found for found in map(_windows_in, filter(None, groups)) if found), ())


def _voi(header: Dataset, keyword: str) -> Dataset | None:
    """The macro with a window in functional groups."""
    groups = header.get(keyword)
    windows = groups[0].get("FrameVOILUTSequence") if groups else None
    return windows[0] if windows else None


def _windows_in(header: Dataset) -> tuple[Window, ...]:
    centres, widths = _numbers(header, "WindowCenter"), _numbers(header, "WindowWidth")
    names = _texts(header, "WindowCenterWidthExplanation")
    exact = str(header.get("VOILUTFunction") or "LINEAR").strip() == "LINEAR_EXACT"
    found = []
    for n, (centre, width) in enumerate(zip(centres, widths, strict=False)):
        # LINEAR is black up to c - 0.5 - (w - 1) / 2 and white from c - 0.5 + (w - 1) / 2.
        middle, half = (centre, width / 2) if exact else (centre - 0.5, (width - 1) / 2)
        if math.isfinite(middle) and math.isfinite(half) and half > 0:
            said = names[n] if n < len(names) else ""
            name = f"Scan: {said}" if said else f"Scan {n + 1}" if len(centres) > 1 else "Scan"
            found.append(Window(name[:_LONGEST_NAME], middle - half, middle + half))
    return tuple(found[:_MOST])


def _numbers(header: Dataset, keyword: str) -> list[float]:
    found = []
    for text in _texts(header, keyword):
        try:
            found.append(float(text))
        except ValueError:
            found.append(math.nan)
    return found


def _texts(header: Dataset, keyword: str) -> list[str]:
    value = header.get(keyword)
    if value is None or value == "":
        return []
    many = [value] if isinstance(value, str | int | float) else list(value) if hasattr(value, "__iter__") else [value]
    return [" ".join(str(one).split()) for one in many]
