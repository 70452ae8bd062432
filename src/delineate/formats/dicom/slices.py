"""What a DICOM file holds, as plain values: the slices of a scan, or the reason why there are none.

A slice is a single-frame instance or one frame of an enhanced multi-frame one (DICOM PS3.3 C.7.6.2, C.7.6.16).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from delineate.errors import DelineateError, InconsistentSeries, UnreadableImage
from delineate.formats.dicom.headers import (
    PHILIPS_SCALE_SLOPE,
    PRIVATE_B_VALUES,
    PixelPlace,
    first_value,
    is_damaged,
    is_multi,
    number,
    private_number,
    quiet,
    read_header,
    text,
)
from delineate.formats.dicom.suv import Uptake, uptake_of
from delineate.geometry import FloatArray
from delineate.volume import Kind

if TYPE_CHECKING:
    from pydicom import Dataset

SCAN_MODALITIES = ("CT", "MR", "PT")

COSINE_TOLERANCE = 5e-4
"""Direction cosines that differ by less are one orientation: 0.1 mm at 250 mm from the corner."""

MOST_PIXELS = 2**16
"""Rows and columns are 16-bit numbers."""

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

_COMPLEX = {"M": "magnitude", "P": "phase", "R": "real", "I": "imaginary"}
_COMPLEX |= {word.upper(): word for word in _COMPLEX.values()}
_B_VALUE_FLAG = 100_000  # GE adds multiples of 1e9 to say how the value was made


@dataclass(frozen=True, slots=True)
class SeriesFacts:
    """What an instance says about the series it belongs to. Empty texts are missing ones; `issuer` is the ID's."""

    patient_id: str
    study_uid: str
    study_date: str
    series_uid: str
    number: int | None
    modality: str
    description: str
    manufacturer: str
    sop_class: str
    issuer: str = ""


@dataclass(frozen=True, slots=True)
class Storage:
    """How the pixels of an image are stored: PS3.3 C.7.6.3.1. `place` is None where they must be decoded."""

    rows: int
    columns: int
    bits_allocated: int
    bits_stored: int
    high_bit: int
    signed: bool
    floating: bool
    place: PixelPlace | None
    syntax: str
    lossy: bool


@dataclass(frozen=True, slots=True)
class Slice:
    """Where one image lies, how its numbers are stored and scaled, and what sets it apart from others of its series.

    `row_direction` is the way along a row (the column index grows), `column_direction` down a column, both unit
    vectors in LPS; `position_mm` is the centre of the first pixel; `spacing_mm` is (between rows, between columns).
    `rescaled`: whether the file gives slope and intercept; without, they are 1 and 0.
    `contrast` holds what makes two images two measurements (echo, b-value, time point, component of a complex image);
    `hints` what may tell volumes of one series apart where positions repeat, most telling first.
    """

    path: Path
    frame: int
    frames: int
    instance_uid: str
    series_uid: str
    study_uid: str
    frame_of_reference_uid: str
    kind: Kind
    position_mm: tuple[float, float, float]
    row_direction: tuple[float, float, float]
    column_direction: tuple[float, float, float]
    spacing_mm: tuple[float, float]
    thickness_mm: float | None
    storage: Storage
    slope: float
    intercept: float
    rescaled: bool
    scale_slope: float | None
    padding: tuple[float, float] | None
    inverted: bool
    instance_number: int | None
    contrast: tuple[tuple[str, str], ...]
    hints: tuple[tuple[str, str], ...]
    uptake: Uptake | None

    @property
    def rows(self) -> int:
        return self.storage.rows

    @property
    def columns(self) -> int:
        return self.storage.columns

    @property
    def normal(self) -> FloatArray:
        normal: FloatArray = np.cross(self.row_direction, self.column_direction)
        return normal / np.linalg.norm(normal)

    @property
    def cosines(self) -> tuple[float, ...]:
        return (*self.row_direction, *self.column_direction)

    @property
    def name(self) -> str:
        return self.path.name if self.frames == 1 else f"{self.path.name} frame {self.frame + 1}"


@dataclass(frozen=True, slots=True)
class Instance:
    """One DICOM file: its slices, or `problem`, why it holds none of a scan.

    `expected`: whether that is so by the file's nature (a report, a localizer) and no fault. `refers_to`: UIDs of the
    series that a segmentation or structure set was made on, `frames_of_reference`: where it lies.
    """

    path: Path
    facts: SeriesFacts
    instance_uid: str
    slices: tuple[Slice, ...]
    problem: str | None = None
    expected: bool = False
    refers_to: tuple[str, ...] = ()
    frames_of_reference: tuple[str, ...] = ()


def read_instance(path: Path) -> Instance:
    """What a DICOM file holds, from its header alone.

    Raises `UnreadableImage` for a file whose header cannot be read: passing it over would make a slice missing.
    """
    with quiet():
        dataset, place = read_header(path)
        try:
            return instance_of(dataset, path, place)
        except DelineateError:
            raise
        # Elements are parsed when they are asked for, and damaged ones end in almost any exception.
        except Exception as error:
            got = str(error)[:200] or type(error).__name__
            raise UnreadableImage("the DICOM header is damaged", got=got, path=path) from error


def instance_of(dataset: Dataset, path: Path, place: PixelPlace | None = None) -> Instance:
    """What a header says. `place`: see `read_header`."""
    facts, uid = _facts(dataset), text(dataset, "SOPInstanceUID")
    other = _other_object(dataset, facts)
    if other is not None:
        return Instance(
            path,
            facts,
            uid,
            (),
            other,
            expected=True,
            refers_to=tuple(_references(dataset)),
            frames_of_reference=tuple(_frames_of_reference(dataset)),
        )
    try:
        return Instance(path, facts, uid, tuple(_slices(dataset, path, place)))
    except InconsistentSeries as error:
        return Instance(path, facts, uid, (), str(error))


def _facts(dataset: Dataset) -> SeriesFacts:
    series_number = number(dataset, "SeriesNumber")
    return SeriesFacts(
        patient_id=text(dataset, "PatientID"),
        study_uid=text(dataset, "StudyInstanceUID"),
        study_date=text(dataset, "StudyDate"),
        series_uid=text(dataset, "SeriesInstanceUID"),
        number=None if series_number is None else int(series_number),
        modality=text(dataset, "Modality"),
        description=text(dataset, "SeriesDescription"),
        manufacturer=text(dataset, "Manufacturer"),
        sop_class=text(dataset, "SOPClassUID"),
        issuer=text(dataset, "IssuerOfPatientID"),
    )


def _other_object(dataset: Dataset, facts: SeriesFacts) -> str | None:
    """What the file is, where it is not meant to be part of a volume."""
    image_type = [str(word).strip() for word in _many(dataset, "ImageType")]
    samples = number(dataset, "SamplesPerPixel") or 1
    photometric = text(dataset, "PhotometricInterpretation")
    if facts.modality in ("SEG", "RTSTRUCT"):
        return f"labels, no scan: {facts.modality}"
    if not first_value(dataset, "Rows") or not first_value(dataset, "Columns"):
        return f"the file holds no image: {facts.modality or 'no modality'}"
    if facts.modality == "RTDOSE":
        return "no scan: RTDOSE"
    if "LOCALIZER" in image_type:
        return "a localizer"
    if "MOSAIC" in image_type:
        return "a Siemens mosaic: one image that tiles a whole volume; export it as single slices or multi-frame"
    if facts.modality and facts.modality not in SCAN_MODALITIES:
        return f"no CT, MR or PET: {facts.modality}"
    if samples != 1 or photometric.startswith(("RGB", "YBR", "PALETTE")):
        return f"not a greyscale image: {photometric}, {samples:g} sample(s) a pixel"
    if _sop_name(facts.sop_class).startswith("Secondary Capture"):
        return "a secondary capture"
    return None


def _sop_name(uid: str) -> str:
    from pydicom.uid import UID

    return str(UID(uid).name)


def _many(dataset: Dataset, keyword: str) -> list[Any]:
    value = first_value(dataset, keyword)
    return [] if value is None else list(value) if is_multi(value) else [value]


def _references(dataset: Dataset) -> Iterator[str]:
    """Series that a SEG, an SR or an RTSTRUCT names (PS3.3 C.8.20.2, C.17.2.1 and C.8.8.5)."""
    for study in (dataset, *_many_items(dataset, "CurrentRequestedProcedureEvidenceSequence")):
        for series in _many_items(study, "ReferencedSeriesSequence"):
            yield text(series, "SeriesInstanceUID")
    for frame in _many_items(dataset, "ReferencedFrameOfReferenceSequence"):
        for study in _many_items(frame, "RTReferencedStudySequence"):
            for series in _many_items(study, "RTReferencedSeriesSequence"):
                yield text(series, "SeriesInstanceUID")


def _frames_of_reference(dataset: Dataset) -> Iterator[str]:
    for item in (dataset, *_many_items(dataset, "ReferencedFrameOfReferenceSequence")):
        uid = text(item, "FrameOfReferenceUID")
        if uid:
            yield uid


def _many_items(dataset: Dataset, keyword: str) -> list[Dataset]:
    value = first_value(dataset, keyword)
    return list(value) if value is not None and dataset[keyword].VR == "SQ" else []


Lookup = Callable[[str], Any]


def _slices(dataset: Dataset, path: Path, place: PixelPlace | None) -> Iterator[Slice]:
    _check_readable(dataset, path)
    frames = int(number(dataset, "NumberOfFrames") or 1)
    groups = _many_items(dataset, "PerFrameFunctionalGroupsSequence")
    if not groups:
        if frames > 1:
            raise InconsistentSeries("a multi-frame image does not say where its frames are", path=path)
        yield _slice(dataset, path, place, value=lambda keyword: first_value(dataset, keyword))
        return
    if frames != len(groups):
        raise InconsistentSeries("frames and their descriptions differ", expected=frames, got=len(groups), path=path)
    shared: dict[str, Any] = {}
    for item in _many_items(dataset, "SharedFunctionalGroupsSequence"):
        shared |= _macro_values(item)
    for n, item in enumerate(groups):
        found = shared | _macro_values(item)
        yield _slice(dataset, path, place, value=found.get, frame=n, frames=frames)


def _macro_values(group: Dataset) -> dict[str, Any]:
    """Values by keyword of a frame's (or the shared) functional group macros, one level down."""
    values: dict[str, Any] = {}
    for sequence in group:
        if sequence.VR == "SQ" and not sequence.tag.is_private and sequence.value:
            macro = sequence.value[0]
            for element in macro:
                if element.keyword:
                    value = first_value(macro, element.keyword)
                    if value is not None:
                        values.setdefault(element.keyword, value)
    return values


def _slice(
    dataset: Dataset, path: Path, place: PixelPlace | None, *, value: Lookup, frame: int = 0, frames: int = 1
) -> Slice:
    if not text(dataset, "Modality"):
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
    uptake = uptake_of(dataset) if text(dataset, "Modality") == "PT" else None
    x, y, z = _numbers(value, "ImagePositionPatient", 3, path).tolist()
    if max(abs(x), abs(y), abs(z)) > _LARGEST_MM:
        raise InconsistentSeries("an impossible ImagePositionPatient", got=(x, y, z), path=path)
    instance_number = number(dataset, "InstanceNumber")
    return Slice(
        path=path,
        frame=frame,
        frames=frames,
        instance_uid=text(dataset, "SOPInstanceUID"),
        series_uid=text(dataset, "SeriesInstanceUID"),
        study_uid=text(dataset, "StudyInstanceUID"),
        frame_of_reference_uid=text(dataset, "FrameOfReferenceUID"),
        kind=_kind(text(dataset, "Modality"), uptake),
        position_mm=(x, y, z),
        row_direction=tuple(directions[0].tolist()),
        column_direction=tuple(directions[1].tolist()),
        spacing_mm=(row_mm, column_mm),
        thickness_mm=_optional(value, "SliceThickness"),
        storage=_storage(dataset, path, place),
        slope=_scaling(value, "RescaleSlope", 1.0, path),
        intercept=_scaling(value, "RescaleIntercept", 0.0, path),
        rescaled=value("RescaleSlope") is not None,
        scale_slope=private_number(dataset, PHILIPS_SCALE_SLOPE),
        padding=_padding(dataset),
        inverted=text(dataset, "PhotometricInterpretation") == "MONOCHROME1",
        instance_number=frame if frames > 1 else None if instance_number is None else int(instance_number),
        contrast=tuple(_contrast(dataset, value)),
        hints=tuple(_hints(dataset, value)),
        uptake=uptake,
    )


def _numbers(value: Lookup, keyword: str, count: int, path: Path) -> FloatArray:
    found = value(keyword)
    try:
        array = np.array(found, dtype=np.float64)
    except (TypeError, ValueError):
        array = np.empty(0)
    if found is None or array.shape != (count,) or not np.isfinite(array).all():
        raise InconsistentSeries(
            f"a slice without a usable {keyword}",
            expected=f"{count} numbers",
            got=found,
            path=path,
            remedy="Export the series again from the scanner or the archive.",
        )
    return array


def _optional(value: Lookup, keyword: str) -> float | None:
    try:
        found = float(value(keyword))
    except (TypeError, ValueError, OverflowError):
        return None
    return found if np.isfinite(found) else None


def _check_readable(dataset: Dataset, path: Path) -> None:
    """A damaged value is none to what reads it, and these have a meaning where they are missing."""
    for keyword in _ONE_NUMBER:
        if is_damaged(dataset, keyword):
            raise InconsistentSeries(f"an unusable {keyword}", expected="one number", path=path)


def _scaling(value: Lookup, keyword: str, default: float, path: Path) -> float:
    if value(keyword) is None:
        return default
    found = _optional(value, keyword)
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


def _padding(dataset: Dataset) -> tuple[float, float] | None:
    """The range of stored values that mean "no pixel" (PS3.3 C.7.5.1.1.2)."""
    value, limit = number(dataset, "PixelPaddingValue"), number(dataset, "PixelPaddingRangeLimit")
    if value is None:
        return None
    other = value if limit is None else limit
    return min(value, other), max(value, other)


def _kind(modality: str, uptake: Uptake | None) -> Kind:
    if modality == "PT":
        # Kind.PET means SUV; activity in Bq/ml must not pass for it.
        return Kind.PET if uptake is not None and uptake.factor is not None else Kind.OTHER
    return {"CT": Kind.CT, "MR": Kind.MR}.get(modality, Kind.OTHER)


def _contrast(dataset: Dataset, value: Lookup) -> Iterator[tuple[str, str]]:
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
    standard = _optional(value, "DiffusionBValue")
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
    words = [str(word) for word in _many(dataset, "ImageType")][2:]
    return next((_COMPLEX[word] for word in words if word in _COMPLEX), None)


def _hints(dataset: Dataset, value: Lookup) -> Iterator[tuple[str, str]]:
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


def same_cosines(first: tuple[float, ...], second: tuple[float, ...]) -> bool:
    """Whether two lists of six direction cosines are one orientation, up to rounding."""
    return max(abs(a - b) for a, b in zip(first, second, strict=True)) <= COSINE_TOLERANCE
