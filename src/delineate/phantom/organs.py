"""The organs of the upper abdomen: where they lie, what they look like, and what else lies between them."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from delineate.phantom.rendering import Structure
from delineate.phantom.shapes import (
    Field,
    FieldFunction,
    Points,
    Shape,
    Vector,
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
from delineate.phantom.tissues import FAT_HU, FLUID_HU, Tissues
from delineate.phantom.torso import Torso

LIVER, SPLEEN, RIGHT_KIDNEY, LEFT_KIDNEY, AORTA, STOMACH = 1, 2, 3, 4, 5, 6
LIVER_LESION = 9  # 7 and 8 are the spine and the lungs


class Organs(NamedTuple):
    """The shapes of the organs, already cut where they would touch."""

    liver: Shape
    spleen: Shape
    right_kidney: Shape
    left_kidney: Shape
    aorta: Shape
    stomach: Shape


def draw_organs(rng: np.random.Generator, torso: Torso) -> Organs:
    """Organs of random size, place and shape, inside the torso's abdomen."""
    abdomen = torso.abdomen
    right, left = _draw_kidney(rng, side=-1), _draw_kidney(rng, side=1)
    aorta = _draw_aorta(rng)
    spleen = common(_draw_spleen(rng), abdomen)
    spleen = without(spleen, grow(left, 5), blend_mm=3)
    stomach = common(_draw_stomach(rng), abdomen)
    stomach = without(stomach, grow(left, 8), grow(spleen, 4), grow(aorta, 6), prism((0, 42), (30, 28)), blend_mm=5)
    liver = common(_draw_liver(rng), abdomen, blend_mm=2)
    liver = without(liver, grow(right, 6), grow(stomach, 3), grow(spleen, 4), grow(aorta, 5), blend_mm=4)
    return Organs(liver, spleen, right, left, aorta, stomach)


def near(rng: np.random.Generator, centre: Vector, spread_mm: float) -> Vector:
    """A point within `spread_mm` of `centre` along each axis."""
    x, y, z = (float(c + rng.uniform(-spread_mm, spread_mm)) for c in centre)
    return x, y, z


def sized(rng: np.random.Generator, radii: Vector, spread: float) -> Vector:
    """Radii changed together by up to the fraction `spread`, and each by up to a third of it."""
    together = rng.uniform(1 - spread, 1 + spread)
    x, y, z = (float(r * together * rng.uniform(1 - spread / 3, 1 + spread / 3)) for r in radii)
    return x, y, z


def _draw_kidney(rng: np.random.Generator, *, side: int) -> Shape:
    centre = near(rng, (side * 68, 37, -42 if side < 0 else -26), 5)
    radii = sized(rng, (25, 27, 53), 0.12)
    # The upper pole leans towards the spine and backwards.
    axis = (-side * rng.uniform(0.12, 0.3), rng.uniform(0.05, 0.2), 1.0)
    hilum = (centre[0] - side * radii[0] * 0.95, centre[1] - 12, centre[2])
    bean = without(ellipsoid(centre, radii, axis=axis), ellipsoid(hilum, (16, 14, 17)), blend_mm=6)
    return bumpy(bean, rng, height_mm=1.5, length_mm=40)


def _draw_aorta(rng: np.random.Generator) -> Shape:
    swing, width = rng.uniform(-3, 5), rng.uniform(8.5, 12)
    heights = (170, 100, 60, 0, -60, -100, -190)
    across, deep = (20, 17, 10, 8 + swing, 8 + swing, 6, 4), (22, 18, 9, 6, 6, 7, 9)
    centres = [(float(x), float(y), float(z)) for x, y, z in zip(across, deep, heights, strict=True)]
    return chain(centres, [width * f for f in (1.15, 1.12, 1.08, 1, 0.9, 0.85, 0.8)], blend_mm=4)


def _draw_spleen(rng: np.random.Generator) -> Shape:
    centre = near(rng, (82, 30, 26), 5)
    outer = ellipsoid(centre, sized(rng, (37, 52, 57), 0.16), axis=(0.1, -0.25, 1))
    inner = ellipsoid((centre[0] - 52, centre[1] - 24, centre[2] - 6), (42, 50, 64))
    return bumpy(without(outer, inner, blend_mm=10), rng, height_mm=3, length_mm=50)


def _draw_stomach(rng: np.random.Generator) -> Shape:
    fill, sag = rng.uniform(0.8, 1.15), rng.uniform(-14, 10)
    centres = [
        near(rng, (48, 12, 46), 4),
        near(rng, (54, -18, 18), 5),
        near(rng, (40, -42, -14 + sag / 2), 6),
        near(rng, (4, -50, -32 + sag), 6),
        near(rng, (-20, -36, -24 + sag / 2), 4),
    ]
    bag = chain(centres, [fill * r for r in (30, 27, 23, 17, 9)], blend_mm=12)
    return bumpy(bag, rng, height_mm=3, length_mm=45)


def _draw_liver(rng: np.random.Generator) -> Shape:
    right = ellipsoid(near(rng, (-60, -2, 14), 4), sized(rng, (56, 75, 82), 0.1), axis=(0.24, 0, 1))
    reach, thick = rng.uniform(30, 72), rng.uniform(0.85, 1.15)
    left = chain([(-35, -34, 28), (15, -44, 32), (reach, -40, 38)], [36 * thick, 26 * thick, 10], blend_mm=8)
    below = ellipsoid(near(rng, (-8, -8, -72), 6), (60, 78, 60))
    midline = prism((4, 42), (40, 42))
    lobes = without(union(right, left, blend_mm=22), below, midline, blend_mm=14)
    return bumpy(lobes, rng, height_mm=3, length_mm=60)


def organ_structures(rng: np.random.Generator, organs: Organs, tissues: Tissues) -> list[Structure]:
    """Vessels, the organs with what is in them, in the order in which they are drawn."""
    cava = chain(
        [(-20, 12, -190), (-22, 9, -60), (-25, 4, 0), (-23, -3, 45), (-14, -12, 85), (-8, -20, 110)],
        [11, 11, 11, 12, 12, 12],
    )
    return [
        *_renal_vessels(organs, tissues),
        Structure(chain([(6, 6, 140), (10, 0, 72), (26, -2, 58)], [7, 7, 8]), tissues.gut_wall),
        Structure(bumpy(_pancreas(rng), rng, height_mm=2, length_mm=18), tissues.pancreas),
        Structure(organs.liver, tissues.liver, LIVER),
        *_liver_vessels(organs, tissues),
        *_lesions(rng, organs.liver, tissues),
        Structure(cava, tissues.cava),
        *_gallbladder(rng, tissues),
        Structure(organs.spleen, _mottled(rng, tissues), SPLEEN),
        *_kidney_structures(rng, organs.right_kidney, tissues, RIGHT_KIDNEY),
        *_kidney_structures(rng, organs.left_kidney, tissues, LEFT_KIDNEY),
        *_stomach_structures(rng, organs.stomach, tissues),
        Structure(organs.aorta, tissues.aorta, AORTA),
    ]


def _renal_vessels(organs: Organs, tissues: Tissues) -> list[Structure]:
    tubes = []
    for kidney in (organs.right_kidney, organs.left_kidney):
        x, y, z = ((a + b) / 2 for a, b in zip(kidney.low, kidney.high, strict=True))
        tubes += [Structure(chain([(0, 2, z + 4), (x * 0.72, y - 8, z)], [4.5, 4.5]), tissues.cava)]
        tubes += [Structure(chain([(8, 8, z + 10), (x * 0.72, y - 3, z + 3)], [3, 3]), tissues.aorta)]
    return tubes


def _pancreas(rng: np.random.Generator) -> Shape:
    lift = rng.uniform(-6, 6)
    centres = [(-28, -10, -34), (-16, -14, -18 + lift), (14, -20, -6 + lift), (52, 10, 12 + lift)]
    return chain(centres, [14, 11, 9, 9], blend_mm=6)


def _liver_vessels(organs: Organs, tissues: Tissues) -> list[Structure]:
    gate = (-34.0, -12.0, 12.0)
    portal = union(
        chain([(-4, -8, -14), gate], [6.5, 6]),
        chain([gate, (-62, 0, 18), (-86, 12, 4)], [5.5, 4.5, 2.5]),
        chain([(-62, 0, 18), (-80, -22, 40)], [4, 2]),
        chain([gate, (-14, -36, 24), (12, -44, 30)], [5, 4, 2]),
    )
    confluence = (-20.0, -10.0, 60.0)
    ends: tuple[Vector, ...] = ((-88, 16, 36), (-62, -42, 22), (2, -46, 40))
    veins = union(*(chain([confluence, end], [5, 2]) for end in ends))
    return [
        Structure(portal, tissues.portal, None),
        Structure(common(veins, organs.liver), tissues.hepatic_veins, None),
    ]


def _lesions(rng: np.random.Generator, liver: Shape, tissues: Tissues) -> list[Structure]:
    spots = []
    for _ in range(int(rng.integers(0, 5))):
        radius = rng.uniform(5, 17)
        where = point_inside(rng, liver, 0.7 * radius)
        if where is not None:
            level = FLUID_HU if rng.random() < 0.3 else tissues.lesion
            ball = bumpy(ellipsoid(where, sized(rng, (radius,) * 3, 0.2)), rng, height_mm=1.5, length_mm=20)
            spots.append(Structure(common(ball, liver), level, LIVER_LESION))
    return spots


def point_inside(rng: np.random.Generator, shape: Shape, depth_mm: float) -> Vector | None:
    """A random point at least `depth_mm` below the surface, or None if none of 200 tries is."""
    tries = rng.uniform(shape.low, shape.high, (200, 3)).astype(np.float32)
    deep = np.flatnonzero(shape.field(Points(*tries.T)) < -depth_mm)
    if deep.size == 0:
        return None
    x, y, z = (float(c) for c in tries[deep[0]])
    return x, y, z


def _gallbladder(rng: np.random.Generator, tissues: Tissues) -> list[Structure]:
    bag = ellipsoid(near(rng, (-40, -42, -22), 4), sized(rng, (13, 17, 26), 0.2), axis=(0.2, 0.35, 1))
    return [Structure(bag, tissues.gut_wall), Structure(grow(bag, -2), FLUID_HU)]


def _mottled(rng: np.random.Generator, tissues: Tissues) -> FieldFunction:
    # Early in the arterial phase the spleen enhances in bands.
    depth = 0.3 * max(tissues.spleen - 60, 0) if tissues.aorta > 200 else 0.0
    bands = waves(rng, length_mm=22, count=3)
    return lambda p: as_field(tissues.spleen + depth * bands(p))


def _kidney_structures(rng: np.random.Generator, kidney: Shape, tissues: Tissues, label: int) -> list[Structure]:
    pyramids = waves(rng, length_mm=24, count=3)

    def medulla(p: Points) -> Field:
        share = np.clip(pyramids(p) * 3 + 0.7, 0, 1)
        return as_field(tissues.renal_cortex + share * (tissues.renal_medulla - tissues.renal_cortex))

    parts = [
        Structure(grow(kidney, 4), FAT_HU),
        Structure(kidney, tissues.renal_cortex, label),
        Structure(grow(kidney, -6), medulla, label),
    ]
    where = point_inside(rng, kidney, 3) if rng.random() < 0.35 else None
    if where is not None:
        cyst = ellipsoid(where, sized(rng, (9, 9, 9), 0.5))
        parts.append(Structure(common(cyst, kidney), FLUID_HU, None))
    return parts


def _stomach_structures(rng: np.random.Generator, stomach: Shape, tissues: Tissues) -> list[Structure]:
    front, back = float(stomach.low[1]), float(stomach.high[1])
    level = front + rng.uniform(0.2, 0.55) * (back - front)
    food = waves(rng, length_mm=16, count=4)

    def contents(p: Points) -> Field:
        fluid = tissues.stomach_contents + 14 * food(p)
        # The patient lies on the back, so that gas floats to the front and the level is a plane of equal y.
        gas = np.clip((level - p.y) / 2, 0, 1)
        return as_field(fluid + gas * (-950 - fluid))

    return [
        Structure(grow(stomach, 2), FAT_HU),
        Structure(stomach, tissues.gut_wall, STOMACH),
        Structure(grow(stomach, -4), contents, STOMACH),
    ]


def bowel_structures(rng: np.random.Generator, torso: Torso, tissues: Tissues) -> list[Structure]:
    """Colon, duodenum and loops of small bowel: they look like stomach and belong to no label."""
    inside = torso.abdomen
    tubes = [*_colon(rng), chain([(-24, -32, -26), (-46, -14, -34), (-44, 2, -66), (4, -2, -78)], [10, 11, 11, 10])]
    tubes += [_loop(rng) for _ in range(12)]
    structures = []
    for tube in tubes:
        gut = common(bumpy(tube, rng, height_mm=2.5, length_mm=24), inside)
        structures += [Structure(gut, tissues.gut_wall), Structure(grow(gut, -3), _chyme(rng))]
    return structures


def _colon(rng: np.random.Generator) -> list[Shape]:
    wide = rng.uniform(0.75, 1.15)
    rise = [(-92, 24, -190), (-93, 22, -110), (-88, 14, -72)]
    across = [(-86, 4, -70), (-56, -48, -72), (0, -62, -84), (52, -58, -56), (84, -18, -22)]
    fall = [near(rng, (88, 8, -28), 4), (98, 34, -70), (97, 34, -190)]
    return [
        chain([near(rng, c, 4) for c in rise], [21 * wide, 21 * wide, 20 * wide]),
        chain([near(rng, c, 5) for c in across], [19 * wide] * 5),
        chain(fall, [15 * wide, 14 * wide, 14 * wide]),
    ]


def _loop(rng: np.random.Generator) -> Shape:
    low, high = (-66, -58, -170), (66, -8, -84)
    start = rng.uniform(low, high)
    centres = [start, start + rng.uniform(-34, 34, 3), start + rng.uniform(-40, 40, 3)]
    x = [(float(a), float(b), float(c)) for a, b, c in np.clip(centres, low, high)]
    return chain(x, [float(r) for r in rng.uniform(10, 14, 3)], blend_mm=4)


def _chyme(rng: np.random.Generator) -> FieldFunction:
    level, gassy = rng.uniform(8, 60), rng.uniform(0.12, 0.6)
    lumps = waves(rng, length_mm=20, count=7)

    def material(p: Points) -> Field:
        lump = lumps(p)
        bubble = np.clip((lump - gassy) * 10, 0, 1)
        return as_field(level + 15 * lump - bubble * 800)

    return material
