"""Findings on phantoms whose measures are known: the worst errors, against what people may rely on.

    python benchmarks/findings.py              about four minutes
    python benchmarks/findings.py --repeats 2  a quick look

Balls, ellipsoids, cylinders and boxes in random directions; cylinders and boxes with flat ends along the grid, whose
volume hangs on where between two slices an end lies; a lesion in an organ, beside a tube and a second organ; an organ
cut by a plane and by a margin around a lesion. Lesions have radii of 6 to 14 mm, organs of 20 to 40 mm; all lie
anywhere in a voxel. A voxel belongs to a shape of which it lies to one half or more inside (125 points in every voxel
that a surface may cross), as a perfect reader would draw it. Everything is measured by `measure_scan`.

Bars: volumes 1 %; diameters one voxel, which is the pixel's edge in an axial slice, and the longest edge for the
diameter in any direction; distances half the longest edge. A cell holds the worst error, the mean error, and the
share of the cases within the bar; volumes are in percent, all else in mm.
"""

from __future__ import annotations

import argparse
import math
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import ndimage
from scipy.spatial.transform import Rotation

from delineate.geometry import Grid, compose_affine, index_to_world
from delineate.labels import Code, label_set
from delineate.measurement import quantities as q
from delineate.measurement.lesions import LesionOptions
from delineate.measurement.resection import Plane, Resection
from delineate.measurement.scan_findings import MeasureOptions, measure_scan
from delineate.volume import Segmentation

Floats = npt.NDArray[np.float64]
Mask = npt.NDArray[np.bool_]
Within = Callable[[Floats], Mask]

TURN = Rotation.from_euler("xyz", (12, -17, 25), degrees=True).as_matrix()
PERMUTED = np.array([[0, 0, -1.0], [1, 0, 0], [0, 1, 0]])  # axes to the back, to the head, to the right
DIRECTIONS: dict[str, tuple[Floats, tuple[float, float, float]]] = {
    "1 x 1 x 1": (np.eye(3), (1, 1, 1)),
    "0.8 x 0.8 x 3": (np.eye(3), (0.8, 0.8, 3)),
    "1 x 1 x 5": (np.eye(3), (1, 1, 5)),
    "oblique 0.9 x 0.9 x 2": (TURN, (0.9, 0.9, 2)),
    "permuted 0.8 x 3 x 0.8": (PERMUTED, (0.8, 3, 0.8)),
}
NAMES = {1: "liver", 2: "tumour", 3: "vessel", 4: "kidney"}
RADII_MM = {"lesion": (7.0, 14.0), "organ": (20.0, 32.0)}
FINE = 5  # points along each edge of a voxel that a surface may cross; odd, so that no face is half in


@dataclass(frozen=True, slots=True)
class Error:
    """Of one number: `size` in the unit of `bar`, which is the most that it should be."""

    name: str
    size: float
    bar: float


@dataclass(frozen=True, slots=True)
class Body:
    """A shape in its own direction, with what is known of it. `half_mm`: from its middle to its ends."""

    name: str
    within: Within
    half_mm: Floats
    volume_mm3: float
    longest_mm: float


def ball(radius_mm: float) -> Body:
    return ellipsoid(np.full(3, radius_mm), "ball")


def ellipsoid(half_mm: Floats, name: str = "ellipsoid") -> Body:
    volume = 4 / 3 * math.pi * float(np.prod(half_mm))
    longest = 2 * float(half_mm.max())
    return Body(name, lambda at: np.asarray(((at / half_mm) ** 2).sum(-1) <= 1), half_mm, volume, longest)


def cylinder(radius_mm: float, half_mm: float) -> Body:
    def within(at: Floats) -> Mask:
        return np.asarray((np.hypot(at[..., 0], at[..., 1]) <= radius_mm) & (np.abs(at[..., 2]) <= half_mm))

    longest = 2 * math.hypot(radius_mm, half_mm)
    volume = math.pi * radius_mm**2 * 2 * half_mm
    return Body("cylinder", within, np.array([radius_mm, radius_mm, half_mm]), volume, longest)


def box(half_mm: Floats) -> Body:
    longest = 2 * float(np.linalg.norm(half_mm))
    return Body(
        "box", lambda at: np.asarray((np.abs(at) <= half_mm).all(-1)), half_mm, 8 * float(np.prod(half_mm)), longest
    )


def grid_around(name: str, half_mm: float, generator: np.random.Generator) -> Grid:
    """A grid of that kind around the world's origin, which lies anywhere in a voxel."""
    direction, spacing = DIRECTIONS[name]
    linear = direction * spacing
    shape = np.ceil(2 * half_mm / np.array(spacing)).astype(int) + 4
    middle = linear @ ((shape - 1) / 2 + generator.uniform(-0.5, 0.5, 3))
    return Grid(tuple(int(n) for n in shape), compose_affine(linear, -middle))  # type: ignore[arg-type]


def drawn(grid: Grid, within: Within) -> Mask:
    """The voxels of which one half or more is inside."""
    places = index_to_world(grid, np.moveaxis(np.indices(grid.shape), 0, -1))
    mask = np.asarray(within(places))
    near = ndimage.binary_dilation(mask, iterations=2) & ~ndimage.binary_erosion(mask, iterations=2)
    steps = (np.arange(FINE) + 0.5) / FINE - 0.5
    offsets = np.stack(np.meshgrid(steps, steps, steps, indexing="ij"), -1).reshape(-1, 3) @ grid.affine[:3, :3].T
    at = places[near]
    share = np.mean([within(at + offset) for offset in offsets], axis=0)
    mask[near] = share >= 0.5
    return mask


def of_volume(name: str, value: float, truth: float) -> Error:
    return Error(name, 100 * (value / truth - 1), 1.0)


# Structures


def bodies(size: str, along: Floats, generator: np.random.Generator) -> Iterator[tuple[Body, Floats, str]]:
    """Each kind in a random direction, those with flat ends also in `along`, the grid's; with what it stands for."""
    low, high = RADII_MM[size]

    def sizes() -> Floats:
        return np.asarray(generator.uniform(low, high, 3))

    def turn() -> Floats:
        return np.asarray(Rotation.random(random_state=int(generator.integers(2**31))).as_matrix())

    yield ball(float(sizes()[0])), turn(), size
    yield ellipsoid(sizes()), turn(), size
    for turned in (turn(), along):
        what = size if turned is not along else f"{size} with flat ends along the grid"
        yield cylinder(*sizes()[:2]), turned, what
        yield box(sizes()), turned, what


def body_errors(kind: str, body: Body, turn: Floats, what: str, generator: np.random.Generator) -> Iterator[Error]:
    grid = grid_around(kind, float(np.linalg.norm(body.half_mm)) + 2, generator)
    array = drawn(grid, lambda at: body.within(at @ turn)).astype(np.uint8)
    found = measure_scan(Segmentation(array, grid, label_set({1: "body"}))).findings
    values = {one.quantity: one.value for one in found}
    pixel, longest = min(grid.spacing_mm), max(grid.spacing_mm)
    corners = ", corners" if body.name in ("cylinder", "box") else ", round"
    yield of_volume(f"volume, {what}", values[q.VOLUME], body.volume_mm3 / 1000)
    yield Error(f"3D diameter{corners}", values[q.DIAMETER_3D] - body.longest_mm, longest)
    axial = axial_truth(body, turn, grid)
    if axial is not None:
        yield Error("long axis", values[q.LONG_AXIS] - axial[0], pixel)
        yield Error("short axis", values[q.SHORT_AXIS] - axial[1], pixel)


def axial_truth(body: Body, turn: Floats, grid: Grid) -> tuple[float, float] | None:
    """Of ellipsoids in any direction: the axes of the section through the middle, along the grid's axial slices."""
    if body.name not in ("ball", "ellipsoid"):
        return None
    normals = np.linalg.inv(grid.affine[:3, :3]).T
    normals /= np.linalg.norm(normals, axis=0)
    normal = normals[:, int(np.abs(normals[2]).argmax())]
    plane = np.linalg.svd(normal[None])[2][1:].T
    quadric = plane.T @ turn @ np.diag(body.half_mm**-2.0) @ turn.T @ plane
    short, long = np.sort(2 / np.sqrt(np.linalg.eigvalsh(quadric)))
    return float(long), float(short)


# Lesions


def unit(generator: np.random.Generator) -> Floats:
    way = generator.normal(size=3)
    return np.asarray(way / np.linalg.norm(way))


def lesion_errors(kind: str, generator: np.random.Generator) -> Iterator[Error]:
    """A tumour in a ball of a liver; a kidney outside; a vessel as a straight tube past the tumour."""
    liver_mm, tumour_mm, kidney_mm, vessel_mm = 38.0, generator.uniform(6, 12), 12.0, generator.uniform(3, 5)
    way, gap_mm = unit(generator), generator.uniform(3, 10)
    centre = way * (liver_mm - tumour_mm - gap_mm)
    past = np.cross(way, unit(generator))
    past /= np.linalg.norm(past)
    along = np.cross(past, way)
    beside_mm = generator.uniform(3, 9)
    line = centre + past * (tumour_mm + vessel_mm + beside_mm)
    away = way if abs(way @ past) < 0.5 else along
    kidney = away * (liver_mm + kidney_mm + generator.uniform(2, 6))
    grid = grid_around(kind, liver_mm + 2 * kidney_mm + 8, generator)
    tumour = drawn(grid, lambda at: np.linalg.norm(at - centre, axis=-1) <= tumour_mm)
    array = drawn(grid, lambda at: np.linalg.norm(at, axis=-1) <= liver_mm).astype(np.uint8)
    array[drawn(grid, lambda at: np.linalg.norm(at - kidney, axis=-1) <= kidney_mm)] = 4
    tube = drawn(grid, lambda at: np.linalg.norm(np.cross(at - line, along), axis=-1) <= vessel_mm)
    array[tube & (array != 4)] = 3
    array[tumour] = 2
    found = measure_scan(Segmentation(array, grid, label_set(NAMES))).findings
    values = {(one.quantity, one.other and one.other.name): one.value for one in found if one.component == 1}
    half = max(grid.spacing_mm) / 2
    yield Error("tumour to tube", values[q.DISTANCE, "vessel"] - beside_mm, half)
    ball_mm = float(np.linalg.norm(kidney - centre)) - kidney_mm - tumour_mm
    yield Error("tumour to ball", values[q.DISTANCE, "kidney"] - ball_mm, half)
    if beside_mm > gap_mm + 1:  # else the wall of the tube, which leaves the liver, is the surface
        yield Error("margin to the surface", values[q.MARGIN, "liver"] - gap_mm, half)
    yield of_volume("volume, lesion in an organ", values[q.VOLUME, None], 4 / 3 * math.pi * tumour_mm**3 / 1000)


# Resections


def resection_errors(kind: str, generator: np.random.Generator) -> Iterator[Error]:
    """A ball of a liver, cut by a plane that keeps a quarter to a half of it, and by 10 mm around a tumour inside."""
    liver_mm, tumour_mm, margin_mm = 40.0, generator.uniform(6, 12), 10.0
    normal, offset = unit(generator), generator.uniform(2, 14)
    centre = -normal * (tumour_mm + margin_mm - offset + 2) if offset < tumour_mm + margin_mm else np.zeros(3)
    grid = grid_around(kind, liver_mm + 3, generator)
    array = drawn(grid, lambda at: np.linalg.norm(at, axis=-1) <= liver_mm).astype(np.uint8)
    array[drawn(grid, lambda at: np.linalg.norm(at - centre, axis=-1) <= tumour_mm)] = 2
    segmentation = Segmentation(array, grid, label_set(NAMES))

    def measured(resection: Resection, quantity: Code) -> float:
        options = MeasureOptions(structures=("liver",), lesions=LesionOptions(), resection=resection, organ=("liver",))
        found = measure_scan(segmentation, options=options).findings
        return next(one.value for one in found if one.quantity == quantity)

    x, y, z = (float(one) for one in normal)
    plane = Plane((x * offset, y * offset, z * offset), (x, y, z))
    height = liver_mm - offset
    sound = 4 / 3 * math.pi * (liver_mm**3 - tumour_mm**3)
    cap = math.pi * height**2 * (3 * liver_mm - height) / 3
    rest = 4 / 3 * math.pi * (liver_mm**3 - (tumour_mm + margin_mm) ** 3)
    yield of_volume("remnant, plane", measured(Resection(plane), q.REMNANT_VOLUME), cap / 1000)
    yield of_volume("remnant, margin", measured(Resection(margin_mm=margin_mm), q.REMNANT_VOLUME), rest / 1000)
    share = measured(Resection(plane), q.REMNANT_SHARE)
    yield Error("remnant share, points", share - 100 * cap / sound, 1.0)


def errors_of(kind: str, repeats: int) -> Iterator[Error]:
    generator = np.random.default_rng(7)
    for _ in range(repeats):
        for size in RADII_MM:
            for body, turn, what in bodies(size, DIRECTIONS[kind][0], generator):
                yield from body_errors(kind, body, turn, what, generator)
        yield from lesion_errors(kind, generator)
        yield from resection_errors(kind, generator)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=6)
    parser.add_argument("--grid", choices=tuple(DIRECTIONS), action="append")
    options = parser.parse_args()
    table: dict[str, dict[str, list[Error]]] = defaultdict(lambda: defaultdict(list))
    kinds = options.grid or list(DIRECTIONS)
    for kind in kinds:
        for error in errors_of(kind, options.repeats):
            table[error.name][kind].append(error)
    print("| worst, mean, within the bar | " + " | ".join(kinds) + " |\n|" + "---|" * (len(kinds) + 1))
    for name, row in table.items():
        print(f"| {name} | " + " | ".join(_cell(row[kind]) for kind in kinds) + " |")


def _cell(errors: list[Error]) -> str:
    if not errors:
        return "-"
    worst = max(errors, key=lambda one: abs(one.size))
    mean = float(np.mean([one.size for one in errors]))
    met = sum(abs(one.size) <= one.bar for one in errors) / len(errors)
    return f"{worst.size:+.2f}, {mean:+.2f}, {met:.0%}"


if __name__ == "__main__":
    main()
