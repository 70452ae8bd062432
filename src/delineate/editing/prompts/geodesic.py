"""Geodesic distances, and where a region that grows by them should stop.

A step costs the more, the less a voxel's intensity is like what is meant, and the more intensity changes on the way
(Criminisi et al. 2008; Bai and Sapiro 2009).
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from delineate.editing.boxes import Mask
from delineate.editing.prompts.windows import Values
from delineate.geometry import TripleMM

_LEAST_COST = 0.05  # of a mm where all is alike: distance still counts
_MOST_SCANS, _FEW_SCANS = 30, 3
_SETTLED = 1e-3
_REGIONS = 160  # sizes that are compared
_LEAST_CELLS = 15
_ROUND = 0.1  # how much rounder regions are preferred


def distances(
    seeds: Mask, alike: Values, image: Values, cell_mm: TripleMM, *, contrast: float, within: Mask | None = None
) -> Values:
    """The cost of the cheapest way from a seed to each cell; infinite everywhere without seeds.

    `alike`: (I, J, K), 0 to 1, likeness to what is meant. `image`: intensities, in units of which a change costs
    `contrast`. Scans in alternating order (Toivanen 1996) until nothing becomes shorter. `within`: the only cells that
    ways go through; of these, a few scans are taken to be enough.
    """
    from delineate.editing.prompts.kernels import BEHIND, scan

    cost = (_LEAST_COST + (1 - alike) ** 2).astype(np.float32)
    if within is not None:
        cost[~within] = np.inf
    most = _MOST_SCANS if within is None else _FEW_SCANS
    lengths = np.sqrt(((BEHIND * np.array(cell_mm)) ** 2).sum(axis=1))
    found = np.where(seeds, 0, np.inf).astype(np.float32)
    for _ in range(most if seeds.any() else 0):
        if scan(found, cost, image, BEHIND, lengths, contrast) < _SETTLED:
            break
    return found


def grown(distance: Values, contrast: Values, cell_mm: TripleMM, *, closed: Mask) -> Mask:
    """The region {distance <= t} with the sharpest outline: t is where the contrast across it is greatest.

    The mean step of `contrast`, a clipped image, over the region's faces is compared for sizes that grow
    geometrically, without a look at each: one pass adds up what every face gives to the regions it bounds. Rounder
    ones are preferred a little. `closed`: cells that it must not reach.
    """
    from delineate.editing.prompts.kernels import sweep

    limit = float(distance[closed].min(initial=np.inf))
    within = np.sort(distance[distance < limit])
    if len(within) <= _LEAST_CELLS:
        few: Mask = distance <= (within[-1] if len(within) else 0)
        return few
    sizes = np.unique(np.geomspace(_LEAST_CELLS, len(within), _REGIONS).astype(int)) - 1
    ends = np.unique(within[sizes])
    rank = np.searchsorted(ends, distance).astype(np.int32)
    areas = np.array([cell_mm[1] * cell_mm[2], cell_mm[0] * cell_mm[2], cell_mm[0] * cell_mm[1]])
    area, gain = np.zeros(len(ends) + 1), np.zeros(len(ends) + 1)
    sweep(rank, contrast, areas, area, gain)
    score = _scores(np.cumsum(area)[:-1], np.cumsum(gain)[:-1], np.searchsorted(within, ends, side="right"), cell_mm)
    region: Mask = distance <= ends[int(score.argmax())]
    return region


def _scores(
    area: npt.NDArray[np.float64], gain: npt.NDArray[np.float64], cells: npt.NDArray[np.int64], cell_mm: TripleMM
) -> npt.NDArray[np.float64]:
    volume = cells * float(np.prod(cell_mm))
    real = np.maximum(area, 1e-9)
    return np.where(area > 0, np.abs(gain) / real * (36 * np.pi * volume**2 / real**3) ** _ROUND, -1.0)
