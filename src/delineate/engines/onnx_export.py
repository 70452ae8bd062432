"""A network as ONNX: what ONNX Runtime runs, and what other systems are given."""

from __future__ import annotations

import io
import warnings

import torch
from torch import nn

from delineate.engines.runner import missing_package, network_input, small_input
from delineate.errors import ModelError
from delineate.planning import Plan

OPSET = 17
INPUT, OUTPUT = "image", "logits"


@torch.inference_mode()
def to_onnx(network: nn.Module, plan: Plan) -> bytes:
    """The network, on the CPU, as an ONNX model of opset 17.

    Its input "image" is (batch, C, I, J, K), its output "logits" (batch, classes, I, J, K), both without K in 2D; the
    batch is free, the rest is the plan's patch. Raises `ResourceError` if onnx is not installed, `ModelError` for a
    network that cannot be expressed.
    """
    try:
        import onnx
    except ImportError as error:
        raise missing_package("onnx", "onnx") from error
    stream = io.BytesIO()
    # Spatial axes are free only for tracing, which on a small image takes no time.
    axes = {0: "batch"} | {2 + axis: f"axis{axis}" for axis in range(plan.dimensions)}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about the exporter's age; the newer one needs yet another package
        try:
            torch.onnx.export(
                network.eval(),
                (torch.zeros(small_input(plan)),),
                stream,  # type: ignore[arg-type]  # a stream is taken as well
                dynamo=False,
                input_names=[INPUT],
                output_names=[OUTPUT],
                dynamic_axes={INPUT: axes, OUTPUT: axes},
                opset_version=OPSET,
            )
        except (RuntimeError, torch.onnx.errors.OnnxExporterError) as error:
            raise ModelError("the network cannot be expressed in ONNX", got=str(error).splitlines()[0]) from error
    model = onnx.load_from_string(stream.getvalue())
    for value in (*model.graph.input, *model.graph.output):
        for dimension, size in zip(value.type.tensor_type.shape.dim[2:], network_input(plan)[2:], strict=True):
            dimension.dim_value = size
    data: bytes = model.SerializeToString()
    return data
