"""The random walker: how probably a walk from each voxel comes to what is meant before it comes to the rest."""

from __future__ import annotations

import numpy as np

from delineate.editing.boxes import Mask
from delineate.editing.prompts.windows import Values
from delineate.geometry import TripleMM

_LEAST_WEIGHT = 1e-3  # of a link across the sharpest edge
_SHARP = 2.0  # standard deviations of noise that a step must have to be an edge
_LIKENESS = 0.5  # how much a voxel's own intensity counts, beside its neighbours
_TOLERANCE, _MOST_STEPS = 2e-3, 400


def walk(probable: Values, free: Mask, image: Values, alike: Values, cell_mm: TripleMM, *, noise: float) -> Values:
    """Probabilities on the free cells, the others keeping theirs, (I, J, K), 0 to 1.

    Grady 2006, with intensities as prior (Grady 2005): links of neighbours are weak where `image` steps by more than
    the noise, and strong across large faces of near cells; each cell is also drawn to its likeness `alike`. Solved by
    conjugate gradients from `probable`, to what a threshold at one half needs.
    """
    from delineate.editing.prompts.kernels import conjugate_gradients

    links_i, links_j, links_k = (_links(image, axis, cell_mm, noise) for axis in range(3))
    weights = (links_i, links_j, links_k)
    diagonal = np.full(image.shape, _LIKENESS, np.float32)
    for axis, links in enumerate(weights):
        diagonal += links
        after = np.moveaxis(diagonal, axis, 0)
        after[1:] += np.moveaxis(links, axis, 0)[:-1]
    x = np.ascontiguousarray(probable, dtype=np.float32).copy()
    right = (_LIKENESS * alike).astype(np.float32)
    conjugate_gradients(x, np.ascontiguousarray(free), diagonal, right, weights, _TOLERANCE, _MOST_STEPS)
    return x


def _links(image: Values, axis: int, cell_mm: TripleMM, noise: float) -> Values:
    """The weight of the link from each cell to the next along an axis; 0 in the last plane."""
    steps = np.diff(image, axis=axis) / (_SHARP * noise)
    weights = np.maximum(np.exp(-0.5 * steps**2), _LEAST_WEIGHT)
    # The face between two cells by their distance, in units of a cube of the same volume.
    weights *= np.prod(cell_mm) / cell_mm[axis] ** 2 / float(np.prod(cell_mm)) ** (1 / 3)
    links = np.zeros(image.shape, np.float32)
    np.moveaxis(links, axis, 0)[:-1] = np.moveaxis(weights, axis, 0)
    return links
