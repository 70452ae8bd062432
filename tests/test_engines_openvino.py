import sys
from importlib.util import find_spec

import pytest
import torch
from test_engines import CONVERTED, PLANS, random_network, reference_logits, windows_of
from torch import Tensor, nn

from delineate.engines import EngineChoice, open_runner
from delineate.engines.openvino_engine import openvino_precisions
from delineate.engines.openvino_models import convert, quantised
from delineate.errors import ModelError, ResourceError
from delineate.planning import Plan

pytestmark = pytest.mark.skipif(find_spec("openvino") is None, reason="OpenVINO is not installed")

PLAN = PLANS[5]  # nnunet in 3D


@pytest.mark.parametrize("plan", CONVERTED, ids=lambda plan: f"{plan.network.architecture}-{plan.dimensions}d")
def test_openvino_gives_the_networks_logits(plan: Plan) -> None:
    network, windows = random_network(plan), windows_of(plan)
    logits = open_runner(network, plan, EngineChoice("openvino"))(windows)
    torch.testing.assert_close(logits, reference_logits(network, windows), rtol=1e-3, atol=1e-3)


def test_windows_in_any_layout_are_read_and_left_as_they_are() -> None:
    network, windows = random_network(PLAN), windows_of(PLAN, 3)
    runner = open_runner(network, PLAN, EngineChoice("openvino"))
    for given in (windows.flip(2, 4).flip(2, 4), windows.contiguous(memory_format=torch.channels_last_3d), windows[1:]):
        before = given.clone()
        torch.testing.assert_close(runner(given), reference_logits(network, given), rtol=1e-3, atol=1e-3)
        assert torch.equal(given, before)


def test_earlier_logits_are_not_written_over() -> None:
    runner = open_runner(random_network(PLAN), PLAN, EngineChoice("openvino"))
    first = runner(windows_of(PLAN))
    before = first.clone()
    assert not torch.equal(runner(windows_of(PLAN, seed=2)), before)
    assert torch.equal(first, before)


def test_precisions_that_openvino_lacks_are_refused() -> None:
    with pytest.raises(ResourceError, match=r"openvino engine does not compute .* expected one of float32"):
        open_runner(nn.Identity(), PLAN, EngineChoice("openvino", "float16"))


def test_other_devices_are_refused() -> None:
    with pytest.raises(ResourceError, match="expected another device"):
        open_runner(nn.Identity(), PLAN, EngineChoice("openvino", device="cuda"))


def test_networks_that_cannot_be_converted_are_refused() -> None:
    class Median(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            values: torch.Tensor = torch.linalg.eigvals(x.flatten(2)[..., :9].reshape(1, -1, 3, 3)).real
            return values

    with pytest.raises(ModelError, match="OpenVINO cannot take this network"):
        open_runner(Median(), PLAN, EngineChoice("openvino"))


def test_where_openvino_is_missing_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "openvino", None)
    with pytest.raises(ResourceError, match=r"openvino is not installed.*delineate\[fast\]"):
        open_runner(nn.Identity(), PLAN, EngineChoice("openvino"))


def test_nobody_is_told_that_openvino_is_used() -> None:
    open_runner(random_network(PLAN), PLAN, EngineChoice("openvino"))
    assert sys.modules["openvino_telemetry"] is None


def reduced(precision: str) -> Tensor:
    if precision not in openvino_precisions():
        pytest.skip(f"the CPU has no {precision}")
    calibration = [windows_of(PLAN, seed=seed) for seed in range(3)]
    return open_runner(random_network(PLAN), PLAN, EngineChoice("openvino", precision), calibration)(windows_of(PLAN))


@pytest.mark.parametrize(("precision", "tolerance"), [("bfloat16", 0.02), ("int8", 0.1)])
def test_reduced_precisions_come_near(precision: str, tolerance: float) -> None:
    logits, reference = reduced(precision), reference_logits(random_network(PLAN), windows_of(PLAN))
    assert 0 < (logits - reference).std() < tolerance * reference.std()


@pytest.mark.parametrize("precision", ["bfloat16", "int8"])
def test_the_head_gives_float32(precision: str) -> None:
    logits = reduced(precision)
    assert not torch.equal(logits, logits.bfloat16().float())


def test_quantising_draws_nothing(capfd: pytest.CaptureFixture[str]) -> None:
    reduced("int8")
    assert capfd.readouterr() == ("", "")


def test_int8_without_windows_to_calibrate_with_is_refused() -> None:
    with pytest.raises(ResourceError, match="needs windows of real scans"):
        open_runner(nn.Identity(), PLAN, EngineChoice("openvino", "int8"))


def test_convolutions_run_in_int8_but_for_the_first_and_the_head() -> None:
    model = quantised(convert(random_network(PLAN), PLAN), [windows_of(PLAN)])
    convolutions = [node for node in model.get_ordered_ops() if node.get_type_name() == "Convolution"]
    inputs = [node.input_value(0).get_node().get_type_name() for node in convolutions]
    assert inputs[0] == "Parameter"
    assert inputs[-1] != "FakeQuantize"
    assert inputs[1:-1].count("FakeQuantize") >= len(inputs) - 4
