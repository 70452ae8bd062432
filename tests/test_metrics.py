from __future__ import annotations

import dataclasses
import math
import subprocess
import sys
import warnings
from types import ModuleType
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from delineate.metrics import Status, StructureScores, confusion_counts, score_label_maps, score_masks
from delineate.metrics.definitions import METRICS
from delineate.metrics.surfels import CORNERS, surfel_areas_mm2

Mask = npt.NDArray[np.bool_]

SPACINGS = [(1.0, 1.0, 1.0), (0.7, 1.3, 3.0), (5.0, 0.4, 0.9)]
SHAPES = st.tuples(st.integers(1, 7), st.integers(1, 6), st.integers(1, 8))
PAIRS = SHAPES.flatmap(lambda shape: st.tuples(hnp.arrays(bool, shape), hnp.arrays(bool, shape)))


def block(start: tuple[int, int, int], stop: tuple[int, int, int], shape: tuple[int, int, int] = (9, 10, 11)) -> Mask:
    mask = np.zeros(shape, dtype=bool)
    mask[tuple(slice(a, b) for a, b in zip(start, stop, strict=True))] = True
    return mask


def blobs(seed: int, shape: tuple[int, int, int] = (11, 9, 13)) -> Mask:
    generator = np.random.default_rng(seed)
    noise = np.pad(generator.normal(size=shape), 1)
    smooth = np.sum([np.roll(noise, step, axis) for axis in range(3) for step in (-1, 0, 1)], axis=0)
    return np.asarray(smooth[1:-1, 1:-1, 1:-1] > 0.8)


def numbers(scores: StructureScores) -> list[float]:
    return [float(value) for value in dataclasses.astuple(scores)[:-1]]


def naive_distances(start: Mask, target: Mask, spacing_mm: tuple[float, float, float]) -> tuple[Any, Any]:
    """Brute force: every surfel of one mask against every surfel of the other."""
    areas = surfel_areas_mm2(spacing_mm)
    surfels = []
    for mask in (start, target):
        padded = np.pad(mask, 1)
        for position in np.ndindex(*(n + 1 for n in mask.shape)):
            corners = [padded[tuple(np.add(position, corner))] for corner in CORNERS]
            code = sum(1 << bit for bit, inside in enumerate(corners) if inside)
            surfels.append((mask is start, position, areas[code], 0 < code < 255))
    points = [np.array([p for own, p, _, edge in surfels if edge and own is side]) for side in (True, False)]
    steps = (points[0][:, None] - points[1][None]) * np.array(spacing_mm)
    own_areas = np.array([area for own, _, area, edge in surfels if edge and own])
    return np.sqrt((steps**2).sum(axis=-1)).min(axis=1), own_areas


def naive_percentile(mm: Any, areas: Any) -> float:
    reached = 0.0
    for n in np.argsort(mm, kind="stable"):
        reached += areas[n]
        if reached >= 0.95 * areas.sum() * (1 - 1e-12):
            return float(mm[n])
    raise AssertionError("the areas do not add up")


@pytest.fixture(scope="module")
def peer() -> ModuleType:
    module = pytest.importorskip("surface_distance", reason="surface-distance is not installed")
    vars(np).update(Inf=np.inf, NaN=np.nan)  # numpy 2 took away the names that it uses
    assert isinstance(module, ModuleType)
    return module


@pytest.mark.parametrize("spacing_mm", SPACINGS)
def test_areas_of_all_neighbourhoods_equal_those_of_surface_distance(
    peer: ModuleType, spacing_mm: tuple[float, float, float]
) -> None:
    kernel = peer.metrics.lookup_tables.ENCODE_NEIGHBOURHOOD_3D_KERNEL
    theirs = peer.metrics.lookup_tables.create_table_neighbour_code_to_surface_area(spacing_mm)
    code = [sum(int(kernel[c]) for bit, c in enumerate(CORNERS) if ours >> bit & 1) for ours in range(256)]
    np.testing.assert_allclose(surfel_areas_mm2(spacing_mm), theirs[code], rtol=1e-12)


@pytest.mark.parametrize("spacing_mm", SPACINGS)
@pytest.mark.parametrize("seed", range(4))
def test_scores_equal_those_of_surface_distance(
    peer: ModuleType, spacing_mm: tuple[float, float, float], seed: int
) -> None:
    pair = blobs(seed), blobs(seed + 100)
    scores = score_masks(*pair, spacing_mm, tolerance_mm=1.3)
    with warnings.catch_warnings(action="ignore"):
        theirs = peer.compute_surface_distances(*pair, spacing_mm)
    assert scores.dice == pytest.approx(peer.compute_dice_coefficient(*pair), rel=1e-12)
    assert scores.hd95_mm == pytest.approx(peer.compute_robust_hausdorff(theirs, 95), rel=1e-12)
    assert scores.hd_mm == pytest.approx(peer.compute_robust_hausdorff(theirs, 100), rel=1e-12)
    assert scores.surface_dice == pytest.approx(peer.compute_surface_dice_at_tolerance(theirs, 1.3), rel=1e-12)
    there_and_back = peer.compute_average_surface_distance(theirs)
    assert scores.masd_mm == pytest.approx(sum(there_and_back) / 2, rel=1e-12)


SPACING = st.tuples(*[st.floats(0.2, 6)] * 3)


@settings(max_examples=50, deadline=None)
@given(pair=PAIRS, spacing_mm=SPACING, tolerance_mm=st.floats(0.05, 9))
def test_scores_of_any_shape_and_spacing_equal_those_of_surface_distance(
    peer: ModuleType, pair: tuple[Mask, Mask], spacing_mm: tuple[float, float, float], tolerance_mm: float
) -> None:
    if not (pair[0].any() and pair[1].any()):
        return
    scores = score_masks(*pair, spacing_mm, tolerance_mm=tolerance_mm)
    with warnings.catch_warnings(action="ignore"):
        theirs = peer.compute_surface_distances(*pair, spacing_mm)
    assert scores.hd_mm == pytest.approx(peer.compute_robust_hausdorff(theirs, 100))
    assert scores.masd_mm == pytest.approx(sum(peer.compute_average_surface_distance(theirs)) / 2)
    assert scores.surface_dice == pytest.approx(peer.compute_surface_dice_at_tolerance(theirs, tolerance_mm))
    # Where the area adds up to 95 % but for rounding, either neighbour is right.
    near = [peer.compute_robust_hausdorff(theirs, percent) for percent in (95 - 1e-9, 95, 95 + 1e-9)]
    assert min(near) * (1 - 1e-9) <= scores.hd95_mm <= max(near) * (1 + 1e-9)


@settings(max_examples=40, deadline=None)
@given(pair=PAIRS, spacing_mm=st.sampled_from(SPACINGS))
def test_distances_equal_brute_force(pair: tuple[Mask, Mask], spacing_mm: tuple[float, float, float]) -> None:
    if not (pair[0].any() and pair[1].any()):
        return
    scores = score_masks(*pair, spacing_mm, tolerance_mm=1.1)
    both = naive_distances(*pair, spacing_mm), naive_distances(*pair[::-1], spacing_mm)
    total = sum(areas.sum() for _, areas in both)
    within = sum(areas[mm <= 1.1].sum() for mm, areas in both)
    assert scores.hd_mm == pytest.approx(max(mm.max() for mm, _ in both))
    assert scores.surface_dice == pytest.approx(within / total)
    assert scores.mean_surface_distance_mm == pytest.approx(sum((mm * areas).sum() for mm, areas in both) / total)


@pytest.mark.parametrize("seed", range(3))
def test_95th_percentile_equals_brute_force(seed: int) -> None:
    pair = blobs(seed, (6, 5, 7)), blobs(seed + 50, (6, 5, 7))
    directions = [naive_distances(*order, SPACINGS[1]) for order in (pair, pair[::-1])]
    expected = max(naive_percentile(*direction) for direction in directions)
    assert score_masks(*pair, SPACINGS[1], tolerance_mm=1).hd95_mm == pytest.approx(expected)


@settings(max_examples=30, deadline=None)
@given(pair=PAIRS)
def test_scores_are_symmetric(pair: tuple[Mask, Mask]) -> None:
    there = score_masks(*pair, (0.7, 1.3, 3.0), tolerance_mm=1)
    back = score_masks(*pair[::-1], (0.7, 1.3, 3.0), tolerance_mm=1)
    symmetric = [metric.name for metric in METRICS if metric.name not in ("precision", "recall")][:10]
    for name in symmetric:
        assert getattr(there, name) == pytest.approx(getattr(back, name), nan_ok=True), name
    assert there.precision == pytest.approx(back.recall, nan_ok=True)
    assert there.volume_error_ml == -back.volume_error_ml


@settings(max_examples=30, deadline=None)
@given(pair=PAIRS)
def test_identical_masks_are_perfect(pair: tuple[Mask, Mask]) -> None:
    mask = pair[0].copy()
    mask[0, 0, 0] = True
    scores = score_masks(mask, mask, (0.7, 1.3, 3.0), tolerance_mm=0)
    assert numbers(scores)[:14] == [1] * 7 + [0] * 7


@pytest.mark.parametrize(("axis", "shift_mm"), [(0, 2.0), (1, 0.5), (2, 3.0)])
def test_hausdorff_of_a_block_moved_by_one_voxel_is_the_spacing(axis: int, shift_mm: float) -> None:
    reference = block((2, 3, 2), (6, 7, 8))
    moved = np.roll(reference, 1, axis)
    scores = score_masks(reference, moved, (2.0, 0.5, 3.0), tolerance_mm=0)
    assert scores.hd_mm == scores.hd95_mm == shift_mm


def test_overlap_and_volumes_of_a_hand_worked_pair() -> None:
    reference, prediction = block((2, 2, 2), (4, 6, 7)), block((3, 2, 2), (5, 6, 8))  # 40, 48 and 20 voxels
    scores = score_masks(reference, prediction, (2.0, 0.5, 3.0), tolerance_mm=1)
    assert scores.dice == pytest.approx(40 / 88)
    assert scores.iou == pytest.approx(20 / 68)
    assert (scores.reference_ml, scores.prediction_ml) == pytest.approx((0.12, 0.144))
    assert (scores.volume_error_ml, scores.volume_error_percent) == pytest.approx((0.024, 20))


def test_two_single_voxels_are_as_far_apart_as_their_centres() -> None:
    reference, prediction = block((1, 1, 1), (2, 2, 2)), block((4, 5, 3), (5, 6, 4))
    scores = score_masks(reference, prediction, (2.0, 1.0, 0.5), tolerance_mm=1)
    corner_gap_mm = math.hypot(2 * 2.0, 3 * 1.0, 1 * 0.5)
    assert scores.hd_mm == pytest.approx(math.hypot(3 * 2.0, 4 * 1.0, 2 * 0.5))
    assert corner_gap_mm < scores.mean_surface_distance_mm < scores.hd_mm
    assert scores.surface_dice == 0


def test_surface_dice_counts_a_distance_equal_to_the_tolerance() -> None:
    reference = block((2, 3, 2), (6, 7, 8))
    moved = np.roll(reference, 1, axis=1)
    assert score_masks(reference, moved, (2.0, 0.7, 3.0), tolerance_mm=0.7).surface_dice == 1
    assert score_masks(reference, moved, (2.0, 0.7, 3.0), tolerance_mm=0.69).surface_dice < 1


@pytest.mark.parametrize("spacing_mm", [0.7, 0.8, 1.2])
def test_a_voxel_off_is_within_a_tolerance_of_its_edge_as_files_hold_it(spacing_mm: float) -> None:
    reference = block((2, 3, 2), (6, 7, 8))
    read = float(np.float32(spacing_mm))
    scores = score_masks(reference, np.roll(reference, 1, axis=1), (2.0, read, 3.0), tolerance_mm=spacing_mm)
    exact = score_masks(reference, np.roll(reference, 1, axis=1), (2.0, 1.0, 3.0), tolerance_mm=1)
    assert (scores.surface_dice, scores.boundary_iou) == (1, exact.boundary_iou)


def test_a_structure_at_the_border_of_the_array_is_closed_there() -> None:
    inner, outer = block((0, 0, 0), (2, 3, 4), (2, 3, 4)), block((4, 4, 4), (6, 7, 8))
    mask = block((4, 4, 4), (5, 6, 7))
    at_border = score_masks(inner, mask[4:6, 4:7, 4:8], SPACINGS[1], tolerance_mm=1)
    assert numbers(at_border) == pytest.approx(numbers(score_masks(outer, mask, SPACINGS[1], tolerance_mm=1)))


def test_a_missed_structure() -> None:
    scores = score_masks(block((2, 2, 2), (4, 4, 4)), block((0, 0, 0), (0, 0, 0)), (1, 1, 2), tolerance_mm=1)
    assert scores.status is Status.MISSED
    assert (scores.dice, scores.iou, scores.surface_dice) == (0, 0, 0)
    assert np.isnan([scores.hd_mm, scores.hd95_mm, scores.mean_surface_distance_mm]).all()
    assert (scores.volume_error_ml, scores.volume_error_percent) == (-0.016, -100)


def test_a_spurious_structure() -> None:
    scores = score_masks(block((0, 0, 0), (0, 0, 0)), block((2, 2, 2), (4, 4, 4)), (1, 1, 2), tolerance_mm=1)
    assert scores.status is Status.SPURIOUS
    assert (scores.dice, scores.iou, scores.surface_dice) == (0, 0, 0)
    assert np.isnan([scores.hd_mm, scores.hd95_mm, scores.volume_error_percent]).all()
    assert scores.volume_error_ml == 0.016


def test_an_absent_structure() -> None:
    empty = block((0, 0, 0), (0, 0, 0))
    scores = score_masks(empty, empty, (1, 1, 2), tolerance_mm=1)
    assert scores.status is Status.ABSENT
    assert np.isnan(numbers(scores)[:12]).all()
    assert (scores.volume_error_ml, scores.reference_ml, scores.prediction_ml) == (0, 0, 0)


def label_maps() -> tuple[npt.NDArray[Any], npt.NDArray[Any]]:
    generator = np.random.default_rng(5)
    reference = np.kron(generator.integers(0, 5, (4, 3, 3)), np.ones((3, 4, 5), dtype=int)).astype(np.uint8)
    prediction = np.where(generator.random(reference.shape) < 0.1, np.roll(reference, (2, 3), (1, 2)), reference)
    return reference, prediction.astype(np.uint8)


@pytest.mark.parametrize("threads", [1, 3])
def test_label_maps_score_as_their_masks(threads: int) -> None:
    reference, prediction = label_maps()
    scores = score_label_maps(reference, prediction, SPACINGS[1], (4, 1, 9), tolerance_mm=1, threads=threads)
    assert list(scores) == [4, 1, 9]
    for value in scores:
        alone = score_masks(reference == value, prediction == value, SPACINGS[1], tolerance_mm=1)
        assert numbers(scores[value]) == pytest.approx(numbers(alone), nan_ok=True)


@pytest.mark.parametrize("turn", [(2, 1, 0), (1, 2, 0)])
def test_the_order_in_memory_changes_no_score(turn: tuple[int, int, int]) -> None:
    reference, prediction = label_maps()
    turned = np.ascontiguousarray(reference.transpose(turn)).transpose(np.argsort(turn))
    expected = score_label_maps(reference, prediction, SPACINGS[1], (1, 2), tolerance_mm=1)
    scores = score_label_maps(turned[::-1], prediction[::-1], SPACINGS[1], (1, 2), tolerance_mm=1)
    assert [numbers(scores[v]) for v in (1, 2)] == [pytest.approx(numbers(expected[v])) for v in (1, 2)]


def test_label_maps_may_differ_in_type() -> None:
    reference, prediction = label_maps()
    mixed = score_label_maps(reference.astype(np.int64), prediction, (1, 2, 3), (1,), tolerance_mm=1)
    assert mixed == score_label_maps(reference, prediction, (1, 2, 3), (1,), tolerance_mm=1)


def test_the_other_byte_order_changes_no_score() -> None:
    reference, prediction = (np.arange(60, dtype=np.uint16).reshape(3, 4, 5) * 7 % n for n in (5, 6))
    expected = score_label_maps(reference, prediction, (1, 2, 3), (1, 4), tolerance_mm=1)
    swapped = reference.astype(">i4"), prediction.astype(">u2")
    assert score_label_maps(*swapped, (1, 2, 3), (1, 4), tolerance_mm=1) == expected


def test_each_value_has_its_own_tolerance() -> None:
    reference, prediction = label_maps()
    scores = score_label_maps(reference, prediction, SPACINGS[1], (1, 2), tolerance_mm={1: 0.0, 2: 50.0})
    assert scores[1].surface_dice < 1
    assert scores[2].surface_dice == 1


def test_inputs_are_left_alone() -> None:
    reference, prediction = label_maps()
    copies = reference.copy(), prediction.copy()
    score_label_maps(reference, prediction, (1, 2, 3), (1, 2), tolerance_mm=1)
    assert np.array_equal(reference, copies[0])
    assert np.array_equal(prediction, copies[1])


def test_confusion_counts_every_pair_of_values() -> None:
    reference, prediction = label_maps()
    counts = confusion_counts(reference, prediction, (3, 1), threads=2)
    rest = ~np.isin(reference, (3, 1)) & ~np.isin(prediction, (3, 1))
    assert counts[1, 2] == np.count_nonzero((reference == 3) & (prediction == 1)) > 0
    assert counts[2, 1] == np.count_nonzero((reference == 1) & (prediction == 3)) > 0
    assert counts[0, 0] == np.count_nonzero(rest)
    assert counts.sum() == reference.size


def test_no_values_give_no_scores() -> None:
    assert score_label_maps(*label_maps(), (1, 1, 1), (), tolerance_mm=1) == {}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"prediction": np.zeros((2, 2, 2), np.uint8)}, "of one shape"),
        ({"prediction": np.full((12, 12, 15), -1)}, "0 or more"),
        ({"spacing_mm": (1.0, 0.0, 1.0)}, "three positive numbers"),
        ({"spacing_mm": (1.0, 2.0)}, "three positive numbers"),
        ({"values": (1, 1)}, "different"),
        ({"values": (0, 1)}, "start at 1"),
        ({"tolerance_mm": -0.1}, "tolerance"),
    ],
)
def test_arguments_without_meaning_are_refused(change: dict[str, Any], message: str) -> None:
    reference, prediction = label_maps()
    plain: dict[str, Any] = {"prediction": prediction, "spacing_mm": (1, 1, 1), "values": (1,), "tolerance_mm": 1}
    with pytest.raises(ValueError, match=message):
        score_label_maps(reference, **{**plain, **change})


def test_arrays_of_the_wrong_type_are_refused() -> None:
    maps = np.zeros((3, 3, 3), np.float32)
    with pytest.raises(TypeError, match="of integers"):
        score_label_maps(maps, maps, (1, 1, 1), (1,), tolerance_mm=1)
    with pytest.raises(TypeError, match="bool arrays"):
        score_masks(maps, maps, (1, 1, 1), tolerance_mm=1)  # type: ignore[arg-type]


def test_importing_loads_nothing_heavy() -> None:
    code = "import sys, delineate.metrics, delineate.evaluation; print({'numba', 'torch', 'scipy'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
