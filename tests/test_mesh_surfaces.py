import time

import numpy as np
import numpy.typing as npt
import pytest
from anatomy import oblique_grid
from hypothesis import given, settings
from hypothesis import strategies as st

from delineate.errors import ExportError, InputError, LabelError
from delineate.formats.meshes.surfaces import Mesh, is_closed, mesh_centroid_mm, mesh_volume_ml, surface
from delineate.formats.meshes.voxels import mesh_mask
from delineate.geometry import ORIENTATIONS, Grid, compose_affine, index_to_world
from delineate.labels import LabelSet, label_set
from delineate.volume import Segmentation, reorient

Mask = npt.NDArray[np.bool_]
LABELS = label_set({1: "organ"})
SHEARED = compose_affine([[1.2, 0.3, 0.4], [-0.2, 0.8, 0.1], [0.3, -0.1, 2.5]], (-80, 40, 900))


def segmented(mask: Mask, affine: npt.NDArray[np.float64] | None = None) -> Segmentation:
    grid = oblique_grid(mask.shape) if affine is None else Grid(mask.shape, affine)
    return Segmentation(mask.astype(np.uint8), grid, LABELS)


def voxel_volume_ml(segmentation: Segmentation) -> float:
    return int((segmentation.array > 0).sum()) * segmentation.grid.voxel_volume_ml


def ellipsoid(shape: tuple[int, int, int], radii: tuple[float, float, float]) -> Mask:
    index = np.indices(shape) - (np.array(shape)[:, None, None, None] - 1) / 2
    return np.asarray((index / np.array(radii)[:, None, None, None]).__pow__(2).sum(axis=0) < 1)


def plate(thickness: int) -> Mask:
    mask = np.zeros((14, 9, 7), dtype=bool)
    mask[2:12, 1:8, 3 : 3 + thickness] = True
    return mask


def shell() -> Mask:
    return np.asarray(ellipsoid((18, 16, 12), (8, 7, 5.5)) & ~ellipsoid((18, 16, 12), (4, 3, 2)))


def diagonal() -> Mask:
    mask = np.zeros((6, 5, 5), dtype=bool)
    mask[1, 1, 1] = mask[2, 2, 1] = mask[3, 3, 2] = True
    mask[3:5, 1, 3] = True
    return mask


def single() -> Mask:
    mask = np.zeros((5, 4, 3), dtype=bool)
    mask[3, 1, 1] = True
    return mask


def to_the_edge() -> Mask:
    return np.ones((4, 3, 5), dtype=bool)


SHAPES = [ellipsoid((20, 16, 12), (9, 7, 5)), plate(1), plate(2), shell(), diagonal(), single(), to_the_edge()]
NAMES = ["ellipsoid", "thin plate", "plate", "shell", "diagonal", "single voxel", "to the edge"]
each_shape = pytest.mark.parametrize("mask", SHAPES, ids=NAMES)


@each_shape
@pytest.mark.parametrize("affine", [None, SHEARED, SHEARED[:, [1, 0, 2, 3]]], ids=["oblique", "sheared", "left-handed"])
def test_the_surface_holds_exactly_its_voxels(mask: Mask, affine: npt.NDArray[np.float64] | None) -> None:
    segmentation = segmented(mask, affine)
    mesh = surface(segmentation, "organ")
    assert is_closed(mesh.faces)
    assert mesh_volume_ml(mesh) == pytest.approx(voxel_volume_ml(segmentation), rel=1e-6)
    assert np.array_equal(mesh_mask(mesh, segmentation.grid), mask)


@each_shape
def test_smoothing_keeps_volume_and_voxels(mask: Mask) -> None:
    segmentation = segmented(mask)
    mesh = surface(segmentation, "organ", smooth=20)
    assert mesh_volume_ml(mesh) == pytest.approx(voxel_volume_ml(segmentation), rel=1e-3)
    found = mesh_mask(mesh, segmentation.grid)
    assert 2 * (found & mask).sum() / (found.sum() + mask.sum()) > 0.9


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2**32 - 1), st.sampled_from(ORIENTATIONS))
def test_any_mask_in_any_orientation(seed: int, orientation: str) -> None:
    rng = np.random.default_rng(seed)
    mask = np.asarray(rng.random((7, 6, 5)) < rng.uniform(0.05, 0.95))
    mask[2, 3, 1] = True
    segmentation = reorient(segmented(mask), orientation)
    mesh = surface(segmentation, "organ")
    assert mesh_volume_ml(mesh) == pytest.approx(voxel_volume_ml(segmentation), rel=1e-6)
    assert np.array_equal(mesh_mask(mesh, segmentation.grid), segmentation.array > 0)


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_smoothing_and_simplifying_noise_stays_closed(seed: int) -> None:
    rng = np.random.default_rng(seed)
    mask = np.asarray(rng.random((12, 11, 9)) < rng.uniform(0.05, 0.95))
    mask[0, 0, 0] = True
    segmentation = segmented(mask)
    mesh = surface(segmentation, "organ", smooth=10, simplify=0.6)
    assert is_closed(mesh.faces)
    assert mesh_volume_ml(mesh) == pytest.approx(voxel_volume_ml(segmentation), rel=5e-3)


def test_smoothing_takes_the_steps_off() -> None:
    segmentation = segmented(ellipsoid((40, 36, 20), (17, 15, 8)))
    rough, smooth = surface(segmentation, "organ"), surface(segmentation, "organ", smooth=20)

    def area(mesh: Mesh) -> float:
        a, b, c = (mesh.vertices_mm[mesh.faces[:, n]] for n in range(3))
        return float(np.linalg.norm(np.cross(b - a, c - a), axis=1).sum() / 2)

    # A staircase has more area than the ellipsoid; by Thomsen's formula it should be this large, within 1.1 %.
    semi = np.array((17, 15, 8)) * segmentation.grid.spacing_mm
    products = (semi * np.roll(semi, 1)) ** 1.6075
    true = 4 * np.pi * (products.sum() / 3) ** (1 / 1.6075)
    assert area(smooth) == pytest.approx(true, rel=0.03)
    assert area(rough) > 1.03 * area(smooth)


def test_simplifying_takes_triangles_away() -> None:
    segmentation = segmented(ellipsoid((40, 36, 20), (17, 15, 8)))
    mesh, fewer = surface(segmentation, "organ", smooth=10), surface(segmentation, "organ", smooth=10, simplify=0.8)
    assert len(fewer.faces) == pytest.approx(0.2 * len(mesh.faces), rel=0.02)
    assert mesh_volume_ml(fewer) == pytest.approx(voxel_volume_ml(segmentation), rel=1e-3)
    found = mesh_mask(fewer, segmentation.grid)
    assert (found != (segmentation.array > 0)).sum() < 0.005 * found.sum()


@pytest.mark.parametrize("smooth", [0, 10])
def test_the_centroid_is_that_of_the_voxels(smooth: int) -> None:
    mask = ellipsoid((20, 16, 12), (9, 7, 5))
    mask[:6] = False
    segmentation = segmented(mask, SHEARED)
    expected = index_to_world(segmentation.grid, np.argwhere(mask).mean(axis=0))
    mesh = surface(segmentation, "organ", smooth=smooth)
    assert np.linalg.norm(mesh_centroid_mm(mesh) - expected) < 0.05


def test_a_small_body_keeps_its_volume_beside_a_large_one() -> None:
    mask = np.pad(ellipsoid((20, 16, 12), (9, 7, 5)), ((0, 8), (0, 0), (0, 0)))
    mask[25, 8, 6] = True
    segmentation = segmented(mask)
    mesh = surface(segmentation, "organ", smooth=10)
    near = index_to_world(segmentation.grid, (25, 8, 6))
    small = (np.linalg.norm(mesh.vertices_mm - near, axis=1) < 4)[mesh.faces].all(axis=1)
    volume = mesh_volume_ml(Mesh(mesh.vertices_mm, mesh.faces[small]))
    assert volume == pytest.approx(segmentation.grid.voxel_volume_ml, rel=1e-3)


def test_a_structure_without_voxels_has_no_surface() -> None:
    with pytest.raises(ExportError, match="organ has no voxels"):
        surface(segmented(np.zeros((3, 4, 5), dtype=bool)), "organ")


def test_an_unknown_structure_is_refused() -> None:
    with pytest.raises(LabelError, match="no such label"):
        surface(segmented(single()), "spleen")


@pytest.mark.parametrize("options", [{"smooth": -1}, {"simplify": 1.0}, {"simplify": -0.1}])
def test_options_out_of_range_are_a_programmers_mistake(options: dict[str, int]) -> None:
    with pytest.raises(ValueError, match="smooth must be 0 or more and simplify in"):
        surface(segmented(single()), "organ", **options)


def test_a_mesh_partly_outside_the_grid_is_cut_off() -> None:
    segmentation = segmented(ellipsoid((20, 16, 12), (9, 7, 5)))
    mesh = surface(segmentation, "organ")
    grid = segmentation.grid
    part = Grid((8, 9, 30), compose_affine(grid.affine[:3, :3], index_to_world(grid, (10, 4, -6))))
    expected = np.pad(segmentation.array[10:18, 4:13] > 0, ((0, 0), (0, 0), (6, 12)))
    assert np.array_equal(mesh_mask(mesh, part), expected)


def test_a_mesh_beside_the_grid_marks_nothing() -> None:
    segmentation = segmented(single())
    away = Grid((3, 4, 5), compose_affine(np.eye(3), (900, 900, 900)))
    assert not mesh_mask(surface(segmentation, "organ"), away).any()


def test_an_open_surface_has_no_inside() -> None:
    mesh = surface(segmented(single()), "organ")
    with pytest.raises(InputError, match="the surface is not closed"):
        mesh_mask(Mesh(mesh.vertices_mm, mesh.faces[1:]), oblique_grid())


def test_a_mask_on_a_finer_grid_follows_the_surface() -> None:
    segmentation = segmented(ellipsoid((20, 16, 12), (9, 7, 5)))
    mesh = surface(segmentation, "organ", smooth=10)
    fine = oblique_grid((60, 48, 60), (0.3, 0.4, 0.5))
    volume = int(mesh_mask(mesh, fine).sum()) * fine.voxel_volume_ml
    assert volume == pytest.approx(mesh_volume_ml(mesh), rel=2e-3)


def test_an_organ_in_a_large_scan_is_quick() -> None:
    full = np.zeros((512, 512, 200), dtype=np.uint8)
    full[100:300, 100:280, 40:160] = ellipsoid((200, 180, 120), (95, 80, 50))
    segmentation = Segmentation(full, oblique_grid(full.shape, (0.8, 0.8, 2.5)), LABELS)
    start = time.perf_counter()
    mesh = surface(segmentation, "organ", smooth=10)
    mesh_mask(mesh, segmentation.grid)
    assert time.perf_counter() - start < 10  # 0.5 s on two quiet cores


def test_a_mask_that_fills_its_read_only_array_has_a_surface() -> None:
    masks = np.ones((1, 4, 3, 5), dtype=bool)
    overlapping = Segmentation(masks, oblique_grid((4, 3, 5)), LabelSet(LABELS.labels, overlaps=True))
    assert mesh_volume_ml(surface(overlapping, "organ")) == pytest.approx(60 * 0.0027, rel=1e-5)
