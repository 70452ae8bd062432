"""The slices in a DICOM header: a single image, or the frames of an enhanced one (PS3.3 C.7.6.2, C.7.6.16)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from delineate.errors import InconsistentSeries
from delineate.formats.dicom.headers import (
    PHILIPS_SCALE_SLOPE,
    PixelPlace,
    finite,
    first_value,
    is_damaged,
    items,
    number,
    philips_frame,
    private_number,
    text,
    values,
)
from delineate.formats.dicom.measurements import Lookup, contrast_of, hints_of
from delineate.formats.dicom.slices import COSINE_TOLERANCE, Slice, Storage, finite_numbers
from delineate.formats.dicom.suv import Uptake, uptake_of
from delineate.geometry import FloatArray
from delineate.volume import Kind

if TYPE_CHECKING:
    from pydicom import Dataset

MOST_PIXELS = 2**16
"""Rows and columns are 16-bit numbers."""

HOUNSFIELD_UNITS = ("", "HU_MOD", "US")
"""Rescale types of CT that may pass for HU: none or HU itself, HU of multi-energy images, and what is not specified."""

_PREDICTIVE_SYNTAXES = tuple(f"1.2.840.10008.1.2.4.{n}" for n in range(50, 210))
_SMALLEST_MM, _LARGEST_MM = 1e-5, 1e5
_ONE_NUMBER = (
    "BitsAllocated",
    "BitsStored",
    "DiffusionBValue",
    "HighBit",
    "NumberOfFrames",
    "PixelRepresentation",
    "RescaleIntercept",
    "RescaleSlope",
    "TemporalPositionIdentifier",
)


def slices_of(dataset: Dataset, path: Path, place: PixelPlace | None) -> Iterator[Slice]:
    _check_readable(dataset, path)
    frames = int(number(dataset, "NumberOfFrames") or 1)
    groups = items(dataset, "PerFrameFunctionalGroupsSequence")
    if not groups:
        if frames > 1:
            raise InconsistentSeries("a multi-frame image does not say where its frames are", path=path)
        yield _slice(dataset, path, place, _Frame(lambda keyword: first_value(dataset, keyword), dataset))
        return
    if frames != len(groups):
        raise InconsistentSeries("frames and their descriptions differ", expected=frames, got=len(groups), path=path)
    shared: dict[str, Any] = {}
    for item in items(dataset, "SharedFunctionalGroupsSequence"):
        shared |= _macro_values(item, path)
    # They belong into a macro; some writers leave them where single images have them.
    outside = {keyword: first_value(dataset, keyword) for keyword in ("RescaleSlope", "RescaleIntercept")}
    if shared.keys().isdisjoint(outside):
        shared |= {keyword: value for keyword, value in outside.items() if value is not None}
    for n, item in enumerate(groups):
        found = shared | _macro_values(item, path)
        yield _slice(dataset, path, place, _Frame(found.get, philips_frame(item) or dataset, n, frames))


@dataclass(frozen=True, slots=True)
class _Frame:
    """One image of a file: `value` looks its values up, `private` holds its private elements."""

    value: Lookup
    private: Dataset
    number: int = 0
    count: int = 1


def _macro_values(group: Dataset, path: Path) -> dict[str, Any]:
    """Values by keyword of a frame's (or the shared) functional group macros, and of those that they consist of."""
    found: dict[str, Any] = {}
    for sequence in group:
        if sequence.VR == "SQ" and not sequence.tag.is_private and sequence.value:
            macro = sequence.value[0]
            _check_readable(macro, path)
            for part in (macro, *items(macro, "DiffusionGradientDirectionSequence")[:1]):
                for element in part:
                    value = first_value(part, element.keyword) if element.keyword else None
                    if value is not None:
                        found.setdefault(element.keyword, value)
    return found


def _slice(dataset: Dataset, path: Path, place: PixelPlace | None, frame: _Frame) -> Slice:
    value, modality = frame.value, text(dataset, "Modality")
    if not modality:
        raise InconsistentSeries("an image that does not say its Modality", expected="CT, MR or PT", path=path)
    directions = _numbers(value, "ImageOrientationPatient", 6, path).reshape(2, 3)
    if np.abs(directions @ directions.T - np.eye(2)).max() > 2 * COSINE_TOLERANCE:
        raise InconsistentSeries(
            "ImageOrientationPatient is no pair of perpendicular unit vectors", got=directions.tolist(), path=path
        )
    row_mm, column_mm = _numbers(value, "PixelSpacing", 2, path).tolist()
    if min(row_mm, column_mm) <= 0 or not all(_SMALLEST_MM < mm < _LARGEST_MM for mm in (row_mm, column_mm)):
        raise InconsistentSeries("PixelSpacing must be positive and possible", got=(row_mm, column_mm), path=path)
    if (value("RescaleSlope") is None) != (value("RescaleIntercept") is None):
        raise InconsistentSeries("only one of RescaleSlope and RescaleIntercept", expected="both or none", path=path)
    if first_value(dataset, "ModalityLUTSequence") is not None:
        raise InconsistentSeries(
            "values scaled by a look-up table are not supported", expected="rescale slope and intercept", path=path
        )
    uptake = uptake_of(dataset) if modality == "PT" else None
    x, y, z = _numbers(value, "ImagePositionPatient", 3, path).tolist()
    if max(abs(x), abs(y), abs(z)) > _LARGEST_MM:
        raise InconsistentSeries("an impossible ImagePositionPatient", got=(x, y, z), path=path)
    instance_number, padding = number(dataset, "InstanceNumber"), _padding(dataset)
    # HU is what CT has where nothing is said, and copies of one image may or may not say it.
    said = str(value("RescaleType") or "").strip().upper()
    units = said if modality == "CT" and said != "HU" else ""
    return Slice(
        path=path,
        frame=frame.number,
        frames=frame.count,
        instance_uid=text(dataset, "SOPInstanceUID"),
        series_uid=text(dataset, "SeriesInstanceUID"),
        study_uid=text(dataset, "StudyInstanceUID"),
        frame_of_reference_uid=text(dataset, "FrameOfReferenceUID"),
        kind=_kind(modality, uptake, units),
        position_mm=(x, y, z),
        row_direction=tuple(directions[0].tolist()),
        column_direction=tuple(directions[1].tolist()),
        spacing_mm=(row_mm, column_mm),
        thickness_mm=finite(value("SliceThickness")),
        said_step_mm=finite(value("SpacingBetweenSlices")),
        storage=_with_padding(_storage(dataset, path, place), padding),
        slope=_scaling(value, "RescaleSlope", 1.0, path),
        intercept=_scaling(value, "RescaleIntercept", 0.0, path),
        rescaled=value("RescaleSlope") is not None,
        units=units,
        scale_slope=private_number(frame.private, PHILIPS_SCALE_SLOPE) if modality == "MR" else None,
        padding=padding,
        inverted=text(dataset, "PhotometricInterpretation") == "MONOCHROME1",
        instance_number=frame.number if frame.count > 1 else None if instance_number is None else int(instance_number),
        counted=_counted(dataset) if frame.count == 1 else None,
        contrast=tuple(contrast_of(dataset, value, frame.private)),
        hints=tuple(hints_of(dataset, value, frames=frame.count)),
        uptake=uptake,
    )


def _numbers(value: Lookup, keyword: str, count: int, path: Path) -> FloatArray:
    found = value(keyword)
    array = finite_numbers(found, count)
    if array is None:
        raise InconsistentSeries(
            f"a slice without a usable {keyword}",
            expected=f"{count} numbers",
            got=found,
            path=path,
            remedy="Export the series again from the scanner or the archive.",
        )
    return array


def _check_readable(dataset: Dataset, path: Path) -> None:
    """A damaged value is none to what reads it, and these have a meaning where they are missing."""
    for keyword in _ONE_NUMBER:
        if is_damaged(dataset, keyword):
            raise InconsistentSeries(f"an unusable {keyword}", expected="one number", path=path)


def _scaling(value: Lookup, keyword: str, default: float, path: Path) -> float:
    if value(keyword) is None:
        return default
    found = finite(value(keyword))
    if found is None or (keyword == "RescaleSlope" and found == 0):
        raise InconsistentSeries(f"an unusable {keyword}", expected="a number", got=value(keyword), path=path)
    return found


def _storage(dataset: Dataset, path: Path, place: PixelPlace | None) -> Storage:
    from pydicom.uid import JPEG2000, JPEGLSNearLossless, JPEGTransferSyntaxes

    def whole(keyword: str, default: int) -> int:
        found = number(dataset, keyword)
        return default if found is None else int(found)

    floating = place is not None and place.floating
    allocated, representation = whole("BitsAllocated", 0), whole("PixelRepresentation", 0 if floating else -1)
    stored = whole("BitsStored", allocated if floating else 0)
    high_bit = whole("HighBit", stored - 1)
    rows, columns = whole("Rows", 0), whole("Columns", 0)
    photometric = text(dataset, "PhotometricInterpretation") or "MONOCHROME2"
    meta = getattr(dataset, "file_meta", None)
    syntax = str(meta.get("TransferSyntaxUID") or "") if meta is not None else ""
    sound = 1 <= stored <= high_bit + 1 <= allocated and representation in (0, 1)
    # Where a codec put bits that are not the lowest is nowhere said; run lengths are of whole bytes (PS3.5 A.4, G).
    sound &= high_bit == stored - 1 or syntax not in _PREDICTIVE_SYNTAXES
    if allocated not in (8, 16, 32) or not sound or photometric not in ("MONOCHROME1", "MONOCHROME2"):
        got = f"{stored} of {allocated} bits up to {high_bit}, representation {representation}, {photometric}"
        raise InconsistentSeries("pixels of an unsupported kind", expected="8, 16 or 32 bits", got=got, path=path)
    if not (0 < rows < MOST_PIXELS and 0 < columns < MOST_PIXELS):
        raise InconsistentSeries("an impossible image size", got=f"{rows} x {columns}", path=path)
    # JPEG 2000 and JPEG-LS of these syntaxes may be lossless in fact; only the attribute can say so.
    lossless_jpeg = ("1.2.840.10008.1.2.4.57", "1.2.840.10008.1.2.4.70")
    lossy_syntax = syntax in (*JPEGTransferSyntaxes, JPEGLSNearLossless) and syntax not in lossless_jpeg
    said = text(dataset, "LossyImageCompression")
    return Storage(
        rows=rows,
        columns=columns,
        bits_allocated=allocated,
        bits_stored=stored,
        high_bit=high_bit,
        signed=representation == 1,
        floating=floating,
        place=place,
        syntax=syntax,
        lossy=said == "01" or lossy_syntax or (syntax == JPEG2000 and said != "00"),
    )


def _counted(dataset: Dataset) -> int | None:
    """Images that there should be in all: of an acquisition (a derived image may quote that), or a PET (C.8.9.1)."""
    keyword = "NumberOfSlices" if text(dataset, "Modality") == "PT" else "ImagesInAcquisition"
    original = next(iter(values(dataset, "ImageType")), None) == "ORIGINAL"
    count = number(dataset, keyword) if original or keyword == "NumberOfSlices" else None
    return int(count) if count is not None and count > 0 else None


def _padding(dataset: Dataset) -> tuple[float, float] | None:
    """The range of stored values that mean "no pixel" (PS3.3 C.7.5.1.1.2)."""
    value, limit = number(dataset, "PixelPaddingValue"), number(dataset, "PixelPaddingRangeLimit")
    if value is None:
        return None
    ends = [_as_stored(dataset, end) for end in (value, value if limit is None else limit)]
    return min(ends), max(ends)


def _with_padding(storage: Storage, padding: tuple[float, float] | None) -> Storage:
    """Padding beyond the stored bits would turn into tissue if the bits above them were cleared."""
    low = -(2.0 ** (storage.bits_stored - 1)) if storage.signed else 0.0
    if padding is None or storage.floating or (low <= padding[0] and padding[1] < low + 2.0**storage.bits_stored):
        return storage
    allocated = storage.bits_allocated
    fits = storage.place is not None and storage.high_bit == storage.bits_stored - 1 < allocated - 1
    return replace(storage, bits_stored=allocated, high_bit=allocated - 1, widened=True) if fits else storage


def _as_stored(dataset: Dataset, value: float) -> float:
    """A padding value that was written with the other sign than the pixels have: its bits are what counts."""
    words = 2.0 ** (number(dataset, "BitsAllocated") or 16)
    if number(dataset, "PixelRepresentation") == 1:
        return value - words if value >= words / 2 else value
    return value + words if value < 0 else value


def _kind(modality: str, uptake: Uptake | None, units: str) -> Kind:
    if modality == "PT":
        # Kind.PET means SUV; activity in Bq/ml must not pass for it.
        return Kind.PET if uptake is not None and uptake.factor is not None else Kind.OTHER
    if modality == "CT" and units not in HOUNSFIELD_UNITS:
        # Effective atomic numbers, electron densities and iodine are CT images too, and must not pass for HU.
        return Kind.OTHER
    return {"CT": Kind.CT, "MR": Kind.MR}.get(modality, Kind.OTHER)
