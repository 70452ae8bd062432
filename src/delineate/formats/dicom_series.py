"""DICOM image series in: find them in a tree of files, and read one as a Volume in its own geometry.

Nothing is repaired here: a series that is not one plain, evenly spaced volume is refused with the reason.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from delineate.errors import UnreadableImage
from delineate.formats.dicom_slices import Slice, ordered, same_cosines, slices_of, stack_grid
from delineate.geometry import Grid
from delineate.volume import Array, Source, Volume

if TYPE_CHECKING:
    from pydicom import Dataset

SCAN_MODALITIES = ("CT", "MR", "PT")

_HEADER = (
    "FrameOfReferenceUID",
    "ImageType",
    "Columns",
    "ImageOrientationPatient",
    "ImagePositionPatient",
    "Modality",
    "ModalityLUTSequence",
    "NumberOfFrames",
    "PatientID",
    "PerFrameFunctionalGroupsSequence",
    "PhotometricInterpretation",
    "PixelSpacing",
    "RescaleIntercept",
    "RescaleSlope",
    "Rows",
    "SOPInstanceUID",
    "SamplesPerPixel",
    "SeriesDescription",
    "SeriesInstanceUID",
    "SeriesNumber",
    "SharedFunctionalGroupsSequence",
    "SpecificCharacterSet",
    "StudyDate",
    "StudyInstanceUID",
    "Units",
)


@dataclass(frozen=True, slots=True)
class Series:
    """Files of one series that have one size and one orientation, in order of their paths; voxels are not read.

    A series whose slices differ in these comes as several `Series` of one `uid`. `orientation` is the six direction
    cosines, None where the file does not say.
    """

    uid: str
    files: tuple[Path, ...]
    modality: str
    description: str
    number: int | None
    patient_id: str
    study_uid: str
    study_date: str
    rows: int
    columns: int
    orientation: tuple[float, ...] | None
    localizer: bool

    @property
    def is_scan(self) -> bool:
        """Whether it is a CT, MR or PET series and no localizer."""
        return self.modality in SCAN_MODALITIES and not self.localizer

    @property
    def summary(self) -> str:
        """One line for people: what it is, and how large."""
        size = f"{len(self.files)} file(s) of {self.rows} x {self.columns}"
        return f"{self.modality} {self.description or 'without description'} [{self.uid}], {size}"


def is_dicom(path: Path) -> bool:
    """Whether the file has DICOM's marker (PS3.10 7.1); DICOMDIR, which holds no image, does not count."""
    if path.name.upper() == "DICOMDIR":
        return False
    with path.open("rb") as stream:
        return stream.read(132)[128:] == b"DICM"


def find_series(folder: Path) -> tuple[Series, ...]:
    """The image series in a folder and all folders below, ordered by study, number, UID; empty if there are none.

    Only headers are read. Files that are not DICOM, and objects without an image of their own (reports, contours,
    segmentations, doses), are passed over. Raises `UnreadableImage` for a DICOM file whose header is broken: passing it
    over would make a slice missing.
    """
    groups: list[list[Series]] = []
    with _quiet():
        for path in _dicom_files(folder):
            dataset = _header(path)
            if dataset.get("Rows") and dataset.get("Modality") not in ("SEG", "RTDOSE"):
                one = _series_of(dataset, path)
                group = next((group for group in groups if _same_series(group[0], one)), None)
                groups.append([one]) if group is None else group.append(one)
    found = [replace(group[0], files=tuple(path for one in group for path in one.files)) for group in groups]
    return tuple(sorted(found, key=lambda series: (series.study_uid, series.number or 0, series.uid, series.files)))


def read_series(series: Series | Sequence[Path]) -> Volume:
    """The volume of one series, (1, I, J, K): I along a row, J down a column, K along the normal (row x column).

    Rescale slope and intercept are applied slice by slice. Without them the stored type stays; whole-number ones give
    int16, or int32 where values do not fit; others float32. Pixel padding values stay as they are. PET is `Kind.PET`
    only where the file says SUV (Units GML). Enhanced multi-frame images of one stack are read as well.
    Raises `InconsistentSeries` with the files at fault unless `dicom_slices.ordered` finds one plain volume, and
    `UnreadableImage` for a file without readable header or pixels. Source: PS3.3 C.7.6.2.1.1, C.11.1.1.
    """
    with _quiet():
        stack = _stack(series)
        array = _voxels(stack)
    first = stack[0]
    uids = tuple(dict.fromkeys(s.instance_uid for s in stack))
    source = Source(first.path.parent, first.study_uid, first.series_uid, uids)
    return Volume(array, stack_grid(stack), first.kind, source)


def read_series_grid(series: Series | Sequence[Path]) -> Grid:
    """The grid of `read_series`, from the headers alone; raises the same, but sees no broken pixels."""
    with _quiet():
        return stack_grid(_stack(series))


def _stack(series: Series | Sequence[Path]) -> list[Slice]:
    files = series.files if isinstance(series, Series) else tuple(series)
    if not files:
        raise ValueError("no files: a series needs slices")
    return ordered([slice_ for path in files for slice_ in slices_of(_header(path), path)])


def _dicom_files(folder: Path) -> Iterator[Path]:
    for parent, folders, names in os.walk(folder):
        folders.sort()
        for path in (Path(parent, name) for name in sorted(names)):
            if path.is_file() and is_dicom(path):
                yield path


@contextmanager
def _quiet() -> Iterator[None]:
    # pydicom warns about harmless departures from the standard; what matters is checked and refused here.
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def _header(path: Path) -> Dataset:
    import pydicom

    try:
        dataset = pydicom.dcmread(path, stop_before_pixels=True, specific_tags=list(_HEADER))
    except FileNotFoundError as error:
        raise UnreadableImage("there is no such file", path=path) from error
    # A damaged header ends in almost any exception inside pydicom.
    except Exception as error:
        raise UnreadableImage("not a readable DICOM file", got=str(error), path=path) from error
    # pydicom takes the end of a truncated file for the end of the header.
    claimed = dataset.file_meta.get("MediaStorageSOPClassUID")
    if claimed is not None and claimed.name.endswith("Image Storage") and not dataset.get("Rows"):
        raise UnreadableImage("the DICOM header is cut off or has no Rows", path=path, remedy="Fetch the file again.")
    return dataset


def _series_of(dataset: Dataset, path: Path) -> Series:
    def text(keyword: str) -> str:
        return str(dataset.get(keyword) or "")

    number, cosines = dataset.get("SeriesNumber"), dataset.get("ImageOrientationPatient")
    return Series(
        uid=text("SeriesInstanceUID"),
        files=(path,),
        modality=text("Modality"),
        description=text("SeriesDescription"),
        number=None if number is None else int(number),
        patient_id=text("PatientID"),
        study_uid=text("StudyInstanceUID"),
        study_date=text("StudyDate"),
        rows=int(dataset.Rows),
        columns=int(dataset.Columns),
        orientation=tuple(float(c) for c in cosines) if cosines and len(cosines) == 6 else None,
        localizer="LOCALIZER" in (dataset.get("ImageType") or ()),
    )


def _same_series(first: Series, second: Series) -> bool:
    keys = [(s.study_uid, s.uid, s.rows, s.columns, s.localizer, s.orientation is None) for s in (first, second)]
    if keys[0] != keys[1]:
        return False
    return (
        first.orientation is None or second.orientation is None or same_cosines(first.orientation, second.orientation)
    )


def _voxels(stack: Sequence[Slice]) -> Array:
    """(1, I, J, K); memory order is the file's (I fastest), so nothing is copied to turn rows into axes."""
    of_file: dict[Path, list[Slice]] = {}
    for slice_ in stack:
        of_file.setdefault(slice_.path, []).append(slice_)
    images: dict[tuple[Path, int], Array] = {}
    for path, slices in of_file.items():
        frames = _decoded(path)
        for slice_ in slices:
            if frames.shape[1:] != (slice_.rows, slice_.columns) or slice_.frame >= len(frames):
                raise UnreadableImage(
                    "the pixel data does not fit the header",
                    expected=f"{slice_.rows} x {slice_.columns}",
                    got=frames.shape,
                    path=path,
                )
            images[path, slice_.frame] = _rescaled(frames[slice_.frame], slice_)
    rows_first = np.stack([images[s.path, s.frame] for s in stack])
    return rows_first.transpose(2, 1, 0)[np.newaxis]


def _decoded(path: Path) -> Array:
    """(frames, rows, columns) of one file as stored, in this machine's byte order."""
    import pydicom

    try:
        array: Array = pydicom.dcmread(path).pixel_array
    # Decoders raise whatever they meet in damaged data.
    except Exception as error:
        raise UnreadableImage(
            "the pixel data cannot be read", got=str(error), path=path, remedy="Fetch the file again."
        ) from error
    array = array.astype(array.dtype.newbyteorder("="), copy=False)
    return array if array.ndim == 3 else array[np.newaxis]


def _rescaled(image: Array, slice_: Slice) -> Array:
    slope, intercept = slice_.slope, slice_.intercept
    if (slope, intercept) == (1.0, 0.0):
        return image
    if slope.is_integer() and intercept.is_integer():
        whole = image.astype(np.int32) * int(slope) + int(intercept)
        limits = np.iinfo(np.int16)
        fits = whole.min() >= limits.min and whole.max() <= limits.max
        return whole.astype(np.int16) if fits else whole
    return (image * slope + intercept).astype(np.float32)
