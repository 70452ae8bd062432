"""Whether parallel slices make one evenly spaced volume, and if not, why: tilt, a gap, uneven steps, or repeats."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import Enum

import numpy as np

from delineate.errors import InconsistentSeries
from delineate.formats.dicom.slices import Slice, same_cosines
from delineate.geometry import FloatArray, Grid, compose_affine

FEWEST_SLICES = 3
"""Two slices have one gap, which nothing can confirm: whether some between them are missing cannot be told."""

POSITION_TOLERANCE_MM = 0.1
"""How far a slice may lie from its even place. Scanners round positions to 0.1 mm at the coarsest, and 0.1 mm is
far below a pixel; a tenth of the spacing replaces it where slices are thinner than 1 mm."""

TILT_TOLERANCE_DEGREES = 0.1
"""Largest angle between the step from slice to slice and their normal; 0.3 mm over a stack of 200 mm."""

SAME_POSITION_MM = 0.01
SPACING_TOLERANCE_MM = 1e-3


class Fault(Enum):
    """What keeps slices from being a plain volume."""

    NOTHING = "nothing"
    TILT = "gantry tilt"
    UNEVEN = "uneven spacing"
    REPEATED = "repeated positions"
    OTHER = "other"


@dataclass(frozen=True, slots=True)
class Verdict:
    """`fault`, and the error that says it with files and positions (None for no fault).

    `missing`: how many slices of an even stack are not there, where that is what is wrong.
    """

    fault: Fault
    error: InconsistentSeries | None = None
    missing: int = 0


def judge(stack: Sequence[Slice]) -> Verdict:
    """The first thing that is wrong with slices in order of height, of one orientation, size and pixel spacing."""
    if len(stack) < FEWEST_SLICES:
        return Verdict(Fault.OTHER, _too_few(stack))
    heights = heights_of(stack)
    repeats = _repeats(stack, heights)
    if repeats is not None:
        return Verdict(Fault.REPEATED, repeats)
    uneven = _uneven(stack, heights)
    if uneven is not None:
        return uneven
    tilt = _tilt(stack)
    return Verdict(Fault.NOTHING) if tilt is None else Verdict(Fault.TILT, tilt)


def by_height(slices: Sequence[Slice]) -> tuple[Slice, ...]:
    """In order along the first one's normal, row x column; equal heights by instance number."""
    heights = heights_of(slices)
    order = sorted(range(len(slices)), key=lambda n: (heights[n], slices[n].instance_number or 0, slices[n].name))
    return tuple(slices[n] for n in order)


def positions_of(slices: Sequence[Slice]) -> FloatArray:
    """(slices, 3) LPS mm: the centre of each one's first pixel."""
    return np.array([s.position_mm for s in slices], dtype=np.float64)


def heights_of(slices: Sequence[Slice]) -> FloatArray:
    """Where each slice lies along the first one's normal, in mm."""
    heights: FloatArray = positions_of(slices) @ slices[0].normal
    return heights


def plain_grid(stack: Sequence[Slice]) -> Grid:
    """Grid of ordered slices: I along rows (columns of pixels), J down columns, K from slice to slice.

    For a tilted stack it is sheared: the grid as it was acquired.
    """
    first, last = stack[0], stack[-1]
    between_rows, between_columns = first.spacing_mm
    step = np.subtract(last.position_mm, first.position_mm) / max(1, len(stack) - 1)
    row, column = np.multiply(first.row_direction, between_columns), np.multiply(first.column_direction, between_rows)
    shape = (first.columns, first.rows, len(stack))
    uid = first.frame_of_reference_uid or None
    return Grid(shape, compose_affine(np.column_stack([row, column, step]), first.position_mm), uid)


def mixed(slices: Sequence[Slice]) -> InconsistentSeries | None:
    """The error for slices that cannot be one volume because they differ in more than position; None if they agree."""
    first = slices[0]
    checks: tuple[tuple[str, Callable[[Slice], object], Callable[[Slice], bool]], ...] = (
        ("series", lambda s: s.series_uid, lambda s: s.series_uid == first.series_uid),
        (
            "frames of reference",
            lambda s: s.frame_of_reference_uid or None,
            lambda s: s.frame_of_reference_uid == first.frame_of_reference_uid,
        ),
        ("orientations", lambda s: np.round(s.cosines, 4).tolist(), lambda s: same_cosines(s.cosines, first.cosines)),
        ("sizes", lambda s: f"{s.rows} rows x {s.columns} columns", lambda s: same_size(s, first)),
        ("pixel spacings", lambda s: s.spacing_mm, lambda s: same_spacing(s, first)),
        ("contrasts", lambda s: words(s.contrast), lambda s: s.contrast == first.contrast),
    )
    for what, describe, agrees in checks:
        odd = [s for s in slices if not agrees(s)]
        if odd:
            return InconsistentSeries(
                f"slices of mixed {what}",
                expected=f"{describe(first)} as in {first.name}",
                got=f"{describe(odd[0])} in {names(odd)}",
                path=first.path.parent,
                remedy="Read each group of slices by itself.",
            )
    return None


def same_size(first: Slice, second: Slice) -> bool:
    return (first.rows, first.columns) == (second.rows, second.columns)


def same_spacing(first: Slice, second: Slice) -> bool:
    apart = max(abs(a - b) for a, b in zip(first.spacing_mm, second.spacing_mm, strict=True))
    # Across the whole image the difference may not move a pixel by more than a slice may be off.
    return apart <= min(SPACING_TOLERANCE_MM, POSITION_TOLERANCE_MM / max(first.rows, first.columns))


def _too_few(stack: Sequence[Slice]) -> InconsistentSeries:
    return InconsistentSeries(
        "too few slices for a volume" if len(stack) > 1 else "a single slice is no volume",
        expected=f"at least {FEWEST_SLICES}",
        got=len(stack),
        path=stack[0].path if stack else None,
        remedy="Give the folder of the whole series.",
    )


def _repeats(stack: Sequence[Slice], heights: FloatArray) -> InconsistentSeries | None:
    groups = same_height(heights)
    repeated = [group for group in groups if len(group) > 1]
    if not repeated:
        return None
    first = repeated[0]
    return InconsistentSeries(
        "slices at the same position",
        expected="each once",
        got=f"{len(repeated)} repeated, e.g. {heights[first[0]]:.2f} mm in {names([stack[n] for n in first])}",
        path=stack[0].path.parent,
        remedy="Keep one of each; nothing in the headers tells them apart.",
    )


def same_height(heights: FloatArray) -> list[list[int]]:
    """Indices of rising heights, grouped where they are equal."""
    groups: list[list[int]] = []
    for n, height in enumerate(heights.tolist()):
        if groups and height - heights[groups[-1][0]] <= SAME_POSITION_MM:
            groups[-1].append(n)
        else:
            groups.append([n])
    return groups


def _tilt(stack: Sequence[Slice]) -> InconsistentSeries | None:
    angle = tilt_degrees(stack)
    if angle == 0.0:
        return None
    return InconsistentSeries(
        "gantry tilt: the slices are not stacked along their normal",
        expected=f"at most {TILT_TOLERANCE_DEGREES} degrees",
        got=f"{angle:.2f} degrees from {_at(stack[0])} to {_at(stack[-1])}",
        path=stack[0].path.parent,
        remedy="Resample the series onto straight slices, or export it without tilt.",
    )


def tilt_degrees(stack: Sequence[Slice]) -> float:
    """The angle between the way from first to last slice and their normal; 0 within the tolerances."""
    normal = stack[0].normal
    way = np.subtract(stack[-1].position_mm, stack[0].position_mm)
    sideways_mm = float(np.linalg.norm(way - (way @ normal) * normal))
    angle = float(np.degrees(np.arctan2(sideways_mm, way @ normal)))
    # Over few slices rounded positions alone can make a large angle, so the drift must be real as well.
    return angle if angle > TILT_TOLERANCE_DEGREES and sideways_mm > POSITION_TOLERANCE_MM else 0.0


def _uneven(stack: Sequence[Slice], heights: FloatArray) -> Verdict | None:
    gaps = np.diff(heights)
    usual = float(np.median(gaps))
    tolerance = min(POSITION_TOLERANCE_MM, 0.1 * usual)
    positions = positions_of(stack)
    line = np.linspace(0.0, 1.0, len(stack))[:, np.newaxis]
    distances = np.linalg.norm(positions - (positions[0] + line * (positions[-1] - positions[0])), axis=1)
    if distances.max() <= tolerance:
        return None
    ratios = gaps / usual
    widest = int(np.argmax(np.abs(ratios - 1)))
    where = f"{gaps[widest]:.3f} mm between {_at(stack[widest])} and {_at(stack[widest + 1])}"
    angle = tilt_degrees(stack)
    where += f"; tilted by {angle:.2f} degrees as well" if angle else ""
    remedy = "Fetch the whole series again, or let the missing places be interpolated (--repair interpolate)."
    missing = np.round(ratios).astype(int) - 1
    whole_gaps = bool((np.abs(gaps - (missing + 1) * usual) <= 2 * tolerance).all() and (missing >= 0).all())
    if whole_gaps and missing.sum() > 0:
        error = InconsistentSeries(
            f"{missing.sum()} slice(s) missing",
            expected=f"a slice every {usual:.3f} mm",
            got=where,
            path=stack[0].path.parent,
            remedy=remedy,
        )
        return Verdict(Fault.UNEVEN, error, int(missing.sum()))
    error = InconsistentSeries(
        "unevenly spaced slices",
        expected=f"steps of {usual:.3f} mm, each slice within {tolerance:.3g} mm of its even place",
        got=f"{distances.max():.3f} mm at {_at(stack[int(distances.argmax())])}; {where}",
        path=stack[0].path.parent,
        remedy=remedy,
    )
    return Verdict(Fault.UNEVEN, error)


def names(slices: Sequence[Slice]) -> str:
    """The files of a few slices, for people."""
    shown = ", ".join(s.name for s in slices[:4])
    return shown if len(slices) <= 4 else f"{shown} and {len(slices) - 4} more"


def words(pairs: Sequence[tuple[str, str]]) -> str:
    """ "echo 2, b 1000" of (name, value) pairs."""
    return ", ".join(f"{name} {value}" for name, value in pairs)


def _at(slice_: Slice) -> str:
    x, y, z = slice_.position_mm
    return f"{slice_.name} ({x:.2f}, {y:.2f}, {z:.2f})"
