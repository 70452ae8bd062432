"""Tests of proposals: known shapes in noise, what was said is honoured, equal in all orientations, exact distances."""

from __future__ import annotations

from itertools import permutations, product
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy.sparse import lil_matrix
from scipy.sparse.csgraph import dijkstra
from scipy.sparse.linalg import spsolve

from delineate.editing.boxes import Mask
from delineate.editing.prompts.geodesic import distances
from delineate.editing.prompts.kernels import BEHIND
from delineate.editing.prompts.pointing import Pointing, Proposal
from delineate.editing.prompts.proposing import Method, propose, warm_up
from delineate.editing.prompts.walker import _LIKENESS, _links, walk
from delineate.errors import InputError

Image = npt.NDArray[Any]
SPACING = (1.0, 1.4, 2.0)
CENTRE = (22.0, 18.0, 13.0)
METHODS: tuple[Method, ...] = ("geodesic", "random_walker")


@pytest.fixture(scope="module", autouse=True)
def _compiled() -> None:
    warm_up()


def _scene() -> tuple[Image, Mask]:
    """An ellipsoid of 60 in 0, touched by a bar of 60 over there, noise of 8; and the ellipsoid."""
    i, j, k = np.ogrid[:44, :36, :28]
    mask: Mask = ((i - 22) / 12) ** 2 + ((j - 18) / 9) ** 2 + ((k - 13) / 7) ** 2 <= 1
    image = np.where(mask, 60.0, 0.0)
    image[32:, 16:20, 11:15] = 60
    image[:8, :8] = 140
    return (image + np.random.default_rng(3).normal(0, 8, image.shape)).astype(np.float32), mask


def _whole(proposal: Proposal, shape: tuple[int, ...]) -> Mask:
    found = np.zeros(shape, np.bool_)
    found[proposal.box.slices] = proposal.mask
    return found


def _dice(one: Mask, other: Mask) -> float:
    return float(2 * (one & other).sum() / (one.sum() + other.sum()))


@pytest.mark.parametrize("method", METHODS)
def test_one_click_finds_an_organ_in_noise(method: Method) -> None:
    image, mask = _scene()
    found = _whole(propose(image, Pointing(np.array([CENTRE])), spacing_mm=SPACING, method=method), mask.shape)
    assert _dice(found, mask) > 0.88


@pytest.mark.parametrize("method", METHODS)
def test_a_box_alone_finds_what_is_in_it(method: Method) -> None:
    image, mask = _scene()
    box = np.array([[9.0, 8, 5], [34, 27, 21]])
    found = _whole(propose(image, Pointing(box=box), spacing_mm=SPACING, method=method), mask.shape)
    assert _dice(found, mask) > 0.88
    assert not found[35:].any()


@pytest.mark.parametrize("method", METHODS)
def test_negative_points_take_away_what_leaked(method: Method) -> None:
    image, mask = _scene()
    bar = np.array([[i, j, k] for i in (37, 40) for j in (17, 18) for k in (12, 13)], dtype=float)
    pointing = Pointing(np.array([CENTRE]), bar)
    found = _whole(propose(image, pointing, spacing_mm=SPACING, method=method), mask.shape)
    assert _dice(found, mask) > 0.88
    assert not found[37, 17, 12]


@pytest.mark.parametrize("method", METHODS)
def test_points_are_honoured_even_against_the_picture(method: Method) -> None:
    image, mask = _scene()
    pointing = Pointing(np.array([CENTRE, (20, 3, 3)]), np.array([(22.0, 19, 13)]))
    found = _whole(propose(image, pointing, spacing_mm=SPACING, method=method), mask.shape)
    assert (found[22, 18, 13], found[20, 3, 3], found[22, 19, 13]) == (1, 1, 0)


def test_proposals_turn_with_the_picture_whatever_its_order_in_memory() -> None:
    image, _ = _scene()
    expected = _whole(propose(image, Pointing(np.array([CENTRE])), spacing_mm=SPACING), image.shape)
    for order, signs in list(product(permutations(range(3)), product((1, -1), repeat=3)))[::5]:
        flips = tuple(slice(None, None, sign) for sign in signs)
        turned = image.transpose(order)[flips]
        places = zip(order, signs, strict=True)
        at = [CENTRE[axis] if sign > 0 else image.shape[axis] - 1 - CENTRE[axis] for axis, sign in places]
        spacing = tuple(SPACING[axis] for axis in order)
        found = _whole(propose(turned, Pointing(np.array([at])), spacing_mm=spacing), turned.shape)
        assert _dice(found, expected.transpose(order)[flips]) > 0.99


def test_intensities_may_have_any_scale_and_hold_what_is_no_number() -> None:
    image, _ = _scene()
    expected = _whole(propose(image, Pointing(np.array([CENTRE])), spacing_mm=SPACING), image.shape)
    scaled = image * 5000 - 70000
    scaled[43, 35, 27] = np.nan
    found = _whole(propose(scaled, Pointing(np.array([CENTRE])), spacing_mm=SPACING), image.shape)
    assert _dice(found, expected) > 0.99


def test_a_large_structure_is_found_in_cells_and_drawn_in_voxels() -> None:
    i, j, k = np.ogrid[:190, :160, :20]
    mask: Mask = ((i - 95) / 80) ** 2 + ((j - 75) / 62) ** 2 + ((k - 10) / 9.5) ** 2 <= 1
    image = (np.where(mask, 60, 0) + np.random.default_rng(5).normal(0, 8, mask.shape)).astype(np.float32)
    box = np.array([[13.0, 11, 0], [177, 140, 19]])
    found = _whole(propose(image, Pointing(box=box), spacing_mm=(0.7, 0.7, 5)), mask.shape)
    assert _dice(found, mask) > 0.93


def test_a_picture_of_one_intensity_gives_a_small_proposal_around_the_point() -> None:
    image = np.zeros((20, 16, 12), np.int16)
    found = _whole(propose(image, Pointing(np.array([[9.0, 8, 6]])), spacing_mm=SPACING), image.shape)
    assert found[9, 8, 6]
    assert found.mean() < 0.5


@st.composite
def _small(draw: st.DrawFn) -> tuple[Image, Pointing]:
    shape = draw(st.tuples(st.integers(1, 9), st.integers(1, 7), st.integers(1, 5)))
    image = draw(hnp.arrays(np.int16, shape, elements=st.integers(-5, 5)))
    places = (
        draw(st.lists(st.tuples(*[st.integers(0, n - 1) for n in shape]), min_size=3, max_size=5, unique=True))
        if image.size > 4
        else [(0, 0, 0)]
    )
    points = np.array(places, dtype=float)
    boxed = draw(st.booleans())
    return image, Pointing(
        points[boxed:1],
        points[2:] if len(points) > 2 else points[:0],
        points[:2] if boxed and len(points) > 1 else None,
    )


@given(_small(), st.sampled_from(METHODS))
@settings(max_examples=60, deadline=None)
def test_whatever_is_pointed_at_in_small_pictures_is_honoured(small: tuple[Image, Pointing], method: Method) -> None:
    image, pointing = small
    assume(len(pointing.positive) or pointing.box is not None)
    found = _whole(propose(image, pointing, spacing_mm=SPACING, method=method), image.shape)
    assert all(found[tuple(place)] for place in pointing.positive.astype(int))
    assert not any(found[tuple(place)] for place in pointing.negative.astype(int))


def test_geodesic_distances_are_the_shortest_ways() -> None:
    rng = np.random.default_rng(1)
    shape = (5, 6, 4)
    alike, image = rng.random(shape).astype(np.float32), rng.random(shape).astype(np.float32)
    seeds = np.zeros(shape, np.bool_)
    seeds[4, 1, 2] = seeds[0, 5, 0] = True
    found = distances(seeds, alike, image, SPACING, contrast=0.7)
    number = np.arange(image.size).reshape(shape)
    graph = lil_matrix((image.size, image.size))
    cost = 0.05 + (1 - alike.astype(float)) ** 2
    for at in np.ndindex(shape):
        for step in BEHIND:
            to = tuple(int(n) for n in np.array(at) + step)
            if all(0 <= n < size for n, size in zip(to, shape, strict=True)):
                way = np.linalg.norm(step * np.array(SPACING)) * (cost[at] + cost[to]) / 2
                graph[number[at], number[to]] = way + 0.7 * abs(float(image[at]) - float(image[to]))
    ways = dijkstra(graph.tocsr(), directed=False, indices=number[seeds], min_only=True)
    assert found == pytest.approx(ways.reshape(shape), rel=1e-4, abs=2e-3)


def test_the_walker_solves_its_equations() -> None:
    rng = np.random.default_rng(2)
    shape = (5, 4, 6)
    image, alike = rng.random(shape).astype(np.float32), rng.random(shape).astype(np.float32)
    start = np.full(shape, 0.5, np.float32)
    start[0], start[4, :, 5] = 1, 0
    free = (start == 0.5).copy()
    found = walk(start, free, image, alike, SPACING, noise=0.2)
    number, count = np.arange(image.size).reshape(shape), image.size
    matrix = lil_matrix((count, count))
    matrix.setdiag(_LIKENESS)
    for axis in range(3):
        links = _links(image, axis, SPACING, 0.2)
        for at in np.ndindex(shape):
            if at[axis] + 1 < shape[axis]:
                to = tuple(n + (other == axis) for other, n in enumerate(at))
                for a, b in ((number[at], number[to]), (number[to], number[at])):
                    matrix[a, a] += links[at]
                    matrix[a, b] -= links[at]
    known = ~free.ravel()
    right = _LIKENESS * alike.ravel() - matrix.tocsr()[:, known] @ start.ravel()[known]
    solved = spsolve(matrix.tocsr()[~known][:, ~known].tocsc(), right[~known])
    assert found[free] == pytest.approx(solved, abs=0.01)
    assert np.array_equal(found[~free], start[~free])


def test_what_says_nothing_or_is_outside_is_refused() -> None:
    image = np.zeros((9, 8, 7), np.float32)
    with pytest.raises(InputError, match="nothing says what is meant"):
        propose(image, Pointing(negative=np.array([[1.0, 1, 1]])), spacing_mm=SPACING)
    with pytest.raises(InputError, match="outside the volume"):
        propose(image, Pointing(np.array([[9.0, 1, 1]])), spacing_mm=SPACING)
    with pytest.raises(InputError, match="in the structure and beside it"):
        propose(image, Pointing(np.ones((1, 3)), np.ones((1, 3))), spacing_mm=SPACING)
    with pytest.raises(InputError, match="a box lies outside"):
        propose(image, Pointing(box=np.array([[10.0, 1, 1], [12, 3, 3]])), spacing_mm=SPACING)
    with pytest.raises(InputError, match="no such method"):
        propose(image, Pointing(np.ones((1, 3))), spacing_mm=SPACING, method="magic")  # type: ignore[arg-type]
