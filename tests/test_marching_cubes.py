from itertools import product

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from delineate.formats.meshes.marching_cubes import Crossings, crossings
from delineate.formats.meshes.surfaces import is_closed

SEEDS = st.integers(0, 2**32 - 1)


def random_mask(seed: int, shape: tuple[int, int, int] = (6, 5, 7)) -> npt.NDArray[np.bool_]:
    rng = np.random.default_rng(seed)
    return np.asarray(rng.random(shape) < rng.uniform(0.02, 0.98))


def rings(found: Crossings) -> list[int]:
    """How many separate rings of triangles meet at each vertex."""
    links: list[dict[int, int]] = [{} for _ in found.inside]
    for a, b, c in found.faces.tolist():
        for tip, start, end in ((a, b, c), (b, c, a), (c, a, b)):
            links[tip][start] = end
    counts = []
    for link in links:
        count, left = 0, dict(link)
        while left:
            _, at = left.popitem()
            while at in left:
                at = left.pop(at)
            count += 1
        counts.append(count)
    return counts


@settings(max_examples=60, deadline=None)
@given(SEEDS)
def test_any_mask_has_a_closed_oriented_surface(seed: int) -> None:
    mask = random_mask(seed)
    assert is_closed(crossings(mask).faces) or not mask.any()


@settings(max_examples=15, deadline=None)
@given(SEEDS)
def test_no_vertex_joins_two_sheets(seed: int) -> None:
    found = crossings(random_mask(seed, (4, 5, 4)))
    assert set(rings(found)) <= {1}


@pytest.mark.parametrize("code", range(1, 256, 2))
def test_every_neighbourhood_of_eight_is_closed(code: int) -> None:
    bits = np.array([code >> n & 1 for n in range(8)], dtype=bool).reshape(2, 2, 2)
    assert is_closed(crossings(bits).faces)
    assert is_closed(crossings(np.pad(~bits, 1, constant_values=True)).faces)


def test_vertices_lie_between_an_inside_and_an_outside_voxel() -> None:
    mask = random_mask(3)
    found = crossings(mask)
    padded = np.pad(mask, 1)
    assert mask[tuple(found.inside.T)].all()
    assert not padded[tuple((found.inside + found.step + 1).T)].any()
    assert (np.abs(found.step).sum(axis=1) == 1).all()


def test_a_single_voxel_is_an_octahedron_turned_outwards() -> None:
    found = crossings(np.ones((1, 1, 1), dtype=bool))
    assert (len(found.inside), len(found.faces)) == (6, 8)
    points = found.step.astype(float)
    a, b, c = (points[found.faces[:, n]] for n in range(3))
    normals = np.cross(b - a, c - a)
    assert (np.einsum("ij,ij->i", normals, points[found.faces].mean(axis=1)) > 0).all()


@pytest.mark.parametrize("other", [p for p in product((0, 1), repeat=3) if sum(p) > 1])
def test_voxels_that_touch_at_an_edge_or_corner_stay_apart(other: tuple[int, int, int]) -> None:
    mask = np.zeros((2, 2, 2), dtype=bool)
    mask[0, 0, 0] = mask[other] = True
    found = crossings(mask)
    assert (len(found.inside), len(found.faces)) == (12, 16)
    sides = found.inside.sum(axis=1)[found.faces]
    assert (sides == sides[:, :1]).all()


def test_a_cavity_has_a_surface_of_its_own() -> None:
    mask = np.ones((3, 3, 3), dtype=bool)
    mask[1, 1, 1] = False
    solid = crossings(np.ones((3, 3, 3), dtype=bool))
    found = crossings(mask)
    assert len(found.faces) == len(solid.faces) + 8
    assert is_closed(found.faces)


def test_an_empty_mask_has_no_surface() -> None:
    found = crossings(np.zeros((2, 3, 4), dtype=bool))
    assert found.inside.shape == found.step.shape == found.faces.shape == (0, 3)
