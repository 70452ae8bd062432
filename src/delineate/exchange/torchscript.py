"""Networks as TorchScript: files that PyTorch runs, from Python or C++, without delineate."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from torch import Tensor, nn

from delineate.exchange.notes import check_logits, example_windows, stage_notes, window_notes, write_recipe
from delineate.model import Model


def write_torchscript(model: Model, folder: Path) -> tuple[str, ...]:
    """One file a fold, network.ts, network_1.ts, ..., with the plan and the labels in it and beside it.

    Further stages of the model get a folder each. Each file is read back, and its logits of a batch of other size
    compared with ours. What whoever runs it must know, in words. Raises `ExportError` if the logits differ.
    """
    for name, stage in model.stages.items():
        write_torchscript(stage, folder / name)
    extra = write_recipe(model, folder)
    for fold in range(len(model.folds)):
        network = model.network(fold)
        path = folder / ("network.ts" if fold == 0 else f"network_{fold}.ts")
        with _deprecated_but_there():
            traced = torch.jit.trace(network, example_windows(model.plan, 2), check_trace=False)  # type: ignore[no-untyped-call]
            torch.jit.save(traced, str(path), _extra_files=extra)
        check_torchscript(path, network, example_windows(model.plan, 1))
    return (*window_notes(model.plan), *stage_notes(model))


@torch.inference_mode()
def check_torchscript(path: Path, network: nn.Module, windows: Tensor) -> float:
    """The largest difference of logits between a file and the network, over the largest logit.

    Raises `ExportError` if it is more than float32 rounding.
    """
    expected = network(windows)
    # Unoptimised, because to optimise what runs once takes far longer than to run it.
    with _deprecated_but_there(), torch.jit.optimized_execution(False):  # type: ignore[attr-defined]
        loaded = torch.jit.load(str(path))  # type: ignore[no-untyped-call]
        return check_logits(loaded(windows), expected, path)


@contextmanager
def _deprecated_but_there() -> Iterator[None]:
    # PyTorch advises against TorchScript since 2.10, but what runs it in clinics is going to stay for years.
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=r".*torch\.jit.*", category=DeprecationWarning)
        yield
