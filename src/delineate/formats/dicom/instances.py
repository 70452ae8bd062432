"""What a DICOM file is: the slices of a scan that it holds, or why it holds none."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from delineate.errors import DelineateError, InconsistentSeries, UnreadableImage
from delineate.formats.dicom.frames import slices_of
from delineate.formats.dicom.headers import PixelPlace, first_value, items, number, quiet, read_header, text, values
from delineate.formats.dicom.slices import Instance, SeriesFacts

if TYPE_CHECKING:
    from pydicom import Dataset

SCAN_MODALITIES = ("CT", "MR", "PT")
_CAPTURES = ("SCREEN SAVE", "SCREENSAVE", "SCREENSHOT", "CT_SOM5 PROT", "DOSE_INFO")


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
        return Instance(path, facts, uid, tuple(slices_of(dataset, path, place)))
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
    image_type = [str(word).strip() for word in values(dataset, "ImageType")]
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
    if any(capture in word.upper() for word in image_type for capture in _CAPTURES) and not _has_place(dataset):
        return "a screen save or protocol page"
    if facts.modality and facts.modality not in SCAN_MODALITIES:
        return f"no CT, MR or PET: {facts.modality}"
    if samples != 1 or photometric.startswith(("RGB", "YBR", "PALETTE")):
        return f"not a greyscale image: {photometric}, {samples:g} sample(s) a pixel"
    if _sop_name(facts.sop_class).startswith("Secondary Capture"):
        return "a secondary capture"
    return None


def _has_place(dataset: Dataset) -> bool:
    keywords = ("ImagePositionPatient", "PerFrameFunctionalGroupsSequence")
    return any(first_value(dataset, keyword) is not None for keyword in keywords)


def _sop_name(uid: str) -> str:
    from pydicom.uid import UID

    return str(UID(uid).name)


def _references(dataset: Dataset) -> Iterator[str]:
    """Series that a SEG, an SR or an RTSTRUCT names (PS3.3 C.8.20.2, C.17.2.1 and C.8.8.5)."""
    for study in (dataset, *items(dataset, "CurrentRequestedProcedureEvidenceSequence")):
        for series in items(study, "ReferencedSeriesSequence"):
            yield text(series, "SeriesInstanceUID")
    for frame in items(dataset, "ReferencedFrameOfReferenceSequence"):
        for study in items(frame, "RTReferencedStudySequence"):
            for series in items(study, "RTReferencedSeriesSequence"):
                yield text(series, "SeriesInstanceUID")


def _frames_of_reference(dataset: Dataset) -> Iterator[str]:
    for item in (dataset, *items(dataset, "ReferencedFrameOfReferenceSequence")):
        uid = text(item, "FrameOfReferenceUID")
        if uid:
            yield uid
