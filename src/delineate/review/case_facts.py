"""What is measured of a result before anybody looks at it: volumes, parts, borders, sides, and how far variants agree.

Kept in CACHE/review_facts by the digests of the files that it was measured on, because thousands of cases take long.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from contextlib import suppress
from itertools import combinations
from pathlib import Path

import msgspec
import numpy as np

from delineate.dataset import fingerprint_file
from delineate.errors import LabelError
from delineate.files import write_bytes
from delineate.geometry import Box, FloatArray, Grid, TripleMM, box_of, index_to_world
from delineate.labels import Label, LabelSet
from delineate.measurement.cropping import Cropped, Mask, crop_structure
from delineate.measurement.lesions import lesion_labels
from delineate.measurement.shapes import cut_sides, numbered_parts
from delineate.review.priorities import ResultFacts, StructureFacts
from delineate.review.records import Structure
from delineate.review.scan_headers import grid_of
from delineate.review.seen import file_marks
from delineate.volume import Segmentation, structure_boxes
from delineate.workflow.results import ResultRecord, read_record, standing_variants
from delineate.workflow.structures import labels_near, read_any_segmentation

_VERSION = 2  # raise it when other facts are measured than before


class StructureRecord(msgspec.Struct, frozen=True, kw_only=True):
    """A structure of a result; see `StructureFacts` and `records.Structure`."""

    value: int
    name: str
    colour: tuple[int, int, int]
    volume_ml: float
    parts: int
    largest_share: float
    borders: tuple[str, ...]
    centre_mm: TripleMM | None
    agreement: float | None
    small_parts: int
    small_share: float

    @property
    def shown(self) -> Structure:
        return Structure(self.value, self.name, self.colour, self.volume_ml, self.agreement)

    @property
    def facts(self) -> StructureFacts:
        return StructureFacts(
            self.name,
            self.volume_ml,
            self.parts,
            self.largest_share,
            self.borders,
            self.centre_mm,
            self.agreement,
            self.small_parts,
            self.small_share,
        )


class CaseFacts(msgspec.Struct, frozen=True, kw_only=True):
    """A result, measured. `digest`: SHA-256 of its file; `lesions`: structures whose names say that they are some."""

    digest: str
    overlaps: bool
    structures: tuple[StructureRecord, ...]
    lesions: tuple[str, ...]

    def as_result(self, key: str, *, model: str, doubts: Sequence[str], notes: Sequence[str] = ()) -> ResultFacts:
        structures, lesions = tuple(one.facts for one in self.structures), frozenset(self.lesions)
        return ResultFacts(key, model, structures, tuple(doubts), lesions, tuple(notes))


def case_facts(segmentation: Path, scan: Path, *, cache: Path | None = None) -> CaseFacts:
    """Measure a result on the grid of its scan, or take what was measured before.

    Raises `GeometryMismatch` for a result on other voxels, and what reading it raises.
    """
    record = read_record(segmentation)
    digest, variants = fingerprint_file(segmentation), standing_variants(segmentation, record).paths
    names = None if record is not None or labels_near(segmentation) is not None else labels_near(scan)
    key = _key(digest, (record, names), scan, [fingerprint_file(path) for path in variants])
    kept = None if cache is None else cache / "review_facts" / f"{key}.json"
    if kept is not None:
        with suppress(OSError, msgspec.DecodeError):
            return msgspec.json.decode(kept.read_bytes(), type=CaseFacts)
    grid = grid_of(scan)
    found = _read(segmentation, names, grid)
    others = [read_any_segmentation(path, grid=grid) for path in variants]
    facts = measure_case(found, others, digest)
    if kept is not None:
        write_bytes(kept, msgspec.json.encode(facts))
    return facts


def _read(path: Path, names: LabelSet | None, grid: Grid) -> Segmentation:
    """`names`: of the scan's dataset, if these fit: the label map says nothing itself."""
    if names is not None:
        with suppress(LabelError):
            return read_any_segmentation(path, labels=names, grid=grid)
    return read_any_segmentation(path, grid=grid)


def _key(digest: str, said: tuple[ResultRecord | None, LabelSet | None], scan: Path, variants: Sequence[str]) -> str:
    record, labels = said
    names: list[object] = [] if record is None else [record.labels, record.regions]
    names += [] if labels is None else [list(labels.names), list(labels.values)]
    # All of a series is read for its grid alone: as long as its files look the same, that is not done again.
    parts = [_VERSION, digest, names, str(scan.absolute()), file_marks(scan), list(variants)]
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:32]


def measure_case(segmentation: Segmentation, variants: Sequence[Segmentation], digest: str) -> CaseFacts:
    """The facts of a result. `variants`: other results of the model for the scan, on the same grid."""
    labels, boxes = segmentation.labels, structure_boxes(segmentation)
    agreements = [agreement(label, segmentation, variants) for label in labels]
    structures = [_structure(segmentation, *each) for each in zip(labels, boxes, agreements, strict=True)]
    lesions = tuple(label.name for label in lesion_labels(labels))
    return CaseFacts(digest=digest, overlaps=labels.overlaps, structures=tuple(structures), lesions=lesions)


def agreement(label: Label, segmentation: Segmentation, variants: Sequence[Segmentation]) -> float | None:
    """The mean Dice of a structure over all pairs of variants; of a single one, with the result.

    None without variants, and where all are empty; pairs of which both are empty do not count.
    """
    if not variants:
        return None
    results = list(variants) if len(variants) > 1 else [segmentation, *variants]
    places = [structure_boxes(one)[one.labels.names.index(label.name)] for one in results]
    there = [box for box in places if box is not None]
    if not there:
        return None
    box = _around(there)
    masks = np.stack([one.mask(label.name, box).reshape(-1) for one in results])
    counts = np.count_nonzero(masks, axis=1)
    pairs = [(a, b) for a, b in combinations(range(len(results)), 2) if counts[a] + counts[b]]
    return float(np.mean([2 * np.count_nonzero(masks[a] & masks[b]) / (counts[a] + counts[b]) for a, b in pairs]))


def _around(boxes: Sequence[Box]) -> Box:
    start, stop = np.min([box.start for box in boxes], axis=0), np.max([box.stop for box in boxes], axis=0)
    return box_of((int(a), int(b)) for a, b in zip(start, stop, strict=True))


def _structure(segmentation: Segmentation, label: Label, box: Box | None, agreed: float | None) -> StructureRecord:
    found = None if box is None else crop_structure(segmentation, label, box)
    sizes = _part_sizes(found)
    small = [size for size in sizes if size < max(sizes) / 10]
    voxels = sum(sizes)
    return StructureRecord(
        value=label.value,
        name=label.name,
        colour=label.colour,
        volume_ml=voxels * segmentation.grid.voxel_volume_ml,
        parts=len(sizes),
        largest_share=max(sizes) / voxels if voxels else 0.0,
        borders=() if box is None else cut_sides(box, segmentation.grid),
        centre_mm=None if found is None else _centre_mm(found),
        agreement=agreed,
        small_parts=len(small),
        small_share=sum(small) / voxels if voxels else 0.0,
    )


def _part_sizes(found: Cropped | None) -> list[int]:
    if found is None:
        return []
    return [int(count) for count in np.bincount(numbered_parts(found.mask).reshape(-1))[1:]]


def middle_index(mask: Mask) -> FloatArray:
    """(3,) the mean index of a mask's voxels, of which there is one at least.

    By sums along the axes: the places of all voxels of a large organ would take much memory and time.
    """
    total = np.count_nonzero(mask)
    axes = ((n, tuple(other for other in range(3) if other != axis)) for axis, n in enumerate(mask.shape))
    return np.array([float(np.arange(n) @ np.count_nonzero(mask, axis=others)) / total for n, others in axes])


def _centre_mm(found: Cropped) -> TripleMM:
    x, y, z = index_to_world(found.grid, middle_index(found.mask))
    return float(x), float(y), float(z)
