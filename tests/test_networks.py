from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from delineate.errors import PlanError
from delineate.networks import ARCHITECTURES, build_network
from delineate.networks.blocks import SLOPE, InstanceNormActivation, UpConvolution
from delineate.planning import NetworkPlan

ANISOTROPIC = ((1, 1, 1), (2, 2, 1), (2, 2, 2))

# dynamic-network-architectures 0.4, 32 to 320 features, one channel, three classes, convolutions with bias
ORIGINAL_PLAIN = 31_196_399
ORIGINAL_RESIDUAL = 102_350_575


def make_plan(architecture: str = "nnunet", **changes: Any) -> NetworkPlan:
    values: dict[str, Any] = {
        "architecture": architecture,
        "features": (4, 6, 8),
        "strides": ANISOTROPIC,
        "kernels": ((3, 3, 1), (3, 3, 3), (3, 3, 3)),
    }
    return NetworkPlan(**{**values, **changes})


def image(*size: int) -> Tensor:
    return torch.randn(2, 2, *size, generator=torch.Generator().manual_seed(1))


def parameters(network: nn.Module) -> int:
    return sum(parameter.numel() for parameter in network.parameters())


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_logits_have_the_size_of_an_anisotropic_image(architecture: str) -> None:
    network = build_network(make_plan(architecture), in_channels=2, out_channels=3).eval()
    assert network(image(16, 8, 6)).shape == (2, 3, 16, 8, 6)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_two_dimensional_plans_make_two_dimensional_networks(architecture: str) -> None:
    plan = make_plan(architecture, strides=((1, 1), (2, 2), (2, 1)), kernels=((3, 3),) * 3)
    network = build_network(plan, in_channels=2, out_channels=3).eval()
    assert network(image(16, 12)).shape == (2, 3, 16, 12)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_training_gives_a_tuple_whose_first_has_full_resolution(architecture: str) -> None:
    outputs = build_network(make_plan(architecture), in_channels=2, out_channels=3)(image(16, 8, 6))
    assert isinstance(outputs, tuple)
    assert outputs[0].shape == (2, 3, 16, 8, 6)


def test_deep_supervision_gives_every_level_but_the_lowest() -> None:
    outputs = build_network(make_plan(), in_channels=2, out_channels=3)(image(16, 8, 6))
    assert [tuple(o.shape[2:]) for o in outputs] == [(16, 8, 6), (8, 4, 6)]


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_training_without_deep_supervision_gives_a_tensor(architecture: str) -> None:
    network = build_network(make_plan(architecture, deep_supervision=False), in_channels=2, out_channels=3)
    assert isinstance(network(image(16, 8, 6)), Tensor)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_every_parameter_gets_a_finite_gradient(architecture: str) -> None:
    network = build_network(make_plan(architecture), in_channels=2, out_channels=3)
    torch.stack([output.square().mean() for output in network(image(16, 8, 6))]).sum().backward()  # type: ignore[no-untyped-call]
    gradients = [parameter.grad for parameter in network.parameters()]
    assert all(gradient is not None and bool(gradient.isfinite().all()) for gradient in gradients)


def test_parameters_of_nnunet_are_those_of_the_original_without_idle_biases() -> None:
    plan = make_plan(
        features=(32, 64, 128, 256, 320, 320), strides=((1,) * 3, *((2,) * 3,) * 5), kernels=((3,) * 3,) * 6
    )
    biases = 2 * (32 + 64 + 128 + 256 + 320 + 320) + 2 * (320 + 256 + 128 + 64 + 32)
    with torch.device("meta"):
        network = build_network(plan, in_channels=1, out_channels=3)
    assert parameters(network) + biases == ORIGINAL_PLAIN


def test_parameters_of_nnunet_res_are_those_of_the_original_without_idle_biases() -> None:
    blocks = (1, 3, 4, 6, 6, 6)
    plan = make_plan(
        "nnunet_res",
        features=(32, 64, 128, 256, 320, 320),
        strides=((1,) * 3, *((2,) * 3,) * 5),
        kernels=((3,) * 3,) * 6,
    )
    biases = 32 + sum(2 * n * c for n, c in zip(blocks, plan.features, strict=True)) + 320 + 256 + 128 + 64 + 32
    with torch.device("meta"):
        network = build_network(plan, in_channels=1, out_channels=3)
    assert parameters(network) + biases == ORIGINAL_RESIDUAL


@pytest.mark.parametrize("slope", [0.0, 0.01, 1.0])
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last_3d])
def test_instance_norm_agrees_with_torch(slope: float, layout: torch.memory_format) -> None:
    x = (3 * image(5, 6, 7) + 2).to(memory_format=layout).requires_grad_()
    norm = InstanceNormActivation(2, slope=slope)
    nn.init.normal_(norm.weight)
    nn.init.normal_(norm.bias)
    expected = functional.leaky_relu(functional.instance_norm(x, weight=norm.weight, bias=norm.bias), slope)
    torch.testing.assert_close(norm(x), expected, atol=1e-5, rtol=1e-5)
    wanted = torch.autograd.grad(expected, (x, norm.weight, norm.bias), image(5, 6, 7))
    got = torch.autograd.grad(norm(x), (x, norm.weight, norm.bias), image(5, 6, 7))
    torch.testing.assert_close(got, wanted, atol=1e-4, rtol=1e-4)


def test_instance_norm_keeps_the_layout_and_float_type() -> None:
    x = image(5, 6, 7).bfloat16().to(memory_format=torch.channels_last_3d)
    y = InstanceNormActivation(2)(x)
    assert y.dtype == torch.bfloat16
    assert y.is_contiguous(memory_format=torch.channels_last_3d)


@pytest.mark.parametrize("stride", [(2, 2, 2), (1, 3, 2), (2, 1)])
def test_up_convolution_is_the_transposed_convolution(stride: tuple[int, ...]) -> None:
    kind = nn.ConvTranspose3d if len(stride) == 3 else nn.ConvTranspose2d
    original = kind(2, 5, stride, stride=stride)  # type: ignore[arg-type]
    ours = UpConvolution(2, 5, stride)
    ours.load_state_dict(original.state_dict())
    x = image(3, 4, 5)[..., : len(stride) ** 2] if len(stride) == 3 else image(3, 4)
    torch.testing.assert_close(ours(x), original(x), atol=1e-5, rtol=1e-5)


def test_up_convolution_has_the_gradients_of_the_transposed_convolution() -> None:
    original, ours = nn.ConvTranspose3d(2, 5, (1, 3, 2), stride=(1, 3, 2)), UpConvolution(2, 5, (1, 3, 2))
    ours.load_state_dict(original.state_dict())
    x, toward = image(3, 4, 5).requires_grad_(), torch.randn(2, 5, 3, 12, 10)
    wanted = torch.autograd.grad(original(x), (x, *original.parameters()), toward)
    got = torch.autograd.grad(ours(x), (x, *ours.parameters()), toward)
    torch.testing.assert_close(got, wanted, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("architecture", ["unet", "nnunet", "nnunet_res"])
def test_bfloat16_and_channels_last_agree_with_float32(architecture: str) -> None:
    network = build_network(make_plan(architecture), in_channels=2, out_channels=3).eval()
    expected = network(image(16, 8, 6))
    network.to(memory_format=torch.channels_last_3d)  # type: ignore[call-overload]
    with torch.autocast("cpu", torch.bfloat16):
        logits = network(image(16, 8, 6).to(memory_format=torch.channels_last_3d))
    assert (logits.float() - expected).norm() < 0.03 * expected.norm()


@pytest.mark.filterwarnings("ignore:.*jit.trace.*:DeprecationWarning")
def test_traced_network_agrees_with_the_eager_one() -> None:
    network = build_network(make_plan(), in_channels=2, out_channels=3).eval()
    with torch.no_grad():
        traced = torch.jit.trace(network, image(16, 8, 6))  # type: ignore[no-untyped-call]
        torch.testing.assert_close(traced(image(16, 8, 6)), network(image(16, 8, 6)), atol=1e-4, rtol=1e-4)


def test_fewer_convolutions_make_a_smaller_network() -> None:
    small = build_network(make_plan(convolutions=(1, 1, 1)), in_channels=2, out_channels=3)
    assert parameters(small) < parameters(build_network(make_plan(), in_channels=2, out_channels=3))


def test_dropout_changes_training_but_not_evaluation() -> None:
    network = build_network(make_plan(dropout=0.5, deep_supervision=False), in_channels=2, out_channels=3)
    x = image(16, 8, 6)
    assert not torch.equal(network(x), network(x))
    network.eval()
    assert torch.equal(network(x), network(x))


def test_batch_norm_keeps_running_statistics() -> None:
    network = build_network(make_plan(norm="batch"), in_channels=2, out_channels=3)
    assert any(name.endswith("running_mean") for name in network.state_dict())


def test_same_seed_gives_same_weights() -> None:
    states = []
    for _ in range(2):
        torch.manual_seed(3)
        states.append(build_network(make_plan(), in_channels=2, out_channels=3).state_dict())
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"architecture": "transformer"}, "unknown architecture"),
        ({"features": (4, 8)}, "one entry a level"),
        ({"convolutions": (1,)}, "one entry a level"),
        ({"strides": ((1, 1), (2, 2), (2, 2))}, "all be 2D or all be 3D"),
        ({"strides": ((2, 2, 2), (2, 2, 1), (2, 2, 2))}, "first level keeps the resolution"),
        ({"kernels": ((3, 3, 2),) * 3}, "kernels must be odd"),
        ({"features": (4, 0, 8)}, "must be positive"),
    ],
)
def test_impossible_plans_are_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(PlanError, match=message):
        build_network(make_plan(**changes), in_channels=2, out_channels=3)


@pytest.mark.parametrize("dimensions", [2, 3])
def test_instance_normalisation_is_exact_far_from_zero(dimensions: int) -> None:
    size = (40, 24, 36)[:dimensions]
    layout = torch.channels_last if dimensions == 2 else torch.channels_last_3d
    x = (torch.randn(2, 8, *size, generator=torch.Generator().manual_seed(0)) + 30).contiguous(memory_format=layout)
    norm = InstanceNormActivation(8)
    with torch.inference_mode():
        y = norm(x)
    exact = functional.leaky_relu(functional.instance_norm(x.double()), SLOPE)
    torch.testing.assert_close(y.double(), exact, rtol=0, atol=3e-4)
    assert y.is_contiguous(memory_format=layout)
