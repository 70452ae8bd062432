"""What proves an export, and what must not pass for one."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from anatomy import blob_case

from delineate.geometry import ORIENTATIONS, Box, Grid, compose_affine
from delineate.labels import LabelSet
from delineate.proof import compare, compare_each
from delineate.volume import Segmentation, crop, reorient

EXPECTED = blob_case(3)[1]


@pytest.mark.parametrize("orientation", ORIENTATIONS)
def test_other_array_axes_are_the_same_world(orientation: str) -> None:
    for proof in compare(EXPECTED, reorient(EXPECTED, orientation)):
        assert proof.dice == 1.0
        assert proof.volume_error < 1e-12
        assert proof.centroid_shift_mm < 1e-9


def test_fewer_slices_are_the_same_world() -> None:
    found = crop(EXPECTED, Box((2, 1, 1), (19, 15, 11)))
    assert all(proof.dice == 1.0 for proof in compare(EXPECTED, found))


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_a_flip_shows(axis: int) -> None:
    proof = compare(EXPECTED, replace(EXPECTED, array=np.flip(EXPECTED.array, axis)))[1]
    assert proof.dice < 0.95
    assert proof.centroid_shift_mm > 0.5
    assert proof.volume_error == 0.0


def test_a_shift_of_the_world_shows() -> None:
    affine = EXPECTED.grid.affine.copy()
    affine[0, 3] += 2.0
    proof = compare(EXPECTED, replace(EXPECTED, grid=Grid(EXPECTED.grid.shape, affine)))[0]
    assert proof.dice < 0.9
    assert proof.centroid_shift_mm == pytest.approx(2.0)


def test_volume_and_centroid_are_in_the_world() -> None:
    proof = compare(EXPECTED, EXPECTED)[0]
    voxels = np.argwhere(EXPECTED.array == 1)
    assert proof.volume_ml == pytest.approx(len(voxels) * 0.9 * 1.2 * 2.5 / 1000)
    centre = EXPECTED.grid.affine @ [*voxels.mean(axis=0), 1]
    assert proof.centroid_mm == pytest.approx(tuple(centre[:3]))


def test_a_structure_that_is_missing_is_seen() -> None:
    found = Segmentation(EXPECTED.array * (EXPECTED.array == 1), EXPECTED.grid, EXPECTED.labels)
    rim = compare(EXPECTED, found)[1]
    assert (rim.dice, rim.found_ml, rim.volume_error) == (0.0, 0.0, 1.0)
    assert rim.centroid_shift_mm == float("inf")


def test_an_unnamed_structure_is_empty() -> None:
    found = replace(EXPECTED, labels=LabelSet(EXPECTED.labels.labels[:1]))
    assert compare(EXPECTED, found)[1].dice == 0.0


def test_a_structure_from_nowhere_is_seen() -> None:
    empty = replace(EXPECTED, array=np.zeros_like(EXPECTED.array))
    assert compare(empty, EXPECTED)[0].volume_error == float("inf")
    assert compare(empty, empty)[0].dice == 1.0


@pytest.mark.parametrize("shift_mm", [0.0, 40.0])
def test_a_structure_that_nobody_wrote_is_seen(shift_mm: float) -> None:
    expected = replace(
        EXPECTED, labels=LabelSet(EXPECTED.labels.labels[:1]), array=EXPECTED.array * (EXPECTED.array == 1)
    )
    affine = EXPECTED.grid.affine + np.outer([shift_mm, 0, 0, 0], [0, 0, 0, 1])
    core, rim = compare(expected, replace(EXPECTED, grid=Grid(EXPECTED.grid.shape, affine)))
    assert (core.name, core.dice) == ("core", 0.0 if shift_mm else 1.0)
    assert (rim.name, rim.volume_ml, rim.dice, rim.volume_error) == ("rim", 0.0, 0.0, float("inf"))


@pytest.mark.parametrize("degrees", [44.9999999, 45.0, 45.0000001])
@pytest.mark.parametrize("shear", [0.0, 0.4])
def test_orientation_codes_that_tip_over_do_not_matter(degrees: float, shear: float) -> None:
    c, s = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    linear = np.array([[c, -s, 0], [s, c, 0], [0, 0, 1]]) @ [[0.9, 0, shear], [0, 1.2, 0], [0, 0, 2.5]]
    expected = replace(EXPECTED, grid=Grid(EXPECTED.grid.shape, compose_affine(linear, (-31.0, 14.5, 207.25))))
    for orientation in ORIENTATIONS[::5]:
        found = reorient(expected, orientation)
        tipped = found.grid.affine + np.random.default_rng(0).normal(0, 1e-7, (4, 4)) * [[1], [1], [1], [0]]
        proofs = compare(expected, replace(found, grid=Grid(found.grid.shape, tipped)))
        assert [proof.dice for proof in proofs] == [1.0, 1.0]


@pytest.mark.parametrize("orientation", ["LPS", "SRA"])
@pytest.mark.parametrize("axis", [None, 0, 1, 2])
def test_masks_one_by_one_are_compared_alike(orientation: str, axis: int | None) -> None:
    found = reorient(EXPECTED, orientation)
    found = found if axis is None else replace(found, array=np.flip(found.array, axis))
    masks = ((name, found.mask(name)) for name in ("rim", "core"))
    assert compare_each(EXPECTED, masks, found.grid) == compare(EXPECTED, found)


def test_missing_and_unknown_masks_are_seen() -> None:
    masks = [("core", EXPECTED.mask("core")), ("other", EXPECTED.mask("rim")), ("empty", np.zeros((20, 16, 12), bool))]
    core, rim, other = compare_each(EXPECTED, masks, EXPECTED.grid)
    assert (core.name, core.dice) == ("core", 1.0)
    assert (rim.name, rim.found_ml, rim.dice) == ("rim", 0.0, 0.0)
    assert (other.name, other.volume_error) == ("other", float("inf"))
