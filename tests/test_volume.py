"""Volumes and segmentations: reorienting, cropping and padding, and what their arrays must be."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from delineate.errors import GeometryMismatch, LabelError
from delineate.geometry import ORIENTATIONS, Box, Grid, compose_affine, index_to_world, largest_distance_mm
from delineate.labels import LabelSet, label_set
from delineate.volume import Array, Segmentation, Volume, crop, cut, read_only, reorient

LABELS = label_set({1: "left_lung", 2: "right_lung"})
GRID = Grid((3, 4, 5), compose_affine([[0.9, 0.1, 0], [-0.1, 0.8, 0.2], [0, -0.1, 2.5]], (10, -20, 30)), "1.2.3")


def volume() -> Volume:
    return Volume(np.arange(120, dtype=np.int16).reshape(2, 3, 4, 5), GRID)


def segmentation() -> Segmentation:
    return Segmentation((np.arange(60, dtype=np.uint8) % 3).reshape(3, 4, 5), GRID, LABELS)


@pytest.mark.parametrize("code", ORIENTATIONS)
def test_reorient_and_back_is_bit_exact(code: str) -> None:
    scan = reorient(reorient(volume(), code), "LPS")
    mask = reorient(reorient(segmentation(), code), "LPS")
    assert np.array_equal(scan.array, volume().array)
    assert np.array_equal(mask.array, segmentation().array)
    assert largest_distance_mm(scan.grid, GRID) < 1e-12
    assert mask.grid == scan.grid
    assert scan.grid.frame_of_reference_uid == "1.2.3"


@pytest.mark.parametrize("code", ORIENTATIONS)
def test_reorient_takes_each_voxel_along(code: str) -> None:
    turned = reorient(volume(), code)
    index = np.argwhere(turned.array[0] == 37)[0]
    original = np.argwhere(volume().array[0] == 37)[0]
    np.testing.assert_allclose(index_to_world(turned.grid, index), index_to_world(GRID, original), atol=1e-9)


def test_reorient_by_hand() -> None:
    turned = reorient(volume(), "SRP")
    assert turned.array.shape == (2, 5, 3, 4)
    assert turned.array[1, 4, 0, 2] == volume().array[1, 2, 2, 4]


starts = st.tuples(*[st.integers(-7, 7)] * 3)
sizes = st.tuples(*[st.integers(1, 9)] * 3)


@given(starts, sizes)
def test_cut_equals_indexing_a_padded_array(start: tuple[int, int, int], size: tuple[int, int, int]) -> None:
    array = volume().array
    box = Box(start, tuple(np.add(start, size)))
    padded = np.pad(array, [(0, 0)] + [(20, 20)] * 3, constant_values=-9)
    i, j, k = (slice(a + 20, b + 20) for a, b in zip(box.start, box.stop, strict=True))
    assert np.array_equal(cut(array, box, fill=-9), padded[:, i, j, k])


def test_crop_inside_copies_nothing_and_keeps_places() -> None:
    part = crop(volume(), Box((1, 0, 2), (3, 3, 4)))
    assert np.shares_memory(part.array, crop(part, Box((0, 0, 0), (1, 1, 1))).array)
    np.testing.assert_allclose(index_to_world(part.grid, (0, 1, 1)), index_to_world(GRID, (1, 1, 3)))


def test_crop_and_pad_back_restores_the_inside() -> None:
    part = crop(segmentation(), Box((1, 1, 1), (3, 4, 5)))
    back = crop(part, Box((-1, -1, -1), (2, 3, 4)))
    assert np.array_equal(back.array[1:, 1:, 1:], segmentation().array[1:, 1:, 1:])
    assert not back.array[0].any()
    assert largest_distance_mm(back.grid, GRID) < 1e-12


def test_arrays_cannot_be_written_through_but_stay_the_callers() -> None:
    mine = np.zeros((1, 3, 4, 5))
    scan = Volume(mine, GRID)
    with pytest.raises(ValueError, match="read-only"):
        scan.array[0, 0, 0, 0] = 1
    mine[0] = 1
    assert not read_only(mine).flags.writeable


@pytest.mark.parametrize("shape", [(3, 4, 5), (1, 3, 5, 4), (1, 1, 3, 4, 5)])
def test_volume_refuses_an_array_of_another_shape(shape: tuple[int, ...]) -> None:
    with pytest.raises(GeometryMismatch, match=r"expected \(C, 3, 4, 5\)"):
        Volume(np.zeros(shape), GRID)


@pytest.mark.parametrize(
    "array", [np.zeros((3, 4, 5)), np.zeros((3, 4, 5), dtype=bool), np.zeros((3, 4, 5), dtype=int)]
)
def test_label_map_must_be_unsigned(array: Array) -> None:
    with pytest.raises(LabelError, match="wrong type: expected unsigned"):
        Segmentation(array, GRID, LABELS)


def test_masks_of_overlapping_labels() -> None:
    labels = LabelSet(LABELS.labels, overlaps=True)
    masks = np.zeros((2, 3, 4, 5), dtype=bool)
    masks[:, 1, 2, 3] = masks[1, 0, 0, 0] = True
    found = Segmentation(masks, GRID, labels)
    assert found.mask("left_lung").sum() == 1
    assert found.mask("right_lung").sum() == 2
    with pytest.raises(LabelError, match="expected bool masks"):
        Segmentation(masks.astype(np.uint8), GRID, labels)


def test_mask_by_name() -> None:
    assert np.array_equal(segmentation().mask("right_lung"), segmentation().array == 2)
    with pytest.raises(LabelError, match="no such label"):
        segmentation().mask("liver")


def test_segmentation_refuses_an_array_of_another_shape() -> None:
    with pytest.raises(GeometryMismatch, match="does not fit its grid and labels"):
        Segmentation(np.zeros((2, 3, 4, 5), dtype=np.uint8), GRID, LABELS)
