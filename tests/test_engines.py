import pytest
import torch
from anatomy import tiny_plan
from torch import Tensor, nn

from delineate.engines import EngineChoice, open_runner
from delineate.errors import ResourceError
from delineate.networks import ARCHITECTURES, build_network
from delineate.planning import NetworkPlan, Plan


def plan_of(architecture: str, dimensions: int) -> Plan:
    """A small network with kernels, strides and a patch that differ between the axes."""
    network = NetworkPlan(
        architecture=architecture,
        features=(8, 12, 16),
        strides=((1, 1, 1)[:dimensions], (2, 2, 1)[:dimensions], (1, 2, 2)[:dimensions]),
        kernels=((3, 3, 1)[:dimensions], (3, 3, 3)[:dimensions], (1, 3, 3)[:dimensions]),
    )
    return tiny_plan(network=network, patch_size=(10, 16, 6) if dimensions == 3 else (10, 16, 1), channels=("a", "b"))


def random_network(plan: Plan, seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    network = build_network(plan.network, in_channels=plan.inputs, out_channels=plan.classes).eval()
    for parameter in network.parameters():
        nn.init.normal_(parameter, std=0.2 if parameter.ndim > 1 else 1.0)
    return network


def windows_of(plan: Plan, batch: int = 2, seed: int = 1) -> Tensor:
    return torch.randn(batch, plan.inputs, *plan.patch_size, generator=torch.Generator().manual_seed(seed))


@torch.inference_mode()
def reference_logits(network: nn.Module, windows: Tensor) -> Tensor:
    flat = windows.shape[-1] == 1
    logits: Tensor = network(windows.squeeze(-1) if flat else windows)
    return logits.unsqueeze(-1) if flat else logits


PLANS = [plan_of(architecture, dimensions) for architecture in ARCHITECTURES for dimensions in (2, 3)]
CONVERTED = [plan for plan in PLANS if plan.dimensions == 3 or plan.network.architecture == "nnunet"]


@pytest.mark.parametrize("plan", PLANS, ids=lambda plan: f"{plan.network.architecture}-{plan.dimensions}d")
def test_torch_gives_the_networks_logits(plan: Plan) -> None:
    network, windows = random_network(plan), windows_of(plan)
    logits = open_runner(network, plan, EngineChoice())(windows)
    torch.testing.assert_close(logits, reference_logits(network, windows), rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("plan", PLANS, ids=lambda plan: f"{plan.network.architecture}-{plan.dimensions}d")
def test_torch_in_bfloat16_comes_near(plan: Plan) -> None:
    network, windows = random_network(plan), windows_of(plan)
    logits, reference = (
        open_runner(network, plan, EngineChoice(precision="bfloat16"))(windows),
        reference_logits(network, windows),
    )
    assert logits.dtype == torch.float32
    assert (logits - reference).std() < 0.05 * reference.std()
    assert not torch.equal(logits, reference)


def test_a_runner_leaves_the_network_as_it_is() -> None:
    network = random_network(PLANS[1])
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    open_runner(network, PLANS[1], EngineChoice(precision="bfloat16"))
    assert all(torch.equal(tensor, before[name]) for name, tensor in network.state_dict().items())
    assert {tensor.dtype for tensor in network.parameters()} == {torch.float32}


def test_unknown_engines_are_refused() -> None:
    with pytest.raises(ResourceError, match="no such engine: expected one of torch"):
        open_runner(nn.Identity(), PLANS[0], EngineChoice("tpu"))


def test_precisions_that_the_cpu_lacks_are_refused() -> None:
    with pytest.raises(ResourceError, match="expected one of float32, bfloat16, got float16"):
        open_runner(nn.Identity(), PLANS[0], EngineChoice(precision="float16"))


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_device_that_is_not_there_is_refused() -> None:
    with pytest.raises(ResourceError, match="device is not there"):
        open_runner(nn.Identity(), PLANS[0], EngineChoice(device="cuda"))


def test_the_head_computes_in_float32() -> None:
    plan = PLANS[5]
    network, windows = random_network(plan), windows_of(plan)
    logits = open_runner(network, plan, EngineChoice(precision="bfloat16"))(windows)
    assert not torch.equal(logits, logits.bfloat16().float())
