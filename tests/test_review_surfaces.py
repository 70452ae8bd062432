"""Surfaces for the browser: where they lie, which way they turn, and what the bytes are."""

from __future__ import annotations

import gzip
import struct

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from delineate.errors import LabelError
from delineate.formats.meshes.surfaces import is_closed
from delineate.geometry import FloatArray, Grid, compose_affine, world_to_index
from delineate.labels import label_set
from delineate.review import surfaces
from delineate.volume import Segmentation

OBLIQUE = np.array([[0.8, 0.36, -0.48], [-0.6, 0.48, -0.64], [0.0, 0.8, 0.6]])
LABELS = label_set({2: "liver", 7: "tumour"})
Points = tuple[FloatArray, npt.NDArray[np.int64]]


def block(grid: Grid) -> Segmentation:
    """A box of 4 x 6 x 5 voxels with a notch, so that no turn or flip leaves it as it is."""
    array = np.zeros(grid.shape, np.uint8)
    array[2:6, 3:9, 1:6] = 2
    array[2:4, 3:5, 4:6] = 0
    return Segmentation(array, grid, LABELS)


def read(data: bytes) -> Points:
    """Vertices in LPS mm and faces, as the format's description has them."""
    raw = gzip.decompress(data)
    magic, attributes, faces, vertices, skip = struct.unpack_from("<HHIII", raw)
    assert (magic, attributes, skip) == (0x5A4D, 3, 0)
    triangles = np.frombuffer(raw, "<u4", 3 * faces, 16).reshape(-1, 3).astype(np.int64)
    points = np.frombuffer(raw, "<f4", 3 * vertices, 16 + 12 * faces).reshape(-1, 3).astype(np.float64)
    assert len(raw) == 16 + 12 * faces + 12 * vertices
    return points * (-1, -1, 1), triangles


def enclosed_mm3(points: FloatArray, faces: npt.NDArray[np.int64]) -> float:
    a, b, c = (points[faces[:, n]] - points.mean(axis=0) for n in range(3))
    return float(np.einsum("ij,ij->", a, np.cross(b, c)) / 6)


@given(st.tuples(*[st.sampled_from((-1, 1))] * 3), st.permutations(range(3)))
@settings(max_examples=12, deadline=None)
def test_points_lie_at_the_boundary_and_triangles_turn_outwards(signs: tuple[int, int, int], order: list[int]) -> None:
    linear = (OBLIQUE * signs)[:, order] * (0.7, 1.1, 2.5)
    grid = Grid((9, 12, 8), compose_affine(linear, (31.0, -12.0, 105.0)))
    points, faces = read(surfaces.mz3(block(grid), 2))
    index = world_to_index(grid, points)
    assert (index > np.array([2, 3, 1]) - 1).all()
    assert (index < np.array([5, 8, 5]) + 1).all()
    for axis, (low, high) in enumerate(((2, 5), (3, 8), (1, 5))):
        assert index[:, axis].min() == pytest.approx(low - 0.5, abs=0.5)
        assert index[:, axis].max() == pytest.approx(high + 0.5, abs=0.5)
    assert is_closed(faces)
    assert enclosed_mm3(points, faces) == pytest.approx((120 - 8) * 0.7 * 1.1 * 2.5, rel=5e-3)


def test_no_point_is_deep_inside_or_far_outside() -> None:
    grid = Grid((9, 12, 8), compose_affine(OBLIQUE * (0.7, 1.1, -2.5), (1, 2, 3)))
    one = block(grid)
    points, _ = read(surfaces.mz3(one, 2))
    nearest = np.clip(np.rint(world_to_index(grid, points)).astype(int), 0, np.array(grid.shape) - 1)
    for i, j, k in nearest:
        around = one.array[max(0, i - 1) : i + 2, max(0, j - 1) : j + 2, max(0, k - 1) : k + 2]
        assert 0 < np.count_nonzero(around) < around.size


def test_a_structure_without_voxels_has_no_bytes() -> None:
    assert surfaces.mz3(block(Grid((9, 12, 8), np.eye(4))), 7) == b""


def test_an_unknown_value_is_refused() -> None:
    with pytest.raises(LabelError, match="no structure has this value"):
        surfaces.mz3(block(Grid((9, 12, 8), np.eye(4))), 3)


def test_a_structure_is_taken_from_overlapping_masks() -> None:
    grid = Grid((9, 12, 8), np.diag([1.0, 2.0, 3.0, 1.0]))
    masks = np.zeros((2, *grid.shape), bool)
    masks[0, 1:4, 1:5, 1:4] = masks[1, 2:7, 2:5, 2:4] = True
    both = Segmentation(masks, grid, label_set({2: "liver", 7: "tumour"}, overlaps=True))
    points, faces = read(surfaces.mz3(both, 7))
    assert enclosed_mm3(points, faces) == pytest.approx(5 * 3 * 2 * 6, rel=5e-3)


def test_a_large_structure_keeps_its_place_on_larger_voxels(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(surfaces, "MOST_VOXELS", 3000)
    grid = Grid((40, 32, 24), compose_affine(OBLIQUE * (0.8, 0.8, -1.5), (5, 6, 7)))
    array = np.zeros(grid.shape, np.uint8)
    array[5:35, 4:28, 3:20] = 2
    points, faces = read(surfaces.mz3(Segmentation(array, grid, LABELS), 2))
    index = world_to_index(grid, points)
    for axis, (low, high) in enumerate(((4.5, 34.5), (3.5, 27.5), (2.5, 19.5))):
        assert index[:, axis].min() == pytest.approx(low, abs=2)
        assert index[:, axis].max() == pytest.approx(high, abs=2)
    assert enclosed_mm3(points, faces) == pytest.approx(30 * 24 * 17 * 0.96, rel=0.08)


def test_a_large_structure_has_few_triangles(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(surfaces, "MOST_TRIANGLES", 2000)
    grid = Grid((40, 40, 40), np.diag([1.0, 1.0, 1.5, 1.0]))
    i, j, k = np.indices(grid.shape) - 19.5
    array = (i**2 + j**2 + (1.5 * k) ** 2 < 17**2).astype(np.uint8) * np.uint8(2)
    _, faces = read(surfaces.mz3(Segmentation(array, grid, LABELS), 2))
    assert 1000 < len(faces) <= 2100
