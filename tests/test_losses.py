from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from delineate.losses import IGNORE, LOSSES, deep_supervision_loss, dice_ce_loss, dice_loss, shrink_target


def logits_for(target: Tensor, classes: int = 3, *, certainty: float = 20.0) -> Tensor:
    return certainty * torch.nn.functional.one_hot(target.long(), classes).movedim(-1, 1).float()


def example() -> tuple[Tensor, Tensor]:
    random = torch.Generator().manual_seed(5)
    logits = torch.randn(2, 3, 5, 4, 3, generator=random)
    return logits, torch.randint(0, 3, (2, 5, 4, 3), generator=random)


@pytest.mark.parametrize("name", LOSSES)
def test_perfect_prediction_costs_nothing(name: str) -> None:
    _, target = example()
    assert LOSSES[name](logits_for(target), target) < 1e-4


def test_dice_by_hand() -> None:
    # Two voxels, probability of the structure 1/2 and 3/4, the second is it: Dice = 2 (3/4) / (5/4 + 1).
    logits = torch.tensor([[[0.0, 0.0], [0.0, math.log(3)]]])
    assert dice_loss(logits, torch.tensor([[0, 1]])) == pytest.approx(1 - 1.5 / 2.25, abs=1e-4)


def test_cross_entropy_by_hand() -> None:
    logits = torch.tensor([[[0.0, 0.0], [0.0, math.log(3)]]])
    target = torch.tensor([[0, 1]])
    cross_entropy = dice_ce_loss(logits, target) - dice_loss(logits, target)
    assert cross_entropy == pytest.approx((math.log(2) + math.log(4 / 3)) / 2, abs=1e-5)


@pytest.mark.parametrize("batch_dice", [True, False])
def test_agrees_with_monai(batch_dice: bool) -> None:
    from monai.losses import DiceCELoss  # type: ignore[attr-defined]

    peer = DiceCELoss(
        include_background=False, to_onehot_y=True, softmax=True, batch=batch_dice, smooth_nr=1e-5, smooth_dr=1e-5
    )
    logits, target = example()
    ours = dice_ce_loss(logits, target, batch_dice=batch_dice)
    torch.testing.assert_close(ours, peer(logits, target[:, None]), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("name", LOSSES)
def test_gradients_are_right(name: str) -> None:
    logits, target = example()
    target[0, 0] = IGNORE
    annotated = torch.tensor([[True, False, True], [True, True, True]])
    logits.requires_grad_()
    (gradient,) = torch.autograd.grad(LOSSES[name](logits, target, annotated=annotated), logits)
    direction = torch.randn_like(logits)
    with torch.no_grad():
        up, down = (LOSSES[name](logits + s * 1e-2 * direction, target, annotated=annotated) for s in (1, -1))
    assert (gradient * direction).sum() == pytest.approx(float(up - down) / 2e-2, abs=2e-3)


@pytest.mark.parametrize("name", LOSSES)
def test_ignored_voxels_change_nothing(name: str) -> None:
    logits, target = example()
    target[:, 2:] = IGNORE
    expected = LOSSES[name](logits[:, :, :2], target[:, :2])
    torch.testing.assert_close(LOSSES[name](logits, target), expected)


@pytest.mark.parametrize("name", LOSSES)
def test_all_ignored_gives_a_finite_loss_without_gradient(name: str) -> None:
    logits, target = example()
    logits.requires_grad_()
    loss = LOSSES[name](logits, torch.full_like(target, IGNORE))
    loss.backward()  # type: ignore[no-untyped-call]
    assert loss.isfinite()
    assert logits.grad is not None
    assert not logits.grad.any()


def test_dice_of_an_empty_reference_is_lost_where_something_is_predicted() -> None:
    target = torch.zeros(1, 5, 4, 3, dtype=torch.uint8)
    wrong = logits_for(torch.ones_like(target), 2)
    assert dice_loss(wrong, target) == pytest.approx(1, abs=1e-4)
    assert dice_loss(logits_for(target, 2, certainty=200.0), target) == pytest.approx(0, abs=1e-4)


def test_uint8_and_int64_targets_are_the_same() -> None:
    logits, target = example()
    target[0, 1] = IGNORE
    assert dice_ce_loss(logits, target) == dice_ce_loss(logits, target.to(torch.uint8))


def test_layout_and_autocast_do_not_change_the_loss() -> None:
    logits, target = example()
    half = logits.bfloat16().to(memory_format=torch.channels_last_3d)
    with torch.autocast("cpu", torch.bfloat16):
        loss = dice_ce_loss(half, target)
    assert loss.dtype == torch.float32
    torch.testing.assert_close(loss, dice_ce_loss(half.float().contiguous(), target))


def test_a_class_that_is_not_annotated_counts_as_background() -> None:
    target = torch.zeros(1, 5, 4, 3, dtype=torch.uint8)
    target[0, 0] = 2
    predicted = target.clone()
    predicted[0, 4] = 1
    annotated = torch.tensor([[True, False, True]])
    assert dice_ce_loss(logits_for(predicted), target, annotated=annotated) < 1e-4
    assert dice_ce_loss(logits_for(predicted), target) > 0.5


def test_a_class_annotated_in_one_case_is_judged_by_that_case() -> None:
    logits, target = example()
    annotated = torch.tensor([[True, True, True], [True, False, False]])
    expected = dice_loss(logits[:1], target[:1])
    torch.testing.assert_close(dice_loss(logits, target, annotated=annotated), expected)


def test_everything_annotated_is_the_plain_loss() -> None:
    logits, target = example()
    everything = torch.ones(2, 3, dtype=torch.bool)
    torch.testing.assert_close(dice_ce_loss(logits, target, annotated=everything), dice_ce_loss(logits, target))


def test_deep_supervision_weighs_by_halves() -> None:
    whole = torch.randn(2, 3, 8, 4, 6)
    target = torch.randint(0, 3, (2, 8, 4, 6))
    low = torch.randn(2, 3, 4, 2, 6)
    expected = (2 * dice_loss(whole, target) + dice_loss(low, target[:, 1::2, 1::2])) / 3
    torch.testing.assert_close(deep_supervision_loss(dice_loss, (whole, low), target), expected)


def test_deep_supervision_of_one_tensor_is_the_loss_itself() -> None:
    logits, target = example()
    torch.testing.assert_close(deep_supervision_loss(dice_ce_loss, logits, target), dice_ce_loss(logits, target))


def test_shrinking_takes_the_middle_of_each_block() -> None:
    target = torch.arange(2 * 6 * 4 * 3).view(2, 6, 4, 3)
    assert torch.equal(shrink_target(target, (2, 2, 3)), target[:, 1::3, 1::2])


def test_shrinking_to_a_size_that_does_not_divide_is_refused() -> None:
    with pytest.raises(ValueError, match="cannot be shrunk"):
        shrink_target(torch.zeros(1, 6, 4, 3), (4, 2, 3))
