"""Volumes of structures, against counts by hand."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from delineate.findings import MILLILITRE, VOLUME, Finding, volumes_ml
from delineate.geometry import Grid, compose_affine
from delineate.labels import Code, label_set
from delineate.volume import Segmentation

GRID = Grid((4, 5, 6), compose_affine(np.diag([2.0, 5.0, 10.0]), (0, 0, 0)))  # 0.1 ml a voxel


def test_volumes_count_voxels_in_label_order() -> None:
    array = np.zeros(GRID.shape, dtype=np.uint16)
    array[:2, :3, :4], array[3, 4, :3] = 9, 300
    found = volumes_ml(Segmentation(array, GRID, label_set({300: "b", 9: "a", 20: "empty"})))
    assert [finding.label.name for finding in found] == ["a", "empty", "b"]
    assert [finding.value for finding in found] == pytest.approx([2.4, 0.0, 0.3])
    assert {(finding.quantity, finding.unit) for finding in found} == {(VOLUME, MILLILITRE)}


def test_shared_voxels_count_for_each() -> None:
    masks = np.zeros((2, *GRID.shape), dtype=bool)
    masks[0, :2], masks[1, 1:2] = True, True
    found = volumes_ml(Segmentation(masks, GRID, label_set({1: "a", 2: "b"}, overlaps=True)))
    assert [finding.value for finding in found] == pytest.approx([6.0, 3.0])


def test_a_sheared_voxel_is_as_large_as_its_determinant() -> None:
    sheared = Grid((2, 2, 2), compose_affine([[10, 3, 0], [0, 10, 4], [0, 0, 10]], (0, 0, 0)))
    found = volumes_ml(Segmentation(np.ones((2, 2, 2), dtype=np.uint8), sheared, label_set({1: "a"})))
    assert found[0].value == pytest.approx(8.0)


def test_a_finding_is_a_number() -> None:
    label = label_set({1: "a"}).named("a")
    with pytest.raises(ValueError, match="Volume of a is not finite: nan"):
        Finding(label, VOLUME, float("nan"), MILLILITRE)


def test_a_statistic_is_part_of_the_meaning() -> None:
    label = label_set({1: "a"}).named("a")
    finding = Finding(label, VOLUME, 1.0, MILLILITRE)
    assert finding.meaning == "Volume"
    assert replace(finding, derivation=Code("373098007", "SCT", "Mean")).meaning == "Volume, mean"
