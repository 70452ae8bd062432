"""Segmentations on a scan's grid: exact where planes agree, resampled where asked, refused elsewhere."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from seg_scans import LABELS, OVERLAPPING, overlapping, series, structures

from delineate.errors import GeometryMismatch, LabelError
from delineate.findings import volumes_ml
from delineate.formats.dicom_results.seg import SegObject, read_seg
from delineate.formats.dicom_results.seg_placing import seg_on_grid, with_labels
from delineate.formats.dicom_results.seg_writing import write_seg
from delineate.geometry import ORIENTATIONS, Box, Grid, crop_grid, index_to_world, respace_grid, world_to_index
from delineate.labels import label_set
from delineate.resampling import Interpolation
from delineate.volume import Segmentation, crop, reorient


def written(folder: Path, segmentation: Segmentation | None = None) -> tuple[SegObject, Segmentation]:
    """A SEG object as read, and what was written into it."""
    files, grid = series(folder / "ct")
    segmentation = structures(grid) if segmentation is None else segmentation
    write_seg(folder / "seg.dcm", segmentation, files)
    return read_seg(folder / "seg.dcm"), segmentation


def test_every_orientation_of_the_scan(tmp_path: Path) -> None:
    seg, source = written(tmp_path)
    for orientation in ORIENTATIONS:
        turned = reorient(source, orientation)
        found = with_labels(seg_on_grid(seg, turned.grid), LABELS)
        assert np.array_equal(found.array, turned.array)


def test_a_larger_grid_has_background_around(tmp_path: Path) -> None:
    seg, source = written(tmp_path)
    box = Box((-2, -1, -3), (11, 9, 8))
    found = with_labels(seg_on_grid(seg, crop_grid(source.grid, box)), LABELS)
    assert np.array_equal(found.array, crop(source, box).array)


def test_the_grid_may_be_a_part_if_no_voxel_is_lost(tmp_path: Path) -> None:
    files, grid = series(tmp_path / "ct")
    array = structures(grid).array.copy()
    array[:2], array[:, 6:], array[..., :1] = 0, 0, 0
    write_seg(tmp_path / "seg.dcm", Segmentation(array, grid, LABELS), files)
    part = crop(Segmentation(array, grid, LABELS), Box((2, 0, 1), (9, 6, 6)))
    found = with_labels(seg_on_grid(read_seg(tmp_path / "seg.dcm"), part.grid), LABELS)
    assert np.array_equal(found.array, part.array)


@pytest.mark.parametrize("box", [Box((1, 0, 0), (9, 7, 6)), Box((0, 0, 0), (9, 7, 5)), Box((0, 0, 8), (9, 7, 12))])
def test_voxels_outside_the_scan_are_not_dropped(tmp_path: Path, box: Box) -> None:
    seg, source = written(tmp_path)
    with pytest.raises(GeometryMismatch, match="voxels of a structure lie outside the scan"):
        seg_on_grid(seg, crop_grid(source.grid, box))


def test_one_plane_finds_its_slice_whatever_its_thickness(tmp_path: Path) -> None:
    files, grid = series(tmp_path / "ct")
    array = np.zeros(grid.shape, dtype=np.uint8)
    array[2:5, 1:6, 4] = 7
    write_seg(tmp_path / "seg.dcm", Segmentation(array, grid, LABELS), files)
    seg = read_seg(tmp_path / "seg.dcm")
    thick = seg.segmentation.grid.affine @ np.diag([1, 1, 3.7, 1])
    seg = replace(seg, segmentation=replace(seg.segmentation, grid=replace(seg.segmentation.grid, affine=thick)))
    assert np.array_equal(with_labels(seg_on_grid(seg, grid), LABELS).array, array)


def test_half_a_voxel_is_no_match(tmp_path: Path) -> None:
    seg, source = written(tmp_path)
    affine = source.grid.affine.copy()
    affine[:3, 3] += affine[:3, 0] / 2
    with pytest.raises(GeometryMismatch, match=r"planes are not the scan's: expected voxels of 9 x 7 x 6 .* let it be"):
        seg_on_grid(seg, replace(source.grid, affine=affine))


def test_rounded_headers_are_a_match(tmp_path: Path) -> None:
    seg, source = written(tmp_path)
    rounded = replace(source.grid, affine=np.round(source.grid.affine, 2))
    assert np.array_equal(with_labels(seg_on_grid(seg, rounded), LABELS).array, source.array)


def test_resampling_takes_the_nearest_voxel_in_the_world(tmp_path: Path) -> None:
    seg, source = written(tmp_path)
    target = respace_grid(reorient(source, "SAR").grid, (1.7, 1.1, 0.8))
    found = seg_on_grid(seg, target, interpolation=Interpolation.NEAREST)
    own = seg.segmentation
    index = world_to_index(own.grid, index_to_world(target, np.argwhere(np.ones(target.shape))))
    nearest = np.rint(index).astype(int)
    inside = ((nearest >= 0) & (nearest < own.grid.shape)).all(axis=1)
    expected = np.where(inside, own.array[tuple(np.clip(nearest, 0, np.subtract(own.grid.shape, 1)).T)], 0)
    # Half way between two voxels either is the nearest.
    certain = (np.abs(index - np.floor(index) - 0.5) > 1e-4).all(axis=1)
    assert np.array_equal(found.array.reshape(-1)[certain], expected[certain])
    assert certain.mean() > 0.5


def test_linear_resampling_keeps_the_values(tmp_path: Path) -> None:
    seg, source = written(tmp_path)
    target = respace_grid(reorient(source, "ILP").grid, (1.7, 0.7, 0.8))
    found = seg_on_grid(seg, target, interpolation=Interpolation.LINEAR)
    volumes = [f.value for f in volumes_ml(found)]
    assert set(np.unique(found.array)) == {0, 1, 2, 3}
    assert volumes == pytest.approx([f.value for f in volumes_ml(seg.segmentation)], rel=0.35)


def test_exact_placing_comes_before_resampling(tmp_path: Path) -> None:
    seg, source = written(tmp_path)
    found = seg_on_grid(seg, source.grid, interpolation=Interpolation.LINEAR)
    assert np.array_equal(with_labels(found, LABELS).array, source.array)


def test_an_oblique_scan_is_refused_even_if_resampling_is_allowed(tmp_path: Path) -> None:
    seg, source = written(tmp_path)
    turn = np.array([[0.96, -0.28, 0, 0], [0.28, 0.96, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]])
    with pytest.raises(GeometryMismatch, match="parallel"):
        seg_on_grid(seg, replace(source.grid, affine=turn @ source.grid.affine), interpolation=Interpolation.NEAREST)


def test_another_frame_of_reference_is_refused(tmp_path: Path) -> None:
    seg, source = written(tmp_path)
    with pytest.raises(GeometryMismatch, match=r"different frames of reference: expected 1\.2\.3, got"):
        seg_on_grid(seg, replace(source.grid, frame_of_reference_uid="1.2.3"))
    unknown = Grid(source.grid.shape, source.grid.affine)
    assert np.array_equal(with_labels(seg_on_grid(seg, unknown), LABELS).array, source.array)


def test_masks_are_placed_alike(tmp_path: Path) -> None:
    files, grid = series(tmp_path / "ct")
    masks = overlapping(grid)
    write_seg(tmp_path / "seg.dcm", masks, files)
    turned = reorient(masks, "ASR")
    assert np.array_equal(seg_on_grid(read_seg(tmp_path / "seg.dcm"), turned.grid).array, turned.array)


def test_labels_come_back_by_name(tmp_path: Path) -> None:
    seg, source = written(tmp_path)
    wider = label_set({5: "tumor", 6: "left_kidney", 8: "liver", 400: "spleen"})
    found = with_labels(seg.segmentation, wider)
    assert found.array.dtype == np.uint16
    assert np.array_equal(found.mask("tumor"), seg.segmentation.mask("tumor"))
    assert not found.mask("spleen").any()
    masks = with_labels(overlapping(source.grid), label_set({3: "tumor", 4: "x", 9: "liver"}, overlaps=True))
    assert np.array_equal(masks.mask("liver"), overlapping(source.grid).mask("liver"))
    assert not masks.mask("x").any()


@pytest.mark.parametrize("labels", [label_set({2: "left_kidney", 7: "liver"}), OVERLAPPING])
def test_labels_that_do_not_fit(tmp_path: Path, labels: object) -> None:
    seg, _ = written(tmp_path)
    with pytest.raises(LabelError, match=r"the structures do not fit the labels: .* got \['left_kidney'"):
        with_labels(seg.segmentation, labels)  # type: ignore[arg-type]
