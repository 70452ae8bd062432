"""What stands beside a segmentation on disk, and what is said of a case that failed."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import msgspec

from delineate import formats
from delineate.errors import DelineateError
from delineate.files import write_text


@dataclass(frozen=True, slots=True)
class Failure:
    """A case that could not be done, and why."""

    case: str
    error: DelineateError


class ResultRecord(msgspec.Struct, frozen=True, kw_only=True):
    """Written beside a label map when it is complete: what its values mean, and what made it.

    `recipe` stands for the model, the scan's files and the options that made it.
    """

    case: str
    labels: dict[str, int]
    volumes_ml: dict[str, float]
    model: str
    series_uid: str | None
    seconds: float
    recipe: str = ""


def read_record(segmentation: Path) -> ResultRecord | None:
    """What was written beside a label map; None if there is nothing readable."""
    try:
        return msgspec.json.decode(record_path(segmentation).read_bytes(), type=ResultRecord)
    except (OSError, msgspec.DecodeError):
        return None


def write_record(segmentation: Path, record: ResultRecord) -> None:
    """Write it beside the label map, last of all: it says that the result is complete."""
    write_text(record_path(segmentation), msgspec.json.format(msgspec.json.encode(record), indent=2).decode() + "\n")


def beside(target: Path, suffix: str) -> Path:
    return target.with_name(formats.image_stem(target) + suffix)


def record_path(target: Path) -> Path:
    return beside(target, ".json")
