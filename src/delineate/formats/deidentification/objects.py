"""Whole DICOM files in and out, element by element as they are stored; nothing of them is repeated in an error."""

from __future__ import annotations

import io
import logging
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from delineate.errors import DelineateError, UnreadableImage
from delineate.files import atomic_path, system_error
from delineate.formats.deidentification.profile import attribute_type
from delineate.formats.dicom.headers import quiet

if TYPE_CHECKING:
    from pydicom import Dataset
    from pydicom.dataelem import RawDataElement

PIXELS = ("PixelData", "FloatPixelData", "DoubleFloatPixelData")
_NAMES = (
    "IssuerOfPatientID",
    "PatientID",
    "SOPClassUID",
    "SOPInstanceUID",
    "SeriesInstanceUID",
    "SpecificCharacterSet",
    "StudyInstanceUID",
)
_UNDEFINED = 0xFFFFFFFF
_SHORTEST_ELEMENT = 8


def read_object(path: Path) -> Dataset:
    """A whole DICOM file, also one that lost its preamble; its elements are parsed when they are asked for.

    Raises `UnreadableImage` for a file that is no DICOM object or is cut off, without a word of what is in it.
    """
    import pydicom
    from pydicom.uid import UID

    if not path.exists():
        raise UnreadableImage("there is no such file", path=path)
    with quiet(), refused_if_broken(path), _bounded(path) as stream:
        dataset = pydicom.dcmread(stream, force=True)
        _check_whole(dataset, path, path.stat().st_size)
        if "TransferSyntaxUID" not in dataset.file_meta:
            dataset.file_meta.TransferSyntaxUID = UID(_syntax(*dataset.original_encoding))
    return dataset


def read_names(path: Path, keywords: Sequence[str] = _NAMES) -> Dataset:
    """Only what says whom and which object a file is about. Raises `UnreadableImage` as `read_object`."""
    import pydicom

    with quiet(), refused_if_broken(path), _bounded(path) as stream:
        return pydicom.dcmread(stream, force=True, stop_before_pixels=True, specific_tags=list(keywords))


def write_object(path: Path, dataset: Dataset) -> None:
    """Write a data set in the transfer syntax that it names, atomically. Raises `UnreadableImage` if it cannot be."""
    with quiet(), refused_if_broken(), atomic_path(path) as temporary:
        dataset.save_as(temporary, enforce_file_format=True)


@contextmanager
def refused_if_broken(path: Path | None = None) -> Iterator[None]:
    """Whatever fails inside pydicom becomes an `UnreadableImage` that repeats nothing of the patient.

    pydicom's log is silent meanwhile: its messages quote values.
    """
    log = logging.getLogger("pydicom")
    silent, log.disabled = log.disabled, True
    try:
        yield
    except (DelineateError, MemoryError):
        raise
    except Exception as error:
        system = system_error(error)
        if system is not None:
            raise system from None
        # Neither the error's text, which repeats values, nor the error itself, which a log would print.
        raise UnreadableImage("not a readable DICOM object", got=type(error).__name__, path=path) from None
    finally:
        log.disabled = silent


def text_of(dataset: Any, keyword: str) -> str:
    """A value as text without padding; empty if there is none."""
    return stripped(dataset.get(keyword))


def stripped(value: object) -> str:
    """One value as text, without the padding of PS3.5 6.2."""
    return "" if value is None else str(value).strip(" \0")


class _BoundedReader(io.BufferedReader):
    """Never asks for more bytes than are left: an element's length may be a lie of gigabytes."""

    def __init__(self, raw: io.FileIO) -> None:
        super().__init__(raw)
        self._size = os.fstat(raw.fileno()).st_size

    def read(self, size: int | None = -1, /) -> bytes:
        left = max(self._size - self.tell(), 0)
        return super().read(left if size is None or size < 0 else min(size, left))


@contextmanager
def _bounded(path: Path) -> Iterator[io.BufferedReader]:
    with _BoundedReader(io.FileIO(path, "rb")) as stream:
        yield stream


def _check_whole(dataset: Dataset, path: Path, size: int) -> None:
    """pydicom takes the end of the file for the end of the data set, wherever it is."""
    # Before anything is parsed: a parsed element has forgotten the length that it was to have.
    elements: list[Any] = [dataset.get_item(tag) for tag in list(dataset.keys())]
    raws = [element for element in elements if isinstance(getattr(element, "value_tell", None), int)]
    sop_class = text_of(dataset, "SOPClassUID")
    if not sop_class:
        raise UnreadableImage("not a DICOM object", expected="a SOP class", path=path)
    short = any(raw.length not in (_UNDEFINED, len(raw.value or b"")) for raw in raws)
    is_image = any(attribute_type(sop_class, (keyword,)) in ("1", "1C") for keyword in PIXELS)
    lacking = is_image and not ("Rows" in dataset and any(keyword in dataset for keyword in PIXELS))
    if short or lacking or 0 < size - max((_end(raw) for raw in raws), default=0) < _SHORTEST_ELEMENT:
        raise UnreadableImage(
            "the DICOM file is cut off", expected="pixels" if lacking else None, path=path, remedy="Fetch it again."
        )


def _end(raw: RawDataElement) -> int:
    delimiter = _SHORTEST_ELEMENT if raw.length == _UNDEFINED else 0
    return raw.value_tell + len(raw.value or b"") + delimiter


def _syntax(implicit: bool | None, little: bool | None) -> str:
    from pydicom.uid import ExplicitVRBigEndian, ExplicitVRLittleEndian, ImplicitVRLittleEndian

    if implicit:
        return str(ImplicitVRLittleEndian)
    return str(ExplicitVRLittleEndian if little else ExplicitVRBigEndian)
