"""What scans show inside structures, pairs, and all findings together."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from anatomy import blob_case, oblique_grid
from solids import around_origin, ellipsoid, solid

from delineate.errors import GeometryMismatch, LabelError
from delineate.findings import Finding
from delineate.geometry import Grid, compose_affine
from delineate.labels import label_set
from delineate.measurement import quantities as q
from delineate.measurement.intensities import measure_intensities
from delineate.measurement.structures import measure_structures
from delineate.volume import Kind, Segmentation, Volume, reorient

GRID = oblique_grid((6, 5, 4))


def segmentation(values: Any, names: dict[int, str], *, grid: Grid = GRID) -> Segmentation:
    return Segmentation(np.asarray(values, dtype=np.uint8), grid, label_set(names))


def of(findings: tuple[Finding, ...], name: str, quantity: Any, derivation: Any = None) -> list[float]:
    return [f.value for f in findings if (f.label.name, f.quantity, f.derivation) == (name, quantity, derivation)]


def test_statistics_by_hand() -> None:
    image = np.arange(1, 25, dtype=np.float32).reshape(2, 3, 4)
    found = measure_intensities(image <= 21, image)
    values = {code.meaning: value for code, value in found.values}
    assert found.voxels == 21
    assert values["Mean"] == 11
    assert values["Standard Deviation"] == pytest.approx(np.sqrt((21**2 - 1) / 12))
    assert [values[name] for name in ("Minimum", "5th percentile", "25th percentile", "Median")] == [1, 2, 6, 11]
    assert [values[name] for name in ("75th percentile", "95th percentile", "Maximum")] == [16, 20, 21]


def test_voxels_without_a_value_are_left_out_and_counted() -> None:
    image = np.array([[[1.0, np.nan, 3.0, np.inf]]])
    found = measure_intensities(np.ones(image.shape, dtype=bool), image)
    assert (found.voxels, found.without_value, found.values[0][1]) == (2, 2, 2.0)
    nothing = measure_intensities(np.ones(image.shape, dtype=bool), np.full(image.shape, np.nan))
    assert (nothing.voxels, nothing.without_value, nothing.values) == (0, 4, ())


@pytest.mark.parametrize(("kind", "unit"), [(Kind.CT, "[hnsf'U]"), (Kind.PET, "g/ml{SUVbw}"), (Kind.MR, "1")])
def test_units_are_those_of_the_kind(kind: Kind, unit: str) -> None:
    volume, labels = blob_case(1)
    found = measure_structures(labels, replace(volume, kind=kind), structures=["core"])
    assert {one.unit.value for one in found if one.derivation is not None} == {unit}


def test_a_channel_is_measured_where_the_structure_is() -> None:
    volume, labels = blob_case(2)
    two = Volume(np.concatenate([volume.array, 1000 + volume.array]), volume.grid, Kind.MR)
    found = measure_structures(labels, two, channel=1)
    inside = two.array[1][labels.mask("core")].astype(np.float64)
    assert of(found, "core", q.MR_SIGNAL, q.MEAN) == pytest.approx([inside.mean()])
    with pytest.raises(ValueError, match="no channel 2: the scan has 2"):
        measure_structures(labels, two, channel=2)


def test_another_grid_is_refused() -> None:
    volume, labels = blob_case(3)
    shifted = volume.grid.affine.copy()
    shifted[0, 3] += 2
    with pytest.raises(GeometryMismatch, match=r"do not have the same voxels.*got 2 mm apart"):
        measure_structures(labels, replace(volume, grid=Grid(volume.grid.shape, shifted)))
    with pytest.raises(GeometryMismatch, match=r"got shape \(12, 20, 16\)"):
        measure_structures(labels, reorient(volume, "SLP"))


def test_an_empty_structure_has_no_volume_and_nothing_else() -> None:
    found = measure_structures(segmentation(np.zeros(GRID.shape), {1: "liver", 2: "left_kidney", 3: "right_kidney"}))
    assert [(one.label.name, one.quantity, one.value) for one in found] == [
        (name, q.VOLUME, 0.0) for name in ("liver", "left_kidney", "right_kidney")
    ]
    assert {one.note for one in found} == {"the structure has no voxels"}


def test_findings_come_in_one_order_whatever_the_threads() -> None:
    volume, labels = blob_case(4)
    found = measure_structures(labels, volume)
    assert found == measure_structures(labels, volume, threads=3)
    assert [one.label.name for one in found] == ["core"] * 21 + ["rim"] * 21
    assert [one.quantity for one in found[:4]] == [q.VOLUME, q.MESH_VOLUME, q.SURFACE_AREA, q.SPHERICITY]
    chosen = measure_structures(labels, volume, structures=["rim"])
    assert chosen == found[21:]
    with pytest.raises(LabelError, match="no such label"):
        measure_structures(labels, structures=["spleen"])


def test_masks_that_overlap_are_measured_one_by_one() -> None:
    _, labels = blob_case(5)
    core = labels.mask("core")
    masks = np.stack([core, core | labels.mask("rim")])
    both = Segmentation(masks, labels.grid, label_set({1: "core", 2: "rim"}, overlaps=True))
    found = measure_structures(both)
    assert of(found, "core", q.VOLUME) == of(measure_structures(labels), "core", q.VOLUME)
    assert of(found, "rim", q.VOLUME) == pytest.approx([masks[1].sum() * labels.grid.voxel_volume_ml])


def test_the_order_in_memory_does_not_matter() -> None:
    _, labels = blob_case(6)
    other = Segmentation(np.asfortranarray(labels.array), labels.grid, labels.labels)
    assert measure_structures(other) == measure_structures(labels)


def test_left_is_compared_with_right() -> None:
    array = np.zeros(GRID.shape)
    array[1:5, 1:4, 1], array[1:3, 1:4, 2] = 1, 2
    found = measure_structures(segmentation(array, {1: "left_kidney", 2: "right_kidney"}))
    ml = GRID.voxel_volume_ml
    assert of(found, "left_kidney", q.VOLUME_DIFFERENCE) == pytest.approx([6 * ml])
    assert of(found, "left_kidney", q.VOLUME_RATIO) == pytest.approx([2.0])
    assert found[-1].other == found[-2].other == label_set({1: "left_kidney", 2: "right_kidney"}).named("right_kidney")


def test_a_missing_side_is_said_and_has_no_ratio() -> None:
    array = np.zeros(GRID.shape)
    array[1:5, 1:4, 1] = 1
    found = measure_structures(segmentation(array, {1: "left_kidney", 2: "right_kidney"}))
    assert of(found, "left_kidney", q.VOLUME_RATIO) == []
    assert found[-1].note == "right_kidney: the structure has no voxels"


def test_what_the_scan_cuts_and_parts_are_said() -> None:
    array = np.zeros(GRID.shape)
    array[1:3, 1:3, 0], array[5, 4, 2] = 1, 1
    found = measure_structures(segmentation(array, {1: "lesion"}))
    notes = {one.quantity: one.note for one in found}
    assert "touches the scan's border (left, back, foot)" in notes[q.VOLUME]
    assert notes[q.LONG_AXIS].startswith("of the largest of 2 parts; touches")
    assert of(found, "lesion", q.LARGEST_COMPONENT_SHARE) == [80.0]


def test_a_tilted_ellipsoid_as_findings() -> None:
    grid = around_origin((46, 46, 46), (0.9, 1.1, 2.0), turn=(10, -15, 20))
    mask = solid(grid, ellipsoid((40, 30, 44)))
    found = measure_structures(segmentation(mask, {1: "liver"}, grid=grid))
    assert of(found, "liver", q.VOLUME) == pytest.approx([np.pi / 6 * 40 * 30 * 44 / 1000], rel=0.01)
    assert of(found, "liver", q.DIAMETER_3D) == pytest.approx([44], abs=2)
    assert of(found, "liver", q.EXTENT_HEAD_FOOT) == pytest.approx([44], abs=2)
    (long,) = (one for one in found if one.quantity == q.LONG_AXIS)
    assert np.linalg.norm(np.ptp(long.points_mm, axis=0)) == pytest.approx(long.value)


def test_slices_of_a_sagittal_scan() -> None:
    grid = Grid((6, 40, 40), compose_affine(np.diag([5.0, 1.0, -1.0]), (-12.5, -20, 20)))
    found = measure_structures(segmentation(solid(grid, ellipsoid((24, 34, 20))), {1: "liver"}, grid=grid))
    assert of(found, "liver", q.LONG_AXIS) == pytest.approx([34], abs=1.5)
    assert of(found, "liver", q.SHORT_AXIS) == pytest.approx([24], abs=5)
