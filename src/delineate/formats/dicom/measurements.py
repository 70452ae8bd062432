"""What makes two images of one place two measurements, or may tell volumes of one series apart."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from delineate.formats.dicom.headers import (
    GE_COMPONENT,
    PRIVATE_B_VALUES,
    finite,
    first_value,
    is_multi,
    private_number,
    text,
    values,
)

if TYPE_CHECKING:
    from pydicom import Dataset

Lookup = Callable[[str], Any]
"""The value of a keyword for one image: of its file, or of its frame and the frames' shared part."""

MEASURED = (
    "image type",
    "kVp",
    "kernel",
    "thickness",
    "echo time",
    "effective echo time",
    "inversion time",
    "flip angle",
    "gradient",
)
"""Hints that say how an image was measured or made; others say when, or count."""

REMARKS = ("description", "comment", "file")
"""Hints that two copies of one image may differ in."""

_COMPLEX = {"M": "magnitude", "P": "phase", "R": "real", "I": "imaginary"}
_COMPLEX |= {word.upper(): word for word in _COMPLEX.values()}
_GE_COMPONENTS = {0.0: "magnitude", 1.0: "phase", 2.0: "real", 3.0: "imaginary"}
_B_VALUE_FLAG = 100_000  # GE adds multiples of 1e9 to say how the value was made


def contrast_of(dataset: Dataset, value: Lookup, private: Dataset) -> Iterator[tuple[str, str]]:
    echo = value("EchoNumbers")
    if echo is not None and not is_multi(echo):
        yield "echo", str(echo)
    b_value = _b_value(value, private) if text(dataset, "Modality") == "MR" else None
    if b_value is not None:
        yield "b", f"{b_value:g}"
    time_point = value("TemporalPositionIndex") or value("TemporalPositionIdentifier")
    if time_point is not None:
        yield "time point", str(time_point)
    component = _component(dataset, value)
    if component is not None:
        yield "component", component


def _b_value(value: Lookup, private: Dataset) -> float | None:
    standard = finite(value("DiffusionBValue"))
    if standard is not None:
        return standard
    found = next((b for b in (private_number(private, tag) for tag in PRIVATE_B_VALUES) if b is not None), None)
    return None if found is None else found % _B_VALUE_FLAG


def _component(dataset: Dataset, value: Lookup) -> str | None:
    if text(dataset, "Modality") != "MR":
        return None
    said = value("ComplexImageComponent")
    if said is not None:
        return str(said).lower()
    words = [str(word) for word in values(dataset, "ImageType")][2:]
    known = next((_COMPLEX[word] for word in words if word in _COMPLEX), None)
    if known is not None:
        return known
    ge = private_number(dataset, GE_COMPONENT)
    return None if ge is None else _GE_COMPONENTS.get(ge)


_HINTS = (
    ("image type", "FrameType"),
    ("image type", "ImageType"),
    ("stack", "StackID"),
    ("kVp", "KVP"),
    ("kernel", "ConvolutionKernel"),
    ("thickness", "SliceThickness"),
    ("acquisition", "AcquisitionNumber"),
    ("acquisition", "FrameAcquisitionNumber"),
    ("echo time", "EchoTime"),
    ("effective echo time", "EffectiveEchoTime"),
    ("inversion time", "InversionTime"),
    ("flip angle", "FlipAngle"),
    ("trigger time", "TriggerTime"),
    ("trigger time", "NominalCardiacTriggerDelayTime"),
    ("cardiac phase", "NominalPercentageOfCardiacPhase"),
    ("gradient", "DiffusionGradientOrientation"),
    ("description", "SeriesDescription"),
    ("comment", "ImageComments"),
    ("acquisition time", "AcquisitionTime"),
    ("frame time", "FrameAcquisitionDateTime"),
)


def hints_of(dataset: Dataset, value: Lookup, *, frames: int) -> Iterator[tuple[str, str]]:
    """What may tell volumes of one series apart where their positions repeat, most telling first.

    `frames`: how many images the file holds; of several, one file may be one volume.
    """
    known: dict[str, str] = {}
    for name, keyword in _HINTS:
        found = value(keyword)
        if found is None and keyword == "ImageType":
            found = first_value(dataset, keyword)
        if found is not None and name not in known:
            known[name] = "\\".join(_plain(part) for part in found) if is_multi(found) else _plain(found)
    yield from known.items()
    if frames > 1:
        yield "file", text(dataset, "InstanceNumber") or text(dataset, "SOPInstanceUID")


def _plain(value: object) -> str:
    return re.sub(r"(?<=\d)\.0+$", "", str(value).strip())
