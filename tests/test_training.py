from dataclasses import replace
from itertools import islice, pairwise

import msgspec
import numpy as np
import pytest
import torch
from anatomy import blob_case, tiny_plan

from delineate import training
from delineate.errors import ModelError, TrainingError
from delineate.losses import dice_ce_loss
from delineate.planning import Plan, TrainingPlan
from delineate.preprocessing import prepare
from delineate.sampling import TrainingCase, index_case, make_batch
from delineate.training import Facts, Phase, TrainingState, extend, learning_rate, loop, refit

PLAN = tiny_plan()
TEN = TrainingPlan(batch_size=1, steps=100, learning_rate=0.1, warmup_fraction=0.1)


def cases(plan: Plan = PLAN) -> list[TrainingCase]:
    return [index_case(prepare(f"blob_{seed}", *blob_case(seed), plan), seed=0) for seed in range(3)]


def run(state: TrainingState, plan: Plan = PLAN, steps: int | None = None) -> TrainingState:
    for _ in islice(training.train(state, cases(plan), plan), steps):
        pass
    return state


def test_the_loss_falls() -> None:
    plan = tiny_plan(training=msgspec.structs.replace(PLAN.training, steps=40))
    state = training.start(plan)
    losses = [float(s.recent_losses[-1]) for s in training.train(state, cases(plan), plan)]
    assert sum(losses[-8:]) < 0.7 * sum(losses[:8])


def test_a_stopped_and_resumed_run_ends_with_the_same_weights() -> None:
    whole = run(training.start(PLAN))
    half = run(training.start(PLAN), steps=3)
    facts = msgspec.json.decode(msgspec.json.encode(half.facts), type=Facts)
    resumed = run(training.unpack(training.pack(half), facts, PLAN))
    assert resumed.facts.step == whole.facts.step == 6
    for name, tensor in whole.average.items():
        assert torch.equal(tensor, resumed.average[name]), name


@pytest.mark.parametrize("optimiser", ["adam", "adamw", "sgd"])
def test_every_optimiser_resumes_exactly(optimiser: str) -> None:
    plan = tiny_plan(training=msgspec.structs.replace(PLAN.training, optimiser=optimiser, steps=4))
    whole, half = run(training.start(plan), plan), run(training.start(plan), plan, 2)
    resumed = run(training.unpack(training.pack(half), half.facts, plan), plan)
    for name, tensor in whole.network.state_dict().items():
        assert torch.equal(tensor, resumed.network.state_dict()[name]), name


def test_dropout_is_drawn_anew_in_each_step_and_the_same_when_resumed() -> None:
    plan = tiny_plan(network=msgspec.structs.replace(PLAN.network, dropout=0.5))
    torch.manual_seed(1)
    whole, half = run(training.start(plan), plan), run(training.start(plan), plan, 3)
    torch.manual_seed(2)
    resumed = run(training.unpack(training.pack(half), half.facts, plan), plan)
    assert all(torch.equal(t, resumed.network.state_dict()[n]) for n, t in whole.network.state_dict().items())
    chances = {loop._chance(plan, replace(make_batch(cases(), plan, 0), step=step)) for step in range(4)}
    assert len(chances) == 4


def test_a_checkpoint_of_another_network_is_refused() -> None:
    state = training.start(PLAN)
    tensors = {name: tensor for name, tensor in training.pack(state).items() if not name.endswith("weight")}
    with pytest.raises(ModelError, match="does not fit the plan"):
        training.unpack(tensors, state.facts, PLAN)


def test_the_rate_warms_up_and_ends_at_zero() -> None:
    phases = (Phase(first=0, last=100, start=0.0, peak=0.1),)
    rates = [learning_rate(phases, step, TEN) for step in range(101)]
    assert rates[9] == max(rates) == pytest.approx(0.1)
    assert rates[0] == pytest.approx(0.01)
    assert rates[100] == pytest.approx(0)
    assert all(a >= b for a, b in pairwise(rates[9:]))


def test_an_extended_run_goes_on_without_a_jump() -> None:
    facts = extend(Facts(step=100, phases=(Phase(first=0, last=100, start=0.0, peak=0.1),)), 300, TEN)
    rates = [learning_rate(facts.phases, step, TEN) for step in range(301)]
    assert max(abs(a - b) for a, b in pairwise(rates[60:])) < 0.006
    assert max(rates[101:]) == pytest.approx(0.05)
    assert rates[300] == pytest.approx(0)


def test_a_run_is_not_extended_backwards() -> None:
    with pytest.raises(TrainingError, match=r"cannot be extended.*more than 100 steps.*got 50"):
        extend(Facts(phases=(Phase(first=0, last=100, start=0.0, peak=0.1),)), 50, TEN)


def test_moving_the_end_never_goes_behind_the_present_step() -> None:
    facts = Facts(step=40, phases=(Phase(first=0, last=100, start=0.0, peak=0.1),))
    assert refit(facts, 10).last_step == 41
    assert refit(facts, 500).last_step == 500


def test_validation_counts_a_missed_structure_as_zero() -> None:
    state = training.start(PLAN)
    for name, tensor in state.average.items():
        if name.endswith("bias") and tensor.shape == (3,):
            tensor.copy_(torch.tensor([1e4, 0.0, 0.0]))  # all background
    prepared = [case.case for case in cases()]
    assert training.validate(state, prepared, PLAN) == (0.0, 0.0)


def test_a_structure_that_nobody_drew_is_neither_learned_nor_validated_as_absent() -> None:
    unknown = tiny_plan(training=msgspec.structs.replace(PLAN.training, missing_labels="unknown"))
    volume, reference = blob_case(0)
    without_rim = replace(reference, array=np.where(reference.array == 2, 0, reference.array).astype(np.uint8))
    case = index_case(prepare("a", volume, without_rim, PLAN), seed=0)
    logits = torch.zeros((2, 3, 16, 16, 8))
    logits[:, 2] = 5.0  # all rim
    batch = make_batch([case], unknown, 0)
    plain, masked = (dice_ce_loss(logits, batch.targets, annotated=annotated) for annotated in (None, batch.annotated))
    assert masked < plain
    assert training.validate(training.start(PLAN), [case.case], unknown)[1] is None


def test_the_best_step_is_remembered() -> None:
    state = training.start(PLAN)
    for step, dice in ((1, 0.5), (2, 0.8), (3, 0.7)):
        state.facts.step = step
        training.record(state, PLAN, 3, (dice, None))
    assert (state.facts.best_step, state.facts.best_dice) == (2, 0.8)
    assert len(state.facts.history) == 3


def test_the_seed_decides_the_first_weights() -> None:
    other = tiny_plan(training=msgspec.structs.replace(PLAN.training, seed=1))
    first, again, different = (training.pack(training.start(plan)) for plan in (PLAN, PLAN, other))
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert any(not torch.equal(first[name], different[name]) for name in first)
