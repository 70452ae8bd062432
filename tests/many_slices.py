"""Trees of many small CT slices in no time: one file by pydicom, its identifiers and place replaced in the bytes."""

from __future__ import annotations

from functools import cache
from io import BytesIO
from pathlib import Path

from pydicom import Dataset, FileMetaDataset
from pydicom.uid import UID, CTImageStorage, ExplicitVRLittleEndian

SLICES = 20

_SERIES, _SLICE, _HEIGHT = b"900000009", b"800000008", b"7000000.7"  # each once, and as long as what replaces it


def slice_bytes(series: int, k: int, *, description: bytes = b"") -> bytes:
    """Slice `k` of 2.5 mm of the series of that number; `description` replaces the start of 20 characters."""
    data = _template().replace(_SERIES, b"1%08d" % series).replace(_SLICE, b"2%08d" % k)
    text = b"a series of slices  "
    return data.replace(_HEIGHT, b"%09.1f" % (k * 2.5)).replace(text, description.ljust(20) if description else text)


def write_slices(folder: Path, *, series: int = 0, slices: int = SLICES) -> list[Path]:
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / f"IM{k:04d}" for k in range(slices)]
    for k, path in enumerate(paths):
        path.write_bytes(slice_bytes(series, k))
    return paths


def write_many(folder: Path, files: int) -> None:
    """So many files, in series of 20."""
    for series in range(files // SLICES):
        write_slices(folder / f"{series // 100:03d}" / f"{series:05d}", series=series)


@cache
def _template() -> bytes:
    dataset, dataset.file_meta = Dataset(), FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset.file_meta.MediaStorageSOPClassUID = dataset.SOPClassUID = CTImageStorage
    identity = UID(f"1.2.{_SERIES.decode()}.{_SLICE.decode()}")
    dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID = identity
    dataset.ImageType, dataset.Modality, dataset.StudyDate = ["ORIGINAL", "PRIMARY", "AXIAL"], "CT", "20200131"
    dataset.PatientID = f"P{_SERIES.decode()}"
    dataset.SeriesDescription = "a series of slices  "
    dataset.StudyInstanceUID, dataset.SeriesInstanceUID = f"1.2.{_SERIES.decode()}.1", f"1.2.{_SERIES.decode()}.2"
    dataset.FrameOfReferenceUID = f"1.2.{_SERIES.decode()}.3"
    dataset.SeriesNumber = 3
    dataset.ImagePositionPatient = ["-20.5", "31", _HEIGHT.decode()]
    dataset.ImageOrientationPatient = [0.8, 0.6, 0, -0.6, 0.8, 0]
    dataset.PixelSpacing, dataset.SliceThickness = [0.9, 0.8], 2.5
    dataset.Rows, dataset.Columns, dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit = 4, 3, 16, 16, 15
    dataset.SamplesPerPixel, dataset.PhotometricInterpretation, dataset.PixelRepresentation = 1, "MONOCHROME2", 1
    dataset.RescaleSlope, dataset.RescaleIntercept = 1, -1024
    dataset.PixelData = bytes(range(24))
    dataset["PixelData"].VR = "OW"
    stream = BytesIO()
    dataset.save_as(stream, enforce_file_format=True)
    return stream.getvalue()
