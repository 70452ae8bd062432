"""How large a structure is, how much of it is border, in how many pieces, and whether it is a tube."""

from __future__ import annotations

import math
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from delineate.geometry import Triple, TripleMM, foreground_box
from delineate.metrics.boundaries import border
from delineate.metrics.counting import checked_spacing, in_memory_order, tally

Array = npt.NDArray[Any]
Mask = npt.NDArray[np.bool_]

TUBE_DIAMETERS = 6
"""A tube is at least this many diameters long; of organs that are none, the pancreas comes nearest."""

_LARGEST_BOX = 10_000_000  # blocks that a way is looked for among: half a gigabyte


@dataclass(frozen=True, slots=True)
class StructureShape:
    """Size and shape of one structure in one case; of no voxels, counts are 0 and lengths NaN.

    `extent_voxels`: of its box. `border_share`: of its voxels, those with one of six neighbours outside. `pieces`:
    26-connected; `largest_piece`: the largest one's share of the voxels. Of the largest piece: `radius_mm` from the
    centre of its deepest voxel to its border, about that of the largest sphere within; `length_mm` of the longest way
    through it, NaN where it is too short for a tube whatever the way.
    """

    voxels: int
    spacing_mm: TripleMM
    extent_voxels: Triple
    border_share: float
    pieces: int
    largest_piece: float
    radius_mm: float
    length_mm: float

    @property
    def volume_ml(self) -> float:
        return self.voxels * math.prod(self.spacing_mm) / 1000

    @property
    def dice_of_one_voxel(self) -> float:
        """What one missed voxel takes from a Dice of 1."""
        return 1 / (2 * self.voxels - 1) if self.voxels else math.nan

    @property
    def dice_one_voxel_off(self) -> float:
        """The Dice of a prediction without the structure's border voxels."""
        return 2 * (1 - self.border_share) / (2 - self.border_share)

    @property
    def tube_width_mm(self) -> float:
        """The diameter of a round tube of the largest piece's volume and length; NaN for no tube."""
        return 2 * math.sqrt(self.volume_ml * 1000 * self.largest_piece / (math.pi * self.length_mm))

    @property
    def tubular(self) -> bool:
        """Long for its width, and, unlike a plate, about as wide as the largest sphere within.

        The sphere sits on a voxel's centre, and may be half a voxel too small.
        """
        inner_mm = 2 * self.radius_mm + min(self.spacing_mm)
        return self.length_mm >= TUBE_DIAMETERS * self.tube_width_mm and self.tube_width_mm <= 2 * inner_mm


def describe_shape(mask: Mask, spacing_mm: Sequence[float]) -> StructureShape:
    """Size and shape of an (I, J, K) mask; see `StructureShape` for one without voxels.

    Raises `TypeError` for a mask that is not bool, `ValueError` unless it is 3D and the spacing three positive numbers.
    """
    spacing = checked_spacing(spacing_mm)
    if mask.dtype != bool:
        raise TypeError(f"a mask is a bool array: got {mask.dtype}")
    if mask.ndim != 3:
        raise ValueError(f"a mask has three axes: got shape {mask.shape}")
    box = foreground_box(mask)
    return _describe(mask[box.slices], spacing) if box else _nothing(spacing)


def describe_shapes(
    label_map: Array, spacing_mm: Sequence[float], values: Sequence[int], *, threads: int = 1
) -> dict[int, StructureShape]:
    """Size and shape of each of `values` in an (I, J, K) label map, all found in one pass over it.

    Raises as `delineate.metrics.score_label_maps`.
    """
    spacing = checked_spacing(spacing_mm)
    first, second, order = in_memory_order(label_map, label_map)
    counted = tally(first, second, values, threads=threads)
    back = np.argsort(order)

    def describe(index: int) -> StructureShape:
        if not counted.counts[index].any():
            return _nothing(spacing)
        mask = first[counted.slices(index)] == values[index - 1]
        return _describe(mask.transpose(back), spacing)

    with ThreadPoolExecutor(threads) as pool:
        return dict(zip(values, pool.map(describe, range(1, len(values) + 1)), strict=True))


def _nothing(spacing_mm: TripleMM) -> StructureShape:
    nan = math.nan
    return StructureShape(0, spacing_mm, (0, 0, 0), nan, 0, largest_piece=nan, radius_mm=nan, length_mm=nan)


def _describe(mask: Mask, spacing_mm: TripleMM) -> StructureShape:
    """`mask`: not empty, and cut to its box."""
    import cc3d

    components, pieces = cc3d.connected_components(mask.astype(np.uint8), connectivity=26, return_N=True)
    measured = cc3d.statistics(components)
    sizes = measured["voxel_counts"][1:]
    number = 1 + int(sizes.argmax())
    largest = np.asarray(components[measured["bounding_boxes"][number]] == number)
    voxels, largest_voxels = int(sizes.sum()), int(sizes.max())
    radius_mm = _radius_mm(largest, spacing_mm)
    return StructureShape(
        voxels=voxels,
        spacing_mm=spacing_mm,
        extent_voxels=(mask.shape[0], mask.shape[1], mask.shape[2]),
        border_share=int(np.count_nonzero(border(np.ascontiguousarray(mask)))) / voxels,
        pieces=int(pieces),
        largest_piece=largest_voxels / voxels,
        radius_mm=radius_mm,
        length_mm=_length_mm(largest, spacing_mm, voxels=largest_voxels, radius_mm=radius_mm),
    )


def _radius_mm(mask: Mask, spacing_mm: TripleMM) -> float:
    """From the deepest voxel's centre to the nearest side of a voxel outside."""
    import edt

    inside = np.ascontiguousarray(np.pad(mask, 1))
    depth_mm = edt.edt(inside, anisotropy=spacing_mm)
    deepest = np.unravel_index(int(depth_mm.argmax()), inside.shape)
    reach_mm = float(depth_mm[deepest])
    # The transform goes to centres: the nearest side is looked for among all voxels whose centres may be behind it.
    window = tuple(
        slice(max(0, int(at) - math.ceil(reach_mm / step) - 1), int(at) + math.ceil(reach_mm / step) + 2)
        for at, step in zip(deepest, spacing_mm, strict=True)
    )
    squares = np.zeros((1, 1, 1))
    for axis, (at, step) in enumerate(zip(deepest, spacing_mm, strict=True)):
        positions = np.arange(inside.shape[axis])[window[axis]]
        gaps_mm = np.maximum(np.abs(positions - at) - 0.5, 0) * step
        squares = squares + (gaps_mm**2).reshape([-1 if other == axis else 1 for other in range(3)])
    return math.sqrt(float(squares[~inside[window]].min()))


def _length_mm(mask: Mask, spacing_mm: TripleMM, *, voxels: int, radius_mm: float) -> float:
    """The longest way through a mask, or NaN where it cannot be a tube.

    A tube of the largest sphere's width is at least as long as the volume asks for: where even that is too short,
    nothing is looked for. The way goes through blocks of half the radius, which is near enough, and fast.
    """
    from skimage.graph import MCP_Geometric
    from skimage.measure import block_reduce

    at_most_mm = radius_mm + min(spacing_mm)
    if voxels * math.prod(spacing_mm) / (math.pi * at_most_mm**2) < TUBE_DIAMETERS * at_most_mm:
        return math.nan
    steps = [max(1, int(radius_mm / step / 2)) for step in spacing_mm]
    while mask.size > _LARGEST_BOX * math.prod(steps):
        steps = [2 * step for step in steps]
    blocks = block_reduce(mask, tuple(steps), np.max)  # type: ignore[no-untyped-call]
    edges_mm = [step * edge for step, edge in zip(steps, spacing_mm, strict=True)]
    ways = MCP_Geometric(np.where(blocks, 1.0, -1.0), sampling=edges_mm)
    end = np.argwhere(blocks)[0]
    for _ in range(2):  # the farthest block from any is one end, and the farthest from that the other
        from_end_mm = np.where(blocks, ways.find_costs([end])[0], 0)
        end = np.unravel_index(int(from_end_mm.argmax()), blocks.shape)
    return float(from_end_mm.max())
