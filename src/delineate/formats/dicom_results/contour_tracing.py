"""The borders of a mask as polygons, exactly: along the edges of its pixels, compiled by numba.

Imported only where contours are written: numba is slow to load.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import numba
import numpy as np
import numpy.typing as npt

from delineate.geometry import FloatArray

BEFORE, AFTER = 2, 3  # columns of a node that say which nodes come before and after it

Kernel = TypeVar("Kernel", bound=Callable[..., Any])


def _compiled(kernel: Kernel) -> Kernel:
    try:
        return numba.njit(nogil=True, cache=True)(kernel)  # type: ignore[return-value]
    except RuntimeError:  # there is no folder in which the compiled code could be kept
        return numba.njit(nogil=True)(kernel)  # type: ignore[return-value]


def mask_polygons(mask: npt.NDArray[np.bool_]) -> list[FloatArray]:
    """One polygon (N, 2) for each region of an (I, J) mask, in continuous indices; none for an empty mask.

    Regions are connected by edges: pixels that touch at a corner only belong to two regions whose polygons share that
    point, and never cross. Vertices lie between pixels (at halves), each at a turn; the region is on the left of the
    way, seen with I to the right and J up. A hole is joined to its region by a keyhole: a bridge of no width from its
    first vertex towards lower I, there and back (PS3.3 C.8.8.6.3). Filled even-odd, the polygons give the mask.
    """
    padded = np.pad(np.asarray(mask), 1).astype(np.uint8)
    points, ends = _trace(padded)
    return [part - 0.5 for part in np.split(points.astype(np.float64), ends[:-1])] if len(ends) else []


@_compiled
def _leaving(padded: Any, p: int, q: int) -> int:
    """Bits of the directions +I, +J, -I, -J in which an edge with the mask on its left leaves corner (p, q)."""
    low_low, high_low = padded[p, q], padded[p + 1, q]
    low_high, high_high = padded[p, q + 1], padded[p + 1, q + 1]
    bits = 0
    if high_high and not high_low:
        bits |= 1
    if low_high and not high_high:
        bits |= 2
    if low_low and not low_high:
        bits |= 4
    if high_low and not low_low:
        bits |= 8
    return bits


@_compiled
def _trace(padded: Any) -> Any:
    """Corners (M, 2) of all polygons in a row, and where each ends. `padded`: uint8 with a border of zeros."""
    corners_p, corners_q = padded.shape[0] - 1, padded.shape[1] - 1
    open_edges = np.zeros((corners_p, corners_q), np.uint8)
    count = 0
    for p in range(corners_p):
        for q in range(corners_q):
            bits = _leaving(padded, p, q)
            open_edges[p, q] = bits
            count += (bits & 1) + (bits >> 1 & 1) + (bits >> 2 & 1) + (bits >> 3 & 1)
    # A ring of nodes (p, q, before, after) for each border. A hole has at least four, and its keyhole two more.
    nodes = np.empty((2 * count, 4), np.int32)
    node_at = np.full((corners_p, corners_q), -1, np.int32)
    heads = np.empty(count, np.int32)
    used, regions = 0, 0
    # Corners are met in order of p, then q: the first of a border is its lowest, and whatever a ray from there towards
    # lower p can meet has been traced and joined already.
    for p in range(corners_p):
        for q in range(corners_q):
            while open_edges[p, q]:
                head = used
                used, area = _ring(open_edges, node_at, nodes, used, p, q)
                if area > 0:
                    heads[regions] = head
                    regions += 1
                else:
                    used = _join(node_at, nodes, used, head)
    return _turns(nodes, heads[:regions], used)


@_compiled
def _ring(open_edges: Any, node_at: Any, nodes: Any, used: int, p: int, q: int) -> tuple[int, int]:
    """Follow one border from (p, q) until it closes; nodes in use now, and the signed area inside."""
    head, area, direction = used, 0, 0
    while not open_edges[p, q] >> direction & 1:
        direction += 1
    while True:
        open_edges[p, q] &= ~(1 << direction) & 15
        nodes[used, 0], nodes[used, 1] = p, q
        nodes[used, BEFORE], nodes[used, AFTER] = used - 1, used + 1
        node_at[p, q] = used
        used += 1
        if direction == 0:
            p += 1
        elif direction == 1:
            q += 1
            area += p
        elif direction == 2:
            p -= 1
        else:
            q -= 1
            area -= p
        # Left first: it stays with its own pixel where another touches at the corner.
        turn = (direction + 1) & 3
        tries = 0
        while tries < 3 and not open_edges[p, q] >> turn & 1:
            turn = (turn + 3) & 3
            tries += 1
        if tries == 3:  # the edge it began with is taken, so it has come back
            break
        direction = turn
    nodes[head, BEFORE], nodes[used - 1, AFTER] = used - 1, head
    return used, area


@_compiled
def _join(node_at: Any, nodes: Any, used: int, hole: int) -> int:
    """Put the ring of a hole into the ring that lies next towards lower p; nodes in use now."""
    p, q = nodes[hole, 0] - 1, nodes[hole, 1]
    while node_at[p, q] < 0:
        p -= 1
    shore = node_at[p, q]
    back, again = used, used + 1  # second visits of the hole's corner and of the shore
    nodes[back], nodes[again] = nodes[hole], nodes[shore]
    last, onward = nodes[hole, BEFORE], nodes[shore, AFTER]
    _link(nodes, shore, hole)
    _link(nodes, last, back)
    _link(nodes, back, again)
    _link(nodes, again, onward)
    return used + 2


@_compiled
def _link(nodes: Any, first: int, second: int) -> None:
    nodes[first, AFTER], nodes[second, BEFORE] = second, first


@_compiled
def _turns(nodes: Any, heads: Any, used: int) -> Any:
    """Of every ring, the corners at which the way turns."""
    points = np.empty((used, 2), np.int32)
    ends = np.empty(len(heads), np.int64)
    size = 0
    for n in range(len(heads)):
        node = heads[n]
        while True:
            here, came, goes = nodes[node], nodes[nodes[node, BEFORE]], nodes[nodes[node, AFTER]]
            same_p = np.sign(here[0] - came[0]) == np.sign(goes[0] - here[0])
            same_q = np.sign(here[1] - came[1]) == np.sign(goes[1] - here[1])
            if not (same_p and same_q):
                points[size] = here[:2]
                size += 1
            node = nodes[node, AFTER]
            if node == heads[n]:
                break
        ends[n] = size
    return points[:size].copy(), ends
