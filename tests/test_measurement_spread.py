from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from delineate.findings import Finding, Spread
from delineate.geometry import Grid
from delineate.labels import Code, label_set
from delineate.measurement.lesions import LesionOptions, measure_lesions
from delineate.measurement.quantities import DISTANCE, VOLUME
from delineate.measurement.spread import Result, SpreadReport, with_spread
from delineate.measurement.structures import measure_structures
from delineate.volume import Segmentation

GRID = Grid((20, 14, 9), np.diag((5.0, 5.0, 8.0, 1)))
LABELS = label_set({1: "liver", 2: "tumour"})
VOXEL_ML = 0.2


def result(*boxes: tuple[int, int]) -> Result:
    """A liver with a tumour 2 x 2 voxels thick from one index to another, for each of `boxes`."""
    array = np.zeros(GRID.shape, np.uint8)
    array[1:19, 2:10, 2:7] = 1
    for start, stop in boxes:
        array[start:stop, 4:6, 3:5] = 2
    segmentation = Segmentation(array, GRID, LABELS)
    lesions = measure_lesions(segmentation, options=LesionOptions(to=("liver",)))
    return Result((*measure_structures(segmentation, structures=["liver"]), *lesions.findings), lesions.lesions)


def of(report: SpreadReport, quantity: Code, component: int | None = None) -> Finding:
    return next(one for one in report.findings if (one.quantity, one.component) == (quantity, component))


def test_a_volume_has_its_lowest_highest_and_deviation() -> None:
    found = of(with_spread(result((2, 6)), [result((2, 7)), result((2, 5))]), VOLUME, 1)
    assert found.value == pytest.approx(16 * VOXEL_ML)
    assert found.spread is not None
    assert found.spread.over == "3 results"
    numbers = (found.spread.lowest, found.spread.highest, found.spread.standard_deviation)
    assert numbers == pytest.approx((12 * VOXEL_ML, 20 * VOXEL_ML, 4 * VOXEL_ML))


def test_structures_have_a_spread_like_lesions() -> None:
    found = of(with_spread(result((2, 6)), [result((2, 8))]), VOLUME)
    assert found.spread is not None
    assert found.spread.highest - found.spread.lowest == pytest.approx(8 * VOXEL_ML)


def test_lesions_belong_together_where_they_overlap_whatever_their_numbers() -> None:
    main, other = result((2, 6), (10, 13)), result((2, 5), (10, 15))
    report = with_spread(main, [other])
    first, second = of(report, VOLUME, 1).spread, of(report, VOLUME, 2).spread
    assert first is not None
    assert second is not None
    assert (first.lowest, second.highest) == pytest.approx((12 * VOXEL_ML, 20 * VOXEL_ML))
    assert report.remarks == ()


def test_a_lesion_that_others_miss_says_so_and_keeps_its_value() -> None:
    report = with_spread(result((2, 6), (10, 13)), [result((2, 6)), result((2, 6), (11, 14))])
    assert report.remarks == ("tumour 2: a lesion of its own in 2 of 3 results only",)
    found = of(report, VOLUME, 2)
    assert found.spread == Spread(found.value, found.value, 0.0, "2 of 3 results")


def test_a_lesion_that_only_others_have_is_said() -> None:
    report = with_spread(result((2, 6)), [result((2, 6), (10, 13)), result((2, 6))])
    assert report.remarks == (
        "tumour: 1 of 2 other results have lesions where this one has none, "
        "the largest of 2.4 ml at 55, 22, 28 mm (LPS)",
    )


def test_a_lesion_in_two_pieces_is_matched_with_the_larger_one() -> None:
    report = with_spread(result((2, 9)), [result((2, 4), (5, 9))])
    found = of(report, VOLUME, 1)
    assert found.spread is not None
    assert found.spread.lowest == pytest.approx(16 * VOXEL_ML)
    assert report.remarks == ()


def test_one_result_has_no_spread() -> None:
    main = result((2, 6))
    report = with_spread(main, [])
    assert report.findings == main.findings


def test_order_and_values_stay_the_main_results() -> None:
    main = result((2, 6), (10, 13))
    report = with_spread(main, [result((3, 6)), result((10, 14))])
    assert tuple(replace(one, spread=None) for one in report.findings) == main.findings
    assert all(one.spread is None or one.quantity != DISTANCE for one in report.findings)
