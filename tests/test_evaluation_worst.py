from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
import pytest

from delineate.evaluation import score_case, score_failure, summarise
from delineate.evaluation.errors import ErrorVolumes, locate_errors
from delineate.evaluation.worst import Cause, Reason, explain, worst_first
from delineate.geometry import Grid, compose_affine
from delineate.labels import label_set
from delineate.volume import Segmentation, reorient

SHAPE = (20, 24, 12)
GRID = Grid(SHAPE, compose_affine(np.diag([-1.0, 2.0, 3.0]), (5, -3, 7)))  # a voxel is 0.006 ml
LABELS = label_set({1: "left_kidney", 2: "right_kidney", 3: "spleen"})
TOLERANCES = dict.fromkeys(LABELS.names, 2.0)

LabelMap = npt.NDArray[np.uint8]


def kidneys() -> LabelMap:
    array = np.zeros(SHAPE, np.uint8)
    array[2:8, 4:12, 3:8], array[12:18, 4:12, 3:8] = 1, 2
    return array


def segmentation(array: LabelMap) -> Segmentation:
    return Segmentation(array, GRID, LABELS)


def errors_of(prediction: LabelMap, reference: LabelMap | None = None) -> dict[str, ErrorVolumes]:
    first = kidneys() if reference is None else reference
    return locate_errors(segmentation(first), segmentation(prediction), TOLERANCES)


def reasons_of(prediction: LabelMap, reference: LabelMap | None = None) -> list[Reason]:
    first = segmentation(kidneys() if reference is None else reference)
    case = score_case("a", first, segmentation(prediction))
    return list(explain(case, locate_errors(first, segmentation(prediction), TOLERANCES), LABELS))


def causes_of(prediction: LabelMap, reference: LabelMap | None = None) -> list[tuple[str, Cause]]:
    return [(reason.structure, reason.cause) for reason in reasons_of(prediction, reference)]


def test_a_perfect_prediction_has_no_errors_and_no_reasons() -> None:
    assert {errors.total_ml for errors in errors_of(kidneys()).values()} == {0}
    assert errors_of(kidneys())["left_kidney"].moved_dice == 1
    assert math.isnan(errors_of(kidneys())["spleen"].moved_dice)
    assert reasons_of(kidneys()) == []


def test_errors_are_volumes_near_the_surface_and_beyond() -> None:
    predicted = kidneys()
    predicted[8:14, 4, 3] = 1  # six voxels from the surface on, 1 to 6 mm away; near is 3 mm
    predicted[2, 4, 3] = 0
    errors = errors_of(predicted)["left_kidney"]
    assert errors.near_mm == 3
    assert (errors.false_positive_ml, errors.false_negative_ml) == pytest.approx((6 * 0.006, 0.006))
    assert errors.boundary_ml == pytest.approx((3 + 1) * 0.006)


def test_the_order_of_axes_and_overlapping_masks_change_nothing() -> None:
    predicted = np.roll(kidneys(), (1, 2), (0, 2))
    predicted[0, 0, 0] = 1
    apart = errors_of(predicted)
    first, second = (reorient(segmentation(array), "SRA") for array in (kidneys(), predicted))
    names = label_set(dict(zip(LABELS.values, LABELS.names, strict=True)), overlaps=True)
    masks = (
        Segmentation(np.stack([array == value for value in LABELS.values]), GRID, names)
        for array in (kidneys(), predicted)
    )
    for other in (
        locate_errors(first, second, TOLERANCES, threads=2),
        locate_errors(next(masks), next(masks), TOLERANCES),
    ):
        assert repr(other) == repr(apart)


def test_pieces_apart_from_the_reference_and_pieces_not_found_are_counted() -> None:
    reference = kidneys()
    reference[2:4, 20:22, 3:5] = 1
    predicted = kidneys()
    predicted[2:8, 18, 9:11], predicted[0, 0, 0] = 1, 1
    errors = errors_of(predicted, reference)["left_kidney"]
    assert (errors.stray_pieces, errors.lost_pieces) == (2, 1)
    assert (errors.stray_ml, errors.lost_ml) == pytest.approx((13 * 0.006, 8 * 0.006))


def test_a_prediction_that_is_off_would_be_right_if_moved_back() -> None:
    (reason,) = (r for r in reasons_of(np.roll(kidneys(), 4, axis=1)) if r.structure == "left_kidney")
    assert (reason.cause, reason.unit) == (Cause.SHIFTED, "mm")
    assert reason.value == pytest.approx(8)
    assert "moved back, its Dice would be 1.00 and not 0.50" in reason.words


def test_sides_that_changed_places_are_named() -> None:
    swapped = np.array([0, 2, 1], np.uint8)[kidneys()]
    found = reasons_of(swapped)
    assert ("left_kidney", Cause.SWAPPED_SIDE) in [(r.structure, r.cause) for r in found]
    assert found[0].words == "100 % of it labelled right_kidney"


def test_a_structure_taken_for_another_is_missed_and_the_other_spurious() -> None:
    predicted = np.where(kidneys() == 1, 3, kidneys()).astype(np.uint8)
    found = reasons_of(predicted)
    assert [(r.structure, r.cause) for r in found] == [
        ("left_kidney", Cause.MISTAKEN),
        ("left_kidney", Cause.MISSED),
        ("spleen", Cause.SPURIOUS),
    ]
    assert found[2].words.endswith("nothing in the reference; 100 % of it is left_kidney")


def test_size_that_is_off_is_over_grown_or_under_segmented() -> None:
    predicted = kidneys()
    predicted[1:9, 3:13, 2:9], predicted[12:15] = 1, 0
    found = {r.structure: r for r in reasons_of(predicted) if r.unit == "%"}
    assert found["left_kidney"].cause is Cause.OVER_GROWN
    assert found["left_kidney"].value == pytest.approx(100 * (8 * 10 * 7 / 240 - 1))
    assert found["right_kidney"].cause is Cause.UNDER_SEGMENTED
    assert found["right_kidney"].value == -50


def test_errors_where_the_scan_ends_are_said_to_lie_there() -> None:
    reference = kidneys()
    reference[2:8, 4:12, 3:12] = 1
    predicted = reference.copy()
    predicted[2:8, 4:12, 10:] = 0
    assert errors_of(predicted, reference)["left_kidney"].cut_ml == pytest.approx(6 * 8 * 2 * 0.006)
    assert ("left_kidney", Cause.CUT) in causes_of(predicted, reference)
    assert errors_of(np.roll(kidneys(), 1, 2))["left_kidney"].cut_ml == 0


def test_no_common_voxel_is_the_wrong_place() -> None:
    predicted = kidneys()
    predicted[predicted == 2] = 0
    predicted[12:18, 14:22, 3:8] = 2
    (reason,) = reasons_of(predicted)
    assert reason.cause is Cause.WRONG_PLACE
    assert reason.value == pytest.approx(20)


def test_errors_along_the_boundary_alone_are_said_to_be_that() -> None:
    predicted = kidneys()
    predicted[2], predicted[3, 4:8, 3:8] = 0, 0
    assert causes_of(predicted) == [("left_kidney", Cause.BOUNDARY)]


def test_worst_cases_come_first_and_failures_before_them() -> None:
    nothing, good = np.zeros(SHAPE, np.uint8), kidneys()
    middling = np.where(kidneys() == 2, 0, kidneys()).astype(np.uint8)
    cases = [
        score_case("good", segmentation(good), segmentation(good)),
        score_case("empty", segmentation(nothing), segmentation(nothing)),
        score_case("nothing", segmentation(good), segmentation(nothing)),
        score_case("middling", segmentation(good), segmentation(middling)),
        score_failure("failed", segmentation(good), "no file"),
    ]
    assert [case.case_id for case in worst_first(summarise(cases))] == ["failed", "nothing", "middling", "good"]
    (reason,) = explain(cases[-1], {}, LABELS)
    assert (reason.cause, reason.words, reason.value) == (Cause.FAILED, "no file", 0)
