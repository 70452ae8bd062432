"""What derived DICOM objects share: the images they belong to, made ready to be copied from; names and dates."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

from delineate.errors import ExportError, ResourceError, UnreadableImage
from delineate.formats.dicom.headers import text
from delineate.formats.dicom.instances import instance_of
from delineate.formats.dicom.slices import Slice
from delineate.formats.dicom_results.seg_frames import items
from delineate.labels import LabelSet, is_one_line

if TYPE_CHECKING:
    from pydicom import Dataset

MANUFACTURER = "delineate"
LONGEST_TEXT = 64  # of value representation LO

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
_NEEDED = ("SOPClassUID", "SOPInstanceUID", "StudyInstanceUID", "SeriesInstanceUID", "Rows", "Columns")


@dataclass(frozen=True, slots=True, eq=False)
class Sources:
    """Headers of one series without pixels, text in Unicode, and the slices that they hold.

    `frame_of_reference_uid`: None where the images have none; the headers then have one made from the series' UID.
    """

    datasets: tuple[Dataset, ...]
    slices: tuple[Slice, ...]
    frame_of_reference_uid: str | None

    @property
    def first(self) -> Dataset:
        return self.datasets[0]


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
    uid = text(datasets[0], "FrameOfReferenceUID") or None
    if uid is None:
        for dataset in datasets:
            dataset.FrameOfReferenceUID = _frame_of_reference_of(dataset)
    return Sources(tuple(datasets), slices, uid)


def check_names(labels: LabelSet, path: Path | None = None) -> None:
    """Raises `ExportError` for a name that no label of a segment or region could hold (PS3.5 6.2, LO)."""
    for name in labels.names:
        if not is_one_line(name) or len(name) > LONGEST_TEXT or "\\" in name:
            raise ExportError(
                "a name that DICOM cannot hold",
                expected=f"1 to {LONGEST_TEXT} characters of one line without backslash, no blank at an end",
                got=repr(name[:80]),
                path=path,
                remedy="Rename the structure.",
            )


def stamp(dataset: Dataset, made: datetime) -> None:
    """Say when the object was made, wherever it says so (PS3.3 C.12.1, C.7.3.1, C.8.8.5, C.8.20.1 and C.17.2)."""
    day, time = made.strftime("%Y%m%d"), made.strftime("%H%M%S")
    for what in ("InstanceCreation", "Series", "StructureSet" if dataset.Modality == "RTSTRUCT" else "Content"):
        setattr(dataset, f"{what}Date", day)
        setattr(dataset, f"{what}Time", time)
    for equipment in items(dataset, "ContributingEquipmentSequence"):
        equipment.ContributionDateTime = day + time


def _frame_of_reference_of(dataset: Dataset) -> str:
    """For images that lost theirs in de-identification: the same for whatever is derived from the series."""
    from pydicom.uid import generate_uid

    return str(generate_uid(entropy_srcs=[text(dataset, "SeriesInstanceUID"), "frame of reference"]))


@contextmanager
def building(path: Path) -> Iterator[None]:
    """Turn what highdicom raises while it copies from damaged sources into `ExportError` for `path`."""
    try:
        yield
    except MemoryError as error:
        raise ResourceError("not enough memory for the object", path=path) from error
    # Beside its own checks, anything that a missing or odd attribute of the sources leads to.
    except Exception as error:
        raise ExportError(
            "the source images' headers do not allow a derived object", got=str(error)[:200], path=path
        ) from error


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
    _complete(dataset)
    missing = [keyword for keyword in _NEEDED if not text(dataset, keyword)]
    if missing:
        raise ExportError(
            "a source image without what a derived object must copy",
            expected=", ".join(missing),
            path=path,
            remedy="Take the original image.",
        )
    return dataset


def _complete(dataset: Dataset) -> None:
    """Put what highdicom asks of every source where it looks; what it makes of these is not used."""
    if "PixelSpacing" in dataset and not text(dataset, "SliceThickness"):
        dataset.SliceThickness = 1
    frames, shared = (items(dataset, f"{which}FunctionalGroupsSequence") for which in ("PerFrame", "Shared"))
    for keyword in ("PixelMeasuresSequence", "PlaneOrientationSequence"):
        if frames and shared and keyword in frames[0] and keyword not in shared[0]:
            shared[0][keyword] = frames[0][keyword]


def _make_unicode(dataset: Dataset) -> None:
    """Text as Unicode, whatever its character set was, so that copies can be written in UTF-8."""
    from pydicom.valuerep import PersonName

    dataset.decode()
    for element in dataset:
        # A name keeps its original bytes and would be written with them.
        if element.VR == "PN" and isinstance(element.value, PersonName):
            element.value = str(element.value)
    dataset.SpecificCharacterSet = "ISO_IR 192"
