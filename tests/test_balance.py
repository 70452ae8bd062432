"""When rare structures are drawn more often, and tiny ones off the centre."""

import pytest

from delineate.errors import PlanError
from delineate.fingerprint import CaseFingerprint, Fingerprint, Intensities
from delineate.planning import Machine, PlanOptions, make_plan
from delineate.volume import Kind

MACHINE = Machine("cpu", 8_000_000_000)


def fingerprint(*label_voxels: tuple[int, int], channels: int = 1) -> Fingerprint:
    pooled = Intensities(
        mean=40, std=60, percentile_00_5=-90, median=35, percentile_99_5=210, minimum=-500, maximum=900
    )
    shape, spacing = (120, 100, 60), (0.8, 0.9, 2.5)
    cases = [
        CaseFingerprint(id=str(n), shape=shape, spacing_mm=spacing, foreground_shape=shape, label_voxels=voxels)
        for n, voxels in enumerate(label_voxels)
    ]
    return Fingerprint(
        dataset="d",
        channels=("CT", "PET")[:channels],
        kinds=(Kind.CT, Kind.PET)[:channels],
        labels=("organ", "lesion"),
        pairs=(),
        intensities=(pooled,) * channels,
        cases=tuple(cases),
    )


RARE = fingerprint(*[(9000, 0)] * 9, (9000, 5000))


def test_structures_that_all_cases_have_need_no_balance() -> None:
    plan = make_plan(fingerprint(*[(9000, 5000)] * 3), MACHINE)
    assert (plan.training.balance, plan.training.off_centre) == (0, 0)


def test_a_rare_structure_is_drawn_more_often_and_the_plan_says_so() -> None:
    plan = make_plan(RARE, MACHINE)
    assert plan.training.balance == 0.5
    assert any("lesion is in 10 % of the cases" in reason for reason in plan.reasons)


def test_a_structure_that_was_not_drawn_everywhere_is_drawn_as_often_as_the_others() -> None:
    assert make_plan(RARE, MACHINE, PlanOptions(missing_labels="unknown")).training.balance == 1


def test_a_structure_that_no_case_has_is_not_rare() -> None:
    assert make_plan(fingerprint(*[(9000, 0)] * 4), MACHINE).training.balance == 0


def test_a_tiny_structure_lies_off_the_centre() -> None:
    plan = make_plan(fingerprint(*[(9000, 6)] * 3), MACHINE)
    assert plan.training.off_centre == 0.5
    assert any("lesion (0.011 ml)" in reason for reason in plan.reasons)


def test_a_person_decides() -> None:
    plan = make_plan(RARE, MACHINE, PlanOptions(balance=0.0, off_centre=1.0))
    assert (plan.training.balance, plan.training.off_centre) == (0, 1)


def test_the_only_channel_is_not_dropped() -> None:
    with pytest.raises(PlanError, match="the only channel cannot be dropped"):
        make_plan(RARE, MACHINE, PlanOptions(channel_dropout=0.2))
    both = fingerprint((9000, 5000), channels=2)
    assert make_plan(both, MACHINE, PlanOptions(channel_dropout=0.2)).augmentation.channel_dropout == 0.2


def test_what_cannot_be_is_refused() -> None:
    with pytest.raises(PlanError, match="balance must be from 0 to 1"):
        make_plan(RARE, MACHINE, PlanOptions(balance=1.5))
