from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from delineate.errors import InputError
from delineate.metrics import calibration
from delineate.metrics.calibration import calibrate_structure, pool_calibrations

SHAPE = (6, 9, 11)
SPACING = (4.0, 1.0, 2.5)


def reference() -> Any:
    mask = np.zeros(SHAPE, bool)
    mask[2:4, 3:7, 4:8] = True
    return mask


def said(inside: float, outside: float) -> Any:
    return np.where(reference(), inside, outside).astype(np.float32)


def draws(seed: int) -> tuple[Any, Any]:
    generator = np.random.default_rng(seed)
    return generator.random(SHAPE) < 0.4, generator.random(SHAPE)


def test_ten_voxels_by_hand() -> None:
    truth, probability = np.zeros((10, 1, 1), bool), np.full((10, 1, 1), 0.85)
    truth[:6], probability[8:] = True, 0.05
    found = calibrate_structure(truth, probability, (1, 1, 1), bins=10, within_mm=None)
    # Eight voxels at 0.85 of which six are right, two at 0.05 of which none is.
    assert found.expected_error == pytest.approx(0.8 * (0.85 - 0.75) + 0.2 * 0.05)
    assert found.largest_error == pytest.approx(0.1)
    assert found.brier == pytest.approx((6 * 0.15**2 + 2 * 0.85**2 + 2 * 0.05**2) / 10)
    assert found.overconfidence == pytest.approx((8 * 0.85 + 2 * 0.05 - 6) / 10)
    assert [(b.lower, b.count, b.frequency) for b in found.curve if b.count] == [(0.0, 2, 0), (0.8, 8, 0.75)]


@given(seed=st.integers(0, 2**32 - 1), bins=st.integers(1, 20))
@settings(deadline=None)
def test_the_error_is_as_in_a_naive_count(seed: int, bins: int) -> None:
    truth, probability = draws(seed)
    edges = np.linspace(0, 1, bins + 1)
    bin_of = np.clip(np.searchsorted(edges, probability, side="right") - 1, 0, bins - 1)
    parts = [(probability[bin_of == b], truth[bin_of == b]) for b in range(bins) if (bin_of == b).any()]
    naive = sum(len(p) * abs(p.mean() - t.mean()) for p, t in parts) / truth.size
    found = calibrate_structure(truth, probability, SPACING, within_mm=None, bins=bins)
    assert found.expected_error == pytest.approx(naive)


@given(seed=st.integers(0, 2**32 - 1), within_mm=st.floats(0, 12))
@settings(deadline=None)
def test_the_region_is_what_lies_near(seed: int, within_mm: float) -> None:
    generator = np.random.default_rng(seed)
    truth, probability = generator.random(SHAPE) < 0.01, generator.random(SHAPE) * 0.505
    seeds = np.argwhere(truth | (probability >= 0.5)) * SPACING
    points = np.indices(SHAPE).reshape(3, -1).T * SPACING
    squares = ((points[:, None] - seeds[None]) ** 2).sum(axis=2).min(axis=1, initial=math.inf)
    found = calibrate_structure(truth, probability, SPACING, within_mm=within_mm)
    assert abs(found.voxels - (squares <= within_mm**2).sum()) <= (abs(squares - within_mm**2) < 1e-4).sum()


def test_more_air_makes_no_model_look_calibrated() -> None:
    wide = [np.pad(array, 40) for array in (reference(), said(0.6, 0.4))]
    near = [calibrate_structure(reference(), said(0.6, 0.4), SPACING), calibrate_structure(wide[0], wide[1], SPACING)]
    assert near[0].expected_error > 0.3
    assert near[1].voxels < wide[0].size / 100


def test_who_misses_a_structure_and_is_sure_of_it_is_badly_calibrated() -> None:
    found, missed = (calibrate_structure(reference(), said(p, 0.02), SPACING) for p in (0.9, 0.02))
    assert missed.expected_error > found.expected_error
    assert missed.brier > found.brier


def test_what_was_predicted_may_have_less_than_one_half() -> None:
    far = np.zeros(SHAPE, bool)
    far[5, 0, 0] = True
    found = [calibrate_structure(reference() & False, said(0.3, 0.1), SPACING, predicted=p) for p in (None, far)]
    assert [calibration.voxels > 0 for calibration in found] == [False, True]


def test_nothing_there_and_nothing_said_is_counted_as_nothing() -> None:
    found = calibrate_structure(reference() & False, said(0, 0), SPACING)
    assert found.voxels == 0
    figures = (found.expected_error, found.largest_error, found.overconfidence, found.brier, found.curve[0].confidence)
    assert all(math.isnan(figure) for figure in figures)


def test_slabs_of_a_mapped_file_count_as_the_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    truth, probability = draws(3)
    whole = calibrate_structure(truth, probability, SPACING)
    mapped = np.memmap(tmp_path / "p", dtype=np.float64, mode="w+", shape=SHAPE, order="F")
    mapped[:] = probability
    monkeypatch.setattr(calibration, "_SLAB_VOXELS", 150)
    slabs = calibrate_structure(truth, mapped, SPACING)
    assert (slabs.counts == whole.counts).all()
    assert slabs.expected_error == pytest.approx(whole.expected_error)


def test_cases_are_pooled_voxel_by_voxel() -> None:
    (first, p), (second, q) = draws(1), draws(2)
    parts = [calibrate_structure(t, v, SPACING, within_mm=None) for t, v in ((first, p), (second, q))]
    both = calibrate_structure(np.concatenate([first, second]), np.concatenate([p, q]), SPACING, within_mm=None)
    assert pool_calibrations(parts).expected_error == pytest.approx(both.expected_error)
    with pytest.raises(ValueError, match="one number of bins"):
        pool_calibrations([])


@pytest.mark.parametrize(
    ("value", "problem"), [(math.nan, "3 not finite"), (math.inf, "3 not finite"), (1.2, "3 outside 0 to 1")]
)
def test_what_is_no_probability_is_counted(value: float, problem: str) -> None:
    probability = said(0.9, 0.1)
    probability[0, 0, :3] = value
    with pytest.raises(InputError, match=f"{problem}, of 594 values"):
        calibrate_structure(reference(), probability, SPACING)


def test_wrong_arguments_are_named() -> None:
    with pytest.raises(TypeError, match="bool arrays"):
        calibrate_structure(reference().astype(int), said(1, 0), SPACING)
    with pytest.raises(ValueError, match="one shape"):
        calibrate_structure(reference(), said(1, 0)[1:], SPACING)
