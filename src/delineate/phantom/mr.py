"""MR of a synthetic head: several channels, a bias field, and intensities without a unit."""

from __future__ import annotations

import numpy as np

from delineate.geometry import FloatArray, Triple
from delineate.labels import LabelSet, label_set
from delineate.phantom.acquisition import centred_grid, tilted
from delineate.phantom.patient import SyntheticPatient
from delineate.phantom.rendering import Structure, atlas_points, draw_build, render
from delineate.phantom.shapes import Field, Shape, Vector, as_field, bumpy, chain, ellipsoid, grow, union, waves
from delineate.volume import Kind, Segmentation, Volume

MR_LABELS: LabelSet = label_set(
    {1: "left_hippocampus", 2: "right_hippocampus", 3: "left_ventricle", 4: "right_ventricle", 5: "brainstem"}
)

# Relative signal of scalp, skull, fluid, grey matter, white matter in each weighting.
WEIGHTINGS = {
    "T1": (1.0, 0.08, 0.18, 0.55, 0.78),
    "T2": (0.7, 0.06, 1.0, 0.62, 0.45),
    "FLAIR": (0.6, 0.05, 0.12, 0.7, 0.55),
}

SAGITTAL: FloatArray = np.array([[0.0, 0.0, -1.0], [1.0, 0.0, 0.0], [0.0, -1.0, 0.0]])
"""Directions of a sagittal series: I to Posterior, J to Inferior, K to Right."""


def make_mr_patient(
    seed: int, *, channels: int = 2, matrix: Triple = (56, 64, 40), tilt_degrees: float = 6.0
) -> SyntheticPatient:
    """MR of one synthetic head, float32 in arbitrary units, and the reference for `MR_LABELS`.

    `channels`: 1 (T1), 2 (and T2) or 3 (and FLAIR), on one grid. `matrix`: the shape (I, J, K), which divides a field
    of view of 200 x 210 x 170 mm. The slices are sagittal ("PIR") but for the tilt. Channels differ in scale, and each
    has a smooth bias of up to 30 % and Rician noise. Raises `ValueError` for other numbers of channels.
    """
    if channels not in (1, 2, 3):
        raise ValueError(f"channels must be 1, 2 or 3: {channels}")
    shape_rng, pose_rng, signal_rng = (np.random.default_rng(s) for s in np.random.SeedSequence(seed).spawn(3))
    build = draw_build(shape_rng, stretch=0.06, bend_mm=4)
    spacing = np.array([200.0, 210.0, 170.0]) / matrix
    grid = centred_grid(matrix, spacing, tilted(pose_rng, tilt_degrees) @ SAGITTAL, pose_rng.uniform(-4, 4, 3))
    shapes = draw_head(shape_rng)
    names = list(WEIGHTINGS)[:channels]
    images = []
    for name in names:
        clean, labels = render(_structures(shapes, WEIGHTINGS[name]), grid, build, outside=0)
        bias = 1 + 0.3 * waves(signal_rng, length_mm=300, count=2)(atlas_points(grid, build))
        images.append(signal_rng.uniform(150, 3000) * _rician(signal_rng, clean * bias, 0.03))
    return SyntheticPatient(
        id=f"head-{seed:04d}",
        image=Volume(np.stack(images), grid, Kind.MR),
        reference=Segmentation(labels, grid, MR_LABELS),
        scanner="MR",
        phase="+".join(names),
        seed=seed,
    )


def _rician(rng: np.random.Generator, signal: Field, level: float) -> Field:
    # The magnitude of a complex signal with the same normal noise in both parts (Gudbjartsson and Patz 1995).
    real, imaginary = (level * rng.standard_normal(signal.shape, np.float32) for _ in range(2))
    return as_field(np.hypot(signal + real, imaginary))


def draw_head(rng: np.random.Generator) -> dict[str, Shape]:
    """The parts of a head by name, from the scalp to the ventricles and the hippocampi."""
    skull = ellipsoid((0, 0, 8), (70, 86, 76))
    brain = bumpy(grow(skull, -9), rng, height_mm=1.5, length_mm=25)
    shapes = {
        "scalp": union(grow(skull, 6), chain([(0, 10, -30), (0, 18, -160)], [48, 46]), blend_mm=25),
        "skull": skull,
        "fluid": grow(skull, -6),
        "grey": brain,
        "white": bumpy(grow(brain, -8), rng, height_mm=3, length_mm=22),
        "brainstem": chain([(0, 12, -6), (0, 22, -34), (0, 28, -58)], [11, 13, 8], blend_mm=5),
    }
    for side, sign in (("left", 1), ("right", -1)):
        size = rng.uniform(0.85, 1.2)
        shapes[f"{side}_ventricle"] = _ventricle(sign, size, rng)
        shapes[f"{side}_hippocampus"] = _hippocampus(sign, rng.uniform(0.85, 1.15), rng)
    return shapes


def _ventricle(sign: int, size: float, rng: np.random.Generator) -> Shape:
    # From the frontal horn over the body to the atrium.
    points: tuple[Vector, ...] = ((10, -34, 14), (9, 0, 28), (20, 32, 16))
    return bumpy(_mirrored_chain(points, (7, 7.5, 9), sign, size), rng, height_mm=1, length_mm=20)


def _hippocampus(sign: int, size: float, rng: np.random.Generator) -> Shape:
    # The head lies in front and below, the tail behind and above.
    points: tuple[Vector, ...] = ((26, -14, -20), (31, 4, -16), (25, 24, -2))
    return bumpy(_mirrored_chain(points, (8.5, 7, 5), sign, size), rng, height_mm=1, length_mm=20)


def _mirrored_chain(points: tuple[Vector, ...], radii: tuple[float, ...], sign: int, size: float) -> Shape:
    return chain([(sign * x, y, z) for x, y, z in points], [size * r for r in radii], blend_mm=4)


def _structures(shapes: dict[str, Shape], signals: tuple[float, ...]) -> list[Structure]:
    scalp, skull, fluid, grey, white = signals
    parts = [
        Structure(shapes["scalp"], scalp),
        Structure(shapes["skull"], skull),
        Structure(shapes["fluid"], fluid),
        Structure(shapes["grey"], grey),
        Structure(shapes["white"], white),
        Structure(shapes["brainstem"], 0.85 * white + 0.15 * grey, MR_LABELS.named("brainstem").value),
    ]
    for side in ("left", "right"):
        for name, signal in ((f"{side}_ventricle", fluid), (f"{side}_hippocampus", grey)):
            parts.append(Structure(shapes[name], signal, MR_LABELS.named(name).value))
    return parts
