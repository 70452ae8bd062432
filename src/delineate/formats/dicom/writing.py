"""A Volume out as a classic DICOM series: one CT or MR image instance for each slice along array axis K.

DICOM PS3.3 A.3 (CT Image IOD) and A.4 (MR Image IOD), explicit VR little endian, every Type 1 and 2 attribute.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from delineate.errors import ExportError
from delineate.files import atomic_path
from delineate.geometry import AxisChange, FloatArray, Grid, change_axes, index_to_world
from delineate.volume import Array, Kind, Volume, change_array_axes

if TYPE_CHECKING:
    from pydicom import Dataset

_SHEAR_TOLERANCE = 1e-3  # cosine; what float32 headers and rounded positions leave is smaller
_OWN_NAME = re.compile(r"slice_\d{4,5}\.dcm")
_TINY = 1e-10  # an exact zero is shorter to write and changes nothing that can be measured


@dataclass(frozen=True, slots=True)
class _Pixels:
    array: Array
    slope: float
    intercept: float


def write_dicom_series(
    folder: Path,
    volume: Volume,
    *,
    patient_id: str = "anonymous",
    patient_name: str = "Anonymous",
    description: str = "",
    seed: str | None = None,
) -> tuple[Path, ...]:
    """Write a CT or MR volume of one channel as a series; the files' paths, in slice order.

    The whole folder appears at once, replacing an older series that was written here. Every voxel keeps its place in
    the world: axes I and J become columns and rows as they are, axis K is reversed where the grid is left-handed. CT
    values are rounded to whole HU (int16). MR values that are whole 16-bit numbers are stored as they are, others in
    65,536 steps by rescale slope and intercept, which standard MR images do not have but readers apply. With a `seed`
    all identifiers are a function of it, the patient and the description, and equal input gives equal files; the series
    of one patient and seed share a study. Without, they are random.
    Raises `ExportError` for another kind, several channels, a sheared grid, values that do not fit, or a folder with
    other content.
    """
    _check_target(folder)
    grid, array = _right_handed(volume)
    pixels = _pixels(array, volume.kind, folder)
    common = _common(volume.kind, grid, pixels)
    common.PatientID, common.PatientName, common.SeriesDescription = patient_id, patient_name, description
    _identify(common, grid, None if seed is None else (seed, patient_id, description))
    names = [f"slice_{k + 1:04d}.dcm" for k in range(grid.shape[2])]
    with atomic_path(folder) as temporary:
        temporary.mkdir()
        for k, name in enumerate(names):
            instance = _instance(common, grid, pixels, k=k, seed=seed)
            instance.save_as(temporary / name, enforce_file_format=True)
    return tuple(folder / name for name in names)


def _check_target(folder: Path) -> None:
    # A folder is replaced as a whole, so everything in it must be ours.
    if folder.exists() and not (folder.is_dir() and all(_OWN_NAME.fullmatch(path.name) for path in folder.iterdir())):
        raise ExportError("the folder holds something else", path=folder, remedy="Choose a new or an empty folder.")


def _right_handed(volume: Volume) -> tuple[Grid, Array]:
    if volume.channels != 1:
        raise ExportError("a DICOM series holds one channel", got=f"{volume.channels} channels")
    direction = volume.grid.direction
    shear = float(np.abs(direction.T @ direction - np.eye(3)).max())
    if shear > _SHEAR_TOLERANCE:
        raise ExportError(
            "a sheared grid cannot be written as a DICOM series",
            expected="perpendicular axes",
            got=f"{np.degrees(np.arcsin(min(shear, 1.0))):.2f} degrees off",
            remedy="Resample the volume onto a grid with perpendicular axes.",
        )
    left_handed = bool(np.linalg.det(direction) < 0)
    change = AxisChange((0, 1, 2), (False, False, left_handed))
    return change_axes(volume.grid, change), change_array_axes(volume.array[0], change)


def _pixels(array: Array, kind: Kind, folder: Path) -> _Pixels:
    if kind not in (Kind.CT, Kind.MR):
        raise ExportError("only CT and MR can be written as a DICOM series", got=kind.value, path=folder)
    if not np.isfinite(array).all():
        raise ExportError("DICOM cannot hold values that are no numbers", got="NaN or infinity", path=folder)
    low, high = float(array.min()), float(array.max())
    whole = kind is Kind.CT or bool((array == np.round(array)).all())
    for dtype in (np.int16,) if kind is Kind.CT else (np.int16, np.uint16):
        limits = np.iinfo(dtype)
        if whole and limits.min <= round(low) and round(high) <= limits.max:
            return _Pixels(np.round(array).astype(dtype), 1.0, 0.0)
    if kind is Kind.CT:
        raise ExportError(
            "CT values do not fit into 16 bits", expected="-32768 to 32767 HU", got=f"{low:g} to {high:g}"
        )
    # The numbers as the file will say them, so that the reader undoes exactly what is done here.
    intercept = float(_decimal(low))
    slope = float(_decimal((high - low) / 65535 or 1.0))
    steps = np.clip(np.round((array.astype(np.float64) - intercept) / slope), 0, 65535)
    return _Pixels(steps.astype(np.uint16), slope, intercept)


def _decimal(value: float) -> str:
    from pydicom.valuerep import format_number_as_ds

    return format_number_as_ds(float(value))


def _decimals(values: FloatArray) -> list[str]:
    return [_decimal(0.0 if abs(value) < _TINY else value) for value in values.tolist()]


def _common(kind: Kind, grid: Grid, pixels: _Pixels) -> Dataset:
    """Everything that the instances of a series share."""
    from pydicom import Dataset
    from pydicom.uid import CTImageStorage, MRImageStorage

    common = Dataset()
    common.SpecificCharacterSet = "ISO_IR 192"
    common.SOPClassUID = CTImageStorage if kind is Kind.CT else MRImageStorage
    common.Modality = kind.value
    common.ImageType = ["DERIVED", "PRIMARY", "AXIAL" if kind is Kind.CT else "OTHER"]
    for keyword in _EMPTY + (_EMPTY_CT if kind is Kind.CT else _EMPTY_MR):
        setattr(common, keyword, None)
    common.SeriesNumber = 1
    if kind is Kind.MR:
        common.ScanningSequence, common.SequenceVariant = "RM", "NONE"
    row, column, _ = grid.direction.T
    between_columns, between_rows, between_slices = grid.spacing_mm
    common.ImageOrientationPatient = _decimals(np.concatenate([row, column]))
    common.PixelSpacing = [_decimal(between_rows), _decimal(between_columns)]
    common.SliceThickness = common.SpacingBetweenSlices = _decimal(between_slices)
    common.Columns, common.Rows = grid.shape[:2]
    common.SamplesPerPixel, common.PhotometricInterpretation = 1, "MONOCHROME2"
    common.BitsAllocated = common.BitsStored = 16
    common.HighBit = 15
    common.PixelRepresentation = int(pixels.array.dtype.kind == "i")
    if kind is Kind.CT or (pixels.slope, pixels.intercept) != (1.0, 0.0):
        common.RescaleSlope, common.RescaleIntercept = _decimal(pixels.slope), _decimal(pixels.intercept)
        common.RescaleType = "HU" if kind is Kind.CT else "US"
    return common


_EMPTY = (
    "AccessionNumber",
    "AcquisitionNumber",
    "Laterality",
    "Manufacturer",
    "PatientBirthDate",
    "PatientPosition",
    "PatientSex",
    "PositionReferenceIndicator",
    "ReferringPhysicianName",
    "StudyDate",
    "StudyID",
    "StudyTime",
)
_EMPTY_CT = ("KVP",)
_EMPTY_MR = ("EchoTime", "EchoTrainLength", "MRAcquisitionType", "RepetitionTime", "ScanOptions")


def _identify(common: Dataset, grid: Grid, origin: tuple[str, str, str] | None) -> None:
    seed, patient, description = origin or (None, None, None)
    common.StudyInstanceUID = _uid(seed, "study", patient)
    common.SeriesInstanceUID = _uid(seed, "series", patient, common.Modality, description)
    common.FrameOfReferenceUID = grid.frame_of_reference_uid or _uid(seed, "frame of reference", patient)


def _uid(seed: str | None, *names: str | None) -> str:
    from pydicom.uid import generate_uid

    return str(generate_uid(entropy_srcs=None if seed is None else [seed, *map(str, names)]))


def _instance(common: Dataset, grid: Grid, pixels: _Pixels, *, k: int, seed: str | None) -> Dataset:
    from pydicom import Dataset, FileMetaDataset
    from pydicom.uid import ExplicitVRLittleEndian

    instance = Dataset(common)
    instance.SOPInstanceUID = _uid(seed, common.SeriesInstanceUID, str(k))
    instance.InstanceNumber = k + 1
    instance.ImagePositionPatient = _decimals(index_to_world(grid, (0, 0, k)))
    instance.PixelData = pixels.array[:, :, k].T.astype("<u2" if pixels.array.dtype.kind == "u" else "<i2").tobytes()
    instance["PixelData"].VR = "OW"
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID = common.SOPClassUID, instance.SOPInstanceUID
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    instance.file_meta = meta
    return instance
