"""What could run a network on a device, without trying."""

from __future__ import annotations

from collections.abc import Callable

from delineate.engines.onnx_engine import onnx_precisions
from delineate.engines.openvino_engine import openvino_precisions
from delineate.engines.runner import EngineChoice
from delineate.engines.torch_engine import torch_precisions
from delineate.errors import ResourceError

PRECISIONS: dict[str, Callable[[str], tuple[str, ...]]] = {
    "torch": torch_precisions,
    "openvino": openvino_precisions,
    "onnxruntime": onnx_precisions,
}
"""What each engine computes in on a device; raises `ResourceError` where it is not installed."""


def candidates(device: str, threads: int) -> tuple[EngineChoice, ...]:
    """Everything there is on this machine."""
    return tuple(
        EngineChoice(engine, precision, device, threads)
        for engine in PRECISIONS
        for precision in _precisions(engine, device)
    )


def absent(device: str) -> dict[str, str]:
    """Why an engine is not among the candidates."""
    reasons = {}
    for engine, precisions in PRECISIONS.items():
        try:
            if not precisions(device):
                reasons[engine] = f"does not run on {device}"
        except ResourceError as error:
            reasons[engine] = str(error)
    return reasons


def _precisions(engine: str, device: str) -> tuple[str, ...]:
    try:
        return PRECISIONS[engine](device)
    except ResourceError:
        return ()
