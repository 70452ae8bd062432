"""CT of synthetic patients with a reference segmentation."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from delineate.geometry import FloatArray, Grid, Triple
from delineate.labels import LabelSet, label_set
from delineate.phantom.acquisition import SCANNERS, Scanner, add_noise, centred_grid, tilted
from delineate.phantom.organs import (
    AORTA,
    LEFT_KIDNEY,
    LIVER,
    LIVER_LESION,
    RIGHT_KIDNEY,
    SPLEEN,
    STOMACH,
    bowel_structures,
    draw_organs,
    organ_structures,
)
from delineate.phantom.rendering import Build, LabelMap, Structure, draw_build, render
from delineate.phantom.tissues import AIR_HU, PHASES, Tissues, draw_tissues
from delineate.phantom.torso import LUNGS, SPINE, Torso, draw_torso, spine_structures, torso_structures
from delineate.volume import Kind, Segmentation, Volume

PATIENT_LABELS: LabelSet = label_set(
    {
        LIVER: "liver",
        SPLEEN: "spleen",
        RIGHT_KIDNEY: "right_kidney",
        LEFT_KIDNEY: "left_kidney",
        AORTA: "aorta",
        STOMACH: "stomach",
        SPINE: "spine",
        LUNGS: "lungs",
    }
)
"""What is segmented. Lesions belong to their organ, contents to the stomach; the spinal canal is not spine."""


TILT_DEGREES = 5.0


@dataclass(frozen=True, slots=True, eq=False)
class SyntheticPatient:
    """A scan and its reference on the same grid; `scanner` and `phase` are groups for splits and scores."""

    id: str
    image: Volume
    reference: Segmentation
    scanner: str
    phase: str
    seed: int


@dataclass(frozen=True, slots=True)
class Examination:
    """What of a patient is scanned, and what of that is segmented.

    `name`: of the patients' ids. `draw`: the structures in the order in which they are drawn. `bottom_mm`, `top_mm`:
    the ranges in which the scan ends. `values`: of the drawn labels, the value each has in `labels`; others are
    background.
    """

    name: str
    draw: Callable[[np.random.Generator, Torso, Tissues], list[Structure]]
    bottom_mm: tuple[float, float]
    top_mm: tuple[float, float]
    labels: LabelSet
    values: Mapping[int, int]


def draw_abdomen(rng: np.random.Generator, torso: Torso, tissues: Tissues) -> list[Structure]:
    """Everything that lies in the upper abdomen, each structure of `PATIENT_LABELS` and lesions with a value."""
    organs = draw_organs(rng, torso)
    return [
        *torso_structures(rng, torso, tissues),
        *spine_structures(rng, tissues),
        *bowel_structures(rng, torso, tissues),
        *organ_structures(rng, organs, tissues),
    ]


ABDOMEN = Examination(
    "phantom",
    draw_abdomen,
    bottom_mm=(-130, -112),
    top_mm=(104, 122),
    labels=PATIENT_LABELS,
    values={**{value: value for value in PATIENT_LABELS.values}, LIVER_LESION: LIVER},
)


def make_patient(
    seed: int,
    *,
    matrix: Triple | None = None,
    spacing_scale: float = 1.0,
    scanner: str | None = None,
    phase: str | None = None,
    tilt_degrees: float = TILT_DEGREES,
    examination: Examination = ABDOMEN,
) -> SyntheticPatient:
    """CT of the upper abdomen of one synthetic patient, int16 HU, and the reference for `PATIENT_LABELS`.

    Another `examination` may scan another part of the patient, or segment other structures.

    The seed decides the anatomy whatever the other arguments are, and the scanner and phase unless they are given.
    Array axes run to Left, Posterior and Superior but for up to `tilt_degrees` about each axis. The field of view
    is that of the scanner, or wider for a large patient; `spacing_scale` makes voxels larger and fewer; `matrix`
    is the shape (I, J, K) that the field of view is divided into instead. Deterministic for one version of numpy.

    Raises `ValueError` for an unknown scanner or phase, or a scale, matrix or tilt out of range.
    """
    if spacing_scale <= 0 or not 0 <= tilt_degrees <= 15 or (matrix is not None and min(matrix) < 4):
        raise ValueError(f"out of range: {spacing_scale=} (> 0), {tilt_degrees=} (0..15), {matrix=} (>= 4 each)")
    choices, shape_rng, tissue_rng, pose_rng, noise_rng = _generators(seed)
    scanner = str(choices.choice(list(SCANNERS))) if scanner is None else scanner
    phase = str(choices.choice(list(PHASES), p=[0.2, 0.3, 0.5])) if phase is None else phase
    if scanner not in SCANNERS:
        raise ValueError(f"unknown scanner {scanner!r}: expected one of {list(SCANNERS)}")
    tissues = draw_tissues(tissue_rng, phase)
    build = draw_build(shape_rng, stretch=0.07, bend_mm=5)
    torso = draw_torso(shape_rng)
    structures = examination.draw(shape_rng, torso, tissues)
    heights = (pose_rng.uniform(*examination.bottom_mm), pose_rng.uniform(*examination.top_mm))
    grid = _field_of_view(pose_rng, SCANNERS[scanner], torso, build, heights, tilt_degrees)
    grid = _divided(grid, matrix or _coarser(grid.shape, spacing_scale))
    clean, drawn = render(structures, grid, build, outside=AIR_HU)
    noisy = add_noise(noise_rng, clean, SCANNERS[scanner], cupping_hu=noise_rng.uniform(0, 10))
    image = np.clip(np.rint(noisy), -1024, 3071).astype(np.int16)
    return SyntheticPatient(
        id=f"{examination.name}-{seed:04d}",
        image=Volume(image[None], grid, Kind.CT),
        reference=Segmentation(_valued(drawn, examination.values), grid, examination.labels),
        scanner=scanner,
        phase=phase,
        seed=seed,
    )


def make_cohort(
    count: int, seed: int = 0, *, matrix: Triple | None = None, spacing_scale: float = 1.0
) -> Iterator[SyntheticPatient]:
    """`count` patients one by one, with the seeds `seed`, `seed` + 1, ...; nothing for a count of 0."""
    for number in range(count):
        yield make_patient(seed + number, matrix=matrix, spacing_scale=spacing_scale)


def _generators(seed: int) -> list[np.random.Generator]:
    # One stream for each purpose, so that another scanner or matrix leaves the anatomy as it is.
    return [np.random.default_rng(child) for child in np.random.SeedSequence(seed).spawn(5)]


def _valued(drawn: LabelMap, values: Mapping[int, int]) -> LabelMap:
    table = np.zeros(256, np.uint8)
    table[list(values)] = list(values.values())
    return table[drawn]


def _field_of_view(
    rng: np.random.Generator,
    scanner: Scanner,
    torso: Torso,
    build: Build,
    heights: tuple[float, float],
    tilt_degrees: float,
) -> Grid:
    """The scanner's own grid, centred on the body to within millimetres and wide enough for it."""
    low, high = np.array([*torso.low_mm, heights[0]]), np.array([*torso.high_mm, heights[1]])
    middle = (low + high) / 2 * build.scale + [*rng.uniform(-4, 4, 2), 0]
    size: FloatArray = (high - low) * build.scale
    direction = tilted(rng, tilt_degrees)
    # The body is long along z: tilted, its ends move aside in the plane.
    lean = np.abs(direction[:2, 2]).max() * size[2]
    margin = 2 * (max(build.bend_mm) + 4) + 8
    spacing = max(scanner.spacing_mm, (max(size[:2]) + lean + margin) / scanner.rows)
    shape = (scanner.rows, scanner.rows, round(size[2] / scanner.thickness_mm))
    return centred_grid(shape, np.array([spacing, spacing, scanner.thickness_mm]), direction, middle)


def _coarser(shape: Triple, scale: float) -> Triple:
    i, j, k = (max(4, round(n / scale)) for n in shape)
    return i, j, k


def _divided(grid: Grid, shape: Triple) -> Grid:
    if shape == grid.shape:
        return grid
    spacing = np.asarray(grid.extent_mm) / shape
    middle = grid.affine[:3, :3] @ ((np.asarray(grid.shape) - 1) / 2) + grid.affine[:3, 3]
    return centred_grid(shape, spacing, grid.direction, middle)
