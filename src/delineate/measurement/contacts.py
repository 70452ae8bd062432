"""Where structures meet: voxels that two of them share, and faces between a voxel of one and a voxel of the other."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from delineate.geometry import Box, FloatArray, Grid, Triple, TripleMM, box_of, crop_grid, index_to_world
from delineate.measurement.cropping import Cropped, Mask
from delineate.volume import cut


@dataclass(frozen=True, slots=True)
class Contact:
    """What one structure has to do with another.

    `shared_voxels`: in both. `area_mm2`: of the first one's voxel faces behind which the second one begins;
    `surface_mm2`: of all its faces but those at the scan's border. `point_mm`: where they meet, LPS; None where they do
    not.
    """

    shared_voxels: int
    area_mm2: float
    surface_mm2: float
    point_mm: TripleMM | None

    @property
    def share(self) -> float:
        """The part of the surface that is in contact, 0 to 1; 0 for a structure without surface."""
        return self.area_mm2 / self.surface_mm2 if self.surface_mm2 else 0.0


def contact(first: Cropped, second: Cropped, *, shape: Triple) -> Contact:
    """How two structures of one scan of `shape` meet; `second` may be given in part, around `first`."""
    around = surroundings(first.box, shape)
    grid = _grid_of(first, around)
    inside = placed(first, around)
    beyond = placed(second, around) & ~inside
    shared = placed(second, around) & inside
    touched = surface = 0.0
    point = None
    for axis, area_mm2 in enumerate(face_areas_mm2(grid)):
        low, high = (_part(axis, 0), _part(axis, 1))
        between = inside[low] != inside[high]
        meeting = inside[low] & beyond[high] | beyond[low] & inside[high]
        surface += area_mm2 * int(np.count_nonzero(between))
        touched += area_mm2 * int(np.count_nonzero(meeting))
        if point is None and meeting.any():
            point = _middle(meeting, grid, 0.5 * np.eye(3)[axis])
    if shared.any():
        point = _middle(shared, grid, np.zeros(3))
    return Contact(int(np.count_nonzero(shared)), touched, surface, point)


def surroundings(box: Box, shape: Triple) -> Box:
    """A box with one voxel more at each side, where the scan has one."""
    return box_of((max(a - 1, 0), min(b + 1, n)) for a, b, n in zip(box.start, box.stop, shape, strict=True))


def placed(part: Cropped, box: Box) -> Mask:
    """The structure's mask in another box of the same scan."""
    ranges = zip(box.start, box.stop, part.box.start, strict=True)
    return np.asarray(cut(part.mask, box_of((a - first, b - first) for a, b, first in ranges)))


def meet(first: Box, second: Box) -> bool:
    """Whether two boxes have voxels in common."""
    pairs = zip(first.start, first.stop, second.start, second.stop, strict=True)
    return all(a < d and c < b for a, b, c, d in pairs)


def face_areas_mm2(grid: Grid) -> tuple[float, float, float]:
    """The area of a voxel's faces across each array axis."""
    a, b, c = grid.affine[:3, :3].T
    i, j, k = (float(np.linalg.norm(np.cross(*pair))) for pair in ((b, c), (c, a), (a, b)))
    return i, j, k


def _grid_of(part: Cropped, box: Box) -> Grid:
    ranges = zip(box.start, box.stop, part.box.start, strict=True)
    return crop_grid(part.grid, box_of((a - first, b - first) for a, b, first in ranges))


def _part(axis: int, side: int) -> tuple[slice, ...]:
    """All but the last (0) or the first (1) voxels along an axis."""
    chosen = slice(None, -1) if side == 0 else slice(1, None)
    return tuple(chosen if a == axis else slice(None) for a in range(3))


def _middle(where: npt.NDArray[np.bool_], grid: Grid, offset: FloatArray) -> TripleMM:
    """One of the places, the nearest to their mean."""
    places = np.argwhere(where).astype(np.float64)
    best = places[np.argmin(((places - places.mean(axis=0)) ** 2).sum(axis=1))]
    x, y, z = index_to_world(grid, best + offset)
    return float(x), float(y), float(z)
