"""The images that a derived DICOM object belongs to: their headers, made ready to be copied from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from delineate.errors import ExportError, UnreadableImage
from delineate.formats.dicom_headers import text
from delineate.formats.dicom_slices import Slice, instance_of

if TYPE_CHECKING:
    from pydicom import Dataset

MANUFACTURER = "delineate"

# Type 2 of the modules Patient and General Study: a source that lacks them says nothing.
_MAY_BE_EMPTY = (
    "PatientID",
    "PatientName",
    "PatientBirthDate",
    "PatientSex",
    "AccessionNumber",
    "StudyID",
    "StudyDate",
    "StudyTime",
    "ReferringPhysicianName",
)
_NEEDED = ("SOPClassUID", "SOPInstanceUID", "StudyInstanceUID", "SeriesInstanceUID", "FrameOfReferenceUID", "Rows")


@dataclass(frozen=True, slots=True, eq=False)
class Sources:
    """Headers of one series without pixels, text in Unicode, and the slices that they hold."""

    datasets: tuple[Dataset, ...]
    slices: tuple[Slice, ...]

    @property
    def first(self) -> Dataset:
        return self.datasets[0]

    @property
    def frame_of_reference_uid(self) -> str:
        return text(self.first, "FrameOfReferenceUID")


def read_sources(paths: Sequence[Path]) -> Sources:
    """The images at `paths`, which must be one series in one frame of reference.

    Raises `UnreadableImage` for a file that is no sound DICOM image, `ExportError` for images of several series, sizes
    or orientations, or without the identifiers that a derived object copies, `ValueError` for no paths.
    """
    if not paths:
        raise ValueError("no source images: a derived object needs the images it was made on")
    datasets = [_header(path) for path in paths]
    for keyword in ("StudyInstanceUID", "SeriesInstanceUID", "FrameOfReferenceUID", "Rows", "Columns"):
        found = list(dict.fromkeys(text(dataset, keyword) for dataset in datasets))
        if len(found) > 1:
            raise ExportError(
                f"source images that differ in {keyword}",
                expected=f"one series: {found[0]}",
                got=found[1],
                path=next(p for p, d in zip(paths, datasets, strict=True) if text(d, keyword) == found[1]),
                remedy="Give the images of one series, without its localizers.",
            )
    slices = tuple(s for path, dataset in zip(paths, datasets, strict=True) for s in instance_of(dataset, path).slices)
    return Sources(tuple(datasets), slices)


def _header(path: Path) -> Dataset:
    import pydicom

    try:
        dataset = pydicom.dcmread(path, stop_before_pixels=True)
        _make_unicode(dataset)
    except FileNotFoundError as error:
        raise UnreadableImage("there is no such file", path=path) from error
    # A damaged header ends in almost any exception inside pydicom.
    except Exception as error:
        raise UnreadableImage("not a readable DICOM file", got=str(error)[:200], path=path) from error
    for keyword in _MAY_BE_EMPTY:
        if keyword not in dataset:
            setattr(dataset, keyword, None)
    missing = [keyword for keyword in _NEEDED if not text(dataset, keyword)]
    if missing:
        raise ExportError(
            "a source image without what a derived object must copy",
            expected=", ".join(missing),
            path=path,
            remedy="Take the original image: without a frame of reference nothing says where it lies.",
        )
    return dataset


def _make_unicode(dataset: Dataset) -> None:
    """Text as Unicode, whatever its character set was, so that copies can be written in UTF-8."""
    from pydicom.valuerep import PersonName

    dataset.decode()
    for element in dataset:
        # A name keeps its original bytes and would be written with them.
        if element.VR == "PN" and isinstance(element.value, PersonName):
            element.value = str(element.value)
    dataset.SpecificCharacterSet = "ISO_IR 192"
