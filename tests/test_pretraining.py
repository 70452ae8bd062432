"""Masked reconstruction: what is hidden, what is learnt of it, and what a run makes of it."""

import math
from pathlib import Path

import msgspec
import numpy as np
import pytest
import torch
from anatomy import blob_case, tiny_plan, write_blobs
from hypothesis import given, settings
from hypothesis import strategies as st

from delineate import training
from delineate.errors import DatasetError, PlanError, TrainingError
from delineate.planning import PretrainingPlan, check_plan
from delineate.planning.adopting import match_plans
from delineate.preprocessing import prepare
from delineate.sampling import TrainingCase, index_case, make_batch
from delineate.settings import Settings, detect
from delineate.training.reconstruction import (
    choose_block,
    draw_mask,
    hide,
    masked_error,
    reconstruction,
    reconstruction_plan,
    unexplained_share,
)
from delineate.workflow.pretraining import Hiding, plan_pretraining, pretrain, set_aside, without_references
from delineate.workflow.training import Budget, Division, train

PLAN = reconstruction_plan(tiny_plan(), block=(4, 4, 2))


def cases(count: int = 2) -> list[TrainingCase]:
    return [index_case(prepare(f"blob_{seed}", *blob_case(seed), tiny_plan()), seed=0) for seed in range(count)]


def machine(folder: Path) -> Settings:
    return detect("cpu", threads=1, cache=folder / "cache")


@settings(max_examples=40, deadline=None)
@given(
    patch=st.tuples(*[st.integers(4, 20)] * 3),
    block=st.tuples(*[st.integers(1, 3)] * 3),
    fraction=st.floats(0.05, 0.95),
    number=st.integers(0, 10**6),
)
def test_some_blocks_are_hidden_and_some_are_not(
    patch: tuple[int, int, int], block: tuple[int, int, int], fraction: float, number: int
) -> None:
    plan = PretrainingPlan(block=block, masked_fraction=fraction)
    mask = draw_mask(plan, patch, seed=3, number=number)
    assert mask.shape == patch
    assert mask.any()
    assert not mask.all()
    assert np.array_equal(mask, draw_mask(plan, patch, seed=3, number=number))


def test_as_much_is_hidden_as_was_asked_for() -> None:
    shares = [draw_mask(PretrainingPlan(block=(4, 4, 2)), (40, 56, 32), seed=0, number=n).mean() for n in range(20)]
    assert np.mean(shares) == pytest.approx(0.6, abs=0.02)
    assert len({float(share) for share in shares}) > 10  # the borders lie elsewhere each time


def test_blocks_are_as_long_in_every_direction() -> None:
    assert choose_block((128, 128, 128), (1.0, 1.0, 1.0)) == (16, 16, 16)
    i, j, k = choose_block((64, 64, 16), (1.0, 1.0, 4.0))
    assert (i, j) == (8, 8)
    assert k == 2
    assert choose_block((64, 64, 1), (1.0, 1.0, 4.0))[2] == 1


def test_what_is_hidden_does_not_reach_the_network() -> None:
    generator = torch.Generator().manual_seed(0)
    images = torch.randn((1, 2, 6, 4, 4), generator=generator)
    masks = torch.zeros((1, 6, 4, 4), dtype=torch.bool)
    masks[:, 2:5] = True
    other = torch.where(masks[:, None], torch.full_like(images, 99.0), images)
    assert torch.equal(hide(images, masks), hide(other, masks))
    assert torch.equal(hide(images, masks)[:, :, :2], images[:, :, :2])


def test_the_error_is_of_hidden_voxels_alone() -> None:
    images, masks = torch.zeros((1, 1, 2, 2, 2)), torch.zeros((1, 2, 2, 2), dtype=torch.bool)
    masks[0, 0, 0, 0] = masks[0, 1, 1, 1] = True
    outputs = torch.full_like(images, 100.0)
    outputs[0, 0, 0, 0, 0], outputs[0, 0, 1, 1, 1] = 1.0, 3.0
    assert float(masked_error(outputs, images, masks)) == pytest.approx((1 + 9) / 2)


def test_lower_resolutions_are_asked_for_means() -> None:
    images = torch.arange(8.0).reshape(1, 1, 2, 2, 2)
    masks = torch.ones((1, 2, 2, 2), dtype=torch.bool)
    low = torch.full((1, 1, 1, 1, 1), 3.5)
    assert float(masked_error((images, low), images, masks)) == 0
    assert float(masked_error((images, low + 3), images, masks)) == pytest.approx(9 / 3)


def test_the_objective_is_the_same_for_the_same_step() -> None:
    state = training.start(PLAN)
    state.network.eval()
    batches = [make_batch(cases(), PLAN, step) for step in (3, 3, 4)]
    losses = [float(reconstruction(state.network, batch, PLAN).detach()) for batch in batches]
    assert losses[0] == losses[1] != losses[2]


def test_training_explains_what_is_hidden() -> None:
    plan = msgspec.structs.replace(
        PLAN, training=msgspec.structs.replace(PLAN.training, steps=40, weight_decay=0.0, learning_rate=5e-3)
    )
    state = training.start(plan)
    for _ in training.train(state, cases(), plan, objective=reconstruction):
        pass
    assert unexplained_share(state.network, cases(), plan) < 0.8
    assert math.isnan(unexplained_share(state.network, [], plan))


def test_a_plan_of_pretraining_has_an_output_a_channel() -> None:
    assert PLAN.classes == 1
    assert PLAN.labels == ()
    assert PLAN.augmentation.noise_probability == 0
    assert match_plans(PLAN, tiny_plan()).inputs == ((0,),)
    with pytest.raises(PlanError, match="has no labels"):
        check_plan(msgspec.structs.replace(PLAN, labels=("core",)))
    with pytest.raises(PlanError, match="smaller than the patch"):
        check_plan(msgspec.structs.replace(PLAN, pretraining=PretrainingPlan(block=PLAN.patch_size)))


def test_nobody_who_is_set_aside_is_learnt_from(tmp_path: Path) -> None:
    data = without_references(write_blobs(tmp_path, 5))
    split = set_aside(data, hold_out=2, test=1)
    assert split.training == ("blob_0", "blob_1")
    assert split.held_out == ("blob_4", "blob_2", "blob_3")
    with pytest.raises(DatasetError, match="no scan is left"):
        set_aside(data, hold_out=4, test=1)


def test_scans_alone_are_enough(tmp_path: Path) -> None:
    bare = without_references(write_blobs(tmp_path / "data", 3))
    plan = plan_pretraining(bare, set_aside(bare, hold_out=1, test=0), Hiding(0.5), settings=machine(tmp_path))
    assert plan.pretraining is not None
    assert plan.labels == ()
    made = pretrain(
        bare,
        tmp_path / "model",
        budget=Budget(steps=3),
        settings=machine(tmp_path),
        hold_out=1,
        plan=tiny_plan(),
    )
    assert made is not None
    model, record = made
    assert (record.scans, record.checked_on) == (2, ("blob_2",))
    assert record.unexplained is not None
    assert model.plan.classes == len(bare.channels)
    assert len(model.labels) == 0


def test_a_supervised_run_is_not_gone_on_with(tmp_path: Path) -> None:
    data = write_blobs(tmp_path / "data", 3)
    common = {"budget": Budget(steps=1), "settings": machine(tmp_path)}
    train(data, tmp_path / "model", division=Division(fold=None), plan=tiny_plan(), **common)  # type: ignore[arg-type]
    with pytest.raises(TrainingError, match="learns from references"):
        pretrain(data, tmp_path / "model", **common)  # type: ignore[arg-type]
    with pytest.raises(TrainingError, match="another kind of run"):
        train(data, tmp_path / "other", division=Division(fold=None), plan=PLAN, **common)  # type: ignore[arg-type]
