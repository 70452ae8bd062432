"""Numbers from a DICOM structured report as PS3.16 TID 1500 has it, ours or another's; needs pydicom alone."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from delineate.errors import DelineateError, UnreadableImage
from delineate.formats.dicom.headers import number, quiet, text
from delineate.formats.dicom_results.seg_frames import items
from delineate.labels import Code

if TYPE_CHECKING:
    from pydicom import Dataset

_GROUP, _GROUPS = ("125007", "DCM"), ("126010", "DCM")
_TRACKING_ID, _TRACKING_UID = ("112039", "DCM"), ("112040", "DCM")
_SEGMENT, _FINDING, _SITE = ("121191", "DCM"), ("121071", "DCM"), ("363698007", "SCT")
_DERIVATION, _SIDE = ("121401", "DCM"), ("272741003", "SCT")
_UPWARD, _DOWNWARD = ("371886008", "SCT"), ("371885007", "SCT")


@dataclass(frozen=True, slots=True)
class Measured:
    """One number as a report says it, with what it was measured on; "" or None where the report does not say.

    `other`, `other_side`: the second structure of a distance, a share or a comparison. `upward`, `downward`: its
    uncertainty.
    """

    tracking_id: str
    tracking_uid: str
    segmentation_uid: str
    segment_number: int | None
    finding: Code | None
    site: Code | None
    quantity: Code
    value: float
    unit: Code
    derivation: Code | None = None
    other: Code | None = None
    other_side: Code | None = None
    upward: float | None = None
    downward: float | None = None


def read_sr(path: Path) -> tuple[Measured, ...]:
    """The numbers of a TID 1500 report in its order; none if it has no measurement groups.

    Raises `UnreadableImage` for a file that is no sound structured report.
    """
    import pydicom

    with quiet():
        try:
            dataset = pydicom.dcmread(path)
            if "ContentSequence" not in dataset:
                modality = text(dataset, "Modality") or "no modality"
                raise UnreadableImage("not a structured report", expected="SR", got=modality, path=path)
            return tuple(_numbers(dataset))
        except FileNotFoundError as error:
            raise UnreadableImage("there is no such file", path=path) from error
        except DelineateError:
            raise
        # Damaged data ends in almost any exception inside pydicom.
        except Exception as error:
            raise UnreadableImage("not a sound structured report", got=str(error)[:200], path=path) from error


def _numbers(dataset: Dataset) -> Iterator[Measured]:
    for groups in _children(dataset, _GROUPS):
        for group in _children(groups, _GROUP):
            segment = next(
                (s for item in _children(group, _SEGMENT) for s in items(item, "ReferencedSOPSequence")), None
            )
            segment_number = None if segment is None else number(segment, "ReferencedSegmentNumber")
            for item in items(group, "ContentSequence"):
                measured = next(iter(items(item, "MeasuredValueSequence")), None)
                quantity = _code(item, "ConceptNameCodeSequence")
                value, unit = _value(measured)
                if text(item, "ValueType") == "NUM" and quantity is not None and value is not None and unit is not None:
                    yield Measured(
                        tracking_id=_said(group, _TRACKING_ID, "TextValue"),
                        tracking_uid=_said(group, _TRACKING_UID, "UID"),
                        segmentation_uid="" if segment is None else text(segment, "ReferencedSOPInstanceUID"),
                        segment_number=None if segment_number is None else int(segment_number),
                        finding=_concept(group, _FINDING),
                        site=_concept(group, _SITE),
                        quantity=quantity,
                        value=value,
                        unit=unit,
                        derivation=_concept(item, _DERIVATION),
                        other=_concept(item, _SITE),
                        other_side=next((_concept(site, _SIDE) for site in _children(item, _SITE)), None),
                        upward=_uncertain(item, _UPWARD),
                        downward=_uncertain(item, _DOWNWARD),
                    )


def _uncertain(item: Dataset, name: tuple[str, str]) -> float | None:
    found = (next(iter(items(child, "MeasuredValueSequence")), None) for child in _children(item, name))
    return next((_value(measured)[0] for measured in found), None)


def _value(measured: Dataset | None) -> tuple[float | None, Code | None]:
    if measured is None:
        return None, None
    exact = number(measured, "FloatingPointValue")
    value = number(measured, "NumericValue") if exact is None else exact
    return (value if value is not None and np.isfinite(value) else None), _code(
        measured, "MeasurementUnitsCodeSequence"
    )


def _children(item: Dataset, name: tuple[str, str]) -> Iterator[Dataset]:
    for child in items(item, "ContentSequence"):
        code = _code(child, "ConceptNameCodeSequence")
        if code is not None and (code.value, code.scheme) == name:
            yield child


def _said(group: Dataset, name: tuple[str, str], keyword: str) -> str:
    return next((text(child, keyword) for child in _children(group, name)), "")


def _concept(group: Dataset, name: tuple[str, str]) -> Code | None:
    return next((_code(child, "ConceptCodeSequence") for child in _children(group, name)), None)


def _code(item: Dataset, keyword: str) -> Code | None:
    found = items(item, keyword)
    value = text(found[0], "CodeValue") if found else ""
    return Code(value, text(found[0], "CodingSchemeDesignator"), text(found[0], "CodeMeaning")) if value else None
