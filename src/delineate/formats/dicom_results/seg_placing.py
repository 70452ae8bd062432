"""A DICOM segmentation on the grid of a scan, and by the values of a label set."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import product

import numpy as np

from delineate.errors import GeometryMismatch, LabelError
from delineate.formats.dicom_results.seg import SegObject, smallest_type
from delineate.geometry import Grid, Triple, axis_change, change_axes, index_to_world, world_to_index
from delineate.labels import LabelSet
from delineate.resampling import Interpolation, resample_labels
from delineate.volume import Array, Segmentation, change_array_axes, reorient

PLACE_TOLERANCE = 0.1
"""How far a voxel may lie from the scan's, in smallest voxel edges, to be the same; as in `geometry.aligned`."""


def seg_on_grid(seg: SegObject, grid: Grid, *, interpolation: Interpolation | None = None) -> Segmentation:
    """The segmentation on a scan's grid, whatever order and direction the axes of either have.

    Where every plane of the segmentation is one of the grid's, voxel by voxel; else, if `interpolation` is NEAREST or
    LINEAR and the axes are parallel, resampled in the world (see `resampling.resample_labels`), and what lies outside
    the grid is cut off. Raises `GeometryMismatch` for another frame of reference, for voxels of a structure outside
    the grid, and for planes that are not the grid's where nothing may be resampled.
    """
    source = seg.segmentation
    uids = (seg.references.frame_of_reference_uid, grid.frame_of_reference_uid)
    if all(uids) and uids[0] != uids[1]:
        raise GeometryMismatch(
            "segmentation and scan have different frames of reference",
            expected=uids[1],
            got=uids[0],
            path=source.source.path,
            remedy="Register the two, or take the series that the segmentation refers to.",
        )
    array = _placed(seg, grid)
    if array is None and interpolation is not None:
        turned = reorient(source, grid.orientation)
        array = resample_labels(turned.array, turned.grid, grid, interpolation=interpolation, fill=0)
    if array is None:
        raise GeometryMismatch(
            "the segmentation's planes are not the scan's",
            expected=f"voxels of {_in_words(grid)}",
            got=_in_words(source.grid),
            path=source.source.path,
            remedy="Choose the series that the segmentation refers to, or let it be resampled.",
        )
    return replace(source, array=array, grid=grid)


def with_labels(segmentation: Segmentation, labels: LabelSet) -> Segmentation:
    """The same structures by other values, colours and codes: `labels` says them by name.

    Segment numbers are 1..n whatever the values were before writing; this brings them back. Names in `labels` that the
    segmentation lacks are empty. Raises `LabelError` for structures that `labels` does not name, or if one of the two
    overlaps and the other does not.
    """
    unknown = [name for name in segmentation.labels.names if name not in labels.names]
    if unknown or labels.overlaps != segmentation.labels.overlaps:
        raise LabelError(
            "the structures do not fit the labels",
            expected=f"{list(labels.names)}, {'overlapping' if labels.overlaps else 'apart'}",
            got=f"{list(segmentation.labels.names)}, {'overlapping' if segmentation.labels.overlaps else 'apart'}",
            path=segmentation.source.path,
        )
    if labels.overlaps:
        masks = np.zeros((len(labels), *segmentation.grid.shape), dtype=bool)
        for name, mask in zip(segmentation.labels.names, segmentation.array, strict=True):
            masks[labels.names.index(name)] = mask
        return replace(segmentation, array=masks, labels=labels)
    table = np.zeros(max((0, *segmentation.labels.values)) + 1, dtype=smallest_type(labels.values))
    for label in segmentation.labels:
        table[label.value] = labels.named(label.name).value
    return replace(segmentation, array=table[segmentation.array], labels=labels)


def _placed(seg: SegObject, grid: Grid) -> Array | None:
    """The array on `grid`, moved and turned but not resampled; None where the planes are not the grid's."""
    source = seg.segmentation
    view = change_axes(grid, axis_change(grid.orientation, source.grid.orientation))
    starts = _starts(source.grid, view, seg.planes)
    if starts is None:
        return None
    (i, here_i), (j, here_j) = (_shared(starts[0][n], source.grid.shape[n], view.shape[n]) for n in (0, 1))
    lead = source.array.shape[:-3]
    # Planes follow each other in memory, as they do in what was read, and so in what is written here.
    out = np.zeros((*lead, *view.shape[::-1]), dtype=source.array.dtype).transpose(*range(len(lead)), -1, -2, -3)
    for plane, (_, _, k) in zip(seg.planes, starts, strict=True):
        image = source.array[..., plane]
        inside = image[..., here_i, here_j] if 0 <= k < view.shape[2] else image[..., :0, :0]
        if inside.shape != image.shape and np.count_nonzero(inside) != np.count_nonzero(image):
            raise GeometryMismatch(
                "voxels of a structure lie outside the scan",
                expected=f"all within {_in_words(grid)}",
                got=_in_words(source.grid),
                path=source.source.path,
                remedy="Take the series that the segmentation refers to, or crop the segmentation first.",
            )
        if inside.size:
            out[..., i, j, k] = inside
    return change_array_axes(out, axis_change(view.orientation, grid.orientation))


def _starts(source: Grid, view: Grid, planes: Sequence[int]) -> list[Triple] | None:
    """The index in `view` of voxel (0, 0, plane) of each plane; None unless all voxels of all planes are on voxels.

    Only planes that have frames are looked at: where they stand among planes that were left out is then certain.
    """
    i, j, _ = source.shape
    corners = np.array(list(product((0, i - 1), (0, j - 1), planes)), dtype=np.float64).reshape(4, -1, 3)
    shifts = world_to_index(view, index_to_world(source, corners)) - corners * (1, 1, 0)
    starts = np.rint(shifts[0])
    off_mm = np.linalg.norm((shifts - starts) * view.spacing_mm, axis=-1)
    moved = np.ptp(starts[:, :2], axis=0).any()
    if off_mm.max() > PLACE_TOLERANCE * min(view.spacing_mm) or moved or len(np.unique(starts[:, 2])) < len(planes):
        return None
    return [(int(a), int(b), int(c)) for a, b, c in starts]


def _shared(start: int, here: int, there: int) -> tuple[slice, slice]:
    """The part of `there` voxels that `here` voxels cover from `start` on, and the same part of `here`."""
    first, stop = max(start, 0), max(min(start + here, there), max(start, 0))
    return slice(first, stop), slice(first - start, stop - start)


def _in_words(grid: Grid) -> str:
    spacing = " x ".join(f"{s:.4g}" for s in grid.spacing_mm)
    origin = ", ".join(f"{x:.2f}" for x in grid.origin_mm)
    return f"{' x '.join(map(str, grid.shape))} voxels of {spacing} mm {grid.orientation} from ({origin})"
