from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from anatomy import tiny_plan
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional

from delineate.labels import Region
from delineate.losses import (
    IGNORE,
    LOSSES,
    REGION_LOSSES,
    deep_supervision_loss,
    loss_of,
    region_dice_ce_loss,
    region_dice_loss,
    region_members,
)
from delineate.planning import Plan

NESTED = (Region(name="whole", values=(2, 5), paints=5), Region(name="core", values=(2,), paints=2))


def plan_of(*regions: Region) -> Plan:
    return tiny_plan(regions=regions, labels=tuple(region.name for region in regions))


def example(seed: int = 3, regions: int = 2) -> tuple[Tensor, Tensor]:
    random = torch.Generator().manual_seed(seed)
    logits = torch.randn(2, regions, 5, 4, 3, generator=random)
    return logits, torch.randint(0, 3, (2, 5, 4, 3), generator=random)


def gradient(loss: Callable[[Tensor], Tensor], logits: Tensor) -> Tensor:
    logits = logits.clone().requires_grad_()
    return torch.autograd.grad(loss(logits), logits)[0]


def test_members_are_the_parts_in_order_of_their_values() -> None:
    members = region_members(plan_of(*NESTED))
    assert members[:, :3].tolist() == [[0, 1, 1], [0, 1, 0]]
    assert not members[:, 3:].any()


def test_dice_and_cross_entropy_by_hand() -> None:
    # Two voxels, probability of the one region 1/2 and 3/4, the second is it.
    plan = plan_of(Region(name="a", values=(1,), paints=1))
    logits, target = torch.tensor([[[0.0, math.log(3)]]]), torch.tensor([[0, 1]])
    dice = region_dice_loss(logits, target, members=region_members(plan))
    assert dice == pytest.approx(1 - 1.5 / 2.25, abs=1e-4)
    entropy = region_dice_ce_loss(logits, target, members=region_members(plan)) - dice
    assert entropy == pytest.approx((math.log(2) + math.log(4 / 3)) / 2, abs=1e-5)


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 1000), regions=st.integers(1, 4))
def test_disjoint_regions_have_the_gradient_of_independent_sigmoids(seed: int, regions: int) -> None:
    plan = plan_of(*(Region(name=f"r{n}", values=(n,), paints=n) for n in range(1, regions + 1)))
    logits, _ = example(seed, regions)
    target = torch.randint(0, regions + 1, (2, 5, 4, 3), generator=torch.Generator().manual_seed(seed))
    found = gradient(lambda x: loss_of(plan)(x, target), logits)

    def alone(x: Tensor, wanted: Tensor) -> Tensor:
        p = x.sigmoid()
        dice = (2 * (p * wanted).sum() + 1e-5) / (p.sum() + wanted.sum() + 1e-5)
        return (1 - dice + functional.binary_cross_entropy(p, wanted)) / regions

    for n in range(regions):
        wanted = (target == n + 1).float()
        torch.testing.assert_close(found[:, n], gradient(lambda x: alone(x, wanted), logits[:, n]))  # noqa: B023


@pytest.mark.parametrize("name", REGION_LOSSES)
def test_ignored_voxels_have_no_gradient_and_change_nothing(name: str) -> None:
    logits, target = example()
    target[:, 2:] = IGNORE
    members = region_members(plan_of(*NESTED))
    loss = REGION_LOSSES[name]
    found = gradient(lambda x: loss(x, target, members=members), logits)
    assert not found[:, :, 2:].any()
    assert found[:, :, :2].all()
    expected = loss(logits[:, :, :2], target[:, :2], members=members)
    torch.testing.assert_close(loss(logits, target, members=members), expected)


@pytest.mark.parametrize("name", REGION_LOSSES)
def test_a_region_that_was_not_drawn_in_a_case_counts_in_the_other_alone(name: str) -> None:
    logits, target = example()
    members = region_members(plan_of(*NESTED))
    annotated = torch.tensor([[True, True], [True, False]])

    def loss(x: Tensor) -> Tensor:
        return REGION_LOSSES[name](x, target, members=members, annotated=annotated)

    found = gradient(loss, logits)
    assert not found[1, 1].any()
    assert found[0].all()
    assert found[1, 0].all()


@pytest.mark.parametrize("name", REGION_LOSSES)
def test_a_perfect_prediction_costs_nothing(name: str) -> None:
    _, target = example()
    members = region_members(plan_of(*NESTED))
    logits = 40 * members[:, target].movedim(0, 1) - 20
    assert REGION_LOSSES[name](logits, target, members=members) < 1e-4


def test_deep_supervision_takes_regions_too() -> None:
    plan = plan_of(*NESTED)
    whole, low = torch.randn(2, 2, 4, 6, 2), torch.randn(2, 2, 2, 3, 2)
    target = torch.randint(0, 3, (2, 4, 6, 2))
    members = region_members(plan)
    high_loss = region_dice_ce_loss(whole, target, members=members)
    low_loss = region_dice_ce_loss(low, target[:, 1::2, 1::2], members=members)
    found = deep_supervision_loss(loss_of(plan), (whole, low), target)
    torch.testing.assert_close(found, (2 * high_loss + low_loss) / 3)


def test_a_plan_without_regions_has_the_loss_of_classes() -> None:
    assert loss_of(tiny_plan()) is LOSSES["dice_ce"]
