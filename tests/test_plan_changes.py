"""Augmentation is as frequent as a run is long."""

import msgspec
import pytest
from fingerprints import fingerprint, fingerprint_of

from delineate.planning import AugmentationPlan, Machine, Plan, PlanOptions, Speed, check_plan, make_plan
from delineate.planning.changes import for_the_length

CPU = Machine("cpu", 8 * 10**9, "float32", Speed(feature_seconds=1e-9, product_seconds=2e-11))
CHANGES = [name for name in AugmentationPlan.__struct_fields__ if name.endswith("_probability")]


def planned(minutes: float | None, cases: int = 100) -> Plan:
    return make_plan(fingerprint_of([(1.0, 1.0, 1.0)] * cases), CPU, PlanOptions(minutes=minutes))


def strength(plan: Plan) -> float:
    return plan.augmentation.spatial_probability / AugmentationPlan().spatial_probability


def test_the_longer_a_run_the_more_often_patches_are_changed() -> None:
    strengths = [strength(planned(minutes)) for minutes in (2, 20, 200, 20_000)]
    assert strengths == sorted(strengths)
    assert strengths[0] < 0.05
    assert strengths[-1] == 1
    assert planned(20_000).augmentation == planned(None).augmentation


def test_the_fewer_patients_there_are_the_sooner_each_has_been_seen_often() -> None:
    few, many = strength(planned(2, cases=10)), strength(planned(2, cases=100))
    assert few == pytest.approx(10 * many, rel=0.05)


def test_all_changes_are_as_much_rarer_and_flips_stay() -> None:
    plan, usual = planned(10), planned(None).augmentation
    factors = {getattr(plan.augmentation, name) / getattr(usual, name) for name in CHANGES}
    assert max(factors) == pytest.approx(min(factors), rel=0.05)
    assert plan.augmentation.flip_axes == usual.flip_axes != ()
    check_plan(plan)
    assert any("% as often as usual, because each patient is seen about" in why for why in plan.reasons)


def test_a_large_patient_is_seen_patch_by_patch() -> None:
    """A run of as many patches on patients of eight patches each sees each an eighth as often."""
    plan = planned(None)
    plan = msgspec.structs.replace(plan, patch_size=(32, 32, 32))
    small, large = (for_the_length(plan, fingerprint(), (side, side, side)) for side in (128.0, 256.0))
    assert strength(small) == pytest.approx(8 * strength(large), rel=0.05)


def test_a_patient_of_a_network_in_two_dimensions_is_seen_slice_by_slice() -> None:
    flat = make_plan(fingerprint(), CPU, PlanOptions(dimensions=2))
    few, many = (for_the_length(flat, fingerprint(), (36.0, 51.0, slices)) for slices in (400.0, 800.0))
    assert strength(few) == pytest.approx(2 * strength(many), rel=0.05)
