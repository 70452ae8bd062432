"""Compiled loops over voxels: geodesic distances and the random walker's equations.

Imported only when somebody points at something: numba is slow to load. They release the interpreter's lock.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import numba
import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]
Kernel = TypeVar("Kernel", bound=Callable[..., Any])

_STEPS = [(i, j, k) for i in (-1, 0, 1) for j in (-1, 0, 1) for k in (-1, 0, 1)]
BEHIND = np.array([step for step in _STEPS if step < (0, 0, 0)])
"""(13, 3): the half of the 26 neighbours that a scan in rising order has been at already."""


def _compiled(kernel: Kernel) -> Kernel:
    try:
        return numba.njit(nogil=True, cache=True)(kernel)  # type: ignore[return-value]
    except RuntimeError:  # there is no folder in which the compiled code could be kept
        return numba.njit(nogil=True)(kernel)  # type: ignore[return-value]


@_compiled
def scan(distance: Array, cost: Array, image: Array, steps: Array, lengths: Array, contrast: float) -> float:
    """One scan in rising and one in falling order: shorter ways to each voxel, IN PLACE; by how much at most.

    A step costs its length in mm times the mean cost of its ends, and `contrast` for each unit that the image changes.
    `steps`, `lengths`: (n, 3), (n,) neighbours of one half of the sphere. Voxels of infinite cost are not entered.
    """
    size_i, size_j, size_k = distance.shape
    largest = 0.0
    for turn in range(2):
        sign = 1 if turn == 0 else -1
        for a in range(size_i):
            i = a if turn == 0 else size_i - 1 - a
            for b in range(size_j):
                j = b if turn == 0 else size_j - 1 - b
                for c in range(size_k):
                    k = c if turn == 0 else size_k - 1 - c
                    here = cost[i, j, k]
                    if here == np.inf:
                        continue
                    old = distance[i, j, k]
                    best = old
                    for n in range(len(lengths)):
                        p, q, r = i + sign * steps[n, 0], j + sign * steps[n, 1], k + sign * steps[n, 2]
                        if 0 <= p < size_i and 0 <= q < size_j and 0 <= r < size_k:
                            there = distance[p, q, r]
                            if there < best:
                                way = 0.5 * (here + cost[p, q, r]) * lengths[n]
                                way += contrast * abs(image[i, j, k] - image[p, q, r])
                                best = min(best, there + way)
                    if best < old:
                        distance[i, j, k] = best
                        largest = max(largest, old - best)
    return largest


@_compiled
def sweep(rank: Array, inner: Array, areas: Array, area: Array, gain: Array) -> None:
    """Adds up the surface of every region {rank <= n}: its `area[n]`, and `gain[n]`, what `inner` falls by across it.

    Faces on the array's border count as surface across which nothing falls.
    `rank`: (I, J, K) whole numbers, the last one being outside for good. `areas`: of a face across each axis.
    `area`, `gain`: (n + 1,), as differences from one n to the next; sum them up to have them.
    """
    size_i, size_j, size_k = rank.shape
    last = len(area) - 1
    for i in range(size_i):
        for j in range(size_j):
            for k in range(size_k):
                for axis in range(3):
                    p, q, r = i + (axis == 0), j + (axis == 1), k + (axis == 2)
                    at = i if axis == 0 else (j if axis == 1 else k)
                    if at == 0 and rank[i, j, k] < last:
                        area[rank[i, j, k]] += areas[axis]
                    if p >= size_i or q >= size_j or r >= size_k:
                        if rank[i, j, k] < last:
                            area[rank[i, j, k]] += areas[axis]
                        continue
                    low, high = rank[i, j, k], rank[p, q, r]
                    fall = inner[i, j, k] - inner[p, q, r]
                    if low > high:
                        low, high, fall = high, low, -fall
                    if low < high:
                        area[low] += areas[axis]
                        gain[low] += areas[axis] * fall
                        area[min(high, last)] -= areas[axis]
                        gain[min(high, last)] -= areas[axis] * fall


@_compiled
def apply(x: Array, free: Array, diagonal: Array, weights: tuple[Array, Array, Array], out: Array) -> float:
    """`out` = A x on the free voxels, for the weighted Laplacian A plus a diagonal; gives x . A x over them.

    `weights`: along each axis, (I, J, K), of the link from a voxel to the next one; the last plane has none.
    """
    size_i, size_j, size_k = x.shape
    along_i, along_j, along_k = weights
    total = 0.0
    for i in range(size_i):
        for j in range(size_j):
            for k in range(size_k):
                if not free[i, j, k]:
                    continue
                value = diagonal[i, j, k] * x[i, j, k]
                if i > 0:
                    value -= along_i[i - 1, j, k] * x[i - 1, j, k]
                if i + 1 < size_i:
                    value -= along_i[i, j, k] * x[i + 1, j, k]
                if j > 0:
                    value -= along_j[i, j - 1, k] * x[i, j - 1, k]
                if j + 1 < size_j:
                    value -= along_j[i, j, k] * x[i, j + 1, k]
                if k > 0:
                    value -= along_k[i, j, k - 1] * x[i, j, k - 1]
                if k + 1 < size_k:
                    value -= along_k[i, j, k] * x[i, j, k + 1]
                out[i, j, k] = value
                total += value * x[i, j, k]
    return total


@_compiled
def conjugate_gradients(
    x: Array,
    free: Array,
    diagonal: Array,
    right: Array,
    weights: tuple[Array, Array, Array],
    tolerance: float,
    most: int,
) -> int:
    """Solves A x = right on the free voxels, IN PLACE, the others being fixed; how many steps it took.

    Preconditioned by the diagonal. It ends when the residual has fallen to `tolerance` of the right side's size.
    """
    size = x.size
    residual, direction, product = np.zeros_like(x), np.zeros_like(x), np.zeros_like(x)
    apply(x, free, diagonal, weights, product)
    flat_x, flat_free, flat_d = x.reshape(size), free.reshape(size), diagonal.reshape(size)
    flat_r, flat_p, flat_q = residual.reshape(size), direction.reshape(size), product.reshape(size)
    flat_b = right.reshape(size)
    rho, scale = 0.0, 1e-30
    for n in range(size):
        if flat_free[n]:
            flat_r[n] = flat_b[n] - flat_q[n]
            flat_p[n] = flat_r[n] / flat_d[n]
            rho += flat_r[n] * flat_p[n]
            # What the equations would say of a probability of one half everywhere.
            scale += 0.25 * flat_d[n]
    for step in range(most):
        if rho <= tolerance * tolerance * scale:
            return step
        alpha = rho / apply(direction, free, diagonal, weights, product)
        new = 0.0
        for n in range(size):
            if flat_free[n]:
                flat_x[n] += alpha * flat_p[n]
                flat_r[n] -= alpha * flat_q[n]
                new += flat_r[n] * flat_r[n] / flat_d[n]
        beta = new / rho
        rho = new
        for n in range(size):
            if flat_free[n]:
                flat_p[n] = flat_r[n] / flat_d[n] + beta * flat_p[n]
    return most
