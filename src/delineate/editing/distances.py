"""Distances in mm to the voxels of a mask: Euclidean, between voxel centres, on anisotropic grids, exact."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from delineate.editing.boxes import Mask

Distances = npt.NDArray[np.float32]
TIE = 1e-5  # relative: lengths that agree to this are equal


def distance_to(mask: Mask, spacing_mm: Sequence[float]) -> Distances:
    """Distance in mm from each voxel's centre to the nearest one of the mask (2D or 3D); 0 in it, infinite for none.

    Exact (Felzenszwalb and Huttenlocher 2012), in 32 bits. Beyond the array's border nothing is known, so it is far.
    """
    import edt

    if not mask.any():
        return np.full(mask.shape, np.inf, np.float32)
    away, spacing = (~mask).view(np.uint8), tuple(spacing_mm)
    if not away.flags.c_contiguous:
        # Labels of a review have the wire's order in memory: turned round they need no copy.
        away, spacing = np.ascontiguousarray(away.T), spacing[::-1]
        turned: Distances = edt.edt(away, anisotropy=spacing, black_border=False, parallel=1)
        return turned.T
    found: Distances = edt.edt(away, anisotropy=spacing, black_border=False, parallel=1)
    return found


def signed_distance(mask: Mask, spacing_mm: Sequence[float]) -> Distances:
    """Distance in mm to the nearest voxel that is not in the mask, inside; minus that to the mask, outside.

    A mask of everything is +infinite, one of nothing -infinite.
    """
    return distance_to(~mask, spacing_mm) - distance_to(mask, spacing_mm)
