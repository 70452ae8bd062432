"""Hard DICOM series with a known truth: slices of an analytic world, sampled at each pixel's own position.

`intensity(x, y, z)` is known everywhere in LPS mm, smooth, and like itself under no flip, transpose or swap of axes. So
whatever a reader does to a series, every voxel that it returns can be checked against the world.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from pydicom import Dataset, FileMetaDataset
from pydicom import Sequence as Items
from pydicom.uid import (
    UID,
    CTImageStorage,
    EnhancedCTImageStorage,
    EnhancedMRImageStorage,
    ExplicitVRLittleEndian,
    JPEGLSLossless,
    MRImageStorage,
    PositronEmissionTomographyImageStorage,
    RLELossless,
)

from delineate.formats.dicom.series import read_series
from delineate.formats.dicom.stacks import Repair, Stack
from delineate.geometry import FloatArray, index_to_world
from delineate.volume import Array, Volume

World = Callable[[FloatArray], FloatArray]
Edit = Callable[[Dataset, int], None]

CLASSES = {"CT": CTImageStorage, "MR": MRImageStorage, "PT": PositronEmissionTomographyImageStorage}
ENHANCED = {"CT": EnhancedCTImageStorage, "MR": EnhancedMRImageStorage}
AXIAL = np.eye(3)
SAGITTAL = np.column_stack([(0.0, 1, 0), (0.0, 0, -1), (-1.0, 0, 0)])
CORONAL = np.column_stack([(1.0, 0, 0), (0.0, 0, -1), (0.0, 1, 0)])


def turned(degrees_x: float, degrees_y: float, degrees_z: float) -> FloatArray:
    """Axes (columns: along a row, down a column, normal) turned about x, y, z, one after the other."""
    turn = np.eye(3)
    for axis, degrees in enumerate((degrees_x, degrees_y, degrees_z)):
        c, s = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
        one = np.eye(3)
        a, b = [n for n in range(3) if n != axis]
        one[[a, a, b, b], [a, b, a, b]] = c, -s, s, c
        turn = one @ turn
    return turn


OBLIQUE = turned(14, -9, 23)
AXES = {"axial": AXIAL, "sagittal": SAGITTAL, "coronal": CORONAL, "oblique": OBLIQUE, "feet first": turned(180, 0, 0)}


def intensity(points_mm: FloatArray) -> FloatArray:
    """The world, about -350 to 650; no second derivative above 0.6 a square millimetre."""
    x, y, z = np.moveaxis(points_mm, -1, 0)
    waves = 120 * np.sin(x / 17 + 0.3) + 90 * np.sin(y / 13 - 0.8) * np.cos(z / 29) + 70 * np.sin((x + 2 * z) / 41)
    return np.asarray(100 + waves + 2.0 * x - 1.5 * y + 3.0 * z)


def other_world(points_mm: FloatArray) -> FloatArray:
    """A second measurement of the same places."""
    return np.asarray(intensity(points_mm) * -0.5 + 40)


@dataclass(frozen=True, slots=True)
class Plane:
    """Where one image lies: `axes` (columns along a row, down a column, normal), first pixel, (rows, columns) apart."""

    position_mm: FloatArray
    axes: FloatArray
    spacing_mm: tuple[float, float]
    rows: int
    columns: int

    @property
    def points_mm(self) -> FloatArray:
        """(rows, columns, 3): PS3.3 equation C.7.6.2.1-1."""
        j, i = np.meshgrid(np.arange(self.rows), np.arange(self.columns), indexing="ij")
        along_row, down_column = self.axes[:, 0] * self.spacing_mm[1], self.axes[:, 1] * self.spacing_mm[0]
        return np.asarray(self.position_mm + i[..., None] * along_row + j[..., None] * down_column)

    def moved(self, along_row: float = 0.0, down_column: float = 0.0, along_normal: float = 0.0) -> Plane:
        """The plane elsewhere, by mm along its own axes."""
        return replace(self, position_mm=self.position_mm + self.axes @ (along_row, down_column, along_normal))


def planes(
    count: int = 8,
    *,
    axes: FloatArray = AXIAL,
    step_mm: float = 2.5,
    tilt: tuple[float, float] = (0.0, 0.0),
    size: tuple[int, int] = (13, 17),
    spacing_mm: tuple[float, float] = (1.1, 0.8),
) -> list[Plane]:
    """Planes in steps along their normal, each shifted along its rows and columns as `tilt` degrees ask for.

    `size`: (rows, columns).
    """
    start = np.array([-7.3, 4.6, 11.9])
    drift = np.tan(np.radians(tilt)) * step_mm
    first = Plane(start, axes, spacing_mm, *size)
    return [first.moved(n * drift[0], n * drift[1], n * step_mm) for n in range(count)]


def write_series(
    folder: Path,
    stack: Sequence[Plane],
    *,
    modality: str = "CT",
    edit: Edit | None = None,
    world: World = intensity,
    first: int = 0,
) -> list[Path]:
    """One file a plane, "0000.dcm" and on from `first`, in the order given; `edit` changes each before."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for n, plane in enumerate(stack):
        dataset = header(plane, modality=modality, number=first + n + 1)
        store(dataset, np.round(world(plane.points_mm)) + 1024, intercept=-1024)
        if edit is not None:
            edit(dataset, n)
        paths.append(save(dataset, folder / f"{first + n:04d}.dcm"))
    return paths


def setting(keyword: str, *values: object) -> Edit:
    """Sets an element: to one value, or to one for each slice."""
    return lambda dataset, n: setattr(dataset, keyword, values[n % len(values)])


def header(plane: Plane, *, modality: str, number: int) -> Dataset:
    """All but the pixels."""
    dataset = Dataset()
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset.file_meta.MediaStorageSOPClassUID = dataset.SOPClassUID = CLASSES[modality]
    dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID = UID(f"1.2.3.1.{number}")
    dataset.Modality, dataset.ImageType = modality, ["ORIGINAL", "PRIMARY", "AXIAL"]
    dataset.PatientID, dataset.StudyInstanceUID, dataset.SeriesInstanceUID = "P", "1.2.3.2", "1.2.3.3"
    dataset.FrameOfReferenceUID, dataset.InstanceNumber = "1.2.3.4", number
    dataset.ImagePositionPatient = decimals(plane.position_mm)
    dataset.ImageOrientationPatient = decimals(plane.axes[:, :2].T.reshape(-1))
    dataset.PixelSpacing = decimals(plane.spacing_mm)
    return dataset


def decimals(values: Sequence[float] | FloatArray) -> list[str]:
    """Decimal strings of at most 16 characters (PS3.5 6.2)."""
    return [f"{float(value):.8f}" for value in values]


def store(
    dataset: Dataset, stored: Array, *, intercept: float = 0, slope: float = 1, dtype: str = "<u2", bits: int = 0
) -> None:
    """Put numbers (rows, columns) or (frames, rows, columns) in as they are, and say how they are scaled."""
    array = stored.astype(dtype)
    dataset.Rows, dataset.Columns = array.shape[-2:]
    dataset.SamplesPerPixel, dataset.PhotometricInterpretation = 1, "MONOCHROME2"
    dataset.BitsAllocated = 8 * array.itemsize
    dataset.BitsStored = bits or dataset.BitsAllocated
    dataset.HighBit, dataset.PixelRepresentation = dataset.BitsStored - 1, int(array.dtype.kind == "i")
    dataset.RescaleSlope, dataset.RescaleIntercept = slope, intercept
    data = array.tobytes()
    dataset.PixelData = data + bytes(len(data) % 2)
    dataset["PixelData"].VR = "OW"


def compress(dataset: Dataset, syntax: UID) -> None:
    plugin = {RLELossless: "pydicom", JPEGLSLossless: "pyjpegls"}.get(syntax, "pylibjpeg")
    dataset.compress(syntax, generate_instance_uid=False, encoding_plugin=plugin)


def save(dataset: Dataset, path: Path) -> Path:
    syntax = dataset.file_meta.TransferSyntaxUID
    implicit = syntax.is_transfer_syntax and syntax.is_implicit_VR
    dataset.save_as(path, implicit_vr=implicit, little_endian=syntax.is_little_endian, enforce_file_format=True)
    return path


def write_enhanced(
    path: Path,
    stack: Sequence[Plane],
    *,
    modality: str = "CT",
    edit_frame: Edit | None = None,
    worlds: Sequence[World] = (),
) -> Path:
    """One multi-frame file: a frame a plane, in the order given; `worlds` by frame, where they differ."""
    dataset = header(stack[0], modality=modality, number=1)
    dataset.SOPClassUID = dataset.file_meta.MediaStorageSOPClassUID = ENHANCED[modality]
    for keyword in ("ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing"):
        delattr(dataset, keyword)
    values = [(worlds[n] if worlds else intensity)(plane.points_mm) for n, plane in enumerate(stack)]
    store(dataset, np.round(np.stack(values)) + 1024, intercept=-1024)
    del dataset.RescaleSlope, dataset.RescaleIntercept
    dataset.NumberOfFrames = len(stack)
    shared = Dataset()
    shared.PixelValueTransformationSequence = [item(RescaleSlope=1, RescaleIntercept=-1024, RescaleType="HU")]
    shared.PixelMeasuresSequence = [item(PixelSpacing=decimals(stack[0].spacing_mm), SliceThickness="2.5")]
    dataset.SharedFunctionalGroupsSequence = [shared]
    frames = []
    for n, plane in enumerate(stack):
        frame = Dataset()
        frame.PlanePositionSequence = [item(ImagePositionPatient=decimals(plane.position_mm))]
        orientation = decimals(plane.axes[:, :2].T.reshape(-1))
        frame.PlaneOrientationSequence = [item(ImageOrientationPatient=orientation)]
        if edit_frame is not None:
            edit_frame(frame, n)
        frames.append(frame)
    dataset.PerFrameFunctionalGroupsSequence = Items(frames)
    path.parent.mkdir(parents=True, exist_ok=True)
    return save(dataset, path)


def item(**values: Any) -> Dataset:
    dataset = Dataset()
    for keyword, value in values.items():
        setattr(dataset, keyword, value)
    return dataset


def inside(points_mm: FloatArray, stack: Sequence[Plane], *, margin: float = 1e-3) -> Array:
    """Whether points lie among the pixel centres of both planes that they are between (or in the plane they are on)."""
    ordered = sorted(stack, key=lambda plane: float(plane.position_mm @ stack[0].axes[:, 2]))
    heights = np.array([plane.position_mm @ stack[0].axes[:, 2] for plane in ordered])
    height = points_mm @ stack[0].axes[:, 2]
    after = np.clip(np.searchsorted(heights, height), 1, len(heights) - 1)
    within = (height > heights[0] - margin) & (height < heights[-1] + margin)
    for n, plane in enumerate(ordered):
        offset = (points_mm - plane.position_mm) @ plane.axes[:, :2] / plane.spacing_mm[::-1]
        there = (offset > -margin) & (offset < (plane.columns - 1 + margin, plane.rows - 1 + margin))
        beside = ((after == n) & (np.abs(height - heights[after - 1]) > margin)) | (
            (after - 1 == n) & (np.abs(height - heights[after]) > margin)
        )
        within &= there.all(axis=-1) | ~beside
    return np.asarray(within)


def voxel_points(volume: Volume) -> FloatArray:
    """(I, J, K, 3) LPS mm."""
    index = np.stack(np.meshgrid(*(np.arange(n) for n in volume.grid.shape), indexing="ij"), axis=-1)
    return index_to_world(volume.grid, index)


def assert_true(
    volume: Volume,
    stack: Sequence[Plane],
    *,
    tolerance: float = 0.501,
    fraction: float = 0.999,
    world: World = intensity,
) -> None:
    """Every voxel among the planes holds what the world holds there, and such voxels are `fraction` of the planes'."""
    points = voxel_points(volume)
    within = inside(points, stack)
    wrong = np.abs(volume.array[0] - world(points))[within]
    assert within.sum() >= fraction * sum(plane.rows * plane.columns for plane in stack)
    assert wrong.max() <= tolerance, f"off by {wrong.max():.2f}"


def read(files: Sequence[Path], *, repair: Repair = Repair.STRAIGHTEN) -> Volume:
    return read_series(files, repair=repair)


def scans(stacks: Sequence[Stack]) -> dict[str, Volume]:
    """The volumes to be read, by name."""
    return {stack.name: read_series(stack) for stack in stacks if stack.is_scan}
