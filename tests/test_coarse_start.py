"""Runs that begin with coarser patches: which, for how long, and that nothing depends on when they were stopped."""

from dataclasses import replace
from typing import Any

import msgspec
import numpy as np
import pytest
import torch
from anatomy import tiny_plan
from fingerprints import fingerprint
from test_training import cases, run

from delineate import training
from delineate.errors import PlanError
from delineate.planning import (
    DistillationPlan,
    Machine,
    NetworkPlan,
    Plan,
    PlanOptions,
    Speed,
    TransferPlan,
    check_plan,
    coarse_start,
    explain,
    make_plan,
)
from delineate.sampling import make_batch
from delineate.training import Facts, TrainingState, extend, refit

CPU = Machine("cpu", 8 * 10**9, "float32", Speed(feature_seconds=1e-9, product_seconds=2e-11))
NETWORK = NetworkPlan(
    architecture="nnunet", features=(4, 8), strides=((1, 1, 1), (2, 2, 2)), kernels=((3, 3, 3), (3, 3, 3))
)


def coarse_plan(patch: tuple[int, int, int] = (16, 16, 8), **changes: Any) -> Plan:
    base = tiny_plan(patch_size=patch, network=NETWORK)
    how = msgspec.structs.replace(base.training, coarse_share=0.5, **changes)
    return msgspec.structs.replace(base, training=how)


PLAN = coarse_plan()


def shapes(plan: Plan, state: TrainingState | None = None) -> list[tuple[int, ...]]:
    """Of the images of every step."""
    seen = []

    def objective(network: torch.nn.Module, batch: Any, plan: Plan) -> torch.Tensor:
        seen.append(tuple(batch.images.shape))
        assert tuple(batch.images.shape[2:]) == plan.patch_size
        return training.supervised(network, batch, plan)

    for _ in training.train(state or training.start(plan), cases(plan), plan, objective=objective):
        pass
    return seen


def test_a_coarse_start_is_the_same_extent_in_fewer_voxels_and_as_much_more_of_it() -> None:
    plan = coarse_plan((40, 56, 40))
    coarse = coarse_start(plan)
    assert coarse is not None
    assert coarse.patch_size == (26, 38, 26)
    assert coarse.augmentation.coarser == (1.5, 1.5, 1.5)
    assert coarse.training.batch_size == 3 * plan.training.batch_size
    assert coarse.network == plan.network


def test_patches_are_whole_multiples_of_the_strides() -> None:
    deep = msgspec.structs.replace(
        NETWORK, features=(4, 8, 8, 8), strides=((1, 1, 1), *((2, 2, 2),) * 3), kernels=((3, 3, 3),) * 4
    )
    coarse = coarse_start(msgspec.structs.replace(coarse_plan((40, 56, 40)), network=deep))
    assert coarse is not None
    assert coarse.patch_size == (24, 40, 24)
    check_plan(coarse)


def test_thick_slices_and_two_dimensions_are_coarser_within_slices_only() -> None:
    base = coarse_plan((48, 48, 8))
    thick = msgspec.structs.replace(base, augmentation=msgspec.structs.replace(base.augmentation, slice_axis=2))
    flat_network = NetworkPlan(
        architecture="nnunet", features=(4, 8), strides=((1, 1), (2, 2)), kernels=((3, 3), (3, 3))
    )
    flat = msgspec.structs.replace(base, patch_size=(48, 48, 1), network=flat_network)
    for plan in (thick, flat):
        coarse = coarse_start(plan)
        assert coarse is not None
        assert coarse.patch_size == (32, 32, plan.patch_size[2])
        assert coarse.augmentation.coarser == (1.5, 1.5, 1.0)


@pytest.mark.parametrize(
    "changes",
    [
        {"coarse_share": 0.0},
        {"coarse_factor": 1.1},
        {"transfer": TransferPlan(source="d")},
        {"distillation": DistillationPlan(teacher="d")},
    ],
)
def test_some_runs_begin_as_they_end(changes: dict[str, Any]) -> None:
    how = msgspec.structs.replace(PLAN.training, **changes)
    assert coarse_start(msgspec.structs.replace(PLAN, training=how)) is None


def test_a_patch_that_would_leave_the_network_no_voxels_stays() -> None:
    assert coarse_start(coarse_plan((4, 4, 4))) is None


@pytest.mark.parametrize("change", [{"coarse_share": 1.0}, {"coarse_share": -0.1}, {"coarse_factor": 0.9}])
def test_a_share_or_a_factor_that_makes_no_sense_is_refused(change: dict[str, float]) -> None:
    with pytest.raises(PlanError, match="coarse_share must be from 0 to below 1, and coarse_factor 1 or more"):
        check_plan(msgspec.structs.replace(PLAN, training=msgspec.structs.replace(PLAN.training, **change)))


def test_plans_for_a_time_begin_coarsely_and_say_so() -> None:
    timed = make_plan(fingerprint(), CPU, PlanOptions(minutes=20))
    assert any("coarse start: for 50 % of the run patches are 1.5 times as coarse" in why for why in timed.reasons)
    assert "coarse start" in [choice.what for choice in explain(timed)]
    untimed = make_plan(fingerprint(), CPU, PlanOptions())
    assert coarse_start(untimed) is None
    assert "coarse start" not in [choice.what for choice in explain(untimed)]


def test_a_coarse_patch_shows_more_of_the_case() -> None:
    """A case whose intensity is its first index: neighbours in the patch are 1.5 apart, and in the target as well."""
    coarse = coarse_start(PLAN)
    assert coarse is not None
    still = msgspec.structs.replace(
        coarse.augmentation,
        **{name: 0.0 for name in coarse.augmentation.__struct_fields__ if name.endswith("_probability")},
        shift_mm=0.0,
    )
    coarse = msgspec.structs.replace(coarse, augmentation=still)
    known = cases(PLAN)[0]
    shape = known.case.image.shape[1:]
    ramp = np.broadcast_to(np.arange(shape[0], dtype=np.float32)[:, None, None], shape).copy()
    known = replace(known, case=replace(known.case, image=ramp[None], target=(ramp >= 9).astype(np.uint8)))
    batch = make_batch([known], coarse, 0)
    inside = batch.images[0, 0, 2:-2, 4, 2]
    assert torch.allclose(inside.diff(), torch.tensor(1.5), atol=1e-3)
    for image, target in zip(batch.images[:, 0], batch.targets, strict=True):
        sure = (image > 1) & ((image - 8.5).abs() > 0.51) & (image < shape[0] - 1.01)
        assert torch.equal(target[sure] > 0, image[sure] >= 9)


def test_half_of_the_steps_are_coarse() -> None:
    coarse = coarse_start(PLAN)
    assert coarse is not None
    first, then = (coarse.training.batch_size, 1, *coarse.patch_size), (2, 1, *PLAN.patch_size)
    state = training.start(PLAN)
    assert shapes(PLAN, state) == [first] * 3 + [then] * 3
    assert state.facts.refined == 3


@pytest.mark.parametrize("stop", [1, 3, 4])
def test_a_stopped_and_resumed_run_ends_with_the_same_weights(stop: int) -> None:
    whole, half = run(training.start(PLAN), PLAN), run(training.start(PLAN), PLAN, steps=stop)
    facts = msgspec.json.decode(msgspec.json.encode(half.facts), type=Facts)
    resumed = run(training.unpack(training.pack(half), facts, PLAN), PLAN)
    assert resumed.facts.refined == whole.facts.refined == 3
    for name, tensor in whole.average.items():
        assert torch.equal(tensor, resumed.average[name]), name


def test_what_has_become_fine_stays_fine() -> None:
    state = run(training.start(PLAN), PLAN)
    state.facts = extend(state.facts, 9, PLAN.training)
    assert shapes(PLAN, state) == [(2, 1, *PLAN.patch_size)] * 3
    assert training.plan_before(PLAN, state.facts, 2) == coarse_start(PLAN)
    assert training.plan_before(PLAN, state.facts, 3) == PLAN


def test_a_run_whose_end_moves_is_coarse_for_the_share_that_is_over() -> None:
    state = run(training.start(PLAN), PLAN, steps=2)
    state.facts = refit(state.facts, 20)
    run(state, PLAN)
    assert state.facts.refined == 7  # a third was over at step 2; another sixth of it takes 18 / 4 steps


def test_epochs_count_patches() -> None:
    state = run(training.start(PLAN), PLAN)
    row = training.record(state, PLAN, case_count=3)
    coarse = coarse_start(PLAN)
    assert coarse is not None
    patches = 3 * coarse.training.batch_size + 3 * 2
    assert row.epoch == pytest.approx(patches / (3 * PLAN.training.samples_per_image), rel=0.2)
