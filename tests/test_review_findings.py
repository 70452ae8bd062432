"""What stands beside a case's picture: which numbers, and the voxel that each leads to."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from delineate import formats
from delineate.errors import GeometryMismatch
from delineate.geometry import Box, Grid, compose_affine, index_to_world
from delineate.labels import label_set
from delineate.measurement.cropping import Cropped
from delineate.review.case_findings import ShownFinding, ShownFindings, findings, place_in
from delineate.volume import Kind, Segmentation, Volume

OBLIQUE = np.array([[0.8, 0.36, -0.48], [-0.6, 0.48, -0.64], [0.0, 0.8, 0.6]])
GRID = Grid((24, 20, 16), compose_affine(OBLIQUE * (1.0, 1.5, -2.0), (10, -20, 30)))
LABELS = label_set({1: "liver", 2: "liver tumour", 3: "spleen", 4: "left kidney", 5: "right kidney"})


def scene() -> Segmentation:
    """A liver in the shape of a C, whose centroid is outside, with a stray part; two tumours; one kidney empty."""
    array = np.zeros(GRID.shape, np.uint8)
    array[2:14, 2:14, 2:12] = 1
    array[5:14, 5:11, 2:12] = 0
    array[20:22, 17:19, 13:15] = 1
    array[3:5, 6:9, 5:8] = 2
    array[10:12, 12:13, 4:6] = 2
    array[16:20, 3:8, 3:7] = 4
    return Segmentation(array, GRID, LABELS)


def scan() -> Volume:
    values = np.where(scene().array == 2, 90, np.where(scene().array == 1, 60, -50)).astype(np.int16)
    return Volume(values[np.newaxis], GRID, Kind.CT)


def one(shown: list[ShownFinding], structure: str, words: str) -> ShownFinding:
    (found,) = (each for each in shown if each.structure == structure and words in each.text)
    return found


@pytest.fixture(scope="module")
def shown() -> ShownFindings:
    return findings(scene(), scan())


def test_a_volume_is_voxels_times_their_size(shown: ShownFindings) -> None:
    volume = one(shown.findings, "left kidney", "volume 0.24 ml")
    assert volume.value == pytest.approx(4 * 5 * 4 * 3.0 / 1000)
    assert volume.unit == "ml"


def test_the_place_is_inside_also_where_the_centroid_is_not(shown: ShownFindings) -> None:
    place = one(shown.findings, "liver", "volume").index
    assert place is not None
    assert scene().array[place] == 1


def test_separate_parts_lead_to_the_stray_one(shown: ShownFindings) -> None:
    place = one(shown.findings, "liver", "2 separate parts").index
    assert place is not None
    assert (np.array(place) >= (20, 17, 13)).all()


def test_lesions_are_listed_one_by_one_the_largest_first(shown: ShownFindings) -> None:
    volumes = [each for each in shown.lesions if each.quantity == "Volume"]
    assert [each.structure for each in volumes] == ["liver tumour 1"]
    place = volumes[0].index
    assert place is not None
    assert place == (3, 7, 6) or scene().array[place] == 2
    assert all(low <= n < high for n, low, high in zip(place, (3, 6, 5), (5, 9, 8), strict=True))


def test_the_mean_of_the_scan_inside_has_its_unit(shown: ShownFindings) -> None:
    mean = one(shown.lesions, "liver tumour 1", "mean 90 HU")
    assert (mean.value, mean.unit) == (90.0, "HU")


def test_a_diameter_leads_into_its_slice(shown: ShownFindings) -> None:
    long = one(shown.findings, "left kidney", "long axis")
    assert long.index is not None
    assert scene().array[long.index] == 4


@given(st.integers(0, 2**31), st.tuples(*[st.floats(-3, 12)] * 3))
@settings(max_examples=25, deadline=None)
def test_the_place_is_the_nearest_voxel_of_all(seed: int, index: tuple[float, float, float]) -> None:
    mask = np.random.default_rng(seed).random((9, 7, 8)) < 0.02
    mask[8, 6, 7] = True
    grid = Grid(mask.shape, compose_affine(OBLIQUE * (1, 1.5, -4) + 0.1, (10, -20, 30)))
    part = Cropped(LABELS.labels[0], mask, grid, Box((5, 3, 2), (14, 10, 10)))
    target = index_to_world(grid, index)
    distances = np.linalg.norm(index_to_world(grid, np.argwhere(mask)) - target, axis=1)
    place = np.array(place_in(part, target)) - part.box.start
    assert mask[tuple(place)]
    assert np.linalg.norm(index_to_world(grid, place) - target) == pytest.approx(distances.min())


def test_an_empty_structure_has_no_place(shown: ShownFindings) -> None:
    empty = one(shown.findings, "spleen", "volume 0 ml")
    assert empty.index is None


def test_without_a_scan_there_are_sizes_alone() -> None:
    assert {each.unit for each in findings(scene()).findings} == {"ml", "mm", ""}


def test_a_scan_is_read_from_its_path(tmp_path: Path, shown: ShownFindings) -> None:
    formats.write_volume(tmp_path / "a.nii.gz", scan())
    read = findings(scene(), tmp_path / "a.nii.gz")
    assert [each.value for each in read.lesions] == [each.value for each in shown.lesions]


def test_a_scan_of_other_voxels_is_refused() -> None:
    other = Volume(np.zeros((1, 24, 20, 15), np.int16), Grid((24, 20, 15), GRID.affine), Kind.CT)
    with pytest.raises(GeometryMismatch, match="do not have the same voxels"):
        findings(scene(), other)
