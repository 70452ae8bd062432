"""The header of a DICOM file, without its pixels: only what grouping, geometry and values need, read in one pass."""

from __future__ import annotations

import warnings
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from math import isfinite
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from delineate.errors import UnreadableImage

if TYPE_CHECKING:
    from pydicom import Dataset
    from pydicom.tag import BaseTag

_KEYWORDS = (
    "AcquisitionDate",
    "AcquisitionDateTime",
    "AcquisitionNumber",
    "AcquisitionTime",
    "ActualFrameDuration",
    "BitsAllocated",
    "BitsStored",
    "Columns",
    "ComplexImageComponent",
    "ConvolutionKernel",
    "CorrectedImage",
    "CurrentRequestedProcedureEvidenceSequence",
    "DecayCorrection",
    "DecayFactor",
    "DiffusionBValue",
    "DiffusionGradientOrientation",
    "EchoNumbers",
    "EchoTime",
    "FlipAngle",
    "FrameOfReferenceUID",
    "HighBit",
    "ImageComments",
    "ImageOrientationPatient",
    "ImagePositionPatient",
    "ImageType",
    "ImagesInAcquisition",
    "InstanceNumber",
    "InversionTime",
    "LossyImageCompression",
    "IssuerOfPatientID",
    "KVP",
    "Manufacturer",
    "Modality",
    "ModalityLUTSequence",
    "NumberOfFrames",
    "NumberOfSlices",
    "NumberOfTemporalPositions",
    "PatientID",
    "PatientWeight",
    "PerFrameFunctionalGroupsSequence",
    "PhotometricInterpretation",
    "PixelPaddingRangeLimit",
    "PixelPaddingValue",
    "PixelRepresentation",
    "PixelSpacing",
    "PlanarConfiguration",
    "RadiopharmaceuticalInformationSequence",
    "ReferencedFrameOfReferenceSequence",
    "ReferencedSeriesSequence",
    "RescaleIntercept",
    "RescaleSlope",
    "RescaleType",
    "Rows",
    "SOPClassUID",
    "SOPInstanceUID",
    "SUVType",
    "SamplesPerPixel",
    "SeriesDate",
    "SeriesDescription",
    "SeriesInstanceUID",
    "SeriesNumber",
    "SeriesTime",
    "SharedFunctionalGroupsSequence",
    "SliceThickness",
    "SpacingBetweenSlices",
    "SpecificCharacterSet",
    "StudyDate",
    "StudyInstanceUID",
    "TemporalPositionIdentifier",
    "TimezoneOffsetFromUTC",
    "TransferSyntaxUID",
    "TriggerTime",
    "Units",
)
PHILIPS_SUV_FACTOR, PHILIPS_ACTIVITY_FACTOR = (0x7053, 0x1000), (0x7053, 0x1009)
PHILIPS_SCALE_SLOPE = (0x2005, 0x100E)
GE_COMPONENT = (0x0043, 0x102F)
PRIVATE_B_VALUES = ((0x0019, 0x100C), (0x0043, 0x1039), (0x2001, 0x1003))  # Siemens, GE, Philips
_CREATOR_OF = {
    PHILIPS_SUV_FACTOR: "Philips PET Private Group",
    PHILIPS_ACTIVITY_FACTOR: "Philips PET Private Group",
    PHILIPS_SCALE_SLOPE: "Philips MR Imaging DD 001",
    GE_COMPONENT: "GEMS_PARM_01",
    PRIVATE_B_VALUES[0]: "SIEMENS MR HEADER",
    PRIVATE_B_VALUES[1]: "GEMS_PARM_01",
    PRIVATE_B_VALUES[2]: "Philips Imaging DD 001",
}
_BLOCKS = (0x10, 0x11)  # a vendor takes the first that is free (PS3.5 7.8.1); two vendors are all that is met
_PRIVATE = (
    *((group, (block << 8) + (element & 0xFF)) for group, element in _CREATOR_OF for block in _BLOCKS),
    *((group, block) for group in sorted({group for group, _ in _CREATOR_OF}) for block in _BLOCKS),
)
_PHILIPS_FRAME, _PHILIPS_FRAME_CREATOR = (0x2005, 0x140F), (0x2005, 0x0014)

_PIXEL_DATA, _FLOAT_PIXEL_DATA = b"\xe0\x7f\x10\x00", b"\xe0\x7f\x08\x00"
_VR_OF_PIXELS = (b"OB", b"OW", b"OF", b"UN")
_LARGEST_INFLATION = 64  # of a deflated data set; images shrink to a third, and a bomb is a thousand times its size
_UNDEFINED = 0xFFFFFFFF
_DEFLATED = b"1.2.840.10008.1.2.1.99"
_GROUPS_OF_BARE_FILES = (b"\x08\x00", b"\x02\x00")


@dataclass(frozen=True, slots=True)
class PixelPlace:
    """Where the uncompressed pixels of a file lie: the byte offset of the first, and how many bytes there are.

    `floating`: they are 32-bit floats (PS3.3 C.7.6.24).
    """

    offset: int
    length: int
    floating: bool = False


def is_dicom(path: Path) -> bool:
    """Whether the file has DICOM's marker (PS3.10 7.1), or starts like a DICOM data set that lost it.

    DICOMDIR, which holds no image, does not count. Raises `UnreadableImage` for a file that cannot be opened: it may
    be a slice.
    """
    if path.name.upper() == "DICOMDIR":
        return False
    try:
        with path.open("rb") as stream:
            start = stream.read(132)
    except OSError as error:
        raise UnreadableImage("the file cannot be opened", got=error.strerror, path=path) from error
    return start[128:] == b"DICM" or _starts_bare(start)


def _starts_bare(start: bytes) -> bool:
    """Some archives export files without preamble; their first element is of group 0008 or 0002, low and short."""
    if len(start) < 16 or start[:2] not in _GROUPS_OF_BARE_FILES:
        return False
    element, vr = int.from_bytes(start[2:4], "little"), start[4:6]
    explicit = vr in (b"UL", b"CS", b"UI", b"SH", b"DA", b"OB")
    implicit = int.from_bytes(start[4:8], "little") <= 64
    return element <= 0x18 and (explicit or implicit)


@contextmanager
def quiet() -> Iterator[None]:
    """pydicom warns about harmless departures from the standard; what matters is checked and refused by the readers."""
    from pydicom import config

    before = config.settings.reading_validation_mode
    config.settings.reading_validation_mode = config.IGNORE
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        config.settings.reading_validation_mode = before


# Tags are made once: pydicom takes half as long to turn a keyword into one as to read an element.
@cache
def _tag(keyword: str | tuple[int, int]) -> BaseTag:
    from pydicom.tag import Tag

    return Tag(keyword)


@cache
def _wanted_tags() -> list[Any]:
    return [_tag(keyword) for keyword in (*_KEYWORDS, *_PRIVATE)]


def read_header(path: Path) -> tuple[Dataset, PixelPlace | None]:
    """The elements that this package uses, and where uncompressed pixels lie (None: compressed, deflated, or none).

    Raises `UnreadableImage` for a file that is no DICOM, damaged, or whose header is cut off.
    """
    import pydicom

    try:
        with path.open("rb") as stream:
            bare = _starts_bare(stream.read(132))
            stream.seek(0)
            _check_inflation(stream)
            stream.seek(0)
            dataset = pydicom.dcmread(stream, stop_before_pixels=True, specific_tags=_wanted_tags(), force=bare)
            place = _pixel_place(stream, dataset)
    except FileNotFoundError as error:
        raise UnreadableImage("there is no such file", path=path) from error
    # A damaged header ends in almost any exception inside pydicom.
    except Exception as error:
        raise UnreadableImage("not a readable DICOM file", got=_short(error), path=path) from error
    _check_whole(dataset, path)
    return dataset, place


def _check_inflation(stream: BinaryIO) -> None:
    """A deflated data set of zeros grows a thousandfold: what pydicom would inflate in memory is counted first."""
    start = stream.read(1024)
    if _DEFLATED not in start:
        return
    # PS3.10 7.1: the group's length comes first, so the data set starts where it says.
    stream.seek(144 + int.from_bytes(start[140:144], "little"))
    packed = stream.read()
    inflater, left = zlib.decompressobj(-zlib.MAX_WBITS), _LARGEST_INFLATION * len(packed) + 2**20
    while packed and left > 0 and not inflater.eof:
        left -= len(inflater.decompress(packed, 2**20))
        packed = inflater.unconsumed_tail
    if left <= 0:
        raise ValueError(f"the deflated data set is more than {_LARGEST_INFLATION} times its size")


def _short(error: Exception) -> str:
    # pydicom's messages can quote whole elements.
    return str(error)[:200] or type(error).__name__


def _check_whole(dataset: Dataset, path: Path) -> None:
    # pydicom takes the end of a truncated file for the end of the header.
    meta = getattr(dataset, "file_meta", None)
    claimed = None if meta is None else first_value(meta, "MediaStorageSOPClassUID")
    claimed = claimed or first_value(dataset, "SOPClassUID")
    if claimed is not None and _name_of(claimed).endswith("Image Storage") and not first_value(dataset, "Rows"):
        raise UnreadableImage("the DICOM header is cut off or has no Rows", path=path, remedy="Fetch the file again.")


def _name_of(uid: object) -> str:
    from pydicom.uid import UID

    return str(UID(str(uid)).name)


def _pixel_place(stream: BinaryIO, dataset: Dataset) -> PixelPlace | None:
    """pydicom leaves the stream at the pixel data's tag."""
    syntax = dataset.file_meta.get("TransferSyntaxUID") if hasattr(dataset, "file_meta") else None
    if syntax is not None and (syntax.is_compressed or syntax.is_deflated or not syntax.is_little_endian):
        return None
    tag = stream.read(4)
    if tag not in (_PIXEL_DATA, _FLOAT_PIXEL_DATA):
        return None
    explicit = not dataset.original_encoding[0]
    head = stream.read(8 if explicit else 4)
    length = int.from_bytes(head[-4:], "little")
    if len(head) not in (4, 8) or length == _UNDEFINED or (explicit and head[:2] not in _VR_OF_PIXELS):
        return None
    return PixelPlace(stream.tell(), length, tag == _FLOAT_PIXEL_DATA)


def first_value(dataset: Dataset, keyword: str | tuple[int, int]) -> Any:
    """The element's value, or None where it is missing, empty, or not readable as its type.

    A value that cannot be understood is treated like none: what needs it refuses the file by name.
    """
    try:
        tag = _tag(keyword)
        # Most of what is asked for is not there, and pydicom's own way of finding that out is slow.
        value = dataset[tag].value if tag in dataset.keys() else None  # noqa: SIM118
    # Values are parsed when they are asked for, and damaged ones end in almost any exception.
    except Exception:
        return None
    if value is None or isinstance(value, (int, float)):
        return value
    return None if value == "" or value == [] or value == b"" else value


def text(dataset: Dataset, keyword: str | tuple[int, int]) -> str:
    """The element as text without padding; "" where there is none."""
    value = first_value(dataset, keyword)
    return "" if value is None else str(value).strip("\0 ")


def number(dataset: Dataset, keyword: str | tuple[int, int]) -> float | None:
    """The element's first number, or None where there is none that is finite."""
    value = first_value(dataset, keyword)
    first = value[0] if is_multi(value) else value
    try:
        found = float("nan") if first is None else float(first)
    except (TypeError, ValueError, OverflowError):
        return None
    return found if isfinite(found) else None


def private_number(dataset: Dataset, tag: tuple[int, int]) -> float | None:
    """The first number of a private element, in whichever of the group's first two blocks belongs to its vendor.

    `tag`: as in block 10. What is missed in other blocks is refused, or said to be missing.
    """
    group, element = tag
    for block in _BLOCKS:
        if text(dataset, (group, block)) == _CREATOR_OF[tag]:
            return number(dataset, (group, (block << 8) + (element & 0xFF)))
    return None


def philips_frame(group: Dataset) -> Dataset | None:
    """What Philips says of a frame beside the standard's macros: an image's header of old, private elements included.

    `group`: the frame's item of the Per-Frame Functional Groups Sequence.
    """
    if text(group, _PHILIPS_FRAME_CREATOR) != "Philips MR Imaging DD 005":
        return None
    return next(iter(items(group, _PHILIPS_FRAME)), None)


def is_damaged(dataset: Dataset, keyword: str) -> bool:
    """Whether the element is there and not empty, but not one finite number."""
    tag, value = _tag(keyword), first_value(dataset, keyword)
    if isinstance(value, (int, float)):
        return not isfinite(value)
    if tag not in dataset or (isinstance(raw := dataset.get_item(tag).value, (bytes, str)) and not raw.strip()):
        return False
    return number(dataset, keyword) is None or is_multi(value)


def is_multi(value: object) -> bool:
    from pydicom.multival import MultiValue

    # Binary numbers come as plain lists.
    return isinstance(value, (list, MultiValue))


def values(dataset: Dataset, keyword: str) -> list[Any]:
    """All values of the element; none where there is none."""
    value = first_value(dataset, keyword)
    return [] if value is None else list(value) if is_multi(value) else [value]


def items(dataset: Dataset, keyword: str | tuple[int, int]) -> list[Dataset]:
    """The items of a sequence; none where there is none, or the element is something else."""
    value = first_value(dataset, keyword)
    return list(value) if value is not None and dataset[keyword].VR == "SQ" else []


def finite(value: object) -> float | None:
    """The value as a number; None where it is none, or none that is finite."""
    try:
        found = float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError, OverflowError):
        return None
    return found if isfinite(found) else None
