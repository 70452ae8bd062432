from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from delineate import formats
from delineate.errors import GeometryMismatch, InputError
from delineate.geometry import Grid, compose_affine
from delineate.labels import label_set
from delineate.metrics.calibration import calibrate_structure
from delineate.volume import Segmentation, Volume, reorient
from delineate.workflow.calibrating import calibrate_result
from delineate.workflow.results import probability_path

SHAPE = (7, 9, 5)
GRID = Grid(SHAPE, compose_affine(np.array([[0.8, -0.3, 0], [0.3, 1.1, 0], [0, 0, 2.5]]), (1, 2, 3)))


def reference() -> Segmentation:
    array = np.zeros(SHAPE, np.uint8)
    array[1:4, 2:6, 1:3] = 2
    return Segmentation(array, GRID, label_set({2: "left kidney", 4: "spleen"}))


def write(folder: Path, probability: np.ndarray, grid: Grid = GRID, orientation: str = "RAS") -> Path:
    prediction = folder / "a.nii.gz"
    volume = reorient(Volume(probability[None].astype(np.float32), grid), orientation)
    formats.write_volume(probability_path(prediction, "left kidney"), volume)
    return prediction


def test_maps_are_found_by_structure_and_turned_to_the_reference(tmp_path: Path) -> None:
    probability = np.random.default_rng(0).random(SHAPE)
    found = calibrate_result(write(tmp_path, probability, orientation="SAR"), reference())
    expected = calibrate_structure(reference().mask("left kidney"), probability, GRID.spacing_mm)
    assert list(found) == ["left kidney"]
    assert found["left kidney"].expected_error == pytest.approx(expected.expected_error, abs=1e-6)
    assert (tmp_path / "a_probability_left_kidney.nii.gz").exists()


def test_the_prediction_itself_widens_the_region(tmp_path: Path) -> None:
    prediction = write(tmp_path, np.full(SHAPE, 0.4))
    array = np.zeros(SHAPE, np.uint8)
    array[6, 8, 4] = 2
    predicted = Segmentation(array, GRID, reference().labels)
    voxels = [
        calibrate_result(prediction, reference(), p, within_mm=2)["left kidney"].voxels for p in (None, predicted)
    ]
    assert voxels[1] > voxels[0] > 24


def test_without_maps_there_is_nothing_to_say(tmp_path: Path) -> None:
    assert calibrate_result(tmp_path / "a.nii.gz", reference()) == {}


def test_a_map_of_logits_is_refused_by_name(tmp_path: Path) -> None:
    prediction = write(tmp_path, np.full(SHAPE, -3.0))
    with pytest.raises(InputError, match=r"315 outside 0 to 1.*a_probability_left_kidney"):
        calibrate_result(prediction, reference())


def test_a_map_of_another_place_is_refused(tmp_path: Path) -> None:
    moved = Grid(SHAPE, compose_affine(GRID.affine[:3, :3], (4, 2, 3)))
    with pytest.raises(GeometryMismatch, match="voxels up to 3 mm apart"):
        calibrate_result(write(tmp_path, np.zeros(SHAPE), moved), reference())
