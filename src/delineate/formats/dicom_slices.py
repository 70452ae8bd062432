"""The slices of a DICOM series as plain values, and the checks that they make one evenly spaced volume.

A slice is a single-frame instance or one frame of an enhanced multi-frame one (DICOM PS3.3 C.7.6.2, C.7.6.16).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from delineate.errors import InconsistentSeries
from delineate.geometry import FloatArray, Grid, compose_affine
from delineate.volume import Kind

if TYPE_CHECKING:
    from pydicom import Dataset

FEWEST_SLICES = 3
"""Two slices have one gap, which nothing can confirm: whether some between them are missing cannot be told."""

POSITION_TOLERANCE_MM = 0.1
"""How far a slice may lie from its even place. Scanners round positions to 0.1 mm at the coarsest, and 0.1 mm is
far below a pixel; a tenth of the spacing replaces it where slices are thinner than 1 mm."""

TILT_TOLERANCE_DEGREES = 0.1
"""Largest angle between the step from slice to slice and their normal; 0.3 mm over a stack of 200 mm."""

COSINE_TOLERANCE = 5e-4
"""Direction cosines that differ by less are one orientation: 0.1 mm at 250 mm from the corner."""

SPACING_TOLERANCE_MM = 1e-3


@dataclass(frozen=True, slots=True, eq=False)
class Slice:
    """Where one image of `rows` x `columns` lies, and how its numbers are scaled.

    `row_direction` is the way along a row (the column index grows), `column_direction` down a column, both unit
    vectors in LPS; `position_mm` is the centre of the first pixel; `spacing_mm` is (between rows, between columns).
    """

    path: Path
    frame: int
    instance_uid: str
    series_uid: str
    study_uid: str | None
    frame_of_reference_uid: str | None
    kind: Kind
    rows: int
    columns: int
    position_mm: FloatArray
    row_direction: FloatArray
    column_direction: FloatArray
    spacing_mm: tuple[float, float]
    slope: float
    intercept: float

    @property
    def normal(self) -> FloatArray:
        normal: FloatArray = np.cross(self.row_direction, self.column_direction)
        return normal / np.linalg.norm(normal)

    @property
    def cosines(self) -> tuple[float, ...]:
        return (*self.row_direction.tolist(), *self.column_direction.tolist())

    @property
    def name(self) -> str:
        return self.path.name if self.frame == 0 else f"{self.path.name} frame {self.frame + 1}"


def slices_of(dataset: Dataset, path: Path) -> list[Slice]:
    """The slices of one instance's header. Raises `InconsistentSeries` if it is no part of a plain volume."""
    _check_suitable(dataset, path)
    if "PerFrameFunctionalGroupsSequence" not in dataset:
        if int(dataset.get("NumberOfFrames") or 1) > 1:
            raise InconsistentSeries("a multi-frame image does not say where its frames are", path=path)
        return [_slice(dataset, path, 0, lambda keyword: dataset.get(keyword))]
    shared = list(dataset.get("SharedFunctionalGroupsSequence") or [])
    return [
        _slice(dataset, path, number, _functional_group_value(frame, *shared))
        for number, frame in enumerate(dataset.PerFrameFunctionalGroupsSequence)
    ]


def _functional_group_value(*groups: Dataset) -> Callable[[str], object]:
    """A look-up by keyword in a frame's own functional groups, then in the shared ones."""

    def value(keyword: str) -> object:
        for group in groups:
            for sequence in group:
                if sequence.VR == "SQ" and not sequence.tag.is_private and sequence.value:
                    found = sequence.value[0].get(keyword)
                    if found is not None:
                        return found
        return None

    return value


def _check_suitable(dataset: Dataset, path: Path) -> None:
    def refuse(problem: str, *, expected: object = None, got: object = None, remedy: str | None = None) -> None:
        raise InconsistentSeries(problem, expected=expected, got=got, path=path, remedy=remedy)

    samples = int(dataset.get("SamplesPerPixel") or 1)
    photometric = dataset.get("PhotometricInterpretation") or "MONOCHROME2"
    if not dataset.get("Rows") or not dataset.get("Columns"):
        refuse("the file holds no image", got=f"modality {dataset.get('Modality')}")
    if "LOCALIZER" in (dataset.get("ImageType") or ()):
        refuse("a localizer is no part of a volume", remedy="Leave the localizer out.")
    if samples != 1 or photometric != "MONOCHROME2":
        refuse("not a plain greyscale image", expected="MONOCHROME2", got=f"{photometric}, {samples} sample(s) a pixel")
    if "ModalityLUTSequence" in dataset:
        refuse("values scaled by a look-up table are not supported", expected="rescale slope and intercept")


def _slice(dataset: Dataset, path: Path, frame: int, value: Callable[[str], object]) -> Slice:
    def numbers(keyword: str, count: int) -> FloatArray:
        found = value(keyword)
        try:
            array = np.array(found, dtype=np.float64)
        except (TypeError, ValueError):
            array = np.empty(0)
        if found is None or array.shape != (count,) or not np.isfinite(array).all():
            raise InconsistentSeries(
                f"a slice without a usable {keyword}",
                expected=f"{count} numbers",
                got=found,
                path=path,
                remedy="Export the series again from the scanner or the archive.",
            )
        return array

    directions = numbers("ImageOrientationPatient", 6).reshape(2, 3)
    if np.abs(directions @ directions.T - np.eye(2)).max() > 2 * COSINE_TOLERANCE:
        raise InconsistentSeries(
            "ImageOrientationPatient is no pair of perpendicular unit vectors", got=directions.tolist(), path=path
        )
    row_mm, column_mm = numbers("PixelSpacing", 2).tolist()
    if min(row_mm, column_mm) <= 0:
        raise InconsistentSeries("PixelSpacing must be positive", got=(row_mm, column_mm), path=path)
    slope, intercept = value("RescaleSlope"), value("RescaleIntercept")
    return Slice(
        path=path,
        frame=frame,
        instance_uid=str(dataset.get("SOPInstanceUID")),
        series_uid=str(dataset.get("SeriesInstanceUID")),
        study_uid=_text(dataset, "StudyInstanceUID"),
        frame_of_reference_uid=_text(dataset, "FrameOfReferenceUID"),
        kind=_kind(dataset),
        rows=int(dataset.Rows),
        columns=int(dataset.Columns),
        position_mm=numbers("ImagePositionPatient", 3),
        row_direction=directions[0],
        column_direction=directions[1],
        spacing_mm=(row_mm, column_mm),
        slope=1.0 if slope is None else float(str(slope)),
        intercept=0.0 if intercept is None else float(str(intercept)),
    )


def _text(dataset: Dataset, keyword: str) -> str | None:
    return str(dataset.get(keyword)) if dataset.get(keyword) else None


def _kind(dataset: Dataset) -> Kind:
    modality = dataset.get("Modality")
    if modality == "PT":
        # Kind.PET means SUV; activity in Bq/ml must not pass for it.
        return Kind.PET if dataset.get("Units") == "GML" else Kind.OTHER
    return {"CT": Kind.CT, "MR": Kind.MR}.get(str(modality), Kind.OTHER)


def ordered(slices: Sequence[Slice]) -> list[Slice]:
    """The slices in order along their normal, row x column.

    Raises `InconsistentSeries`, saying which files are at fault, unless they are at least three parallel, equally
    large, equally spaced slices of one series, each there once, stacked straight along their normal.
    """
    _check_one_volume(slices)
    _check_duplicates(slices, [f"{s.instance_uid} frame {s.frame + 1}" for s in slices], "instances given twice")
    if len(slices) < FEWEST_SLICES:
        raise InconsistentSeries(
            "too few slices for a volume" if len(slices) > 1 else "a single slice is no volume",
            expected=f"at least {FEWEST_SLICES}",
            got=len(slices),
            path=slices[0].path if slices else None,
            remedy="Give the folder of the whole series.",
        )
    normal = slices[0].normal
    stack = sorted(slices, key=lambda s: float(s.position_mm @ normal))
    heights = np.array([s.position_mm @ normal for s in stack])
    _check_duplicates(stack, [f"{height:.2f} mm" for height in heights], "slices at the same position")
    _check_straight(stack, normal)
    _check_even(stack, heights)
    return stack


def stack_grid(stack: Sequence[Slice]) -> Grid:
    """Grid of ordered slices: I along rows (columns of pixels), J down columns, K from slice to slice."""
    first, last = stack[0], stack[-1]
    between_rows, between_columns = first.spacing_mm
    step = (last.position_mm - first.position_mm) / (len(stack) - 1)
    linear = np.column_stack([first.row_direction * between_columns, first.column_direction * between_rows, step])
    shape = (first.columns, first.rows, len(stack))
    return Grid(shape, compose_affine(linear, first.position_mm), first.frame_of_reference_uid)


def same_cosines(first: Sequence[float], second: Sequence[float]) -> bool:
    """Whether two lists of six direction cosines are one orientation, up to rounding."""
    return float(np.abs(np.subtract(first, second)).max()) <= COSINE_TOLERANCE


def _check_one_volume(slices: Sequence[Slice]) -> None:
    first = slices[0]
    checks: tuple[tuple[str, Callable[[Slice], object], Callable[[Slice], bool]], ...] = (
        ("series", lambda s: s.series_uid, lambda s: s.series_uid == first.series_uid),
        (
            "frames of reference",
            lambda s: s.frame_of_reference_uid,
            lambda s: s.frame_of_reference_uid == first.frame_of_reference_uid,
        ),
        (
            "orientations",
            lambda s: np.round(s.cosines, 4).tolist(),
            lambda s: same_cosines(s.cosines, first.cosines),
        ),
        ("sizes", lambda s: f"{s.rows} rows x {s.columns} columns", lambda s: _same_size(s, first)),
        (
            "pixel spacings",
            lambda s: s.spacing_mm,
            lambda s: np.allclose(s.spacing_mm, first.spacing_mm, rtol=0, atol=SPACING_TOLERANCE_MM),
        ),
    )
    for what, describe, agrees in checks:
        odd = [s for s in slices if not agrees(s)]
        if odd:
            raise InconsistentSeries(
                f"slices of mixed {what}",
                expected=f"{describe(first)} as in {first.name}",
                got=f"{describe(odd[0])} in {_names(odd)}",
                path=first.path.parent,
                remedy="Read each group of slices by itself.",
            )


def _same_size(first: Slice, second: Slice) -> bool:
    return (first.rows, first.columns) == (second.rows, second.columns)


def _check_duplicates(slices: Sequence[Slice], keys: Sequence[str], what: str) -> None:
    groups: dict[str, list[Slice]] = {}
    for key, slice_ in zip(keys, slices, strict=True):
        groups.setdefault(key, []).append(slice_)
    twice = {key: group for key, group in groups.items() if len(group) > 1}
    if twice:
        key, group = next(iter(twice.items()))
        raise InconsistentSeries(
            what,
            expected="each once",
            got=f"{len(twice)} repeated, e.g. {key} in {_names(group)}",
            path=slices[0].path.parent,
            remedy="Keep one of each; time points, echoes or b-values must be read one by one.",
        )


def _check_straight(stack: Sequence[Slice], normal: FloatArray) -> None:
    way = stack[-1].position_mm - stack[0].position_mm
    sideways_mm = float(np.linalg.norm(way - (way @ normal) * normal))
    angle = float(np.degrees(np.arctan2(sideways_mm, way @ normal)))
    # Over few slices rounded positions alone can make a large angle, so the drift must be real as well.
    if angle > TILT_TOLERANCE_DEGREES and sideways_mm > POSITION_TOLERANCE_MM:
        raise InconsistentSeries(
            "gantry tilt: the slices are not stacked along their normal",
            expected=f"at most {TILT_TOLERANCE_DEGREES} degrees",
            got=f"{angle:.2f} degrees from {_at(stack[0])} to {_at(stack[-1])}",
            path=stack[0].path.parent,
            remedy="Resample the series onto straight slices, or export it without tilt.",
        )


def _check_even(stack: Sequence[Slice], heights: FloatArray) -> None:
    gaps = np.diff(heights)
    usual = float(np.median(gaps))
    tolerance = min(POSITION_TOLERANCE_MM, 0.1 * usual)
    line = np.linspace(0.0, 1.0, len(stack))[:, np.newaxis]
    even = stack[0].position_mm + line * (stack[-1].position_mm - stack[0].position_mm)
    distances = np.linalg.norm([s.position_mm for s in stack] - even, axis=1)
    if distances.max() <= tolerance:
        return
    ratios = gaps / usual
    widest = int(np.argmax(np.abs(ratios - 1)))
    where = f"{gaps[widest]:.3f} mm between {_at(stack[widest])} and {_at(stack[widest + 1])}"
    missing = np.round(ratios).astype(int) - 1
    whole_gaps = bool((np.abs(gaps - (missing + 1) * usual) <= 2 * tolerance).all() and (missing >= 0).all())
    if whole_gaps and missing.sum() > 0:
        raise InconsistentSeries(
            f"{missing.sum()} slice(s) missing",
            expected=f"a slice every {usual:.3f} mm",
            got=where,
            path=stack[0].path.parent,
            remedy="Fetch the whole series again.",
        )
    raise InconsistentSeries(
        "unevenly spaced slices",
        expected=f"steps of {usual:.3f} mm, each slice within {tolerance:.3g} mm of its even place",
        got=f"{distances.max():.3f} mm at {_at(stack[int(distances.argmax())])}; {where}",
        path=stack[0].path.parent,
        remedy="Resample the series onto even slices.",
    )


def _names(slices: Sequence[Slice]) -> str:
    shown = ", ".join(s.name for s in slices[:4])
    return shown if len(slices) <= 4 else f"{shown} and {len(slices) - 4} more"


def _at(slice_: Slice) -> str:
    x, y, z = slice_.position_mm
    return f"{slice_.name} ({x:.2f}, {y:.2f}, {z:.2f})"
