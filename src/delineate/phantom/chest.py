"""CT of synthetic chests with a tumour in the lung: small, in a scan that is mostly something else."""

from __future__ import annotations

import numpy as np

from delineate.labels import LabelSet, label_set
from delineate.phantom.organs import point_inside, sized
from delineate.phantom.patient import Examination
from delineate.phantom.rendering import Structure
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
    union,
    waves,
)
from delineate.phantom.tissues import AIR_HU, Tissues
from delineate.phantom.torso import LUNGS, Torso, spine_structures, torso_structures

CANCER_LABELS: LabelSet = label_set({1: "cancer"})
CANCER = 10  # 1 to 9 are the abdomen's

SHOULDERS_MM = 165.0  # where the chest begins to narrow


def draw_chest(rng: np.random.Generator, torso: Torso, tissues: Tissues) -> list[Structure]:
    """A chest from the diaphragm to the apices, with airways and large vessels, and one or two tumours.

    Vessels in the lungs and at their roots are as bright as tumours are.
    """
    torso = torso._replace(cavity=common(torso.cavity, _narrowing(torso), blend_mm=10))
    parts = torso_structures(rng, torso, tissues)
    lungs = next(part.shape for part in parts if part.label == LUNGS)
    return [
        *parts,
        *spine_structures(rng, tissues),
        *_vessels(rng, tissues),
        *(Structure(common(root, lungs), tissues.cava) for root in _roots(rng)),
        *(Structure(airway, AIR_HU + 30) for airway in _airways(rng)),
        *_tumours(rng, lungs),
    ]


CHEST_CANCER = Examination(
    "lung",
    draw_chest,
    bottom_mm=(18, 40),
    top_mm=(222, 238),
    labels=CANCER_LABELS,
    values={CANCER: 1},
)


def _narrowing(torso: Torso) -> Shape:
    rx, ry = float(torso.cavity.high[0]), float(torso.cavity.high[1])
    top = ellipsoid((0, 0, 0), (rx, ry, 62))
    low = np.array([-rx, -ry, -np.inf])

    def field(p: Points) -> Field:
        return top.field(Points(p.x, p.y, np.maximum(p.z - SHOULDERS_MM, 0)))

    return Shape(field, low, np.array([rx, ry, SHOULDERS_MM + 62]))


def _vessels(rng: np.random.Generator, tissues: Tissues) -> list[Structure]:
    wide = rng.uniform(0.9, 1.2)
    arch = chain(
        [(-6, -20, 140), (-10, -24, 178), (4, -8, 196), (20, 24, 186), (22, 38, 160), (20, 36, 20)],
        [14 * wide, 14 * wide, 13 * wide, 12 * wide, 11 * wide, 11 * wide],
        blend_mm=5,
    )
    return [
        Structure(chain([(10, 20, 240), (6, 22, 20)], [6, 7]), tissues.gut_wall),
        Structure(chain([(-26, -20, 140), (-26, -22, 235)], [9, 8]), tissues.cava),
        Structure(arch, tissues.aorta),
    ]


def _roots(rng: np.random.Generator) -> list[Shape]:
    """Vessels at the roots of the lungs, which branch into them."""
    branches = []
    for side in (1, -1):
        start = (side * 26, 0.0, 150.0)
        for _ in range(5):
            x, y, z = rng.uniform((46, -45, 95), (84, 45, 205))
            middle = (side * (26 + x) / 2, y / 2, (150 + z) / 2)
            branches.append(chain([start, middle, (side * float(x), float(y), float(z))], [7, 4.5, 2]))
    return [union(*branches, blend_mm=3)]


def _airways(rng: np.random.Generator) -> list[Shape]:
    split = rng.uniform(160, 172)
    trachea = chain([(-2, 6, 245), (0, 12, split)], [8, 8.5])
    return [trachea, *(chain([(0, 12, split), (side * 40, 12, split - 30)], [7.5, 5]) for side in (1, -1))]


def _tumours(rng: np.random.Generator, lungs: Shape) -> list[Structure]:
    spots = []
    low, high = lungs.low.copy(), lungs.high.copy()
    low[2], high[2] = 60, 205  # lungs have no lower end
    field = Shape(lungs.field, low, high)
    for _ in range(1 + int(rng.random() < 0.25)):
        radius = rng.uniform(6, 17)
        # Some touch the chest wall or the mediastinum.
        where = point_inside(rng, field, rng.uniform(0.2, 1.1) * radius)
        if where is None:
            continue
        ball = ellipsoid(where, sized(rng, (radius,) * 3, 0.25), axis=(rng.normal(), rng.normal(), 1))
        rough = bumpy(
            bumpy(ball, rng, height_mm=0.14 * radius, length_mm=1.1 * radius), rng, height_mm=0.8, length_mm=6
        )
        spots.append(Structure(common(rough, lungs), _necrotic(rng), CANCER))
    return spots


def _necrotic(rng: np.random.Generator) -> FieldFunction:
    level, lumps = rng.uniform(20, 60), waves(rng, length_mm=12, count=3)
    return lambda p: as_field(level + 18 * lumps(p))
