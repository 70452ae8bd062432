"""Models from other systems, and models for them: nnU-Net folders, ONNX, TorchScript, MONAI bundles.

One more format to export to is one more file and one more line in `MODEL_EXPORTERS`.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from delineate.exchange.monai_bundle import write_monai_bundle
from delineate.exchange.nnunet import read_nnunet, read_nnunet_parts, with_locator
from delineate.exchange.nnunet_writing import write_nnunet
from delineate.exchange.onnx import write_onnx
from delineate.exchange.torchscript import write_torchscript
from delineate.model import Model

ModelExporter = Callable[[Model, Path], tuple[str, ...]]
"""Writes a model into an empty folder; gives what whoever uses it must know, in sentences."""

MODEL_EXPORTERS: dict[str, ModelExporter] = {
    "nnunet": write_nnunet,
    "onnx": write_onnx,
    "torchscript": write_torchscript,
    "monai": write_monai_bundle,
}

__all__ = ["MODEL_EXPORTERS", "ModelExporter", "read_nnunet", "read_nnunet_parts", "with_locator"]
