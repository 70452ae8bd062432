"""What holds the organs: skin, fat, muscle, ribs, spine, lungs and diaphragm, and the table under them.

Atlas coordinates in mm: x = 0 in the midsagittal plane, y = 0 halfway between belly and back, z = 0 at about T12/L1.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from delineate.phantom.rendering import Structure
from delineate.phantom.shapes import (
    Field,
    FieldFunction,
    Points,
    Shape,
    as_field,
    chain,
    common,
    ellipsoid,
    everywhere,
    grow,
    prism,
    union,
    waves,
    without,
)
from delineate.phantom.tissues import CANAL_HU, CORTICAL_HU, DISC_HU, FAT_HU, LUNG_HU, SKIN_HU, Tissues

SPINE, LUNGS = 7, 8

VERTEBRA_MM = 35.0  # from one vertebra to the next, disc included
RIB_MM = 29.0


class Torso(NamedTuple):
    """The shapes that others refer to; `low_mm` and `high_mm` bound the skin in x and y."""

    skin: Shape
    wall: Shape
    cavity: Shape
    dome: Shape
    recess: Shape
    low_mm: tuple[float, float]
    high_mm: tuple[float, float]

    @property
    def abdomen(self) -> Shape:
        """Where organs may lie: inside the muscles, under the diaphragm."""
        return common(grow(self.cavity, -1.5), grow(self.dome, -3))


def draw_torso(rng: np.random.Generator) -> Torso:
    """A torso with fat of random thickness at the sides, the front and the back, and a random diaphragm."""
    side, front, back = rng.uniform(8, 26), rng.uniform(8, 34), rng.uniform(8, 18)
    power = rng.uniform(2.15, 2.5)
    rx, ry, cy = 128 + side, 94 + (front + back) / 2, (back - front) / 2
    wall = prism((0, 0), (126, 92), power=power)
    return Torso(
        skin=prism((0, cy), (rx, ry), power=power),
        wall=wall,
        cavity=prism((0, 0), (113, 79), power=power),
        dome=_draw_dome(rng),
        recess=_recess(),
        low_mm=(-rx, cy - ry),
        high_mm=(rx, cy + ry),
    )


def _draw_dome(rng: np.random.Generator) -> Shape:
    right, left = rng.uniform(58, 72), rng.uniform(42, 56)
    return union(
        _bullet((-54, 0), (60, 73), right),
        _bullet((54, 0), (60, 73), left),
        _bullet((0, -8), (60, 66), rng.uniform(36, 46)),
        blend_mm=18,
    )


def _bullet(centre: tuple[float, float], radii: tuple[float, float], height_mm: float) -> Shape:
    base = 15.0
    top = ellipsoid((*centre, 0), (*radii, height_mm))
    low = np.array([top.low[0], top.low[1], -np.inf])
    return Shape(
        lambda p: top.field(Points(p.x, p.y, np.maximum(p.z - base, 0))), low, top.high + np.array([0, 0, base])
    )


def _recess() -> Shape:
    # The pleura reaches further down behind than in front.
    low = np.array([-np.inf, -np.inf, -12])
    return Shape(lambda p: as_field(22 - 0.35 * p.y - p.z), low, np.full(3, np.inf))


def torso_structures(rng: np.random.Generator, torso: Torso, tissues: Tissues) -> list[Structure]:
    """Table, skin, fat, muscles, ribs, lungs, heart and diaphragm, in the order in which they are drawn."""
    inside = common(torso.cavity, torso.recess)
    heart = ellipsoid((24, -26, 122), (60, 44, 48), axis=(0.4, -0.2, 1))
    backs = _back_muscles(torso)
    lungs = without(inside, torso.dome, grow(heart, 4), _mediastinum(), *backs, blend_mm=4)
    skin_mm, muscle = 2.0, tissues.muscle
    return [
        Structure(_table(torso.high_mm[1] + 4), 60.0),
        Structure(grow(_table(torso.high_mm[1] + 4), -4), -930.0),
        Structure(torso.skin, SKIN_HU),
        Structure(grow(torso.skin, -skin_mm), FAT_HU),
        Structure(torso.wall, _marbled(rng, muscle)),
        Structure(torso.cavity, FAT_HU),
        *(Structure(shape, _marbled(rng, muscle)) for shape in backs),
        Structure(_ribs(torso, rng.uniform(0, RIB_MM)), 260.0),
        Structure(without(inside, torso.dome), FAT_HU),
        Structure(heart, (tissues.aorta + tissues.cava) / 2),
        Structure(lungs, _lung_texture(rng), LUNGS),
        Structure(common(inside, torso.dome), muscle),
        Structure(common(inside, grow(torso.dome, -3)), FAT_HU),
        *(Structure(shape, muscle) for shape in _psoas(rng)),
    ]


def _table(top_mm: float) -> Shape:
    radius = 420.0

    def field(p: Points) -> Field:
        from_axis = np.hypot(p.x, p.y - top_mm + radius)
        return as_field(np.maximum(np.abs(from_axis - radius - 10) - 10, np.abs(p.x) - 205))

    return everywhere(field)


def _mediastinum() -> Shape:
    return union(prism((2, 36), (30, 60)), prism((2, -40), (14, 60)), blend_mm=10)


def _back_muscles(torso: Torso) -> list[Shape]:
    return [common(torso.wall, prism((x, 78), (29, 17))) for x in (-31, 31)]


def _psoas(rng: np.random.Generator) -> list[Shape]:
    bulk = rng.uniform(0.85, 1.15)
    return [
        chain(
            [(s * 27, 36, 5), (s * 33, 40, -45), (s * 38, 40, -85), (s * 47, 34, -150), (s * 52, 26, -200)],
            [4 * bulk, 10 * bulk, 14 * bulk, 20 * bulk, 21 * bulk],
        )
        for s in (-1, 1)
    ]


def _ribs(torso: Torso, offset_mm: float) -> Shape:
    def field(p: Points) -> Field:
        depth = (torso.wall.field(p) + 6.5) / 3.4
        # Ribs fall from the spine to the front.
        height = _wrapped(as_field(p.z - 0.45 * p.y - offset_mm), RIB_MM) / 5.5
        rib = (np.hypot(depth, height) - 1) * 3.4
        margin = np.maximum(-42, -12 - 0.75 * p.y) - p.z
        return as_field(np.maximum(np.maximum(rib, margin), 22 - np.abs(p.x)))

    return everywhere(field)


def _wrapped(z: Field, period_mm: float) -> Field:
    return as_field(np.mod(z + period_mm / 2, period_mm) - period_mm / 2)


def _marbled(rng: np.random.Generator, muscle: float) -> FieldFunction:
    grain = waves(rng, length_mm=14, count=4)
    return lambda p: as_field(muscle - 60 * np.maximum(grain(p) - 0.45, 0))


def _lung_texture(rng: np.random.Generator) -> FieldFunction:
    vessels = waves(rng, length_mm=17, count=4)

    def material(p: Points) -> Field:
        vessel = np.clip((vessels(p) - 0.42) * 8, 0, 1)
        # Dependent lung is denser: the patient lies on the back.
        return as_field(LUNG_HU + 0.6 * p.y + 650 * vessel)

    return material


def spine_structures(rng: np.random.Generator, tissues: Tissues) -> list[Structure]:
    """Vertebrae, discs and arches with the label of the spine, and the canal without."""
    offset = rng.uniform(0, VERTEBRA_MM)
    width, depth = rng.uniform(20, 24), rng.uniform(15.5, 18)
    body = prism((0, 40), (width, depth), power=2.3)
    bone, grain = tissues.marrow, waves(rng, length_mm=9, count=4)

    def marrow(p: Points) -> Field:
        return as_field(bone + 35 * grain(p))

    def disc(p: Points) -> Field:
        return as_field(11 - np.abs(_wrapped(p.z - (offset + VERTEBRA_MM / 2), VERTEBRA_MM) * 2.2))

    between = common(grow(body, -1), everywhere(lambda p: -disc(p)))
    return [
        Structure(_arches(offset), CORTICAL_HU * 0.8, SPINE),
        Structure(body, CORTICAL_HU, SPINE),
        Structure(grow(body, -3), marrow, SPINE),
        Structure(between, DISC_HU, SPINE),
        Structure(prism((0, 65), (9, 7.5)), CANAL_HU),
    ]


def _arches(offset_mm: float) -> Shape:
    ring = prism((0, 64), (15, 13))
    spinous = chain([(0, 76, -4), (0, 90, -10)], [4.5, 4])
    sides = [chain([(s * 13, 62, 0), (s * 40, 68, 0)], [5.5, 4]) for s in (-1, 1)]
    parts = union(ring, spinous, *sides)

    def field(p: Points) -> Field:
        z = _wrapped(p.z - offset_mm, VERTEBRA_MM)
        return as_field(np.maximum(parts.field(Points(p.x, p.y, z)), np.abs(z) - 13))

    low, high = np.array([-46, 48, -np.inf]), np.array([46, 95, np.inf])
    return Shape(field, low, high)
