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


def hollow() -> Segmentation:
    """A shell of core with a rim voxel and an empty one inside, and a bowl that is open to one side."""
    array = np.zeros(GRID.shape, dtype=np.uint8)
    array[0:4, 0:4, 0:3] = 1
    array[1, 1, 1], array[2, 2, 1] = 2, 0
    array[6:9, 1:4, 3:6] = 1
    array[7, 2, 4:6] = 0
    return Segmentation(array, GRID, LABELS)


def test_holes_are_filled_unless_they_are_open_or_another_structure() -> None:
    filled = apply_rules(hollow(), [Rule(label="core", fill_holes=True)]).array
    changed = np.argwhere(filled != hollow().array)
    assert changed.tolist() == [[2, 2, 1]]
    assert filled[2, 2, 1] == 1


def test_what_was_taken_away_encloses_nothing() -> None:
    part = hollow().array.copy()
    part[0:4] = 0
    part[0:3, 0:3, 0:3] = 1
    part[1, 1, 1] = 0
    part[6:9, 1:4, 3:6] = 1
    rule = Rule(label="core", largest_only=True, fill_holes=True)
    filled = apply_rules(Segmentation(part, GRID, LABELS), [rule])
    assert filled.mask("core").sum() == 27


def test_rules_say_what_they_do() -> None:
    assert (
        Rule(label="core", largest_only=True, smallest_ml=0.25).words == "only its largest part, no part below 0.25 mL"
    )
    assert Rule(label="core", fill_holes=True).words == "holes filled"
