"""Implicit shapes: fields that are negative inside, and about a distance in mm near the surface.

A shape is a function on points and a box outside which it is positive, so that only the voxels in the box need be
computed. Primitives and smooth combinations follow the usual practice for implicit surfaces (Hart 1996,
"Sphere tracing"; Ricci 1973, "A constructive geometry for computer graphics").
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

Field = npt.NDArray[np.float32]
Vector = tuple[float, float, float]

EVERYWHERE = (np.full(3, -np.inf), np.full(3, np.inf))


class Points(NamedTuple):
    """Anatomical coordinates in mm, three arrays of one shape: x to Left, y to Posterior, z to Superior."""

    x: Field
    y: Field
    z: Field


FieldFunction = Callable[[Points], Field]


def as_field(values: npt.ArrayLike) -> Field:
    """The values as float32; no copy where they are so already, as sums and products with plain numbers stay."""
    return np.asarray(values, np.float32)


class Shape(NamedTuple):
    """`field`: negative inside. `low`, `high`: (3,) corners in mm of a box that holds the inside."""

    field: FieldFunction
    low: npt.NDArray[np.float64]
    high: npt.NDArray[np.float64]


def everywhere(field: FieldFunction) -> Shape:
    """A shape whose box has no ends."""
    return Shape(field, *EVERYWHERE)


def ellipsoid(centre: Vector, radii: Vector, *, axis: Vector = (0.0, 0.0, 1.0)) -> Shape:
    """An ellipsoid whose third radius lies along `axis` (any length) and the first near the x axis."""
    turn = _frame(axis)
    reach = np.sqrt(((turn * np.asarray(radii)) ** 2).sum(axis=1))

    def field(p: Points) -> Field:
        x, y, z = (c * (1 / r) for c, r in zip(_turned(p, centre, turn), radii, strict=True))
        a, b, c = (float(1 / r) ** 2 for r in radii)
        x, y, z = x * x, y * y, z * z
        k0, k1 = np.sqrt(x + y + z), np.sqrt(a * x + b * y + c * z)
        # Dividing by the gradient makes it a distance to first order; the floor keeps the centre inside.
        return as_field((k0 - 1) * np.maximum(k0, 1e-3) / np.maximum(k1, 1e-3 / max(radii)))

    return Shape(field, np.asarray(centre) - reach, np.asarray(centre) + reach)


def _frame(axis: Vector) -> npt.NDArray[np.float64]:
    third = np.asarray(axis) / np.linalg.norm(axis)
    first = np.array([1.0, 0.0, 0.0]) - third[0] * third
    first /= np.linalg.norm(first)
    return np.stack([first, np.cross(third, first), third], axis=1)


def _turned(p: Points, centre: Vector, turn: npt.NDArray[np.float64]) -> list[Field]:
    x, y, z = (c - m for c, m in zip(p, centre, strict=True))
    if np.array_equal(turn, np.eye(3)):
        return [x, y, z]
    return [float(a) * x + float(b) * y + float(c) * z for a, b, c in turn.T]


def chain(centres: Sequence[Vector], radii: Sequence[float], *, blend_mm: float = 0.0) -> Shape:
    """A tube along straight pieces from centre to centre, whose radius changes evenly along each piece."""
    pieces = [
        _cone(a, b, ra, rb) for a, b, ra, rb in zip(centres[:-1], centres[1:], radii[:-1], radii[1:], strict=True)
    ]
    return union(*pieces, blend_mm=blend_mm)


def _cone(start: Vector, stop: Vector, first_radius: float, last_radius: float) -> Shape:
    u, v, w = (float(b) - float(a) for a, b in zip(start, stop, strict=True))
    squared = u * u + v * v + w * w or 1.0  # two points at one place are a ball

    def field(p: Points) -> Field:
        x, y, z = (c - float(a) for c, a in zip(p, start, strict=True))
        t = np.clip(x * (u / squared) + y * (v / squared) + z * (w / squared), 0, 1)
        distance = np.sqrt((x - t * u) ** 2 + (y - t * v) ** 2 + (z - t * w) ** 2)
        return as_field(distance - (first_radius + t * (last_radius - first_radius)))

    reach = max(first_radius, last_radius)
    return Shape(field, np.minimum(start, stop) - reach, np.maximum(start, stop) + reach)


def prism(centre: tuple[float, float], radii: tuple[float, float], *, power: float = 2.0) -> Shape:
    """A superellipse in x and y, endless in z; power 2 is an ellipse, more is more like a box."""
    (cx, cy), (rx, ry) = centre, radii

    def field(p: Points) -> Field:
        u, v = np.abs((p.x - cx) / rx), np.abs((p.y - cy) / ry)
        ratio = (u**power + v**power + 1e-9) ** (1 / power)
        radius = np.sqrt((p.x - cx) ** 2 + (p.y - cy) ** 2) + 1e-3
        return as_field(radius * (1 - 1 / ratio))

    low, high = np.array([cx - rx, cy - ry, -np.inf]), np.array([cx + rx, cy + ry, np.inf])
    return Shape(field, low, high)


def union(*shapes: Shape, blend_mm: float = 0.0) -> Shape:
    """What lies in any of the shapes; creases are filled over about `blend_mm`."""

    def field(p: Points) -> Field:
        result = shapes[0].field(p)
        for shape in shapes[1:]:
            result = _smooth_min(result, shape.field(p), blend_mm)
        return result

    low = np.min([s.low for s in shapes], axis=0) - blend_mm / 2
    return Shape(field, low, np.max([s.high for s in shapes], axis=0) + blend_mm / 2)


def common(*shapes: Shape, blend_mm: float = 0.0) -> Shape:
    """What lies in all of the shapes; edges are rounded over about `blend_mm`."""

    def field(p: Points) -> Field:
        result = -shapes[0].field(p)
        for shape in shapes[1:]:
            result = _smooth_min(result, -shape.field(p), blend_mm)
        return np.negative(result)

    return Shape(field, np.max([s.low for s in shapes], axis=0), np.min([s.high for s in shapes], axis=0))


def without(shape: Shape, *others: Shape, blend_mm: float = 0.0) -> Shape:
    """What lies in `shape` and in none of the others; edges are rounded over about `blend_mm`."""
    return common(shape, *(everywhere(_negative(other.field)) for other in others), blend_mm=blend_mm)


def _negative(field: FieldFunction) -> FieldFunction:
    return lambda p: -field(p)


def _smooth_min(a: Field, b: Field, blend_mm: float) -> Field:
    if blend_mm <= 0:
        return np.minimum(a, b)
    dip = np.maximum(blend_mm - np.abs(a - b), 0)
    return as_field(np.minimum(a, b) - dip * dip * (1 / (4 * blend_mm)))


def grow(shape: Shape, distance_mm: float) -> Shape:
    """The shape with its surface moved outwards, or inwards for a negative distance."""
    return Shape(lambda p: shape.field(p) - distance_mm, shape.low - distance_mm, shape.high + distance_mm)


def bumpy(shape: Shape, rng: np.random.Generator, *, height_mm: float, length_mm: float) -> Shape:
    """The shape with a wavy surface: waves of about `length_mm`, up to `height_mm` in or out."""
    wave = waves(rng, length_mm=length_mm, count=3)
    return Shape(lambda p: shape.field(p) + height_mm * wave(p), shape.low - height_mm, shape.high + height_mm)


def waves(rng: np.random.Generator, *, length_mm: float, count: int) -> FieldFunction:
    """A smooth random texture in -1..1: the mean of `count` plane waves in random directions."""
    directions = rng.normal(size=(count, 3))
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    vectors = (2 * np.pi / (length_mm * rng.uniform(0.75, 1.3, (count, 1))) * directions).astype(np.float32)
    phases = rng.uniform(0, 2 * np.pi, count).astype(np.float32)

    def field(p: Points) -> Field:
        total = np.zeros(np.broadcast(*p).shape, np.float32)
        for (kx, ky, kz), phase in zip(vectors, phases, strict=True):
            total += np.sin(kx * p.x + ky * p.y + kz * p.z + phase)
        return as_field(total / count)

    return field
