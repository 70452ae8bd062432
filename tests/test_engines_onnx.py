import sys
from importlib.util import find_spec

import pytest
import torch
from test_engines import CONVERTED, PLANS, random_network, reference_logits, windows_of
from torch import Tensor, nn

from delineate.engines import EngineChoice, open_runner
from delineate.engines.onnx_export import to_onnx
from delineate.errors import ModelError, ResourceError
from delineate.planning import Plan

pytestmark = pytest.mark.skipif(find_spec("onnxruntime") is None, reason="ONNX Runtime is not installed")

PLAN = PLANS[5]  # nnunet in 3D


@pytest.mark.parametrize("plan", CONVERTED, ids=lambda plan: f"{plan.network.architecture}-{plan.dimensions}d")
def test_onnx_runtime_gives_the_networks_logits(plan: Plan) -> None:
    network, windows = random_network(plan), windows_of(plan, 3)
    logits = open_runner(network, plan, EngineChoice("onnxruntime"))(windows)
    torch.testing.assert_close(logits, reference_logits(network, windows), rtol=1e-3, atol=1e-3)


def test_exported_networks_take_the_plans_patch_in_any_batch() -> None:
    import onnx

    graph = onnx.load_from_string(to_onnx(random_network(PLAN), PLAN)).graph
    shapes = [
        [d.dim_value or d.dim_param for d in value.type.tensor_type.shape.dim]
        for value in (*graph.input, *graph.output)
    ]
    assert shapes == [["batch", 2, 10, 16, 6], ["batch", 3, 10, 16, 6]]


def test_windows_are_left_as_they_are_and_so_are_earlier_logits() -> None:
    windows = windows_of(PLAN)
    given = windows.contiguous(memory_format=torch.channels_last_3d)
    runner = open_runner(random_network(PLAN), PLAN, EngineChoice("onnxruntime"))
    first = runner(given)
    before = first.clone()
    runner(windows_of(PLAN, seed=2))
    assert torch.equal(given, windows)
    assert torch.equal(first, before)


def test_precisions_that_onnx_runtime_lacks_are_refused() -> None:
    with pytest.raises(ResourceError, match="expected one of float32, got bfloat16"):
        open_runner(nn.Identity(), PLAN, EngineChoice("onnxruntime", "bfloat16"))


def test_networks_that_onnx_cannot_express_are_refused() -> None:
    class Eigenvalues(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            values: Tensor = torch.linalg.eigvals(x.flatten(2)[..., :9].reshape(1, -1, 3, 3)).real
            return values

    with pytest.raises(ModelError, match="cannot be expressed in ONNX"):
        to_onnx(Eigenvalues(), PLAN)


@pytest.mark.parametrize("package", ["onnx", "onnxruntime"])
def test_where_a_package_is_missing_the_extra_is_named(package: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(ResourceError, match=rf"{package} is not installed.*delineate\[onnx\]"):
        open_runner(random_network(PLAN), PLAN, EngineChoice("onnxruntime"))
