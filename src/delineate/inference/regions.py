"""Label maps of several parts and of regions: other values, parts painted over each other, masks that overlap.

All of it goes plane by plane: a map of a large scan is never there in wider integers.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import numpy.typing as npt

from delineate.labels import LabelSet
from delineate.planning import Region
from delineate.volume import Allocate, Array, Segmentation


def map_type(labels: LabelSet) -> npt.DTypeLike:
    """The type of voxels that holds all values of a label map."""
    return np.uint8 if max(labels.values, default=0) < 256 else np.uint16


def values_of(labels: LabelSet, others: LabelSet) -> dict[int, int]:
    """The values that structures have among `others`, by their own. Raises `LabelError` for one that is not there."""
    return {label.value: others.named(label.name).value for label in labels}


def translate(
    label_map: Array, values: Mapping[int, int], *, dtype: npt.DTypeLike, allocate: Allocate = np.empty
) -> Array:
    """A label map (I, J, K) with new values by old ones; what `values` does not list becomes 0."""
    table = _table(label_map, values, dtype)
    out: Array = allocate(label_map.shape, dtype)
    for old, new in _planes(label_map, out):
        new[...] = table[old]
    return out


def paint_over(label_map: Array, part: Array, values: Mapping[int, int]) -> None:
    """Paint the structures of `part` onto `label_map`, in place, with new values by their own."""
    table = _table(part, values, label_map.dtype)
    for target, source in _planes(label_map, part):
        colours = table[source]
        np.copyto(target, colours, where=colours > 0)


def region_masks(
    label_map: Array, labels: LabelSet, regions: Sequence[Region], allocate: Allocate = np.empty
) -> npt.NDArray[np.bool_]:
    """Masks (len(labels), I, J, K) of the regions named by `labels`, in their order, of a painted label map."""
    values = {region.name: region.values for region in regions}
    masks: npt.NDArray[np.bool_] = allocate((len(labels), *label_map.shape), np.bool_)
    for name, mask in zip(labels.names, masks, strict=True):
        members = _table(label_map, dict.fromkeys(values[name], 1), np.bool_)
        for source, target in _planes(label_map, mask):
            target[...] = members[source]
    return masks


def painted(segmentation: Segmentation, regions: Sequence[Region], dtype: npt.DTypeLike) -> Array:
    """The label map (I, J, K) of overlapping masks, painted in the regions' order; those not there are left out."""
    label_map = np.zeros(segmentation.grid.shape, dtype)
    for region in regions:
        if region.name in segmentation.labels.names:
            label_map[segmentation.mask(region.name)] = region.paints
    return label_map


def _table(label_map: Array, values: Mapping[int, int], dtype: npt.DTypeLike) -> Array:
    table = np.zeros(int(np.iinfo(label_map.dtype).max) + 1, dtype)
    for old, new in values.items():
        table[old] = new
    return table


def _planes(*arrays: Array) -> Iterator[tuple[Array, ...]]:
    """The arrays' planes side by side, in the order in which the first one lies in memory."""
    slowest = max(range(arrays[0].ndim), key=lambda axis: abs(arrays[0].strides[axis]))
    yield from zip(*(np.moveaxis(array, slowest, 0) for array in arrays), strict=True)
