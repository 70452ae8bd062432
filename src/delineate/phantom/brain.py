"""MR of brains with a tumour: four channels without skull, and three parts of the tumour inside one another."""

from __future__ import annotations

import numpy as np

from delineate.labels import LabelSet, label_set
from delineate.phantom.magnets import MAGNETS, acquire, choose_site, field_of_view
from delineate.phantom.mr import draw_head
from delineate.phantom.organs import sized
from delineate.phantom.patient import SyntheticPatient
from delineate.phantom.rendering import Structure, draw_build, render_channels
from delineate.phantom.shapes import Shape, Vector, bumpy, chain, common, ellipsoid, grow, union, without
from delineate.volume import Kind, Segmentation, Volume

TUMOUR_CHANNELS = ("FLAIR", "T1w", "T1gd", "T2w")
TUMOUR_LABELS: LabelSet = label_set({1: "edema", 2: "non_enhancing_tumour", 3: "enhancing_tumour"})

# Signals in FLAIR, T1, T1 with gadolinium, T2.
FLUID = (0.12, 0.18, 0.18, 1.0)
GREY = (0.60, 0.55, 0.58, 0.60)
WHITE = (0.48, 0.76, 0.78, 0.44)
EDEMA = (0.92, 0.52, 0.54, 0.82)
NECROSIS = (0.40, 0.30, 0.32, 0.92)
SOLID = (0.80, 0.46, 0.50, 0.74)
ENHANCING = (0.76, 0.56, 1.15, 0.70)
VESSEL = (0.15, 0.2, 1.05, 0.12)
GLIOSIS = (0.85, 0.6, 0.62, 0.7)


def make_tumour_patient(seed: int, *, site: str | None = None, coarse: float = 1.0) -> SyntheticPatient:
    """MR of one synthetic brain with a tumour: float32 (4, I, J, K), 0 outside the brain as in BraTS.

    The reference has edema, in it the tumour's core, in that a necrosis with an enhancing rim; every sixth tumour does
    not enhance. What enhances besides (vessels, choroid plexus), and what is bright in FLAIR besides (spots beside
    the ventricles), is no tumour. `coarse`: voxels so many times as large as 2.5 mm. Raises `ValueError` for an unknown
    site.
    """
    shape_rng, pose_rng, signal_rng = (np.random.default_rng(s) for s in np.random.SeedSequence(seed).spawn(3))
    site = choose_site(pose_rng, site, tuple(MAGNETS))
    build = draw_build(shape_rng, stretch=0.06, bend_mm=4)
    step = 2.5 * coarse * MAGNETS[site].voxel
    grid = field_of_view(pose_rng, (148, 182, 146), (step, step, step), centre_mm=(0, 0, 14), tilt_degrees=2)
    structures, brain = _structures(shape_rng)
    clean, labels = render_channels(structures, grid, build, outside=0, channels=len(TUMOUR_CHANNELS))
    _, inside = render_channels([Structure(brain, 1.0, 1)], grid, build, outside=0, channels=1)
    image = acquire(signal_rng, clean, MAGNETS[site], grid, build) * (inside > 0)
    return SyntheticPatient(
        id=f"tumour-{seed:04d}",
        image=Volume(image.astype(np.float32), grid, Kind.MR),
        reference=Segmentation(labels * (inside > 0), grid, TUMOUR_LABELS),
        scanner=site,
        phase="preoperative",
        seed=seed,
    )


def _structures(rng: np.random.Generator) -> tuple[list[Structure], Shape]:
    head = draw_head(rng)
    brain, white = head["grey"], head["white"]
    ventricles = union(head["left_ventricle"], head["right_ventricle"])
    normal = [
        Structure(head["fluid"], FLUID),
        Structure(brain, GREY),
        Structure(without(white, _fissure()), WHITE),
        Structure(common(_fissure(), brain), FLUID),
        Structure(head["brainstem"], WHITE),
        *(Structure(shape, GREY) for shape in _deep_grey()),
        *_spots(rng, white),
        Structure(ventricles, FLUID),
        *(Structure(plexus, ENHANCING) for plexus in _plexuses()),
        *(Structure(common(vessel, head["fluid"]), VESSEL) for vessel in _vessels(rng)),
    ]
    inside = union(brain, head["brainstem"])
    return [*normal, *_tumour(rng, common(grow(brain, -2), white, blend_mm=4), brain, ventricles)], inside


def _fissure() -> Shape:
    return ellipsoid((0, 0, 70), (2.2, 90, 34))


def _deep_grey() -> list[Shape]:
    return [
        shape
        for side in (1, -1)
        for shape in (
            ellipsoid((side * 11, 8, 12), (8, 14, 9)),
            ellipsoid((side * 22, -6, 12), (7, 17, 12), axis=(0.2 * side, 0, 1)),
        )
    ]


def _plexuses() -> list[Shape]:
    return [chain([(side * 12, 4, 26), (side * 20, 26, 15)], [1.8, 2.8]) for side in (1, -1)]


def _vessels(rng: np.random.Generator) -> list[Shape]:
    sinus = chain([(0, -66, 46), (0, -30, 82), (0, 20, 86), (0, 66, 58), (0, 78, 20)], [2.5, 3, 3.5, 4, 4])
    transverse = [chain([(0, 78, 18), (side * 40, 58, 2), (side * 52, 30, -8)], [4, 4, 3.5]) for side in (1, -1)]
    middle = [chain([(side * 14, -16, -14), (side * 44, -10, -4)], [2.2, rng.uniform(1.2, 2)]) for side in (1, -1)]
    return [sinus, *transverse, *middle]


def _spots(rng: np.random.Generator, white: Shape) -> list[Structure]:
    """Small bright spots beside the ventricles, as with age."""
    spots = []
    for _ in range(int(rng.integers(0, 7))):
        side = 1 if rng.random() < 0.5 else -1
        centre = (side * rng.uniform(20, 30), rng.uniform(-34, 36), rng.uniform(22, 38))
        spots.append(Structure(common(ellipsoid(centre, sized(rng, (2.8, 3.6, 2.6), 0.35)), white), GLIOSIS))
    return spots


def _tumour(rng: np.random.Generator, allowed: Shape, brain: Shape, ventricles: Shape) -> list[Structure]:
    """Edema, core, rim and necrosis, in the order in which they are drawn."""
    side = 1 if rng.random() < 0.5 else -1
    centre: Vector = (side * rng.uniform(20, 40), rng.uniform(-46, 44), rng.uniform(-4, 46))
    radius, swelling = rng.uniform(9, 19), rng.uniform(6, 16)
    axis = (rng.normal(), rng.normal(), rng.normal() + 0.1)
    core = ellipsoid(centre, sized(rng, (radius, 1.15 * radius, 0.95 * radius), 0.12), axis=axis)
    core = bumpy(core, rng, height_mm=0.16 * radius, length_mm=1.8 * radius)
    around = bumpy(grow(core, swelling), rng, height_mm=5, length_mm=26)
    edema = without(common(around, allowed, blend_mm=3), ventricles)
    core = without(common(core, grow(brain, -1)), ventricles)
    if rng.random() < 1 / 6:
        return [Structure(edema, EDEMA, 1), Structure(core, SOLID, 2)]
    rim = bumpy(grow(core, -rng.uniform(3.0, 5.5)), rng, height_mm=0.8, length_mm=9)
    parts = [Structure(edema, EDEMA, 1), Structure(core, ENHANCING, 3), Structure(rim, _varied(rng, NECROSIS), 2)]
    if rng.random() < 0.35:
        aside = tuple(float(c + 0.75 * radius * d) for c, d in zip(centre, rng.uniform(-1, 1, 3), strict=True))
        solid = common(ellipsoid((aside[0], aside[1], aside[2]), sized(rng, (0.5 * radius,) * 3, 0.2)), core)
        parts.append(Structure(solid, SOLID, 2))
    return parts


def _varied(rng: np.random.Generator, signals: tuple[float, ...]) -> tuple[float, ...]:
    return tuple(float(signal * rng.uniform(0.88, 1.12)) for signal in signals)
