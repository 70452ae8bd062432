"""T1 MR cropped around one synthetic hippocampus, front and back told apart."""

from __future__ import annotations

import numpy as np

from delineate.labels import LabelSet, label_set
from delineate.phantom.magnets import MAGNETS, acquire, choose_site, field_of_view
from delineate.phantom.organs import near
from delineate.phantom.patient import SyntheticPatient
from delineate.phantom.rendering import Structure, draw_build, render_channels
from delineate.phantom.shapes import Shape, as_field, bumpy, chain, common, ellipsoid, everywhere, grow, union, without
from delineate.volume import Kind, Segmentation, Volume

HIPPOCAMPUS_CHANNELS = ("MRI",)
HIPPOCAMPUS_LABELS: LabelSet = label_set({1: "anterior", 2: "posterior"})

WHITE, GREY, FLUID, AMYGDALA = 0.78, 0.55, 0.16, 0.53


def make_hippocampus_patient(seed: int, *, site: str | None = None, coarse: float = 1.0) -> SyntheticPatient:
    """T1 of about 37 x 52 x 38 mm, float32 (1, I, J, K), and the hippocampus in it, of the left or the right side.

    Amygdala and cortex beside it are as grey as it is. The front reaches to the end of the head of the hippocampus.
    `coarse`: voxels so many times as large as 1 mm. Raises `ValueError` for an unknown site.
    """
    shape_rng, pose_rng, signal_rng = (np.random.default_rng(s) for s in np.random.SeedSequence(seed).spawn(3))
    site = choose_site(pose_rng, site, tuple(MAGNETS))
    side = 1 if shape_rng.random() < 0.5 else -1
    build = draw_build(shape_rng, stretch=0.08, bend_mm=2)
    step = coarse * MAGNETS[site].voxel
    grid = field_of_view(pose_rng, (37, 52, 38), (step, step, step), centre_mm=(28 * side, 2, -12), tilt_degrees=8)
    clean, labels = render_channels(_structures(shape_rng, side), grid, build, outside=WHITE, channels=1)
    return SyntheticPatient(
        id=f"hippocampus-{seed:04d}",
        image=Volume(acquire(signal_rng, clean, MAGNETS[site], grid, build, bias_mm=120), grid, Kind.MR),
        reference=Segmentation(labels, grid, HIPPOCAMPUS_LABELS),
        scanner=site,
        phase="left" if side > 0 else "right",
        seed=seed,
    )


def _structures(rng: np.random.Generator, side: int) -> list[Structure]:
    size, thin = rng.uniform(0.85, 1.15), rng.uniform(0.8, 1.1)
    x, y, z = near(rng, (26 * side, -13, -18), 1.5)
    head = ellipsoid((x, y, z), (7.5 * size, 8.5 * size, 6.2 * size), axis=(0.3 * side, 0.2, 1))
    head = bumpy(head, rng, height_mm=0.9, length_mm=8)
    body = chain(
        [(x, y + 2, z), (x + 4 * side, y + 16, z + 2), (x + 3 * side, y + 26, z + 8), (x - 4 * side, y + 33, z + 15)],
        [5.5 * size, 4.6 * size * thin, 4.2 * size * thin, 2.5],
        blend_mm=3,
    )
    body = bumpy(body, rng, height_mm=0.6, length_mm=9)
    whole = union(head, body, blend_mm=4)
    end_of_head = y + rng.uniform(7, 10)
    front = common(whole, everywhere(lambda p: as_field(p.y - end_of_head)))
    return [
        *_around(rng, side, whole, (x, y, z)),
        Structure(whole, GREY, 2),
        Structure(front, GREY, 1),
    ]


def _around(rng: np.random.Generator, side: int, whole: Shape, head: tuple[float, float, float]) -> list[Structure]:
    x, y, z = head
    amygdala = bumpy(ellipsoid((x - 1 * side, y - 9, z + 8), (8, 9, 7.5)), rng, height_mm=1, length_mm=10)
    gyrus = chain(
        [(x - 4 * side, y - 10, z - 12), (x - 2 * side, y + 12, z - 11), (x - 6 * side, y + 36, z - 3)], [5, 5, 5]
    )
    fold = chain([(x + 13 * side, y - 20, z - 8), (x + 15 * side, y + 40, z + 2)], [4.5, 4.5])
    horn = chain(
        [(x + 5 * side, y - 3, z + 5), (x + 9 * side, y + 15, z + 6), (x + 7 * side, y + 34, z + 14)], [2, 2.4, 4]
    )
    cistern = chain(
        [(x - 15 * side, y - 14, z - 2), (x - 15 * side, y + 14, z + 2), (x - 17 * side, y + 34, z + 12)], [4, 5, 6]
    )
    return [
        Structure(bumpy(gyrus, rng, height_mm=1, length_mm=12), GREY),
        Structure(bumpy(fold, rng, height_mm=1, length_mm=12), GREY),
        Structure(ellipsoid((x + 12 * side, y - 4, z + 24), (9, 24, 8)), 0.6),
        Structure(amygdala, AMYGDALA),
        Structure(without(bumpy(horn, rng, height_mm=0.6, length_mm=12), grow(whole, -0.5)), FLUID),
        Structure(without(bumpy(cistern, rng, height_mm=1.5, length_mm=14), grow(whole, 1)), FLUID),
    ]
