"""Labels of a case from SEG and RTSTRUCT objects: their regions, by a table of names, as one label map."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt

from delineate.errors import DelineateError, GeometryMismatch, LabelError
from delineate.formats.dicom.slices import Instance
from delineate.formats.dicom_results.contours import ContourMask
from delineate.formats.dicom_results.rtstruct import read_rtstruct
from delineate.formats.dicom_results.seg import read_seg, read_segments
from delineate.formats.dicom_results.seg_placing import seg_on_grid
from delineate.formats.dicom_results.structure_sets import StructureSet, rasterise
from delineate.geometry import Box, Grid
from delineate.labels import LabelSet
from delineate.resampling import Interpolation
from delineate.roi_names import RoiMatches, RoiTable, match_rois
from delineate.volume import Segmentation

Mask = npt.NDArray[np.bool_]
Part = Callable[[], tuple[Box, Mask]]
"""Voxels within a box, made when they are asked for: a hundred masks of a whole scan do not fit into memory."""


@dataclass(frozen=True, slots=True, eq=False)
class Regions:
    """What one object says on a case's grid.

    `parts`: for each label the voxels of the regions that mean it; none where there are no voxels. `label_of`: the
    label that each region's name means. `made_on`: UIDs of the images that the object refers to.
    """

    thing: Instance
    parts: Mapping[str, Sequence[Part]]
    label_of: Mapping[str, str]
    unmapped: tuple[str, ...]
    notes: tuple[str, ...]
    made_on: frozenset[str]


def region_names(thing: Instance) -> tuple[str, ...]:
    """The names of the regions that an object holds; none where it cannot be read."""
    try:
        if thing.facts.modality == "RTSTRUCT":
            return tuple(roi.name for roi in read_rtstruct(thing.path).rois if roi.contours and roi.name)
        return tuple(segment.label.name for segment in read_segments(thing.path)[1])
    except DelineateError:
        # Its case fails with the reason when it is imported.
        return ()


def read_regions(thing: Instance, grid: Grid, table: RoiTable) -> Regions:
    """The regions of an object whose names the table knows. Raises what the readers of SEG and RTSTRUCT raise."""
    return (_contoured if thing.facts.modality == "RTSTRUCT" else _segmented)(thing, grid, table)


def merge_regions(
    found: Sequence[Regions], grid: Grid, labels: LabelSet, *, later_wins: bool
) -> tuple[Segmentation, tuple[str, ...]]:
    """One label map of all objects, and what was decided.

    Raises `LabelError` where no region means a label or has voxels here, several objects hold one label, or different
    labels share voxels; with `later_wins` the label of the higher value has these.
    """
    _check_any(found, labels)
    array = np.zeros(grid.shape, dtype=np.uint8 if max(labels.values) <= 255 else np.uint16)
    notes = []
    for label in labels:
        parts = _only_holder(found, label.name)
        shared = sum(_paint(array, *part(), value=label.value) for part in parts)
        if shared and not later_wins:
            raise LabelError(
                f"{label.name!r} overlaps another structure, which one label map cannot hold",
                got=f"{shared} voxels",
                remedy="Say that the label named later wins (--overlap later), or name fewer labels.",
            )
        notes += [f"{label.name} took {shared} voxels from structures before it"] if shared else []
    return Segmentation(array, grid, labels), tuple(notes)


def _check_any(found: Sequence[Regions], labels: LabelSet) -> None:
    if any(regions.parts for regions in found):
        return
    mapped = sorted({name for regions in found for name in regions.label_of})
    if mapped:
        raise LabelError(
            "no region has a voxel in the image", got=mapped, remedy="Look at the contours, and whose they are."
        )
    raise LabelError(
        "no region is mapped onto a label",
        expected=f"one of {list(labels.names)}",
        got=sorted({name for regions in found for name in regions.unmapped}),
        remedy="Add rows to names.csv and import again with --names.",
    )


def _only_holder(found: Sequence[Regions], name: str) -> Sequence[Part]:
    """The parts of a label in the one object that holds it; none where there is none."""
    holding = [regions for regions in found if regions.parts.get(name)]
    if len(holding) > 1:
        raise LabelError(
            f"several objects hold {name!r}",
            expected="one",
            got=", ".join(str(regions.thing.path) for regions in holding),
            remedy="Take the outdated ones out of the tree.",
        )
    return holding[0].parts[name] if holding else ()


def _paint(array: npt.NDArray[np.unsignedinteger[Any]], box: Box, mask: Mask, *, value: int) -> int:
    """Give the voxels of a mask a value; how many of them had another one."""
    region = array[box.slices]
    shared = int(np.count_nonzero(mask & (region != 0) & (region != value)))
    region[mask] = value
    return shared


def _segmented(thing: Instance, grid: Grid, table: RoiTable) -> Regions:
    seg = read_seg(thing.path)
    matches = match_rois(seg.segmentation.labels.names, table)
    notes: tuple[str, ...] = ()
    try:
        placed = seg_on_grid(seg, grid)
    except GeometryMismatch:
        placed = seg_on_grid(seg, grid, interpolation=Interpolation.LINEAR)
        notes = (f"{thing.path.name}: segments interpolated onto the series' grid",)
    parts: dict[str, list[Part]] = {}
    for name, label in matches.mapped.items():
        if placed.mask(name).any():
            parts.setdefault(label, []).append(partial(_whole, placed, name))
        else:
            notes += (f"{thing.path.name}: {name}: no voxels here",)
    made_on = frozenset(seg.references.instance_uids)
    return Regions(thing, parts, matches.mapped, _not_mapped(matches), notes, made_on)


def _whole(segmentation: Segmentation, name: str) -> tuple[Box, Mask]:
    return Box((0, 0, 0), segmentation.grid.shape), segmentation.mask(name)


def _contoured(thing: Instance, grid: Grid, table: RoiTable) -> Regions:
    structure_set = read_rtstruct(thing.path)
    drawn = [roi for roi in structure_set.rois if roi.contours]
    matches = match_rois([roi.name for roi in drawn], table)
    parts: dict[str, list[Part]] = {}
    notes = [*_structure_notes(structure_set, table)]
    for roi in drawn:
        if roi.name in matches.mapped:
            (made,) = rasterise(structure_set, grid, [roi.number])
            notes += [f"{roi.name}: {what}" for what in _contour_notes(made.voxels)]
            if made.voxels.box is not None:
                parts.setdefault(matches.mapped[roi.name], []).append(
                    partial(_boxed, made.voxels.box, made.voxels.patch)
                )
    named = tuple(f"{thing.path.name}: {note}" for note in notes)
    made_on = frozenset(structure_set.referenced_instance_uids)
    return Regions(thing, parts, matches.mapped, _not_mapped(matches), named, made_on)


def _boxed(box: Box, mask: Mask) -> tuple[Box, Mask]:
    return box, mask


def _structure_notes(structure_set: StructureSet, table: RoiTable) -> Iterator[str]:
    yield from structure_set.problems
    for (number, reason), count in Counter((one.roi_number, one.reason) for one in structure_set.skipped).items():
        yield f"{reason} of ROI {number} passed over" + (f" ({count} times)" if count > 1 else "")
    empty = [roi.name for roi in structure_set.rois if not roi.contours]
    for name in match_rois(empty, table).mapped:
        yield f"{name}: nothing is drawn"


def _contour_notes(voxels: ContourMask) -> Iterator[str]:
    if voxels.box is None:
        yield "reaches no voxel"
    elif voxels.outside > 0:
        yield f"{voxels.outside:.1%} lies outside the image"
    if voxels.interpolated:
        yield f"{voxels.interpolated} slice(s) filled between contours"
    if voxels.duplicates:
        yield f"{voxels.duplicates} contour(s) drawn twice"
    if voxels.crossings:
        yield f"{voxels.crossings} pair(s) of contours overlap in part: what they share is left out"
    if voxels.gaps_mm:
        yield f"{len(voxels.gaps_mm)} gap(s) between contours kept, the widest {max(voxels.gaps_mm):.1f} mm"


def _not_mapped(matches: RoiMatches) -> tuple[str, ...]:
    return (*matches.unmapped, *(f"{name} ({' or '.join(fits)})" for name, fits in matches.ambiguous.items()))
