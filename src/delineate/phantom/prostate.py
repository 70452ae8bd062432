"""MR of a synthetic pelvis around the prostate: T2 and ADC in thick slices, and the gland's two zones."""

from __future__ import annotations

import numpy as np

from delineate.labels import LabelSet, label_set
from delineate.phantom.magnets import MAGNETS, Magnet, acquire, choose_site, field_of_view
from delineate.phantom.organs import near, point_inside, sized
from delineate.phantom.patient import SyntheticPatient
from delineate.phantom.rendering import Material, Structure, draw_build, render_channels
from delineate.phantom.shapes import (
    Field,
    FieldFunction,
    Points,
    Shape,
    as_field,
    bumpy,
    chain,
    common,
    ellipsoid,
    grow,
    prism,
    union,
    waves,
    without,
)
from delineate.volume import Kind, Segmentation, Volume

PROSTATE_CHANNELS = ("T2", "ADC")
PROSTATE_LABELS: LabelSet = label_set({1: "peripheral_zone", 2: "transition_zone"})

# Signal in T2; ADC in units of 1e-6 mm2/s, as scanners write it.
FAT, MUSCLE, BONE, CORTEX = (0.78, 250.0), (0.2, 1150.0), (0.5, 420.0), (0.06, 200.0)
URINE, GAS, STOOL, VESICLE = (1.05, 2700.0), (0.02, 60.0), (0.5, 1300.0), (0.85, 1750.0)
PERIPHERAL, TRANSITION, STROMA, TUMOUR = (0.82, 1750.0), (0.46, 1250.0), (0.2, 950.0), (0.4, 720.0)
ADC_NOISE = 2500.0  # times a magnet's noise


def make_prostate_patient(seed: int, *, site: str | None = None, coarse: float = 1.0) -> SyntheticPatient:
    """MR of one synthetic pelvis, float32 (2, I, J, K): T2, and ADC, which is a quantity and blurred as it is in fact.

    The reference has the peripheral and the transition zone; tumours belong to their zone, the stroma in front to none.
    Voxels are 1.5 x 1.5 x 4 mm, `coarse` times as large in the plane. Raises `ValueError` for an unknown site.
    """
    shape_rng, pose_rng, signal_rng = (np.random.default_rng(s) for s in np.random.SeedSequence(seed).spawn(3))
    site = choose_site(pose_rng, site, tuple(MAGNETS))
    magnet = MAGNETS[site]
    build = draw_build(shape_rng, stretch=0.08, bend_mm=3)
    step = 1.5 * coarse * magnet.voxel
    grid = field_of_view(pose_rng, (132, 126, 68), (step, step, 4 * magnet.voxel), centre_mm=(0, 2, 4))
    structures = [*_pelvis(shape_rng), *_gland(shape_rng)]
    clean, labels = render_channels(structures, grid, build, outside=0, channels=2)
    t2 = acquire(signal_rng, clean[:1], magnet, grid, build, bias_mm=200)
    adc = _measured_adc(signal_rng, clean[1], magnet)
    return SyntheticPatient(
        id=f"prostate-{seed:04d}",
        image=Volume(np.concatenate([t2, adc[None]]), grid, Kind.MR),
        reference=Segmentation(labels, grid, PROSTATE_LABELS),
        scanner=site,
        phase="biparametric",
        seed=seed,
    )


def _measured_adc(rng: np.random.Generator, adc: Field, magnet: Magnet) -> Field:
    from scipy.ndimage import gaussian_filter

    noise = ADC_NOISE * magnet.noise * rng.standard_normal(adc.shape, np.float32)
    return as_field(np.maximum(gaussian_filter(adc, (0.9, 0.9, 0)) + noise, 0))


def _pelvis(rng: np.random.Generator) -> list[Structure]:
    full, bowel = rng.uniform(0.6, 1.2), rng.uniform(9, 19)
    rectum = chain([near(rng, (0, 40, 60), 4), (0, 36 + bowel / 3, 20), (0, 32 + bowel / 3, -12), (0, 36, -60)], [
        bowel, bowel, 0.8 * bowel, 7,
    ])  # fmt: skip
    bladder = bumpy(
        ellipsoid((0, -18, 36 + 22 * full), (36 * full, 28 * full, 24 * full)), rng, height_mm=2, length_mm=40
    )
    contents = GAS if rng.random() < 0.5 else STOOL
    return [
        Structure(prism((0, 4), (140, 100)), FAT),
        *(Structure(prism((side * 50, -6), (12, 34)), MUSCLE) for side in (1, -1)),
        *(Structure(prism((side * 70, -10), (13, 40)), CORTEX) for side in (1, -1)),
        *(Structure(prism((side * 71, -10), (11, 37)), BONE) for side in (1, -1)),
        Structure(ellipsoid((0, -50, -16), (24, 11, 20)), CORTEX),
        *(Structure(ellipsoid((side * 16, -50, -16), (12, 8, 17)), BONE) for side in (1, -1)),
        *(Structure(ellipsoid((side * 30, 52, 0), (20, 12, 60)), MUSCLE) for side in (1, -1)),
        Structure(grow(bladder, 4), MUSCLE),
        Structure(bladder, URINE),
        *(Structure(_vesicle(rng, side), VESICLE) for side in (1, -1)),
        Structure(grow(rectum, 4), MUSCLE),
        Structure(rectum, contents),
        Structure(chain([(0, 2, -20), (0, 4, -60)], [11, 9]), MUSCLE),
    ]


def _vesicle(rng: np.random.Generator, side: int) -> Shape:
    return bumpy(chain([(side * 5, 16, 25), near(rng, (side * 32, 17, 34), 3)], [5, 7]), rng, height_mm=2, length_mm=9)


def _gland(rng: np.random.Generator) -> list[Structure]:
    """The gland in its capsule; with age the transition zone grows and presses the peripheral one to a rim."""
    growth = rng.uniform(0, 1)
    width, depth, height = 23 + 6 * growth, 17 + 6 * growth, 21 + 7 * growth
    whole = bumpy(ellipsoid((0, 3, 0), sized(rng, (width, depth, height), 0.06)), rng, height_mm=1.2, length_mm=24)
    share = 0.62 + 0.22 * growth
    inner = ellipsoid((0, 3 - (1 - share) * depth * 0.75, 3), (share * width, share * depth, 0.9 * share * height))
    inner = common(bumpy(inner, rng, height_mm=1.5, length_mm=14), grow(whole, -1.5))
    front = common(ellipsoid((0, 3 - depth, 2), (12, 6, 16)), whole)
    return [
        Structure(grow(whole, 1.2), CORTEX),
        Structure(whole, (_streaky(rng, PERIPHERAL[0]), PERIPHERAL[1]), 1),
        Structure(grow(inner, 0.8), STROMA, 1),
        Structure(inner, (_nodular(rng, TRANSITION[0], 0.22, growth), _nodular(rng, TRANSITION[1], 320.0, growth)), 2),
        Structure(front, STROMA, 0),
        Structure(common(chain([(0, 0, 20), (0, 2, -24)], [2.5, 2.5]), whole), (0.75, 1700.0), None),
        *_tumours(rng, without(whole, inner)),
    ]


def _streaky(rng: np.random.Generator, level: float) -> FieldFunction:
    streaks = waves(rng, length_mm=10, count=4)
    return lambda p: as_field(level * (1 - 0.15 * np.maximum(streaks(p), 0)))


def _nodular(rng: np.random.Generator, level: float, contrast: float, growth: float) -> Material:
    nodules = waves(rng, length_mm=9 + 8 * growth, count=3)

    def material(p: Points) -> Field:
        return as_field(level + contrast * (0.5 + growth) * nodules(p))

    return material


def _tumours(rng: np.random.Generator, zone: Shape) -> list[Structure]:
    where = point_inside(rng, zone, 2) if rng.random() < 0.6 else None
    if where is None:
        return []
    spot = bumpy(ellipsoid(where, sized(rng, (5.5, 4.5, 6), 0.35)), rng, height_mm=0.6, length_mm=8)
    return [Structure(common(spot, union(zone)), TUMOUR, None)]
