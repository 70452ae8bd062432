"""OpenVINO, on the CPU: its convolutions are the fastest for networks in 3D, in float32 and even more so below it."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from delineate.engines.runner import EngineChoice, check_precision, missing_package, network_input, scripted
from delineate.errors import ModelError
from delineate.planning import Plan

_HINTS = {"float32": "f32", "bfloat16": "bf16"}
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
    model = convert(network, plan)
    settings = {
        "INFERENCE_PRECISION_HINT": _HINTS[choice.precision],
        "PERFORMANCE_HINT": "LATENCY",
        "INFERENCE_NUM_THREADS": choice.threads,
    }
    return OpenVinoRunner(
        choice, import_openvino().Core().compile_model(model, "CPU", settings).create_infer_request(), plan
    )


def convert(network: nn.Module, plan: Plan) -> Any:
    """The network as an `openvino.Model` for one window. Raises `ModelError` if it cannot be converted."""
    openvino = import_openvino()
    script, example = scripted(network, plan)
    try:
        model = openvino.convert_model(script, example_input=example)
        model.reshape(list(network_input(plan)))
    except (RuntimeError, openvino.frontend.OpConversionFailure) as error:
        raise ModelError(
            "OpenVINO cannot take this network",
            got=str(error).splitlines()[0],
            remedy="Choose the torch engine (--engine torch).",
        ) from error
    return model


def import_openvino() -> Any:
    """The package. Raises `ResourceError` if it is not installed.

    On import it would report its use to its maker over the network, unless somebody has told it not to. A program for
    patients' images calls nobody.
    """
    sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]  # as if it were not installed
    try:
        import openvino
    except ImportError as error:
        raise missing_package("openvino", "fast") from error
    return openvino
