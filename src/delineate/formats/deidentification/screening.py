"""Which DICOM objects can be freed of their patient by their header alone, and in whose pixels text is likely."""

from __future__ import annotations

from enum import Enum
from typing import TYPE_CHECKING

from delineate.errors import InputError, UnreadableImage
from delineate.formats.deidentification.objects import text_of
from delineate.formats.deidentification.profile import iod_of

if TYPE_CHECKING:
    from pydicom import Dataset


class Pixels(Enum):
    """What becomes of objects in whose pixels text is likely."""

    REFUSE = "refuse"
    ACCEPT = "accept"
    """Taken as they are, because somebody has looked at them."""


_NAMES = ("SOPClassUID", "SOPInstanceUID", "StudyInstanceUID", "SeriesInstanceUID")
_REFUSED = ("encapsulated", "raw data", "presentation state", "audio", "inventory", "directory")
_LIKELY_TEXT = ("secondary capture", "photograph", "video", "vl ")
_LIKELY_TEXT_MODALITIES = ("ES", "IVUS", "OT", "US", "XC")
_SCREEN_TYPES = ("SCREEN SAVE", "DOSE_INFO", "LABEL")
_OVERLAY_GROUPS = range(0x6000, 0x6020, 2)


def check_can_be_deidentified(dataset: Dataset, pixels: Pixels = Pixels.REFUSE) -> None:
    """Refuse what cannot be named, what a header's rules do not reach, and text in the pixels.

    Text is likely where the object says so (Burned In Annotation, PS3.3 C.7.6.1.1), in ultrasound, in captured
    screens, and in captures, photographs and videos that do not declare to be free of it; an overlay in unused bits of
    the pixels counts as text. Raises `UnreadableImage` for missing UIDs, and `InputError`.
    """
    missing = [keyword for keyword in _NAMES if not text_of(dataset, keyword)]
    if missing or not text_of(getattr(dataset, "file_meta", {}), "TransferSyntaxUID"):
        raise UnreadableImage(
            "the object does not say what it is",
            expected=", ".join(missing) or "a transfer syntax",
            remedy="Fetch it again from where it came.",
        )
    name = _class_name(dataset)
    if not name or any(part in name for part in _REFUSED) or "EncapsulatedDocument" in dataset:
        raise InputError(
            "this kind of object cannot be de-identified",
            expected="an image, a segmentation, a structure set, a plan, a dose or a report",
            got=name or "a private SOP class",
        )
    reason = text_in_pixels(dataset) if pixels is Pixels.REFUSE else ""
    if reason:
        raise InputError(
            "there may be text in the pixels, which are not inspected",
            got=reason,
            remedy="Look at the object; if it is clean, accept its pixels by option.",
        )


def text_in_pixels(dataset: Dataset) -> str:
    """Why text in an object's pixels is likely; empty if it is not."""
    name, burned_in = _class_name(dataset), text_of(dataset, "BurnedInAnnotation").upper()
    if burned_in == "YES":
        return "BurnedInAnnotation is YES"
    screens = set(_SCREEN_TYPES) & {str(part).upper() for part in dataset.get("ImageType") or ()}
    if screens:
        return f"an image of type {min(screens)}"
    # Ultrasound scanners write names into the frame, whatever they declare.
    if "ultrasound" in name:
        return name
    likely = any(part in name for part in _LIKELY_TEXT) or "ConversionType" in dataset
    if burned_in != "NO" and (likely or text_of(dataset, "Modality") in _LIKELY_TEXT_MODALITIES):
        return f"{name}, not declared free of text"
    if any((group, 0x0010) in dataset and (group, 0x3000) not in dataset for group in _OVERLAY_GROUPS):
        return "an overlay in unused bits of the pixels"
    return ""


def _class_name(dataset: Dataset) -> str:
    """What kind of object it is, in lower case; empty for a class that the standard does not define."""
    from pydicom.uid import UID

    uid = UID(text_of(dataset, "SOPClassUID"))
    return (uid.name if uid.type == "SOP Class" else iod_of(uid)).lower().replace("-", " ")
