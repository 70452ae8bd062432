"""Structure sets as plain values: regions with their contours, and their voxels on a grid."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from delineate.errors import GeometryMismatch, LabelError
from delineate.formats.dicom_results.contours import Contour, ContourMask, contour_mask
from delineate.geometry import Grid
from delineate.labels import Code, Colour, Label, LabelSet, label_set
from delineate.roi_names import RoiMatches, RoiTable, match_rois
from delineate.volume import Array, Segmentation, Source


@dataclass(frozen=True, slots=True, eq=False)
class Roi:
    """A region of interest. `contours` holds its closed contours only; it may be empty.

    `plane_spacing_mm`: the distance of the planes of which each has contours wherever the region is, where the file
    says so (PS3.3 C.8.8.6.4). `interpreted_type`: e.g. ORGAN, GTV, EXTERNAL (PS3.3 C.8.8.8.1), `algorithm`: AUTOMATIC,
    SEMIAUTOMATIC, MANUAL; "" where the file does not say.
    """

    number: int
    name: str
    contours: tuple[Contour, ...]
    colour: Colour | None = None
    code: Code | None = None
    interpreted_type: str = ""
    algorithm: str = ""
    frame_of_reference_uid: str | None = None
    plane_spacing_mm: float | None = None


@dataclass(frozen=True, slots=True)
class SkippedContour:
    """A contour that encloses nothing that could be filled. `position`: its place in the ROI's sequence, from 1."""

    roi_number: int
    position: int
    reason: str


@dataclass(frozen=True, slots=True, eq=False)
class StructureSet:
    """What an RT Structure Set file says. References that are missing or no UIDs are left out and told in `problems`.

    `referenced_*`: the study, series and images that the contours were drawn on; whether those are there is not asked.
    """

    rois: tuple[Roi, ...]
    label: str
    instance_uid: str | None
    frame_of_reference_uids: tuple[str, ...]
    referenced_study_uid: str | None
    referenced_series_uids: tuple[str, ...]
    referenced_instance_uids: tuple[str, ...]
    skipped: tuple[SkippedContour, ...]
    problems: tuple[str, ...]
    path: Path

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(roi.name for roi in self.rois)

    def roi(self, key: int | str) -> Roi:
        """The ROI of that number or name. Raises `LabelError` if there is none, or several have the name."""
        found = [roi for roi in self.rois if key == (roi.number if isinstance(key, int) else roi.name)]
        if len(found) == 1:
            return found[0]
        raise LabelError(
            f"{len(found)} ROIs are called so" if found else "no such ROI",
            expected=f"one of {list(self.names)}",
            got=key,
            path=self.path,
            remedy=f"Choose by number: {[roi.number for roi in found]}." if found else None,
        )


@dataclass(frozen=True, slots=True, eq=False)
class RoiMask:
    """The voxels of one ROI on a grid."""

    roi: Roi
    voxels: ContourMask


@dataclass(frozen=True, slots=True, eq=False)
class ImportedRois:
    """A structure set as a segmentation, and what to tell about it.

    `masks`: the ROIs that became labels, in the order of `segmentation.labels` that they fill; `matches`: how names
    were mapped, None where no table was asked.
    """

    segmentation: Segmentation
    masks: tuple[RoiMask, ...]
    matches: RoiMatches | None = None


def rasterise(structure_set: StructureSet, grid: Grid, rois: Sequence[int | str] | None = None) -> tuple[RoiMask, ...]:
    """The voxels of ROIs, by number or name; of all without a choice. See `contours.contour_mask` for the rules.

    Raises `GeometryMismatch` if the grid is known to be in another frame of reference, or lies oblique to the contours,
    and `LabelError` for an unknown name or number.
    """
    chosen = structure_set.rois if rois is None else tuple(structure_set.roi(key) for key in rois)
    return tuple(_roi_mask(structure_set, roi, grid) for roi in chosen)


def labels_from(
    structure_set: StructureSet, grid: Grid, *, labels: LabelSet | None = None, table: RoiTable | None = None
) -> ImportedRois:
    """The structure set as a segmentation on `grid`.

    With `labels`, ROIs become labels by their names: through the table, or where they are the labels' own. Without,
    every ROI with closed contours becomes a label of its name and colour, valued from 1. Structures that overlap give
    masks (`labels.overlaps`), others a label map.
    Raises `LabelError` if nothing can be mapped, several ROIs map onto one label, or names occur twice;
    `GeometryMismatch` as `rasterise`, and if all contours lie outside the grid.
    """
    matches = None
    if labels is None:
        rois = [roi for roi in structure_set.rois if roi.contours]
        labels = _own_labels(rois, structure_set)
        pairs = list(zip(labels, rois, strict=True))
    else:
        matches = match_rois(structure_set.names, table) if table is not None else None
        mapped = {n: n for n in structure_set.names} if matches is None else matches.mapped
        pairs = _pairs(structure_set, labels, mapped)
    masks = [_roi_mask(structure_set, roi, grid) for _, roi in pairs]
    _check_inside(masks, grid, structure_set)
    values = [label.value for label, _ in pairs]
    array = None if labels.overlaps else _label_map(masks, values, grid)
    if array is None:
        labels = replace(labels, overlaps=True)
        array = _stacked(masks, values, labels, grid)
    source = Source(structure_set.path, structure_set.referenced_study_uid, _only(structure_set.referenced_series_uids))
    return ImportedRois(Segmentation(array, grid, labels, source), tuple(masks), matches)


def _roi_mask(structure_set: StructureSet, roi: Roi, grid: Grid) -> RoiMask:
    ours, theirs = grid.frame_of_reference_uid, roi.frame_of_reference_uid
    if ours is not None and theirs is not None and ours != theirs:
        raise GeometryMismatch(
            f"the contours of {roi.name!r} are in another frame of reference",
            expected=ours,
            got=theirs,
            path=structure_set.path,
            remedy="Take the series that they were drawn on, or one registered to it.",
        )
    try:
        return RoiMask(roi, contour_mask(roi.contours, grid, plane_spacing_mm=roi.plane_spacing_mm))
    except GeometryMismatch as error:
        raise GeometryMismatch(
            f"{roi.name!r}: {error.problem}",
            expected=error.expected,
            got=error.got,
            path=structure_set.path,
            remedy=error.remedy,
        ) from error


def _own_labels(rois: Sequence[Roi], structure_set: StructureSet) -> LabelSet:
    names = [roi.name for roi in rois]
    twice = sorted({name for name in names if names.count(name) > 1})
    if not names or twice or "" in names:
        raise LabelError(
            "no ROI with closed contours" if not names else "ROIs that share a name, or have none",
            got=twice or names,
            path=structure_set.path,
            remedy="Name the ROIs in the planning system, or map them with a table.",
        )
    default = label_set(dict(enumerate(names, start=1)))
    pairs = zip(default, rois, strict=True)
    return LabelSet(tuple(replace(label, colour=roi.colour or label.colour, code=roi.code) for label, roi in pairs))


def _pairs(structure_set: StructureSet, labels: LabelSet, mapped: Mapping[str, str]) -> list[tuple[Label, Roi]]:
    pairs = []
    for label in labels:
        rois = [roi for roi in structure_set.rois if mapped.get(roi.name) == label.name]
        if len(rois) > 1:
            raise LabelError(
                f"several ROIs are mapped onto {label.name!r}",
                got=[roi.name for roi in rois],
                path=structure_set.path,
                remedy="Narrow the table down until one is left, or take the others out of the file.",
            )
        pairs += [(label, roi) for roi in rois]
    if pairs:
        return pairs
    raise LabelError(
        "no ROI is mapped onto a label",
        expected=f"one of {list(labels.names)}",
        got=list(structure_set.names),
        path=structure_set.path,
        remedy="Add rows to the table of ROI names.",
    )


def _check_inside(masks: Sequence[RoiMask], grid: Grid, structure_set: StructureSet) -> None:
    drawn = [mask for mask in masks if mask.roi.contours]
    if drawn and all(mask.voxels.outside >= 1.0 for mask in drawn):
        raise GeometryMismatch(
            "all contours lie outside the image",
            expected=f"contours within {grid.shape} voxels from {np.round(grid.origin_mm, 1).tolist()} mm",
            got=f"e.g. {np.round(drawn[0].roi.contours[0].points_mm[0], 1).tolist()} mm in {drawn[0].roi.name!r}",
            path=structure_set.path,
            remedy="Take the series that the contours were drawn on.",
        )


def _label_map(masks: Sequence[RoiMask], values: Sequence[int], grid: Grid) -> Array | None:
    """(I, J, K), or None where structures overlap."""
    array = np.zeros(grid.shape, dtype=np.uint8 if max(values, default=0) <= 255 else np.uint16)
    for mask, value in zip(masks, values, strict=True):
        if mask.voxels.box is not None:
            part = array[mask.voxels.box.slices]
            if part[mask.voxels.patch].any():
                return None
            part[mask.voxels.patch] = value
    return array


def _stacked(masks: Sequence[RoiMask], values: Sequence[int], labels: LabelSet, grid: Grid) -> Array:
    array = np.zeros((len(labels), *grid.shape), dtype=np.bool_)
    for mask, value in zip(masks, values, strict=True):
        if mask.voxels.box is not None:
            array[(labels.values.index(value), *mask.voxels.box.slices)] = mask.voxels.patch
    return array


def _only(uids: Sequence[str]) -> str | None:
    return uids[0] if len(uids) == 1 else None
