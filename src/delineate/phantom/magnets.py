"""How an MR scanner sees a patient: voxels, contrast, bias field, noise; each site its own way."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from delineate.geometry import FloatArray, Grid, Triple, TripleMM
from delineate.phantom.acquisition import centred_grid, tilted
from delineate.phantom.rendering import Build, atlas_points
from delineate.phantom.shapes import Field, as_field, waves


@dataclass(frozen=True, slots=True)
class Magnet:
    """What one site does to every scan.

    `voxel`: its voxels' size, times the usual. `contrast`: the exponent of signals from 0 to 1: below 1 dark tissues
    come closer to bright ones. `bias`: of the coils, as a fraction. `noise`: standard deviation, as a fraction of the
    brightest tissue.
    """

    voxel: float
    contrast: float
    bias: float
    noise: float


MAGNETS = {
    "A": Magnet(voxel=1.0, contrast=1.0, bias=0.2, noise=0.02),
    "B": Magnet(voxel=1.12, contrast=0.75, bias=0.35, noise=0.035),
    "C": Magnet(voxel=0.94, contrast=1.35, bias=0.3, noise=0.05),
}


def field_of_view(
    rng: np.random.Generator,
    size_mm: TripleMM,
    spacing_mm: TripleMM,
    *,
    direction: FloatArray | None = None,
    centre_mm: TripleMM = (0.0, 0.0, 0.0),
    tilt_degrees: float = 5.0,
) -> Grid:
    """A grid of about that size and spacing, its centre moved by millimetres, tilted by up to `tilt_degrees`.

    `direction`: of the axes before the tilt, (3, 3); to Left, Posterior, Superior if not given.
    """
    i, j, k = (max(8, round(mm / step)) for mm, step in zip(size_mm, spacing_mm, strict=True))
    shape: Triple = (i, j, k)
    middle = np.asarray(centre_mm) + rng.uniform(-3, 3, 3)
    axes = np.eye(3) if direction is None else direction
    return centred_grid(shape, np.asarray(spacing_mm, float), tilted(rng, tilt_degrees) @ axes, middle)


def acquire(
    rng: np.random.Generator, clean: Field, magnet: Magnet, grid: Grid, build: Build, *, bias_mm: float = 300
) -> npt.NDArray[np.float32]:
    """What the site measures of signals (C, I, J, K) of 0 (nothing) to about 1 (the brightest tissue).

    Each channel has a scale and a smooth bias of its own, and Rician noise: the magnitude of a complex signal with the
    same normal noise in both parts (Gudbjartsson and Patz 1995).
    """
    atlas = atlas_points(grid, build)
    images = []
    for signal in clean:
        bias = 1 + magnet.bias * waves(rng, length_mm=bias_mm, count=2)(atlas)
        shown = np.maximum(signal, 0) ** magnet.contrast * bias
        real, imaginary = (magnet.noise * rng.standard_normal(signal.shape, np.float32) for _ in range(2))
        images.append(rng.uniform(150, 3000) * np.hypot(shown + real, imaginary))
    return as_field(np.stack(images))


def choose_site(rng: np.random.Generator, site: str | None, sites: Sequence[str]) -> str:
    """The site asked for, else one by chance. Raises `ValueError` for a site that there is not."""
    drawn = str(rng.choice(list(sites)))
    if site is not None and site not in sites:
        raise ValueError(f"unknown site {site!r}: expected one of {list(sites)}")
    return site or drawn
