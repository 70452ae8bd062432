"""What makes two images of one place two measurements, or may tell volumes of one series apart."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from delineate.formats.dicom.headers import (
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

_COMPLEX = {"M": "magnitude", "P": "phase", "R": "real", "I": "imaginary"}
_COMPLEX |= {word.upper(): word for word in _COMPLEX.values()}
_B_VALUE_FLAG = 100_000  # GE adds multiples of 1e9 to say how the value was made


def contrast_of(dataset: Dataset, value: Lookup) -> Iterator[tuple[str, str]]:
    echo = value("EchoNumbers")
    if echo is not None and not is_multi(echo):
        yield "echo", str(echo)
    b_value = _b_value(dataset, value)
    if b_value is not None:
        yield "b", f"{b_value:g}"
    time_point = value("TemporalPositionIndex") or value("TemporalPositionIdentifier")
    if time_point is not None:
        yield "time point", str(time_point)
    component = _component(dataset, value)
    if component is not None:
        yield "component", component


def _b_value(dataset: Dataset, value: Lookup) -> float | None:
    standard = finite(value("DiffusionBValue"))
    if standard is not None:
        return standard
    private = next((b for b in (private_number(dataset, tag) for tag in PRIVATE_B_VALUES) if b is not None), None)
    return None if private is None else private % _B_VALUE_FLAG


def _component(dataset: Dataset, value: Lookup) -> str | None:
    if text(dataset, "Modality") != "MR":
        return None
    said = value("ComplexImageComponent")
    if said is not None:
        return str(said).lower()
    words = [str(word) for word in values(dataset, "ImageType")][2:]
    return next((_COMPLEX[word] for word in words if word in _COMPLEX), None)


def hints_of(dataset: Dataset, value: Lookup) -> Iterator[tuple[str, str]]:
    for name, keyword in (
        ("image type", "ImageType"),
        ("stack", "StackID"),
        ("acquisition", "AcquisitionNumber"),
        ("echo time", "EchoTime"),
        ("effective echo time", "EffectiveEchoTime"),
        ("trigger time", "TriggerTime"),
        ("cardiac phase", "NominalPercentageOfCardiacPhase"),
        ("gradient", "DiffusionGradientOrientation"),
        ("acquisition time", "AcquisitionTime"),
        ("frame time", "FrameAcquisitionDateTime"),
    ):
        found = value(keyword)
        if found is None and keyword == "ImageType":
            found = first_value(dataset, keyword)
        if found is not None:
            yield name, "\\".join(str(part).strip() for part in found) if is_multi(found) else _plain(found)


def _plain(value: object) -> str:
    return re.sub(r"(?<=\d)\.0+$", "", str(value).strip())
