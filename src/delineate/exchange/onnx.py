"""Networks as ONNX: files that ONNX Runtime, OpenVINO, TensorRT and others run."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor, nn

from delineate.engines.onnx_engine import import_onnxruntime
from delineate.engines.onnx_export import to_onnx
from delineate.exchange.notes import check_logits, example_windows, stage_notes, window_notes, write_recipe
from delineate.model import Model


def write_onnx(model: Model, folder: Path) -> tuple[str, ...]:
    """One file a fold, network.onnx, network_1.onnx, ..., with plan and labels as metadata in it and beside it.

    The batch may have any size. Further stages of the model get a folder each. Each file is run by ONNX Runtime and
    its logits are compared with ours. What whoever runs it must know, in words.

    Raises `ExportError` if the logits differ, `ResourceError` if ONNX is not installed.
    """
    for name, stage in model.stages.items():
        write_onnx(stage, folder / name)
    properties = {**write_recipe(model, folder), "digest": model.digest}
    for fold in range(len(model.folds)):
        network = model.network(fold)
        path = folder / ("network.onnx" if fold == 0 else f"network_{fold}.onnx")
        path.write_bytes(_with_properties(to_onnx(network, model.plan), properties))
        for batch in (1, 2):
            check_onnx(path, network, example_windows(model.plan, batch))
    return (*window_notes(model.plan), *stage_notes(model))


def _with_properties(data: bytes, properties: Mapping[str, str]) -> bytes:
    import onnx

    loaded = onnx.load_from_string(data)
    onnx.helper.set_model_props(loaded, dict(properties))
    made: bytes = loaded.SerializeToString()
    return made


@torch.inference_mode()
def check_onnx(path: Path, network: nn.Module, windows: Tensor) -> float:
    """The largest difference of logits between a file and the network, over the largest logit.

    Raises `ExportError` if it is more than float32 rounding.
    """
    session = import_onnxruntime().InferenceSession(str(path), providers=["CPUExecutionProvider"])
    found = torch.from_numpy(session.run(None, {session.get_inputs()[0].name: windows.numpy()})[0])
    return check_logits(found, network(windows), path)
