"""What runs a network at inference: PyTorch, OpenVINO, ONNX Runtime.

An engine makes a `Runner` of a network: it takes windows and gives logits, and does nothing else. One more engine is
one more file and one more line in `ENGINES`.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from delineate.engines.onnx_engine import open_onnxruntime
from delineate.engines.openvino_engine import open_openvino
from delineate.engines.runner import EngineChoice, Opener, Runner
from delineate.engines.torch_engine import open_torch
from delineate.errors import ResourceError
from delineate.planning import Plan

ENGINES: dict[str, Opener] = {
    "torch": open_torch,
    "openvino": open_openvino,
    "onnxruntime": open_onnxruntime,
}

__all__ = ["ENGINES", "EngineChoice", "Opener", "Runner", "open_runner"]


def open_runner(network: nn.Module, plan: Plan, choice: EngineChoice, calibration: Sequence[Tensor] = ()) -> Runner:
    """The network, run as the choice says. `calibration`: windows (B, C, I, J, K) of real scans, for int8.

    Raises `ResourceError` for an engine, package, precision or device that is not there, and `ModelError` for a network
    that the engine cannot take.
    """
    if choice.engine not in ENGINES:
        raise ResourceError("there is no such engine", expected=f"one of {', '.join(ENGINES)}", got=choice.engine)
    return ENGINES[choice.engine](network, plan, choice, calibration)
