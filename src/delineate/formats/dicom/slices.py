"""What the files of a series are made of, as plain values: slices, how their numbers are stored, and whole files."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from delineate.formats.dicom.headers import PixelPlace
from delineate.formats.dicom.suv import Uptake
from delineate.geometry import FloatArray
from delineate.volume import Kind

COSINE_TOLERANCE = 5e-4
"""Direction cosines that differ by less are one orientation: 0.1 mm at 250 mm from the corner."""


@dataclass(frozen=True, slots=True)
class SeriesFacts:
    """What an instance says about the series it belongs to. Empty texts are missing ones; `issuer` is the ID's."""

    patient_id: str
    study_uid: str
    study_date: str
    series_uid: str
    number: int | None
    modality: str
    description: str
    manufacturer: str
    sop_class: str
    issuer: str = ""


@dataclass(frozen=True, slots=True)
class Storage:
    """How the pixels of an image are stored: PS3.3 C.7.6.3.1. `place` is None where they must be decoded.

    `widened`: whether all bits are taken for stored, since the padding value needs more than the header says.
    """

    rows: int
    columns: int
    bits_allocated: int
    bits_stored: int
    high_bit: int
    signed: bool
    floating: bool
    place: PixelPlace | None
    syntax: str
    lossy: bool
    widened: bool = False


@dataclass(frozen=True, slots=True)
class Slice:
    """Where one image lies, how its numbers are stored and scaled, and what sets it apart from others of its series.

    `row_direction` is the way along a row (the column index grows), `column_direction` down a column, both unit
    vectors in LPS; `position_mm` is the centre of the first pixel; `spacing_mm` is (between rows, between columns).
    `said_step_mm`: the distance of slices as the header has it, which nothing is measured by.
    `rescaled`: whether the file gives slope and intercept; without, they are 1 and 0. `units`: of the numbers of CT
    by RescaleType (PS3.3 C.11.1.1.2); "" for HU and all others.
    `counted`: how many images the header says that there are. `contrast` holds what makes two images two measurements
    (echo, b-value, time point, component of a complex image);
    `hints` what may tell volumes of one series apart where positions repeat, most telling first (see `measurements`).
    """

    path: Path
    frame: int
    frames: int
    instance_uid: str
    series_uid: str
    study_uid: str
    frame_of_reference_uid: str
    kind: Kind
    position_mm: tuple[float, float, float]
    row_direction: tuple[float, float, float]
    column_direction: tuple[float, float, float]
    spacing_mm: tuple[float, float]
    thickness_mm: float | None
    said_step_mm: float | None
    storage: Storage
    slope: float
    intercept: float
    rescaled: bool
    units: str
    scale_slope: float | None
    padding: tuple[float, float] | None
    inverted: bool
    instance_number: int | None
    counted: int | None
    contrast: tuple[tuple[str, str], ...]
    hints: tuple[tuple[str, str], ...]
    uptake: Uptake | None

    @property
    def rows(self) -> int:
        return self.storage.rows

    @property
    def columns(self) -> int:
        return self.storage.columns

    @property
    def normal(self) -> FloatArray:
        normal: FloatArray = np.cross(self.row_direction, self.column_direction)
        return normal / np.linalg.norm(normal)

    @property
    def cosines(self) -> tuple[float, ...]:
        return (*self.row_direction, *self.column_direction)

    @property
    def name(self) -> str:
        return self.path.name if self.frames == 1 else f"{self.path.name} frame {self.frame + 1}"


@dataclass(frozen=True, slots=True)
class Instance:
    """One DICOM file: its slices, or `problem`, why it holds none of a scan.

    `expected`: whether that is so by the file's nature (a report, a localizer) and no fault. `refers_to`: UIDs of the
    series that a segmentation or structure set was made on, `frames_of_reference`: where it lies.
    """

    path: Path
    facts: SeriesFacts
    instance_uid: str
    slices: tuple[Slice, ...]
    problem: str | None = None
    expected: bool = False
    refers_to: tuple[str, ...] = ()
    frames_of_reference: tuple[str, ...] = ()


def same_cosines(first: tuple[float, ...], second: tuple[float, ...]) -> bool:
    """Whether two lists of six direction cosines are one orientation, up to rounding."""
    return max(abs(a - b) for a, b in zip(first, second, strict=True)) <= COSINE_TOLERANCE


def finite_numbers(value: object, count: int) -> FloatArray | None:
    """An element's value as so many finite numbers; None where it is none."""
    try:
        array = np.array(value, dtype=np.float64)
    except (TypeError, ValueError):
        return None
    return array if value is not None and array.shape == (count,) and np.isfinite(array).all() else None
