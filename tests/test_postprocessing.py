import numpy as np
import pytest
from anatomy import LABELS

from delineate.errors import LabelError
from delineate.geometry import Grid
from delineate.postprocessing import Rule, apply_rules
from delineate.volume import Segmentation

GRID = Grid((10, 8, 6), np.diag([1.0, 2.0, 5.0, 1.0]))  # 0.01 mL a voxel


def two_pieces() -> Segmentation:
    array = np.zeros(GRID.shape, dtype=np.uint8)
    array[1:4, 1:4, 1:3] = 1  # 18 voxels
    array[7, 6, 4] = 1
    array[8, 1, 1] = 2
    return Segmentation(array, GRID, LABELS)


def test_the_largest_component_stays() -> None:
    cleaned = apply_rules(two_pieces(), [Rule(label="core", largest_only=True)])
    assert cleaned.mask("core").sum() == 18
    assert cleaned.mask("rim").sum() == 1


def test_specks_below_a_volume_go() -> None:
    assert apply_rules(two_pieces(), [Rule(label="core", smallest_ml=0.05)]).mask("core").sum() == 18
    assert apply_rules(two_pieces(), [Rule(label="core", smallest_ml=0.01)]).mask("core").sum() == 19


def test_voxels_that_touch_at_a_corner_are_one_component() -> None:
    array = np.zeros(GRID.shape, dtype=np.uint8)
    array[2, 2, 2] = array[3, 3, 3] = 1
    cleaned = apply_rules(Segmentation(array, GRID, LABELS), [Rule(label="core", largest_only=True)])
    assert cleaned.mask("core").sum() == 2


def test_an_absent_structure_and_no_rules_change_nothing() -> None:
    plain = two_pieces()
    assert apply_rules(plain, []) is plain
    empty = Segmentation(np.zeros(GRID.shape, dtype=np.uint8), GRID, LABELS)
    assert not apply_rules(empty, [Rule(label="rim", largest_only=True)]).array.any()


def test_an_unknown_structure_is_refused() -> None:
    with pytest.raises(LabelError, match=r"no such label.*spleen"):
        apply_rules(two_pieces(), [Rule(label="spleen")])
