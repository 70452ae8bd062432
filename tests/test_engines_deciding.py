import numpy as np
import pytest
import torch
from anatomy import tiny_plan
from test_engines import PLANS, plan_of, random_network

from delineate.engines.deciding import Agreement, Tally, Trial, best
from delineate.engines.work import foreseen_seconds, operations
from delineate.planning import Plan


def agreement(loss: float | None = 0.0, equal: float = 1.0) -> Agreement:
    return Agreement(dice={}, loss=loss, equal=equal, voxels=1000)


TORCH = Trial(engine="torch", precision="float32", open_seconds=0.1, window_seconds=1.0)
EXACT = Trial(
    engine="openvino", precision="float32", open_seconds=2.0, window_seconds=0.4, agreement=agreement(equal=0.99995)
)
REDUCED = Trial(
    engine="openvino", precision="bfloat16", open_seconds=2.5, window_seconds=0.2, agreement=agreement(0.0009, 0.9998)
)


def named(trial: Trial, **changes: object) -> Trial:
    import msgspec

    return msgspec.structs.replace(trial, **changes)


def test_for_many_windows_the_fastest_is_best() -> None:
    assert best([TORCH, EXACT, REDUCED], opened=1, runs=1000) is REDUCED


def test_for_few_windows_what_opens_soonest_is_best() -> None:
    assert best([TORCH, EXACT, REDUCED], opened=1, runs=2) is TORCH
    assert best([TORCH, EXACT, REDUCED], opened=5, runs=8) is TORCH


@pytest.mark.parametrize("loss", [0.0011, None])
def test_precisions_that_lose_masks_or_might_are_not_chosen(loss: float | None) -> None:
    losing = named(REDUCED, agreement=agreement(loss))
    assert best([TORCH, EXACT, losing], opened=1, runs=1000) is EXACT
    assert best([TORCH, EXACT, losing], opened=1, runs=1000, faithful=False) is losing


def test_float32_needs_equal_labels_even_without_structures() -> None:
    assert best([TORCH, named(EXACT, agreement=agreement(None, 0.9999))], opened=1, runs=99) is not TORCH
    assert best([TORCH, named(EXACT, agreement=agreement(0.0, 0.9998))], opened=1, runs=99) is TORCH
    assert best([TORCH, named(EXACT, agreement=None)], opened=1, runs=99) is TORCH


def test_what_failed_is_not_chosen() -> None:
    assert best([TORCH, named(REDUCED, problem="no such operation")], opened=1, runs=1000, faithful=False) is TORCH
    assert best([named(TORCH, problem="out of memory")], opened=1, runs=1) is None


def test_agreement_is_counted_by_hand() -> None:
    tally = Tally(("a", "b", "c"))
    reference = np.array([[[0, 1, 1, 2]], [[2, 2, 2, 0]]], dtype=np.uint16)
    found = np.array([[[0, 1, 2, 2]], [[2, 2, 0, 0]]], dtype=np.uint16)
    tally.add_labels(reference, found)
    tally.add_labels(np.zeros((2, 1, 1), np.uint16), np.zeros((2, 1, 1), np.uint16))
    result = tally.agreement()
    assert result.dice == {"a": pytest.approx(2 / 3, abs=1e-6), "b": pytest.approx(6 / 8)}
    assert (result.equal, result.voxels) == (8 / 10, 10)


def test_masks_and_label_maps_are_counted_alike() -> None:
    rng = np.random.default_rng(0)
    reference, found = rng.integers(0, 3, (2, 5, 6, 7))
    by_labels, by_masks = Tally(("a", "b")), Tally(("a", "b"))
    by_labels.add_labels(reference, found)
    by_masks.add_masks(*(np.stack([array == 1, array == 2]) for array in (reference, found)))
    assert by_labels.agreement() == by_masks.agreement()


def test_small_structures_are_looked_at_together() -> None:
    reference, found = (np.zeros((3, 100, 50, 2), dtype=bool) for _ in range(2))
    reference[0, :60], found[0, :60] = True, True
    reference[1, :9], found[1, :9] = True, True  # 900 voxels
    reference[2, 10], found[2, 10, 1:] = True, True  # 100 voxels, of which 2 are not found
    tally = Tally(("large", "small", "tiny"))
    tally.add_masks(reference, found)
    assert tally.agreement().dice["tiny"] == pytest.approx(2 * 98 / 198, abs=1e-6)
    assert tally.agreement().loss == pytest.approx(1 - 2 * 998 / 1998, abs=1e-6)


def test_no_structure_no_loss() -> None:
    tally = Tally(("a",))
    tally.add_masks(np.zeros((1, 2, 3, 4), bool), np.zeros((1, 2, 3, 4), bool))
    assert tally.agreement().loss is None
    assert tally.agreement().equal == 1


@pytest.mark.parametrize("plan", PLANS, ids=lambda plan: f"{plan.network.architecture}-{plan.dimensions}d")
def test_operations_are_counted_without_computing(plan: Plan) -> None:
    assert operations(random_network(plan), plan) > 1e5


def test_operations_of_two_convolutions_are_those_by_hand() -> None:
    plan = tiny_plan(patch_size=(6, 8, 10))
    network = torch.nn.Sequential(torch.nn.Conv3d(1, 4, 3, padding=1), torch.nn.Conv3d(4, 3, 1))
    assert operations(network, plan) == 2 * 480 * (27 * 4 + 4 * 3)


def test_more_threads_take_less_time() -> None:
    plan = plan_of("nnunet", 3)
    one, four = (foreseen_seconds(random_network(plan), plan, device="cpu", threads=threads) for threads in (1, 4))
    assert one == pytest.approx(4 * four)
