"""MR of a synthetic chest around the heart: chambers that share one signal, of which one is segmented."""

from __future__ import annotations

import numpy as np

from delineate.labels import LabelSet, label_set
from delineate.phantom.magnets import MAGNETS, acquire, choose_site, field_of_view
from delineate.phantom.organs import near, sized
from delineate.phantom.patient import SyntheticPatient
from delineate.phantom.rendering import Structure, draw_build, render_channels
from delineate.phantom.shapes import Shape, Vector, bumpy, chain, common, ellipsoid, grow, prism, union, without
from delineate.volume import Kind, Segmentation, Volume

HEART_CHANNELS = ("MRI",)
HEART_LABELS: LabelSet = label_set({1: "left_atrium"})

BLOOD, MUSCLE, FAT, LUNG, WALL, MARROW = 0.9, 0.42, 0.72, 0.05, 0.34, 0.5
APEX: Vector = (0.55, -0.45, -0.7)  # where the ventricles point to: left, front, below


def make_heart_patient(seed: int, *, site: str | None = None, coarse: float = 1.0) -> SyntheticPatient:
    """MR of one synthetic chest, float32 (1, I, J, K), and the left atrium with the mouths of its veins.

    All blood is equally bright: only place and shape tell the left atrium from the other chambers and vessels.
    `coarse`: voxels so many times as large as 3 x 3 x 3.3 mm. Raises `ValueError` for an unknown site.
    """
    shape_rng, pose_rng, signal_rng = (np.random.default_rng(s) for s in np.random.SeedSequence(seed).spawn(3))
    site = choose_site(pose_rng, site, tuple(MAGNETS))
    build = draw_build(shape_rng, stretch=0.1, bend_mm=5)
    step = coarse * MAGNETS[site].voxel
    grid = field_of_view(pose_rng, (264, 204, 132), (3 * step, 3 * step, 3.3 * step), centre_mm=(4, 0, 0))
    structures = [*_chest(shape_rng), *_heart(shape_rng)]
    clean, labels = render_channels(structures, grid, build, outside=0, channels=1)
    return SyntheticPatient(
        id=f"heart-{seed:04d}",
        image=Volume(acquire(signal_rng, clean, MAGNETS[site], grid, build), grid, Kind.MR),
        reference=Segmentation(labels, grid, HEART_LABELS),
        scanner=site,
        phase="diastole",
        seed=seed,
    )


def _chest(rng: np.random.Generator) -> list[Structure]:
    fat = rng.uniform(6, 22)
    wall = prism((0, 0), (118, 84), power=2.3)
    inside = prism((0, 0), (104, 70), power=2.3)
    between = union(prism((6, -4), (44, 62)), prism((0, 55), (34, 34)), blend_mm=20)
    liver = bumpy(ellipsoid((-50, 0, -84), (70, 76, 52)), rng, height_mm=3, length_mm=50)
    return [
        Structure(grow(wall, fat), FAT),
        Structure(wall, WALL),
        Structure(inside, LUNG),
        Structure(common(between, inside), FAT),
        Structure(common(liver, inside), 0.5),
        Structure(prism((0, 72), (21, 17)), MARROW),
        Structure(prism((0, 92), (8, 7)), 0.85),
        Structure(chain([(10, 40, -90), (4, 44, 0), (2, 44, 90)], [6, 7, 6]), MUSCLE),
    ]


def _heart(rng: np.random.Generator) -> list[Structure]:
    size = rng.uniform(0.9, 1.1)
    left = ellipsoid(near(rng, (40, -26, -22), 3), sized(rng, (21 * size, 20 * size, 40 * size), 0.1), axis=APEX)
    right = ellipsoid(near(rng, (6, -44, -18), 3), sized(rng, (24 * size, 17 * size, 38 * size), 0.1), axis=APEX)
    wall = grow(left, rng.uniform(8, 12))
    atrium, veins = _left_atrium(rng, size)
    body = common(union(atrium, veins, blend_mm=5), grow(atrium, rng.uniform(9, 12)))
    other_atrium = bumpy(ellipsoid((-30, -20, -4), sized(rng, (22, 24, 28), 0.12)), rng, height_mm=2, length_mm=30)
    apart = grow(body, 3.5)
    return [
        Structure(union(grow(wall, 3), grow(right, 6), grow(other_atrium, 5), blend_mm=10), FAT),
        Structure(without(grow(right, 3.5), apart), MUSCLE),
        Structure(without(grow(other_atrium, 3), apart), MUSCLE),
        Structure(wall, MUSCLE),
        Structure(without(right, wall, apart), BLOOD),
        Structure(without(other_atrium, apart), BLOOD),
        Structure(without(left, apart), BLOOD),
        *(Structure(without(vessel, apart), BLOOD) for vessel in _vessels(rng)),
        Structure(apart, MUSCLE),
        Structure(veins, BLOOD),
        Structure(body, BLOOD, 1),
        Structure(without(chain([(24, 14, -8), (32, -4, -14)], [11, 12]), body), BLOOD),
    ]


def _left_atrium(rng: np.random.Generator, size: float) -> tuple[Shape, Shape]:
    """The atrium with its appendage, and the pulmonary veins, of which some patients have three and some five."""
    x, y, z = near(rng, (8, 22, 6), 4)
    radii = sized(rng, (31 * size, 20 * size, 24 * size), 0.15)
    atrium = ellipsoid((x, y, z), radii, axis=(rng.uniform(-0.2, 0.2), rng.uniform(-0.2, 0.2), 1))
    ear = chain([(x + 24, y - 8, z + 8), near(rng, (46, -8, 18), 4)], [9 * size, 5 * size], blend_mm=3)
    mouths: list[tuple[Vector, Vector]] = [
        ((x - 18, y + 4, z + 8), near(rng, (-64, 34, 26), 5)),
        ((x - 18, y + 5, z - 8), near(rng, (-62, 42, -16), 5)),
        ((x + 20, y + 5, z + 8), near(rng, (72, 36, 26), 5)),
        ((x + 20, y + 5, z - 8), near(rng, (72, 44, -14), 5)),
    ]
    kind = rng.random()
    if kind < 0.2:
        mouths.pop()
    elif kind > 0.85:
        mouths.append(((x - 20, y + 5, z), near(rng, (-64, 38, 4), 4)))
    veins = [chain([start, stop], [7 * size, rng.uniform(4, 6)]) for start, stop in mouths]
    return bumpy(union(atrium, ear, blend_mm=8), rng, height_mm=1.5, length_mm=25), union(*veins, blend_mm=3)


def _vessels(rng: np.random.Generator) -> list[Shape]:
    wide = rng.uniform(0.9, 1.2)
    return [
        chain([(10, -18, -4), (-6, -24, 24), (-10, -22, 90)], [13 * wide, 14 * wide, 13 * wide], blend_mm=4),
        chain([(26, 44, 95), (24, 46, 0), (18, 48, -95)], [11 * wide, 11 * wide, 10 * wide]),
        chain([(10, -44, 8), (20, -34, 34), (22, -8, 46)], [13, 13, 12], blend_mm=5),
        chain([(22, -8, 46), (-30, 6, 42), (-66, 18, 34)], [11, 10, 7], blend_mm=5),
        chain([(22, -8, 46), (44, 14, 42), (70, 26, 40)], [11, 9, 7], blend_mm=5),
        chain([(-28, -20, 4), (-32, -14, 50), (-30, -16, 95)], [10, 9, 9]),
        chain([(-30, -12, -20), (-30, 0, -60), (-26, 6, -95)], [12, 12, 12]),
    ]
