"""What stands beside a segmentation on disk: what its values mean, and what made it."""

from __future__ import annotations

import re
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import msgspec
import numpy as np

from delineate import formats
from delineate.errors import LabelError
from delineate.files import remove, write_text
from delineate.labels import LabelSet, label_set
from delineate.volume import Segmentation, Source

_VARIANT = re.compile(r"(fold|mirror)_\d+")  # a record may come from a stranger, and its names become paths


class ResultRecord(msgspec.Struct, frozen=True, kw_only=True):
    """Written beside a label map when it is complete: what its values mean, and what made it.

    `regions`: where structures overlap, the values of the label map of which each consists; empty where `labels` says
    it all. `recipe` stands for the model, the scan's files and the options that made it. `stages`: seconds for
    reading, engine, network, writing, ...; what overlapped with other cases counts for each. `windows`: run, and left
    out because there is air. `memory_estimate`, `memory_peak`: in bytes, foreseen and measured of the whole process.
    `doubts`: sentences about what makes the result doubtful; `notes`: about what was done otherwise than asked for.
    `variants`: names of further label maps that the model gave, see `variant_path`; `variant_kind`: "5 folds".
    """

    case: str
    labels: dict[str, int]
    volumes_ml: dict[str, float]
    model: str
    series_uid: str | None
    seconds: float
    recipe: str = ""
    regions: dict[str, list[int]] = {}
    engine: str = ""
    precision: str = ""
    device: str = ""
    windows: tuple[int, int] | None = None
    stages: dict[str, float] = {}
    memory_estimate: int | None = None
    memory_peak: int | None = None
    doubts: list[str] = []
    notes: list[str] = []
    variants: list[str] = []
    variant_kind: str = ""


def read_record(segmentation: Path) -> ResultRecord | None:
    """What was written beside a label map; None if there is nothing readable."""
    try:
        return msgspec.json.decode(record_path(segmentation).read_bytes(), type=ResultRecord)
    except (OSError, msgspec.DecodeError):
        return None


def write_record(segmentation: Path, record: ResultRecord) -> None:
    """Write it beside the label map, last of all: it says that the result is complete."""
    write_text(record_path(segmentation), msgspec.json.format(msgspec.json.encode(record), indent=2).decode() + "\n")


def read_result(path: Path, record: ResultRecord, labels: LabelSet | None = None) -> Segmentation:
    """A label map that `predict` wrote; masks where its structures overlap. `labels`: with their colours, if known.

    Raises `LabelError` for values that neither knows, and what `formats.read_segmentation` raises.
    """
    found = label_set({value: name for name, value in record.labels.items()}) if labels is None else labels
    if not record.regions:
        return formats.read_segmentation(path, found)
    values, grid = formats.read_label_values(path)
    known = {0}.union(*record.regions.values())
    unknown = set(np.unique(values).tolist()) - known
    if unknown:
        raise LabelError("label map with values that are in no region", got=sorted(unknown), path=path)
    masks = np.stack([np.isin(values, record.regions[name]) for name in found.names])
    return Segmentation(masks, grid, LabelSet(found.labels, overlaps=True), Source(path=path))


def beside(target: Path, suffix: str) -> Path:
    return target.with_name(formats.image_stem(target) + suffix)


def record_path(target: Path) -> Path:
    return beside(target, ".json")


def probability_path(target: Path, structure: str) -> Path:
    """Where the probabilities of a structure lie: `a_probability_liver.nii.gz` beside `a.nii.gz`."""
    return beside(target, f"_probability_{re.sub(r'[^0-9a-zA-Z-]+', '_', structure)}.nii.gz")


def variant_path(target: Path, name: str) -> Path:
    """Where a variant of a result lies, its own record beside it: `variants/a/fold_0.nii.gz` for `a.nii.gz`."""
    return variant_folder(target) / f"{name}.nii.gz"


def variant_folder(target: Path) -> Path:
    """Where all variants of a result lie."""
    return target.parent / "variants" / formats.image_stem(target)


@dataclass(frozen=True, slots=True)
class StandingVariants:
    """The variants of a result that are there. `kind`: what they are, "" where the result has none. `lost`: how many
    are gone, or were made with another result."""

    paths: tuple[Path, ...] = ()
    kind: str = ""
    lost: int = 0

    @property
    def names(self) -> frozenset[str]:
        return frozenset(formats.image_stem(path) for path in self.paths)


def standing_variants(target: Path, record: ResultRecord | None) -> StandingVariants:
    """Those of the variants that a result's record names which were made together with it."""
    if record is None:
        return StandingVariants()
    paths = [variant_path(target, name) for name in record.variants if _VARIANT.fullmatch(name)]
    standing = tuple(path for path in paths if path.is_file() and _is_of(path, record))
    return StandingVariants(standing, record.variant_kind, len(paths) - len(standing))


def _is_of(variant: Path, record: ResultRecord) -> bool:
    own = read_record(variant)
    return own is not None and own.recipe == record.recipe


def remove_variants(target: Path, names: Iterable[str]) -> None:
    """Remove variants of a result with their records, and the folder if nothing else is in it."""
    for name in filter(_VARIANT.fullmatch, names):
        path = variant_path(target, name)
        remove(path)
        remove(record_path(path))
        with suppress(OSError):
            path.parent.rmdir()
            path.parent.parent.rmdir()
