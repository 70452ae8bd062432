"""Time into networks, networks into seconds and bytes."""

import math

import msgspec
import pytest
import torch
from anatomy import tiny_plan
from fingerprints import fingerprint
from hypothesis import given, settings
from hypothesis import strategies as st

from delineate.errors import PlanError
from delineate.networks import ARCHITECTURES, build_network
from delineate.planning import Machine, NetworkPlan, Plan, PlanOptions, Speed, for_minutes, make_plan, training_bytes
from delineate.planning.work import parameter_count, step_operations, step_seconds
from delineate.sampling import Batch
from delineate.training import supervised
from delineate.training.state import start
from delineate.volume import Kind

SPEED = Speed(feature_seconds=1e-9, product_seconds=2e-11)
CPU = Machine("cpu", 8 * 10**9, "float32", SPEED)


def planned(minutes: float, machine: Machine = CPU) -> Plan:
    return make_plan(fingerprint(), machine, PlanOptions(minutes=minutes))


def one_level(architecture: str = "nnunet", *, dimensions: int = 3) -> Plan:
    network = NetworkPlan(
        architecture=architecture,
        features=(6, 10, 14),
        strides=((1, 1, 1)[:dimensions], (2, 2, 1)[:dimensions], (2, 2, 2)[:dimensions]),
        kernels=((3, 3, 1)[:dimensions], (3, 3, 3)[:dimensions], (3, 3, 3)[:dimensions]),
    )
    return tiny_plan(network=network, patch_size=(32, 16, 8 if dimensions == 3 else 1))


@pytest.mark.parametrize("dimensions", [2, 3])
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_weights_are_counted_without_building_the_network(architecture: str, dimensions: int) -> None:
    plan = one_level(architecture, dimensions=dimensions)
    built = build_network(plan.network, in_channels=plan.inputs, out_channels=plan.classes)
    assert parameter_count(plan) == sum(p.numel() for p in built.parameters() if p.ndim > 1)


def test_an_unusual_number_of_convolutions_is_counted() -> None:
    plan = one_level()
    more = msgspec.structs.replace(plan.network, convolutions=(1, 3, 2), decoder_convolutions=(3, 1))
    plan = msgspec.structs.replace(plan, network=more)
    built = build_network(more, in_channels=plan.inputs, out_channels=plan.classes)
    assert parameter_count(plan) == sum(p.numel() for p in built.parameters() if p.ndim > 1)


def test_seconds_and_bytes_of_a_step_by_hand() -> None:
    network = NetworkPlan(
        architecture="nnunet", features=(2, 4), strides=((1, 1), (2, 2)), kernels=((3, 3), (3, 3)), convolutions=(1, 1),
        decoder_convolutions=(1,),
    )  # fmt: skip
    plan = tiny_plan(network=network, patch_size=(4, 4, 1))
    # Of 16 voxels: 1 to 2 features of 9 taps; up 4 to 2 of 1 tap; 4 to 2 of 9 taps; a head 2 to 3. Of 4: 2 to 4.
    features = 16 * (2 + 2 + 2 + 3) + 4 * 4 + 4 * 3 * 16  # the last: the loss of 3 classes
    products = 16 * (1 * 2 * 9 + 4 * 2 + 4 * 2 * 9 + 2 * 3) + 4 * 2 * 4 * 9
    assert step_operations(plan) == 2 * 6 * products  # two patches; forward and twice that backward, two a product
    weights = 9 * (1 * 2 + 2 * 4 + 4 * 2) + 4 * 4 * 2 + 2 * 3
    expected = 2 * (features * 1e-9 + products * 1e-11) + weights * 3e-9
    assert step_seconds(plan, Speed(1e-9, 1e-11)) == pytest.approx(expected)
    # Two values are kept of each feature, 9.1 of each at the top, four of each class; 20 bytes of each weight.
    outputs, top = features - 4 * 3 * 16, 16 * 2
    values = 4 * (2 * outputs + 9.1 * top) + 4 * 4 * 3 * 16
    assert training_bytes(plan) == pytest.approx(2 * values + 20 * weights + 15e6, abs=1)


@settings(max_examples=40)
@given(few=st.floats(0.1, 2000), factor=st.floats(1, 50))
def test_more_time_never_makes_a_smaller_network(few: float, factor: float) -> None:
    short, long = planned(few), planned(few * factor)
    assert short.network.features <= long.network.features
    assert short.training.batch_size * math.prod(short.patch_size) <= long.training.batch_size * math.prod(
        long.patch_size
    )


def test_a_day_makes_a_wider_network_than_20_minutes_and_says_so() -> None:
    short, long = planned(20), planned(24 * 60)
    assert short.network.features[0] < long.network.features[0]
    assert short.training.steps >= 1000
    for plan, minutes in ((short, "20 minutes"), (long, "1440 minutes")):
        assert any(reason.startswith("time:") and minutes in reason for reason in plan.reasons)


def test_a_faster_machine_takes_a_larger_step_in_the_same_time() -> None:
    fast = Machine("cuda", 40 * 10**9, "bfloat16", Speed(1e-11, 2e-13))
    ct = fingerprint(Kind.CT, shape=(200, 180, 160), spacing_mm=(1.5, 1.5, 1.5))
    slow_plan, fast_plan = (make_plan(ct, machine, PlanOptions(minutes=60)) for machine in (CPU, fast))
    assert math.prod(fast_plan.patch_size) > math.prod(slow_plan.patch_size)
    assert fast_plan.spacing_mm < slow_plan.spacing_mm


def test_a_plan_says_which_speed_it_was_made_for() -> None:
    assert "GFLOP/s of this device (measured)" in planned(20).reasons[-1]
    unmeasured = planned(20, Machine("cpu", 8 * 10**9, "float32"))
    assert "GFLOP/s of this device (assumed, not measured)" in unmeasured.reasons[-1]


def test_steps_are_counted_for_the_batch_that_fits_the_memory() -> None:
    whole = planned(2000)
    tight = planned(2000, Machine("cpu", training_bytes(whole) // 2, "float32", SPEED))
    assert tight.training.batch_size < whole.training.batch_size
    for plan in (whole, tight):
        assert plan.training.steps == pytest.approx(0.9 * 2000 * 60 / step_seconds(plan, SPEED), abs=1)


def test_much_time_on_little_memory_does_not_widen_the_network_at_the_cost_of_its_patch() -> None:
    machine = Machine("cpu", 40 * 10**6, "float32", Speed(1e-12, 1e-14))
    short, long = planned(0.01, machine), planned(10_000, machine)
    assert training_bytes(long) <= machine.memory_bytes
    assert (long.network.features, long.patch_size) == (short.network.features, short.patch_size)


def test_a_preset_beside_minutes_is_refused() -> None:
    with pytest.raises(PlanError, match="a preset is a time, too"):
        make_plan(fingerprint(), CPU, PlanOptions(preset="best", minutes=20))


def test_too_little_time_takes_one_patch_a_step() -> None:
    assert planned(0.5).training.batch_size == 1


def test_presets_are_times() -> None:
    quick, given_minutes = (
        make_plan(fingerprint(), CPU, options) for options in (PlanOptions(preset="quick"), PlanOptions(minutes=10))
    )
    assert quick.network == given_minutes.network
    assert quick.training == given_minutes.training
    assert any("quick" in reason for reason in quick.reasons)


def test_without_time_nothing_depends_on_the_speed() -> None:
    measured, unmeasured = (
        make_plan(fingerprint(), machine) for machine in (CPU, Machine("cpu", 8 * 10**9, "float32"))
    )
    assert measured == unmeasured
    assert measured.training.steps == 2000


def test_minutes_of_a_run_are_for_plans_that_are_not_made_yet() -> None:
    assert for_minutes(None, 20) == PlanOptions(minutes=20)
    assert for_minutes(PlanOptions(seed=3, minutes=5), 20) == PlanOptions(seed=3, minutes=5)
    assert for_minutes(PlanOptions(seed=3), None) == PlanOptions(seed=3)
    assert for_minutes(tiny_plan(), 20) == tiny_plan()


def test_no_time_is_refused() -> None:
    with pytest.raises(PlanError, match="there must be time to train"):
        planned(-1)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_memory_grows_with_batch_patch_and_precision(architecture: str) -> None:
    plan = one_level(architecture)
    twice = msgspec.structs.replace(plan, training=msgspec.structs.replace(plan.training, batch_size=4))
    half = msgspec.structs.replace(plan, training=msgspec.structs.replace(plan.training, precision="bfloat16"))
    larger = msgspec.structs.replace(plan, patch_size=(64, 16, 8))
    assert training_bytes(half) < training_bytes(plan) < training_bytes(twice)
    assert training_bytes(larger) == pytest.approx(training_bytes(twice), rel=1e-6)


@pytest.mark.parametrize("dimensions", [2, 3])
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_memory_is_that_of_what_is_kept_for_the_way_back_and_not_much_more(architecture: str, dimensions: int) -> None:
    plan = one_level(architecture, dimensions=dimensions)
    plan = msgspec.structs.replace(plan, patch_size=(64, 32, 16 if dimensions == 3 else 1))
    network = start(plan).network.train()
    kept: dict[int, int] = {}

    def pack(tensor: torch.Tensor) -> torch.Tensor:
        kept[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    images, targets = torch.randn(2, 1, *plan.patch_size), torch.zeros(2, *plan.patch_size, dtype=torch.long)
    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        loss = supervised(network, Batch(images, targets, None, ()), plan)
    weights = sum(parameter.nbytes for parameter in network.parameters())
    activations = training_bytes(plan) - training_bytes(msgspec.structs.replace(plan, patch_size=(8, 8, 1)))
    assert loss.requires_grad
    assert 0.9 * (sum(kept.values()) - weights) < activations < 2.5 * sum(kept.values())
