"""Scans and segmentations: an array, the Grid it lives on, and where it came from."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass, field, replace
from enum import Enum
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from delineate.errors import GeometryMismatch, LabelError
from delineate.geometry import (
    AxisChange,
    Box,
    Grid,
    aligned,
    axis_change,
    box_of,
    change_axes,
    crop_grid,
    foreground_box,
    largest_distance_mm,
)
from delineate.labels import LabelSet

Array = npt.NDArray[Any]

Allocate = Callable[[tuple[int, ...], npt.DTypeLike], Array]
"""Gives an array of a shape and type whose values do not matter yet: `np.empty`, or one that is mapped to a file."""


class Kind(Enum):
    """What a channel's numbers measure."""

    CT = "CT"  # Hounsfield units
    MR = "MR"  # arbitrary units
    PET = "PET"  # SUV
    OTHER = "other"


@dataclass(frozen=True, slots=True)
class Source:
    """Where data came from: a path, and for DICOM the identifiers of its series and instances.

    `instance_uids` are in order of the slice axis of the array as it was read.
    """

    path: Path | None = None
    study_uid: str | None = None
    series_uid: str | None = None
    instance_uids: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, eq=False)
class Volume:
    """A scan. `array`: (C, I, J, K), read-only; `grid`: where (I, J, K) lies; `kind`: what it measures.

    `absent`: channels that were not recorded, whose voxels are 0 and mean nothing.
    Raises `GeometryMismatch` if array and grid differ in shape.
    """

    array: Array
    grid: Grid
    kind: Kind = Kind.OTHER
    source: Source = field(default_factory=Source)
    absent: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        if self.array.ndim != 4 or self.array.shape[1:] != self.grid.shape:
            raise GeometryMismatch(
                "a volume's array does not fit its grid",
                expected=f"(C, {', '.join(map(str, self.grid.shape))})",
                got=self.array.shape,
            )
        object.__setattr__(self, "array", read_only(self.array))

    @property
    def channels(self) -> int:
        return int(self.array.shape[0])


@dataclass(frozen=True, slots=True, eq=False)
class Segmentation:
    """Structures in a scan.

    `array`: label map (I, J, K) of unsigned integers, or, where `labels.overlaps`, masks
    (len(labels), I, J, K) of bool in the labels' order; read-only. `author`: the digest of the model, or
    the person, that made it. `ignored`: mask (I, J, K) of voxels that a reference says nothing about, which are
    background in `array`; None where there are none. Raises `GeometryMismatch` if array and grid differ in shape,
    `LabelError` for an array of another type.
    """

    array: Array
    grid: Grid
    labels: LabelSet
    source: Source = field(default_factory=Source)
    author: str | None = None
    ignored: npt.NDArray[np.bool_] | None = None

    def __post_init__(self) -> None:
        leading = (len(self.labels),) if self.labels.overlaps else ()
        if self.array.shape != (*leading, *self.grid.shape):
            raise GeometryMismatch(
                "a segmentation's array does not fit its grid and labels",
                expected=(*leading, *self.grid.shape),
                got=self.array.shape,
            )
        if self.array.dtype.kind not in ("b" if self.labels.overlaps else "u"):
            raise LabelError(
                "a segmentation's array has the wrong type",
                expected="bool masks" if self.labels.overlaps else "unsigned integers",
                got=self.array.dtype,
            )
        if self.ignored is not None and (self.ignored.shape, self.ignored.dtype.kind) != (self.grid.shape, "b"):
            got = f"{self.ignored.shape} of {self.ignored.dtype}"
            raise GeometryMismatch("what is ignored is no mask on the grid", expected=self.grid.shape, got=got)
        object.__setattr__(self, "array", read_only(self.array))

    def mask(self, name: str, box: Box | None = None) -> npt.NDArray[np.bool_]:
        """(I, J, K) mask of one structure, or the part of it that lies in a box. Raises `LabelError` for an unknown
        name."""
        label, part = self.labels.named(name), (...,) if box is None else box.slices
        if self.labels.overlaps:
            mask: npt.NDArray[np.bool_] = self.array[self.labels.names.index(name)][part]
            return mask
        return np.asarray(self.array[part] == label.value)


def from_values(
    values: npt.NDArray[np.unsignedinteger], grid: Grid, labels: LabelSet, source: Source | None = None
) -> Segmentation:
    """What a label map (I, J, K) as it is on disk says: masks where the labels have regions, and what is ignored.

    Values that no label has are background. Without regions and a value to ignore the array is taken as it is.
    """
    source = source or Source()
    ignored = None if labels.ignore is None else np.asarray(values == labels.ignore)
    if not labels.regions:
        array = values if ignored is None else np.where(ignored, values.dtype.type(0), values)
        return Segmentation(array, grid, labels, source, ignored=ignored)
    members = {region.name: np.zeros(int(np.iinfo(values.dtype).max) + 1, bool) for region in labels.regions}
    for region in labels.regions:
        members[region.name][list(region.values)] = True
    masks = np.empty((len(labels), *values.shape), bool)
    for name, mask in zip(labels.names, masks, strict=True):
        np.take(members[name], values, out=mask)
    return Segmentation(masks, grid, labels, source, ignored=ignored)


def with_absent(volume: Volume, absent: Collection[int], *, allocate: Allocate = np.empty) -> Volume:
    """The scan with channels put in at these places that were not recorded; their voxels are 0."""
    if not absent:
        return volume
    count = volume.channels + len(absent)
    array = allocate((count, *volume.grid.shape), volume.array.dtype)
    recorded = iter(volume.array)
    for n in range(count):
        array[n] = 0 if n in absent else next(recorded)
    return replace(volume, array=array, absent=tuple(sorted(absent)))


def leave_out(segmentation: Segmentation, ignored: npt.NDArray[np.bool_] | None) -> Segmentation:
    """The segmentation with background where a reference on the same grid says nothing; as it is if it says all."""
    if ignored is None:
        return segmentation
    return replace(segmentation, array=np.where(ignored, segmentation.array.dtype.type(0), segmentation.array))


def structure_boxes(segmentation: Segmentation) -> tuple[Box | None, ...]:
    """The smallest box that holds each label's voxels, in the labels' order; None for a label without any."""
    if segmentation.labels.overlaps:
        return tuple(foreground_box(mask) for mask in segmentation.array)
    from scipy.ndimage import find_objects

    # Axes from the largest step in memory to the smallest: reading against it is several times slower.
    array = segmentation.array
    order = sorted(range(3), key=lambda axis: -abs(array.strides[axis]))
    found = find_objects(array.transpose(order), max_label=max(segmentation.labels.values, default=0))
    boxes: list[Box | None] = []
    for value in segmentation.labels.values:
        slices = found[value - 1]
        if slices is None:
            boxes.append(None)
        else:
            boxes.append(box_of((slices[n].start, slices[n].stop) for n in np.argsort(order)))
    return tuple(boxes)


def read_only(array: Array) -> Array:
    """A view of the array that cannot be written through."""
    view = array.view()
    view.flags.writeable = False
    return view


def _last_axes(*slices: slice) -> tuple[Any, ...]:
    return (..., *slices)


def change_array_axes(array: Array, change: AxisChange) -> Array:
    """Permute and reverse the last three axes of an array; a view, bit-exact."""
    lead = array.ndim - 3
    turned = array.transpose(*range(lead), *(lead + axis for axis in change.order))
    steps = tuple(slice(None, None, -1) if flip else slice(None) for flip in change.flips)
    reversed_: Array = turned[_last_axes(*steps)]
    return reversed_


def cut(array: Array, box: Box, *, fill: float = 0) -> Array:
    """The voxels of `box` from the last three axes; where the box reaches outside, `fill`."""
    shape = array.shape[-3:]
    inside = [(max(a, 0), min(b, n)) for a, b, n in zip(box.start, box.stop, shape, strict=True)]
    if all(i == (a, b) for i, a, b in zip(inside, box.start, box.stop, strict=True)):
        part: Array = array[_last_axes(*box.slices)]
        return part
    out = np.full(array.shape[:-3] + box.shape, fill, dtype=array.dtype)
    if all(a < b for a, b in inside):
        source = tuple(slice(a, b) for a, b in inside)
        target = tuple(slice(a - s, b - s) for (a, b), s in zip(inside, box.start, strict=True))
        out[_last_axes(*target)] = array[_last_axes(*source)]
    return out


Image = TypeVar("Image", "Volume", "Segmentation")


def reorient(image: Image, orientation: str) -> Image:
    """The same voxels with the array's axes along `orientation`; bit-exact, reversible."""
    change = axis_change(image.grid.orientation, orientation)
    grid = change_axes(image.grid, change)
    return _moved(image, lambda array: change_array_axes(array, change), grid)


def _moved(image: Image, move: Callable[[Array], Array], grid: Grid) -> Image:
    """The image with all its arrays moved onto another grid."""
    if isinstance(image, Segmentation) and image.ignored is not None:
        return replace(image, array=move(image.array), grid=grid, ignored=move(image.ignored))
    return replace(image, array=move(image.array), grid=grid)


def align(segmentation: Segmentation, grid: Grid) -> Segmentation:
    """The segmentation voxel by voxel on `grid`, which must be its own, or its own with other array axes.

    Raises `GeometryMismatch` if it lies elsewhere: labels beside the anatomy they name are worse than none.
    """
    # As it is first: near 45 degrees the orientation codes of two almost equal grids may differ.
    for turned in (segmentation, reorient(segmentation, grid.orientation)):
        if aligned(grid, turned.grid):
            return replace(turned, grid=grid)
    same_shape = turned.grid.shape == grid.shape
    raise GeometryMismatch(
        "image and labels do not lie in the same place",
        expected=f"shape {grid.shape}, voxels within a tenth of a voxel",
        got=f"voxels up to {largest_distance_mm(grid, turned.grid):.3g} mm apart" if same_shape else turned.grid.shape,
        path=segmentation.source.path,
        remedy="Resample the labels onto the image's grid, or correct the wrong header.",
    )


def crop(image: Image, box: Box, *, fill: float = 0) -> Image:
    """The part of the image in `box`; where the box reaches outside, the image is padded with `fill`."""
    return _moved(image, lambda array: cut(array, box, fill=fill), crop_grid(image.grid, box))
