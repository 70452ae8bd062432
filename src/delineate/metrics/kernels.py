"""Compiled loops over voxels and surfels. Imported only when a score is asked for: numba is slow to load.

They release the interpreter's lock, so that structures can be scored in threads, and write to arrays
that the caller made.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from numba import njit

Array = npt.NDArray[Any]

OUTSIDE, INSIDE = 0, 255  # the codes of neighbourhoods without surface


@njit(cache=True, nogil=True)
def count_pairs(reference: Array, prediction: Array, index_of: Array, counts: Array, boxes: Array, first: int) -> None:
    """Add to `counts[r, p]` the voxels of index r in the reference and p in the prediction.

    `reference`, `prediction`: (I, J, K) unsigned. `index_of`: index of each value; values beyond its end
    have that of its last entry. `boxes`: (indices, 3, 2) lowest and highest position of each index in
    either map, widened; index 0, the background, gets none. `first`: position of the slab's first plane.
    """
    last = len(index_of) - 1
    for i in range(reference.shape[0]):
        for j in range(reference.shape[1]):
            k = 0
            while k < reference.shape[2]:
                # One update a run of equal voxels: most of a row is background.
                r, p = reference[i, j, k], prediction[i, j, k]
                start = k
                k += 1
                while k < reference.shape[2] and reference[i, j, k] == r and prediction[i, j, k] == p:
                    k += 1
                row = index_of[r] if r < last else index_of[last]
                column = index_of[p] if p < last else index_of[last]
                counts[row, column] += k - start
                if row:
                    _widen(boxes[row], first + i, j, start, k - 1)
                if column:
                    _widen(boxes[column], first + i, j, start, k - 1)


@njit(cache=True, nogil=True, inline="always")
def _widen(box: Array, i: int, j: int, first: int, last: int) -> None:
    box[0, 0] = min(box[0, 0], i)
    box[0, 1] = max(box[0, 1], i)
    box[1, 0] = min(box[1, 0], j)
    box[1, 1] = max(box[1, 1], j)
    box[2, 0] = min(box[2, 0], first)
    box[2, 1] = max(box[2, 1], last)


@njit(cache=True, nogil=True)
def sum_positions(mask: Array) -> tuple[int, int, int]:
    """The sums of i, j and k over the voxels of a mask (I, J, K)."""
    total_i, total_j, total_k = 0, 0, 0
    for i in range(mask.shape[0]):
        for j in range(mask.shape[1]):
            count = 0
            for k in range(mask.shape[2]):
                if mask[i, j, k]:
                    count += 1
                    total_k += k
            total_i += i * count
            total_j += j * count
    return total_i, total_j, total_k


@njit(cache=True, nogil=True)
def mark_border(mask: Array, border: Array) -> None:
    """Write which voxels of a mask (I, J, K) have one of their six neighbours outside, as 0 or 1."""
    for i in range(mask.shape[0]):
        _mark_border(mask, i, border[i])


@njit(cache=True, nogil=True)
def mark_layer(mask: Array, spacing_mm: Array, width_mm: float, layer: Array) -> None:
    """Mark the voxels of a mask that are at most `width_mm` from one of its border voxels, from centre to centre.

    A border voxel has one of its six neighbours outside; beyond the array is outside. `mask`: (I, J, K) bool;
    `layer`: of its shape, False. Each axis is crossed in turn, with squared distances above the width given up.
    """
    limit_mm2 = width_mm**2
    rows, columns = mask.shape[1], mask.shape[2]
    border = np.empty((rows, columns), dtype=np.uint8)
    along_k, plane = np.empty((rows, columns)), np.empty((rows, columns))
    for i in range(mask.shape[0]):
        if not _mark_border(mask, i, border):
            continue
        for j in range(rows):
            _measure_row(border[j], spacing_mm[2], along_k[j])
        plane[:] = along_k
        _spread(along_k, spacing_mm[1], limit_mm2, plane)
        step = 0
        while (step * spacing_mm[0]) ** 2 <= limit_mm2 and step < mask.shape[0]:
            left_mm2 = limit_mm2 - (step * spacing_mm[0]) ** 2
            if i >= step:
                _mark_within(mask[i - step], plane, left_mm2, layer[i - step])
            if i + step < mask.shape[0]:
                _mark_within(mask[i + step], plane, left_mm2, layer[i + step])
            step += 1


@njit(cache=True, nogil=True)
def _mark_border(mask: Array, i: int, border: Array) -> bool:
    """Write which voxels of plane i are border voxels, as 0 or 1; returns whether there is one."""
    last_i, last_j, last_k = mask.shape[0] - 1, mask.shape[1] - 1, mask.shape[2] - 1
    found = False
    for j in range(last_j + 1):
        outer = i in (0, last_i) or j in (0, last_j)
        for k in range(last_k + 1):
            border[j, k] = 0
            if not mask[i, j, k]:
                continue
            if (
                outer
                or k in (0, last_k)
                or not (mask[i - 1, j, k] and mask[i + 1, j, k])
                or not (mask[i, j - 1, k] and mask[i, j + 1, k])
                or not (mask[i, j, k - 1] and mask[i, j, k + 1])
            ):
                border[j, k] = 1
                found = True
    return found


@njit(cache=True, nogil=True)
def _spread(squares_mm2: Array, step_mm: float, limit_mm2: float, lowest: Array) -> None:
    """Lower each row of `lowest` to what other rows of `squares_mm2` within the limit are, plus the way to them."""
    rows = squares_mm2.shape[0]
    step = 1
    while step < rows and (step * step_mm) ** 2 <= limit_mm2:
        way_mm2 = (step * step_mm) ** 2
        for j in range(rows - step):
            for k in range(squares_mm2.shape[1]):
                lowest[j, k] = min(lowest[j, k], squares_mm2[j + step, k] + way_mm2)
                lowest[j + step, k] = min(lowest[j + step, k], squares_mm2[j, k] + way_mm2)
        step += 1


@njit(cache=True, nogil=True)
def _mark_within(mask: Array, squares_mm2: Array, limit_mm2: float, layer: Array) -> None:
    for j in range(mask.shape[0]):
        for k in range(mask.shape[1]):
            layer[j, k] |= mask[j, k] & (squares_mm2[j, k] <= limit_mm2)


@njit(cache=True, nogil=True)
def encode_surface(inside: Array, codes: Array) -> int:
    """Write the code of every 2x2x2 neighbourhood, or 0 where no surface is; returns how many have one.

    `inside`: (I, J, K) of uint8, 0 or 1. `codes`: (I - 1, J - 1, K - 1) of uint8; see `surfels` for the bits.
    """
    total = 0
    for i in range(codes.shape[0]):
        for j in range(codes.shape[1]):
            a, b, c, d = inside[i, j], inside[i, j + 1], inside[i + 1, j], inside[i + 1, j + 1]
            before = a[0] | b[0] << 1 | c[0] << 2 | d[0] << 3
            for k in range(codes.shape[2]):
                after = a[k + 1] | b[k + 1] << 1 | c[k + 1] << 2 | d[k + 1] << 3
                code = before | after << 4
                before = after
                found = code not in (OUTSIDE, INSIDE)
                codes[i, j, k] = code if found else OUTSIDE
                total += found
    return total


@njit(cache=True, nogil=True)
def collect_surfels(codes: Array, points: Array) -> None:
    """Write the positions (surfels, 3) of the codes that are not 0, in the array's order."""
    n = 0
    for i in range(codes.shape[0]):
        for j in range(codes.shape[1]):
            for k in range(codes.shape[2]):
                if codes[i, j, k] != OUTSIDE:
                    points[n, 0], points[n, 1], points[n, 2] = i, j, k
                    n += 1


@njit(cache=True, nogil=True)
def measure_planes(codes: Array, spacing_mm: Array, squares_mm2: Array) -> None:
    """Write the squared distance of every position to the nearest surfel of its own plane i, or infinity.

    First along k, then along j by the lower envelope of parabolas: Felzenszwalb and Huttenlocher,
    "Distance Transforms of Sampled Functions", Theory of Computing 2012. `squares_mm2`: shape of `codes`.
    """
    rows, columns = codes.shape[1], codes.shape[2]
    column = np.empty(rows)
    sites, bounds = np.empty(rows, dtype=np.int64), np.empty(rows + 1)
    for i in range(codes.shape[0]):
        plane = squares_mm2[i]
        for j in range(rows):
            _measure_row(codes[i, j], spacing_mm[2], plane[j])
        for k in range(columns):
            for j in range(rows):
                column[j] = plane[j, k]
            _lower_envelope(column, spacing_mm[1], plane[:, k], sites, bounds)


@njit(cache=True, nogil=True)
def _measure_row(codes: Array, step_mm: float, squares_mm2: Array) -> None:
    last = -1
    for k in range(codes.shape[0]):
        last = k if codes[k] != OUTSIDE else last
        squares_mm2[k] = ((k - last) * step_mm) ** 2 if last >= 0 else np.inf
    for k in range(codes.shape[0] - 1, -1, -1):
        last = k if codes[k] != OUTSIDE else last
        if last >= k:
            squares_mm2[k] = min(squares_mm2[k], ((last - k) * step_mm) ** 2)


@njit(cache=True, nogil=True)
def _lower_envelope(heights: Array, step_mm: float, lowest: Array, sites: Array, bounds: Array) -> None:
    """Write min over q of heights[q] + ((p - q) step_mm)² to lowest[p]; `sites`, `bounds` are room to work in."""
    found = 0
    for q in range(heights.shape[0]):
        if heights[q] == np.inf:
            continue
        while True:
            if found == 0:
                crossing = -np.inf
                break
            site = sites[found - 1]
            rise = (heights[q] - heights[site]) / step_mm**2
            crossing = (rise + q * q - site * site) / (2 * (q - site))
            if crossing > bounds[found - 1]:
                break
            found -= 1
        sites[found], bounds[found] = q, crossing
        found += 1
    if found == 0:
        lowest[:] = np.inf
        return
    bounds[found] = np.inf
    n = 0
    for p in range(heights.shape[0]):
        while bounds[n + 1] < p:
            n += 1
        lowest[p] = heights[sites[n]] + ((p - sites[n]) * step_mm) ** 2


@njit(cache=True, nogil=True)
def measure_points(points: Array, squares_mm2: Array, step_mm: float, distances_mm: Array) -> None:
    """Write the distance of each point (N, 3) to the nearest surfel, from the planes that `measure_planes` wrote.

    `step_mm`: from plane to plane. Planes are asked from the point's own outwards, until none can be nearer.
    """
    for n in range(points.shape[0]):
        i, j, k = points[n]
        nearest_mm2 = np.inf
        for step in range(squares_mm2.shape[0]):
            way_mm2 = (step * step_mm) ** 2
            if way_mm2 >= nearest_mm2:
                break
            if i - step >= 0:
                nearest_mm2 = min(nearest_mm2, squares_mm2[i - step, j, k] + way_mm2)
            if i + step < squares_mm2.shape[0]:
                nearest_mm2 = min(nearest_mm2, squares_mm2[i + step, j, k] + way_mm2)
        distances_mm[n] = np.sqrt(nearest_mm2)
