"""How a scanner sees a patient: where its voxels lie, and its noise."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from delineate.geometry import FloatArray, Grid, Triple, compose_affine
from delineate.phantom.shapes import Field


@dataclass(frozen=True, slots=True)
class Scanner:
    """What one scanner and its protocol do to every scan.

    `rows`: voxels along I and J. `spacing_mm`: in plane, wider for large patients. `noise_hu`: standard deviation in
    mid-body. `grain`: smoothing of the noise in voxels, 0 for white. `offset_hu`: error of calibration.
    """

    rows: int
    spacing_mm: float
    thickness_mm: float
    noise_hu: float
    grain: float
    offset_hu: float


SCANNERS = {
    "A": Scanner(rows=128, spacing_mm=2.8, thickness_mm=4.0, noise_hu=16, grain=0.7, offset_hu=0),
    "B": Scanner(rows=112, spacing_mm=3.2, thickness_mm=5.0, noise_hu=12, grain=1.0, offset_hu=6),
    "C": Scanner(rows=128, spacing_mm=2.7, thickness_mm=3.0, noise_hu=30, grain=0.0, offset_hu=-5),
}


def tilted(rng: np.random.Generator, most_degrees: float) -> FloatArray:
    """A 3x3 rotation by up to `most_degrees` about each of x, y and z."""
    turn: FloatArray = np.eye(3)
    for axis, angle in enumerate(np.deg2rad(rng.uniform(-most_degrees, most_degrees, 3))):
        a, b = (n for n in range(3) if n != axis)
        step = np.eye(3)
        step[a, a] = step[b, b] = np.cos(angle)
        step[a, b], step[b, a] = -np.sin(angle), np.sin(angle)
        turn = turn @ step
    return turn


def centred_grid(shape: Triple, spacing_mm: FloatArray, direction: FloatArray, centre_mm: FloatArray) -> Grid:
    """The grid of that shape, spacing and 3x3 direction whose middle lies at `centre_mm`."""
    linear = direction * spacing_mm
    return Grid(shape, compose_affine(linear, centre_mm - linear @ ((np.asarray(shape) - 1) / 2)))


def add_noise(rng: np.random.Generator, image: Field, scanner: Scanner, *, cupping_hu: float) -> Field:
    """The image (I, J, K) with noise, streaks and cupping as the scanner makes them.

    Noise is strongest in mid-body, where the fewest photons come through; streaks run from side to side, the longer
    way through the body; cupping darkens the middle by `cupping_hu`.
    """
    middle = _middleness(image.shape)
    noise = _grainy(rng, image.shape, scanner.grain) * (0.45 + 0.75 * middle)
    streaks = _grainy(rng, (1, *image.shape[1:]), 0.7) * middle * 0.3
    body = cupping_hu * middle * (image > -500)
    return np.asarray(image + scanner.noise_hu * (noise + streaks) + scanner.offset_hu - body, np.float32)


def _middleness(shape: tuple[int, ...]) -> Field:
    """1 in the middle of every slice, falling to 0 at its edges; (I, J, 1)."""
    x, y = (np.linspace(-1, 1, n, dtype=np.float32) for n in shape[:2])
    return np.asarray(np.exp(-2 * (x[:, None, None] ** 2 + 1.6 * y[None, :, None] ** 2)), np.float32)


def _grainy(rng: np.random.Generator, shape: tuple[int, ...], grain: float) -> Field:
    from scipy.ndimage import gaussian_filter1d

    noise = rng.standard_normal(shape, np.float32)
    if grain == 0:
        return noise
    for axis in (0, 1):
        noise = gaussian_filter1d(noise, grain, axis=axis, mode="wrap")
    return np.asarray(noise / max(float(noise.std()), 1e-6), np.float32)
