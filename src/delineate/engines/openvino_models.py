"""Networks as OpenVINO's models, and what is done to these before they are compiled."""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
from torch import Tensor, nn

from delineate.engines.runner import missing_package, network_input, scripted
from delineate.errors import ModelError
from delineate.planning import Plan


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


def import_nncf() -> Any:
    """The package that quantises, as silent as `import_openvino`. Raises `ResourceError` if it is not installed."""
    import_openvino()
    try:
        import nncf
    except ImportError as error:
        raise missing_package("nncf", "fast") from error
    nncf.set_log_level(logging.ERROR)
    return nncf


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


def quantised(model: Any, calibration: Sequence[Tensor]) -> Any:
    """The model with convolutions in int8: weights a scale a channel, activations a range seen on `calibration`.

    Instance normalisations, the first convolution (whose input may have outliers) and the head stay in floating point.
    `calibration`: windows (B, C, I, J, K).
    """
    nncf = import_nncf()
    convolutions = [node for node in model.get_ordered_ops() if node.get_type_name() == "Convolution"]
    kept = {node.get_friendly_name() for node in (*convolutions[:1], *_heads(model))}
    size = list(model.input(0).shape)
    windows = [window.reshape(size).numpy() for batch in calibration for window in batch]
    with _quiet():
        return nncf.quantize(
            model,
            nncf.Dataset(windows),
            subset_size=len(windows),
            preset=nncf.QuantizationPreset.MIXED,
            ignored_scope=nncf.IgnoredScope(names=sorted(kept), types=["MVN"], validate=False),
        )


def with_precise_head(model: Any) -> None:
    """Let the head of a model that is to run in bfloat16 give float32, in place.

    OpenVINO makes every convolution give bfloat16, the last one too, and rounding the logits so coarsely costs more
    masks than all that comes before. Operations behind the last convolution it leaves alone; a transposed
    convolution with a kernel of one voxel is one of these, computes the same, and takes as long.
    """
    from openvino import opset13

    for head in _heads(model):
        still = [1] * (len(head.output(0).shape) - 2)
        none = [0] * len(still)
        weights = np.ascontiguousarray(head.input_value(1).get_node().get_data().swapaxes(0, 1))
        transposed = opset13.convolution_backprop_data(
            head.input_value(0),
            opset13.constant(weights),
            strides=still,
            pads_begin=none,
            pads_end=none,
            dilations=still,
        )
        head.output(0).replace(transposed.output(0))
    model.validate_nodes_and_infer_types()


def _heads(model: Any) -> list[Any]:
    """The convolutions of one voxel whose output, with a bias or without, is an output of the model."""
    found = []
    for result in model.get_results():
        node = result.input_value(0).get_node()
        if node.get_type_name() == "Add" and node.input_value(1).get_node().get_type_name() == "Constant":
            node = node.input_value(0).get_node()
        if node.get_type_name() != "Convolution" or node.input_value(1).get_node().get_type_name() != "Constant":
            continue
        if set(node.input_value(1).shape[2:]) == {1}:
            found.append(node)
    return found


@contextmanager
def _quiet() -> Iterator[None]:
    """Without the progress bars that NNCF draws on the console."""
    import rich

    console = rich.get_console()
    before, console.quiet = console.quiet, True
    try:
        yield
    finally:
        console.quiet = before
