"""ONNX Runtime, on the CPU and on CUDA."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from delineate.engines.onnx_export import INPUT, OUTPUT, to_onnx
from delineate.engines.runner import EngineChoice, check_precision, missing_package, run_flat
from delineate.errors import ModelError
from delineate.planning import Plan

_PROVIDERS = {"cpu": "CPUExecutionProvider", "cuda": "CUDAExecutionProvider"}
_ERRORS_ONLY = 3


def onnx_precisions(device: str = "cpu") -> tuple[str, ...]:
    """What this ONNX Runtime computes in on a device; nothing where it lacks the provider for it.

    Raises `ResourceError` if it is not installed.
    """
    available = import_onnxruntime().get_available_providers()
    return ("float32",) if _PROVIDERS.get(torch.device(device).type) in available else ()


@dataclass(frozen=True, slots=True, eq=False)
class OnnxRunner:
    """A session; windows and logits stay on their device."""

    choice: EngineChoice
    session: Any
    plan: Plan

    def __call__(self, windows: Tensor) -> Tensor:
        return run_flat(self._run, windows, self.plan)

    def _run(self, images: Tensor) -> Tensor:
        given = images.contiguous()
        logits = torch.empty((len(given), self.plan.classes, *given.shape[2:]), device=given.device)
        binding = self.session.io_binding()
        for bind, name, tensor in ((binding.bind_input, INPUT, given), (binding.bind_output, OUTPUT, logits)):
            device = tensor.device
            bind(name, device.type, device.index or 0, np.float32, tuple(tensor.shape), tensor.data_ptr())
        self.session.run_with_iobinding(binding)
        return logits


def open_onnxruntime(
    network: nn.Module, plan: Plan, choice: EngineChoice, calibration: Sequence[Tensor] = ()
) -> OnnxRunner:
    """A runner by ONNX Runtime.

    Raises `ResourceError` if it is not installed or cannot use the device, and `ModelError` for a network that cannot
    be expressed in ONNX.
    """
    onnxruntime = import_onnxruntime()
    check_precision(choice, onnx_precisions(choice.device))
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = choice.threads
    options.log_severity_level = _ERRORS_ONLY
    device = torch.device(choice.device)
    provider = (_PROVIDERS[device.type], {"device_id": device.index or 0} if device.type == "cuda" else {})
    try:
        session = onnxruntime.InferenceSession(to_onnx(network, plan), options, providers=[provider])
    except onnxruntime.capi.onnxruntime_pybind11_state.Fail as error:
        raise ModelError("ONNX Runtime cannot take this network", got=str(error).splitlines()[0]) from error
    return OnnxRunner(choice, session, plan)


def import_onnxruntime() -> Any:
    """The package. Raises `ResourceError` if it is not installed."""
    try:
        import onnxruntime
    except ImportError as error:
        raise missing_package("onnxruntime", "onnx") from error
    if hasattr(onnxruntime, "disable_telemetry_events"):
        onnxruntime.disable_telemetry_events()
    return onnxruntime
