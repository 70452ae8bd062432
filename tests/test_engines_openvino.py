import sys
from importlib.util import find_spec

import pytest
import torch
from test_engines import CONVERTED, PLANS, random_network, reference_logits, windows_of
from torch import nn

from delineate.engines import EngineChoice, open_runner
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
