"""OpenVINO, on the CPU: its convolutions are the fastest for networks in 3D, in float32 and even more so below it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from delineate.engines.openvino_models import convert, import_openvino, quantised, with_precise_head
from delineate.engines.runner import EngineChoice, check_precision, network_input
from delineate.errors import ResourceError
from delineate.planning import Plan

_CAPABILITIES = {"float32": "FP32", "bfloat16": "BF16", "int8": "INT8"}


def openvino_precisions(device: str = "cpu") -> tuple[str, ...]:
    """What OpenVINO computes in on this CPU without emulating it; nothing on other devices.

    Raises `ResourceError` if it is not installed.
    """
    if device != "cpu":
        return ()
    able = import_openvino().Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")
    return tuple(precision for precision, capability in _CAPABILITIES.items() if capability in able)


@dataclass(frozen=True, slots=True, eq=False)
class OpenVinoRunner:
    """A compiled network and its request, which takes one window at a time: more at once are no faster."""

    choice: EngineChoice
    request: Any
    plan: Plan

    def __call__(self, windows: Tensor) -> Tensor:
        from openvino import Tensor as Shared

        # Both ways without a copy: OpenVINO reads the windows where they are, and writes where the logits will be.
        given = windows.contiguous()
        logits = torch.empty((len(given), self.plan.classes, *given.shape[2:]))
        size = network_input(self.plan)[2:]
        for window, result in zip(given.flatten(2), logits.flatten(2), strict=True):
            self.request.set_input_tensor(Shared(window.view(1, -1, *size).numpy(), shared_memory=True))
            self.request.set_output_tensor(Shared(result.view(1, -1, *size).numpy(), shared_memory=True))
            self.request.infer()
        return logits


def open_openvino(
    network: nn.Module, plan: Plan, choice: EngineChoice, calibration: Sequence[Tensor] = ()
) -> OpenVinoRunner:
    """A runner by OpenVINO.

    Raises `ResourceError` if it is not installed or the CPU lacks the precision, and `ModelError` for a network that it
    cannot convert.
    """
    offered = openvino_precisions(choice.device)
    check_precision(choice, offered)
    if choice.precision == "int8" and not calibration:
        raise ResourceError("int8 needs windows of real scans to calibrate with", remedy="Choose another precision.")
    model = convert(network, plan)
    if choice.precision == "int8":
        model = quantised(model, calibration)
    # What int8 leaves over (normalisations, head) is in no hurry to be exact either.
    reduced = choice.precision != "float32" and "bfloat16" in offered
    if reduced:
        with_precise_head(model)
    settings = {
        "INFERENCE_PRECISION_HINT": "bf16" if reduced else "f32",
        "PERFORMANCE_HINT": "LATENCY",
        "INFERENCE_NUM_THREADS": choice.threads,
        "ENABLE_CPU_PINNING": False,  # two of these programs would share the same cores, and leave others idle
    }
    compiled = import_openvino().Core().compile_model(model, "CPU", settings)
    return OpenVinoRunner(choice, compiled.create_infer_request(), plan)
